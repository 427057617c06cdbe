//! The limits of keys that have any: counts requests and how many run, refuses what is too much, and says on every
//! counted reply how the key stands, in OpenAI's headers. Tokens are charged where turns are asked (`api/ask/charge.rs`).
//!
//! Counted is what makes work: every POST but the administrative ones.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::api::error::ApiError;
use crate::auth::Caller;
use crate::keys::Meter;
use crate::keys::meter::Slot;

/// Requests a minute.
pub const LIMIT_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
/// Requests that are left.
pub const REMAINING_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
/// Until all requests are there again.
pub const RESET_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");
/// Tokens a minute.
pub const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
/// Tokens that are left.
pub const REMAINING_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
/// Until all tokens are there again.
pub const RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");

/// The headers of requests, then those of tokens: limit, remaining, reset.
const HEADERS: [[HeaderName; 3]; 2] = [
    [LIMIT_REQUESTS, REMAINING_REQUESTS, RESET_REQUESTS],
    [LIMIT_TOKENS, REMAINING_TOKENS, RESET_TOKENS],
];

/// Routes by which limits are managed, among them those of the caller: an administrator must not lock himself out.
const ADMINISTRATION: [&str; 3] = ["/v1/keys", "/v1/admin", "/v1/reindex"];

/// Holds a caller to the limits of its key.
pub async fn limit(request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>();
    let Some(meter) = caller.and_then(|caller| caller.meter.clone()) else {
        return next.run(request).await;
    };
    let path = request.uri().path();
    if request.method() != Method::POST || ADMINISTRATION.iter().any(|prefix| path.starts_with(prefix)) {
        return next.run(request).await;
    }
    let mut response = match meter.begin(Instant::now()) {
        Ok(slot) => next
            .run(request)
            .await
            .map(|body| Body::new(Held { body, _slot: slot })),
        Err(reached) => ApiError::from(reached).into_response(),
    };
    show(&meter, response.headers_mut());
    response
}

fn show(meter: &Arc<Meter>, headers: &mut HeaderMap) {
    for (standing, names) in meter.standing(Instant::now()).into_iter().zip(HEADERS) {
        let Some(standing) = standing else { continue };
        let values = [
            standing.limit.to_string(),
            standing.remaining.to_string(),
            words(standing.reset),
        ];
        for (name, value) in names.into_iter().zip(values) {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
}

/// A time as OpenAI writes it in these headers: `120ms`, `1.5s`, `2m3s`.
fn words(time: Duration) -> String {
    // Rounded up: who comes then finds what is promised.
    let millis = time.as_nanos().div_ceil(1_000_000);
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    match (minutes, millis) {
        (0, 0..1000) => format!("{millis}ms"),
        (0, _) => format!("{}s", millis as f64 / 1000.0),
        _ => format!("{minutes}m{}s", millis as f64 / 1000.0),
    }
}

/// A body that keeps a request running until it has been sent, or its client has left.
struct Held {
    body: Body,
    _slot: Slot,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_openai_does() {
        for (millis, expected) in [
            (0, "0ms"),
            (6, "6ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (60_000, "1m0s"),
            (61_250, "1m1.25s"),
        ] {
            assert_eq!(words(Duration::from_millis(millis)), expected);
        }
        assert_eq!(words(Duration::from_micros(1)), "1ms");
    }
}
