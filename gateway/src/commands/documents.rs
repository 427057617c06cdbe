//! `habit documents`: list, search, delete.

use anyhow::Context;
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

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
        Documents::List { name, conversation, .. } => match name {
            Some(name) => list(&named(connection, name, conversation.as_ref()).await?),
            None => {
                let request = connection
                    .request(Method::GET, "/v1/documents")
                    .query(&in_conversation(conversation.as_ref()));
                list(data(&connection.json(request).await?));
            }
        },
        Documents::Search {
            query, conversation, ..
        } => {
            let body = json!({"query": query.join(" "), "conversation": conversation});
            let request = connection.request(Method::POST, "/v1/documents/search").json(&body);
            show(&connection.json(request).await?);
        }
        Documents::Delete {
            documents,
            conversation,
            ..
        } if documents.is_empty() => {
            let request = connection
                .request(Method::DELETE, "/v1/documents")
                .query(&in_conversation(conversation.as_ref()));
            let reply = connection.json(request).await?;
            println!("{} documents deleted", reply["deleted"].as_array().map_or(0, Vec::len));
        }
        Documents::Delete {
            documents,
            conversation,
            ..
        } => {
            for document in documents {
                let id = match Uuid::parse_str(document) {
                    Ok(id) => id,
                    Err(_) => only(connection, document, conversation.as_ref()).await?,
                };
                let path = format!("/v1/documents/{id}");
                let request = connection
                    .request(Method::DELETE, &path)
                    .query(&in_conversation(conversation.as_ref()));
                connection.json(request).await?;
                println!("{document} deleted");
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

/// The documents of this name; there is at least one.
async fn named(connection: &Connection, name: &str, conversation: Option<&String>) -> anyhow::Result<Vec<Value>> {
    let mut query = in_conversation(conversation);
    query.push(("name", name));
    let request = connection.request(Method::GET, "/v1/documents").query(&query);
    let found = data(&connection.json(request).await?).to_vec();
    anyhow::ensure!(
        !found.is_empty(),
        "no document is called `{name}`; `habit documents list` shows what there is"
    );
    Ok(found)
}

/// The id of the one document of this name, of the conversation's own if one is named.
async fn only(connection: &Connection, name: &str, conversation: Option<&String>) -> anyhow::Result<Uuid> {
    let mut found = named(connection, name, conversation).await?;
    if conversation.is_some() {
        found.retain(|document| document["place"] == "conversation");
    }
    let ids: Vec<&str> = found.iter().filter_map(|document| document["id"].as_str()).collect();
    match ids.as_slice() {
        [id] => Uuid::parse_str(id).context("the server gives documents other ids; is it a Habit server?"),
        [] => anyhow::bail!("no document of this conversation is called `{name}`"),
        several => anyhow::bail!(
            "several are called `{name}`; name one by its id: {}",
            several.join(", ")
        ),
    }
}

fn data(reply: &Value) -> &[Value] {
    reply["data"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn list(documents: &[Value]) {
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
    let passages = data(reply);
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
