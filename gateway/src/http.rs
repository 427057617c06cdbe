//! The HTTP stack: what every request passes before a handler sees it, and every reply before it leaves.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use http::{HeaderName, HeaderValue, Method, header};
use tower::ServiceBuilder;
use tower::util::MapRequestLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use uuid::Uuid;

use crate::app::App;

pub mod auth;
mod body;
mod limit;
pub mod listen;
mod path;
mod shape;
mod trace;

/// Names a request in replies and logs.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The routes behind the whole stack.
pub fn stack(routes: Router, app: App) -> Router {
    let limit = app.config.server.body_limit;
    let cors = cors(&app.config.server.cors_origins);
    // Outermost first: a request passes from top to bottom, a reply from bottom to top.
    let layers = ServiceBuilder::new()
        // Everything below may name the request; so does every reply, whoever makes it.
        .layer(SetRequestIdLayer::new(X_REQUEST_ID, Uuid7))
        .layer(PropagateRequestIdLayer::new(X_REQUEST_ID))
        // One line a request, and the id on all lines that are logged below.
        .layer(from_fn(trace::trace))
        // A bug in a handler fails one request, not the connection.
        .layer(CatchPanicLayer::custom(shape::panicked))
        // Answers browsers' preflights, which carry no key: so it is above auth.
        .layer(cors)
        // Replies of libraries below become OpenAI's error shape.
        .layer(from_fn(shape::shape_errors))
        // One spelling of each path, so that auth and the routes see the same.
        .layer(MapRequestLayer::new(path::normalise))
        // From here on there is a caller.
        .layer(from_fn_with_state(app, auth::authenticate))
        // Knows the caller, and refuses before any work is done.
        .layer(from_fn(limit::limit))
        // Refuses by the announced length before anything is read.
        .layer(from_fn_with_state(limit, body::refuse_too_long))
        // gzip bodies are unpacked; the limit below counts what comes out.
        .layer(RequestDecompressionLayer::new())
        // Bounds what handlers read, whatever was announced.
        .layer(DefaultBodyLimit::max(limit));
    // Layers of a router run after routing, but the path must be normalised before: so the routes are the fallback of
    // an empty router that has the layers.
    Router::new().fallback_service(routes).layer(layers)
}

/// Request ids that sort by time.
#[derive(Debug, Clone, Copy)]
struct Uuid7;

impl MakeRequestId for Uuid7 {
    fn make_request_id<B>(&mut self, _: &http::Request<B>) -> Option<RequestId> {
        HeaderValue::try_from(Uuid::now_v7().to_string())
            .ok()
            .map(RequestId::new)
    }
}

/// Closed unless origins are configured.
fn cors(origins: &[String]) -> CorsLayer {
    if origins.is_empty() {
        return CorsLayer::new();
    }
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        // Named one by one: `*` does not cover `authorization`.
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::ACCEPT,
            HeaderName::from_static("x-api-key"),
            HeaderName::from_static("api-key"),
            HeaderName::from_static("x-habit-memory"),
            HeaderName::from_static("x-habit-conversation"),
            HeaderName::from_static("x-habit-priority"),
            X_REQUEST_ID,
        ])
        .expose_headers([
            X_REQUEST_ID,
            header::RETRY_AFTER,
            HeaderName::from_static("retry-after-ms"),
            limit::LIMIT_REQUESTS,
            limit::REMAINING_REQUESTS,
            limit::RESET_REQUESTS,
            limit::LIMIT_TOKENS,
            limit::REMAINING_TOKENS,
            limit::RESET_TOKENS,
            HeaderName::from_static("x-habit-turn"),
            HeaderName::from_static("x-habit-conversation"),
        ])
        .max_age(std::time::Duration::from_hours(1))
}
