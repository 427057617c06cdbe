//! What users say of replies, and where it went: the words for it, and the seam [`Ledger`] that keeps it. How feedback
//! becomes examples is in [`crate::examples::curate`]; who asks whom is in [`crate::curator`].

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use habit_memory::journal::Page;
use habit_memory::{MemoryError, Scope};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub mod implicit;
#[cfg(feature = "testing")]
pub mod ram;
pub mod sea;

pub use implicit::Implicit;

/// The longest correction and the longest comment, in characters.
pub const MOST_CHARACTERS: usize = 32_000;

/// A day, in milliseconds: what a cap counts in.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A score from here on says that the reply was good; below one less this, that it was bad.
pub const GOOD: f32 = 0.7;

/// Thumbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thumb {
    /// It was good.
    Up,
    /// It was not.
    Down,
}

/// What one said of a reply; at least one of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// A thumb.
    pub thumb: Option<Thumb>,
    /// 0 to 1.
    pub score: Option<f32>,
    /// Words for people; nothing is learnt from them.
    pub comment: Option<String>,
    /// The answer that it should have been.
    pub correction: Option<String>,
    /// What the client noticed.
    pub implicit: Option<Implicit>,
}

/// Feedback on a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// UUIDv7.
    pub id: Uuid,
    /// Who gave it: the user whose turn it is.
    pub user: String,
    /// The turn.
    pub turn: Uuid,
    /// What was said.
    pub given: Given,
    /// Unix milliseconds.
    pub at: i64,
}

impl Given {
    /// What every ledger asks of it.
    ///
    /// # Errors
    /// [`MemoryError::BadRequest`] if it says nothing, a score is out of its range, or a text is too long or empty.
    pub fn admit(&self) -> Result<(), MemoryError> {
        let refuse = |why: String| Err(MemoryError::BadRequest(why));
        if *self == Self::default() {
            return refuse("say at least one of `thumb`, `score`, `comment`, `correction` and `signal`".to_owned());
        }
        if self.score.is_some_and(|score| !(0.0..=1.0).contains(&score)) {
            return refuse("`score` must be 0 to 1".to_owned());
        }
        for (name, text) in [("comment", &self.comment), ("correction", &self.correction)] {
            let Some(text) = text else { continue };
            if text.trim().is_empty() {
                return refuse(format!("`{name}` is empty; leave it out, or write something"));
            }
            let letters = text.chars().count();
            if letters > MOST_CHARACTERS {
                return refuse(format!(
                    "`{name}` has {letters} characters; it may have {MOST_CHARACTERS}"
                ));
            }
        }
        Ok(())
    }

    /// What a person said of the reply, -1 (bad) to 1 (good); `None` if nothing.
    #[must_use]
    pub fn opinion(&self) -> Option<f32> {
        let thumb = self.thumb.map(|thumb| match thumb {
            Thumb::Up => 1.0,
            Thumb::Down => -1.0,
        });
        thumb.or(self.score.map(|score| score.mul_add(2.0, -1.0)))
    }
}

/// That a run was made with what a feedback made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The run.
    pub run: String,
    /// The feedback.
    pub feedback: Uuid,
    /// The user who gave it; empty once everything of that user was erased.
    pub user: String,
    /// The example that it made.
    pub example: Uuid,
    /// The feedback is gone: what the run made has to be made anew, from base and without it.
    pub forgotten: bool,
    /// When, in Unix milliseconds.
    pub at: i64,
}

/// A run that was made with what was forgotten since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tainted {
    /// The run.
    pub run: String,
    /// The examples of what was forgotten.
    pub examples: Vec<Uuid>,
}

/// Collects [`Tainted`] of forgotten uses.
fn tainted(uses: impl Iterator<Item = (String, Uuid)>) -> Vec<Tainted> {
    let mut runs: BTreeMap<String, BTreeSet<Uuid>> = BTreeMap::new();
    for (run, example) in uses {
        runs.entry(run).or_default().insert(example);
    }
    let tainted = runs.into_iter().map(|(run, examples)| Tainted {
        run,
        examples: examples.into_iter().collect(),
    });
    tainted.collect()
}

/// Keeps feedback, and what became of it.
///
/// Laws:
/// 1. What takes a [`Scope`] reaches the feedback of its user alone; what takes a team reaches that team's, and is never
///    shown to a user.
/// 2. `add` is durable when it returns. It adds nothing, and says false, where its user gave `cap` since a day before it.
/// 3. What was deleted or erased is found by no read, and no text of it stays; the runs that used it are `tainted`
///    from then on.
/// 4. Newest and oldest are told by the ids, which are UUIDv7.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Adds one; false if that would be more than `cap` within a day.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]; [`MemoryError::BadRequest`] as [`Given::admit`] says, or if the user is another.
    async fn add(&self, scope: &Scope, feedback: Feedback, cap: u64) -> Result<bool, MemoryError>;

    /// One of this user.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn get(&self, scope: &Scope, id: Uuid) -> Result<Option<Feedback>, MemoryError>;

    /// This user's, newest first; on these turns only, if any are named.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn list(&self, scope: &Scope, turns: &[Uuid], page: Page) -> Result<Vec<Feedback>, MemoryError>;

    /// How much of this user's there is, and the newest: another pair when some was given or has gone, at whichever gateway.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn mark(&self, scope: &Scope) -> Result<(u64, Option<Uuid>), MemoryError>;

    /// All users' of a team, newest first.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn of_team(&self, team: &str, page: Page) -> Result<Vec<Feedback>, MemoryError>;

    /// Deletes these; returns how many there were.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn delete(&self, scope: &Scope, ids: &[Uuid]) -> Result<u64, MemoryError>;

    /// Deletes what was said of these turns; returns how many there were.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn delete_of_turns(&self, scope: &Scope, turns: &[Uuid]) -> Result<u64, MemoryError>;

    /// Removes everything of this user; returns how many there were. That runs used it stays known, not who gave it.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn erase(&self, scope: &Scope) -> Result<u64, MemoryError>;

    /// Notes what a run of this team was made with. Feedback that is gone by now counts as forgotten.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn note_uses(&self, team: &str, uses: Vec<Use>) -> Result<(), MemoryError>;

    /// The runs that a feedback of this user went into, oldest first.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn uses_of(&self, scope: &Scope, feedback: Uuid) -> Result<Vec<Use>, MemoryError>;

    /// The runs of this team that were made with what was forgotten since, by name.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn tainted(&self, team: &str) -> Result<Vec<Tainted>, MemoryError>;

    /// The users of a team who gave feedback that is there.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn users(&self, team: &str) -> Result<BTreeSet<String>, MemoryError>;
}

/// Asks the same of every ledger.
fn admit(scope: &Scope, feedback: &Feedback) -> Result<(), MemoryError> {
    if feedback.user != scope.user() {
        return Err(MemoryError::BadRequest("feedback belongs to who gives it".to_owned()));
    }
    feedback.given.admit()
}
