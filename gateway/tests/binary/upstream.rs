//! A small OpenAI-compatible server in the test's process: the upstream of tests that need many or slow replies,
//! where a real model would only cost time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// Words of every reply.
pub const WORDS: [&str; 6] = ["Thank", " you,", " I", " will", " note", " that."];

/// The server; it ends with the test's runtime.
pub struct Upstream {
    /// The base URL.
    pub url: String,
    /// A permit is taken for each word; closed means that words come at once.
    pub gate: Arc<Semaphore>,
}

impl Upstream {
    /// Replies at once.
    pub async fn start() -> Self {
        let upstream = Self::start_gated().await;
        upstream.gate.close();
        upstream
    }

    /// Replies at once, at this address.
    #[allow(dead_code, reason = "not every binary of tests needs it")]
    pub async fn start_at(address: std::net::SocketAddr) -> Self {
        let upstream = Self::listen(address).await;
        upstream.gate.close();
        upstream
    }

    /// Sends a word for each permit that the test adds to `gate`.
    pub async fn start_gated() -> Self {
        Self::listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    async fn listen(address: std::net::SocketAddr) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let app = Router::new()
            .route("/v1/models", get(models))
            .route("/v1/chat/completions", post(chat))
            .with_state(Arc::clone(&gate));
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, gate }
    }
}

async fn models() -> Json<Value> {
    Json(json!({"object": "list", "data": [{"id": "talker", "object": "model", "max_model_len": 8192}]}))
}

async fn chat(
    State(gate): State<Arc<Semaphore>>,
    Json(_): Json<Value>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let words = futures::stream::iter(WORDS).then(move |word| {
        let gate = Arc::clone(&gate);
        async move {
            if let Ok(permit) = gate.acquire().await {
                permit.forget();
            }
            Ok(chunk(
                &json!({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": null}]}),
            ))
        }
    });
    let end = [
        Ok(chunk(
            &json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
        )),
        Ok(chunk(
            &json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 6, "total_tokens": 16}}),
        )),
        Ok(Event::default().data("[DONE]")),
    ];
    Sse::new(words.chain(futures::stream::iter(end)))
        .keep_alive(axum::response::sse::KeepAlive::new().interval(Duration::from_secs(5)))
}

fn chunk(body: &Value) -> Event {
    Event::default().data(body.to_string())
}
