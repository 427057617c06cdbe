//! [`RamIndex`]: the index as a list in memory, searched from end to end. For tests: exact, and nothing to open.

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;

use crate::error::MemoryError;
use crate::index::{Entry, Hit, Index, Query, Removal, within};
use crate::rank::words;
use crate::scope::Scope;

/// BM25's usual constants (Robertson and Zaragoza, 2009): saturation of repeated words, and weight of the length.
const K1: f32 = 1.2;
const B: f32 = 0.75;

/// The index as a list in memory.
pub struct RamIndex {
    dimensions: usize,
    entries: Mutex<Vec<Entry>>,
}

impl RamIndex {
    /// An empty index.
    #[must_use]
    pub fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            entries: Mutex::new(Vec::new()),
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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

fn may_read(scope: &Scope, entry: &Entry) -> bool {
    let owner = &entry.owner;
    owner.team == scope.team()
        && owner.user.as_deref().is_none_or(|user| user == scope.user())
        && owner
            .conversation
            .as_deref()
            .is_none_or(|id| Some(id) == within(scope, entry.source))
}

#[async_trait]
impl Index for RamIndex {
    async fn upsert(&self, entries: Vec<Entry>) -> Result<(), MemoryError> {
        for entry in &entries {
            self.check_dimensions(&entry.vector)?;
        }
        let mut kept = self.entries();
        for entry in entries {
            kept.retain(|old| old.id != entry.id);
            kept.push(entry);
        }
        Ok(())
    }

    async fn search(&self, scope: &Scope, query: Query<'_>) -> Result<Vec<Hit>, MemoryError> {
        if let Some(vector) = query.vector {
            self.check_dimensions(vector)?;
        }
        let kept = self.entries();
        let readable: Vec<&Entry> = kept
            .iter()
            .filter(|entry| entry.source == query.source && may_read(scope, entry))
            .filter(|entry| query.parents.is_none_or(|parents| parents.contains(&entry.parent)))
            .collect();
        let mut by_words = bm25(query.text, &readable);
        let mut by_meaning: Vec<(usize, f32)> = match query.vector {
            Some(vector) => readable
                .iter()
                .map(|entry| cosine(vector, &entry.vector))
                .enumerate()
                .collect(),
            None => Vec::new(),
        };
        for leg in [&mut by_words, &mut by_meaning] {
            leg.sort_by(|a, b| b.1.total_cmp(&a.1));
            leg.truncate(query.limit);
        }
        let mut hits: HashMap<usize, Hit> = HashMap::new();
        let mut hit = |place: usize, bm25: Option<f32>, cosine: Option<f32>| {
            let entry = readable[place];
            let hit = hits.entry(place).or_insert_with(|| Hit {
                id: entry.id,
                session: entry.session.clone(),
                at: entry.at,
                bm25: None,
                cosine: None,
            });
            hit.bm25 = hit.bm25.or(bm25);
            hit.cosine = hit.cosine.or(cosine);
        };
        for (place, score) in by_words {
            hit(place, Some(score), None);
        }
        for (place, score) in by_meaning {
            hit(place, None, Some(score));
        }
        Ok(hits.into_values().collect())
    }

    async fn remove(&self, removal: Removal) -> Result<(), MemoryError> {
        self.entries().retain(|entry| match &removal {
            Removal::All => false,
            Removal::Parents { team, parents } => entry.owner.team != *team || !parents.contains(&entry.parent),
        });
        Ok(())
    }

    async fn len(&self) -> Result<u64, MemoryError> {
        Ok(self.entries().len() as u64)
    }

    async fn optimize(&self) -> Result<(), MemoryError> {
        Ok(())
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| -> f32 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 {
        (dot(a, b) / lengths).clamp(-1.0, 1.0)
    } else {
        0.0
    }
}

/// The entries that share a word with the query, with their scores.
fn bm25(query: &str, entries: &[&Entry]) -> Vec<(usize, f32)> {
    let texts: Vec<Vec<String>> = entries.iter().map(|entry| words::stems(&entry.text)).collect();
    let average = texts.iter().map(Vec::len).sum::<usize>() as f32 / texts.len().max(1) as f32;
    let mut asked = words::stems(query);
    asked.sort();
    asked.dedup();
    let mut scores = vec![0.0; texts.len()];
    for word in asked {
        let counts: Vec<usize> = texts
            .iter()
            .map(|text| text.iter().filter(|stem| **stem == word).count())
            .collect();
        let found = counts.iter().filter(|count| **count > 0).count() as f32;
        let rarity = (1.0 + (texts.len() as f32 - found + 0.5) / (found + 0.5)).ln();
        for (place, count) in counts.iter().enumerate() {
            let (count, length) = (*count as f32, texts[place].len() as f32);
            scores[place] += rarity * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length / average.max(1.0)));
        }
    }
    scores
        .into_iter()
        .enumerate()
        .filter(|(_, score)| *score > 0.0)
        .collect()
}
