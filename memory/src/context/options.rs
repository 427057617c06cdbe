//! What the three sources have in common: their settings, and the way from a question to ranked candidates.

use std::time::Duration;

use crate::context::Request;
use crate::error::MemoryError;
use crate::index::{Hit, Index, Query};
use crate::indexer::Indexer;
use crate::passage::SourceKind;
use crate::rank::{self, Candidate, Floor, Weights};

/// Settings of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How long to wait for what was recorded just now to be found; after that the source answers without it.
    pub catch_up: Duration,
    /// Candidates of each search.
    pub candidates: usize,
    /// How many of them are read from the journal and ranked in full.
    pub shortlist: usize,
    /// How features are weighed.
    pub weights: Weights,
    /// Where "near enough" begins.
    pub floor: Floor,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // Embedding and indexing one turn takes some 20 ms on two cores.
            catch_up: Duration::from_millis(150),
            // Enough for the features to choose from; each more is read from the index and scored.
            candidates: 100,
            shortlist: 40,
            weights: Weights::default(),
            floor: Floor::default(),
        }
    }
}

/// Waits for the indexer, asks the index, and keeps the best by what the searches alone say.
pub(super) async fn candidates(
    source: SourceKind,
    request: &Request,
    index: &dyn Index,
    indexer: Option<&Indexer>,
    options: &Options,
) -> Result<Vec<Hit>, MemoryError> {
    if request.limit == 0 || request.query.trim().is_empty() {
        return Ok(Vec::new());
    }
    if let Some(indexer) = indexer
        && !indexer.caught_up(options.catch_up).await
    {
        tracing::debug!(
            memory.lag = indexer.lag(),
            "the index has not caught up: the newest turns may be missing"
        );
    }
    let vector = request.vector.as_deref().map(Vec::as_slice);
    let query = Query {
        source,
        text: &request.query,
        vector,
        parents: None,
        limit: options.candidates,
    };
    let mut hits = index.search(&request.scope, query).await?;
    // The index gives no order; the ranking below must not depend on it.
    hits.sort_by_key(|hit| hit.id);
    let textless: Vec<Candidate<'_>> = hits.iter().map(|hit| Candidate { hit, text: "" }).collect();
    let ranked = rank::rank(&textless, &options.weights);
    Ok(ranked
        .into_iter()
        .take(options.shortlist.max(request.limit))
        .map(|scored| hits[scored.place].clone())
        .collect())
}

/// A text as it is compared with others: words only, in lower case.
pub(super) fn normalised(text: &str) -> String {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join(" ")
}

/// The text up to about this many characters, cut at a sentence or a word, with an ellipsis where something is missing.
pub(super) fn shortened(text: &str, characters: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((end, _)) = text.char_indices().nth(characters) else {
        return text;
    };
    let head = &text[..end];
    if let Some(stop) = head.rfind(['.', '!', '?'])
        && stop * 2 >= end
    {
        return head[..=stop].to_owned();
    }
    let word = head.rfind(' ').filter(|space| space * 2 >= end).unwrap_or(end);
    format!("{} …", head[..word].trim_end())
}
