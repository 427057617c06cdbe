//! `/v1/learning`: what became of feedback. What users say is in [`super::feedback`].

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use habit_engine::Message;
use habit_learning::curator::Lineage;
use habit_learning::examples::Example;
use habit_learning::examples::curate::LeftOut;
use habit_learning::examples::export::{self, Format};
use habit_learning::feedback::Use;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, ErrorBody};
use super::feedback::{FeedbackView, curator, unknown};
use crate::app::App;
use crate::auth::Caller;

pub mod runs;

/// Examples on a page, unless the request says otherwise, and at most.
const PAGE: (usize, usize) = (100, 1000);

/// A question with the answer that it should have had. Secrets are taken out of both.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExampleView {
    /// Its id, which is the turn's.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// Always `learning.example`.
    #[schema(example = "learning.example")]
    pub object: &'static str,
    /// The prompt as asked, in OpenAI's shape.
    #[schema(value_type = Vec<Object>)]
    pub messages: Vec<Message>,
    /// The answer that it should have had.
    pub answer: String,
    /// When it was asked, in Unix milliseconds.
    pub asked_at: i64,
    /// How much it counts, above 0 and at most 1.
    pub weight: f32,
    /// The feedback that made it.
    #[schema(value_type = Vec<String>)]
    pub from: Vec<Uuid>,
}

impl From<Example> for ExampleView {
    fn from(example: Example) -> Self {
        Self {
            id: example.id,
            object: "learning.example",
            messages: example.messages,
            answer: example.answer,
            asked_at: example.at,
            weight: example.weight,
            from: example.from,
        }
    }
}

/// What came of nothing.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeftOutView {
    /// The turn.
    #[schema(value_type = String)]
    pub turn: Uuid,
    /// The feedback on it.
    #[schema(value_type = Vec<String>)]
    pub from: Vec<Uuid>,
    /// Why.
    pub why: String,
}

impl From<LeftOut> for LeftOutView {
    fn from(left: LeftOut) -> Self {
        let LeftOut { turn, from, why } = left;
        Self { turn, from, why }
    }
}

/// What is learnt from.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExampleList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// Examples, newest first.
    pub data: Vec<ExampleView>,
    /// Whether there are more: `after` goes on from the last one.
    pub has_more: bool,
    /// Examples in all.
    pub total: usize,
    /// Answers that are known to be better than what was answered.
    pub pairs: usize,
    /// Answers that were judged.
    pub judged: usize,
    /// Secrets that were taken out of all of them.
    pub scrubbed: usize,
    /// Feedback that made nothing, with the reason; on the first page only.
    pub left_out: Vec<LeftOutView>,
}

/// Which examples are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExampleQuery {
    /// At most so many, 1 to 1000; 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// Only what comes after the example with this id.
    #[param(value_type = Option<String>)]
    pub after: Option<Uuid>,
}

/// In which format.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// `chat` (OpenAI's and TRL's supervised fine-tuning; the default), `preference` (OpenAI's preference tuning), `dpo` and
    /// `kto` (TRL's), or `sharegpt`.
    pub format: Option<String>,
}

/// What became of a feedback.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineageView {
    /// Always `learning.lineage`.
    #[schema(example = "learning.lineage")]
    pub object: &'static str,
    /// The feedback.
    pub feedback: FeedbackView,
    /// The example that it made, or is a part of; null if none.
    pub example: Option<ExampleView>,
    /// Why it made none.
    pub left_out: Option<String>,
    /// Whether it says that the answer was good or bad, for exports of that kind.
    pub judged: bool,
    /// The runs that used it, oldest first.
    pub runs: Vec<UseView>,
    /// The same in a sentence.
    pub summary: String,
}

/// That a run used a feedback.
#[derive(Debug, Serialize, ToSchema)]
pub struct UseView {
    /// The run (`GET /v1/learning/runs/{id}`).
    pub run: String,
    /// The example that it made there.
    #[schema(value_type = String)]
    pub example: Uuid,
    /// When, in Unix milliseconds.
    pub at: i64,
}

impl From<Use> for UseView {
    fn from(used: Use) -> Self {
        Self {
            run: used.run,
            example: used.example,
            at: used.at,
        }
    }
}

impl From<Lineage> for LineageView {
    fn from(lineage: Lineage) -> Self {
        let made = match (&lineage.example, &lineage.left_out) {
            (Some(example), _) => format!("It made the example {}", example.id),
            (None, Some(why)) => format!("It made no example: {why}"),
            (None, None) if lineage.judged => "It says whether the answer was good, and made no example".to_owned(),
            (None, None) => "It made no example".to_owned(),
        };
        let used = match lineage.runs.as_slice() {
            [] => "no run has used it yet".to_owned(),
            [one] => format!("the run {} used it", one.run),
            [.., last] => format!("{} runs used it, last {}", lineage.runs.len(), last.run),
        };
        Self {
            object: "learning.lineage",
            feedback: lineage.feedback.into(),
            example: lineage.example.map(ExampleView::from),
            left_out: lineage.left_out,
            judged: lineage.judged,
            runs: lineage.runs.into_iter().map(UseView::from).collect(),
            summary: format!("{made}; {used}."),
        }
    }
}

/// What a feedback did: the example that it made, or why it made none, and the runs that used it.
#[utoipa::path(
    get, path = "/v1/learning/lineage/{feedback}", tag = "learning", operation_id = "lineage",
    params(("feedback" = String, Path, description = "The feedback's id.")),
    responses((status = 200, body = LineageView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn lineage(
    State(app): State<App>,
    caller: Caller,
    Path(feedback): Path<Uuid>,
) -> Result<Json<LineageView>, ApiError> {
    let found = curator(&app)?.lineage(&caller.scope, feedback).await?;
    Ok(Json(found.ok_or_else(|| unknown(feedback))?.into()))
}

/// What is learnt from the user's feedback, newest first, and what came of nothing. Only the user's own is shown.
#[utoipa::path(
    get, path = "/v1/learning/examples", tag = "learning", operation_id = "listExamples", params(ExampleQuery),
    responses((status = 200, body = ExampleList), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn examples(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ExampleQuery>,
) -> Result<Json<ExampleList>, ApiError> {
    let limit = query.limit.unwrap_or(PAGE.0);
    if !(1..=PAGE.1).contains(&limit) {
        let message = format!("`limit` must be 1 to {}", PAGE.1);
        return Err(ApiError::invalid(message, Some("limit")));
    }
    let curated = curator(&app)?.of_user(&caller.scope).await?;
    let (total, pairs, judged) = (curated.examples.len(), curated.pairs.len(), curated.judged.len());
    let mut newest: Vec<Example> = curated.examples.into_iter().rev().collect();
    let mut left_out = curated.left_out;
    if let Some(after) = query.after {
        let Some(place) = newest.iter().position(|one| one.id == after) else {
            let message = format!("there is no example {after} to go on from; begin without it");
            return Err(ApiError::invalid(message, Some("after")));
        };
        newest.drain(..=place);
        left_out.clear();
    }
    Ok(Json(ExampleList {
        object: "list",
        has_more: newest.len() > limit,
        data: newest.into_iter().take(limit).map(ExampleView::from).collect(),
        total,
        pairs,
        judged,
        scrubbed: curated.scrubbed,
        left_out: left_out.into_iter().map(LeftOutView::from).collect(),
    }))
}

/// What is learnt from the user's feedback, for other trainers: a JSON object a line. Secrets are taken out.
#[utoipa::path(
    get, path = "/v1/learning/export", tag = "learning", operation_id = "exportExamples", params(ExportQuery),
    responses((status = 200, description = "JSON lines", body = String, content_type = "application/x-ndjson"),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn export(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let name = query.format.as_deref().unwrap_or("chat");
    let format = Format::named(name).ok_or_else(|| {
        let known = Format::ALL.map(|(name, _)| name).join(", ");
        ApiError::invalid(format!("`format` must be one of {known}"), Some("format"))
    })?;
    let curated = curator(&app)?.of_user(&caller.scope).await?;
    let mut lines = String::new();
    for line in export::export(&curated, format) {
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    let named = format!("attachment; filename=\"habit-{name}.jsonl\"");
    let headers = [
        (CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (CONTENT_DISPOSITION, named),
    ];
    Ok((headers, lines).into_response())
}
