//! The table of URLs. All of it also answers without `/v1`, and with slashes too many (see `http/path.rs`).

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::{Method, Uri, header};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::error::ApiError;
use crate::api::{
    admin, chat, completions, conversations, documents, downtime, embeddings, feedback, files, fine_tuning, health,
    keys, learning, loading, memories, messages, models, rerank, responses, tokenize, turns, vector_stores, webui,
};
use crate::app::App;
use crate::{http as stack, mcp, openapi};

/// Memory as tools; not in the API's description, since MCP describes itself.
const MCP: &str = "/v1/mcp";

/// Everything that this server answers, behind the whole HTTP stack.
pub fn router(app: App) -> Router {
    let (routes, _) = table().split_for_parts();
    let handlers = routes.with_state(app.clone());
    let tools = mcp::serve::service(
        handlers.clone(),
        app.config.server.body_limit,
        app.lifecycle.soft().clone(),
    );
    let routes = handlers
        .route_service(MCP, tools)
        .route("/openapi.yaml", axum::routing::get(document))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method);
    stack::stack(routes, app)
}

/// The documentation of all routes.
#[must_use]
pub fn documented() -> OpenApi {
    openapi::with_errors(table().split_for_parts().1)
}

fn table() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(chat::completions))
        .routes(routes!(completions::completions))
        .routes(routes!(embeddings::embed))
        .routes(routes!(rerank::rerank))
        .routes(routes!(tokenize::tokenize))
        .routes(routes!(tokenize::detokenize))
        .routes(routes!(responses::create))
        .routes(routes!(responses::input_tokens))
        .routes(routes!(responses::get, responses::delete))
        .routes(routes!(responses::cancel))
        .routes(routes!(responses::input_items))
        .routes(routes!(conversations::create))
        .routes(routes!(
            conversations::get,
            conversations::update,
            conversations::delete
        ))
        .routes(routes!(conversations::list_items, conversations::add_items))
        .routes(routes!(conversations::get_item, conversations::delete_item))
        .routes(routes!(messages::create))
        .routes(routes!(messages::count_tokens))
        .routes(routes!(models::list))
        .routes(routes!(models::get))
        .routes(routes!(turns::list))
        .routes(routes!(turns::get, turns::delete))
        .routes(routes!(documents::list, documents::upload, documents::clear))
        .routes(routes!(documents::get, documents::delete))
        .routes(routes!(documents::search))
        .routes(routes!(memories::add, memories::list, memories::delete_all))
        .routes(routes!(
            memories::get,
            memories::update,
            memories::patch,
            memories::delete
        ))
        .routes(routes!(memories::history))
        .routes(routes!(memories::search))
        .routes(routes!(memories::filtered))
        .routes(routes!(memories::ping))
        .routes(routes!(memories::whole::forget))
        .routes(routes!(memories::whole::export))
        .routes(routes!(memories::whole::erase))
        .routes(routes!(memories::whole::rules, memories::whole::set_rule))
        .routes(routes!(feedback::list, feedback::give))
        .routes(routes!(feedback::delete))
        .routes(routes!(learning::lineage))
        .routes(routes!(learning::examples))
        .routes(routes!(learning::export))
        .routes(routes!(learning::runs::list, learning::runs::start))
        .routes(routes!(learning::runs::get))
        .routes(routes!(learning::runs::cancel))
        .routes(routes!(learning::runs::rollback))
        .routes(routes!(learning::runs::promote))
        .routes(routes!(learning::runs::status))
        .routes(routes!(fine_tuning::list, fine_tuning::create))
        .routes(routes!(fine_tuning::get))
        .routes(routes!(fine_tuning::cancel))
        .routes(routes!(fine_tuning::events))
        .routes(routes!(fine_tuning::checkpoints))
        .routes(routes!(files::list, files::upload))
        .routes(routes!(files::get, files::delete))
        .routes(routes!(files::content))
        .routes(routes!(vector_stores::list, vector_stores::create))
        .routes(routes!(
            vector_stores::get,
            vector_stores::update,
            vector_stores::delete
        ))
        .routes(routes!(vector_stores::search))
        .routes(routes!(vector_stores::files::list, vector_stores::files::attach))
        .routes(routes!(
            vector_stores::files::get,
            vector_stores::files::update,
            vector_stores::files::detach
        ))
        .routes(routes!(vector_stores::files::content))
        .routes(routes!(vector_stores::files::create_batch))
        .routes(routes!(vector_stores::files::get_batch))
        .routes(routes!(vector_stores::files::cancel_batch))
        .routes(routes!(vector_stores::files::batch_files))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::reindex))
        .routes(routes!(admin::queue))
        .routes(routes!(downtime::status))
        .routes(routes!(downtime::run))
        .routes(routes!(downtime::runs))
        .routes(routes!(downtime::get))
        .routes(routes!(downtime::cancel))
        .routes(routes!(downtime::resume))
        .routes(routes!(downtime::undo))
        .routes(routes!(admin::reload))
        .routes(routes!(webui::encode))
        .routes(routes!(webui::decode))
        .routes(routes!(webui::token_count))
        .routes(routes!(webui::logits))
        .routes(routes!(webui::chat_prompt))
        .routes(routes!(webui::stop_generation))
        .routes(routes!(webui::model_info))
        .routes(routes!(loading::list, loading::load))
        .routes(routes!(loading::unload))
        .routes(routes!(loading::webui_list))
        .routes(routes!(loading::webui_load))
        .routes(routes!(loading::webui_unload))
        .routes(routes!(webui::lora_list))
        .routes(routes!(webui::health))
        .routes(routes!(health::health))
}

/// The API's description; not in itself.
async fn document() -> Result<Response, ApiError> {
    let yaml = openapi::yaml().map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/yaml")], yaml).into_response())
}

async fn no_such_route(method: Method, uri: Uri) -> ApiError {
    ApiError::unknown_route(&method, uri.path())
}

async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(&method, uri.path())
}
