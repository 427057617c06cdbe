//! The index: LanceDB in a folder or an object store, with what is kept of it in memory before it; in a folder also the one
//! that is made beside it, where another embedder is configured.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use habit_engine::Embedder;
use habit_memory::MemoryError;
use habit_memory::clock::Clock;
use habit_memory::generations::{Everything, Founder, Generation, Generations, Next, Storage};
use habit_memory::index::{Index, Removal};
use habit_memory::journal::Journal;
use habit_memory::store::depot::Depot;
use habit_memory::store::lance::{LanceIndex, Made};
use habit_memory::store::sea::SeaJournal;
use habit_memory::store::shelves::{Lexicon, Shelves};
use tokio_util::sync::CancellationToken;

use super::{Purpose, embedders};
use crate::config::Config;
use crate::lifecycle::Lifecycle;

/// The index, and what counts what other gateways removed from it.
pub(super) struct Opened {
    pub index: Arc<Generations>,
    pub removed_elsewhere: Arc<AtomicU64>,
}

/// Opens it, empty for [`Purpose::Reindex`]; a gateway reads it into memory, and follows what others write to it.
pub(super) async fn open(
    config: &Config,
    purpose: Purpose,
    (journal, clock): (&Arc<SeaJournal>, &Arc<dyn Clock>),
    (embedder, models): (&Arc<dyn Embedder>, &embedders::Source<'_>),
    lifecycle: &Lifecycle,
) -> anyhow::Result<Opened> {
    let depot = config.data.index(&config.data_dir()?)?;
    let budget = config.memory.index_mb.saturating_mul(1024 * 1024);
    let everything = Everything {
        journal: Arc::clone(journal) as Arc<dyn Journal>,
        facts: Arc::new(journal.facts(Arc::clone(clock))),
    };
    if purpose == Purpose::Reindex {
        // Before anything is thrown away: where this ends half way, the next start goes on.
        everything.mark_pending().await?;
    }
    let opened = match &depot {
        Depot::Bucket(_) => shared(depot, purpose, (journal, clock), (embedder, budget), lifecycle).await?,
        Depot::Folder(_) => {
            let founder = Beside {
                depot,
                embedder: Arc::clone(embedder),
                budget,
            };
            own(founder, purpose, &everything, models).await?
        }
    };
    if purpose == Purpose::Gateway {
        let (held, stop) = (Arc::clone(&opened.index) as Arc<dyn Index>, lifecycle.soft().clone());
        drop(lifecycle.spawn(hold(held, stop)));
    }
    Ok(opened)
}

/// An index that other gateways use too: they read the same database.
async fn shared(
    depot: Depot,
    purpose: Purpose,
    (journal, clock): (&Arc<SeaJournal>, &Arc<dyn Clock>),
    (embedder, budget): (&Arc<dyn Embedder>, usize),
    lifecycle: &Lifecycle,
) -> anyhow::Result<Opened> {
    let (dimensions, id) = (embedder.dimensions(), embedder.id());
    let index = match purpose {
        Purpose::Reindex => LanceIndex::rebuild(depot, dimensions, id).await?,
        _ => LanceIndex::open(depot, dimensions, id).await?,
    };
    let feed = journal.feed(Arc::clone(clock));
    // Before anything is read into memory: what is written from now on is heard of.
    let reader = feed.reader().await?;
    let index = Arc::new(shelves(&Arc::new(index), embedder, budget).with_feed(feed));
    match purpose {
        // Gateways that run are told that what they hold is gone.
        Purpose::Reindex => index.remove(Removal::All).await?,
        Purpose::Gateway => {
            let (follower, stop) = (Arc::clone(&index), lifecycle.soft().clone());
            drop(lifecycle.spawn(async move { follower.follow(reader, stop).await }));
        }
        Purpose::Memory | Purpose::Worker => {}
    }
    Ok(Opened {
        removed_elsewhere: index.removed_elsewhere(),
        index: Arc::new(Generations::new(generation(embedder, index))),
    })
}

/// An index of this process alone.
async fn own(
    founder: Beside,
    purpose: Purpose,
    everything: &Everything,
    models: &embedders::Source<'_>,
) -> anyhow::Result<Opened> {
    let Beside {
        depot,
        embedder,
        budget,
    } = &founder;
    let (dimensions, id) = (embedder.dimensions(), embedder.id());
    let mut made_by = None;
    if purpose == Purpose::Reindex {
        drop(LanceIndex::rebuild(depot.clone(), dimensions, id).await?);
    } else if let Some(made) = LanceIndex::made(depot.clone())
        .await?
        .filter(|made| made.embedder != id)
    {
        made_by = old_embedder(&made, models).await;
        if made_by.is_none() {
            // Nothing can be asked of it. What is pending first is not lost where this ends half way.
            everything.mark_pending().await?;
            drop(LanceIndex::rebuild(depot.clone(), dimensions, id).await?);
        }
    }
    let serves = made_by.as_ref().unwrap_or(embedder);
    let stored = Arc::new(LanceIndex::open(depot.clone(), serves.dimensions(), serves.id()).await?);
    let index = shelves(&stored, serves, *budget);
    let removed_elsewhere = index.removed_elsewhere();
    let generations = Generations::new(generation(serves, Arc::new(index)));
    if purpose == Purpose::Reindex {
        return Ok(Opened {
            index: Arc::new(generations),
            removed_elsewhere,
        });
    }
    let (next, changes) = (founder.begun().await?, made_by.is_some());
    let configured = Arc::clone(embedder);
    let generations = generations.with_founder(configured, Arc::new(founder));
    let index = if let Some(next) = next {
        tracing::info!("making the index anew goes on; the old one serves meanwhile");
        generations.with_next(next)
    } else {
        // Words of users must not stay in what nobody knows of.
        stored.serve().await?;
        stored.remove_others().await?;
        if changes {
            let items = generations.renew(everything).await?;
            tracing::info!("another embedder is configured: {items} items are indexed anew while the old index serves");
        }
        generations
    };
    Ok(Opened {
        index: Arc::new(index),
        removed_elsewhere,
    })
}

/// The embedder that made what is there, if it can still be loaded.
async fn old_embedder(made: &Made, models: &embedders::Source<'_>) -> Option<Arc<dyn Embedder>> {
    let name = made.embedder.split('@').next().unwrap_or_default();
    let why = match models.load(name).await {
        Ok(old) if old.id() == made.embedder && old.dimensions() == made.dimensions => return Some(old),
        Ok(other) => format!("`{name}` is {} now", other.id()),
        Err(error) => format!("{error:#}"),
    };
    tracing::warn!(
        "the index was made with the embedder {}, which can't be loaded any more ({why}): what is not indexed again yet is \
         not found",
        made.embedder
    );
    None
}

/// Makes an index beside the one that serves.
struct Beside {
    depot: Depot,
    embedder: Arc<dyn Embedder>,
    budget: usize,
}

impl Beside {
    /// The one that an earlier process began to make.
    async fn begun(&self) -> Result<Option<Next>, MemoryError> {
        let next = LanceIndex::next(self.depot.clone(), self.embedder.dimensions(), self.embedder.id()).await?;
        Ok(next.map(|next| self.of(next)))
    }

    fn of(&self, index: LanceIndex) -> Next {
        let index = Arc::new(index);
        let held = shelves(&index, &self.embedder, self.budget);
        Next {
            generation: Arc::new(generation(&self.embedder, Arc::new(held))),
            storage: index,
        }
    }
}

#[async_trait]
impl Founder for Beside {
    async fn found(&self) -> Result<Next, MemoryError> {
        let index = LanceIndex::beside(self.depot.clone(), self.embedder.dimensions(), self.embedder.id()).await?;
        Ok(self.of(index))
    }
}

fn shelves(index: &Arc<LanceIndex>, embedder: &Arc<dyn Embedder>, budget: usize) -> Shelves {
    let (index, lexicon) = (Arc::clone(index), Lexicon::new(Arc::clone(embedder)));
    Shelves::new(index, embedder.dimensions(), budget).with_lexicon(lexicon)
}

fn generation(embedder: &Arc<dyn Embedder>, index: Arc<Shelves>) -> Generation {
    Generation {
        embedder: Arc::clone(embedder),
        index,
    }
}

/// Reads the index into memory, so that the first question of everyone is as quick as the next.
async fn hold(index: Arc<dyn Index>, stop: CancellationToken) {
    if let Some(Err(error)) = stop.run_until_cancelled(index.hold()).await {
        tracing::warn!("the index is not read into memory yet, first questions are slower: {error}");
    }
}
