//! A client that measures: one connection, one request after the other.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Where requests go, and with what.
#[derive(Debug, Clone)]
pub struct Target {
    /// `HOST:PORT`.
    authority: String,
    path: String,
    key: Option<HeaderValue>,
    /// Whether it understands Habit's own fields and headers.
    habit: bool,
}

impl Target {
    /// The server at this base URL, with or without `/v1`.
    pub fn new(url: &str, key: Option<&str>, habit: bool) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("`{url}` is not a URL"))?;
        anyhow::ensure!(
            uri.scheme_str() == Some("http"),
            "`{url}`: only http:// can be measured"
        );
        let authority = uri.authority().with_context(|| format!("`{url}` names no server"))?;
        let base = uri.path().trim_end_matches('/').trim_end_matches("/v1");
        let key = key
            .map(|key| HeaderValue::from_str(&format!("Bearer {key}")))
            .transpose()?;
        Ok(Self {
            authority: authority.to_string(),
            path: format!("{base}/v1/chat/completions"),
            key,
            habit,
        })
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Bytes of the request's body, about.
    pub bytes: usize,
    /// As server-sent events.
    pub stream: bool,
    /// Milliseconds before the upstream answers.
    pub wait_ms: u64,
    /// Milliseconds between events.
    pub pace_ms: u64,
    /// Whether Habit may record the turn.
    pub store: bool,
}

impl Shape {
    /// The body, as clients write it.
    fn body(&self, model: &str, habit: bool) -> Bytes {
        let Self {
            wait_ms,
            pace_ms,
            stream,
            ..
        } = self;
        let store = if habit && !self.store { ",\"store\":false" } else { "" };
        let head = format!(
            "{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"system\",\"content\":\"[[wait={wait_ms} pace={pace_ms}]]\"}},{{\"role\":\"user\",\"content\":\""
        );
        let tail = format!("\"}}],\"stream\":{stream}{store}}}");
        let words = "The quick brown fox jumps over the lazy dog. ";
        let fill = self.bytes.saturating_sub(head.len() + tail.len());
        let text = words.repeat(fill / words.len() + 1);
        Bytes::from(format!("{head}{}{tail}", &text[..fill]))
    }
}

/// How long a request took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// Until the first token (of a stream), or the first byte of the body.
    pub first: Duration,
    /// Until the last byte.
    pub whole: Duration,
}

/// An open connection.
pub struct Connection {
    target: Target,
    sender: SendRequest<Full<Bytes>>,
    body: Bytes,
    stream: bool,
}

impl Connection {
    /// Connects, and prepares the one request that it will send.
    pub async fn open(target: &Target, model: &str, shape: Shape) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(&target.authority)
            .await
            .with_context(|| format!("{} can't be reached", target.authority))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            target: target.clone(),
            sender,
            body: shape.body(model, target.habit),
            stream: shape.stream,
        })
    }

    /// Asks once and reads the whole reply.
    pub async fn ask(&mut self) -> anyhow::Result<Took> {
        let mut request = Request::post(&self.target.path)
            .header(HOST, &self.target.authority)
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.target.key {
            request = request.header(AUTHORIZATION, key);
        }
        if self.target.habit {
            request = request.header("x-habit-memory", "off");
        }
        let request = request.body(Full::new(self.body.clone()))?;
        self.sender.ready().await?;
        let began = Instant::now();
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let (mut first, mut bytes, mut tail) = (None, 0, Bytes::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            bytes += data.len();
            if !status.is_success() {
                anyhow::bail!("it answers {status}: {}", String::from_utf8_lossy(&data));
            }
            // The event with the role is no token.
            if first.is_none() && (!self.stream || holds(&data, b"token")) {
                first = Some(began.elapsed());
            }
            tail = data;
        }
        let whole = began.elapsed();
        anyhow::ensure!(status.is_success(), "it answers {status}");
        anyhow::ensure!(
            !self.stream || holds(&tail, b"[DONE]"),
            "a stream of {bytes} bytes has no end"
        );
        let first = first.context("a reply has no tokens")?;
        Ok(Took { first, whole })
    }
}

fn holds(data: &[u8], what: &[u8]) -> bool {
    data.windows(what.len()).any(|window| window == what)
}
