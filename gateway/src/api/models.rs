//! `GET /v1/models` and `/v1/models/{id}`: what may be asked for.

use axum::Json;
use axum::extract::{Path, State};
use habit_engine::{EngineError, ModelInfo};
use http::HeaderMap;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::embeddings::source;
use crate::api::error::{ApiError, ErrorBody};
use crate::app::App;
use crate::auth::Caller;
use crate::turn::route::DEFAULT_MODEL;

/// A header of Anthropic's clients.
const ANTHROPIC: &str = "anthropic-version";

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
    /// For Anthropic's clients (with the header `anthropic-version`): always `model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<&'static str>,
    /// For Anthropic's clients: the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// For Anthropic's clients: when it was loaded or made, as RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// All models, in OpenAI's shape.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// The models; the first is the default.
    pub data: Vec<Model>,
    /// For Anthropic's clients (with the header `anthropic-version`): always false, the list is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_more: Option<bool>,
    /// For Anthropic's clients: the first model's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_id: Option<String>,
    /// For Anthropic's clients: the last model's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_id: Option<String>,
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
            r#type: None,
            display_name: None,
            created_at: None,
        }
    }
}

impl Model {
    /// As the client that sent these headers expects it.
    fn shown(info: ModelInfo, headers: &HeaderMap) -> Self {
        let model = Self::from(info);
        if !headers.contains_key(ANTHROPIC) {
            return model;
        }
        let created_at = Timestamp::from_second(model.created).unwrap_or_default();
        Self {
            r#type: Some("model"),
            display_name: Some(model.id.clone()),
            created_at: Some(created_at.to_string()),
            ..model
        }
    }
}

/// The models that can be asked. Requests with the header `anthropic-version` get what Anthropic's have besides.
#[utoipa::path(
    get, path = "/v1/models", tag = "models", operation_id = "listModels",
    responses((status = 200, body = ModelList), (status = 401, body = ErrorBody)),
)]
pub async fn list(State(app): State<App>, caller: Caller, headers: HeaderMap) -> Json<ModelList> {
    let models = allowed(&app, &caller).map(|info| Model::shown(info, &headers));
    let data: Vec<Model> = models.collect();
    let theirs = headers.contains_key(ANTHROPIC);
    let id = |model: Option<&Model>| model.map(|model| model.id.clone()).filter(|_| theirs);
    Json(ModelList {
        object: "list",
        has_more: theirs.then_some(false),
        first_id: id(data.first()),
        last_id: id(data.last()),
        data,
    })
}

/// The models that a caller may ask; an alias is allowed as the model that it stands for is.
fn allowed<'a>(app: &'a App, caller: &'a Caller) -> impl Iterator<Item = ModelInfo> + 'a {
    let may = |info: &ModelInfo| caller.may_ask(&app.engine.resolve(&info.id));
    all(app).into_iter().filter(may)
}

/// One of them; `default` is the one that requests without a model mean. An id with slashes may be written with or without
/// escaping them.
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "models", operation_id = "getModel",
    params(("id" = String, Path, description = "The model's id.")),
    responses((status = 200, body = Model), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Model>, ApiError> {
    let models: Vec<ModelInfo> = allowed(&app, &caller).collect();
    let meant = if id == DEFAULT_MODEL {
        app.engine.resolve(&id)
    } else {
        id.clone()
    };
    if let Some(info) = models.iter().find(|info| info.id == meant) {
        return Ok(Json(Model::shown(info.clone(), &headers)));
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
