//! The tools over streamable HTTP.

use std::sync::Arc;

use axum::Router;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio_util::sync::CancellationToken;

use super::Tools;
use super::door::Routes;

/// A service for one path, over the handlers of these routes.
pub fn service(
    routes: Router,
    body_limit: usize,
    stop: CancellationToken,
) -> StreamableHttpService<Tools, LocalSessionManager> {
    let tools = Tools::new(Arc::new(Routes(routes)));
    let mut config = StreamableHttpServerConfig::default();
    // Nothing is kept between requests: each carries its key, and may meet another gateway.
    config.legacy_session_mode = false;
    config.json_response = true;
    config.max_request_body_bytes = body_limit;
    config.cancellation_token = stop;
    // Keys, and the check of hosts and origins where none are asked for, are the HTTP stack's business.
    config.allowed_hosts = Vec::new();
    StreamableHttpService::new(move || Ok(tools.clone()), Arc::default(), config)
}
