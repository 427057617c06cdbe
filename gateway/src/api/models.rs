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
    /// What else a model has in Anthropic's shape, for requests with the header `anthropic-version`.
    #[serde(flatten)]
    pub anthropic: Option<AnthropicModel>,
}

/// What else a model has in Anthropic's shape.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnthropicModel {
    /// Always `model`.
    pub r#type: &'static str,
    /// The id.
    pub display_name: String,
    /// When it was loaded or made, as RFC 3339.
    pub created_at: String,
}

/// What else a list of models has in Anthropic's shape.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnthropicPage {
    /// Always false: the list is whole.
    pub has_more: bool,
    /// The first model's id.
    pub first_id: Option<String>,
    /// The last model's id.
    pub last_id: Option<String>,
}

/// All models, in OpenAI's shape.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// The models; the first is the default.
    pub data: Vec<Model>,
    /// What else it has in Anthropic's shape, for requests with the header `anthropic-version`.
    #[serde(flatten)]
    pub anthropic: Option<AnthropicPage>,
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
            anthropic: None,
        }
    }
}

impl Model {
    /// As the client that sent these headers expects it.
    fn shown(info: ModelInfo, headers: &HeaderMap) -> Self {
        let anthropic = headers.contains_key(ANTHROPIC).then(|| AnthropicModel {
            r#type: "model",
            display_name: info.id.clone(),
            created_at: Timestamp::from_second(info.created).unwrap_or_default().to_string(),
        });
        Self {
            anthropic,
            ..info.into()
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
    let id = |model: &Model| model.id.clone();
    Json(ModelList {
        object: "list",
        anthropic: headers.contains_key(ANTHROPIC).then(|| AnthropicPage {
            has_more: false,
            first_id: data.first().map(id),
            last_id: data.last().map(id),
        }),
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
