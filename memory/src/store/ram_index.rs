//! [`RamIndex`]: the index in memory only, for tests: exact, and nothing to open.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;

use super::shelf::{self, Shelf};
use crate::error::MemoryError;
use crate::index::{Entry, Hit, Index, Named, Query, Removal, Section, within};
use crate::scope::Scope;

/// The index as shelves without anything behind them.
pub struct RamIndex {
    dimensions: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<Uuid, Entry>,
    shelves: HashMap<Section, Shelf>,
}

impl RamIndex {
    /// An empty index.
    #[must_use]
    pub fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_dimensions(&self, vector: &[f32]) -> Result<(), MemoryError> {
        if vector.len() == self.dimensions {
            return Ok(());
        }
        let text = format!(
            "a vector has {} dimensions, but this index has {}",
            vector.len(),
            self.dimensions
        );
        Err(MemoryError::BadRequest(text))
    }
}

#[async_trait]
impl Index for RamIndex {
    async fn upsert(&self, entries: Vec<Entry>) -> Result<(), MemoryError> {
        for entry in &entries {
            self.check_dimensions(&entry.vector)?;
        }
        let mut kept = self.kept();
        for entry in entries {
            if let Some(old) = kept.entries.remove(&entry.id)
                && let Some(shelf) = kept.shelves.get_mut(&Section::of(&old))
            {
                shelf.forget(old.id);
            }
            kept.shelves.entry(Section::of(&entry)).or_default().put(&entry);
            kept.entries.insert(entry.id, entry);
        }
        Ok(())
    }

    async fn search(&self, scope: &Scope, query: Query<'_>) -> Result<Vec<Hit>, MemoryError> {
        if let Some(vector) = query.vector.known() {
            self.check_dimensions(vector)?;
        }
        let vector = query.vector.settled().await;
        let query = Query { vector, ..query };
        let kept = self.kept();
        let sections = Section::readable(scope, query.source);
        let shelves: Vec<&Shelf> = sections
            .iter()
            .filter_map(|section| kept.shelves.get(section))
            .collect();
        Ok(shelf::search(
            &shelves,
            within(scope, query.source),
            &query,
            shelf::Alike::new,
        ))
    }

    async fn remove(&self, removal: Removal) -> Result<(), MemoryError> {
        let mut kept = self.kept();
        match removal {
            Removal::All => *kept = Kept::default(),
            Removal::User { team, user } => {
                kept.entries
                    .retain(|_, entry| entry.owner.team != team || entry.owner.user.as_ref() != Some(&user));
                kept.shelves
                    .retain(|section, _| section.team != team || section.user.as_ref() != Some(&user));
            }
            Removal::Parents { team, parents } => {
                let gone = |entry: &Entry| entry.owner.team == team && parents.contains(&entry.parent);
                kept.entries.retain(|_, entry| !gone(entry));
                for (_, shelf) in kept.shelves.iter_mut().filter(|(section, _)| section.team == team) {
                    parents.iter().for_each(|parent| shelf.remove(*parent));
                }
            }
        }
        Ok(())
    }

    async fn entries(&self, section: &Section, most: usize) -> Result<Option<Vec<Entry>>, MemoryError> {
        let kept = self.kept();
        let found: Vec<Entry> = kept
            .entries
            .values()
            .filter(|entry| Section::of(entry) == *section)
            .cloned()
            .collect();
        Ok((found.len() <= most).then_some(found))
    }

    async fn named(&self, names: &Named) -> Result<Vec<Entry>, MemoryError> {
        let kept = self.kept();
        Ok(match names {
            Named::Entries(ids) => ids.iter().filter_map(|id| kept.entries.get(id).cloned()).collect(),
            Named::Parents { team, parents } => {
                let is_named = |entry: &&Entry| entry.owner.team == *team && parents.contains(&entry.parent);
                kept.entries.values().filter(is_named).cloned().collect()
            }
        })
    }

    async fn sections(&self) -> Result<Vec<(Section, usize)>, MemoryError> {
        let kept = self.kept();
        let sections = kept.shelves.iter().filter(|(_, shelf)| !shelf.is_empty());
        Ok(sections
            .map(|(section, shelf)| (section.clone(), shelf.len()))
            .collect())
    }

    async fn len(&self) -> Result<u64, MemoryError> {
        Ok(self.kept().entries.len() as u64)
    }

    async fn optimize(&self) -> Result<(), MemoryError> {
        Ok(())
    }
}
