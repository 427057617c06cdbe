//! What other gateways write to the index that is shared: it is heard of, read, and put where it is kept in memory.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Change, Shelves, lock};
use crate::error::MemoryError;
use crate::index::{Named, Removal};
use crate::store::news::{self, News};
use crate::store::sea::Reader;

/// How often it is asked for news: what is told at one gateway is found at the others so much later.
const EVERY: Duration = Duration::from_millis(300);

/// Between two attempts while the news, or the entries that they name, can't be read.
const AGAIN: Duration = Duration::from_secs(2);

/// How often old news are thrown away.
const PRUNE: Duration = Duration::from_mins(10);

impl Shelves {
    /// Follows what the others write, from where this reader begins, until `stop`. The reader must have been made before
    /// anything was read into memory.
    pub async fn follow(&self, mut reader: Reader, stop: CancellationToken) {
        let mut waiting = VecDeque::new();
        let (mut fails, mut pruned) = (false, Instant::now());
        loop {
            let heard = self.hear(&mut reader, &mut waiting).await;
            if let Err(error) = &heard
                && !fails
            {
                tracing::warn!("what other gateways write is not found here until this passes: {error}");
            }
            fails = heard.is_err();
            if !fails && pruned.elapsed() > PRUNE {
                pruned = Instant::now();
                if let Err(error) = reader.feed().prune().await {
                    tracing::warn!("{error}");
                }
            }
            let pause = tokio::time::sleep(if fails { AGAIN } else { EVERY });
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    async fn hear(&self, reader: &mut Reader, waiting: &mut VecDeque<News>) -> Result<(), MemoryError> {
        let heard = reader.read().await?;
        if heard.missed {
            tracing::warn!("this gateway was away for long: what it holds of the index is read anew");
            waiting.clear();
            // Others may have written where there was nothing.
            lock(&self.known).listed = false;
            self.take(&Removal::All);
            self.removed_elsewhere.fetch_add(1, Ordering::SeqCst);
        }
        waiting.extend(news::joined(heard.news));
        while let Some(news) = waiting.front() {
            self.heed(news).await?;
            waiting.pop_front();
        }
        Ok(())
    }

    /// Makes what is in memory as it is in the index by now.
    async fn heed(&self, news: &News) -> Result<(), MemoryError> {
        if matches!(news, News::Removed(_)) {
            self.removed_elsewhere.fetch_add(1, Ordering::SeqCst);
        }
        let names = match news {
            News::Put(ids) => Named::Entries(ids.clone()),
            News::Removed(Removal::Parents { team, parents }) => Named::Parents {
                team: team.clone(),
                parents: parents.clone(),
            },
            News::Removed(removal) => {
                self.take(removal);
                return Ok(());
            }
        };
        let _order = self.order.lock().await;
        let entries = self.inner.named(&names).await?;
        self.know(&entries);
        self.learn(&entries);
        match names {
            // What was written and is gone again.
            Named::Entries(ids) => {
                let there: HashSet<Uuid> = entries.iter().map(|entry| entry.id).collect();
                for id in ids.into_iter().filter(|id| !there.contains(id)) {
                    for cell in self.cells(|_| true) {
                        cell.change(Change::Forget(id));
                    }
                }
            }
            Named::Parents { team, parents } => self.take(&Removal::Parents { team, parents }),
        }
        self.put(entries);
        Ok(())
    }
}
