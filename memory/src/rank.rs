//! Ranking: turns what both searches say of a candidate into one score between 0 and 1, and decides what is near
//! enough to be shown at all. Pure: no clock, no storage, the same answer for any order of the candidates.
//!
//! The score is a weighted sum of features that are each scaled to 0..1. Fusing by scaled scores rather than by ranks
//! keeps how much better one candidate is than the next; reciprocal rank fusion throws that away and measured clearly
//! worse on turns of conversations (any@10 on LoCoMo: 62 % with k = 60, 73 % for scaled scores of both searches, 86 %
//! with the further features below).

use std::collections::HashMap;

use crate::index::Hit;

pub mod words;

/// A hit with the text that the features read.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// What the index says.
    pub hit: &'a Hit,
    /// The user's words of a turn, or a chunk's text.
    pub text: &'a str,
}

/// How much each feature counts. The weights that apply are divided by their sum, so that scores stay in 0..1.
///
/// Measured on four conversations of LoCoMo (754 questions; any of the evidence turns among the first 5 and 10): words
/// alone 66 % and 75 %, meaning alone 38 % and 50 %, both in equal parts 65 % and 72 %, these weights 68 % and 77 %.
/// Values are round on purpose: they are not fitted to one data set, and more weight still on words would be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// BM25, over the best BM25 of the candidates.
    pub words: f32,
    /// Cosine, over the best cosine of the candidates.
    pub meaning: f32,
    /// Mean cosine of the three nearest candidates of its conversation or document.
    pub session: f32,
    /// Logarithm of the length: longer texts hold more facts.
    pub length: f32,
    /// Whether it states something, rather than only asking.
    pub statement: f32,
    /// How new it is among the candidates; never more than 0.05, or old facts are lost.
    pub recency: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            words: 0.46,
            meaning: 0.28,
            session: 0.08,
            length: 0.10,
            statement: 0.05,
            recency: 0.03,
        }
    }
}

/// Where "near enough" begins. Absolute values, so that a question which nothing fits gets nothing. For
/// all-MiniLM-L6-v2: between questions and facts that have nothing to do with each other its cosine stayed below 0.32
/// (204 pairs, mean 0.06); between LoCoMo's questions and their evidence it is above 0.33 in nine of ten.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Floor {
    /// This cosine suffices alone.
    pub meaning: f32,
    /// This cosine suffices together with `words`.
    pub weak_meaning: f32,
    /// The share of the query's content words, weighted by rarity, that must be in the text beside a weak cosine, and in
    /// any case in an earlier wish or question: these are near each other by their form ("write a poem on …") when what
    /// they are about is quite different.
    pub words: f32,
    /// The share that suffices where there is no vector at all.
    pub words_alone: f32,
    /// A candidate with a score below this share of the best one's is left out: a clear answer needs no company.
    pub relative: f32,
}

impl Default for Floor {
    fn default() -> Self {
        Self {
            meaning: 0.35,
            weak_meaning: 0.2,
            words: 0.5,
            words_alone: 0.6,
            relative: 0.5,
        }
    }
}

/// A candidate's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Its place in the list that was given.
    pub place: usize,
    /// 0 to 1.
    pub score: f32,
}

/// Scores of all candidates, best first; equal ones by newest, then by id.
#[must_use]
pub fn rank(candidates: &[Candidate<'_>], weights: &Weights) -> Vec<Scored> {
    let features = Features::of(candidates);
    let mut scored: Vec<Scored> = (0..candidates.len())
        .map(|place| Scored {
            place,
            score: features.score(&candidates[place], weights),
        })
        .collect();
    scored.sort_by(|a, b| {
        let (x, y) = (candidates[a.place].hit, candidates[b.place].hit);
        b.score.total_cmp(&a.score).then(y.at.cmp(&x.at)).then(y.id.cmp(&x.id))
    });
    scored
}

/// Those of the ranked candidates that are near enough to the query, still best first.
#[must_use]
pub fn above_floor(query: &str, candidates: &[Candidate<'_>], ranked: Vec<Scored>, floor: &Floor) -> Vec<Scored> {
    let overlap = overlaps(query, candidates);
    let has_vectors = candidates.iter().any(|candidate| candidate.hit.cosine.is_some());
    let near = |scored: &Scored| {
        let words = overlap[scored.place];
        match candidates[scored.place].hit.cosine {
            Some(cosine) => {
                let states =
                    !words::only_asks(candidates[scored.place].text) && !words::wishes(candidates[scored.place].text);
                (states && cosine >= floor.meaning) || (cosine >= floor.weak_meaning && words >= floor.words)
            }
            // Not among the nearest vectors, or no vectors at all: words must carry it alone.
            None => {
                words
                    >= if has_vectors {
                        floor.words_alone.max(floor.words)
                    } else {
                        floor.words_alone
                    }
            }
        }
    };
    let mut kept: Vec<Scored> = ranked.into_iter().filter(near).collect();
    let best = kept.first().map_or(0.0, |scored| scored.score);
    kept.retain(|scored| scored.score >= best * floor.relative);
    kept
}

/// For each candidate, the share of the query's content words that its text has, rare words counting more. Rarity is
/// that among the candidates.
fn overlaps(query: &str, candidates: &[Candidate<'_>]) -> Vec<f32> {
    let asked = words::content(query);
    let texts: Vec<std::collections::HashSet<String>> = candidates
        .iter()
        .map(|candidate| words::stems(candidate.text).into_iter().collect())
        .collect();
    let rarity = |word: &String| {
        let found = texts.iter().filter(|text| text.contains(word)).count() as f32;
        (1.0 + (texts.len() as f32 - found + 0.5) / (found + 0.5)).ln()
    };
    let weights: Vec<f32> = asked.iter().map(rarity).collect();
    let total: f32 = weights.iter().sum();
    let share = |text: &std::collections::HashSet<String>| {
        let found: f32 = asked
            .iter()
            .zip(&weights)
            .filter(|(word, _)| text.contains(*word))
            .map(|(_, weight)| weight)
            .sum();
        if total > 0.0 { found / total } else { 0.0 }
    };
    texts.iter().map(share).collect()
}

/// What has to be known of all candidates before one can be scored.
struct Features {
    best_words: f32,
    best_meaning: f32,
    longest: f32,
    newest: i64,
    span: i64,
    /// Mean cosine of the three nearest of each session.
    sessions: HashMap<String, f32>,
    has_words: bool,
    has_meaning: bool,
}

impl Features {
    fn of(candidates: &[Candidate<'_>]) -> Self {
        let hits = || candidates.iter().map(|candidate| candidate.hit);
        let best = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0_f32, f32::max);
        let newest = hits().map(|hit| hit.at).max().unwrap_or_default();
        let oldest = hits().map(|hit| hit.at).min().unwrap_or_default();
        Self {
            best_words: best(&mut hits().filter_map(|hit| hit.bm25)),
            best_meaning: best(&mut hits().filter_map(|hit| hit.cosine)),
            longest: best(&mut candidates.iter().map(|candidate| log_length(candidate.text))),
            newest,
            span: newest.saturating_sub(oldest),
            sessions: session_means(candidates),
            has_words: hits().any(|hit| hit.bm25.is_some()),
            has_meaning: hits().any(|hit| hit.cosine.is_some()),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of a time span needs no more than 24 bits"
    )]
    fn score(&self, candidate: &Candidate<'_>, weights: &Weights) -> f32 {
        let hit = candidate.hit;
        let age = self.newest.saturating_sub(hit.at) as f32;
        let recency = if self.span > 0 {
            1.0 - age / self.span as f32
        } else {
            1.0
        };
        let session = self.sessions.get(&hit.session).copied().unwrap_or_default();
        let has_text = !candidate.text.is_empty();
        let states = f32::from(u8::from(has_text && !words::only_asks(candidate.text)));
        // A feature that nobody has is left out of the sum of weights too.
        let features = [
            (
                self.has_words,
                weights.words,
                over(hit.bm25.unwrap_or_default(), self.best_words),
            ),
            (
                self.has_meaning,
                weights.meaning,
                over(hit.cosine.unwrap_or_default(), self.best_meaning),
            ),
            (self.has_meaning, weights.session, over(session, self.best_meaning)),
            (
                self.longest > 0.0,
                weights.length,
                over(log_length(candidate.text), self.longest),
            ),
            (self.longest > 0.0, weights.statement, states),
            (true, weights.recency, recency),
        ];
        let (mut sum, mut total) = (0.0, 0.0);
        for (_, weight, value) in features.into_iter().filter(|(known, ..)| *known) {
            sum += weight * value;
            total += weight;
        }
        if total > 0.0 {
            (sum / total).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

/// Scaled to 0..1 with 0 as the least: the least value that a search can give is known, while the least among the
/// candidates depends on how many there are (Bruch, Gai and Ingber, 2023, call it the theoretical minimum).
fn over(value: f32, best: f32) -> f32 {
    if best > 0.0 {
        (value / best).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

fn log_length(text: &str) -> f32 {
    (1.0 + text.split_whitespace().count() as f32).ln()
}

fn session_means(candidates: &[Candidate<'_>]) -> HashMap<String, f32> {
    let mut cosines: HashMap<String, Vec<f32>> = HashMap::new();
    for Candidate { hit, .. } in candidates {
        if let Some(cosine) = hit.cosine {
            cosines.entry(hit.session.clone()).or_default().push(cosine);
        }
    }
    let top_three = |mut values: Vec<f32>| {
        values.sort_by(|a, b| b.total_cmp(a));
        // Divided by three even where there are fewer: one near turn doesn't make a session about it.
        values.iter().take(3).sum::<f32>() / 3.0
    };
    cosines
        .into_iter()
        .map(|(session, values)| (session, top_three(values)))
        .collect()
}

#[cfg(test)]
mod tests;
