//! What only one of the processes that share a database may do at a time: downtime, and the learning of a team. Whoever
//! does it holds a lease by name, a row that it renews; of one that died it is free again after [`LENGTH`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use habit_memory::MemoryError;
use habit_memory::clock::Clock;
use habit_memory::store::sea::Runs;
use uuid::Uuid;

/// How long a lease is held without a word.
pub const LENGTH: Duration = Duration::from_secs(30);

/// How often a lease is renewed.
pub const RENEW: Duration = Duration::from_secs(8);

/// The leases of one process; cheap to clone.
#[derive(Clone)]
pub struct Leases {
    runs: Runs,
    clock: Arc<dyn Clock>,
    holder: String,
}

impl Leases {
    /// Of the process that has this data directory. Its name is the same after a restart, so that nobody waits for what the
    /// dead held.
    #[must_use]
    pub fn new(runs: Runs, clock: Arc<dyn Clock>, folder: &Path) -> Self {
        Self {
            runs,
            clock,
            holder: holder(folder),
        }
    }

    /// Takes a lease, or keeps it; false while another process holds it.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn take(&self, name: &str) -> Result<bool, MemoryError> {
        let length = i64::try_from(LENGTH.as_millis()).unwrap_or(i64::MAX);
        self.runs.lease(name, &self.holder, self.clock.now_ms(), length).await
    }

    /// Gives a lease back. One that can't be given back now ends by itself.
    pub async fn give_back(&self, name: &str) {
        if let Err(error) = self.runs.release(name, &self.holder).await {
            tracing::debug!("the lease `{name}` ends by itself: {error}");
        }
    }

    /// Keeps a lease, until another process has it: this one was away for too long.
    pub async fn keep(&self, name: &str) {
        loop {
            tokio::time::sleep(RENEW).await;
            match self.take(name).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!("the lease `{name}` can't be renewed now: {error}"),
            }
        }
    }
}

/// The name of this gateway among those that share a database. A data directory has one process at a time, and a number of
/// its own, since machines may have the same name.
fn holder(folder: &Path) -> String {
    let host = sysinfo::System::host_name().unwrap_or_default();
    let file = folder.join("gateway-id");
    let known = std::fs::read_to_string(&file).ok().map(|id| id.trim().to_owned());
    let id = known.filter(|id| !id.is_empty()).unwrap_or_else(|| {
        let id = Uuid::now_v7().to_string();
        if folder.is_dir()
            && let Err(error) = std::fs::write(&file, &id)
        {
            tracing::debug!(
                "{}: {error}; this gateway has another name after a restart",
                file.display()
            );
        }
        id
    });
    format!("{host}:{id}")
}
