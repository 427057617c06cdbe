//! `/v1/turns`: what was asked, what memory put before the model, and what came back. `X-Habit-Turn` names the turn.

use axum::Json;
use axum::extract::{Path, Query, State};
use habit_engine::{FinishReason, Message};
use habit_memory::Scope;
use habit_memory::context::SourceReport;
use habit_memory::interaction::{Interaction, Lookup, Outcome};
use habit_memory::journal::Page;
use habit_memory::passage::{Passage, SourceKind};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::api::error::{ApiError, ErrorBody};
use crate::app::{App, MemoryParts};
use crate::auth::Caller;

/// Turns on a page, unless the request says otherwise.
const PAGE: u64 = 20;

/// Turns on a page, at most.
const MAX_PAGE: u64 = 1000;

/// A recorded turn.
#[derive(Debug, Serialize, ToSchema)]
pub struct TurnView {
    /// The turn's id, as in the reply's `X-Habit-Turn`.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// Always `turn`.
    #[schema(example = "turn")]
    pub object: &'static str,
    /// The conversation that it belongs to.
    pub conversation: Option<String>,
    /// The turn that it continues.
    #[schema(value_type = Option<String>)]
    pub parent: Option<Uuid>,
    /// When it was asked, in Unix milliseconds.
    pub asked_at: i64,
    /// The model that answered.
    pub model: String,
    /// The messages that the parent does not hold, in OpenAI's shape.
    #[schema(value_type = Vec<Object>)]
    pub messages: Vec<Message>,
    /// What was asked.
    pub prompt: String,
    /// The reply, or as much of it as was sent.
    pub reply: String,
    /// `completed`, `interrupted` (the client left or the server stopped) or `failed`.
    #[schema(value_type = String, example = "completed")]
    pub outcome: Outcome,
    /// Why the reply ended.
    #[schema(value_type = Option<String>, example = "stop")]
    pub finish_reason: Option<FinishReason>,
    /// What went wrong, if it failed.
    pub error: Option<String>,
    /// Whether later turns may recall it.
    pub remember: bool,
    /// Tokens.
    pub usage: TurnUsage,
    /// What memory put before the model, in the order in which it was shown.
    pub injected: Vec<PassageView>,
    /// How memory was asked, and what left the prompt.
    pub lookup: LookupView,
    /// How long it took.
    pub timing: TurnTiming,
}

/// How memory fared in a turn.
#[derive(Debug, Serialize, ToSchema)]
pub struct LookupView {
    /// The sources that were asked.
    pub sources: Vec<SourceView>,
    /// Why the search went by words alone, if it did.
    pub words_alone: Option<String>,
    /// What left the prompt because the conversation outgrew the model's window; what came back of it is `returned` in
    /// `injected`.
    pub left: Option<LeftView>,
    /// Which model answered, where the team has one of its own.
    pub variant: Option<VariantView>,
    /// How many past answers it could be shown, where that was left to chance.
    pub shots: Option<ShotsView>,
}

/// How many past answers a turn could be shown, where that was left to chance.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShotsView {
    /// So many, at most.
    pub count: usize,
    /// The probability with which it was these many.
    pub propensity: f64,
}

/// How a turn was answered where there was a choice.
#[derive(Debug, Serialize, ToSchema)]
pub struct VariantView {
    /// `base`, `few_shot` or `adapter`.
    #[schema(example = "adapter")]
    pub arm: String,
    /// The team's model that answered; null is the base.
    #[schema(value_type = Option<String>)]
    pub model: Option<Uuid>,
    /// The probability with which it was chosen.
    pub propensity: f64,
    /// Why it is not what was chosen, if so.
    pub note: Option<String>,
}

/// How a source fared.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourceView {
    /// The context system.
    #[schema(value_type = String, example = "recalled")]
    pub source: SourceKind,
    /// Passages that it proposed.
    pub found: usize,
    /// Milliseconds that it took, with the wait for the vector of what is asked.
    pub took_ms: f64,
    /// Why it contributed nothing, if it was late or failed.
    pub problem: Option<String>,
}

/// What left a prompt.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeftView {
    /// Turns; of the present one, a call with its results counts as one.
    pub turns: usize,
    /// Messages.
    pub messages: usize,
    /// Where they stood among the request's messages, counted from 0: from, and up to but without.
    pub places: Vec<[usize; 2]>,
}

/// Tokens of a turn.
#[derive(Debug, Serialize, ToSchema)]
pub struct TurnUsage {
    /// Tokens of the prompt, with what memory added.
    pub prompt_tokens: usize,
    /// Tokens of the reply.
    pub completion_tokens: usize,
    /// Tokens of the prompt that memory added.
    pub memory_tokens: usize,
}

/// Milliseconds from the request's arrival.
#[derive(Debug, Serialize, ToSchema)]
pub struct TurnTiming {
    /// Until the first token.
    pub first_token_ms: Option<u64>,
    /// Until the end.
    pub total_ms: u64,
    /// In memory's layers, before the engine was asked.
    pub context_ms: u64,
}

/// A passage that memory found.
#[derive(Debug, Serialize, ToSchema)]
pub struct PassageView {
    /// The context system: `recalled` (earlier turns), `fact` (what is known of the user), `persistent` (documents),
    /// `inference` (documents of this conversation) or `stored` (files of vector stores that the request named).
    #[schema(value_type = String, example = "recalled")]
    pub source: SourceKind,
    /// How well it fits, 0 to 1; comparable within one source.
    pub score: f32,
    /// Its size in the model's tokens.
    pub tokens: usize,
    /// Where it comes from.
    pub citation: CitationView,
    /// The passage, verbatim.
    pub text: String,
    /// Whether it is a turn that left this very prompt for want of room.
    pub returned: bool,
}

/// Where a passage comes from.
#[derive(Debug, Serialize, ToSchema)]
pub struct CitationView {
    /// The turn's or the document's id.
    pub id: String,
    /// A label for people: a date, or a file's name with page or heading.
    pub label: String,
    /// When it was said or ingested, in Unix milliseconds.
    pub at: i64,
    /// The passage's place in its document, counted from 0.
    pub ordinal: u32,
}

/// A page of turns.
#[derive(Debug, Serialize, ToSchema)]
pub struct TurnList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// The turns, newest first.
    pub data: Vec<TurnView>,
    /// Whether there are older ones: ask again with `before` set to the last id.
    pub has_more: bool,
}

/// That something was deleted, in OpenAI's shape.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deleted {
    /// What was deleted.
    pub id: String,
    /// What kind of thing that was.
    #[schema(example = "turn.deleted")]
    pub object: &'static str,
    /// Always true.
    pub deleted: bool,
}

/// Which turns to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TurnQuery {
    /// At most so many, 1 to 1000; 20 if it is not given.
    pub limit: Option<u64>,
    /// Only turns older than this one.
    #[param(value_type = Option<String>)]
    pub before: Option<Uuid>,
    /// Only turns of this conversation.
    pub conversation: Option<String>,
}

impl From<Passage> for PassageView {
    fn from(passage: Passage) -> Self {
        let Passage {
            text,
            source,
            score,
            tokens,
            citation,
            returned,
        } = passage;
        let citation = CitationView {
            id: citation.id,
            label: citation.label,
            at: citation.at,
            ordinal: citation.ordinal,
        };
        Self {
            source,
            score,
            tokens,
            citation,
            text,
            returned,
        }
    }
}

impl From<Lookup> for LookupView {
    fn from(lookup: Lookup) -> Self {
        let source = |report: SourceReport| SourceView {
            source: report.source,
            found: report.found,
            took_ms: report.took_ms,
            problem: report.problem,
        };
        Self {
            variant: lookup.variant.map(|variant| VariantView {
                arm: variant.arm,
                model: variant.model,
                propensity: variant.propensity,
                note: variant.note,
            }),
            shots: lookup.shots.map(|shots| ShotsView {
                count: shots.count,
                propensity: shots.propensity,
            }),
            sources: lookup.sources.into_iter().map(source).collect(),
            words_alone: lookup.words_alone,
            left: lookup.left.map(|left| LeftView {
                turns: left.turns,
                messages: left.messages,
                places: left.places.into_iter().map(<[usize; 2]>::from).collect(),
            }),
        }
    }
}

impl From<Interaction> for TurnView {
    fn from(turn: Interaction) -> Self {
        let memory_tokens = turn.injected.iter().map(|passage| passage.tokens).sum();
        Self {
            id: turn.id,
            object: "turn",
            conversation: turn.scope.conversation().map(ToOwned::to_owned),
            parent: turn.parent,
            asked_at: turn.asked_at,
            model: turn.model,
            messages: turn.messages,
            prompt: turn.prompt,
            reply: turn.reply,
            outcome: turn.outcome,
            finish_reason: turn.finish_reason,
            error: turn.error,
            remember: turn.remember,
            usage: TurnUsage {
                prompt_tokens: turn.usage.prompt_tokens,
                completion_tokens: turn.usage.completion_tokens,
                memory_tokens,
            },
            injected: turn.injected.into_iter().map(PassageView::from).collect(),
            lookup: turn.lookup.into(),
            timing: TurnTiming {
                first_token_ms: turn.timing.first_token_ms,
                total_ms: turn.timing.total_ms,
                context_ms: turn.timing.context_ms,
            },
        }
    }
}

/// The caller's turns, newest first.
#[utoipa::path(
    get, path = "/v1/turns", tag = "turns", operation_id = "listTurns", params(TurnQuery),
    responses((status = 200, body = TurnList), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<TurnQuery>,
) -> Result<Json<TurnList>, ApiError> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::invalid(
            format!("`limit` must be 1 to {MAX_PAGE}"),
            Some("limit"),
        ));
    }
    let scope = match query.conversation {
        Some(conversation) => caller.scope.in_conversation(conversation),
        None => caller.scope,
    };
    // One more than asked for tells whether there are more; the journal gives at most `MAX_PAGE`.
    let page = Page {
        limit: (limit + 1).min(MAX_PAGE),
        before: query.before,
    };
    let mut turns = app.memory()?.journal.turns(&scope, page).await?;
    let has_more = turns.len() as u64 > limit || (limit == MAX_PAGE && turns.len() as u64 == MAX_PAGE);
    turns.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Json(TurnList {
        object: "list",
        data: turns.into_iter().map(TurnView::from).collect(),
        has_more,
    }))
}

/// One of the caller's turns: what was asked, what memory added, what came back.
#[utoipa::path(
    get, path = "/v1/turns/{id}", tag = "turns", operation_id = "getTurn",
    params(("id" = String, Path, description = "The turn's id, as in `X-Habit-Turn`.")),
    responses((status = 200, body = TurnView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<TurnView>, ApiError> {
    let turn = app.memory()?.journal.turn(&caller.scope, id).await?;
    turn.map(|turn| Json(turn.into())).ok_or_else(|| unknown(id))
}

/// Deletes one of the caller's turns: it is gone from the record and never recalled again.
#[utoipa::path(
    delete, path = "/v1/turns/{id}", tag = "turns", operation_id = "deleteTurn",
    params(("id" = String, Path, description = "The turn's id.")),
    responses((status = 200, body = Deleted), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<Deleted>, ApiError> {
    if !remove(app.memory()?, &caller.scope, id).await? {
        return Err(unknown(id));
    }
    Ok(Json(Deleted {
        id: id.to_string(),
        object: "turn.deleted",
        deleted: true,
    }))
}

/// Deletes a turn with what memory learnt from it, the journal first: what it no longer has is never shown. False if there
/// is none.
///
/// # Errors
/// 503 if it can't be deleted.
pub async fn remove(memory: &MemoryParts, scope: &Scope, id: Uuid) -> Result<bool, ApiError> {
    Ok(memory.memories.delete_turn(scope, id).await?)
}

fn unknown(id: Uuid) -> ApiError {
    ApiError::not_found(format!("there is no turn {id} of yours; GET /v1/turns lists them"))
}
