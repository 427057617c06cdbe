//! Forgetting a concept: first everything is shown that memory would find for it, then, with the preview's token, just
//! that is deleted.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::Memories;
use crate::context::{self, ContextSource, KnownFacts, Options, Recalled, Request, Slot, gather};
use crate::error::MemoryError;
use crate::objects::Object;
use crate::overflow::Gone;
use crate::passage::{Passage, SourceKind};
use crate::scope::Scope;

/// The kind of a preview's note.
const KIND: &str = "memory.forget";

/// How long a preview may be confirmed.
const VALID_MS: i64 = 15 * 60 * 1000;

/// Someone waits for just this.
const DEADLINE: Duration = Duration::from_secs(10);

/// What sort of thing is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// A fact.
    Memory,
    /// A recorded turn.
    Turn,
    /// A whole document, of which a passage fits.
    Document,
}

/// What is to be forgotten.
#[derive(Debug, Clone, PartialEq)]
pub struct Concept {
    /// Words for it.
    pub query: String,
    /// What is looked at.
    pub sorts: Vec<Sort>,
    /// Things of each sort, at most.
    pub limit: usize,
}

/// One thing that would go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forgotten {
    /// What it is.
    pub sort: Sort,
    /// Its id.
    pub id: Uuid,
    /// What was found of it.
    pub text: String,
    /// How well it fits, 0 to 1; comparable within one sort.
    pub score: f32,
}

/// What would go.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// Confirms it, within a quarter of an hour.
    pub token: String,
    /// What would go, best first within each sort.
    pub items: Vec<Forgotten>,
    /// Whether more of a sort fits than [`Concept::limit`] shows.
    pub has_more: bool,
}

impl Memories {
    /// What memory finds for a concept. Nothing is deleted.
    ///
    /// # Errors
    /// [`MemoryError::Embedding`], [`MemoryError::Storage`].
    pub async fn forget_preview(&self, scope: &Scope, concept: &Concept) -> Result<Preview, MemoryError> {
        let vectors = self.parts.embedder.embed(vec![concept.query.clone()]).await?;
        let now = self.parts.clock.now_ms();
        let request = Request {
            scope: scope.clone(),
            messages: Arc::default(),
            query: concept.query.clone(),
            asked_at: now,
            vector: vectors.into_iter().next().into(),
            limit: concept.limit,
            gone: Gone::default(),
        };
        let (mut items, mut has_more) = (Vec::new(), false);
        for sort in &concept.sorts {
            // One by one: what a turn says in the words of a fact goes as well.
            let slot = Slot {
                source: self.source(*sort, concept.limit),
                // One more tells whether there are more.
                chunks: concept.limit.saturating_add(1),
                deadline: DEADLINE,
            };
            let found = gather(&[slot], &request).await;
            if let Some(problem) = found.reports.into_iter().find_map(|report| report.problem) {
                return Err(MemoryError::Storage(format!("memory could not be searched: {problem}")));
            }
            has_more |= found.passages.len() > concept.limit;
            for passage in found.passages.into_iter().take(concept.limit) {
                let found = forgotten(*sort, passage)?;
                if !items.iter().any(|known: &Forgotten| known.id == found.id) {
                    items.push(found);
                }
            }
        }
        let token = format!("forget_{}", Uuid::now_v7().simple());
        let ids: Vec<_> = items
            .iter()
            .map(|item| json!({"sort": item.sort, "id": item.id}))
            .collect();
        let note = Object {
            kind: KIND.to_owned(),
            id: token.clone(),
            parent: None,
            created_at: now,
            expires_at: Some(now.saturating_add(VALID_MS)),
            // Without the texts: a preview that nobody confirms leaves no copy of them.
            body: json!(ids),
        };
        self.parts.objects.put(scope, vec![note]).await?;
        Ok(Preview { token, items, has_more })
    }

    /// Deletes what a preview showed, but for what is to be kept; returns what was deleted.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`] if there is no such preview, or not any more; [`MemoryError::Storage`].
    pub async fn forget(&self, scope: &Scope, token: &str, keep: &[Uuid]) -> Result<Vec<(Sort, Uuid)>, MemoryError> {
        let unknown = || {
            let message =
                format!("there is no preview `{token}`, or it is too old; send the `query` again for a new one");
            MemoryError::NotFound(message)
        };
        let note = self.parts.objects.get(scope, KIND, token).await?.ok_or_else(unknown)?;
        let items: Vec<Noted> =
            serde_json::from_value(note.body).map_err(|error| MemoryError::Storage(error.to_string()))?;
        let mut gone = Vec::new();
        for Noted { sort, id } in items.into_iter().filter(|item| !keep.contains(&item.id)) {
            let deleted = match sort {
                Sort::Memory => !self.remove(scope, &[id]).await?.is_empty(),
                Sort::Turn => self.delete_turn(scope, id).await?,
                Sort::Document => {
                    let deleted = self.parts.journal.delete_document(scope, id).await?;
                    self.unindex(scope, vec![id]).await?;
                    deleted
                }
            };
            if deleted {
                gone.push((sort, id));
            }
        }
        self.parts.objects.delete(scope, KIND, token).await?;
        Ok(gone)
    }

    /// What finds more than `limit` where there are more.
    fn source(&self, sort: Sort, limit: usize) -> Arc<dyn ContextSource> {
        let parts = &self.parts;
        let usual = Options::default();
        let candidates = usual.candidates.max(limit.saturating_add(1));
        let options = Options { candidates, ..usual };
        let (journal, index) = (Arc::clone(&parts.journal), Arc::clone(&parts.index));
        let indexer = Some(parts.indexer.clone());
        match sort {
            Sort::Memory => {
                let facts = Arc::clone(&parts.facts);
                Arc::new(KnownFacts::new(facts, index, indexer, options).unpinned())
            }
            Sort::Turn => Arc::new(Recalled::new(journal, index, indexer, options)),
            Sort::Document => context::persistent(journal, index, indexer, options),
        }
    }
}

/// What a note holds of an item.
#[derive(Deserialize)]
struct Noted {
    sort: Sort,
    id: Uuid,
}

fn forgotten(sort: Sort, passage: Passage) -> Result<Forgotten, MemoryError> {
    debug_assert!(passage.source != SourceKind::Stored, "stores are not searched here");
    let id = Uuid::parse_str(&passage.citation.id).map_err(|error| MemoryError::Storage(error.to_string()))?;
    Ok(Forgotten {
        sort,
        id,
        text: passage.text,
        score: passage.score,
    })
}
