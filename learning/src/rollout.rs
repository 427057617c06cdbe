//! Which model serves a team: from a candidate that passed the gate over a canary, which answers a share of the requests
//! while it is watched, to a promoted one; and back, by a command or by itself. [`Rollouts`] keeps it in the database.
//!
//! What may follow what is in [`state`] (pure), whether a canary does worse in [`watch`], which way of answering a turn
//! gets in [`choice`]. Loading and asking the models is the gateway's business, and so is the base model, which is always
//! there: wherever something is missing here, the base answers.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use habit_memory::clock::Clock;
use habit_memory::store::sea::Database;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::tune::Knobs;

pub mod choice;
mod row;
pub mod state;
pub mod watch;

pub use choice::{Arm, Counts, Policy};
pub use state::{Canary, Entry, Event, Outcome, State, Status, TeamModel};

/// How often a change is tried again when somebody else changed the same team in between.
const TRIES: usize = 20;

/// Why a rollout did not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RolloutError {
    /// There is no such model of this team.
    #[error("the team has no model {0}; `habit learn status` lists those that there are")]
    Unknown(Uuid),
    /// It can't follow from how things are; the message says what can.
    #[error("{0}")]
    Impossible(String),
    /// The database said no.
    #[error("the state of the team's models can't be read or written: {0}")]
    Storage(String),
}

/// What the database's error means.
fn trouble(database: &Database) -> impl Fn(DbErr) -> RolloutError {
    move |error| RolloutError::Storage(database.explain(&error).to_string())
}

/// Which models serve which team; cheap to clone.
///
/// Laws: a change is durable when it returns, and whole or not there; changes of one team follow one another, whoever
/// makes them; a team's state is read and changed by that team's name alone.
#[derive(Clone)]
pub struct Rollouts {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    clock: Arc<dyn Clock>,
    /// As it was last read or written here; requests look here only.
    known: RwLock<HashMap<String, (i64, Arc<State>)>>,
}

impl Rollouts {
    /// Over a database whose migrations have run. Nothing is known until [`Rollouts::refresh`].
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner: Arc::new(Inner {
                database,
                clock,
                known: RwLock::default(),
            }),
        }
    }

    /// Reads all teams' states: at the start, and now and then where several gateways share a database.
    ///
    /// # Errors
    /// [`RolloutError::Storage`]; what was known stays.
    pub async fn refresh(&self) -> Result<(), RolloutError> {
        let database = &self.inner.database;
        let rows = row::Entity::find().all(database).await.map_err(trouble(database))?;
        for row in rows {
            let (team, version, state) = read(row)?;
            self.keep(&team, version, Arc::new(state));
        }
        Ok(())
    }

    /// The state of a team as it is known here; never waits.
    #[must_use]
    pub fn state(&self, team: &str) -> Arc<State> {
        let known = self.inner.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(team).map(|(_, state)| Arc::clone(state)).unwrap_or_default()
    }

    /// Teams that have models or had some.
    #[must_use]
    pub fn teams(&self) -> Vec<String> {
        let known = self.inner.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut teams: Vec<String> = known.keys().cloned().collect();
        teams.sort();
        teams
    }

    /// Notes a model that passed the gate. It serves nobody yet.
    ///
    /// # Errors
    /// [`RolloutError::Storage`].
    pub async fn offer(&self, team: &str, model: &TeamModel) -> Result<Entry, RolloutError> {
        self.change(team, |state, now| Ok(state.offer(model.clone(), now)))
            .await
    }

    /// Notes a model that did not pass the gate, and why.
    ///
    /// # Errors
    /// [`RolloutError::Storage`].
    pub async fn reject(&self, team: &str, model: &TeamModel, why: &[String]) -> Result<Entry, RolloutError> {
        self.change(team, |state, now| Ok(state.reject(model.clone(), why, now)))
            .await
    }

    /// Notes that a run ended without a model, and why.
    ///
    /// # Errors
    /// [`RolloutError::Storage`].
    pub async fn untrained(&self, team: &str, none: &TeamModel, why: &[String]) -> Result<Entry, RolloutError> {
        self.change(team, |state, now| Ok(state.untrained(none.clone(), why, now)))
            .await
    }

    /// Notes a model that passed the gate and begins its trial, in one change: after a crash it is either on trial or not
    /// known yet. A share of 1 promotes it.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn begin(&self, team: &str, model: &TeamModel, share: f64) -> Result<Entry, RolloutError> {
        self.change(team, |state, now| {
            state.offer(model.clone(), now);
            state.begin_canary(model.id, share, now)
        })
        .await
    }

    /// Lets a candidate answer a share (over 0, up to 1) of the team's requests, watched; a share of 1 promotes it.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn canary(&self, team: &str, model: Uuid, share: f64) -> Result<Entry, RolloutError> {
        self.change(team, |state, now| state.begin_canary(model, share, now))
            .await
    }

    /// Lets a model answer all of the team's requests.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn promote(&self, team: &str, model: Uuid, why: &str) -> Result<Entry, RolloutError> {
        self.change(team, |state, now| state.promote(model, why, now)).await
    }

    /// Takes back the last step: a canary stops, or what served before the promoted model serves again.
    ///
    /// # Errors
    /// [`RolloutError::Impossible`] if the base serves already.
    pub async fn rollback(&self, team: &str, why: &str) -> Result<Entry, RolloutError> {
        self.change(team, |state, now| state.rollback(why, now)).await
    }

    /// Withdraws a model for good, wherever it serves: what it was trained on is to be forgotten. The base serves then.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn withdraw(&self, team: &str, model: Uuid, why: &str) -> Result<Entry, RolloutError> {
        self.change(team, |state, now| state.withdraw(model, why, now)).await
    }

    /// Lets other settings of memory serve a team; `None` is what is configured. Setting what is set changes nothing.
    ///
    /// # Errors
    /// [`RolloutError::Storage`].
    pub async fn tune(&self, team: &str, knobs: Option<Knobs>, why: &str) -> Result<Option<Entry>, RolloutError> {
        self.change(team, |state, now| {
            Ok((state.knobs != knobs).then(|| state.tune(knobs, why, now)))
        })
        .await
    }

    /// Notes how a turn fared that was answered in a certain way. A canary that does worse beyond doubt is rolled back;
    /// the entry that says so is given.
    ///
    /// # Errors
    /// [`RolloutError::Storage`].
    pub async fn observe(&self, team: &str, outcome: &Outcome) -> Result<Option<Entry>, RolloutError> {
        self.change(team, |state, now| Ok(state.observe(outcome.clone(), now)))
            .await
    }

    /// Notes how a turn fared for which it was left to chance how many past answers it was shown.
    ///
    /// # Errors
    /// [`RolloutError::Storage`].
    pub async fn observe_shots(&self, team: &str, count: usize, reward: f64) -> Result<(), RolloutError> {
        self.change(team, |state, _| {
            state.shots.learn(count, reward.clamp(0.0, 1.0));
            Ok(())
        })
        .await
    }

    /// Promotes the team's canary if it has been watched since before `since` (Unix milliseconds) and nothing spoke
    /// against it.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn graduate(&self, team: &str, since: i64) -> Result<Option<Entry>, RolloutError> {
        let due = |state: &State| state.canary.as_ref().is_some_and(|canary| canary.since <= since);
        if !due(&self.state(team)) {
            return Ok(None);
        }
        self.change(team, |state, now| {
            // Another gateway may have been quicker.
            let Some(canary) = state.canary.clone().filter(|canary| canary.since <= since) else {
                return Ok(None);
            };
            let why = format!("nothing spoke against it in its time as a canary: {}", canary.summary());
            state.promote(canary.model, &why, now).map(Some)
        })
        .await
    }

    /// Makes a change, over whatever the database holds now.
    async fn change<T>(
        &self,
        team: &str,
        mut change: impl FnMut(&mut State, i64) -> Result<T, RolloutError>,
    ) -> Result<T, RolloutError> {
        let database = &self.inner.database;
        for _ in 0..TRIES {
            let found = row::Entity::find_by_id(team).one(database).await;
            let found = found.map_err(trouble(database))?;
            let (version, mut state) = match found {
                Some(row) => {
                    let (_, version, state) = read(row)?;
                    (version, state)
                }
                None => (0, State::default()),
            };
            let now = self.inner.clock.now_ms();
            let made = change(&mut state, now)?;
            if self.write(team, version, &state, now).await? {
                self.keep(team, version + 1, Arc::new(state));
                return Ok(made);
            }
        }
        Err(RolloutError::Storage(
            "others change the same team's models all the time; try again".to_owned(),
        ))
    }

    /// False if the version in the database is another by now.
    async fn write(&self, team: &str, version: i64, state: &State, now: i64) -> Result<bool, RolloutError> {
        let text = serde_json::to_string(state).map_err(|error| RolloutError::Storage(error.to_string()))?;
        let database = &self.inner.database;
        if version == 0 {
            let row = row::Model {
                team: team.to_owned(),
                version: 1,
                state: text,
                updated_at: now,
            };
            let nothing = OnConflict::column(row::Column::Team).do_nothing().to_owned();
            let insert = row::Entity::insert(row::ActiveModel::from(row)).on_conflict(nothing);
            let inserted = insert.exec_without_returning(database).await;
            return Ok(inserted.map_err(trouble(database))? > 0);
        }
        let updated = row::Entity::update_many()
            .col_expr(row::Column::Version, Expr::value(version + 1))
            .col_expr(row::Column::State, Expr::value(text))
            .col_expr(row::Column::UpdatedAt, Expr::value(now))
            .filter(row::Column::Team.eq(team))
            .filter(row::Column::Version.eq(version))
            .exec(database)
            .await
            .map_err(trouble(database))?;
        Ok(updated.rows_affected > 0)
    }

    fn keep(&self, team: &str, version: i64, state: Arc<State>) {
        let mut known = self.inner.known.write().unwrap_or_else(PoisonError::into_inner);
        let newer = known.get(team).is_none_or(|(held, _)| *held < version);
        if newer {
            known.insert(team.to_owned(), (version, state));
        }
    }
}

fn read(row: row::Model) -> Result<(String, i64, State), RolloutError> {
    let state = serde_json::from_str(&row.state)
        .map_err(|error| RolloutError::Storage(format!("the state of `{}` is damaged: {error}", row.team)))?;
    Ok((row.team, row.version, state))
}

#[cfg(test)]
mod tests;
