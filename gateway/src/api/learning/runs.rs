//! `/v1/learning/runs`, `/rollback` and `/status`: runs as a team's users see them. What is shown of examples is the
//! caller's own; the rest of a report is the team's.

use std::collections::HashSet;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use habit_learning::few_shot::Copied;
use habit_learning::rollout::{Entry, RolloutError, State as Models, Status, TeamModel};
use habit_learning::run::{Report, RunError};
use habit_memory::Scope;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::api::error::{self, ApiError, ErrorBody};
use crate::api::feedback::curator;
use crate::app::App;
use crate::auth::Caller;
use crate::learner::{Known, LearnError, Learner, Progress, Wish};

/// Runs that a listing shows, the newest.
const SHOWN: usize = 100;

/// A learning run.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// Always `learning.run`.
    #[schema(example = "learning.run")]
    pub object: &'static str,
    /// `running`, `passed`, `rejected`, `untrained` (too little to judge by), `failed`, or `broken_off` (it goes on when the
    /// server starts again).
    #[schema(example = "passed")]
    pub status: &'static str,
    /// How far it is, while it runs.
    pub progress: Option<ProgressView>,
    /// Why it failed.
    pub problem: Option<String>,
    /// Why it was rejected, or nothing was trained; empty if it passed.
    pub reasons: Vec<String>,
    /// When it began, in Unix milliseconds, once it has ended.
    pub began_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Seconds that it worked.
    pub seconds: Option<f64>,
    /// Where its model is: `candidate`, `canary`, `promoted`, `replaced`, `rolled_back`, `rejected` or `withdrawn`; null if
    /// it made none.
    #[schema(value_type = Option<String>)]
    pub model: Option<Value>,
    /// Examples that it used and that were forgotten since: the next run is made from base, without them.
    pub forgotten: usize,
    /// The whole report, where one run is asked for; of examples only the caller's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub report: Option<Report>,
}

/// How far a run is.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProgressView {
    /// What it does: `waiting`, `base`, `training`, `merging`, `scoring` or `judging`.
    #[schema(value_type = String, example = "training")]
    pub phase: Value,
    /// The same for people.
    pub label: &'static str,
    /// The setting that is tried, from 1.
    pub setting: usize,
    /// Settings in all.
    pub settings: usize,
    /// Steps of this phase that are done.
    pub done: usize,
    /// Steps of this phase, about.
    pub steps: usize,
    /// Such as the loss.
    pub note: String,
}

impl From<Progress> for ProgressView {
    fn from(progress: Progress) -> Self {
        let phase = progress.phase.and_then(|phase| serde_json::to_value(phase).ok());
        Self {
            phase: phase.unwrap_or_else(|| "waiting".into()),
            label: progress
                .phase
                .map_or("waiting for another run", habit_learning::run::Phase::label),
            setting: progress.setting.0,
            settings: progress.setting.1,
            done: progress.done,
            steps: progress.steps,
            note: progress.note,
        }
    }
}

/// Runs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// What there is.
    pub data: Vec<RunView>,
    /// Whether there are more.
    pub has_more: bool,
}

/// How a run is to be. `{}` is the measured recipe, or what was best the last time.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StartRun {}

/// In which form a report is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReportQuery {
    /// `json` (the default), `markdown`, or one of the plots: `right.svg`, `likelihood.svg`.
    pub format: Option<String>,
}

/// Which model is to answer all requests.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Promote {
    /// The run that made it; the model on trial, if it is not named.
    #[schema(value_type = Option<String>)]
    pub run: Option<Uuid>,
    /// For the history.
    pub why: Option<String>,
}

/// Why something is taken back.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rollback {
    /// For the history.
    pub why: Option<String>,
}

/// A change of which model serves the team.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeView {
    /// Always `learning.change`.
    #[schema(example = "learning.change")]
    pub object: &'static str,
    /// What changed, why, and how to undo it.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub entry: Value,
}

/// How learning stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatusView {
    /// Always `learning.status`.
    #[schema(example = "learning.status")]
    pub object: &'static str,
    /// Feedback of the user that became an example.
    pub own_examples: usize,
    /// Examples that the team's next run would learn from.
    pub team_examples: usize,
    /// Feedback of the user or the team that became none.
    pub left_out: usize,
    /// Different users that must say the same before the team's model learns it.
    pub users_needed: usize,
    /// Of the user's examples with an earlier one, how many the nearest earlier one's answer gets right, without any model:
    /// what a model has to beat.
    #[schema(value_type = Object)]
    pub nearest_label: Copied,
    /// The run that is under way.
    pub running: Option<RunView>,
    /// The team's model that answers; null is the base.
    #[schema(value_type = Option<Object>)]
    pub serving: Option<Value>,
    /// The team's model on trial.
    #[schema(value_type = Option<Object>)]
    pub canary: Option<Value>,
    /// Runs that were made with what was forgotten since.
    pub to_be_made_anew: Vec<String>,
    /// What changed, newest first.
    #[schema(value_type = Vec<Object>)]
    pub history: Vec<Value>,
}

impl From<LearnError> for ApiError {
    fn from(error: LearnError) -> Self {
        let message = error.to_string();
        match error {
            LearnError::Busy(_) | LearnError::Elsewhere => Self::new(StatusCode::CONFLICT, "run_under_way", message),
            LearnError::Unknown(_) | LearnError::Rollout(RolloutError::Unknown(_)) => Self::not_found(message),
            LearnError::Nothing(_)
            | LearnError::Run(RunError::Plan(_) | RunError::Train(_))
            | LearnError::Rollout(RolloutError::Impossible(_)) => Self::invalid(message, None),
            LearnError::Memory(error) => error.into(),
            LearnError::Run(_) | LearnError::Rollout(RolloutError::Storage(_)) => Self::unavailable(message),
        }
    }
}

/// Lets a model answer all of the team's requests: the one on trial, or that of a run that passed.
#[utoipa::path(
    post, path = "/v1/learning/promote", tag = "learning", operation_id = "promote", request_body = Promote,
    responses((status = 200, body = ChangeView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn promote(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<Promote>,
) -> Result<Json<ChangeView>, ApiError> {
    let learner = may_change(&app, &caller).await?;
    let (team, who) = (caller.scope.team(), caller.scope.user());
    let trial = learner
        .rollouts()
        .state(team)
        .canary
        .as_ref()
        .map(|canary| canary.model);
    let none = || {
        ApiError::invalid(
            "no model is on trial; name the `run` whose model is to serve",
            Some("run"),
        )
    };
    let model = body.run.or(trial).ok_or_else(none)?;
    let why = body.why.unwrap_or_else(|| format!("{who} asked for it"));
    let done = learner.rollouts().promote(team, model, &why).await;
    let entry = done.map_err(LearnError::from)?;
    Ok(Json(ChangeView {
        object: "learning.change",
        entry: entry_view(&entry),
    }))
}

/// Starts a run of the team: it trains on what the team's users said, and its model serves if it is shown to be better.
/// It takes minutes; `GET /v1/learning/runs/{id}` tells how far it is.
#[utoipa::path(
    post, path = "/v1/learning/runs", tag = "learning", operation_id = "startRun", request_body = StartRun,
    responses((status = 200, body = RunView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 409, body = ErrorBody)),
)]
pub async fn start(
    State(app): State<App>,
    caller: Caller,
    error::Json(StartRun {}): error::Json<StartRun>,
) -> Result<Json<RunView>, ApiError> {
    let learner = may_change(&app, &caller).await?;
    let team = caller.scope.team();
    let id = learner.start(team, Wish::default()).await?;
    let known = learner.run(team, id).await?;
    Ok(Json(view(&learner.rollouts().state(team), known)))
}

/// The team's runs, newest first.
#[utoipa::path(
    get, path = "/v1/learning/runs", tag = "learning", operation_id = "listRuns",
    responses((status = 200, body = RunList), (status = 401, body = ErrorBody)),
)]
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<RunList>, ApiError> {
    let learner = learner(&app)?;
    let team = caller.scope.team();
    let state = learner.rollouts().state(team);
    let runs = learner.runs(team).await?;
    Ok(Json(RunList {
        object: "list",
        has_more: runs.len() > SHOWN,
        data: runs.into_iter().take(SHOWN).map(|known| view(&state, known)).collect(),
    }))
}

/// One run with its report: what changed, on which examples, by how much, how sure, and how to undo it.
#[utoipa::path(
    get, path = "/v1/learning/runs/{id}", tag = "learning", operation_id = "getRun",
    params(("id" = String, Path, description = "The run's id."), ReportQuery),
    responses((status = 200, body = RunView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<ReportQuery>,
) -> Result<Response, ApiError> {
    let learner = learner(&app)?;
    let team = caller.scope.team();
    let known = learner.run(team, id).await?;
    let report = match &known.report {
        Some(report) => Some(own(&app, &caller.scope, report.clone()).await?),
        None => None,
    };
    let plot = |name: &str| {
        let folder = learner.folder(team, id);
        std::fs::read(folder.join(name)).map_err(|_| not_yet(id))
    };
    match query.format.as_deref().unwrap_or("json") {
        "json" => {
            let view = RunView {
                report,
                ..view(&learner.rollouts().state(team), known)
            };
            Ok(Json(view).into_response())
        }
        "markdown" => {
            let text = report.ok_or_else(|| not_yet(id))?.markdown();
            Ok(([(CONTENT_TYPE, "text/markdown; charset=utf-8")], text).into_response())
        }
        name @ ("right.svg" | "likelihood.svg") => Ok(([(CONTENT_TYPE, "image/svg+xml")], plot(name)?).into_response()),
        _ => {
            let message = "`format` must be one of json, markdown, right.svg, likelihood.svg";
            Err(ApiError::invalid(message, Some("format")))
        }
    }
}

/// Stops a run for good. Nothing that is served changes.
#[utoipa::path(
    post, path = "/v1/learning/runs/{id}/cancel", tag = "learning", operation_id = "cancelRun",
    params(("id" = String, Path, description = "The run's id.")),
    responses((status = 200, body = RunView), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn cancel(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<RunView>, ApiError> {
    let learner = may_change(&app, &caller).await?;
    let team = caller.scope.team();
    learner.cancel(team, id).await?;
    let gone = Known {
        id,
        progress: None,
        report: None,
        problem: None,
        forgotten: 0,
    };
    Ok(Json(RunView {
        status: "cancelled",
        ..view(&learner.rollouts().state(team), gone)
    }))
}

/// Takes the last step back: a model on trial stops, or what served before the promoted model serves again.
#[utoipa::path(
    post, path = "/v1/learning/rollback", tag = "learning", operation_id = "rollback", request_body = Rollback,
    responses((status = 200, body = ChangeView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody)),
)]
pub async fn rollback(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<Rollback>,
) -> Result<Json<ChangeView>, ApiError> {
    let learner = may_change(&app, &caller).await?;
    let who = caller.scope.user();
    let why = body.why.unwrap_or_else(|| format!("{who} asked for it"));
    let done = learner.rollouts().rollback(caller.scope.team(), &why).await;
    let entry = done.map_err(LearnError::from)?;
    Ok(Json(ChangeView {
        object: "learning.change",
        entry: entry_view(&entry),
    }))
}

/// How learning stands: what there is to learn from, what runs, which model serves, and what changed.
#[utoipa::path(
    get, path = "/v1/learning/status", tag = "learning", operation_id = "learningStatus",
    responses((status = 200, body = StatusView), (status = 401, body = ErrorBody)),
)]
pub async fn status(State(app): State<App>, caller: Caller) -> Result<Json<StatusView>, ApiError> {
    let learner = learner(&app)?;
    let team = caller.scope.team();
    let own = curator(&app)?.of_user(&caller.scope).await?;
    let material = learner.material(team).await?;
    let bank = app.memory()?.banks.of(&caller.scope).await;
    let bank = bank.map_err(|error| ApiError::unavailable(error.to_string()))?;
    let state = learner.rollouts().state(team);
    let runs = learner.runs(team).await?;
    let tainted = runs.iter().filter(|run| run.forgotten > 0);
    let mut history: Vec<Value> = state.history.iter().map(entry_view).collect();
    history.reverse();
    let shown = |model: &TeamModel| serde_json::to_value(model).unwrap_or_default();
    Ok(Json(StatusView {
        object: "learning.status",
        own_examples: own.examples.len(),
        team_examples: material.examples.len(),
        left_out: own.left_out.len(),
        users_needed: learner.agreeing(team).await?,
        nearest_label: bank.copied(),
        to_be_made_anew: tainted.map(|run| run.id.to_string()).collect(),
        serving: state.promoted().map(shown),
        canary: state
            .canary
            .as_ref()
            .and_then(|canary| state.model(canary.model))
            .map(shown),
        running: runs
            .into_iter()
            .find(|run| run.progress.is_some())
            .map(|run| view(&state, run)),
        history,
    }))
}

fn entry_view(entry: &Entry) -> Value {
    serde_json::to_value(entry).unwrap_or_default()
}

fn view(state: &Models, known: Known) -> RunView {
    let status = match (&known.progress, &known.report, &known.problem) {
        (Some(_), ..) => "running",
        (None, Some(report), _) if report.verdict.promote => "passed",
        (None, Some(report), _) if report.best.is_none() => "untrained",
        (None, Some(_), _) => "rejected",
        (None, None, Some(_)) => "failed",
        (None, None, None) => "broken_off",
    };
    let model = state.model(known.id).filter(|model| model.status != Status::Untrained);
    let report = known.report;
    RunView {
        id: known.id,
        object: "learning.run",
        status,
        progress: known.progress.map(ProgressView::from),
        problem: known.problem,
        began_at: report.as_ref().map(|report| report.began),
        ended_at: report.as_ref().map(|report| report.ended),
        seconds: report.as_ref().map(|report| report.seconds),
        reasons: report.map(|report| report.verdict.reasons).unwrap_or_default(),
        model: model.and_then(|model| serde_json::to_value(model.status).ok()),
        forgotten: known.forgotten,
        report: None,
    }
}

/// The report with the caller's own examples only.
async fn own(app: &App, scope: &Scope, mut report: Report) -> Result<Report, ApiError> {
    let ids: Vec<Uuid> = report.changed.iter().map(|changed| changed.id).collect();
    let scope = Scope::new(scope.team(), scope.user()).map_err(|error| ApiError::internal(error.to_string()))?;
    let turns = app.memory()?.journal.turns_by_id(&scope, &ids).await?;
    let own: HashSet<Uuid> = turns.into_iter().map(|turn| turn.id).collect();
    report.changed.retain(|changed| own.contains(&changed.id));
    Ok(report)
}

fn not_yet(id: Uuid) -> ApiError {
    ApiError::not_found(format!(
        "the run {id} has no report yet; GET /v1/learning/runs/{id} tells how far it is"
    ))
}

fn learner(app: &App) -> Result<&Learner, ApiError> {
    let none = || ApiError::not_found("this server only runs a model and keeps nothing; ask the gateway that uses it");
    app.learner.as_ref().ok_or_else(none)
}

/// What a model of the whole team becomes is for its admins, unless there is only one in it.
async fn may_change<'a>(app: &'a App, caller: &Caller) -> Result<&'a Learner, ApiError> {
    let learner = learner(app)?;
    if !caller.admin && !learner.is_alone(&caller.scope).await? {
        caller.require_admin()?;
    }
    Ok(learner)
}
