//! What the three sources have in common: their settings, and the way from a question to ranked candidates.

use std::time::Duration;

use uuid::Uuid;

use crate::context::Request;
use crate::error::MemoryError;
use crate::index::{Hit, Index, Query};
use crate::indexer::Indexer;
use crate::passage::SourceKind;
use crate::rank::{self, Floor, Scored, Weights, dates};

/// Settings of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How long to wait for what was recorded just now to be found; after that the source answers without it.
    pub catch_up: Duration,
    /// Candidates of each search.
    pub candidates: usize,
    /// How features of turns are weighed.
    pub turns: Weights,
    /// How features of documents' chunks are weighed.
    pub chunks: Weights,
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
            turns: Weights::TURNS,
            chunks: Weights::CHUNKS,
            floor: Floor::default(),
        }
    }
}

/// How a source finds, against what is built in: each a factor, 1 as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// Of what must speak for the best candidate, and for each.
    pub floor: f32,
    /// Of what words count.
    pub words: f32,
    /// Of what meaning counts.
    pub meaning: f32,
    /// Of what the conversation around counts.
    pub session: f32,
}

impl Options {
    /// The same, but for what is found how.
    #[must_use]
    pub fn finding(&self, finding: &Finding) -> Self {
        let mut options = self.clone();
        options.floor.best *= finding.floor;
        options.floor.each *= finding.floor;
        for weights in [&mut options.turns, &mut options.chunks] {
            weights.words *= finding.words;
            weights.overlap *= finding.words;
            weights.meaning *= finding.meaning;
            weights.around *= finding.meaning;
            weights.session_words *= finding.session;
            weights.session_meaning *= finding.session;
        }
        options
    }
}

/// What the index found for a question, best first.
#[derive(Default)]
pub(super) struct Ranked {
    hits: Vec<Hit>,
    order: Vec<Scored>,
}

impl Ranked {
    /// What is near enough, best first.
    pub(super) fn near(&self, floor: &Floor) -> Vec<(Uuid, f32)> {
        let near = rank::above_floor(&self.hits, self.order.clone(), floor).into_iter();
        near.map(|scored| (self.hits[scored.place].id, scored.score)).collect()
    }

    /// All that was found, with its score and its cosine, best first.
    pub(super) fn all(&self) -> impl Iterator<Item = (Uuid, f32, Option<f32>)> {
        let hit = |scored: &Scored| &self.hits[scored.place];
        self.order
            .iter()
            .map(move |scored| (hit(scored).id, scored.score, hit(scored).cosine))
    }
}

/// What is near enough, best first: see [`search`].
pub(super) async fn candidates(
    source: SourceKind,
    request: &Request,
    index: &dyn Index,
    indexer: Option<&Indexer>,
    options: &Options,
) -> Result<Vec<(Uuid, f32)>, MemoryError> {
    let found = search(source, request, index, indexer, options).await?;
    Ok(found.near(&options.floor))
}

/// Waits for the indexer, asks the index, and ranks what it found.
pub(super) async fn search(
    source: SourceKind,
    request: &Request,
    index: &dyn Index,
    indexer: Option<&Indexer>,
    options: &Options,
) -> Result<Ranked, MemoryError> {
    if request.limit == 0 || request.query.trim().is_empty() {
        return Ok(Ranked::default());
    }
    if let Some(indexer) = indexer
        && !indexer.caught_up(options.catch_up).await
    {
        tracing::debug!(
            memory.lag = indexer.lag(),
            "the index has not caught up: the newest turns may be missing"
        );
    }
    let turns = source == SourceKind::Recalled;
    let query = Query {
        source,
        text: &request.query,
        vector: request.vector.clone(),
        parents: None,
        limit: options.candidates,
        around: turns,
    };
    let hits = index.search(&request.scope, query).await?;
    let days = dates::named(&request.query, request.asked_at);
    let weights = if turns { &options.turns } else { &options.chunks };
    let order = rank::rank(&hits, days.as_ref(), weights);
    Ok(Ranked { hits, order })
}

/// A text as it is compared with others: words only, in lower case.
pub(crate) fn normalised(text: &str) -> String {
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
