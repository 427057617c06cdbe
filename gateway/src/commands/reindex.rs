//! `habit reindex`: the search index anew, from the record.

use http::Method;

use super::client::Connection;
use super::indexing;
use crate::cli::{Common, Target};
use crate::wiring::Purpose;

/// Starts it and shows how far it is. Stopping this command does not lose anything: a running server goes on, and
/// without one the next start does.
///
/// # Errors
/// With what to do about it.
pub async fn run(common: &Common, target: Target) -> anyhow::Result<()> {
    let connection = Connection::open(common, &target, Purpose::Reindex).await?;
    let result = rebuild(&connection).await;
    connection.close().await;
    result
}

async fn rebuild(connection: &Connection) -> anyhow::Result<()> {
    let reply = connection.json(connection.request(Method::POST, "/v1/reindex")).await?;
    let total = reply["pending"].as_u64().unwrap_or_default();
    indexing::wait(connection, "indexing").await?;
    println!("{total} turns and passages are indexed");
    Ok(())
}
