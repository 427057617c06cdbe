//! Bodies that announce themselves as too long are refused unread.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_LENGTH;

use crate::api::error::ApiError;

/// 413 if `content-length` is over the limit (in bytes).
pub async fn refuse_too_long(State(limit): State<usize>, request: Request, next: Next) -> Response {
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit as u64) {
        return ApiError::too_large(Some(limit)).into_response();
    }
    next.run(request).await
}
