//! Ranking: turns what the searches say of a candidate into one score between 0 and 1, and decides what is near
//! enough to be shown at all. Pure: no clock, no storage, the same answer for any order of the candidates.
//!
//! The score is a weighted sum of features that are each scaled to 0..1. Fusing by scaled scores rather than by ranks
//! keeps how much better one candidate is than the next; reciprocal rank fusion throws that away and measured clearly
//! worse on turns of conversations. What each feature brings is in `docs/decisions/0007-recall.md`; `habit eval recall
//! --ablate` measures it again.

use crate::index::Hit;

pub mod dates;
pub mod overlap;
pub mod words;

use dates::Days;

/// How much each feature counts. The weights that apply are divided by their sum, so that scores stay in 0..1.
///
/// Values are round on purpose: they are not fitted to one data set (see decision 7 for what was measured).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// BM25 (of a turn: with its neighbours), over the best BM25 of the candidates.
    pub words: f32,
    /// The share of the query's content words that the candidate itself has, rare ones counting more.
    pub overlap: f32,
    /// Cosine, over the best cosine of the candidates.
    pub meaning: f32,
    /// Mean cosine of its neighbours, over the best.
    pub around: f32,
    /// Mean BM25 of the three best of its conversation or document.
    pub session_words: f32,
    /// Mean cosine of the three nearest of its conversation or document.
    pub session_meaning: f32,
    /// Logarithm of the length: longer texts hold more facts.
    pub length: f32,
    /// Whether it states something, rather than only asking or wishing.
    pub statement: f32,
    /// Whether the one who is named in the question says it.
    pub speaker: f32,
    /// How near it is to the days that the question names; counts only where it names some.
    pub date: f32,
    /// How new it is among the candidates; never more than 0.05, or old facts are lost.
    pub recency: f32,
}

impl Weights {
    /// For turns of conversations.
    pub const TURNS: Self = Self {
        words: 0.30,
        overlap: 0.10,
        meaning: 0.20,
        around: 0.05,
        session_words: 0.15,
        session_meaning: 0.05,
        length: 0.10,
        statement: 0.05,
        speaker: 0.10,
        date: 0.30,
        recency: 0.02,
    };

    /// For chunks of documents: a chunk's neighbours, and who says it, tell nothing.
    pub const CHUNKS: Self = Self {
        words: 0.46,
        overlap: 0.0,
        meaning: 0.28,
        around: 0.0,
        session_words: 0.0,
        session_meaning: 0.08,
        length: 0.10,
        statement: 0.05,
        speaker: 0.0,
        date: 0.0,
        recency: 0.03,
    };

    /// The weights by name, for reports and for switching one off.
    #[must_use]
    pub fn named(&mut self) -> [(&'static str, &mut f32); 11] {
        [
            ("words", &mut self.words),
            ("overlap", &mut self.overlap),
            ("meaning", &mut self.meaning),
            ("around", &mut self.around),
            ("session words", &mut self.session_words),
            ("session meaning", &mut self.session_meaning),
            ("length", &mut self.length),
            ("statement", &mut self.statement),
            ("speaker", &mut self.speaker),
            ("date", &mut self.date),
            ("recency", &mut self.recency),
        ]
    }
}

/// Where "near enough" begins, so that a question which nothing fits gets nothing.
///
/// What speaks for a candidate is twice its cosine plus the share of the question's content words that it has (see
/// [`Hit::overlap`]). The more there is to choose from, the more speaks for the best by chance: `best` is for [`MANY`]
/// entries and more, and less is asked for where there are fewer. For all-MiniLM-L6-v2, in memories of 3 to 700 turns: of
/// questions put to the memory of other people four in five and more stay below it with every candidate (decision 7).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Floor {
    /// What must speak for the best candidate among [`MANY`]: below, nothing is shown at all.
    pub best: f32,
    /// What must speak for each candidate.
    pub each: f32,
    /// The share of the query's content words that an earlier wish or question must have: these are near each other by
    /// their form ("write a poem on …") when what they are about is quite different.
    pub words: f32,
    /// The share that suffices, and is needed, where no cosine is known.
    pub words_alone: f32,
    /// A candidate with a score below this share of the best one's is left out: a clear answer needs no company.
    pub relative: f32,
}

impl Default for Floor {
    fn default() -> Self {
        Self {
            best: 1.0,
            each: 0.2,
            words: 0.5,
            words_alone: 0.6,
            relative: 0.5,
        }
    }
}

/// Entries from which on the floor is not higher any more: what is right does not speak for itself more clearly where there
/// is more.
pub const MANY: usize = 600;

/// By how much the best of chance rises as entries become e times as many, about: it was measured between 3 and 700.
const BY_CHANCE: f32 = 0.085;

/// The share of `best` that is asked for however few there are.
const AT_LEAST: f32 = 0.65;

impl Floor {
    /// No floor: everything is near enough.
    pub const NONE: Self = Self {
        best: -3.0,
        each: -3.0,
        words: 0.0,
        words_alone: 0.0,
        relative: 0.0,
    };

    /// What must speak for the best of so many.
    fn best_among(&self, among: Option<usize>) -> f32 {
        let among = among.map_or(MANY, |among| among.clamp(1, MANY));
        let share = 1.0 - BY_CHANCE * (MANY as f32 / among as f32).ln();
        // No floor is none among few either.
        self.best.min(self.best * share.max(AT_LEAST))
    }

    /// What speaks for a candidate, or `None` where it may not be shown whatever speaks for it.
    fn speaks(&self, hit: &Hit) -> Option<f32> {
        let Some(cosine) = hit.cosine else {
            // Not among the nearest vectors, or no vectors at all: words must carry it alone.
            return (hit.overlap >= self.words_alone).then_some(self.best.max(self.each));
        };
        (hit.states || hit.overlap >= self.words).then_some(2.0 * cosine + hit.overlap)
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

/// Scores of all candidates, best first; equal ones by newest, then by id. `days` are those that the question names.
#[must_use]
pub fn rank(hits: &[Hit], days: Option<&Days>, weights: &Weights) -> Vec<Scored> {
    let most = Most::of(hits);
    let mut scored: Vec<Scored> = hits
        .iter()
        .enumerate()
        .map(|(place, hit)| Scored {
            place,
            score: most.score(hit, days, weights),
        })
        .collect();
    scored.sort_by(|a, b| {
        let (x, y) = (&hits[a.place], &hits[b.place]);
        b.score.total_cmp(&a.score).then(y.at.cmp(&x.at)).then(y.id.cmp(&x.id))
    });
    scored
}

/// Those of the ranked candidates that are near enough to the query, still best first.
#[must_use]
pub fn above_floor(hits: &[Hit], ranked: Vec<Scored>, floor: &Floor) -> Vec<Scored> {
    let most = hits.iter().filter_map(|hit| floor.speaks(hit)).fold(f32::MIN, f32::max);
    let among = hits.iter().map(|hit| hit.among).max().flatten();
    if most < floor.best_among(among) {
        return Vec::new();
    }
    let mut kept = ranked;
    kept.retain(|scored| {
        floor
            .speaks(&hits[scored.place])
            .is_some_and(|speaks| speaks >= floor.each)
    });
    let best = kept.first().map_or(0.0, |scored| scored.score);
    kept.retain(|scored| scored.score >= best * floor.relative);
    kept
}

/// What has to be known of all candidates before one can be scored: the greatest of each feature.
struct Most {
    words: f32,
    meaning: f32,
    around: f32,
    session_meaning: f32,
    length: f32,
    newest: i64,
    span: i64,
    names: bool,
}

impl Most {
    fn of(hits: &[Hit]) -> Self {
        let most = |value: &dyn Fn(&Hit) -> Option<f32>| hits.iter().filter_map(value).fold(0.0_f32, f32::max);
        let newest = hits.iter().map(|hit| hit.at).max().unwrap_or_default();
        let oldest = hits.iter().map(|hit| hit.at).min().unwrap_or_default();
        Self {
            words: most(&|hit| hit.bm25),
            meaning: most(&|hit| hit.cosine),
            around: most(&|hit| hit.around),
            session_meaning: most(&|hit| hit.session_meaning),
            length: most(&|hit| Some(log_length(hit))),
            newest,
            span: newest.saturating_sub(oldest),
            names: hits.iter().any(|hit| hit.named == Some(true)),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of a time span needs no more than 24 bits"
    )]
    fn score(&self, hit: &Hit, days: Option<&Days>, weights: &Weights) -> f32 {
        let age = self.newest.saturating_sub(hit.at) as f32;
        let recency = if self.span > 0 {
            1.0 - age / self.span as f32
        } else {
            1.0
        };
        let share = |value: Option<f32>, most: f32| (most > 0.0).then(|| over(value.unwrap_or_default(), most));
        // A feature that nobody has is left out of the sum of weights too.
        let features = [
            (weights.words, share(hit.bm25, self.words)),
            (weights.overlap, Some(hit.overlap)),
            (weights.meaning, share(hit.cosine, self.meaning)),
            (weights.around, share(hit.around, self.around)),
            (weights.session_words, share(hit.session_words, self.words)),
            (
                weights.session_meaning,
                share(hit.session_meaning, self.session_meaning),
            ),
            (weights.length, share(Some(log_length(hit)), self.length)),
            (weights.statement, Some(f32::from(u8::from(hit.states)))),
            (
                weights.speaker,
                self.names.then(|| f32::from(u8::from(hit.named == Some(true)))),
            ),
            (weights.date, days.map(|days| days.nearness(hit.at))),
            (weights.recency, Some(recency)),
        ];
        let (mut sum, mut total) = (0.0, 0.0);
        for (weight, value) in features {
            if let Some(value) = value {
                sum += weight * value;
                total += weight;
            }
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
    (value / best).clamp(0.0, 1.0)
}

fn log_length(hit: &Hit) -> f32 {
    (1.0 + hit.words as f32).ln()
}

#[cfg(test)]
mod tests;
