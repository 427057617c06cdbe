//! The replies that are being made, so that who asked for one can stop it. A stopped reply ends as if the model had
//! ended it, with what there is of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use habit_engine::{ChatRequest, Delta, DeltaStream, FinishReason, TokenCounter, Usage};
use habit_memory::Scope;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// See the module; cheap to clone.
#[derive(Clone, Default)]
pub struct Running {
    replies: Arc<Mutex<HashMap<Uuid, Entry>>>,
    begun: Arc<AtomicU64>,
    /// Turns whose engine was not asked yet, or has not begun to answer.
    coming: Arc<AtomicU64>,
}

/// A turn on its way to its engine, until it is dropped.
pub struct Coming(Arc<AtomicU64>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Entry {
    team: String,
    user: String,
    stop: CancellationToken,
}

/// Counts what a stopped reply took: the engine that would have said so is gone.
pub struct Bill {
    /// What was asked.
    pub request: ChatRequest,
    /// Counts as the model does.
    pub counter: Arc<dyn TokenCounter>,
}

impl Bill {
    fn usage(&self, text: &str) -> Usage {
        Usage {
            prompt_tokens: self.counter.count_request(&self.request).unwrap_or_default(),
            completion_tokens: self.counter.count(text),
            ..Usage::default()
        }
    }
}

impl Running {
    /// The same stream, which [`Running::stop`] ends. Without a bill a stopped reply counts nothing.
    #[must_use]
    pub fn watch(&self, scope: &Scope, id: Uuid, mut deltas: DeltaStream, bill: Option<Bill>) -> DeltaStream {
        let stop = CancellationToken::new();
        let entry = Entry {
            team: scope.team().to_owned(),
            user: scope.user().to_owned(),
            stop: stop.clone(),
        };
        self.lock().insert(id, entry);
        let listed = Listed {
            running: self.clone(),
            id,
        };
        let stream = async_stream::stream! {
            let _listed = listed;
            let mut text = String::new();
            loop {
                let item = tokio::select! {
                    biased;
                    item = deltas.next() => item,
                    () = stop.cancelled() => None,
                };
                let Some(item) = item else { break };
                if let (Ok(Delta::Text(piece) | Delta::Reasoning(piece)), true) = (&item, bill.is_some()) {
                    text.push_str(piece);
                }
                let last = matches!(item, Ok(Delta::Finish { .. }) | Err(_));
                yield item;
                if last {
                    return;
                }
                if stop.is_cancelled() {
                    break;
                }
            }
            // Frees the engine's place before the end is passed on.
            drop(deltas);
            if stop.is_cancelled() {
                let usage = bill.map(|bill| bill.usage(&text)).unwrap_or_default();
                yield Ok(Delta::Finish { reason: FinishReason::Stop, usage });
            }
        };
        stream.boxed()
    }

    /// How many turns came, ever.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Whether a reply is being made, or about to be.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.coming.load(Ordering::SeqCst) > 0 || !self.lock().is_empty()
    }

    /// A turn comes that will ask an engine.
    #[must_use]
    pub fn coming(&self) -> Coming {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.coming.fetch_add(1, Ordering::SeqCst);
        Coming(Arc::clone(&self.coming))
    }

    /// Stops all replies of this user; how many there were.
    #[must_use]
    pub fn stop(&self, scope: &Scope) -> usize {
        let replies = self.lock();
        let own = replies
            .values()
            .filter(|entry| entry.team == scope.team() && entry.user == scope.user());
        own.inspect(|entry| entry.stop.cancel()).count()
    }

    /// Nothing panics with the lock held.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reply's place in the list; leaves it on drop.
struct Listed {
    running: Running,
    id: Uuid,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.running.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn scope(user: &str) -> Scope {
        Scope::new("team", user).unwrap()
    }

    /// Says one word and then nothing more.
    fn endless() -> DeltaStream {
        let word = stream::iter([Ok(Delta::Text("word".to_owned()))]);
        word.chain(stream::pending()).boxed()
    }

    #[tokio::test]
    async fn a_user_stops_what_is_his_own() {
        let running = Running::default();
        let mut ada = running.watch(&scope("ada"), Uuid::now_v7(), endless(), None);
        let mut bob = running.watch(&scope("bob"), Uuid::now_v7(), endless(), None);
        assert!(matches!(ada.next().await, Some(Ok(Delta::Text(_)))));
        assert_eq!(running.stop(&scope("ada")), 1);
        let end = ada.next().await;
        assert!(
            matches!(
                end,
                Some(Ok(Delta::Finish {
                    reason: FinishReason::Stop,
                    ..
                }))
            ),
            "{end:?}"
        );
        assert!(ada.next().await.is_none());
        assert!(matches!(bob.next().await, Some(Ok(Delta::Text(_)))));
        drop((ada, bob));
        assert_eq!(running.lock().len(), 0);
    }

    #[tokio::test]
    async fn what_ends_by_itself_is_not_touched() {
        let running = Running::default();
        let finish = Delta::Finish {
            reason: FinishReason::Length,
            usage: Usage::default(),
        };
        let deltas = stream::iter([Ok(finish.clone())]).boxed();
        let watched: Vec<_> = running
            .watch(&scope("ada"), Uuid::now_v7(), deltas, None)
            .collect()
            .await;
        assert!(matches!(watched.as_slice(), [Ok(delta)] if *delta == finish));
        assert_eq!(running.stop(&scope("ada")), 0);
    }
}
