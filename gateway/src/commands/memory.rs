//! `habit memory`: what is known of a user, shown and changed.

use std::path::Path;

use anyhow::Context;
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::client::Connection;
use crate::cli::{Common, Memory};
use crate::wiring::Purpose;

/// Does one of them.
///
/// # Errors
/// With what to do about it.
pub async fn run(common: &Common, what: Memory) -> anyhow::Result<()> {
    let connection = Connection::open(common, what.target(), Purpose::Memory).await?;
    let result = act(&connection, &what).await;
    connection.close().await;
    result
}

async fn act(connection: &Connection, what: &Memory) -> anyhow::Result<()> {
    match what {
        Memory::List {
            status,
            as_of,
            conversation,
            limit,
            ..
        } => {
            let mut query = vec![("limit", limit.to_string())];
            match as_of {
                Some(as_of) => query.push(("as_of", as_of.clone())),
                None => query.push(("status", status.clone())),
            }
            query.extend(conversation.clone().map(|id| ("run_id", id)));
            let request = connection.request(Method::GET, "/v1/memories").query(&query);
            list(&connection.json(request).await?);
        }
        Memory::Search {
            query, as_of, limit, ..
        } => {
            let body = json!({"query": query.join(" "), "as_of": as_of, "top_k": limit});
            list(&post(connection, "/v1/memories/search", &body).await?);
        }
        Memory::Add {
            text,
            pin,
            team_wide,
            conversation,
            since,
            days,
            ..
        } => {
            let body = json!({
                "text": text.join(" "), "pinned": pin, "team_wide": team_wide, "run_id": conversation,
                "valid_from": since, "ttl_seconds": days.map(|days| u64::from(days) * 24 * 60 * 60),
            });
            added(&post(connection, "/v1/memories", &body).await?);
        }
        Memory::Show { id, .. } => {
            let memory = connection.json(connection.request(Method::GET, &one(id)?)).await?;
            println!("{}", serde_json::to_string_pretty(&memory)?);
        }
        Memory::Update { id, text, .. } => change(connection, id, &json!({"text": text.join(" ")})).await?,
        Memory::Pin { id, off, .. } => change(connection, id, &json!({"pinned": !off})).await?,
        Memory::Quarantine { id, .. } => change(connection, id, &json!({"status": "quarantined"})).await?,
        Memory::Restore { id, .. } => change(connection, id, &json!({"status": "active"})).await?,
        Memory::History { id, .. } => {
            let path = format!("{}/history", one(id)?);
            history(&connection.json(connection.request(Method::GET, &path)).await?);
        }
        Memory::Delete { ids, .. } => {
            for id in ids {
                connection.json(connection.request(Method::DELETE, &one(id)?)).await?;
                println!("{id} deleted");
            }
        }
        Memory::Forget {
            query,
            documents,
            limit,
            yes,
            ..
        } => {
            let mut what = vec!["memory", "turn"];
            what.extend(documents.then_some("document"));
            let concept = json!({"query": query.join(" "), "what": what, "limit": limit});
            forget(connection, &concept, *yes).await?;
        }
        Memory::Export {
            output, without_files, ..
        } => export(connection, output.as_deref(), *without_files).await?,
        Memory::Erase { confirm, team_wide, .. } => {
            let body = json!({"confirm": confirm, "team_wide": team_wide});
            let reply = post(connection, "/v1/memories/erase", &body).await?;
            println!(
                "{} turns, {} memories, {} documents and {} other things of {} are erased",
                reply["turns"],
                reply["memories"],
                reply["documents"],
                reply["objects"],
                text(&reply, "user_id")
            );
        }
    }
    Ok(())
}

/// The path of one memory; an id has nothing in it that would make another path.
fn one(id: &str) -> anyhow::Result<String> {
    let id = uuid::Uuid::parse_str(id.trim())
        .with_context(|| format!("`{id}` is no memory's id; `habit memory list` shows them"))?;
    Ok(format!("/v1/memories/{id}"))
}

async fn post(connection: &Connection, path: &str, body: &Value) -> anyhow::Result<Value> {
    connection.json(connection.request(Method::POST, path).json(body)).await
}

async fn change(connection: &Connection, id: &str, body: &Value) -> anyhow::Result<()> {
    let request = connection.request(Method::PATCH, &one(id)?).json(body);
    line(&connection.json(request).await?);
    Ok(())
}

async fn forget(connection: &Connection, concept: &Value, yes: bool) -> anyhow::Result<()> {
    let preview = post(connection, "/v1/memories/forget", concept).await?;
    let found = results(&preview);
    if found.is_empty() {
        eprintln!("memory finds nothing for this");
        return Ok(());
    }
    for item in found {
        println!(
            "{}  {:<8}  {}",
            text(item, "id"),
            text(item, "what"),
            text(item, "text")
        );
    }
    let more = preview["has_more"] == Value::Bool(true);
    if !yes {
        eprintln!(
            "nothing is deleted yet; the same with --yes deletes these {}",
            found.len()
        );
        if more {
            eprintln!("there are more: --limit 100 shows up to 100 of each sort");
        }
        return Ok(());
    }
    let gone = post(connection, "/v1/memories/forget", &json!({"token": preview["token"]})).await?;
    println!("{} deleted", results(&gone).len());
    if more {
        eprintln!("there are more: the same again finds them");
    }
    Ok(())
}

async fn export(connection: &Connection, output: Option<&Path>, without_files: bool) -> anyhow::Result<()> {
    let request = connection
        .request(Method::GET, "/v1/memories/export")
        .query(&[("files", !without_files)]);
    let response = connection.response(request).await?;
    let mut pieces = response.bytes_stream();
    let mut out: Box<dyn tokio::io::AsyncWrite + Unpin + Send> = match output {
        Some(path) => Box::new(
            tokio::fs::File::create(path)
                .await
                .with_context(|| format!("{} can't be written", path.display()))?,
        ),
        None => Box::new(tokio::io::stdout()),
    };
    while let Some(piece) = pieces.next().await {
        out.write_all(&piece.context("the export broke off: what was written is not all")?)
            .await?;
    }
    out.flush().await?;
    if let Some(path) = output {
        eprintln!("{} is written", path.display());
    }
    Ok(())
}

fn results(reply: &Value) -> &[Value] {
    reply["results"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn list(reply: &Value) {
    if results(reply).is_empty() {
        eprintln!("nothing is known; `habit memory add TEXT` remembers something");
    }
    results(reply).iter().for_each(line);
}

fn line(memory: &Value) {
    let day = text(memory, "valid_from").get(..10).unwrap_or_default();
    let until = text(memory, "valid_to").get(..10).unwrap_or("");
    let pin = if memory["pinned"] == Value::Bool(true) {
        "*"
    } else {
        " "
    };
    println!(
        "{}  {day:<10} {until:<10} {pin} {:<11}  {}",
        text(memory, "id"),
        text(memory, "status"),
        text(memory, "memory")
    );
}

fn added(reply: &Value) {
    for result in results(reply) {
        let how = if result["event"] == "ADD" {
            "remembered"
        } else {
            "known already"
        };
        println!("{}  {how}  {}", text(result, "id"), text(result, "memory"));
        for old in result["superseded"].as_array().into_iter().flatten() {
            println!("  in place of {}", old.as_str().unwrap_or_default());
        }
    }
}

fn history(events: &Value) {
    for event in events.as_array().into_iter().flatten() {
        let (old, new) = (text(event, "old_memory"), text(event, "new_memory"));
        let change = match (old.is_empty(), new.is_empty()) {
            (false, false) if old != new => format!("{old} -> {new}"),
            (_, false) => new.to_owned(),
            _ => old.to_owned(),
        };
        println!("{}  {:<9}  {change}", text(event, "created_at"), text(event, "event"));
    }
}
