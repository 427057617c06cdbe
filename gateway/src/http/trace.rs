//! One readable line a request, and its id on every line that is logged while it is handled.

use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tower_http::request_id::RequestId;
use tracing::Instrument;

/// Logs a request at debug when its reply begins. What went wrong is logged where it is known, not again here.
pub async fn trace(request: Request, next: Next) -> Response {
    let id = request
        .extensions()
        .get::<RequestId>()
        .and_then(|id| id.header_value().to_str().ok())
        .unwrap_or("-");
    let span = tracing::info_span!("request", id);
    // Only the path: a query may hold what people typed.
    let line =
        tracing::enabled!(tracing::Level::DEBUG).then(|| format!("{} {}", request.method(), request.uri().path()));
    let began = Instant::now();
    async move {
        let response = next.run(request).await;
        if let Some(line) = line {
            let ms = began.elapsed().as_secs_f64() * 1e3;
            tracing::debug!(
                http.status = response.status().as_u16(),
                "{line} answered {} in {ms:.1} ms",
                response.status()
            );
        }
        response
    }
    .instrument(span)
    .await
}
