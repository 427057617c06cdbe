//! Downtime: work that memory does while nobody waits for it. A [`Routine`] is one kind of it, a file each; a [`Run`] is
//! one time that it was done for one [`Target`]. [`Runner`] does a run step by step, so that it can stop between any two,
//! go on after a crash, tell what it did, and take it back.
//!
//! To add one: a file here that implements [`Routine`], and a line in [`memory`].
//!
//! When runs happen is the gateway's business.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::MemoryError;
use crate::facts::Facts;
use crate::index::Index;
use crate::indexer::Indexer;
use crate::journal::{Journal, Page};
use crate::memories::Memories;
use crate::objects::{Expiry, Objects};
use crate::scope::Scope;
use crate::store::sea::Runs;

mod audit;
mod compact;
mod consolidate;
mod dedupe;
mod expire;
mod likeness;
mod reindex;
mod run;
mod supersede;
mod walk;

pub use run::Runner;

/// Whom a routine is done for, one run each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Each user.
    User,
    /// Each team.
    Team,
    /// All at once: it reads nothing of anyone.
    Everyone,
}

/// Whom a run is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// `None` is everyone.
    pub team: Option<String>,
    /// `None` is the whole team.
    pub user: Option<String>,
}

impl Target {
    /// One user.
    #[must_use]
    pub fn user(scope: &Scope) -> Self {
        Self {
            team: Some(scope.team().to_owned()),
            user: Some(scope.user().to_owned()),
        }
    }

    /// One team.
    #[must_use]
    pub fn team(team: &str) -> Self {
        Self {
            team: Some(team.to_owned()),
            user: None,
        }
    }

    /// The user's scope.
    ///
    /// # Errors
    /// [`MemoryError::BadRequest`] if it is no single user.
    pub fn scope(&self) -> Result<Scope, MemoryError> {
        let (Some(team), Some(user)) = (&self.team, &self.user) else {
            return Err(MemoryError::BadRequest(
                "this routine is done for one user at a time".to_owned(),
            ));
        };
        Scope::new(team, user).map_err(|error| MemoryError::BadRequest(error.to_string()))
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It has not begun, or is to go on.
    Waiting,
    /// It is being done.
    Running,
    /// It was stopped on request; it can be resumed.
    Cancelled,
    /// It failed; it can be resumed.
    Failed,
    /// It is done.
    Finished,
    /// It is being taken back.
    Undoing,
    /// It was taken back.
    Undone,
}

/// What a run found, for its report. Never anyone's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    /// How often what was seen.
    pub counts: BTreeMap<String, u64>,
    /// Single things to look at, the first [`Findings::NOTES`] of them.
    pub notes: Vec<String>,
}

impl Findings {
    /// Notes that are kept.
    pub const NOTES: usize = 200;

    /// Counts something; nothing is not counted.
    pub fn count(&mut self, what: &str, times: u64) {
        if times > 0 {
            *self.counts.entry(what.to_owned()).or_default() += times;
        }
    }

    /// Notes a single thing.
    pub fn note(&mut self, note: impl Into<String>) {
        if self.notes.len() < Self::NOTES {
            self.notes.push(note.into());
        }
    }

    /// With what a further step found.
    fn take(&mut self, more: Self) {
        for (what, times) in more.counts {
            self.count(&what, times);
        }
        for note in more.notes {
            self.note(note);
        }
    }
}

/// Something that is to be changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// UUIDv7.
    pub id: Uuid,
    /// What and why, for people: ids, never anyone's words, so that nothing is left of what is erased.
    pub what: String,
    /// All that is needed to make it and to take it back.
    pub data: Value,
}

impl Change {
    /// A new one.
    #[must_use]
    pub fn new(what: impl Into<String>, data: Value) -> Self {
        Self {
            id: Uuid::now_v7(),
            what: what.into(),
            data,
        }
    }
}

/// What a step proposes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Where the next one goes on; `None` if there is nothing left.
    pub next: Option<Value>,
    /// What is to be changed. It is written down before it is made.
    pub changes: Vec<Change>,
    /// What was found.
    pub findings: Findings,
    /// How much of the work this was.
    pub done: u64,
    /// What was known of earlier steps is gone with the process that did them: the run begins anew. What it changed is not
    /// proposed again.
    pub afresh: bool,
}

/// What a run is expected to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// How much there is to do, in the measure of [`Step::done`]; 0 if nothing is.
    pub total: u64,
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// UUIDv7.
    pub id: Uuid,
    /// By its name.
    pub routine: String,
    /// For whom.
    pub target: Target,
    /// How far it is.
    pub status: Status,
    /// Why it was begun, and for what it stopped.
    pub cause: String,
    /// Where it goes on; null at the beginning.
    pub cursor: Value,
    /// How much is done, and of how much.
    pub done: u64,
    /// See `done`.
    pub total: u64,
    /// What it found.
    pub findings: Findings,
    /// Unix milliseconds.
    pub started_at: i64,
    /// Unix milliseconds.
    pub ended_at: Option<i64>,
}

/// A change of a run, as it was written down.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The change.
    pub change: Change,
    /// `intended`, `made` or `undone`.
    pub status: String,
    /// Unix milliseconds.
    pub at: i64,
}

/// Whether work may go on: it waits for those who are waited for.
#[derive(Debug, Clone)]
pub struct Pace {
    go: watch::Receiver<bool>,
    stop: CancellationToken,
}

impl Pace {
    /// Goes on while `go` says so, until `stop`.
    #[must_use]
    pub fn new(go: watch::Receiver<bool>, stop: CancellationToken) -> Self {
        Self { go, stop }
    }

    /// Nothing else is to be done.
    #[must_use]
    pub fn free() -> Self {
        let (_, go) = watch::channel(true);
        Self::new(go, CancellationToken::new())
    }

    /// Waits until work may go on; false if it is to stop.
    pub async fn ready(&mut self) -> bool {
        let go = async {
            // Without anyone to say no, it may.
            let _ = self.go.wait_for(|go| *go).await;
        };
        self.stop.run_until_cancelled(go).await.is_some()
    }

    /// Whether work may go on now.
    #[must_use]
    pub fn may_go(&self) -> bool {
        *self.go.borrow() && !self.stop.is_cancelled()
    }

    /// Cancelled when the work is to stop.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

/// A kind of work.
///
/// Laws:
/// 1. `step` changes nothing that is remembered; what it wants changed it proposes, and `apply` makes it. A step takes well
///    under a second, or waits for `pace` itself.
/// 2. `apply` and `undo` may be called again for the same change, also after a crash half way: the second time does nothing.
/// 3. A step that is done again from the same place after its changes were applied proposes none of them again.
/// 4. What was deleted meanwhile is not brought back by any of them.
/// 5. Nothing that is written down of a run holds words of anyone.
#[async_trait]
pub trait Routine: Send + Sync {
    /// By this it is asked for.
    fn name(&self) -> &'static str;

    /// What it does, in a sentence.
    fn about(&self) -> &'static str;

    /// Whom it is done for.
    fn reach(&self) -> Reach;

    /// What undoing it means, in a sentence.
    fn undoing(&self) -> &'static str;

    /// How much there is to do.
    ///
    /// # Errors
    /// [`MemoryError`].
    async fn plan(&self, target: &Target) -> Result<Plan, MemoryError>;

    /// The next step, from `cursor` (null at the beginning).
    ///
    /// # Errors
    /// [`MemoryError`]; the run can be resumed from the same place.
    async fn step(&self, target: &Target, cursor: &Value, pace: &Pace) -> Result<Step, MemoryError>;

    /// Makes a change.
    ///
    /// # Errors
    /// [`MemoryError`].
    async fn apply(&self, _target: &Target, _change: &Change) -> Result<(), MemoryError> {
        Ok(())
    }

    /// Takes a change back.
    ///
    /// # Errors
    /// [`MemoryError`].
    async fn undo(&self, _target: &Target, _change: &Change) -> Result<(), MemoryError> {
        Ok(())
    }
}

/// What memory's routines work on.
#[derive(Clone)]
pub struct Parts {
    /// The truth.
    pub journal: Arc<dyn Journal>,
    /// What finds.
    pub index: Arc<dyn Index>,
    /// Keeps the index up with the journal.
    pub indexer: Indexer,
    /// What is known of users.
    pub facts: Arc<dyn Facts>,
    /// What users do with it.
    pub memories: Memories,
    /// Small things of users.
    pub objects: Arc<dyn Objects>,
    /// What goes with them when they expire.
    pub expiry: Arc<dyn Expiry>,
    /// The runs themselves, and the database that they are in.
    pub runs: Runs,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Whether facts are learnt from what users say.
    pub learns: bool,
}

/// Memory's routines, in the order in which they are done: what is there is put right before it is looked at.
#[must_use]
pub fn memory(parts: &Parts) -> Vec<Arc<dyn Routine>> {
    let parts = || parts.clone();
    vec![
        Arc::new(expire::Expire::new(parts())),
        Arc::new(dedupe::Dedupe::new(parts())),
        Arc::new(consolidate::Consolidate::new(parts())),
        Arc::new(supersede::Supersede::new(parts())),
        Arc::new(reindex::Reindex::new(parts())),
        Arc::new(audit::Audit::new(parts())),
        Arc::new(compact::Compact::new(parts())),
    ]
}

/// Turns that a step looks at.
const BATCH: u64 = 64;

/// The page of a user's turns at which a cursor stands, newest first, and where the next begins.
async fn page(
    journal: &dyn Journal,
    scope: &Scope,
    cursor: &Value,
) -> Result<(Vec<crate::interaction::Interaction>, Option<Value>), MemoryError> {
    let before = cursor.as_str().and_then(|id| Uuid::parse_str(id).ok());
    let turns = journal.turns(scope, Page { limit: BATCH, before }).await?;
    let whole = turns.len() as u64 == BATCH;
    let next = turns
        .last()
        .filter(|_| whole)
        .map(|turn| Value::String(turn.id.to_string()));
    Ok((turns, next))
}

/// How many turns a user has, about: for a progress bar, all of everyone's at most.
async fn turns_of(journal: &dyn Journal) -> Result<Plan, MemoryError> {
    Ok(Plan {
        total: journal.totals().await?.turns.max(1),
    })
}
