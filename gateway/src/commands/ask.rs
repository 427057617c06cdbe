//! `habit ask`: one question, one answer.

use std::io::Write;

use futures::StreamExt;
use habit_engine::worker::{Worker, WorkerOptions};
use habit_engine::{ChatRequest, Delta, Engine, Message, Role, Sampling};
use serde_json::json;

use super::client::Connection;
use crate::cli::{Ask, Asking, Common};
use crate::wiring::Purpose;

/// Asks, and prints the answer as it comes.
///
/// # Errors
/// With what to do about it.
pub async fn run(common: &Common, flags: Ask) -> anyhow::Result<()> {
    let connection = Connection::open(common, &flags.target, Purpose::Gateway).await?;
    let result = ask(&connection, &flags).await;
    connection.close().await;
    result
}

async fn ask(connection: &Connection, flags: &Ask) -> anyhow::Result<()> {
    let messages = vec![Message::new(Role::User, flags.question.join(" "))];
    let request = request(&flags.asking, messages, flags.conversation.as_deref());
    print_reply(&engine(connection).await?, request).await.map(drop)
}

/// The server as an engine: the same client that a gateway uses for its upstreams.
pub(super) async fn engine(connection: &Connection) -> anyhow::Result<Worker> {
    let options = WorkerOptions {
        base_url: connection.url.clone(),
        api_key: connection.key.clone(),
        name: "habit".to_owned(),
        ..WorkerOptions::default()
    };
    let worker = Worker::new(options)?;
    worker.connect().await?;
    Ok(worker)
}

pub(super) fn request(asking: &Asking, messages: Vec<Message>, conversation: Option<&str>) -> ChatRequest {
    let mut request = ChatRequest {
        model: asking.model.clone().unwrap_or_default(),
        messages,
        sampling: Sampling {
            temperature: Some(asking.temperature),
            ..Sampling::default()
        },
        max_tokens: Some(asking.max_tokens),
        ..ChatRequest::default()
    };
    if let Some(id) = conversation {
        request
            .extra
            .insert("metadata".to_owned(), json!({"conversation_id": id}));
    }
    request
}

/// Prints a reply as it comes; returns its text.
pub(super) async fn print_reply(engine: &Worker, mut request: ChatRequest) -> anyhow::Result<String> {
    request.model = engine.resolve(&request.model);
    let mut deltas = engine.chat(request).await?;
    let (mut out, mut text) = (std::io::stdout(), String::new());
    while let Some(delta) = deltas.next().await {
        if let Delta::Text(piece) = delta? {
            write!(out, "{piece}")?;
            out.flush()?;
            text.push_str(&piece);
        }
    }
    writeln!(out)?;
    Ok(text)
}
