//! Facts by what they say, also as of an earlier time.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::Memories;
use crate::error::MemoryError;
use crate::facts::{Fact, Filter};
use crate::index::{Hit, Query};
use crate::passage::SourceKind;
use crate::rank::{self, Floor, Weights};
use crate::scope::Scope;

/// How long a search waits for what was added just now.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Candidates, at least: filters may let few of them through.
const CANDIDATES: usize = 200;

/// What is looked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Search {
    /// The question, or words of it.
    pub query: String,
    /// Facts at most.
    pub limit: usize,
    /// Which facts are meant.
    pub filter: Filter,
    /// Only facts whose metadata has these values.
    pub metadata: Map<String, Value>,
    /// Only facts that fit so well, 0 to 1; those that a turn would be given, if unset.
    pub threshold: Option<f32>,
}

impl Memories {
    /// The facts that fit, best first, each with how well it fits, 0 to 1. Facts that count in one conversation only are
    /// among them where the filter names it.
    ///
    /// # Errors
    /// [`MemoryError::Embedding`], [`MemoryError::Storage`].
    pub async fn search(&self, scope: &Scope, search: &Search) -> Result<Vec<(Fact, f32)>, MemoryError> {
        // What is not indexed by then is just not found.
        self.parts.indexer.caught_up(CATCH_UP).await;
        let vectors = self.parts.embedder.embed(vec![search.query.clone()]).await?;
        let within = match &search.filter.conversation {
            Some(conversation) => scope.in_conversation(conversation),
            None => scope.clone(),
        };
        let query = Query {
            source: SourceKind::Fact,
            text: &search.query,
            vector: vectors.into_iter().next().into(),
            parents: None,
            limit: CANDIDATES.max(search.limit),
            around: false,
        };
        let hits = self.parts.index.search(&within, query).await?;
        let floor = match search.threshold {
            Some(_) => Floor::NONE,
            None => Floor::default(),
        };
        let near = rank::above_floor(&hits, rank::rank(&hits, None, &Weights::CHUNKS), &floor);
        let fits: HashMap<Uuid, f32> = near
            .iter()
            .map(|scored| (hits[scored.place].id, fit(&hits[scored.place])))
            .collect();
        let ids: Vec<Uuid> = fits.keys().copied().collect();
        let facts = self.parts.facts.by_id(scope, &search.filter, &ids).await?;
        let has = |fact: &Fact| {
            search
                .metadata
                .iter()
                .all(|(key, value)| fact.metadata.get(key) == Some(value))
        };
        let mut found: Vec<(Fact, f32)> = facts
            .into_iter()
            .filter(has)
            .filter_map(|fact| {
                let fit = fits.get(&fact.id).copied()?;
                Some((fact, fit))
            })
            .filter(|(_, fit)| search.threshold.is_none_or(|least| *fit >= least))
            .collect();
        found.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(b.id.cmp(&a.id)));
        found.truncate(search.limit);
        Ok(found)
    }
}

/// How well a candidate fits on its own, whatever else was found: of what [`Floor`] weighs, the share.
fn fit(hit: &Hit) -> f32 {
    let cosine = hit.cosine.unwrap_or_default().max(0.0);
    ((2.0 * cosine + hit.overlap) / 3.0).clamp(0.0, 1.0)
}
