//! One section of the index in memory: while it is read, when it is there, and where it is not.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::watch;
use uuid::Uuid;

use super::lock;
use crate::error::MemoryError;
use crate::index::Entry;
use crate::store::shelf::Shelf;

/// A section's shelf, or what is to become it.
pub(super) struct Cell {
    state: Mutex<State>,
    /// Whether that is decided.
    pub(super) filled: watch::Sender<bool>,
    /// Whether its words are learnt.
    pub(super) learnt: watch::Sender<bool>,
    /// When it was last asked for.
    pub(super) used: AtomicU64,
}

enum State {
    /// Being read from the other index; what is written meanwhile comes after it.
    Filling(Vec<Change>),
    /// In memory.
    Ready(Arc<RwLock<Shelf>>),
    /// More than fits, or it could not be read: the other index answers.
    Absent,
}

/// A change of one shelf.
pub(super) enum Change {
    Put(Box<Entry>),
    /// Everything with this parent.
    Remove(Uuid),
    /// The one with this id.
    Forget(Uuid),
}

impl Cell {
    /// Of a section that has no entries, or one that is being read.
    pub(super) fn new(empty: bool) -> Self {
        let state = if empty {
            State::Ready(Arc::default())
        } else {
            State::Filling(Vec::new())
        };
        Self {
            state: Mutex::new(state),
            filled: watch::Sender::new(empty),
            learnt: watch::Sender::new(empty),
            used: AtomicU64::new(0),
        }
    }

    pub(super) fn ready(&self) -> Option<Arc<RwLock<Shelf>>> {
        match &*lock(&self.state) {
            State::Ready(shelf) => Some(Arc::clone(shelf)),
            _ => None,
        }
    }

    pub(super) async fn fill(&self, entries: Result<Option<Vec<Entry>>, MemoryError>) {
        let entries = match entries {
            Ok(Some(entries)) => entries,
            Ok(None) => return self.give_up(),
            Err(error) => {
                tracing::warn!("a part of the index can't be held in memory, searches of it are slower: {error}");
                return self.give_up();
            }
        };
        let build = move || {
            let mut shelf = Shelf::default();
            for entry in &entries {
                shelf.put(entry);
            }
            shelf
        };
        let Ok(mut shelf) = tokio::task::spawn_blocking(build).await else {
            return self.give_up();
        };
        let mut state = lock(&self.state);
        if let State::Filling(changes) = &mut *state {
            for change in changes.drain(..) {
                apply(&mut shelf, change);
            }
            *state = State::Ready(Arc::new(RwLock::new(shelf)));
        }
        drop(state);
        self.filled.send_replace(true);
    }

    fn give_up(&self) {
        *lock(&self.state) = State::Absent;
        self.filled.send_replace(true);
    }

    pub(super) fn change(&self, change: Change) {
        let mut state = lock(&self.state);
        match &mut *state {
            State::Filling(changes) => changes.push(change),
            State::Ready(shelf) => apply(&mut shelf.write().unwrap_or_else(PoisonError::into_inner), change),
            State::Absent => {}
        }
    }
}

fn apply(shelf: &mut Shelf, change: Change) {
    match change {
        Change::Put(entry) => shelf.put(&entry),
        Change::Remove(parent) => shelf.remove(parent),
        Change::Forget(id) => shelf.forget(id),
    }
}
