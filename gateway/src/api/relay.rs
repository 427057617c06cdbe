//! Replies that an upstream wrote in the client's own language, passed on byte by byte. Who may be answered so, and
//! what is read of it on the way, is the engine's business (`habit_engine::worker`); this is only the last step.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{FutureExt, Stream, StreamExt};
use habit_engine::Delta;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::time::Sleep;

use super::ask::replies::{Pieces, unfinished};
use super::error::ApiError;
use super::sse::NO_BUFFERING;

/// What every stream ends with.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// A whole reply.
pub fn json(mut written: Vec<Bytes>) -> Response {
    let body = match written.len() {
        1 => written.swap_remove(0),
        _ => Bytes::from(written.concat()),
    };
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// A stream, with a `: ping` comment after every silence of `ping_every`. Dropping it drops the reply.
pub fn events(pieces: Pieces, ping_every: Duration) -> Response {
    let body = Body::from_stream(Relay {
        pieces: Some(pieces),
        heard: Instant::now(),
        ping_every,
        silence: Box::pin(tokio::time::sleep(ping_every)),
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        NO_BUFFERING,
    ];
    (headers, body).into_response()
}

/// The bytes of a stream.
struct Relay {
    /// `None` when the end has been sent.
    pieces: Option<Pieces>,
    heard: Instant,
    ping_every: Duration,
    /// Looked at only when it is over: events need not touch the timer.
    silence: Pin<Box<Sleep>>,
}

impl Stream for Relay {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(pieces) = &mut this.pieces else {
            return Poll::Ready(None);
        };
        while let Poll::Ready(item) = pieces.poll_next_unpin(cx) {
            let end = match item {
                // The mark that a reply is relayed.
                Some((_, Ok(delta))) if delta.is_mark() => continue,
                Some((_, Ok(Delta::Written(piece)))) => {
                    this.heard = Instant::now();
                    return Poll::Ready(Some(Ok(piece)));
                }
                Some((_, Ok(Delta::Finish { .. }))) => Bytes::from_static(DONE),
                Some((_, Err(error))) => broken(&error),
                Some((_, Ok(_))) | None => broken(&unfinished().into()),
            };
            this.pieces = None;
            return Poll::Ready(Some(Ok(end)));
        }
        while this.silence.poll_unpin(cx).is_ready() {
            let due = this.heard + this.ping_every;
            let now = Instant::now();
            if due > now {
                this.silence.as_mut().reset(due.into());
                continue;
            }
            this.heard = now;
            this.silence.as_mut().reset((now + this.ping_every).into());
            return Poll::Ready(Some(Ok(Bytes::from_static(b": ping\n\n"))));
        }
        Poll::Pending
    }
}

/// The error as the last event.
fn broken(error: &ApiError) -> Bytes {
    tracing::warn!(error.code = %error.code, "a stream broke off: {}", error.message);
    let mut event = BytesMut::from(&b"event: error\ndata: "[..]);
    // Strings and an option always serialise.
    let json = serde_json::to_vec(&error.body()).unwrap_or_default();
    event.put_slice(&json);
    event.put_slice(b"\n\n");
    event.freeze()
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use habit_engine::{EngineError, FinishReason, Usage};
    use http_body_util::BodyExt;

    use super::*;

    fn written(text: &'static str) -> (usize, Result<Delta, ApiError>) {
        (0, Ok(Delta::Written(Bytes::from_static(text.as_bytes()))))
    }

    async fn text(pieces: Vec<(usize, Result<Delta, ApiError>)>) -> String {
        let body = events(stream::iter(pieces).boxed(), Duration::from_mins(1)).into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn bytes_pass_and_the_end_is_added() {
        let finish = Delta::Finish {
            reason: FinishReason::Stop,
            usage: Usage::default(),
        };
        let pieces = vec![written(""), written("data: {\"x\": 1}\n\n"), (0, Ok(finish))];
        assert_eq!(text(pieces).await, "data: {\"x\": 1}\n\ndata: [DONE]\n\n");
    }

    #[tokio::test]
    async fn an_error_is_an_event_and_nothing_follows_it() {
        let gone = ApiError::from(EngineError::Interrupted("gone".into()));
        for pieces in [
            vec![written("data: a\n\n"), (0, Err(gone)), written("data: b\n\n")],
            vec![written("data: a\n\n")],
        ] {
            let text = text(pieces).await;
            let data = text.strip_prefix("data: a\n\nevent: error\ndata: ").unwrap();
            let error: serde_json::Value = serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap();
            assert_eq!(error["error"]["code"], "reply_interrupted");
        }
    }

    #[tokio::test]
    async fn a_silent_stream_pings() {
        let pieces = stream::iter([written("data: a\n\n")]).chain(stream::pending()).boxed();
        let mut body = events(pieces, Duration::from_millis(5)).into_body();
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(
            [&*seen[0], &*seen[1], &*seen[2]],
            [b"data: a\n\n".as_slice(), b": ping\n\n", b": ping\n\n"]
        );
    }
}
