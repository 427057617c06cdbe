//! `/v1/downtime`: the work for which nobody waits: how things are, run now, stop, go on, what was changed, take back. For
//! admin keys; each sees the runs of its own team, and those that read nothing of anyone.

use axum::Json;
use axum::extract::{Path, Query, State};
use habit_memory::routines::{Findings, Made, Reach, Routine, Run, Status};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::api::error::{self, ApiError, ErrorBody};
use crate::app::App;
use crate::auth::Caller;
use crate::downtime::Downtime;

mod report;

/// Changes of a run that are shown.
const CHANGES: u64 = 1000;

/// Runs on a page, unless the request says otherwise, and at most.
const PAGE: u64 = 20;
const MAX_PAGE: u64 = 500;

/// How downtime is.
#[derive(Debug, Serialize, ToSchema)]
pub struct DowntimeView {
    /// Always `downtime`.
    #[schema(example = "downtime")]
    pub object: &'static str,
    /// Whether it begins by itself.
    pub on: bool,
    /// Whether this process does the work, among those that share a database.
    pub leads: bool,
    /// Whether work waits for requests now.
    pub yields: bool,
    /// Since when nobody was waited for, in Unix milliseconds.
    pub quiet_since: i64,
    /// What is being done.
    pub current: Option<RunView>,
    /// What is to be done, in order.
    pub waiting: Vec<RunView>,
    /// What there is to be run.
    pub routines: Vec<RoutineView>,
}

/// A routine.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoutineView {
    /// By this it is asked for.
    #[schema(example = "dedupe")]
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Whom it is done for, one run each: `user`, `team` or `everyone`.
    #[schema(example = "user")]
    pub reach: &'static str,
    /// What undoing it means.
    pub undoing: &'static str,
}

/// A run.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// Always `downtime.run`.
    #[schema(example = "downtime.run")]
    pub object: &'static str,
    /// The routine.
    #[schema(example = "dedupe")]
    pub routine: String,
    /// For which team; null is all.
    pub team: Option<String>,
    /// For which user; null is the whole team.
    pub user: Option<String>,
    /// `waiting`, `running`, `cancelled`, `failed`, `finished`, `undoing` or `undone`.
    #[schema(value_type = String, example = "finished")]
    pub status: Status,
    /// Why it was begun, and for what it stopped.
    pub cause: String,
    /// How much is done.
    pub done: u64,
    /// Of how much, about.
    pub total: u64,
    /// How often what was seen.
    #[schema(value_type = Object)]
    pub counts: std::collections::BTreeMap<String, u64>,
    /// Single things to look at.
    pub notes: Vec<String>,
    /// Unix milliseconds.
    pub started_at: i64,
    /// Unix milliseconds.
    pub ended_at: Option<i64>,
}

/// A run with what it changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct WholeRunView {
    /// The run.
    #[serde(flatten)]
    pub run: RunView,
    /// What it changed, in order, the first thousand.
    pub changes: Vec<ChangeView>,
    /// All of it for people, in Markdown.
    pub report: String,
}

/// Something that a run changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeView {
    /// What and why.
    pub what: String,
    /// `intended`, `made` or `undone`.
    #[schema(example = "made")]
    pub status: String,
    /// Unix milliseconds.
    pub at: i64,
}

/// Runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// Newest first.
    pub data: Vec<RunView>,
}

/// What is to be run.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunNow {
    /// One routine; all of them, if it is not given.
    pub routine: Option<String>,
    /// One user of the team; all of them, if it is not given.
    pub user: Option<String>,
}

/// A part of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RunQuery {
    /// At most so many, 1 to 500.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
    /// Only runs older than this one.
    #[param(value_type = Option<String>)]
    before: Option<Uuid>,
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        let Findings { counts, notes } = run.findings;
        Self {
            id: run.id,
            object: "downtime.run",
            routine: run.routine,
            team: run.target.team,
            user: run.target.user,
            status: run.status,
            cause: run.cause,
            done: run.done,
            total: run.total,
            counts,
            notes,
            started_at: run.started_at,
            ended_at: run.ended_at,
        }
    }
}

impl From<Made> for ChangeView {
    fn from(made: Made) -> Self {
        Self {
            what: made.change.what,
            status: made.status,
            at: made.at,
        }
    }
}

fn of_routine(routine: &dyn Routine) -> RoutineView {
    RoutineView {
        name: routine.name(),
        about: routine.about(),
        reach: match routine.reach() {
            Reach::User => "user",
            Reach::Team => "team",
            Reach::Everyone => "everyone",
        },
        undoing: routine.undoing(),
    }
}

fn admitted<'a>(app: &'a App, caller: &Caller) -> Result<&'a Downtime, ApiError> {
    caller.require_admin()?;
    app.memory()?;
    app.downtime
        .as_ref()
        .ok_or_else(|| ApiError::not_found("this server has no downtime: it keeps nothing"))
}

/// What is being done while nobody waits, and what is to be done.
#[utoipa::path(
    get, path = "/v1/downtime", tag = "downtime", operation_id = "downtime",
    responses((status = 200, body = DowntimeView), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody)),
)]
pub async fn status(State(app): State<App>, caller: Caller) -> Result<Json<DowntimeView>, ApiError> {
    let downtime = admitted(&app, &caller)?;
    let report = downtime.report(caller.scope.team()).await?;
    Ok(Json(DowntimeView {
        object: "downtime",
        on: app.config.downtime.on,
        leads: report.leads,
        yields: report.yields,
        quiet_since: report.quiet_since,
        current: report.current.map(RunView::from),
        waiting: report.waiting.into_iter().map(RunView::from).collect(),
        routines: downtime
            .runner()
            .routines()
            .iter()
            .map(|routine| of_routine(&**routine))
            .collect(),
    }))
}

/// Runs routines now, for the caller's team. Requests still go first. What waits already is not asked for twice.
#[utoipa::path(
    post, path = "/v1/downtime/run", tag = "downtime", operation_id = "runDowntime", request_body = RunNow,
    responses(
        (status = 200, body = RunList), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
    ),
)]
pub async fn run(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<RunNow>,
) -> Result<Json<RunList>, ApiError> {
    let downtime = admitted(&app, &caller)?;
    let cause = format!("asked for by {}", caller.scope.user());
    let runs = downtime
        .ask(
            caller.scope.team(),
            body.routine.as_deref(),
            body.user.as_deref(),
            &cause,
        )
        .await?;
    Ok(Json(RunList {
        object: "list",
        data: runs.into_iter().map(RunView::from).collect(),
    }))
}

/// Runs, newest first.
#[utoipa::path(
    get, path = "/v1/downtime/runs", tag = "downtime", operation_id = "listDowntimeRuns", params(RunQuery),
    responses((status = 200, body = RunList), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody)),
)]
pub async fn runs(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<RunQuery>,
) -> Result<Json<RunList>, ApiError> {
    let downtime = admitted(&app, &caller)?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let store = downtime.runner().runs();
    let runs = store.list(Some(caller.scope.team()), query.before, limit).await?;
    Ok(Json(RunList {
        object: "list",
        data: runs.into_iter().map(RunView::from).collect(),
    }))
}

/// A run with what it changed, and its report.
#[utoipa::path(
    get, path = "/v1/downtime/runs/{id}", tag = "downtime", operation_id = "getDowntimeRun",
    params(("id" = String, Path, description = "The run's id.")),
    responses((status = 200, body = WholeRunView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<WholeRunView>, ApiError> {
    let downtime = admitted(&app, &caller)?;
    let run = downtime.run(caller.scope.team(), id).await?;
    let changes = downtime.runner().runs().changes(id, None, CHANGES).await?;
    let routine = downtime.runner().routine(&run.routine).ok();
    let report = report::markdown(&run, &changes, routine.map(|routine| &**routine));
    Ok(Json(WholeRunView {
        run: run.into(),
        changes: changes.into_iter().map(ChangeView::from).collect(),
        report,
    }))
}

/// Stops a run, after the step that it is in; it can be resumed.
#[utoipa::path(
    post, path = "/v1/downtime/runs/{id}/cancel", tag = "downtime", operation_id = "cancelDowntimeRun",
    params(("id" = String, Path, description = "The run's id.")),
    responses(
        (status = 200, body = RunView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn cancel(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<RunView>, ApiError> {
    let downtime = admitted(&app, &caller)?;
    Ok(Json(downtime.cancel(caller.scope.team(), id).await?.into()))
}

/// Lets a run that was cancelled, or that failed, go on where it stopped.
#[utoipa::path(
    post, path = "/v1/downtime/runs/{id}/resume", tag = "downtime", operation_id = "resumeDowntimeRun",
    params(("id" = String, Path, description = "The run's id.")),
    responses(
        (status = 200, body = RunView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn resume(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<RunView>, ApiError> {
    let downtime = admitted(&app, &caller)?;
    Ok(Json(downtime.resume(caller.scope.team(), id).await?.into()))
}

/// Has all taken back that a run changed, in the background; the run is `undone` then.
#[utoipa::path(
    post, path = "/v1/downtime/runs/{id}/undo", tag = "downtime", operation_id = "undoDowntimeRun",
    params(("id" = String, Path, description = "The run's id.")),
    responses(
        (status = 200, body = RunView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn undo(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<RunView>, ApiError> {
    let downtime = admitted(&app, &caller)?;
    Ok(Json(downtime.undo(caller.scope.team(), id).await?.into()))
}
