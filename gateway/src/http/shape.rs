//! Errors that are made outside of handlers (by extractors, by libraries, by panics) in OpenAI's shape.

use std::any::Any;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::api::error::ApiError;
use crate::api::messages::error_shape::{is_ours, reshape};

/// Bytes of a library's message that are kept.
const MESSAGE_LIMIT: usize = 4096;

/// A panic's reply. The message may hold anything, so it goes to the log only.
#[expect(clippy::needless_pass_by_value, reason = "the signature that CatchPanicLayer calls")]
pub fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!("a handler panicked: {}", text.unwrap_or("without a message"));
    ApiError::internal("something went wrong here; the log has the details under this request's x-request-id")
        .into_response()
}

/// Gives error replies that are not JSON the shape of all others; and, on Anthropic's routes, all of them their shape.
pub async fn shape_errors(request: Request, next: Next) -> Response {
    let anthropic = is_ours(request.uri().path()).then(|| request.headers().clone());
    let response = shaped(next.run(request).await).await;
    match anthropic {
        Some(headers) => reshape(&headers, response).await,
        None => response,
    }
}

async fn shaped(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if !is_error || kind.starts_with("application/json") || kind.starts_with("text/event-stream") {
        return response;
    }
    let text = to_bytes(response.into_body(), MESSAGE_LIMIT).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let text = if text.trim().is_empty() {
        status.canonical_reason().unwrap_or("error")
    } else {
        text.trim()
    };
    from_status(status, text).into_response()
}

fn from_status(status: StatusCode, message: &str) -> ApiError {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(None),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::unsupported_media_type(format!(
            "{message}: send JSON (or multipart/form-data for documents), plain or packed with gzip"
        )),
        StatusCode::NOT_FOUND => ApiError::not_found(message),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => ApiError::invalid(message, None),
        _ => ApiError::new(status, status.as_str().to_owned(), message),
    }
}
