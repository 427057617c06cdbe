//! Waiting until everything is indexed, with a bar.

use std::time::Duration;

use super::client::Connection;
use super::progress;

/// How often the server is asked how far it is.
const POLL: Duration = Duration::from_millis(250);

/// Waits until nothing is pending, and no index is being made anew. Stopping this does not lose anything: a running server goes
/// on, and without one the next start does.
///
/// # Errors
/// If the server can't be asked.
pub async fn wait(connection: &Connection, label: &str) -> anyhow::Result<()> {
    let mut bar = None;
    loop {
        let health = connection.health().await?;
        let left = health["index"]["pending"].as_u64().unwrap_or_default();
        if left == 0 && health["index"].get("anew").is_none() {
            break;
        }
        let bar = bar.get_or_insert_with(|| progress::counting(label, left));
        // More may come meanwhile.
        bar.set_length(bar.length().unwrap_or_default().max(left));
        bar.set_position(bar.length().unwrap_or_default().saturating_sub(left));
        tokio::time::sleep(POLL).await;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(())
}
