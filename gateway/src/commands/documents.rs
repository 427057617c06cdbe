//! `habit documents`: list, search, delete.

use http::Method;
use serde_json::{Value, json};

use super::client::Connection;
use super::keys::date;
use crate::cli::{Common, Documents, Target};
use crate::wiring::Purpose;

/// Lists, searches or deletes documents.
///
/// # Errors
/// With what to do about it.
pub async fn run(common: &Common, what: Documents) -> anyhow::Result<()> {
    let (Documents::List { target, .. } | Documents::Search { target, .. } | Documents::Delete { target, .. }) = &what;
    let connection = open(common, target).await?;
    let result = act(&connection, &what).await;
    connection.close().await;
    result
}

async fn open(common: &Common, target: &Target) -> anyhow::Result<Connection> {
    Connection::open(common, target, Purpose::Memory).await
}

async fn act(connection: &Connection, what: &Documents) -> anyhow::Result<()> {
    match what {
        Documents::List { conversation, .. } => {
            let request = connection
                .request(Method::GET, "/v1/documents")
                .query(&in_conversation(conversation.as_ref()));
            list(&connection.json(request).await?);
        }
        Documents::Search {
            query, conversation, ..
        } => {
            let body = json!({"query": query.join(" "), "conversation": conversation});
            let request = connection.request(Method::POST, "/v1/documents/search").json(&body);
            show(&connection.json(request).await?);
        }
        Documents::Delete { ids, conversation, .. } if ids.is_empty() => {
            let request = connection
                .request(Method::DELETE, "/v1/documents")
                .query(&in_conversation(conversation.as_ref()));
            let reply = connection.json(request).await?;
            println!("{} documents deleted", reply["deleted"].as_array().map_or(0, Vec::len));
        }
        Documents::Delete { ids, conversation, .. } => {
            for id in ids {
                let path = format!("/v1/documents/{id}");
                let request = connection
                    .request(Method::DELETE, &path)
                    .query(&in_conversation(conversation.as_ref()));
                connection.json(request).await?;
                println!("{id} deleted");
            }
        }
    }
    Ok(())
}

fn in_conversation(conversation: Option<&String>) -> Vec<(&'static str, &str)> {
    conversation
        .into_iter()
        .map(|id| ("conversation", id.as_str()))
        .collect()
}

fn list(reply: &Value) {
    let documents = reply["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if documents.is_empty() {
        eprintln!("there are no documents; `habit ingest FILE` gives memory one");
    }
    for document in documents {
        let text = |field: &str| document[field].as_str().unwrap_or_default();
        let day = date(document["ingested_at"].as_i64().unwrap_or_default());
        let (id, place, name) = (text("id"), text("place"), text("name"));
        println!("{id}  {day}  {place:<12}  {:>5} passages  {name}", document["chunks"]);
    }
}

fn show(reply: &Value) {
    let passages = reply["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if passages.is_empty() {
        eprintln!("nothing in the documents fits");
    }
    for passage in passages {
        let label = passage["citation"]["label"].as_str().unwrap_or_default();
        let text = passage["text"].as_str().unwrap_or_default();
        println!(
            "{label}  (score {:.2})\n{text}\n",
            passage["score"].as_f64().unwrap_or_default()
        );
    }
}
