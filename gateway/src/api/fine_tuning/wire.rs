//! Jobs as OpenAI writes them.

use habit_learning::trainer::Settings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::learner::jobs::{Job, Seen, Status};

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

pub(super) fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1000)
}

pub(super) fn name(job: &Job) -> String {
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

pub(super) fn view(seen: Seen) -> JobView {
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
pub(super) fn happened(seen: &Seen, now: i64) -> Vec<Value> {
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
        let text = progress.phase.map_or_else(
            || "waiting for another job".to_owned(),
            |phase| {
                let what = phase.label();
                format!("{what}: {} of {} {}", progress.done, progress.steps, progress.note)
            },
        );
        all.push(event(2, now, "info", text.trim().to_owned()));
    }
    let ended = job.finished_at.unwrap_or(now);
    if let Some(report) = &seen.report {
        let (train, gate, left) = (report.counts.train, report.counts.gate, report.counts.left_out);
        let text = format!(
            "{train} examples were trained on and {gate} measured by; {left}, nearly the same as others, by neither"
        );
        all.push(event(5, ended, "info", text));
    }
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
