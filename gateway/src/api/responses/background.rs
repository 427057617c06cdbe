//! Responses that are made in the background. Their events are kept in the process while they are made, and a while
//! after: who comes back reads on where he left.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use habit_memory::Scope;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::render::Event;

/// Ended responses whose events are still there.
const MOST_ENDED: usize = 64;

/// The responses in the background, of all users. Cheap to clone.
#[derive(Clone, Default)]
pub struct Background {
    runs: Arc<Mutex<Runs>>,
}

#[derive(Default)]
struct Runs {
    all: HashMap<Key, Arc<Run>>,
    ended: VecDeque<Key>,
}

/// Team, user, and the response's id.
type Key = (String, String, String);

/// One response.
pub struct Run {
    events: Mutex<Vec<Event>>,
    /// How many events there are, and whether that is all.
    progress: watch::Sender<(usize, bool)>,
    cancel: CancellationToken,
}

/// The pen of a response: when it is dropped, the response has ended.
pub struct Pen {
    background: Background,
    key: Key,
    run: Arc<Run>,
}

fn key(scope: &Scope, id: &str) -> Key {
    (scope.team().to_owned(), scope.user().to_owned(), id.to_owned())
}

/// Nothing panics with a lock held.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Background {
    /// A response begins.
    #[must_use]
    pub fn begin(&self, scope: &Scope, id: &str) -> Pen {
        let run = Arc::new(Run {
            events: Mutex::default(),
            progress: watch::channel((0, false)).0,
            cancel: CancellationToken::new(),
        });
        let key = key(scope, id);
        locked(&self.runs).all.insert(key.clone(), Arc::clone(&run));
        Pen {
            background: self.clone(),
            key,
            run,
        }
    }

    /// A response that is being made, or was a moment ago.
    #[must_use]
    pub fn find(&self, scope: &Scope, id: &str) -> Option<Arc<Run>> {
        locked(&self.runs).all.get(&key(scope, id)).cloned()
    }

    /// Forgets a response; it is cancelled if it is still being made.
    pub fn forget(&self, scope: &Scope, id: &str) {
        let run = locked(&self.runs).all.remove(&key(scope, id));
        if let Some(run) = run {
            run.cancel.cancel();
        }
    }

    fn ended(&self, key: &Key) {
        let mut runs = locked(&self.runs);
        runs.ended.push_back(key.clone());
        if runs.ended.len() > MOST_ENDED
            && let Some(oldest) = runs.ended.pop_front()
        {
            runs.all.remove(&oldest);
        }
    }
}

impl Pen {
    /// Adds an event.
    pub fn write(&self, event: Event) {
        let mut events = locked(&self.run.events);
        events.push(event);
        self.run.progress.send_replace((events.len(), false));
    }

    /// Cancelled when the client wants no more of it.
    #[must_use]
    pub fn cancel(&self) -> CancellationToken {
        self.run.cancel.clone()
    }

    /// What is written, for readers.
    #[must_use]
    pub fn run(&self) -> Arc<Run> {
        Arc::clone(&self.run)
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        self.run.progress.send_modify(|progress| progress.1 = true);
        self.background.ended(&self.key);
    }
}

impl Run {
    /// Asks it to end, and waits until it has.
    pub async fn stop(&self) {
        self.cancel.cancel();
        // The sender lives as long as this run.
        self.progress.subscribe().wait_for(|(_, over)| *over).await.ok();
    }

    /// Whether it is still being made.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.progress.borrow().1
    }

    /// Its events from this number on, also those that are still to come.
    pub fn follow(self: Arc<Self>, from: usize) -> impl Stream<Item = Event> + Send + 'static {
        let mut progress = self.progress.subscribe();
        async_stream::stream! {
            let mut next = from;
            loop {
                let (there, over) = *progress.borrow_and_update();
                while next < there {
                    let event = locked(&self.events).get(next).cloned();
                    next += 1;
                    if let Some(event) = event {
                        yield event;
                    }
                }
                if over || progress.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use serde_json::json;

    use super::*;

    fn event(number: usize) -> Event {
        Event {
            kind: "response.output_text.delta",
            data: json!({"sequence_number": number}),
        }
    }

    fn scope(user: &str) -> Scope {
        Scope::new("team", user).unwrap()
    }

    #[tokio::test]
    async fn readers_get_all_from_where_they_ask() {
        let background = Background::default();
        let pen = background.begin(&scope("ada"), "r");
        pen.write(event(0));
        assert!(background.find(&scope("bob"), "r").is_none());
        let run = background.find(&scope("ada"), "r").unwrap();
        let reader = tokio::spawn(Arc::clone(&run).follow(1).collect::<Vec<_>>());
        pen.write(event(1));
        pen.write(event(2));
        assert!(run.is_running());
        drop(pen);
        assert_eq!(reader.await.unwrap(), [event(1), event(2)]);
        assert_eq!(run.follow(9).count().await, 0);
    }

    #[tokio::test]
    async fn only_so_many_ended_ones_are_kept() {
        let background = Background::default();
        for number in 0..=MOST_ENDED {
            drop(background.begin(&scope("ada"), &number.to_string()));
        }
        assert!(background.find(&scope("ada"), "0").is_none());
        assert!(background.find(&scope("ada"), "1").is_some());
    }
}
