//! The second and third context systems: chunks of documents, lasting (persistent) or of one conversation (inference).
//! Both are the same code over different entries of the index.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::context::options::{self, normalised};
use crate::context::{ContextSource, Options, Request};
use crate::documents::{Chunk, Document};
use crate::error::MemoryError;
use crate::index::Index;
use crate::indexer::Indexer;
use crate::journal::Journal;
use crate::passage::{Passage, SourceKind};

/// Chunks that are read from the journal at once.
const READ: usize = 16;

struct Documents {
    kind: SourceKind,
    journal: Arc<dyn Journal>,
    index: Arc<dyn Index>,
    indexer: Option<Indexer>,
    options: Options,
}

/// Lasting knowledge: documents ingested for a user or a team.
#[must_use]
pub fn persistent(
    journal: Arc<dyn Journal>,
    index: Arc<dyn Index>,
    indexer: Option<Indexer>,
    options: Options,
) -> Arc<dyn ContextSource> {
    Arc::new(Documents {
        kind: SourceKind::Persistent,
        journal,
        index,
        indexer,
        options,
    })
}

/// Documents given for one conversation; found from that conversation only.
#[must_use]
pub fn inference(
    journal: Arc<dyn Journal>,
    index: Arc<dyn Index>,
    indexer: Option<Indexer>,
    options: Options,
) -> Arc<dyn ContextSource> {
    Arc::new(Documents {
        kind: SourceKind::Inference,
        journal,
        index,
        indexer,
        options,
    })
}

#[async_trait]
impl ContextSource for Documents {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    async fn passages(&self, request: &Request) -> Result<Vec<Passage>, MemoryError> {
        let near = options::candidates(
            self.kind,
            request,
            self.index.as_ref(),
            self.indexer.as_ref(),
            &self.options,
        )
        .await?;
        let mut seen = HashSet::new();
        let mut passages = Vec::new();
        for near in near.chunks(request.limit.max(READ)) {
            let ids: Vec<Uuid> = near.iter().map(|(hit, _)| hit.id).collect();
            let chunks: HashMap<Uuid, (Document, Chunk)> = self
                .journal
                .chunks_by_id(&request.scope, &ids)
                .await?
                .into_iter()
                .map(|(document, chunk)| (chunk.id, (document, chunk)))
                .collect();
            for (hit, score) in near {
                let Some((document, chunk)) = chunks.get(&hit.id) else {
                    continue;
                };
                if seen.insert(normalised(&chunk.text)) {
                    passages.push(Passage::of_chunk(self.kind, document, chunk, *score));
                }
                if passages.len() == request.limit {
                    return Ok(passages);
                }
            }
        }
        Ok(passages)
    }
}
