//! What is known of the user and the team, beside the documents of the second context system: pinned facts in every turn,
//! the others where they are near enough to what is asked. Only what holds now is ever shown.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::context::options::{self, normalised};
use crate::context::{ContextSource, Options, Request};
use crate::conversation;
use crate::error::MemoryError;
use crate::facts::{Fact, Facts, Which};
use crate::index::Index;
use crate::indexer::Indexer;
use crate::passage::{Citation, Passage, SourceKind};

/// Facts.
pub struct KnownFacts {
    facts: Arc<dyn Facts>,
    index: Arc<dyn Index>,
    indexer: Option<Indexer>,
    options: Options,
    pinned: bool,
}

impl KnownFacts {
    /// A source over these facts and their index. With an indexer, it waits a moment for the newest.
    #[must_use]
    pub fn new(facts: Arc<dyn Facts>, index: Arc<dyn Index>, indexer: Option<Indexer>, options: Options) -> Self {
        Self {
            facts,
            index,
            indexer,
            options,
            pinned: true,
        }
    }

    /// The same, with pinned facts only where they are near enough, as all others.
    #[must_use]
    pub fn unpinned(self) -> Self {
        Self { pinned: false, ..self }
    }
}

#[async_trait]
impl ContextSource for KnownFacts {
    fn kind(&self) -> SourceKind {
        SourceKind::Fact
    }

    async fn passages(&self, request: &Request) -> Result<Vec<Passage>, MemoryError> {
        if request.limit == 0 {
            return Ok(Vec::new());
        }
        let (index, indexer) = (self.index.as_ref(), self.indexer.as_ref());
        let near = options::candidates(SourceKind::Fact, request, index, indexer, &self.options).await?;
        let pinned = if self.pinned {
            let most = u64::try_from(request.limit).unwrap_or(u64::MAX);
            self.facts.applying(&request.scope, Which::Pinned(most)).await?
        } else {
            Vec::new()
        };
        let ids: Vec<Uuid> = near.iter().map(|(id, _)| *id).collect();
        let found: HashMap<Uuid, Fact> = if ids.is_empty() {
            HashMap::new()
        } else {
            let applying = self.facts.applying(&request.scope, Which::Ids(&ids)).await?;
            applying.into_iter().map(|fact| (fact.id, fact)).collect()
        };
        let scored = near.iter().filter_map(|(id, score)| Some((found.get(id)?, *score)));
        // What was pinned is wanted whatever is asked, and so comes first.
        let all = pinned.iter().map(|fact| (fact, 1.0)).chain(scored);
        let visible: Vec<String> = conversation::visible_texts(&request.messages)
            .iter()
            .map(|text| normalised(text))
            .collect();
        let mut seen = HashSet::new();
        let passages = all.filter(|(fact, _)| {
            let words = normalised(&fact.text);
            !visible.iter().any(|text| text.contains(&words)) && seen.insert(words)
        });
        Ok(passages
            .map(|(fact, score)| passage(fact, score))
            .take(request.limit)
            .collect())
    }
}

/// A fact as a model is shown it.
pub(crate) fn passage(fact: &Fact, score: f32) -> Passage {
    let text = match fact.origin.said_by.as_str() {
        "user" | "" => fact.text.clone(),
        name => format!("{name}: {}", fact.text),
    };
    let label = jiff::Timestamp::from_millisecond(fact.valid_from)
        .map_or_else(|_| "earlier".to_owned(), |at| at.strftime("%Y-%m-%d").to_string());
    Passage {
        text,
        source: SourceKind::Fact,
        score,
        tokens: 0,
        citation: Citation {
            id: fact.id.to_string(),
            label,
            at: fact.valid_from,
            ordinal: 0,
        },
        returned: false,
    }
}
