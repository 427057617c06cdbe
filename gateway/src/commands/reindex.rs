//! `habit reindex`: the search index anew, from the record.

use std::time::Duration;

use http::Method;

use super::client::Connection;
use super::progress;
use crate::cli::{Common, Target};
use crate::wiring::Purpose;

/// How often the server is asked how far it is.
const POLL: Duration = Duration::from_millis(250);

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
    let bar = progress::counting("indexing", total);
    loop {
        let health = connection.health().await?;
        let left = health["index"]["pending"].as_u64().unwrap_or_default();
        bar.set_position(total.saturating_sub(left));
        if left == 0 && health["index"].get("anew").is_none() {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    bar.finish_and_clear();
    println!("{total} turns and passages are indexed");
    Ok(())
}
