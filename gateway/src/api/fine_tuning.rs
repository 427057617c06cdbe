//! `/v1/fine_tuning/jobs` in OpenAI's shape, on the trainer of this machine. What a job is, is in
//! [`crate::learner::jobs`].

use axum::Json;
use axum::extract::{Path, Query, State};
use habit_engine::{Message, Role};
use habit_learning::examples::Example;
use habit_learning::trainer::Settings;
use habit_memory::Scope;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{self, ApiError, ErrorBody};
use super::responses::wire::check_metadata;
use crate::app::App;
use crate::auth::Caller;
use crate::learner::jobs::{Job, Jobs, Seen, Status};

/// Examples that a file must have, as at OpenAI.
const LEAST: usize = 10;

/// Letters of a suffix, at most.
const SUFFIX: usize = 64;

/// Jobs and events on a page, unless the request says otherwise, and at most.
const PAGE: (usize, usize) = (20, 100);

/// What to train on, and how.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateJob {
    /// The model to begin from: the one that this server runs.
    pub model: String,
    /// A file of purpose `fine-tune`: a JSON object a line, with `messages`, the answer last.
    pub training_file: String,
    /// Such a file to measure by.
    pub validation_file: Option<String>,
    /// A part of the new model's name, at most 64 letters, digits, `-` or `_`.
    pub suffix: Option<String>,
    /// Decides what is left to chance.
    pub seed: Option<u64>,
    /// `n_epochs`, `batch_size`, `learning_rate_multiplier`: numbers, or `auto`.
    #[schema(value_type = Option<Object>)]
    pub hyperparameters: Option<Map<String, Value>>,
    /// `{"type": "supervised", "supervised": {"hyperparameters": {…}}}`.
    #[schema(value_type = Option<Object>)]
    pub method: Option<Value>,
    /// There are none.
    #[schema(value_type = Option<Vec<Object>>)]
    pub integrations: Option<Vec<Value>>,
    /// Whatever you keep with it.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobView {
    /// `ftjob-…`.
    pub id: String,
    /// Always `fine_tuning.job`.
    #[schema(example = "fine_tuning.job")]
    pub object: &'static str,
    /// The model that it began from.
    pub model: String,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub finished_at: Option<i64>,
    /// Always null.
    pub estimated_finish: Option<i64>,
    /// The name by which its model is asked, once it is there.
    pub fine_tuned_model: Option<String>,
    /// The team.
    pub organization_id: String,
    /// Always empty.
    pub result_files: Vec<String>,
    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    #[schema(example = "running")]
    pub status: &'static str,
    /// The file that it is trained on.
    pub training_file: String,
    /// The file that it is measured by.
    pub validation_file: Option<String>,
    /// How it is trained.
    #[schema(value_type = Object)]
    pub hyperparameters: Value,
    /// The same.
    #[schema(value_type = Object)]
    pub method: Value,
    /// Always null.
    pub trained_tokens: Option<u64>,
    /// Why it failed.
    #[schema(value_type = Option<Object>)]
    pub error: Option<Value>,
    /// As it was asked for.
    pub user_provided_suffix: Option<String>,
    /// What was left to chance is decided by it.
    pub seed: u64,
    /// Always empty.
    #[schema(value_type = Vec<Object>)]
    pub integrations: Vec<Value>,
    /// Whatever its owner keeps with it.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
}

/// A list in OpenAI's shape.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// What there is, newest first.
    pub data: Vec<JobView>,
    /// Whether there are more.
    pub has_more: bool,
}

/// A list of events or checkpoints.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobEvents {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// What there is, newest first.
    #[schema(value_type = Vec<Object>)]
    pub data: Vec<Value>,
    /// Whether there are more.
    pub has_more: bool,
}

/// Which are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct JobQuery {
    /// At most so many, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<usize>,
    /// Only what comes after the one with this id.
    pub after: Option<String>,
}

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
                "full_valid_mean_token_accuracy": tried.map(|tried| tried.right),
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

/// The examples of a file, which are as if asked one after the other, from `first` on.
async fn examples(
    app: &App,
    scope: &Scope,
    id: &str,
    (param, first): (&'static str, usize),
) -> Result<Vec<Example>, ApiError> {
    let (card, bytes) = app.memory()?.stores.files().read(scope, id).await?;
    let wrong = |why: String| ApiError::invalid(why, Some(param));
    if card.purpose != "fine-tune" {
        return Err(wrong(format!(
            "`{id}` is of purpose `{}`; upload it with purpose=fine-tune",
            card.purpose
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong(format!("`{id}` is not UTF-8 text")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(place, line): (usize, &str)| {
        let bad = |why: &str| wrong(format!("line {} of `{id}`: {why}", place + 1));
        let mut line: Line = serde_json::from_str(line).map_err(|error| bad(&error.to_string()))?;
        let answer = line.messages.pop().filter(|last| last.role == Role::Assistant);
        let answer = answer
            .ok_or_else(|| bad("the last message must be the assistant's"))?
            .text();
        if answer.trim().is_empty() {
            return Err(bad("the answer is empty"));
        }
        if line.messages.last().is_none_or(|last| last.role != Role::User) {
            return Err(bad("the message before the answer must be the user's"));
        }
        Ok(Example {
            id: Uuid::now_v7(),
            messages: line.messages,
            answer,
            at: i64::try_from(first + place).unwrap_or(i64::MAX),
            weight: 1.0,
            from: Vec::new(),
            user: scope.user().to_owned(),
        })
    };
    lines.map(read).collect()
}

/// A line of a training file; what else it holds is not used.
#[derive(Deserialize)]
struct Line {
    messages: Vec<Message>,
}

/// The measured recipe, with what the request says of it.
fn settings(body: &CreateJob) -> Result<Settings, ApiError> {
    let wrong = |param: &'static str, why: &str| ApiError::invalid(format!("`{param}` {why}"), Some(param));
    let mut given = body.hyperparameters.clone().unwrap_or_default();
    if let Some(method) = &body.method {
        let kind = method["type"].as_str().unwrap_or("supervised");
        if kind != "supervised" {
            return Err(wrong("method", "must be of type supervised: no other is trained here"));
        }
        if let Some(more) = method["supervised"]["hyperparameters"].as_object() {
            given.extend(more.clone());
        }
    }
    if body.integrations.iter().flatten().next().is_some() {
        return Err(wrong(
            "integrations",
            "must be empty: what happens here is told to nobody else",
        ));
    }
    let mut settings = Settings {
        seed: body.seed.unwrap_or_default(),
        ..Settings::default()
    };
    for (name, value) in given {
        if value.is_null() || value == "auto" {
            continue;
        }
        let whole = value.as_u64().and_then(|number| usize::try_from(number).ok());
        match (name.as_str(), whole, value.as_f64()) {
            ("n_epochs", Some(epochs @ 1..=50), _) => settings.epochs = epochs,
            ("batch_size", Some(batch @ 1..=256), _) => settings.batch = batch,
            ("learning_rate_multiplier", _, Some(by)) if by > 0.0 && by <= 10.0 => {
                settings.learning_rate *= narrow(by);
            }
            _ => {
                let why = format!(
                    "has `{name}`: {value}; there are n_epochs (1 to 50), batch_size (1 to 256) and \
                     learning_rate_multiplier (over 0, at most 10), and each may be auto"
                );
                return Err(wrong("hyperparameters", &why));
            }
        }
    }
    Ok(settings)
}

fn narrow(number: f64) -> f32 {
    number as f32
}

fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1000)
}

fn name(job: &Job) -> String {
    format!("ftjob-{}", job.id.simple())
}

fn status(seen: &Seen) -> &'static str {
    let begun = seen.progress.as_ref().is_some_and(|progress| progress.phase.is_some());
    match seen.job.status {
        Status::Running if begun => "running",
        Status::Running => "queued",
        Status::Succeeded => "succeeded",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
    }
}

fn view(seen: Seen) -> JobView {
    let status = status(&seen);
    let job = seen.job;
    let hyperparameters = json!({
        "n_epochs": job.settings.epochs,
        "batch_size": job.settings.batch,
        "learning_rate_multiplier": f64::from(job.settings.learning_rate / Settings::default().learning_rate),
    });
    JobView {
        id: name(&job),
        object: "fine_tuning.job",
        created_at: seconds(job.created_at),
        finished_at: job.finished_at.map(seconds),
        estimated_finish: None,
        fine_tuned_model: (job.status == Status::Succeeded).then(|| job.name.clone()),
        organization_id: job.team,
        result_files: Vec::new(),
        status,
        method: json!({"type": "supervised", "supervised": {"hyperparameters": hyperparameters.clone()}}),
        hyperparameters,
        trained_tokens: None,
        error: job
            .problem
            .map(|message| json!({"code": "training_failed", "message": message, "param": null})),
        model: job.base,
        training_file: job.training_file,
        validation_file: job.validation_file,
        user_provided_suffix: job.suffix,
        seed: job.settings.seed,
        integrations: Vec::new(),
        metadata: job.metadata,
    }
}

/// What happened, oldest first.
fn happened(seen: &Seen, now: i64) -> Vec<Value> {
    let job = &seen.job;
    let event = |place: usize, at: i64, level: &str, message: String| {
        json!({
            "object": "fine_tuning.job.event",
            "id": format!("ftevent-{}-{place}", job.id.simple()),
            "created_at": seconds(at), "level": level, "message": message, "type": "message", "data": null,
        })
    };
    let began = job.created_at;
    let mut all = vec![
        event(0, began, "info", format!("Created fine-tuning job: {}", name(job))),
        event(
            1,
            began,
            "info",
            format!("{} examples in {}", job.examples, job.training_file),
        ),
    ];
    if let Some(progress) = &seen.progress {
        let what = progress
            .phase
            .map_or("waiting for another job", habit_learning::run::Phase::label);
        let text = format!("{what}: {} of {} {}", progress.done, progress.steps, progress.note);
        all.push(event(2, now, "info", text.trim().to_owned()));
    }
    let ended = job.finished_at.unwrap_or(now);
    match job.status {
        Status::Running => {}
        Status::Succeeded => {
            all.push(event(
                3,
                ended,
                "info",
                format!("New fine-tuned model created: {}", job.name),
            ));
            all.push(event(4, ended, "info", "The job has successfully completed".to_owned()));
        }
        Status::Failed => {
            let why = job.problem.clone().unwrap_or_default();
            all.push(event(3, ended, "error", format!("The job failed: {why}")));
        }
        Status::Cancelled => all.push(event(3, ended, "info", "The job was cancelled".to_owned())),
    }
    all
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
