//! `GET /v1/models` and `/v1/models/{id}`: what may be asked for.

use axum::Json;
use axum::extract::{Path, State};
use habit_engine::{EngineError, ModelInfo};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::embeddings::source;
use crate::api::error::{ApiError, ErrorBody};
use crate::app::App;
use crate::auth::Caller;

/// A model, in OpenAI's shape.
#[derive(Debug, Serialize, ToSchema)]
pub struct Model {
    /// The name by which requests ask for it.
    #[schema(example = "smollm2-135m-instruct")]
    pub id: String,
    /// Always `model`.
    #[schema(example = "model")]
    pub object: &'static str,
    /// When it was loaded or made, in Unix seconds.
    pub created: i64,
    /// Who made or serves it.
    pub owned_by: String,
    /// Tokens that prompt and reply may have together, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_window: Option<usize>,
}

/// All models, in OpenAI's shape.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// The models; the first is the default.
    pub data: Vec<Model>,
}

impl From<ModelInfo> for Model {
    fn from(info: ModelInfo) -> Self {
        let ModelInfo {
            id,
            context_window,
            owned_by,
            created,
        } = info;
        Self {
            id,
            object: "model",
            created,
            owned_by,
            context_window,
        }
    }
}

/// The models that can be asked.
#[utoipa::path(
    get, path = "/v1/models", tag = "models", operation_id = "listModels",
    responses((status = 200, body = ModelList), (status = 401, body = ErrorBody)),
)]
pub async fn list(State(app): State<App>, caller: Caller) -> Json<ModelList> {
    Json(ModelList {
        object: "list",
        data: allowed(&app, &caller).map(Model::from).collect(),
    })
}

/// The models that a caller may ask; an alias is allowed as the model that it stands for is.
fn allowed<'a>(app: &'a App, caller: &'a Caller) -> impl Iterator<Item = ModelInfo> + 'a {
    let may = |info: &ModelInfo| caller.may_ask(&app.engine.resolve(&info.id));
    all(app).into_iter().filter(may)
}

/// One of them. An id with slashes may be written with or without escaping them.
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "models", operation_id = "getModel",
    params(("id" = String, Path, description = "The model's id.")),
    responses((status = 200, body = Model), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Model>, ApiError> {
    let models: Vec<ModelInfo> = allowed(&app, &caller).collect();
    if let Some(info) = models.iter().find(|info| info.id == id) {
        return Ok(Json(info.clone().into()));
    }
    let available = models.into_iter().map(|info| info.id).collect();
    Err(EngineError::UnknownModel { model: id, available }.into())
}

/// What engines serve, and then the server's own embedder.
fn all(app: &App) -> Vec<ModelInfo> {
    let mut models = app.engine.models();
    let embedder = source::info(app).filter(|own| models.iter().all(|info| info.id != own.id));
    models.extend(embedder);
    models
}
