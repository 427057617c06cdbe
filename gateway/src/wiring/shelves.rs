//! The index: LanceDB in a folder or an object store, with what is kept of it in memory before it.

use std::sync::Arc;

use habit_engine::Embedder;
use habit_memory::clock::Clock;
use habit_memory::index::{Index, Removal};
use habit_memory::store::depot::Depot;
use habit_memory::store::lance::LanceIndex;
use habit_memory::store::sea::SeaJournal;
use habit_memory::store::shelves::{Lexicon, Shelves};
use tokio_util::sync::CancellationToken;

use super::Purpose;
use crate::config::Config;
use crate::lifecycle::Lifecycle;

/// Opens it, empty for [`Purpose::Reindex`]; a gateway reads it into memory, and follows what others write to it.
pub(super) async fn open(
    config: &Config,
    purpose: Purpose,
    (journal, clock): (&SeaJournal, &Arc<dyn Clock>),
    embedder: &Arc<dyn Embedder>,
    lifecycle: &Lifecycle,
) -> anyhow::Result<Arc<Shelves>> {
    let depot = config.data.index(&config.data_dir()?)?;
    // Others use the same entries only where they read the same database.
    let shared = matches!(depot, Depot::Bucket(_));
    let index = match purpose {
        Purpose::Reindex => LanceIndex::rebuild(depot, embedder.dimensions(), embedder.id()).await?,
        _ => LanceIndex::open(depot, embedder.dimensions(), embedder.id()).await?,
    };
    let budget = config.memory.index_mb.saturating_mul(1024 * 1024);
    let lexicon = Lexicon::new(Arc::clone(embedder));
    let mut shelves = Shelves::new(Arc::new(index), embedder.dimensions(), budget).with_lexicon(lexicon);
    let mut reader = None;
    if shared {
        let feed = journal.feed(Arc::clone(clock));
        // Before anything is read into memory: what is written from now on is heard of.
        reader = Some(feed.reader().await?);
        shelves = shelves.with_feed(feed);
    }
    let index = Arc::new(shelves);
    if shared && purpose == Purpose::Reindex {
        // Gateways that run are told that what they hold is gone.
        index.remove(Removal::All).await?;
    }
    if purpose == Purpose::Gateway {
        let (held, stop) = (Arc::clone(&index) as Arc<dyn Index>, lifecycle.soft().clone());
        drop(lifecycle.spawn(hold(held, stop)));
        if let Some(reader) = reader {
            let (follower, stop) = (Arc::clone(&index), lifecycle.soft().clone());
            drop(lifecycle.spawn(async move { follower.follow(reader, stop).await }));
        }
    }
    Ok(index)
}

/// Reads the index into memory, so that the first question of everyone is as quick as the next.
async fn hold(index: Arc<dyn Index>, stop: CancellationToken) {
    if let Some(Err(error)) = stop.run_until_cancelled(index.hold()).await {
        tracing::warn!("the index is not read into memory yet, first questions are slower: {error}");
    }
}
