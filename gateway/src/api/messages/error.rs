//! Errors in Anthropic's shape: `{"type":"error","error":{"type","message"},"request_id"}`. Handlers make the same
//! errors as everywhere; on these routes they are turned into this shape on their way out.

use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::error::ApiError;

/// The header in which Anthropic's SDKs look for the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// The longest error, in bytes.
const LONGEST: usize = 64 * 1024;

/// The body of an error on Anthropic's routes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AnthropicError {
    /// `error`.
    pub r#type: &'static str,
    /// The error.
    pub error: AnthropicErrorDetail,
    /// As in the header `x-request-id`.
    pub request_id: Option<String>,
}

/// What an error says.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AnthropicErrorDetail {
    /// A family of errors.
    #[schema(example = "invalid_request_error")]
    pub r#type: &'static str,
    /// What is wrong and what to do, for people.
    pub message: String,
}

fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        status if status.is_server_error() => "api_error",
        _ => "invalid_request_error",
    }
}

impl AnthropicError {
    /// The same error in this shape.
    #[must_use]
    pub fn new(status: StatusCode, message: String, request_id: Option<String>) -> Self {
        let error = AnthropicErrorDetail {
            r#type: kind(status),
            message,
        };
        Self {
            r#type: "error",
            error,
            request_id,
        }
    }
}

impl From<&ApiError> for AnthropicError {
    fn from(error: &ApiError) -> Self {
        Self::new(error.status, error.message.clone(), None)
    }
}

/// Whether a path belongs to these routes, in whatever spelling.
#[must_use]
pub fn is_ours(path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let first = segments.next();
    let first = if first == Some("v1") { segments.next() } else { first };
    first == Some("messages")
}

/// Gives a reply on these routes what Anthropic's clients look for: the request's id, and errors in their shape.
pub async fn reshape(request: &HeaderMap, response: Response) -> Response {
    let id = request.get("x-request-id").cloned();
    let status = response.status();
    let (mut parts, body) = response.into_parts();
    if let Some(id) = id.clone() {
        parts.headers.insert(REQUEST_ID, id);
    }
    if !status.is_client_error() && !status.is_server_error() {
        return Response::from_parts(parts, body);
    }
    let body = to_bytes(body, LONGEST).await.unwrap_or_default();
    let said = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let message = said["error"]["message"]
        .as_str()
        .unwrap_or("something went wrong")
        .to_owned();
    let id = id.and_then(|id: HeaderValue| id.to_str().ok().map(str::to_owned));
    let error = AnthropicError::new(status, message, id);
    let body = serde_json::to_vec(&error).unwrap_or_else(|_| json!({"type": "error"}).to_string().into_bytes());
    parts.headers.remove(CONTENT_LENGTH);
    parts
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_known_in_every_spelling() {
        for path in [
            "/v1/messages",
            "/messages",
            "//v1//messages/",
            "/v1/messages/count_tokens",
        ] {
            assert!(is_ours(path), "{path}");
        }
        for path in ["/", "/v1", "/v1/models/messages", "/v1/message"] {
            assert!(!is_ours(path), "{path}");
        }
    }
}
