//! `GET /health`: whether this server can answer. Needs no key, so it tells nothing about anyone.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use habit_engine::Health;
use habit_engine::fleet::Report;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;

/// Whether this server can answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthReport {
    /// `ok`, or `unavailable` if any part is.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// Habit's version.
    pub version: &'static str,
    /// The engine.
    pub engine: PartHealth,
    /// All engines together.
    pub engines: EnginesHealth,
    /// The journal; absent where this process keeps none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<PartHealth>,
    /// The index; absent where this process keeps none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<IndexHealth>,
}

/// All engines together; `GET /v1/admin/queue` tells them apart.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnginesHealth {
    /// Engines that can answer.
    pub ready: usize,
    /// Engines in all.
    pub total: usize,
    /// Replies being made.
    pub running: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
}

/// One part.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartHealth {
    /// `ok` or `unavailable`.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// Why it is unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The index.
#[derive(Debug, Serialize, ToSchema)]
pub struct IndexHealth {
    /// Turns and passages that are to be indexed. They can't be found yet, but for those that are indexed anew (`anew`).
    pub pending: u64,
    /// The embedder for which the index is being made anew, while the old one serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anew: Option<String>,
}

impl PartHealth {
    fn of<E: ToString>(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self {
                status: "ok",
                detail: None,
            },
            Err(error) => Self {
                status: "unavailable",
                detail: Some(error.to_string()),
            },
        }
    }

    fn is_ok(&self) -> bool {
        self.detail.is_none()
    }
}

/// Whether this server can answer.
#[utoipa::path(
    get, path = "/health", tag = "server", operation_id = "health", security(()),
    responses(
        (status = 200, description = "Everything works.", body = HealthReport),
        (status = 503, description = "A part does not; the report says which.", body = HealthReport),
    ),
)]
pub async fn health(State(app): State<App>) -> Response {
    let reports = app.engines.fleet().reports().await;
    let trouble = |report: &Report| match &report.health {
        Health::Ready => None,
        Health::Unavailable(why) => Some(why.clone()),
    };
    let engines = EnginesHealth {
        ready: reports.iter().filter(|report| trouble(report).is_none()).count(),
        total: reports.len(),
        running: reports.iter().map(|report| report.load.running).sum(),
        waiting: reports.iter().map(|report| report.load.waiting).sum(),
    };
    // One that answers is enough to answer.
    let engine = PartHealth::of(match (engines.ready, reports.first()) {
        (0, None) => Err("no engine is loaded".to_owned()),
        (0, Some(first)) => Err(trouble(first).unwrap_or_default()),
        _ => Ok(()),
    });
    let (mut journal, mut index) = (None, None);
    if let Some(memory) = &app.memory {
        let totals = memory.journal.totals().await;
        index = totals.as_ref().ok().map(|totals| IndexHealth {
            pending: totals.pending,
            anew: memory.generations.being_made(),
        });
        journal = Some(PartHealth::of(totals.map(drop)));
    }
    let ok = engine.is_ok() && journal.as_ref().is_none_or(PartHealth::is_ok);
    let status = if ok { "ok" } else { "unavailable" };
    let report = HealthReport {
        status,
        version: env!("CARGO_PKG_VERSION"),
        engine,
        engines,
        journal,
        index,
    };
    let code = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(report)).into_response()
}
