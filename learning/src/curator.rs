//! Takes feedback in and says what came of it: [`Curator`] joins the ledger with the recorded turns. What feedback is, is
//! in [`crate::feedback`]; what it comes to, in [`crate::examples::curate`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use habit_memory::clock::Clock;
use habit_memory::interaction::Interaction;
use habit_memory::journal::{Journal, Page};
use habit_memory::memories::Follower;
use habit_memory::{MemoryError, Scope};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::examples::Example;
use crate::examples::curate::{Audience, Curated, Told, curate};
use crate::examples::prompt::prompt;
use crate::feedback::{Feedback, Given, Ledger, Use, implicit};

/// Feedback of one user, or of a team, that is read at most, newest first.
const MOST_FEEDBACK: usize = 20_000;

/// Turns of one user that are looked through for what they say of each other, at most.
const MOST_TURNS: usize = 5_000;

/// Turns that are read at a time.
const BATCH: usize = 500;

/// What it is built on.
pub struct Parts {
    /// Feedback.
    pub ledger: Arc<dyn Ledger>,
    /// Turns.
    pub journal: Arc<dyn Journal>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Feedback that one user may give within a day.
    pub cap: u64,
    /// Counts what other gateways removed, where there are any: what is learnt of it is gone with it.
    pub removed_elsewhere: Arc<AtomicU64>,
}

/// What is learnt of a user, told apart from what was and will be learnt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Version {
    /// Changes here.
    here: u64,
    /// Removals elsewhere.
    elsewhere: u64,
    /// Feedback that there is.
    said: (u64, Option<Uuid>),
}

/// Hears that feedback is gone.
#[async_trait]
pub trait Forgotten: Send + Sync {
    /// Feedback of this user is gone, and with `erased` everything of the user; the ledger already says which runs were made
    /// with it ([`Ledger::tainted`]).
    ///
    /// # Errors
    /// [`MemoryError::Storage`]: something of it is left.
    async fn forgotten(&self, scope: &Scope, erased: bool) -> Result<(), MemoryError>;
}

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Curator {
    parts: Arc<Parts>,
    /// What else has to go when feedback goes, such as the files of runs.
    followers: Arc<Mutex<Vec<Arc<dyn Forgotten>>>>,
    /// How often what is learnt of a user changed, by team and user.
    versions: Arc<Mutex<HashMap<(String, String), u64>>>,
}

/// Why feedback was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    /// The user has given enough for a day.
    #[error(
        "this user has given {0} pieces of feedback within a day, which is the limit; go on tomorrow, or raise learning.feedback_a_day"
    )]
    TooMuch(u64),
    /// It could not be kept, makes no sense, or the turn is not there.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// What became of a feedback.
#[derive(Debug, Clone, PartialEq)]
pub struct Lineage {
    /// The feedback.
    pub feedback: Feedback,
    /// The example that it made, or is a part of.
    pub example: Option<Example>,
    /// Why it made none.
    pub left_out: Option<String>,
    /// Whether the answer was judged by it, for preference training.
    pub judged: bool,
    /// The runs that it went into, oldest first.
    pub runs: Vec<Use>,
}

impl Curator {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
            followers: Arc::default(),
            versions: Arc::default(),
        }
    }

    /// Tells this one too when feedback is gone.
    pub fn tell(&self, follower: Arc<dyn Forgotten>) {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(follower);
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> &dyn Ledger {
        &*self.parts.ledger
    }

    /// Takes feedback on a turn of this user.
    ///
    /// # Errors
    /// [`FeedbackError`]; [`MemoryError::NotFound`] in it if there is no such turn of this user.
    pub async fn submit(&self, scope: &Scope, turn: Uuid, given: Given) -> Result<Feedback, FeedbackError> {
        given.admit()?;
        if self.parts.journal.turn(scope, turn).await?.is_none() {
            return Err(MemoryError::NotFound(format!(
                "there is no turn {turn} of yours; the header X-Habit-Turn of a reply names its turn, and turns that were \
                 asked with store = false have no record"
            ))
            .into());
        }
        let feedback = Feedback {
            id: Uuid::now_v7(),
            user: scope.user().to_owned(),
            turn,
            given,
            at: self.parts.clock.now_ms(),
        };
        if !self.parts.ledger.add(scope, feedback.clone(), self.parts.cap).await? {
            return Err(FeedbackError::TooMuch(self.parts.cap));
        }
        self.changed(scope);
        Ok(feedback)
    }

    /// Feedback of this user, newest first; on these turns only, if any are named.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn list(&self, scope: &Scope, turns: &[Uuid], page: Page) -> Result<Vec<Feedback>, MemoryError> {
        self.parts.ledger.list(scope, turns, page).await
    }

    /// Forgets a feedback, and with it what it made; false if there is none.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn forget(&self, scope: &Scope, id: Uuid) -> Result<bool, MemoryError> {
        let gone = self.parts.ledger.delete(scope, &[id]).await? > 0;
        if gone {
            self.gone(scope, false).await?;
        }
        Ok(gone)
    }

    /// What may be learnt from for this user alone.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn of_user(&self, scope: &Scope) -> Result<Curated, MemoryError> {
        let feedback = self.all_of(scope, MOST_FEEDBACK).await?;
        self.curated(scope, feedback).await
    }

    async fn curated(&self, scope: &Scope, feedback: Vec<Feedback>) -> Result<Curated, MemoryError> {
        let told = self.told(scope, feedback).await?;
        Ok(curate(told, &Audience::User(scope.user().to_owned())))
    }

    /// This user's feedback, newest first, about so many at most.
    async fn all_of(&self, scope: &Scope, most_read: usize) -> Result<Vec<Feedback>, MemoryError> {
        let mut feedback = Vec::new();
        let mut before = None;
        while feedback.len() < most_read {
            let page = self.parts.ledger.list(scope, &[], whole(before)).await?;
            before = page.last().map(|one| one.id);
            let last = page.len() < most();
            feedback.extend(page);
            if last {
                break;
            }
        }
        Ok(feedback)
    }

    /// What may be learnt from for a whole team: what so many different users said alike.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn of_team(&self, team: &str, users: usize) -> Result<Curated, MemoryError> {
        let mut by_user: BTreeMap<String, Vec<Feedback>> = BTreeMap::new();
        let (mut before, mut read) = (None, 0);
        while read < MOST_FEEDBACK {
            let page = self.parts.ledger.of_team(team, whole(before)).await?;
            before = page.last().map(|one| one.id);
            let last = page.len() < most();
            read += page.len();
            for one in page {
                by_user.entry(one.user.clone()).or_default().push(one);
            }
            if last {
                break;
            }
        }
        let mut told = Vec::new();
        for (user, feedback) in by_user {
            let scope = Scope::new(team, user).map_err(|error| MemoryError::Storage(error.to_string()))?;
            told.extend(self.told(&scope, feedback).await?);
        }
        Ok(curate(told, &Audience::Team { users }))
    }

    /// The users of a team who gave feedback.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn users(&self, team: &str) -> Result<BTreeSet<String>, MemoryError> {
        self.parts.ledger.users(team).await
    }

    /// What became of a feedback of this user; `None` if there is none.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn lineage(&self, scope: &Scope, id: Uuid) -> Result<Option<Lineage>, MemoryError> {
        let Some(feedback) = self.parts.ledger.get(scope, id).await? else {
            return Ok(None);
        };
        let curated = self.of_user(scope).await?;
        let example = curated.examples.into_iter().find(|one| one.from.contains(&id));
        let left_out = curated.left_out.into_iter().find(|left| left.from.contains(&id));
        Ok(Some(Lineage {
            judged: left_out.is_none() && curated.judged.iter().any(|one| one.id == feedback.turn),
            runs: self.parts.ledger.uses_of(scope, id).await?,
            left_out: left_out.map(|left| left.why).filter(|_| example.is_none()),
            example,
            feedback,
        }))
    }

    /// Notes that a run of this team is made with these examples.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn note_run(&self, team: &str, run: &str, examples: &[Example]) -> Result<(), MemoryError> {
        let at = self.parts.clock.now_ms();
        let uses = examples.iter().flat_map(|example| {
            example.from.iter().map(move |feedback| Use {
                run: run.to_owned(),
                feedback: *feedback,
                user: example.user.clone(),
                example: example.id,
                forgotten: false,
                at,
            })
        });
        self.parts.ledger.note_uses(team, uses.collect()).await
    }

    /// Another one when what is learnt of this user may have changed.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn version(&self, scope: &Scope) -> Result<Version, MemoryError> {
        let here = {
            let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
            versions.get(&owner(scope)).copied().unwrap_or_default()
        };
        Ok(Version {
            here,
            elsewhere: self.parts.removed_elsewhere.load(Ordering::SeqCst),
            said: self.parts.ledger.mark(scope).await?,
        })
    }

    fn changed(&self, scope: &Scope) {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        *versions.entry(owner(scope)).or_default() += 1;
    }

    async fn gone(&self, scope: &Scope, erased: bool) -> Result<(), MemoryError> {
        self.changed(scope);
        let followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for one in followers {
            one.forgotten(scope, erased).await?;
        }
        Ok(())
    }

    /// The turns that this feedback of one user is of, as far as they are there.
    async fn told(&self, scope: &Scope, feedback: Vec<Feedback>) -> Result<Vec<Told>, MemoryError> {
        if feedback.is_empty() {
            return Ok(Vec::new());
        }
        let scope = &Scope::new(scope.team(), scope.user()).map_err(|error| MemoryError::Storage(error.to_string()))?;
        let mut of: HashMap<Uuid, Vec<Feedback>> = HashMap::new();
        for one in feedback {
            of.entry(one.turn).or_default().push(one);
        }
        let mut turns = self.around(scope, of.keys().min().copied()).await?;
        let missing: Vec<Uuid> = of.keys().filter(|id| !turns.contains_key(id)).copied().collect();
        for ids in missing.chunks(BATCH) {
            let found = self.parts.journal.turns_by_id(scope, ids).await?;
            turns.extend(found.into_iter().map(|turn| (turn.id, turn)));
        }
        let all: Vec<Interaction> = turns.values().cloned().collect();
        let mut noticed = implicit::read(&all);
        let mut told = Vec::with_capacity(of.len());
        for (id, feedback) in of {
            // A turn that was deleted takes what was said of it along; this one is about to go.
            let Some(turn) = turns.get(&id) else { continue };
            told.push(Told {
                turn: id,
                user: scope.user().to_owned(),
                messages: prompt(&*self.parts.journal, scope, turn, &turns).await?,
                reply: turn.reply.clone(),
                at: turn.asked_at,
                feedback,
                implicit: noticed.remove(&id).unwrap_or_default(),
            });
        }
        Ok(told)
    }

    /// The user's turns from this one on, newest first, as many as are looked through.
    async fn around(&self, scope: &Scope, oldest: Option<Uuid>) -> Result<HashMap<Uuid, Interaction>, MemoryError> {
        let mut turns = HashMap::new();
        let mut before = None;
        while turns.len() < MOST_TURNS {
            let page = self.parts.journal.turns(scope, whole(before)).await?;
            before = page.last().map(|turn| turn.id);
            let done = page.len() < most() || before < oldest;
            turns.extend(page.into_iter().map(|turn| (turn.id, turn)));
            if done {
                break;
            }
        }
        Ok(turns)
    }
}

/// What is made of a user's turns goes with them.
#[async_trait]
impl Follower for Curator {
    /// Feedback with what it came to, and the examples that were made of it.
    fn export(&self, scope: &Scope) -> BoxStream<'static, Result<Map<String, Value>, MemoryError>> {
        let (curator, scope) = (self.clone(), scope.clone());
        let lines = async move {
            let feedback = curator.all_of(&scope, usize::MAX).await?;
            let curated = curator.curated(&scope, feedback.clone()).await?;
            let feedback = feedback.iter().map(|one| line("feedback", one));
            let examples = curated.examples.iter().map(|one| line("example", one));
            let lines: Result<Vec<_>, MemoryError> = feedback.chain(examples).collect();
            lines
        };
        stream::once(lines)
            .map_ok(|lines| stream::iter(lines.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn turns_deleted(&self, scope: &Scope, turns: &[Uuid]) -> Result<(), MemoryError> {
        if self.parts.ledger.delete_of_turns(scope, turns).await? > 0 {
            self.gone(scope, false).await?;
        }
        Ok(())
    }

    async fn erase(&self, scope: &Scope) -> Result<u64, MemoryError> {
        let erased = self.parts.ledger.erase(scope).await?;
        // Also where nothing was erased: the files of a run may be left from an erasure that was cut short.
        self.gone(scope, true).await?;
        Ok(erased)
    }
}

/// A line of an export.
fn line(kind: &str, what: &impl Serialize) -> Result<Map<String, Value>, MemoryError> {
    let unwritable = |why: String| MemoryError::Storage(format!("an export can't be written: {why}"));
    match serde_json::to_value(what).map_err(|error| unwritable(error.to_string()))? {
        Value::Object(mut line) => {
            line.insert("type".to_owned(), kind.into());
            Ok(line)
        }
        other => Err(unwritable(format!("{other} is no object"))),
    }
}

fn owner(scope: &Scope) -> (String, String) {
    (scope.team().to_owned(), scope.user().to_owned())
}

fn whole(before: Option<Uuid>) -> Page {
    Page {
        limit: Page::MOST,
        before,
    }
}

fn most() -> usize {
    usize::try_from(Page::MOST).unwrap_or(usize::MAX)
}
