//! Stores as a context source, for one request that names them: what is found goes the way of all passages, and is kept
//! for the reply, which says what was found and cites it.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{Found, Search, VectorStores};
use crate::context::{ContextSource, Request};
use crate::error::MemoryError;
use crate::passage::{Passage, SourceKind};

/// What a source looked for and found, for whoever renders the reply.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// What was looked for; nothing until it was asked.
    pub queries: Vec<String>,
    /// What was found, best first; `None` until the search is done, and if it failed.
    pub found: Option<Vec<Found>>,
}

/// Findings as they come.
pub type Finds = Arc<Mutex<Findings>>;

/// Some stores, searched as one.
pub struct StoreSource {
    stores: VectorStores,
    ids: Vec<String>,
    search: Search,
    finds: Finds,
}

impl StoreSource {
    /// Searches these stores. The search's queries are those of the turn, unless it brings its own.
    #[must_use]
    pub fn new(stores: VectorStores, ids: Vec<String>, search: Search) -> Self {
        Self {
            stores,
            ids,
            search,
            finds: Finds::default(),
        }
    }

    /// What it has found, once it was asked.
    #[must_use]
    pub fn finds(&self) -> Finds {
        Arc::clone(&self.finds)
    }
}

#[async_trait]
impl ContextSource for StoreSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Stored
    }

    async fn passages(&self, request: &Request) -> Result<Vec<Passage>, MemoryError> {
        let mut search = self.search.clone();
        if search.queries.is_empty() {
            search.queries.push(request.query.clone());
        }
        search.limit = search.limit.min(request.limit);
        self.note(|findings| findings.queries.clone_from(&search.queries));
        let found = self.stores.search(&request.scope, &self.ids, &search).await?;
        let passages = found
            .iter()
            .map(|found| Passage::of_chunk(SourceKind::Stored, &found.document, &found.chunk, found.score))
            .collect();
        self.note(|findings| findings.found = Some(found));
        Ok(passages)
    }
}

impl StoreSource {
    /// Nothing panics with the lock held.
    fn note(&self, change: impl FnOnce(&mut Findings)) {
        change(&mut self.finds.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
