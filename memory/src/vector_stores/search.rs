//! Searching stores: the index's candidates, ranked as memory ranks them, with scores that also say how well the best
//! one fits at all.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use uuid::Uuid;

use super::attach::Status;
use super::{Filter, VectorStores};
use crate::documents::{Chunk, Document};
use crate::error::MemoryError;
use crate::index::{Hit, Query};
use crate::passage::SourceKind;
use crate::query_vector::QueryVector;
use crate::rank::{self, Weights};
use crate::scope::Scope;

/// Candidates of each leg of a search, at least: ranking needs a choice.
const CANDIDATES: usize = 100;

/// What is looked for in stores.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Questions, or words of them; a chunk counts by the one that it fits best.
    pub queries: Vec<String>,
    /// What files must be like.
    pub filter: Option<Filter>,
    /// Chunks at most.
    pub limit: usize,
    /// Chunks with a score below this are left out, 0 to 1.
    pub threshold: f32,
}

/// A chunk that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The file's id.
    pub file: String,
    /// The file's name.
    pub name: String,
    /// The file's attributes in its store.
    pub attributes: Map<String, Value>,
    /// How well it fits, 0 to 1.
    pub score: f32,
    /// The document and its chunk.
    pub document: Document,
    /// The chunk.
    pub chunk: Chunk,
}

/// A chunk on its way to be ranked.
type Near = (Hit, Document, Chunk);

impl VectorStores {
    /// The chunks of these stores that fit best, best first, each text once.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`] if a store is not there, or has expired; [`MemoryError::Storage`].
    pub async fn search(&self, scope: &Scope, stores: &[String], search: &Search) -> Result<Vec<Found>, MemoryError> {
        for store in stores {
            self.touch(scope, store).await?;
            self.take_up(scope, store).await?;
        }
        let queries: Vec<&String> = search.queries.iter().filter(|query| !query.trim().is_empty()).collect();
        let vectors = self.vectors(&queries).await.into_iter();
        let vectors: Vec<QueryVector> = vectors.map(QueryVector::from).collect();
        let mut allowed = HashMap::new();
        if let Some(filter) = &search.filter {
            for store in stores {
                allowed.insert(store.as_str(), self.documents_that_fit(scope, store, filter).await?);
            }
        }
        let mut best: HashMap<Uuid, (f32, Document, Chunk)> = HashMap::new();
        for (at, query) in queries.iter().enumerate() {
            let mut near = Vec::new();
            for store in stores {
                let query = Query {
                    source: SourceKind::Stored,
                    text: query,
                    vector: vectors.get(at).cloned().unwrap_or_default(),
                    parents: allowed.get(store.as_str()).map(Vec::as_slice),
                    limit: CANDIDATES.max(2 * search.limit),
                    around: false,
                };
                if query.parents.is_some_and(<[Uuid]>::is_empty) {
                    continue;
                }
                near.extend(self.near(&scope.in_store(store), query).await?);
            }
            for (score, document, chunk) in scored(near) {
                let slot = best.entry(chunk.id).or_insert((score, document, chunk));
                slot.0 = slot.0.max(score);
            }
        }
        let mut best: Vec<_> = best
            .into_values()
            .filter(|(score, ..)| *score >= search.threshold)
            .collect();
        best.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| in_order(&a.1, &a.2, &b.1, &b.2)));
        self.with_files(scope, best, search.limit).await
    }

    /// Vectors of the queries; none if the embedder fails, and words alone find then.
    async fn vectors(&self, queries: &[&String]) -> Vec<Vec<f32>> {
        let texts = queries.iter().map(ToString::to_string).collect();
        match self.parts().embedder.embed(texts).await {
            Ok(vectors) => vectors,
            Err(error) => {
                tracing::warn!("vector stores are searched by words alone: {error}");
                Vec::new()
            }
        }
    }

    async fn documents_that_fit(&self, scope: &Scope, store: &str, filter: &Filter) -> Result<Vec<Uuid>, MemoryError> {
        let files = self.all_attached(scope, store).await?;
        Ok(files
            .into_iter()
            .filter(|attached| attached.status == Status::Completed && filter.fits(&attached.attributes))
            .map(|attached| attached.document)
            .collect())
    }

    async fn near(&self, inside: &Scope, query: Query<'_>) -> Result<Vec<Near>, MemoryError> {
        let mut hits = self.parts().index.search(inside, query).await?;
        // The index gives no order; nothing below must depend on it.
        hits.sort_by_key(|hit| hit.id);
        let ids: Vec<Uuid> = hits.iter().map(|hit| hit.id).collect();
        let chunks = self.parts().journal.chunks_by_id(inside, &ids).await?;
        let mut chunks: HashMap<Uuid, (Document, Chunk)> =
            chunks.into_iter().map(|found| (found.1.id, found)).collect();
        let near = hits.into_iter().filter_map(|hit| {
            let (document, chunk) = chunks.remove(&hit.id)?;
            Some((hit, document, chunk))
        });
        Ok(near.collect())
    }

    /// The first of these, each with its file. What was taken out of its store meanwhile is left out.
    async fn with_files(
        &self,
        scope: &Scope,
        best: Vec<(f32, Document, Chunk)>,
        limit: usize,
    ) -> Result<Vec<Found>, MemoryError> {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        for (score, document, chunk) in best {
            if found.len() >= limit {
                break;
            }
            let Some(attached) = self.origin(scope, document.id).await? else {
                continue;
            };
            // A file that is in two of the stores is one file.
            if seen.insert((attached.file.clone(), chunk.text.clone())) {
                found.push(Found {
                    file: attached.file,
                    name: attached.name,
                    attributes: attached.attributes,
                    score,
                    document,
                    chunk,
                });
            }
        }
        Ok(found)
    }
}

/// Scores of chunks for one query. Ranking says how they stand to each other, with the best near 1 whatever it is; here
/// that is multiplied with how well the best one fits at all (its cosine, or the share of the query's words that it
/// has), so that a threshold means something.
fn scored(near: Vec<Near>) -> Vec<(f32, Document, Chunk)> {
    let (hits, mut chunks): (Vec<Hit>, Vec<_>) = near
        .into_iter()
        .map(|(hit, document, chunk)| (hit, Some((document, chunk))))
        .unzip();
    let fits = hits.iter().map(|hit| hit.cosine.unwrap_or_default().max(hit.overlap));
    let fit = fits.fold(0.0_f32, f32::max).clamp(0.0, 1.0);
    rank::rank(&hits, None, &Weights::CHUNKS)
        .into_iter()
        .filter_map(|scored| {
            let (document, chunk) = chunks.get_mut(scored.place)?.take()?;
            Some((scored.score * fit, document, chunk))
        })
        .collect()
}

/// Equal scores: newest file first, then as they stand in it.
fn in_order(a: &Document, one: &Chunk, b: &Document, other: &Chunk) -> Ordering {
    b.id.cmp(&a.id).then(one.ordinal.cmp(&other.ordinal))
}
