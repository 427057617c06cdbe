//! An upstream that thinks of nothing: what it says costs it nothing, so that what is measured is the gateway before it.
//!
//! A request says in its first message how it wants to be answered: `[[wait=20 pace=5]]` is 20 ms before anything and
//! 5 ms between events. A text is the only thing that every gateway passes on.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// The only model.
pub const MODEL: &str = "mock";
/// Events with text in a streamed reply, after the one with the role.
pub const DELTAS: usize = 64;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves until it is killed; its first line of output is its URL.
pub async fn run(bind: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(bind).await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(connection(stream));
    }
}

async fn connection(stream: TcpStream) {
    if stream.set_nodelay(true).is_ok() {
        let service = service_fn(answer);
        // A client that leaves is the client's business.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let reply = match path.as_str() {
        "/v1/chat/completions" => {
            let asked = Asked::read(&body);
            // A sleep of nothing takes a millisecond.
            if !asked.wait.is_zero() {
                tokio::time::sleep(asked.wait).await;
            }
            if asked.stream {
                response("text/event-stream", StreamBody::new(events(asked.pace)).boxed_unsync())
            } else {
                json(&whole())
            }
        }
        "/v1/models" => json(&format!(
            r#"{{"object":"list","data":[{{"id":"{MODEL}","object":"model","created":0,"owned_by":"bench","max_model_len":1000000}}]}}"#
        )),
        // What gateways ask before they trust a server.
        "/get_model_info" | "/model_info" | "/get_server_info" | "/server_info" => json(&format!(
            r#"{{"model_path":"{MODEL}","served_model_name":"{MODEL}","is_generation":true}}"#
        )),
        _ => json("{}"),
    };
    Ok(reply)
}

fn json(text: &str) -> Response<Body> {
    response(
        "application/json",
        Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync(),
    )
}

fn response(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// How a request wants to be answered.
struct Asked {
    stream: bool,
    wait: Duration,
    pace: Duration,
}

impl Asked {
    /// Looks for what it needs without parsing: a body may be large, and the mock must not be what is measured.
    fn read(body: &[u8]) -> Self {
        const LOOK: usize = 4096;
        let head = String::from_utf8_lossy(&body[..body.len().min(LOOK)]);
        let tail = String::from_utf8_lossy(&body[body.len().saturating_sub(LOOK)..]);
        let said = |what: &str| head.contains(what) || tail.contains(what);
        let number = |name: &str| {
            let (_, rest) = head.split_once("[[")?;
            let (inside, _) = rest.split_once("]]")?;
            let value = inside
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
            value.parse().ok().map(Duration::from_millis)
        };
        Self {
            stream: said("\"stream\":true") || said("\"stream\": true"),
            wait: number("wait").unwrap_or_default(),
            pace: number("pace").unwrap_or_default(),
        }
    }
}

fn whole() -> String {
    let text = " token".repeat(DELTAS);
    format!(
        r#"{{"id":"chatcmpl-mock","object":"chat.completion","created":1700000000,"model":"{MODEL}","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":16,"completion_tokens":{DELTAS},"total_tokens":80}}}}"#
    )
}

/// A pause after the first token: on a core that the client shares, it gets its turn before the rest is made.
const BREATH: Duration = Duration::from_millis(1);

/// Each event is a packet of its own, as those of a server are that makes one token after the other.
fn events(pace: Duration) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
    let chunk = |choice: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"{MODEL}\",\"choices\":[{choice}]{usage}}}\n\n"
        )
    };
    let choice = |delta: &str, reason: &str| {
        format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}"#)
    };
    let role = chunk(&choice(r#"{"role":"assistant","content":""}"#, "null"), "");
    let token = Bytes::from(chunk(&choice(r#"{"content":" token"}"#, "null"), ""));
    let end = chunk(&choice("{}", "\"stop\""), "");
    let usage = chunk(
        "",
        &format!(r#","usage":{{"prompt_tokens":16,"completion_tokens":{DELTAS},"total_tokens":80}}"#),
    );
    let all = std::iter::once(Bytes::from(role))
        .chain(std::iter::repeat_n(token, DELTAS))
        .chain([
            Bytes::from(end),
            Bytes::from(usage),
            Bytes::from_static(b"data: [DONE]\n\n"),
        ]);
    let placed = futures::stream::iter(all).enumerate();
    placed.then(move |(place, event)| async move {
        match place {
            _ if !pace.is_zero() => tokio::time::sleep(pace).await,
            2 => tokio::time::sleep(BREATH).await,
            _ => tokio::task::yield_now().await,
        }
        Ok(Frame::data(event))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_say_how_they_want_to_be_answered() {
        let asked = Asked::read(br#"{"messages":[{"role":"system","content":"[[wait=20 pace=5]]"}],"stream":true}"#);
        assert!(asked.stream);
        assert_eq!((asked.wait.as_millis(), asked.pace.as_millis()), (20, 5));
        let plain = Asked::read(br#"{"messages":[]}"#);
        assert!(!plain.stream && plain.wait.is_zero() && plain.pace.is_zero());
    }

    #[tokio::test]
    async fn a_stream_has_a_role_the_deltas_and_an_end() {
        let events: Vec<_> = events(Duration::ZERO).collect().await;
        // The role, the deltas, the reason, the usage, [DONE].
        assert_eq!(events.len(), DELTAS + 4);
    }
}
