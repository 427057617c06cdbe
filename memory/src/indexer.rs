//! The indexer: one background task that embeds and indexes what the journal has recorded, oldest first. It is woken
//! by writes; an item stays pending in the journal until it is in the index, so nothing is lost when it stops. Where several
//! gateways share a journal, one of them indexes at a time, batch by batch, whatever any of them recorded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::MemoryError;
use crate::facts::{Facts, recognise};
use crate::generations::Generations;
use crate::index::{Index, Removal};
use crate::interaction::Interaction;
use crate::journal::{Alone, First, Journal, Pending};

mod entries;

use entries::{entry, fact_entry, text_for_vector, text_of_fact};

/// Items that are embedded and written together: one pass of the embedder, one commit of the index.
const BATCH: u64 = 64;

/// Batches between two looks at how much is pending.
const COUNT_EVERY: u32 = 32;

/// Commits after which the index is tidied even under load: each leaves a small file that every search opens.
const TIDY_AFTER: u32 = 64;

/// Idle time after which the index is tidied if anything was written.
const TIDY_WHEN_IDLE: Duration = Duration::from_secs(10);

/// Idle time after which it is tidied in any case: removals do not pass through here. It costs nothing when nothing changed.
const TIDY_AT_LEAST: Duration = Duration::from_mins(10);

/// Where the journal is shared, how often it is looked whether something is pending though nobody here said so: a gateway may
/// have died before it indexed what it recorded.
const LOOK: Duration = Duration::from_secs(5);

/// Waits between attempts while the embedder, the journal or the index fails: from this, doubled each time, …
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A handle on the indexer. Cheap to clone.
#[derive(Clone)]
pub struct Indexer {
    shared: Arc<Shared>,
    done: watch::Receiver<u64>,
}

struct Shared {
    /// Counts calls for a pass; the task publishes which of them it has served.
    asked: AtomicU64,
    /// The number of the last call that something was recorded before.
    recorded: AtomicU64,
    wake: Notify,
    lag: AtomicU64,
}

impl Indexer {
    /// Starts the task. It ends soon after `shutdown`, between two batches.
    #[must_use]
    pub fn spawn(
        journal: Arc<dyn Journal>,
        index: Arc<Generations>,
        shutdown: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        Self::start(journal, index, None, shutdown)
    }

    /// The same, with facts: what turns teach is added to them ([`recognise`]) where it `learns`, and they are indexed.
    #[must_use]
    pub fn spawn_with_facts(
        journal: Arc<dyn Journal>,
        index: Arc<Generations>,
        (facts, learns): (Arc<dyn Facts>, bool),
        shutdown: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        Self::start(journal, index, Some(Known { facts, learns }), shutdown)
    }

    fn start(
        journal: Arc<dyn Journal>,
        index: Arc<Generations>,
        known: Option<Known>,
        shutdown: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (publish, done) = watch::channel(0);
        // One call is counted from the start: what an earlier run left pending is taken up at once.
        let shared = Arc::new(Shared {
            asked: AtomicU64::new(1),
            recorded: AtomicU64::new(1),
            wake: Notify::new(),
            lag: AtomicU64::new(0),
        });
        let task = Task {
            journal,
            index,
            known,
            shared: Arc::clone(&shared),
            publish,
            untidy: 0,
            uncounted: 0,
            shared_journal: false,
            busy_at: Instant::now(),
        };
        let handle = tokio::spawn(async move {
            shutdown.run_until_cancelled_owned(task.run()).await;
        });
        (Self { shared, done }, handle)
    }

    /// Says that something was recorded. Never waits.
    pub fn wake(&self) {
        let ticket = self.shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.recorded.fetch_max(ticket, Ordering::SeqCst);
        self.shared.wake.notify_one();
    }

    /// Waits until everything is indexed that [`Indexer::wake`] was called for before this call; false if that takes longer
    /// than `deadline`, or if the indexer has stopped. Where nothing was recorded since, nothing is waited for or read.
    pub async fn caught_up(&self, deadline: Duration) -> bool {
        let ticket = self.shared.recorded.load(Ordering::SeqCst);
        let mut done = self.done.clone();
        if *done.borrow_and_update() >= ticket {
            return true;
        }
        let served = tokio::time::timeout(deadline, done.wait_for(|served| *served >= ticket)).await;
        matches!(served, Ok(Ok(_)))
    }

    /// Items that were pending when the indexer last looked, as far as it has not indexed them since.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.shared.lag.load(Ordering::Relaxed)
    }
}

/// Facts, and whether turns add to them.
struct Known {
    facts: Arc<dyn Facts>,
    learns: bool,
}

struct Task {
    journal: Arc<dyn Journal>,
    index: Arc<Generations>,
    known: Option<Known>,
    shared: Arc<Shared>,
    publish: watch::Sender<u64>,
    /// Commits since the index was last tidied.
    untidy: u32,
    /// Batches until what is pending is counted again.
    uncounted: u32,
    /// Whether others write to the journal too.
    shared_journal: bool,
    /// When something was last indexed, or the index tidied.
    busy_at: Instant,
}

impl Task {
    async fn run(mut self) {
        let mut failures: u32 = 0;
        loop {
            // Read before the journal is: whoever asked up to now recorded before now.
            let ticket = self.shared.asked.load(Ordering::SeqCst);
            match self.drain().await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!("the indexer works again");
                    }
                    failures = 0;
                    self.publish.send_replace(ticket);
                    self.idle(ticket).await;
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!("what was recorded can't be indexed now, and is kept for later: {error}");
                    }
                    failures = failures.saturating_add(1);
                    tokio::time::sleep(wait_after(failures)).await;
                }
            }
        }
    }

    /// Waits for the next call; uses the time to tidy the index.
    async fn idle(&mut self, served: u64) {
        loop {
            if self.shared.asked.load(Ordering::SeqCst) > served {
                return;
            }
            let quiet = if self.untidy > 0 { TIDY_WHEN_IDLE } else { TIDY_AT_LEAST };
            let left = quiet.saturating_sub(self.busy_at.elapsed());
            let patience = if self.shared_journal { left.min(LOOK) } else { left };
            let woken = tokio::time::timeout(patience, self.shared.wake.notified()).await;
            if woken.is_ok() {
                continue;
            }
            if patience < left {
                return;
            }
            self.busy_at = Instant::now();
            match self.journal.index_alone().await {
                Ok(alone) => self.tidy(&alone).await,
                Err(error) => tracing::warn!("the index is not tidied now: {error}"),
            }
        }
    }

    /// Indexes until nothing is pending.
    async fn drain(&mut self) -> Result<(), MemoryError> {
        loop {
            // While all of the index is made anew, nobody should wait for what is new: it comes first, and whoever asks next is
            // not told that something is behind.
            let anew = self.index.being_made().is_some();
            if anew && self.take_facts().await? {
                continue;
            }
            let first = if anew { First::Newest } else { First::Oldest };
            let ticket = self.shared.asked.load(Ordering::SeqCst);
            // Before what is pending is read: what another one indexes is not pending any more by then.
            let alone = self.journal.index_alone().await?;
            self.shared_journal = alone.is_shared();
            let index = Arc::clone(&self.index);
            let turn = index.writing().await;
            let pending = self.journal.pending(BATCH, first).await?;
            if pending.is_empty() {
                drop(turn);
                // One that was begun since has nothing yet.
                if self.take_facts().await? || (anew && self.index.succeed().await?) {
                    continue;
                }
                self.shared.lag.store(0, Ordering::Relaxed);
                return Ok(());
            }
            let lag = self.count(pending.len() as u64).await;
            self.shared.lag.store(lag, Ordering::Relaxed);
            self.take(&pending, first).await?;
            drop(turn);
            if anew {
                self.publish.send_replace(ticket);
            }
            self.busy_at = Instant::now();
            self.untidy += 1;
            if self.untidy >= TIDY_AFTER {
                self.tidy(&alone).await;
            }
        }
    }

    /// How much there is to do, of which a batch was just read. To count all of it is to read all of the journal: done
    /// once in a while, where there is more than the batch.
    async fn count(&mut self, batch: u64) -> u64 {
        if batch < BATCH {
            self.uncounted = 0;
            return batch;
        }
        let counted = self.shared.lag.load(Ordering::Relaxed);
        if self.uncounted > 0 && counted > BATCH {
            self.uncounted -= 1;
            return counted - BATCH;
        }
        self.uncounted = COUNT_EVERY;
        self.journal.totals().await.map_or(batch, |totals| totals.pending)
    }

    async fn take(&self, pending: &[Pending], first: First) -> Result<(), MemoryError> {
        let texts = pending.iter().map(text_for_vector).collect();
        let entries = |vectors: Vec<Vec<f32>>| {
            let items = pending.iter().zip(vectors);
            items.map(|(item, vector)| entry(item, vector)).collect()
        };
        self.index.write(texts, &entries).await?;
        // Before the mark: a turn whose lessons were lost would not be read again.
        self.learn(pending).await?;
        self.forget_deleted(pending, first).await?;
        let ids: Vec<Uuid> = pending.iter().map(id).collect();
        self.journal.mark_indexed(&ids).await
    }

    /// Adds what these turns teach to the facts. Doing it twice adds nothing more.
    async fn learn(&self, pending: &[Pending]) -> Result<(), MemoryError> {
        let Some(Known { facts, learns: true }) = &self.known else {
            return Ok(());
        };
        for item in pending {
            if let Pending::Turn { turn, .. } = item {
                let taught = recognise::taught(turn);
                if !taught.is_empty() {
                    facts.add(&turn.scope, taught).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes back what a turn taught that was deleted in the meantime.
    async fn unlearn(&self, turn: &Interaction) -> Result<(), MemoryError> {
        let Some(Known { facts, .. }) = &self.known else {
            return Ok(());
        };
        let taught = facts.of_turns(&turn.scope, &[turn.id]).await?.into_iter();
        let taught: Vec<Uuid> = taught.map(|fact| fact.id).collect();
        facts.delete(&turn.scope, &taught).await.map(drop)
    }

    /// Indexes facts that are pending; false if there are none.
    async fn take_facts(&mut self) -> Result<bool, MemoryError> {
        let Some(Known { facts, .. }) = &self.known else {
            return Ok(false);
        };
        let _turn = self.index.writing().await;
        let pending = facts.pending(BATCH).await?;
        if pending.is_empty() {
            return Ok(false);
        }
        let texts = pending.iter().map(text_of_fact).collect();
        let entries = |vectors: Vec<Vec<f32>>| {
            let facts = pending.iter().zip(vectors);
            facts.map(|(fact, vector)| fact_entry(fact, vector)).collect()
        };
        self.index.write(texts, &entries).await?;
        // As in `forget_deleted`.
        let still: HashSet<Uuid> = facts.pending(BATCH).await?.iter().map(|fact| fact.id).collect();
        for fact in pending.iter().filter(|fact| !still.contains(&fact.id)) {
            if facts.get(&fact.scope, fact.id).await?.is_none() {
                let team = fact.scope.team().to_owned();
                let parents = vec![fact.id];
                self.index.remove(Removal::Parents { team, parents }).await?;
            }
        }
        let marks: Vec<(Uuid, i64)> = pending.iter().map(|fact| (fact.id, fact.updated_at)).collect();
        facts.mark_indexed(&marks).await?;
        self.busy_at = Instant::now();
        self.untidy += 1;
        Ok(true)
    }

    /// Removes again what was deleted from the journal while it was being embedded: whoever deletes does so in the
    /// journal first and in the index second, so after this look the index can't keep what the journal has not.
    async fn forget_deleted(&self, pending: &[Pending], first: First) -> Result<(), MemoryError> {
        let still: HashSet<Uuid> = self.journal.pending(BATCH, first).await?.iter().map(id).collect();
        let mut gone: HashMap<&str, Vec<Uuid>> = HashMap::new();
        for item in pending.iter().filter(|item| !still.contains(&id(item))) {
            // Older ones may have come before it meanwhile, with which it is no longer among the first.
            if self.is_there(item).await? {
                continue;
            }
            let (team, parent) = match item {
                Pending::Turn { turn, .. } => {
                    self.unlearn(turn).await?;
                    (turn.scope.team(), turn.id)
                }
                Pending::Chunk { document, .. } => (document.scope.team(), document.id),
            };
            gone.entry(team).or_default().push(parent);
        }
        for (team, parents) in gone {
            self.index
                .remove(Removal::Parents {
                    team: team.to_owned(),
                    parents,
                })
                .await?;
        }
        Ok(())
    }

    /// Whether the journal still has it, and it may still be found.
    async fn is_there(&self, item: &Pending) -> Result<bool, MemoryError> {
        Ok(match item {
            Pending::Turn { turn, .. } => {
                let there = self.journal.turn(&turn.scope, turn.id).await?;
                there.is_some_and(|turn| turn.is_recallable())
            }
            Pending::Chunk { document, chunk } => {
                let there = self.journal.chunks_by_id(&document.scope, &[chunk.id]).await?;
                !there.is_empty()
            }
        })
    }

    /// While nobody else indexes: what is written meanwhile would have to be tidied again.
    async fn tidy(&mut self, _: &Alone) {
        self.untidy = 0;
        if let Err(error) = self.index.optimize().await {
            tracing::warn!("the index could not be tidied (searches stay right, but get slower): {error}");
        }
    }
}

fn id(item: &Pending) -> Uuid {
    match item {
        Pending::Turn { turn, .. } => turn.id,
        Pending::Chunk { chunk, .. } => chunk.id,
    }
}

fn wait_after(failures: u32) -> Duration {
    FIRST_RETRY
        .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16)))
        .min(LAST_RETRY)
}
