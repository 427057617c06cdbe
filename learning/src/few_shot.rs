//! Good past answers to questions like the one that is asked: which of them are nearest ([`Bank`]), and what answer the
//! nearest one alone would give, without any model (the arm that every other has to beat). How they are put before a
//! model is the gateway's business.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use habit_engine::{Embedder, EngineError};
use habit_memory::{MemoryError, Scope};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::curator::{Curator, Version};
use crate::examples::{Example, near};

/// Questions that are embedded at a time.
const BATCH: usize = 32;

/// Examples of one user that are looked through, the newest.
pub const MOST_EXAMPLES: usize = 2_000;

/// Users whose examples are held at the same time; of others they are read again when they ask.
const MOST_BANKS: usize = 256;

/// Examples with the vectors of their questions, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bank {
    examples: Vec<Example>,
    vectors: Vec<Arc<Vec<f32>>>,
    /// Turns whose replies were judged to be bad.
    bad: HashSet<Uuid>,
}

/// An example that is near.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shot<'a> {
    /// The example.
    pub example: &'a Example,
    /// How near: the cosine of the two questions' vectors, -1 to 1.
    pub score: f32,
}

/// How the answer of the nearest example does on each of some others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Examples for which there was another to copy.
    pub items: usize,
    /// Those whose answer was the nearest one's.
    pub right: usize,
}

impl Copied {
    fn count(&mut self, example: &Example, nearest: Option<Shot<'_>>) {
        if let Some(nearest) = nearest {
            self.items += 1;
            self.right += usize::from(near::plain(&nearest.example.answer) == near::plain(&example.answer));
        }
    }
}

impl Bank {
    /// Of these examples, the newest of them if there are too many; vectors that `known` has are taken from it.
    ///
    /// # Errors
    /// The embedder's.
    pub async fn build(
        embedder: &dyn Embedder,
        mut examples: Vec<Example>,
        known: Option<&Self>,
    ) -> Result<Self, EngineError> {
        examples.sort_by_key(|example| (example.at, example.id));
        examples.drain(..examples.len().saturating_sub(MOST_EXAMPLES));
        let mut have: HashMap<String, Arc<Vec<f32>>> = HashMap::new();
        if let Some(known) = known {
            let both = known.examples.iter().zip(&known.vectors);
            have.extend(both.map(|(example, vector)| (example.question(), Arc::clone(vector))));
        }
        let mut missing: Vec<String> = examples.iter().map(Example::question).collect();
        missing.retain(|question| !have.contains_key(question));
        missing.sort_unstable();
        missing.dedup();
        for questions in missing.chunks(BATCH) {
            let vectors = embedder.embed(questions.to_vec()).await?;
            have.extend(questions.iter().cloned().zip(vectors.into_iter().map(Arc::new)));
        }
        let mut bank = Self::default();
        for example in examples {
            if let Some(vector) = have.get(&example.question()) {
                bank.vectors.push(Arc::clone(vector));
                bank.examples.push(example);
            }
        }
        Ok(bank)
    }

    /// Whether there is nothing to show and nothing to keep from being shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty() && self.bad.is_empty()
    }

    /// Its examples, oldest first.
    #[must_use]
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// Whether the reply of this turn was judged to be bad: it should not be shown as it was.
    #[must_use]
    pub fn is_bad(&self, turn: Uuid) -> bool {
        self.bad.contains(&turn)
    }

    /// The `k` nearest examples, nearest first, none below the floor. Of those that say the same, one.
    #[must_use]
    pub fn nearest(&self, vector: &[f32], k: usize, floor: f32) -> Vec<Shot<'_>> {
        self.nearest_before(vector, k, floor, i64::MAX)
    }

    /// The same, as it was before this moment (Unix milliseconds).
    #[must_use]
    pub fn nearest_before(&self, vector: &[f32], k: usize, floor: f32, moment: i64) -> Vec<Shot<'_>> {
        // Oldest first: those that were there then come first.
        let there = self.examples.partition_point(|example| example.at < moment);
        let mut shots: Vec<Shot<'_>> = self.scored(vector, there).collect();
        shots.retain(|shot| shot.score >= floor);
        shots.sort_by(nearer);
        let mut said = HashSet::new();
        shots.retain(|shot| said.insert((near::plain(&shot.example.question()), near::plain(&shot.example.answer))));
        shots.truncate(k);
        shots
    }

    /// What the nearest example alone says.
    #[must_use]
    pub fn copy(&self, vector: &[f32]) -> Option<Shot<'_>> {
        self.scored(vector, self.examples.len()).min_by(nearer)
    }

    /// How copying the nearest earlier example's answer does on these examples: what anything else has to beat.
    #[must_use]
    pub fn copied(&self) -> Copied {
        let mut copied = Copied::default();
        for (place, (example, vector)) in self.examples.iter().zip(&self.vectors).enumerate() {
            copied.count(example, self.scored(vector, place).min_by(nearer));
        }
        copied
    }

    /// The same for other examples: how copying does on each what the nearest of these says.
    ///
    /// # Errors
    /// The embedder's.
    pub async fn copied_to(&self, embedder: &dyn Embedder, others: &[Example]) -> Result<Copied, EngineError> {
        let mut copied = Copied::default();
        for some in others.chunks(BATCH) {
            let vectors = embedder.embed(some.iter().map(Example::question).collect()).await?;
            for (example, vector) in some.iter().zip(&vectors) {
                copied.count(example, self.copy(vector));
            }
        }
        Ok(copied)
    }

    /// The first `upto` examples, with how near they are.
    fn scored<'a, 'v>(&'a self, vector: &'v [f32], upto: usize) -> impl Iterator<Item = Shot<'a>> + use<'a, 'v> {
        let both = self.examples.iter().zip(&self.vectors).take(upto);
        both.map(move |(example, other)| Shot {
            example,
            score: cosine(vector, other),
        })
    }
}

/// Nearest first; of the equally near the newest.
fn nearer(a: &Shot<'_>, b: &Shot<'_>) -> Ordering {
    let newer = (b.example.at, b.example.id).cmp(&(a.example.at, a.example.id));
    b.score.total_cmp(&a.score).then(newer)
}

/// The cosine of two vectors; 0 where one has no length or they are of different models.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return 0.0;
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let length = (dot(a, a) * dot(b, b)).sqrt();
    if length > 0.0 { dot(a, b) / length } else { 0.0 }
}

/// A user's bank, and what it was made of.
#[derive(Default)]
struct Held {
    version: Version,
    bank: Option<Arc<Bank>>,
}

type Slot = Arc<tokio::sync::Mutex<Held>>;

/// The banks of users, made when they are asked for and anew when feedback has changed; cheap to clone.
#[derive(Clone)]
pub struct Banks {
    curator: Curator,
    embedder: Arc<dyn Embedder>,
    slots: Arc<std::sync::Mutex<HashMap<(String, String), Slot>>>,
}

/// Why there is no bank.
#[derive(Debug, thiserror::Error)]
pub enum BankError {
    /// What was said can't be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Questions can't be embedded.
    #[error(transparent)]
    Embedder(#[from] EngineError),
}

impl Banks {
    /// Over this curator's examples.
    #[must_use]
    pub fn new(curator: Curator, embedder: Arc<dyn Embedder>) -> Self {
        Self {
            curator,
            embedder,
            slots: Arc::default(),
        }
    }

    /// The examples that this user may be shown: the user's own.
    ///
    /// # Errors
    /// [`BankError`].
    pub async fn of(&self, scope: &Scope) -> Result<Arc<Bank>, BankError> {
        let slot = self.slot(scope);
        let mut held = slot.lock().await;
        // Read before the examples are: what changes meanwhile makes it old.
        let version = self.curator.version(scope).await?;
        if let Some(bank) = held.bank.as_ref().filter(|_| held.version == version) {
            return Ok(Arc::clone(bank));
        }
        let curated = self.curator.of_user(scope).await?;
        let bad = curated.judged.iter().filter(|one| !one.good).map(|one| one.id);
        let bad: HashSet<Uuid> = bad.collect();
        let mut bank = Bank::build(&*self.embedder, curated.examples, held.bank.as_deref()).await?;
        bank.bad = bad;
        let bank = Arc::new(bank);
        *held = Held {
            version,
            bank: Some(Arc::clone(&bank)),
        };
        Ok(bank)
    }

    fn slot(&self, scope: &Scope) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = (scope.team().to_owned(), scope.user().to_owned());
        if slots.len() >= MOST_BANKS && !slots.contains_key(&owner) {
            // Rare, and only time is lost: they are made again when they are asked for.
            slots.clear();
        }
        Arc::clone(slots.entry(owner).or_default())
    }
}

#[cfg(test)]
mod tests {
    use habit_engine::embedder::HashEmbedder;
    use habit_engine::{Message, Role};

    use super::*;

    fn example(number: u128, question: &str, answer: &str) -> Example {
        Example {
            id: Uuid::from_u128(number),
            messages: vec![Message::new(Role::User, question)],
            answer: answer.to_owned(),
            at: i64::try_from(number).unwrap(),
            weight: 1.0,
            from: Vec::new(),
            user: "u".to_owned(),
        }
    }

    #[tokio::test]
    async fn the_nearest_come_first_and_the_rest_stays_out() {
        let embedder = HashEmbedder::new(256);
        let all = vec![
            example(1, "freeze my card please", "freeze"),
            example(2, "what is my balance", "balance"),
            example(3, "freeze my card now", "freeze"),
            example(4, "freeze my card now", "freeze"),
        ];
        let bank = Bank::build(&embedder, all, None).await.unwrap();
        let asked = embedder
            .embed(vec!["freeze my card now".to_owned()])
            .await
            .unwrap()
            .remove(0);
        let ids: Vec<u128> = bank
            .nearest(&asked, 4, 0.5)
            .iter()
            .map(|shot| shot.example.id.as_u128())
            .collect();
        assert_eq!(ids, [4, 1], "of equals the newest, and what is far is not shown");
        assert_eq!(bank.nearest(&asked, 1, 0.5).len(), 1);
        assert_eq!(bank.copy(&asked).unwrap().example.answer, "freeze");
        assert_eq!(bank.copied(), Copied { items: 3, right: 2 });
        assert!(Bank::default().copy(&asked).is_none());
    }
}
