//! The ways from a tool to the API: the routes of this process, or a server that a command found.

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use serde_json::Value;
use tower::ServiceExt;

use crate::auth::Caller;

/// Bytes of a reply that are read.
const REPLY_LIMIT: usize = 16 << 20;

/// A way to this server's API.
#[async_trait]
pub trait Door: Send + Sync {
    /// Sends a request, as this caller where one is known, and gives the reply's JSON.
    ///
    /// # Errors
    /// The API's own message.
    async fn call(
        &self,
        caller: Option<&Caller>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String>;
}

/// The handlers of this process, behind the HTTP stack: a request to a tool has passed it already.
pub struct Routes(pub Router);

#[async_trait]
impl Door for Routes {
    async fn call(
        &self,
        caller: Option<&Caller>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        let mut request = Request::builder().method(method).uri(path);
        // Without a caller the handlers refuse.
        if let Some(caller) = caller {
            request = request.extension(caller.clone());
        }
        let request = match body {
            Some(body) => request
                .header(CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        let request = request.map_err(|error| error.to_string())?;
        let response = match self.0.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status();
        let bytes = to_bytes(response.into_body(), REPLY_LIMIT)
            .await
            .map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() {
            return Ok(value);
        }
        let said = value["error"]["message"].as_str();
        Err(said.map_or_else(|| status.to_string(), str::to_owned))
    }
}
