//! A small OpenAI-compatible server over any engine, for tests of what talks to one: HTTP/1.1 by hand, one request a
//! connection, so that every byte on the wire is the test's own.

use std::sync::Arc;

use futures::StreamExt;
use habit_engine::{ChatRequest, Delta, Engine, EngineError, Message};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves until the test ends; gives the base URL.
pub async fn serve(engine: Arc<dyn Engine>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let engine = Arc::clone(&engine);
            // A client that hangs up breaks its own connection only.
            tokio::spawn(async move { answer(socket, &*engine).await.ok() });
        }
    });
    format!("http://{address}")
}

async fn answer(mut socket: TcpStream, engine: &dyn Engine) -> std::io::Result<()> {
    let (head, body) = read_request(&mut socket).await?;
    if head.starts_with("GET /v1/models ") {
        let data: Vec<Value> = engine
            .models()
            .iter()
            .map(|info| json!({"id": info.id, "object": "model", "owned_by": "habit", "context_window": info.context_window}))
            .collect();
        return send(&mut socket, 200, &json!({"object": "list", "data": data})).await;
    }
    let request = ChatRequest {
        model: body["model"].as_str().unwrap_or_default().into(),
        messages: serde_json::from_value::<Vec<Message>>(body["messages"].clone()).unwrap(),
        stop: serde_json::from_value(body["stop"].clone()).unwrap_or_default(),
        max_tokens: body["max_tokens"].as_u64().map(|n| n as usize),
        ..ChatRequest::default()
    };
    match engine.chat(request).await {
        Ok(mut stream) => {
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: ping\n\n")
                .await?;
            while let Some(item) = stream.next().await {
                for chunk in chunks(item) {
                    socket.write_all(format!("data: {chunk}\n\n").as_bytes()).await?;
                }
            }
            socket.write_all(b"data: [DONE]\n\n").await?;
            socket.shutdown().await
        }
        Err(error) => {
            let (status, code) = match error {
                EngineError::UnknownModel { .. } => (404, "model_not_found"),
                EngineError::ContextLengthExceeded { .. } => (400, "context_length_exceeded"),
                EngineError::Overloaded { .. } => (429, "rate_limit_exceeded"),
                _ => (503, "unavailable"),
            };
            let error = json!({"error": {"message": error.to_string(), "type": "e", "param": null, "code": code}});
            send(&mut socket, status, &error).await
        }
    }
}

fn chunks(item: Result<Delta, EngineError>) -> Vec<Value> {
    match item {
        Ok(Delta::Text(text)) => vec![json!({"choices": [{"index": 0, "delta": {"content": text}}]})],
        Ok(Delta::Finish { reason, usage }) => vec![
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason.as_str()}], "usage": null}),
            json!({"choices": [], "usage": {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}}),
        ],
        // Not part of OpenAI's chunks.
        Ok(Delta::StopString(_)) => vec![],
        Ok(other) => panic!("the scripted engine never gives {other:?}"),
        Err(error) => vec![json!({"error": {"message": error.to_string()}})],
    }
}

async fn read_request(socket: &mut TcpStream) -> std::io::Result<(String, Value)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head
        .to_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    while bytes.len() < end + length.unwrap_or(0) {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((head, serde_json::from_slice(&bytes[end..]).unwrap_or_default()))
}

async fn send(socket: &mut TcpStream, status: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await?;
    socket.shutdown().await
}
