//! Facts: short statements that hold of a user or a team, each with the time in which it holds and with where it comes
//! from. A changed fact supersedes the old one, which stays answerable as of an earlier time.
//!
//! Here are the words for it and the seam [`Facts`]; what a new fact does to older ones is in `settle` (pure), what
//! of a user's words is one in [`recognise`]. What users do with facts is in [`crate::memories`].

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::MemoryError;
use crate::journal::Page;
use crate::scope::Scope;

pub mod recognise;
mod settle;

pub use settle::{Settled, settle};

/// The longest text of a fact, in characters: it is a statement, not a document.
pub const MOST_CHARACTERS: usize = 4_000;

/// What sort of statement it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something that is so.
    #[default]
    Fact,
    /// Something that is liked better.
    Preference,
    /// How to answer.
    Instruction,
}

/// What a fact is worth now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It holds.
    #[default]
    Active,
    /// A newer one took its place; it is answerable as of its time.
    Superseded,
    /// Its owner doubts it: it is kept, listed, and never shown to a model.
    Quarantined,
    /// Its text is gone; only the mark stays, so that it is not learnt again from the same turn.
    Deleted,
}

/// Where a fact comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// `user`, or the name that the client gave to who spoke.
    pub said_by: String,
    /// The turn that it was said in.
    pub turn: Option<Uuid>,
    /// The document that it stands in.
    pub document: Option<Uuid>,
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            said_by: "user".to_owned(),
            turn: None,
            document: None,
        }
    }
}

/// A fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// UUIDv7.
    pub id: Uuid,
    /// Whose it is; the conversation and the application are set where it counts in that one only.
    pub scope: Scope,
    /// For everyone in the team.
    pub team_wide: bool,
    /// The agent that keeps it, where several of an application keep their own.
    pub agent: Option<String>,
    /// The statement, verbatim.
    pub text: String,
    /// What sort of statement it is.
    pub kind: Kind,
    /// What it tells of whom, such as `home`: of facts with the same attribute only the newest holds. `None` where any
    /// number of them may.
    pub attribute: Option<String>,
    /// What it is worth now.
    pub status: Status,
    /// Since when it holds, in Unix milliseconds.
    pub valid_from: i64,
    /// Until when it held; `None` while it does.
    pub valid_to: Option<i64>,
    /// The fact that took its place.
    pub superseded_by: Option<Uuid>,
    /// Where it comes from.
    pub origin: Origin,
    /// Shown to the model in every turn, whatever is asked.
    pub pinned: bool,
    /// Whatever its owner keeps with it.
    pub metadata: Map<String, Value>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub updated_at: i64,
    /// When it is removed, in Unix milliseconds.
    pub expires_at: Option<i64>,
}

impl Fact {
    /// A new one of this owner, which holds from now on.
    #[must_use]
    pub fn new(scope: Scope, text: impl Into<String>, now: i64) -> Self {
        Self {
            id: Uuid::now_v7(),
            scope,
            team_wide: false,
            agent: None,
            text: text.into(),
            kind: Kind::Fact,
            attribute: None,
            status: Status::Active,
            valid_from: now,
            valid_to: None,
            superseded_by: None,
            origin: Origin::default(),
            pinned: false,
            metadata: Map::new(),
            created_at: now,
            updated_at: now,
            expires_at: None,
        }
    }

    /// Whether it held at this time. Of what is quarantined or deleted nobody says so.
    #[must_use]
    pub fn held_at(&self, at: i64) -> bool {
        matches!(self.status, Status::Active | Status::Superseded)
            && self.valid_from <= at
            && self.valid_to.is_none_or(|end| at < end)
    }

    /// Whether it may be put before a model that is asked in this scope at this time.
    #[must_use]
    pub fn applies(&self, scope: &Scope, now: i64) -> bool {
        let here = |own: Option<&str>, asked: Option<&str>| own.is_none() || own == asked;
        self.status == Status::Active
            && self.expires_at.is_none_or(|end| now < end)
            && self.held_at(now)
            && here(self.scope.conversation(), scope.conversation())
            && here(self.scope.app(), scope.app())
    }
}

/// What became of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Happened {
    /// It was added.
    Add,
    /// Its owner changed it.
    Update,
    /// A newer one took its place.
    Supersede,
    /// It was deleted.
    Delete,
}

/// One entry of a fact's history. Deletion takes the texts away, not that something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// UUIDv7.
    pub id: Uuid,
    /// The fact.
    pub fact: Uuid,
    /// What happened.
    pub event: Happened,
    /// The text before.
    pub old_text: Option<String>,
    /// The text after; of a fact that was superseded, the text of the one that took its place.
    pub new_text: Option<String>,
    /// Unix milliseconds.
    pub at: i64,
}

/// What came of adding a fact.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    /// The fact as it is now: the new one, or the one that says the same already.
    pub fact: Fact,
    /// Whether it is new.
    pub new: bool,
    /// Those whose place it took.
    pub superseded: Vec<Uuid>,
}

/// What is to be changed; what is unset stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// The text.
    pub text: Option<String>,
    /// What it tells of whom, with a new text.
    pub attribute: Option<Option<String>>,
    /// The metadata, in place of the old.
    pub metadata: Option<Map<String, Value>>,
    /// Whether it is shown in every turn.
    pub pinned: Option<bool>,
    /// [`Status::Active`] (which ends a quarantine, and makes a superseded fact hold again) or [`Status::Quarantined`].
    pub status: Option<Status>,
    /// When it is removed; `Some(None)` is never.
    pub expires_at: Option<Option<i64>>,
}

/// Which facts are meant. Deleted and expired ones never are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of this conversation.
    pub conversation: Option<String>,
    /// Only those of this application.
    pub app: Option<String>,
    /// Only those of this agent.
    pub agent: Option<String>,
    /// Only the team's, or only the user's own.
    pub team_wide: Option<bool>,
    /// Only of this sort.
    pub kind: Option<Kind>,
    /// Only with this status; without `as_of` and this, those that are active.
    pub status: Option<Status>,
    /// Whatever their status.
    pub any_status: bool,
    /// Only (un)pinned ones.
    pub pinned: Option<bool>,
    /// Only those that held at this time, in Unix milliseconds.
    pub as_of: Option<i64>,
}

impl Filter {
    /// Whether nothing is asked for in particular.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All that there is.
    #[must_use]
    pub fn all() -> Self {
        Self {
            any_status: true,
            ..Self::default()
        }
    }
}

/// Which of the facts that apply in a scope ([`Fact::applies`]) are read.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// The pinned ones, newest first, at most so many.
    Pinned(u64),
    /// Those with these ids.
    Ids(&'a [Uuid]),
}

/// What is known of the facts of a turn, deleted ones among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromTurn {
    /// The fact.
    pub id: Uuid,
    /// The turn.
    pub turn: Uuid,
    /// [`words_sha256`] of its text.
    pub words_sha256: String,
    /// What it is worth now.
    pub status: Status,
    /// The fact that took its place.
    pub superseded_by: Option<Uuid>,
}

/// Keeps facts.
///
/// Laws:
/// 1. Every read and write takes a [`Scope`] and reaches only the facts of its user and those that its team shares. The
///    scope's conversation and application only matter to [`Facts::applying`].
/// 2. `add` is durable when it returns, and writes all of its facts or none, each settled ([`settle`]) against what is
///    there, in order; of facts with the same owner and attribute at most one holds at any time.
/// 3. A turn teaches once: `add` leaves out facts of a turn that others came of before, deleted ones among them.
/// 4. What was deleted has no text anywhere, nor has its history; it is found by no read but [`Facts::of_turns`] and
///    [`Facts::history`]. What has expired is found by no read but [`Facts::expired`], [`Facts::of_turns`] and
///    [`Facts::history`].
/// 5. `pending` gives what was added or changed and not yet marked as indexed.
#[async_trait]
pub trait Facts: Send + Sync {
    /// Adds facts, whose owner is the scope's.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if they could not be made durable; [`MemoryError::BadRequest`] if a text is empty or
    /// longer than [`MOST_CHARACTERS`], or an owner is another.
    async fn add(&self, scope: &Scope, facts: Vec<Fact>) -> Result<Vec<Added>, MemoryError>;

    /// One fact.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn get(&self, scope: &Scope, id: Uuid) -> Result<Option<Fact>, MemoryError>;

    /// Facts, newest first.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn list(&self, scope: &Scope, filter: &Filter, page: Page) -> Result<Vec<Fact>, MemoryError>;

    /// These facts, as far as the filter and the scope let them through, in any order.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn by_id(&self, scope: &Scope, filter: &Filter, ids: &[Uuid]) -> Result<Vec<Fact>, MemoryError>;

    /// Facts that may be put before a model asked in this scope now.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn applying(&self, scope: &Scope, which: Which<'_>) -> Result<Vec<Fact>, MemoryError>;

    /// Changes a fact; `None` if there is none.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]; [`MemoryError::BadRequest`] as for `add`, or if the status is another than it may be.
    async fn change(&self, scope: &Scope, id: Uuid, change: Change) -> Result<Option<Fact>, MemoryError>;

    /// Ends a fact at this time (Unix milliseconds), another taking its place; false if it does not hold, or the other is
    /// not there.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn supersede(&self, scope: &Scope, old: Uuid, by: Uuid, at: i64) -> Result<bool, MemoryError>;

    /// Everyone who has facts: for work in the background, never shown to anyone.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn owners(&self) -> Result<Vec<Scope>, MemoryError>;

    /// Deletes facts; returns those that there were.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn delete(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Uuid>, MemoryError>;

    /// What became of a fact, oldest first; empty if there never was one.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn history(&self, scope: &Scope, id: Uuid) -> Result<Vec<Event>, MemoryError>;

    /// The facts of these turns of the user.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn of_turns(&self, scope: &Scope, turns: &[Uuid]) -> Result<Vec<FromTurn>, MemoryError>;

    /// Removes every trace of this user's facts, of those that the team shares only with `team_wide`; returns how many
    /// there were.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn erase(&self, scope: &Scope, team_wide: bool) -> Result<u64, MemoryError>;

    /// What is not yet indexed, oldest first: for the background indexer, without a scope, never shown to anyone.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn pending(&self, limit: u64) -> Result<Vec<Fact>, MemoryError>;

    /// Notes that these are in the index, as they were when their [`Fact::updated_at`] was this.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn mark_indexed(&self, facts: &[(Uuid, i64)]) -> Result<(), MemoryError>;

    /// Makes everything pending that belongs in the index; returns how many that are.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn mark_all_pending(&self) -> Result<u64, MemoryError>;

    /// What has expired, at most `limit`: for the background sweeper, without a scope.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn expired(&self, limit: u64) -> Result<Vec<Fact>, MemoryError>;
}

/// What every store asks of a text.
///
/// # Errors
/// [`MemoryError::BadRequest`] if it is empty or too long.
pub fn admit_text(text: &str) -> Result<(), MemoryError> {
    if text.trim().is_empty() {
        return Err(MemoryError::BadRequest("a memory needs some text".to_owned()));
    }
    let length = text.chars().count();
    if length > MOST_CHARACTERS {
        let message = format!(
            "a memory is a statement of at most {MOST_CHARACTERS} characters, not {length}; give longer texts to memory as \
             a document"
        );
        return Err(MemoryError::BadRequest(message));
    }
    Ok(())
}

/// The text's words alone, in lower case, as SHA-256 in lowercase hex: the same for texts that say the same in the same
/// words.
#[must_use]
pub fn words_sha256(text: &str) -> String {
    hex::encode(Sha256::digest(crate::context::normalised(text)))
}
