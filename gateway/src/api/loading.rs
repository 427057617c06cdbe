//! `/v1/admin/models`: loads, swaps and gives up models while the server runs; for admin keys. text-generation-webui's
//! names for the same are below `/v1/internal/model/`.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Path, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{ApiError, ErrorBody, Json};
use super::models::Model;
use crate::app::App;
use crate::auth::Caller;
use crate::loader::{LoadError, Loader, Wanted};

/// What to load.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct LoadRequest {
    /// A name from `habit models list`, a path on the server, or a hub id. One of `model` and `profile` must be there.
    pub model: Option<String>,
    /// A profile of the server's configuration.
    pub profile: Option<String>,
    /// Quantise to 16, 8 or 4 bits a weight, if it is finer.
    pub bits: Option<u8>,
    /// Tokens that prompt and reply may have together.
    pub context_window: Option<usize>,
    /// The loaded model whose place it takes: requests for that name get the new one.
    pub replaces: Option<String>,
    /// Whether requests without a model mean this one from now on.
    pub default: Option<bool>,
}

/// What is loaded, and what could be.
#[derive(Debug, Serialize, ToSchema)]
pub struct Loadable {
    /// Models that answer now; the first is the default.
    pub loaded: Vec<Model>,
    /// Models on the server's disk.
    pub available: Vec<String>,
    /// Profiles of the server's configuration.
    pub profiles: Vec<String>,
}

/// What text-generation-webui sends.
#[derive(Debug, Deserialize, ToSchema)]
pub struct WebuiLoadRequest {
    /// The model, or a profile.
    pub model_name: String,
}

/// What text-generation-webui gets.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebuiModels {
    /// Models on the server's disk, and profiles.
    pub model_names: Vec<String>,
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        let message = error.to_string();
        match error {
            LoadError::BadRequest(_) => Self::invalid(message, None),
            LoadError::NotLoaded { .. } => Self::model_not_found(message),
            // The model that was asked for can't be had: nothing that trying again would change.
            LoadError::Failed(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "model_not_loaded", message),
        }
    }
}

/// What is loaded, and what could be.
#[utoipa::path(
    get, path = "/v1/admin/models", tag = "administration", operation_id = "listLoadableModels",
    responses((status = 200, body = Loadable), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Answer<Loadable>, ApiError> {
    let (available, profiles) = loader(&app, &caller)?.available()?;
    Ok(Answer(Loadable {
        loaded: app.engine.models().into_iter().map(Model::from).collect(),
        available,
        profiles,
    }))
}

/// Loads a model, or puts it in the place of another. The reply comes when it is ready; a model that is not on the
/// server's disk is fetched first. A client that leaves does not stop it.
#[utoipa::path(
    post, path = "/v1/admin/models", tag = "administration", operation_id = "loadModel", request_body = LoadRequest,
    responses((status = 200, body = Model), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, description = "The model can't be loaded; what was served goes on", body = ErrorBody)),
)]
pub async fn load(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<LoadRequest>,
) -> Result<Answer<Model>, ApiError> {
    let wanted = Wanted {
        model: body.model,
        profile: body.profile,
        bits: body.bits,
        context_window: body.context_window,
        replaces: body.replaces,
        default: body.default.unwrap_or(false),
    };
    run(&app, &caller, wanted).await.map(Answer)
}

/// Gives a model up; replies that are being made are finished first.
#[utoipa::path(
    delete, path = "/v1/admin/models/{id}", tag = "administration", operation_id = "unloadModel",
    params(("id" = String, Path, description = "The model's id")),
    responses((status = 204, description = "Done"), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn unload(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    loader(&app, &caller)?.unload(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What could be loaded.
#[utoipa::path(
    get, path = "/v1/internal/model/list", tag = "webui", operation_id = "webuiModelList",
    responses((status = 200, body = WebuiModels), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn webui_list(State(app): State<App>, caller: Caller) -> Result<Answer<WebuiModels>, ApiError> {
    let (mut model_names, profiles) = loader(&app, &caller)?.available()?;
    let others = profiles.into_iter().filter(|profile| !model_names.contains(profile));
    model_names.extend(others.collect::<Vec<_>>());
    Ok(Answer(WebuiModels { model_names }))
}

/// Loads a model in the place of the default one.
#[utoipa::path(
    post, path = "/v1/internal/model/load", tag = "webui", operation_id = "webuiModelLoad",
    request_body = WebuiLoadRequest,
    responses((status = 200, description = "Done", body = String), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, description = "The model can't be loaded; what was served goes on", body = ErrorBody)),
)]
pub async fn webui_load(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<WebuiLoadRequest>,
) -> Result<Answer<&'static str>, ApiError> {
    let (_, profiles) = loader(&app, &caller)?.available()?;
    let named = Some(body.model_name);
    let is_profile = named.as_ref().is_some_and(|name| profiles.contains(name));
    let (profile, model) = if is_profile { (named, None) } else { (None, named) };
    let replaces = app.engine.models().into_iter().next().map(|info| info.id);
    let wanted = Wanted {
        model,
        profile,
        replaces,
        default: true,
        ..Wanted::default()
    };
    run(&app, &caller, wanted).await?;
    Ok(Answer("OK"))
}

/// Gives the default model up.
#[utoipa::path(
    post, path = "/v1/internal/model/unload", tag = "webui", operation_id = "webuiModelUnload",
    responses((status = 200, description = "Done", body = String), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn webui_unload(State(app): State<App>, caller: Caller) -> Result<Answer<&'static str>, ApiError> {
    let loader = loader(&app, &caller)?;
    if let Some(info) = app.engine.models().into_iter().next() {
        loader.unload(&info.id).await?;
    }
    Ok(Answer("OK"))
}

/// Loads in a task of its own, which outlives a client that leaves.
async fn run(app: &App, caller: &Caller, wanted: Wanted) -> Result<Model, ApiError> {
    let loader = Arc::clone(loader(app, caller)?);
    let loading = app.lifecycle.spawn(async move { loader.load(wanted).await });
    let loaded = loading.await.map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(loaded?.into())
}

/// The loader, for a caller who may use it.
fn loader<'a>(app: &'a App, caller: &Caller) -> Result<&'a Arc<Loader>, ApiError> {
    if !caller.admin {
        return Err(ApiError::forbidden("models are loaded and given up with an admin key"));
    }
    let none = || ApiError::not_found("this server runs no models of its own");
    app.loader.as_ref().ok_or_else(none)
}
