//! What users do with what is remembered of them: [`Memories`] adds, finds, changes and deletes facts here; whole
//! concepts are forgotten in `forget`, everything of a user is told in `export` and removed in `erase`.

use std::sync::Arc;
use std::time::Duration;

use habit_engine::{Embedder, Message, Role};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::consent::Consents;
use crate::error::MemoryError;
use crate::facts::{Added, Change, Event, Fact, Facts, Filter, Kind, Origin, Status, recognise};
use crate::files::Files;
use crate::index::{Index, Removal};
use crate::indexer::Indexer;
use crate::journal::{Journal, Page};
use crate::objects::Objects;
use crate::scope::Scope;

mod erase;
mod export;
mod follower;
mod forget;
mod search;

pub use erase::Erasure;
pub use export::Line;
pub use follower::Follower;
pub use forget::{Concept, Forgotten, Preview, Sort};
pub use search::Search;

/// How often what has expired is looked for: nobody finds it, so only the disk waits.
const SWEEP_EVERY: Duration = Duration::from_mins(10);

/// Facts that are deleted at a time.
const BATCH: u64 = 500;

/// What it is built on.
pub struct Parts {
    /// Facts.
    pub facts: Arc<dyn Facts>,
    /// Opt-outs.
    pub consents: Arc<dyn Consents>,
    /// Turns and documents.
    pub journal: Arc<dyn Journal>,
    /// Responses, conversations, files' cards.
    pub objects: Arc<dyn Objects>,
    /// Files' bytes.
    pub files: Arc<Files>,
    /// What finds.
    pub index: Arc<dyn Index>,
    /// Keeps the index up with the facts.
    pub indexer: Indexer,
    /// Text to vectors.
    pub embedder: Arc<dyn Embedder>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// What else is kept of users, and goes with what it was made of.
    pub followers: Vec<Arc<dyn Follower>>,
}

/// What is remembered, for its owners; cheap to clone.
#[derive(Clone)]
pub struct Memories {
    parts: Arc<Parts>,
}

/// What is given to be remembered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// Counts in this conversation only.
    pub conversation: Option<String>,
    /// Counts in this application only.
    pub app: Option<String>,
    /// Kept by this agent.
    pub agent: Option<String>,
    /// For everyone in the team.
    pub team_wide: bool,
    /// What sort it is; what the rules say, if unset.
    pub kind: Option<Kind>,
    /// Whatever the owner keeps with it.
    pub metadata: Map<String, Value>,
    /// Shown in every turn.
    pub pinned: bool,
    /// Since when it holds, in Unix milliseconds; from now on, if unset.
    pub valid_from: Option<i64>,
    /// When it is removed, in Unix milliseconds.
    pub expires_at: Option<i64>,
}

impl Memories {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// The opt-outs.
    #[must_use]
    pub fn consents(&self) -> &dyn Consents {
        &*self.parts.consents
    }

    /// Remembers these texts as they stand.
    ///
    /// # Errors
    /// [`MemoryError::BadRequest`] if a text is empty or too long, or a time makes no sense; [`MemoryError::Storage`].
    pub async fn add(&self, scope: &Scope, texts: Vec<String>, given: &Given) -> Result<Vec<Added>, MemoryError> {
        let statements = texts.into_iter().map(|text| {
            let (kind, attribute) = recognise::classify(&text);
            (text.trim().to_owned(), kind, attribute, "user".to_owned())
        });
        self.keep(scope, statements.collect(), given).await
    }

    /// Remembers what the rules find in these messages. Only what users say is read: the words of assistants, tools
    /// and documents are nobody's facts.
    ///
    /// # Errors
    /// As [`Memories::add`].
    pub async fn add_messages(
        &self,
        scope: &Scope,
        messages: &[Message],
        given: &Given,
    ) -> Result<Vec<Added>, MemoryError> {
        let mut statements = Vec::new();
        for message in messages.iter().filter(|message| message.role == Role::User) {
            let speaker = message.name.clone().filter(|name| !name.trim().is_empty());
            for statement in recognise::statements(&message.text()) {
                let attribute = match (&speaker, statement.attribute) {
                    (Some(name), Some(attribute)) => Some(format!("{name}/{attribute}")),
                    (_, attribute) => attribute,
                };
                let said_by = speaker.clone().unwrap_or_else(|| "user".to_owned());
                statements.push((statement.text, statement.kind, attribute, said_by));
            }
        }
        self.keep(scope, statements, given).await
    }

    async fn keep(
        &self,
        scope: &Scope,
        statements: Vec<(String, Kind, Option<String>, String)>,
        given: &Given,
    ) -> Result<Vec<Added>, MemoryError> {
        let now = self.parts.clock.now_ms();
        if given.expires_at.is_some_and(|end| end <= now) {
            return Err(MemoryError::BadRequest("it would have expired already".to_owned()));
        }
        let mut owner =
            Scope::new(scope.team(), scope.user()).map_err(|error| MemoryError::BadRequest(error.to_string()))?;
        if let Some(conversation) = &given.conversation {
            owner = owner.in_conversation(conversation);
        }
        if let Some(app) = &given.app {
            owner = owner.in_app(app);
        }
        let fact = |(text, kind, attribute, said_by): (String, Kind, Option<String>, String)| Fact {
            team_wide: given.team_wide,
            agent: given.agent.clone(),
            kind: given.kind.unwrap_or(kind),
            attribute,
            valid_from: given.valid_from.unwrap_or(now),
            origin: Origin {
                said_by,
                ..Origin::default()
            },
            pinned: given.pinned,
            metadata: given.metadata.clone(),
            expires_at: given.expires_at,
            ..Fact::new(owner.clone(), text, now)
        };
        let facts = statements.into_iter().map(fact).collect();
        let added = self.parts.facts.add(scope, facts).await?;
        self.parts.indexer.wake();
        Ok(added)
    }

    /// One fact.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Storage`].
    pub async fn get(&self, scope: &Scope, id: Uuid) -> Result<Fact, MemoryError> {
        let found = self.parts.facts.get(scope, id).await?;
        found.ok_or_else(|| unknown(id))
    }

    /// Facts, newest first.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn list(&self, scope: &Scope, filter: &Filter, page: Page) -> Result<Vec<Fact>, MemoryError> {
        self.parts.facts.list(scope, filter, page).await
    }

    /// Changes a fact.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`]; [`MemoryError::BadRequest`] if it can't be so; [`MemoryError::Storage`].
    pub async fn update(&self, scope: &Scope, id: Uuid, mut change: Change) -> Result<Fact, MemoryError> {
        if let Some(Some(end)) = change.expires_at
            && end <= self.parts.clock.now_ms()
        {
            let message = "it would have expired already; DELETE deletes a memory".to_owned();
            return Err(MemoryError::BadRequest(message));
        }
        if let Some(text) = &mut change.text {
            *text = text.trim().to_owned();
            let (_, attribute) = recognise::classify(text);
            // A text of which the rules know nothing stays about what it was about.
            change.attribute = attribute.map(Some);
        }
        let changed = self.parts.facts.change(scope, id, change).await?;
        self.parts.indexer.wake();
        changed.ok_or_else(|| unknown(id))
    }

    /// Deletes a fact, the truth first: what it no longer has is never shown.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Storage`].
    pub async fn delete(&self, scope: &Scope, id: Uuid) -> Result<(), MemoryError> {
        if self.remove(scope, &[id]).await?.is_empty() {
            return Err(unknown(id));
        }
        Ok(())
    }

    /// Deletes all facts that the filter means, of the user's own; those of the team only if it asks for them. Returns
    /// how many there were.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn delete_all(&self, scope: &Scope, filter: &Filter) -> Result<u64, MemoryError> {
        let filter = Filter {
            team_wide: Some(filter.team_wide.unwrap_or(false)),
            ..filter.clone()
        };
        let mut deleted = 0;
        loop {
            let page = Page {
                limit: BATCH,
                before: None,
            };
            let facts = self.parts.facts.list(scope, &filter, page).await?;
            let ids: Vec<Uuid> = facts.iter().map(|fact| fact.id).collect();
            let removed = self.remove(scope, &ids).await?;
            deleted += removed.len() as u64;
            // Nothing was removed where somebody else was quicker.
            if removed.is_empty() {
                return Ok(deleted);
            }
        }
    }

    /// What became of a fact, oldest first.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Storage`].
    pub async fn history(&self, scope: &Scope, id: Uuid) -> Result<Vec<Event>, MemoryError> {
        let events = self.parts.facts.history(scope, id).await?;
        if events.is_empty() {
            return Err(unknown(id));
        }
        Ok(events)
    }

    /// Deletes a turn with the facts that it taught; false if there is none.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn delete_turn(&self, scope: &Scope, id: Uuid) -> Result<bool, MemoryError> {
        let found = self.parts.journal.delete_turn(scope, id).await?;
        if found {
            self.unindex(scope, vec![id]).await?;
            let taught = self.parts.facts.of_turns(scope, &[id]).await?.into_iter();
            let left = taught.filter(|fact| fact.status != Status::Deleted);
            let left: Vec<Uuid> = left.map(|fact| fact.id).collect();
            self.remove(scope, &left).await?;
            for follower in &self.parts.followers {
                follower.turns_deleted(scope, &[id]).await?;
            }
        }
        Ok(found)
    }

    /// Deletes what has expired, at once and then every ten minutes, until `stop`.
    pub async fn sweep(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.sweep_once().await {
                tracing::warn!("facts that have expired could not be removed: {error}");
            }
        }
    }

    /// Deletes what has expired by now.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]; what is left is found by the next sweep.
    pub async fn sweep_once(&self) -> Result<(), MemoryError> {
        loop {
            let expired = self.parts.facts.expired(BATCH).await?;
            if expired.is_empty() {
                return Ok(());
            }
            for fact in expired {
                self.remove(&fact.scope, &[fact.id]).await?;
            }
        }
    }

    /// Returns those that there were.
    async fn remove(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Uuid>, MemoryError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let removed = self.parts.facts.delete(scope, ids).await?;
        if !removed.is_empty() {
            self.unindex(scope, removed.clone()).await?;
        }
        Ok(removed)
    }

    async fn unindex(&self, scope: &Scope, parents: Vec<Uuid>) -> Result<(), MemoryError> {
        let team = scope.team().to_owned();
        self.parts.index.remove(Removal::Parents { team, parents }).await
    }
}

fn unknown(id: Uuid) -> MemoryError {
    MemoryError::NotFound(format!("there is no memory {id} of yours; GET /v1/memories lists them"))
}
