//! `/v1/fine_tuning/jobs` in OpenAI's shape, on the trainer of this machine. What a job is, is in
//! [`crate::learner::jobs`].

use axum::Json;
use axum::extract::{Path, Query, State};
use habit_memory::Scope;
use serde_json::{Value, json};
use uuid::Uuid;

use super::error::{self, ApiError, ErrorBody};
use super::responses::wire::check_metadata;
use crate::app::App;
use crate::auth::Caller;
use crate::learner::jobs::{Job, Jobs, Seen, Status};

mod given;
mod wire;

use given::{examples, settings};
use wire::{CreateJob, JobEvents, JobList, JobQuery, JobView, happened, name, seconds, view};

/// Examples that a file must have, as at OpenAI.
const LEAST: usize = 10;

/// Letters of a suffix, at most.
const SUFFIX: usize = 64;

/// Jobs and events on a page, unless the request says otherwise, and at most.
const PAGE: (usize, usize) = (20, 100);

/// Begins a job: a LoRA adapter is trained on the file's examples and merged into the model, which is then served under its
/// own name, `ft:MODEL:SUFFIX:ID`, to this team.
#[utoipa::path(
    post, path = "/v1/fine_tuning/jobs", tag = "learning", operation_id = "createFineTuningJob", request_body = CreateJob,
    responses((status = 200, body = JobView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<CreateJob>,
) -> Result<Json<JobView>, ApiError> {
    let jobs = jobs(&app)?;
    let base = jobs.base().await?;
    if app.engine.resolve(&body.model) != base {
        let message = format!("`{}` can't be trained here; `{base}` can", body.model);
        return Err(ApiError::invalid(message, Some("model")));
    }
    caller.check_model(&base)?;
    let settings = settings(&body)?;
    let suffix = body.suffix.filter(|suffix| !suffix.is_empty());
    if let Some(suffix) = &suffix {
        let fits = suffix.len() <= SUFFIX && suffix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !fits {
            let message = format!("`suffix` must be at most {SUFFIX} letters, digits, `-` or `_`");
            return Err(ApiError::invalid(message, Some("suffix")));
        }
    }
    let train = examples(&app, &caller.scope, &body.training_file, ("training_file", 0)).await?;
    if train.len() < LEAST {
        let message = format!("the file has {} examples; {LEAST} are the least", train.len());
        return Err(ApiError::invalid(message, Some("training_file")));
    }
    let measure = match body.validation_file.as_deref().filter(|id| !id.is_empty()) {
        Some(id) => examples(&app, &caller.scope, id, ("validation_file", train.len())).await?,
        None => Vec::new(),
    };
    let job = Job {
        training_file: body.training_file,
        validation_file: body.validation_file.filter(|id| !id.is_empty()),
        settings,
        examples: train.len(),
        metadata: check_metadata(body.metadata)?,
        ..Job::new(&caller.scope, &base, suffix, app.clock.now_ms())
    };
    Ok(Json(view(jobs.create(job, train, measure).await?)))
}

/// The user's jobs, newest first.
#[utoipa::path(
    get, path = "/v1/fine_tuning/jobs", tag = "learning", operation_id = "listFineTuningJobs", params(JobQuery),
    responses((status = 200, body = JobList), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<JobQuery>,
) -> Result<Json<JobList>, ApiError> {
    let all = jobs(&app)?.list(&caller.scope)?;
    let (data, has_more) = page(all.into_iter().map(view).collect(), &query, |job: &JobView| {
        job.id.as_str()
    })?;
    Ok(Json(JobList {
        object: "list",
        data,
        has_more,
    }))
}

/// One job.
#[utoipa::path(
    get, path = "/v1/fine_tuning/jobs/{id}", tag = "learning", operation_id = "getFineTuningJob",
    params(("id" = String, Path, description = "The job's id.")),
    responses((status = 200, body = JobView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<JobView>, ApiError> {
    Ok(Json(view(job(&app, &caller.scope, &id)?)))
}

/// Stops a job, if it runs.
#[utoipa::path(
    post, path = "/v1/fine_tuning/jobs/{id}/cancel", tag = "learning", operation_id = "cancelFineTuningJob",
    params(("id" = String, Path, description = "The job's id.")),
    responses((status = 200, body = JobView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn cancel(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<JobView>, ApiError> {
    let stopped = jobs(&app)?.cancel(&caller.scope, uuid(&id)?).await?;
    Ok(Json(view(stopped.ok_or_else(|| unknown(&id))?)))
}

/// What happened in a job, newest first.
#[utoipa::path(
    get, path = "/v1/fine_tuning/jobs/{id}/events", tag = "learning", operation_id = "fineTuningEvents",
    params(("id" = String, Path, description = "The job's id."), JobQuery),
    responses((status = 200, body = JobEvents), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn events(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<JobQuery>,
) -> Result<Json<JobEvents>, ApiError> {
    let mut all = happened(&job(&app, &caller.scope, &id)?, app.clock.now_ms());
    all.reverse();
    few(all, &query)
}

/// The states of the model that were kept: the last one, once the job has succeeded.
#[utoipa::path(
    get, path = "/v1/fine_tuning/jobs/{id}/checkpoints", tag = "learning", operation_id = "fineTuningCheckpoints",
    params(("id" = String, Path, description = "The job's id."), JobQuery),
    responses((status = 200, body = JobEvents), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn checkpoints(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<JobQuery>,
) -> Result<Json<JobEvents>, ApiError> {
    let Seen { job, report, .. } = job(&app, &caller.scope, &id)?;
    let mut data = Vec::new();
    if let (Status::Succeeded, Some(report)) = (job.status, report) {
        let tried = report.tried.first();
        let trained = tried.and_then(|tried| tried.trained.as_ref());
        let steps = trained.map_or(0, |trained| trained.steps);
        data.push(json!({
            "id": format!("ftckpt-{}", job.id.simple()),
            "object": "fine_tuning.job.checkpoint",
            "created_at": seconds(job.finished_at.unwrap_or(job.created_at)),
            "fine_tuned_model_checkpoint": job.name,
            "fine_tuning_job_id": name(&job),
            "step_number": steps,
            "metrics": {
                "step": steps,
                "train_loss": trained.map(|trained| trained.loss),
                "valid_loss": tried.and_then(|tried| tried.nll),
                "full_valid_mean_token_accuracy": tried.filter(|_| report.counts.gate > 0).map(|tried| tried.right),
            },
        }));
    }
    few(data, &query)
}

fn jobs(app: &App) -> Result<&Jobs, ApiError> {
    let none = || ApiError::not_found("this server only runs a model and keeps nothing; ask the gateway that uses it");
    app.jobs.as_ref().ok_or_else(none)
}

fn uuid(id: &str) -> Result<Uuid, ApiError> {
    let bare = id.strip_prefix("ftjob-").and_then(|id| Uuid::parse_str(id).ok());
    bare.ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!(
        "there is no fine-tuning job `{id}` of yours; GET /v1/fine_tuning/jobs lists them"
    ))
}

fn job(app: &App, scope: &Scope, id: &str) -> Result<Seen, ApiError> {
    jobs(app)?.get(scope, uuid(id)?)?.ok_or_else(|| unknown(id))
}

fn few(all: Vec<Value>, query: &JobQuery) -> Result<Json<JobEvents>, ApiError> {
    let (data, has_more) = page(all, query, |event: &Value| event["id"].as_str().unwrap_or_default())?;
    Ok(Json(JobEvents {
        object: "list",
        data,
        has_more,
    }))
}

/// The part of a list that is asked for, and whether there is more.
fn page<T>(mut all: Vec<T>, query: &JobQuery, id: impl Fn(&T) -> &str) -> Result<(Vec<T>, bool), ApiError> {
    let limit = query.limit.unwrap_or(PAGE.0);
    if !(1..=PAGE.1).contains(&limit) {
        let message = format!("`limit` must be 1 to {}", PAGE.1);
        return Err(ApiError::invalid(message, Some("limit")));
    }
    if let Some(after) = query.after.as_deref().filter(|after| !after.is_empty()) {
        let place = all.iter().position(|one| id(one) == after);
        let none = || {
            ApiError::invalid(
                format!("there is no `{after}` to go on from; begin without it"),
                Some("after"),
            )
        };
        all.drain(..=place.ok_or_else(none)?);
    }
    let more = all.len() > limit;
    all.truncate(limit);
    Ok((all, more))
}
