//! Vector stores: files of a user, cut into chunks that are found when the store is asked, and never by the way.
//!
//! A store and its files are small objects; a file's chunks are a document in the journal whose place is the store
//! ([`Place::Store`](crate::documents::Place::Store)). This file keeps stores; files come and go in `attach` and `batch`, are read by `job`, searched by
//! `search`, and put before a model by `source`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use habit_engine::Embedder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{MutexGuard, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::MemoryError;
use crate::files::{self, Files};
use crate::index::Index;
use crate::indexer::Indexer;
use crate::journal::{Alone, Journal};
use crate::objects::{Expiry, Object, Objects, Slice, list_where};
use crate::scope::Scope;

mod attach;
mod batch;
mod filter;
mod job;
mod search;
mod source;

pub use attach::{Attached, NewFile, Status, Trouble};
pub use batch::{Batch, BatchStatus};
pub use filter::{BadFilter, Filter, How};
pub use search::{Found, Search};
pub use source::{Findings, Finds, StoreSource};

/// The kind of a store.
const STORE: &str = "vector_store";
/// The kind of a file in a store; its parent is the store.
const FILE: &str = "vector_store.file";
/// The kind of a batch of files; its parent is the store.
const BATCH: &str = "vector_store.file_batch";
/// The kind of what leads from a document to the file and the store that it is of; its parent is the file.
const LINK: &str = "vector_store.link";

/// Files that a store may have.
const MOST_FILES: usize = 9_999;

/// Files that are read at the same time: reading is plain computing, and others want to compute too.
const READERS: usize = 2;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// `vs_…`.
    pub id: String,
    /// What its owner calls it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Whatever its owner keeps with it.
    pub metadata: Map<String, Value>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// When it was last searched or changed, in Unix milliseconds.
    pub last_active_at: i64,
    /// It goes so many days after it was last active.
    pub expires_after_days: Option<u32>,
}

impl Store {
    /// When it goes, in Unix milliseconds.
    #[must_use]
    pub fn expires_at(&self) -> Option<i64> {
        let days = self.expires_after_days?;
        Some(self.last_active_at.saturating_add(i64::from(days) * DAY_MS))
    }
}

/// What an owner says of a store; what is unset stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// A name.
    pub name: Option<String>,
    /// A description.
    pub description: Option<String>,
    /// Metadata, in place of the old.
    pub metadata: Option<Map<String, Value>>,
    /// A lifetime in days.
    pub expires_after_days: Option<u32>,
}

/// How many files of a store, or of a batch, are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Being read and indexed.
    pub in_progress: usize,
    /// Can be searched.
    pub completed: usize,
    /// Could not be read.
    pub failed: usize,
    /// Stopped before they were read.
    pub cancelled: usize,
    /// All of them.
    pub total: usize,
    /// Bytes of text that can be searched.
    #[serde(skip)]
    pub usage_bytes: u64,
}

/// What stores are built on.
pub struct Parts {
    /// The files' bytes and cards.
    pub files: Arc<Files>,
    /// Stores, their files and batches.
    pub objects: Arc<dyn Objects>,
    /// Chunks.
    pub journal: Arc<dyn Journal>,
    /// Finds chunks.
    pub index: Arc<dyn Index>,
    /// Keeps the index up with the journal.
    pub indexer: Indexer,
    /// Text to vectors.
    pub embedder: Arc<dyn Embedder>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Runs the work of reading files.
    pub tasks: TaskTracker,
    /// Ends that work; what is not done by then goes on after the next start.
    pub stop: CancellationToken,
}

/// Keeps stores; cheap to clone.
#[derive(Clone)]
pub struct VectorStores {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    /// Files that are being read now, by team, user and the object's id.
    running: Mutex<HashSet<(String, String, String)>>,
    /// Stores of which it is known that nothing was left unread by an earlier process, by team, user and id.
    taken_up: Mutex<HashSet<(String, String, String)>>,
    /// Whoever reads an object to write it changed has this meanwhile.
    changes: tokio::sync::Mutex<()>,
    readers: Semaphore,
}

impl VectorStores {
    /// Stores on these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            inner: Arc::new(Inner {
                parts,
                running: Mutex::default(),
                taken_up: Mutex::default(),
                changes: tokio::sync::Mutex::default(),
                readers: Semaphore::new(READERS),
            }),
        }
    }

    /// The files that stores are filled from.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.parts().files
    }

    fn parts(&self) -> &Parts {
        &self.inner.parts
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashSet<(String, String, String)>> {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an empty store.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn create(&self, scope: &Scope, wanted: Changes) -> Result<Store, MemoryError> {
        let now = self.parts().clock.now_ms();
        let mut store = Store {
            id: format!("vs_{}", Uuid::now_v7().simple()),
            name: None,
            description: None,
            metadata: Map::new(),
            created_at: now,
            last_active_at: now,
            expires_after_days: None,
        };
        change(&mut store, wanted);
        self.put_store(scope, &store).await?;
        Ok(store)
    }

    /// A store.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], also when it has expired; [`MemoryError::Storage`].
    pub async fn store(&self, scope: &Scope, id: &str) -> Result<Store, MemoryError> {
        let found = self.parts().objects.get(scope, STORE, id).await?;
        let unknown = || {
            MemoryError::NotFound(format!(
                "there is no vector store `{id}`, or it has expired; GET /v1/vector_stores lists them"
            ))
        };
        found.map(read).transpose()?.ok_or_else(unknown)
    }

    /// Stores, and whether there are more.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]; [`MemoryError::BadRequest`] if the slice begins or ends at an unknown store.
    pub async fn stores(&self, scope: &Scope, slice: &Slice) -> Result<(Vec<Store>, bool), MemoryError> {
        let (found, more) = list_where(&*self.parts().objects, scope, STORE, None, slice, |_| true).await?;
        let stores = found.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok((stores, more))
    }

    /// Changes what its owner says of a store.
    ///
    /// # Errors
    /// As [`VectorStores::store`].
    pub async fn update(&self, scope: &Scope, id: &str, wanted: Changes) -> Result<Store, MemoryError> {
        let _changes = self.changing().await?;
        let mut store = self.store(scope, id).await?;
        change(&mut store, wanted);
        store.last_active_at = self.parts().clock.now_ms();
        self.put_store(scope, &store).await?;
        Ok(store)
    }

    /// Deletes a store with all that can be found in it; the files themselves stay.
    ///
    /// # Errors
    /// As [`VectorStores::store`].
    pub async fn delete(&self, scope: &Scope, id: &str) -> Result<(), MemoryError> {
        let _changes = self.changing().await?;
        self.store(scope, id).await?;
        self.empty(scope, id).await?;
        self.parts().objects.delete(scope, STORE, id).await?;
        Ok(())
    }

    /// Removes everything in a store: the journal first, whose word counts.
    async fn empty(&self, scope: &Scope, id: &str) -> Result<(), MemoryError> {
        let files = self.all_attached(scope, id).await?;
        self.remove_documents(scope, id, &files).await?;
        self.parts().objects.delete_children(scope, FILE, id).await?;
        self.parts().objects.delete_children(scope, BATCH, id).await?;
        Ok(())
    }

    /// Notes that a store is in use, which puts off its end.
    async fn touch(&self, scope: &Scope, id: &str) -> Result<Store, MemoryError> {
        let store = self.store(scope, id).await?;
        let now = self.parts().clock.now_ms();
        // It is shown in seconds: more often, it would only be written for nothing.
        if now / 1000 == store.last_active_at / 1000 {
            return Ok(store);
        }
        let _changes = self.changing().await?;
        let mut store = self.store(scope, id).await?;
        store.last_active_at = now;
        self.put_store(scope, &store).await?;
        Ok(store)
    }

    /// Waits until nobody else changes stores, here or in another process; nobody does until what is given is dropped.
    async fn changing(&self) -> Result<(Alone, MutexGuard<'_, ()>), MemoryError> {
        let here = self.inner.changes.lock().await;
        Ok((self.parts().objects.alone().await?, here))
    }

    async fn put_store(&self, scope: &Scope, store: &Store) -> Result<(), MemoryError> {
        let object = Object {
            kind: STORE.to_owned(),
            id: store.id.clone(),
            parent: None,
            created_at: store.created_at,
            expires_at: store.expires_at(),
            body: body(store)?,
        };
        self.parts().objects.put(scope, vec![object]).await
    }

    /// Deletes a file and takes it out of all stores.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Storage`].
    pub async fn delete_file(&self, scope: &Scope, file: &str) -> Result<(), MemoryError> {
        self.files().get(scope, file).await?;
        self.detach_everywhere(scope, file).await?;
        self.files().delete(scope, file).await?;
        Ok(())
    }
}

#[async_trait]
impl Expiry for VectorStores {
    async fn expire(&self, scope: &Scope, object: &Object) -> Result<(), MemoryError> {
        match object.kind.as_str() {
            files::KIND => {
                self.detach_everywhere(scope, &object.id).await?;
                self.files().remove_bytes(scope, &object.id).await
            }
            STORE => {
                let _changes = self.changing().await?;
                self.empty(scope, &object.id).await
            }
            _ => Ok(()),
        }
    }
}

fn change(store: &mut Store, wanted: Changes) {
    let Changes {
        name,
        description,
        metadata,
        expires_after_days,
    } = wanted;
    store.name = name.or_else(|| store.name.take());
    store.description = description.or_else(|| store.description.take());
    store.metadata = metadata.unwrap_or_else(|| std::mem::take(&mut store.metadata));
    store.expires_after_days = expires_after_days.or(store.expires_after_days);
}

fn body<T: Serialize>(value: &T) -> Result<Value, MemoryError> {
    serde_json::to_value(value).map_err(|error| MemoryError::Storage(format!("this can't be written: {error}")))
}

fn read<T: DeserializeOwned>(object: Object) -> Result<T, MemoryError> {
    let Object { kind, id, body, .. } = object;
    serde_json::from_value(body)
        .map_err(|error| MemoryError::Storage(format!("{kind} {id} in the database is damaged ({error}): delete it")))
}
