//! Administration of the engines: what they have to do, and the list of upstreams read again.

use axum::Json;
use axum::extract::State;
use habit_engine::fleet::Report;
use habit_engine::{Health, Load};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::error::{ApiError, ErrorBody};
use crate::app::App;
use crate::auth::Caller;
use crate::engines::{Changes, ReloadError};

/// The engines with what they have to do.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueReport {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// The engines, in the order of the configuration.
    pub data: Vec<EngineReport>,
}

/// An engine with what it has to do.
#[derive(Debug, Serialize, ToSchema)]
pub struct EngineReport {
    /// Always `engine`.
    #[schema(example = "engine")]
    pub object: &'static str,
    /// What it is called.
    #[schema(example = "gpu-1")]
    pub name: String,
    /// `ok` or `unavailable`.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// Why it is unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether it is another server.
    pub remote: bool,
    /// The models that it serves.
    pub models: Vec<String>,
    /// What it has to do.
    #[serde(flatten)]
    pub load: LoadReport,
}

/// What there is to do.
#[derive(Debug, Serialize, ToSchema)]
pub struct LoadReport {
    /// Replies being made.
    pub running: usize,
    /// Replies that may be made at the same time; 0 where nothing bounds them.
    pub max_running: usize,
    /// Requests that wait for their turn, background ones included.
    pub waiting: usize,
    /// Of them, those in the background.
    pub waiting_background: usize,
    /// Requests that may wait before new ones are refused.
    pub max_waiting: usize,
}

impl From<Load> for LoadReport {
    fn from(load: Load) -> Self {
        let Load {
            running,
            max_running,
            waiting,
            waiting_background,
            max_waiting,
        } = load;
        Self {
            running,
            max_running,
            waiting,
            waiting_background,
            max_waiting,
        }
    }
}

impl From<Report> for EngineReport {
    fn from(report: Report) -> Self {
        let Report {
            name,
            models,
            remote,
            health,
            load,
        } = report;
        let (status, detail) = match health {
            Health::Ready => ("ok", None),
            Health::Unavailable(why) => ("unavailable", Some(why)),
        };
        Self {
            object: "engine",
            name,
            status,
            detail,
            remote,
            models,
            load: load.into(),
        }
    }
}

impl From<ReloadError> for ApiError {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::NoSources => Self::not_found(error.to_string()),
            ReloadError::Bad(_) => Self::invalid(error.to_string(), None),
        }
    }
}

/// Every engine: whether it answers, what it runs and who waits for it.
#[utoipa::path(
    get, path = "/v1/admin/queue", tag = "administration", operation_id = "queue",
    responses((status = 200, body = QueueReport), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody)),
)]
pub async fn queue(State(app): State<App>, caller: Caller) -> Result<Json<QueueReport>, ApiError> {
    caller.require_admin()?;
    let reports = app.engines.fleet().reports().await;
    Ok(Json(QueueReport {
        object: "list",
        data: reports.into_iter().map(EngineReport::from).collect(),
    }))
}

/// Reads the configuration again and applies its upstreams and aliases. Replies under way go on; if the configuration is
/// wrong, nothing changes.
#[utoipa::path(
    post, path = "/v1/admin/reload", tag = "administration", operation_id = "reload",
    responses(
        (status = 200, body = Changes), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub async fn reload(State(app): State<App>, caller: Caller) -> Result<Json<Changes>, ApiError> {
    caller.require_admin()?;
    Ok(Json(app.engines.reload().await?))
}
