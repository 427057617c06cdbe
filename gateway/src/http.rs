//! The HTTP stack: what every request passes before a handler sees it, and every reply before it leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use http::{HeaderName, HeaderValue, Method, header};
use tower::ServiceBuilder;
use tower::util::MapRequestLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use uuid::Uuid;

use crate::api::messages::error_shape;
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
        .layer(SetRequestIdLayer::new(X_REQUEST_ID, Uuid7::new()))
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
        .layer(from_fn_with_state(Arc::new(app), auth::authenticate))
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

/// Request ids that sort by time. They name requests in logs and are no secret: the random part is drawn from the system
/// once, and counted up from there, which spares each request two system calls.
#[derive(Debug, Clone)]
struct Uuid7 {
    next: Arc<AtomicU64>,
    process: u16,
}

impl Uuid7 {
    fn new() -> Self {
        let (_, random) = Uuid::now_v7().as_u64_pair();
        Self {
            next: Arc::new(AtomicU64::new(random)),
            process: random as u16,
        }
    }
}

impl MakeRequestId for Uuid7 {
    #[expect(
        clippy::disallowed_methods,
        reason = "an id's order, not a time that anything is decided by"
    )]
    fn make_request_id<B>(&mut self, _: &http::Request<B>) -> Option<RequestId> {
        let millis = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let mut random = [0; 10];
        random[..2].copy_from_slice(&self.process.to_be_bytes());
        random[2..].copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let id = uuid::Builder::from_unix_timestamp_millis(u64::try_from(millis).unwrap_or_default(), &random);
        let mut text = Uuid::encode_buffer();
        HeaderValue::try_from(&*id.into_uuid().hyphenated().encode_lower(&mut text))
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
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        // SDKs send headers of their own, more with each version; `*` would not cover `authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            X_REQUEST_ID,
            error_shape::REQUEST_ID,
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
