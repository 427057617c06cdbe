//! A journal in the process, for tests: the laws of [`Journal`] without the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;

use super::{admit_document, admit_turn, taken};
use crate::documents::{Chunk, Document, Place};
use crate::error::MemoryError;
use crate::interaction::Interaction;
use crate::journal::{Erased, First, Journal, Page, Pending, Totals};
use crate::scope::Scope;

/// See the module.
#[derive(Default)]
pub struct RamJournal {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    turns: BTreeMap<Uuid, Kept<Interaction>>,
    documents: BTreeMap<Uuid, Document>,
    /// With the id of their document.
    chunks: BTreeMap<Uuid, Kept<(Uuid, Chunk)>>,
    closed: bool,
}

struct Kept<T> {
    item: T,
    indexed: bool,
}

impl State {
    fn open(&self) -> Result<(), MemoryError> {
        if self.closed {
            return Err(MemoryError::Storage(
                "the journal is closed: the server is stopping".to_owned(),
            ));
        }
        Ok(())
    }

    fn own(&self, scope: &Scope, id: Uuid) -> Option<&Interaction> {
        self.turns
            .get(&id)
            .map(|kept| &kept.item)
            .filter(|turn| owns(scope, &turn.scope))
    }

    fn remove_document(&mut self, id: Uuid) {
        self.documents.remove(&id);
        self.chunks.retain(|_, kept| kept.item.0 != id);
    }

    /// Oldest first.
    fn pending(&self) -> Vec<Pending> {
        let turns = self
            .turns
            .iter()
            .filter(|(_, kept)| !kept.indexed && kept.item.is_recallable());
        let turns = turns.map(|(id, kept)| {
            let turn = &kept.item;
            let parent = turn
                .parent
                .and_then(|id| self.own(&turn.scope, id))
                .filter(|parent| parent.is_recallable());
            let before = parent.map(|parent| (parent.prompt.clone(), parent.reply.clone()));
            (
                *id,
                Pending::Turn {
                    turn: Box::new(turn.clone()),
                    before,
                },
            )
        });
        let chunks = self
            .chunks
            .iter()
            .filter(|(_, kept)| !kept.indexed)
            .filter_map(|(id, kept)| {
                let (document, chunk) = &kept.item;
                let document = Box::new(self.documents.get(document)?.clone());
                Some((
                    *id,
                    Pending::Chunk {
                        document,
                        chunk: chunk.clone(),
                    },
                ))
            });
        let mut pending: Vec<(Uuid, Pending)> = turns.chain(chunks).collect();
        pending.sort_by_key(|(id, _)| *id);
        pending.into_iter().map(|(_, item)| item).collect()
    }
}

fn owns(scope: &Scope, owner: &Scope) -> bool {
    scope.team() == owner.team() && scope.user() == owner.user()
}

fn sees(scope: &Scope, document: &Document) -> bool {
    match document.place {
        Place::Team => scope.team() == document.scope.team(),
        Place::User => owns(scope, &document.scope),
        Place::Conversation => owns(scope, &document.scope) && scope.conversation() == document.scope.conversation(),
        Place::Store => owns(scope, &document.scope) && scope.store() == document.scope.store(),
    }
}

fn replaces(new: &Document, old: &Document) -> bool {
    new.place != Place::Store && new.place == old.place && new.name == old.name && sees(&new.scope, old)
}

impl RamJournal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writable(&self) -> Result<MutexGuard<'_, State>, MemoryError> {
        let state = self.state();
        state.open()?;
        Ok(state)
    }
}

#[async_trait]
impl Journal for RamJournal {
    async fn record(&self, turn: Interaction) -> Result<(), MemoryError> {
        admit_turn(&turn)?;
        let mut state = self.writable()?;
        if state
            .turns
            .get(&turn.id)
            .is_some_and(|old| !owns(&turn.scope, &old.item.scope))
        {
            return Err(taken());
        }
        state.turns.insert(
            turn.id,
            Kept {
                item: turn,
                indexed: false,
            },
        );
        Ok(())
    }

    async fn turn(&self, scope: &Scope, id: Uuid) -> Result<Option<Interaction>, MemoryError> {
        Ok(self.state().own(scope, id).cloned())
    }

    async fn turns_by_id(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Interaction>, MemoryError> {
        let state = self.state();
        Ok(ids.iter().filter_map(|id| state.own(scope, *id).cloned()).collect())
    }

    async fn turns(&self, scope: &Scope, page: Page) -> Result<Vec<Interaction>, MemoryError> {
        let state = self.state();
        let own = state
            .turns
            .values()
            .rev()
            .map(|kept| &kept.item)
            .filter(|turn| owns(scope, &turn.scope));
        let here =
            own.filter(|turn| scope.conversation().is_none() || turn.scope.conversation() == scope.conversation());
        let older = here.filter(|turn| page.before.is_none_or(|before| turn.id < before));
        let limit = usize::try_from(page.limit.clamp(1, Page::MOST)).unwrap_or(usize::MAX);
        Ok(older.take(limit).cloned().collect())
    }

    async fn turn_by_chain(&self, scope: &Scope, chain: &str) -> Result<Option<Interaction>, MemoryError> {
        let state = self.state();
        let mut own = state
            .turns
            .values()
            .rev()
            .map(|kept| &kept.item)
            .filter(|turn| owns(scope, &turn.scope));
        Ok(own.find(|turn| turn.chain == chain).cloned())
    }

    async fn delete_turn(&self, scope: &Scope, id: Uuid) -> Result<bool, MemoryError> {
        let mut state = self.writable()?;
        let found = state.own(scope, id).is_some();
        if found {
            state.turns.remove(&id);
        }
        Ok(found)
    }

    async fn add_document(&self, document: Document, chunks: Vec<Chunk>) -> Result<Vec<Uuid>, MemoryError> {
        let document = admit_document(document, &chunks)?;
        let mut state = self.writable()?;
        let old: Vec<Uuid> = state
            .documents
            .values()
            .filter(|old| replaces(&document, old))
            .map(|old| old.id)
            .collect();
        let id_taken = state.documents.contains_key(&document.id) && !old.contains(&document.id);
        let mut ids = std::collections::HashSet::new();
        let chunk_taken = chunks.iter().any(|chunk| {
            let kept = state
                .chunks
                .get(&chunk.id)
                .is_some_and(|kept| !old.contains(&kept.item.0));
            kept || !ids.insert(chunk.id)
        });
        if id_taken || chunk_taken {
            return Err(taken());
        }
        for id in &old {
            state.remove_document(*id);
        }
        for chunk in chunks {
            state.chunks.insert(
                chunk.id,
                Kept {
                    item: (document.id, chunk),
                    indexed: false,
                },
            );
        }
        state.documents.insert(document.id, document);
        Ok(old)
    }

    async fn documents(&self, scope: &Scope) -> Result<Vec<Document>, MemoryError> {
        Ok(self
            .state()
            .documents
            .values()
            .rev()
            .filter(|document| sees(scope, document))
            .cloned()
            .collect())
    }

    async fn document(&self, scope: &Scope, id: Uuid) -> Result<Option<Document>, MemoryError> {
        Ok(self
            .state()
            .documents
            .get(&id)
            .filter(|document| sees(scope, document))
            .cloned())
    }

    async fn chunks_by_id(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<(Document, Chunk)>, MemoryError> {
        let state = self.state();
        let found = ids.iter().filter_map(|id| {
            let (document, chunk) = &state.chunks.get(id)?.item;
            let document = state.documents.get(document).filter(|document| sees(scope, document))?;
            Some((document.clone(), chunk.clone()))
        });
        Ok(found.collect())
    }

    async fn chunks(&self, scope: &Scope, document: Uuid) -> Result<Vec<Chunk>, MemoryError> {
        if self.document(scope, document).await?.is_none() {
            return Ok(Vec::new());
        }
        let state = self.state();
        let mut chunks: Vec<Chunk> = state
            .chunks
            .values()
            .filter(|kept| kept.item.0 == document)
            .map(|kept| kept.item.1.clone())
            .collect();
        chunks.sort_by_key(|chunk| chunk.ordinal);
        Ok(chunks)
    }

    async fn given(&self, scope: &Scope) -> Result<Vec<Document>, MemoryError> {
        let state = self.state();
        let given = state.documents.values().filter(|document| owns(scope, &document.scope));
        Ok(given.cloned().collect())
    }

    async fn erase(&self, scope: &Scope, team_wide: bool) -> Result<Erased, MemoryError> {
        let mut state = self.writable()?;
        let turns = state.turns.len();
        state.turns.retain(|_, kept| !owns(scope, &kept.item.scope));
        let goes = |document: &&Document| owns(scope, &document.scope) && (team_wide || document.place != Place::Team);
        let documents: Vec<Uuid> = state
            .documents
            .values()
            .filter(goes)
            .map(|document| document.id)
            .collect();
        for id in &documents {
            state.remove_document(*id);
        }
        Ok(Erased {
            turns: (turns - state.turns.len()) as u64,
            documents,
        })
    }

    async fn purge(&self) -> Result<(), MemoryError> {
        Ok(())
    }

    async fn delete_document(&self, scope: &Scope, id: Uuid) -> Result<bool, MemoryError> {
        let mut state = self.writable()?;
        let found = state.documents.get(&id).is_some_and(|document| sees(scope, document));
        if found {
            state.remove_document(id);
        }
        Ok(found)
    }

    async fn pending(&self, limit: u64, first: First) -> Result<Vec<Pending>, MemoryError> {
        let mut pending = self.state().pending();
        if first == First::Newest {
            pending.reverse();
        }
        pending.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(pending)
    }

    async fn mark_indexed(&self, ids: &[Uuid]) -> Result<(), MemoryError> {
        let mut state = self.writable()?;
        for id in ids {
            if let Some(kept) = state.turns.get_mut(id) {
                kept.indexed = true;
            }
            if let Some(kept) = state.chunks.get_mut(id) {
                kept.indexed = true;
            }
        }
        Ok(())
    }

    async fn owners(&self) -> Result<Vec<Scope>, MemoryError> {
        let state = self.state();
        let turns = state.turns.values().map(|kept| &kept.item.scope);
        let owners = turns.chain(state.documents.values().map(|document| &document.scope));
        let names: BTreeSet<(String, String)> = owners
            .map(|scope| (scope.team().to_owned(), scope.user().to_owned()))
            .collect();
        let scope = |(team, user)| Scope::new(team, user).map_err(|error| MemoryError::Storage(error.to_string()));
        names.into_iter().map(scope).collect()
    }

    async fn set_remember(&self, scope: &Scope, ids: &[Uuid], remember: bool) -> Result<u64, MemoryError> {
        let mut state = self.state();
        state.open()?;
        let mut changed = 0;
        for id in ids {
            let Some(kept) = state.turns.get_mut(id).filter(|kept| owns(scope, &kept.item.scope)) else {
                continue;
            };
            if kept.item.remember != remember {
                kept.item.remember = remember;
                kept.indexed = false;
                changed += 1;
            }
        }
        Ok(changed)
    }

    async fn mark_pending(&self, scope: &Scope, ids: &[Uuid]) -> Result<u64, MemoryError> {
        let mut state = self.state();
        state.open()?;
        let mut marked = 0;
        for id in ids {
            let Some(kept) = state.turns.get_mut(id).filter(|kept| owns(scope, &kept.item.scope)) else {
                continue;
            };
            if kept.item.is_recallable() {
                kept.indexed = false;
                marked += 1;
            }
        }
        Ok(marked)
    }

    async fn mark_all_pending(&self) -> Result<u64, MemoryError> {
        let mut state = self.writable()?;
        state.turns.values_mut().for_each(|kept| kept.indexed = false);
        state.chunks.values_mut().for_each(|kept| kept.indexed = false);
        Ok(state.pending().len() as u64)
    }

    async fn totals(&self) -> Result<Totals, MemoryError> {
        let state = self.state();
        Ok(Totals {
            turns: state.turns.len() as u64,
            documents: state.documents.len() as u64,
            chunks: state.chunks.len() as u64,
            pending: state.pending().len() as u64,
        })
    }

    async fn close(&self) {
        self.state().closed = true;
    }
}
