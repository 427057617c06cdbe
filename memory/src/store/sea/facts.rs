//! Facts in the journal's database, written by its writer: [`SeaFacts`].

use std::sync::Arc;

use async_trait::async_trait;
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};
use uuid::Uuid;

use super::database::Database;
use super::write::{BATCH, Write};
use super::writer::Writer;
use super::{SeaJournal, rows, texts};
use crate::clock::Clock;
use crate::error::MemoryError;
use crate::facts::{Added, Change, Event, Fact, Facts, Filter, FromTurn, Status, Which, admit_text};
use crate::journal::Page;
use crate::scope::Scope;
use crate::store::entity::fact::{Column, Entity, Model};
use crate::store::entity::fact_event;

mod row;
pub mod write;

use write::FactWrite;

/// Facts in a journal's database. After the journal was closed it takes no writes.
#[derive(Clone)]
pub struct SeaFacts {
    database: Database,
    writer: Writer,
    clock: Arc<dyn Clock>,
}

impl SeaJournal {
    /// The facts that are kept in the same database.
    #[must_use]
    pub fn facts(&self, clock: Arc<dyn Clock>) -> SeaFacts {
        SeaFacts {
            database: self.database.clone(),
            writer: self.writer.clone(),
            clock,
        }
    }
}

/// The facts that this scope reaches: its user's, and the team's.
fn reached(scope: &Scope) -> Condition {
    let whose = Condition::any()
        .add(Column::TeamWide.eq(true))
        .add(Column::User.eq(scope.user()));
    Condition::all().add(Column::Team.eq(scope.team())).add(whose)
}

/// Those that this scope's user gave.
fn own(scope: &Scope) -> Condition {
    Condition::all()
        .add(Column::Team.eq(scope.team()))
        .add(Column::User.eq(scope.user()))
}

fn unexpired(now: i64) -> Condition {
    Condition::any()
        .add(Column::ExpiresAt.is_null())
        .add(Column::ExpiresAt.gt(now))
}

/// Those that held at this time.
fn held(at: i64) -> Condition {
    let still = Condition::any()
        .add(Column::ValidTo.is_null())
        .add(Column::ValidTo.gt(at));
    Condition::all().add(Column::ValidFrom.lte(at)).add(still)
}

fn filtered(filter: &Filter) -> Condition {
    let status = match (filter.status, filter.as_of) {
        (Some(status), _) => Condition::all().add(Column::Status.eq(row::status(status))),
        (None, Some(_)) => {
            let held = [Status::Active, Status::Superseded].map(row::status);
            Condition::all().add(Column::Status.is_in(held))
        }
        (None, None) if filter.any_status => Condition::all(),
        (None, None) => Condition::all().add(Column::Status.eq(row::status(Status::Active))),
    };
    let mut all = status.add(Column::Status.ne(row::status(Status::Deleted)));
    for (column, value) in [
        (Column::Conversation, &filter.conversation),
        (Column::App, &filter.app),
        (Column::Agent, &filter.agent),
    ] {
        all = all.add_option(value.as_ref().map(|value| column.eq(value.as_str())));
    }
    all.add_option(filter.team_wide.map(|wide| Column::TeamWide.eq(wide)))
        .add_option(filter.kind.map(|kind| Column::Kind.eq(row::kind(kind))))
        .add_option(filter.pinned.map(|pinned| Column::Pinned.eq(pinned)))
        .add_option(filter.as_of.map(held))
}

impl SeaFacts {
    fn explain(&self, error: &DbErr) -> MemoryError {
        self.database.explain(error)
    }

    async fn all(&self, query: Select<Entity>) -> Result<Vec<Fact>, MemoryError> {
        let rows = query.all(&self.database).await.map_err(|error| self.explain(&error))?;
        rows.into_iter().map(row::to_fact).collect()
    }

    fn live(&self, scope: &Scope, filter: &Filter) -> Select<Entity> {
        Entity::find()
            .filter(reached(scope))
            .filter(unexpired(self.clock.now_ms()))
            .filter(filtered(filter))
    }

    async fn write(&self, write: FactWrite) -> Result<write::Done, MemoryError> {
        Ok(self.writer.write(Write::Facts(Box::new(write))).await?.facts)
    }
}

#[async_trait]
impl Facts for SeaFacts {
    async fn add(&self, scope: &Scope, facts: Vec<Fact>) -> Result<Vec<Added>, MemoryError> {
        if facts.is_empty() {
            return Ok(Vec::new());
        }
        for fact in &facts {
            admit_text(&fact.text)?;
            if fact.scope.team() != scope.team() || fact.scope.user() != scope.user() {
                return Err(MemoryError::BadRequest("a memory belongs to who gives it".to_owned()));
            }
        }
        let rows = facts.iter().map(row::from_fact).collect::<Result<_, _>>()?;
        Ok(self.write(FactWrite::Add(rows, self.clock.now_ms())).await?.added)
    }

    async fn get(&self, scope: &Scope, id: Uuid) -> Result<Option<Fact>, MemoryError> {
        let query = self.live(scope, &Filter::all()).filter(Column::Id.eq(id.to_string()));
        Ok(self.all(query).await?.pop())
    }

    async fn list(&self, scope: &Scope, filter: &Filter, page: Page) -> Result<Vec<Fact>, MemoryError> {
        let mut query = self
            .live(scope, filter)
            .order_by_desc(Column::Id)
            .limit(page.limit.clamp(1, Page::MOST));
        if let Some(before) = page.before {
            query = query.filter(Column::Id.lt(before.to_string()));
        }
        self.all(query).await
    }

    async fn by_id(&self, scope: &Scope, filter: &Filter, ids: &[Uuid]) -> Result<Vec<Fact>, MemoryError> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH) {
            let query = self.live(scope, filter).filter(Column::Id.is_in(texts(ids)));
            found.extend(self.all(query).await?);
        }
        Ok(found)
    }

    async fn applying(&self, scope: &Scope, which: Which<'_>) -> Result<Vec<Fact>, MemoryError> {
        let now = self.clock.now_ms();
        let here = |column: Column, asked: Option<&str>| {
            Condition::any()
                .add(column.is_null())
                .add_option(asked.map(|asked| column.eq(asked)))
        };
        let mut query = self
            .live(scope, &Filter::default())
            .filter(held(now))
            .filter(here(Column::Conversation, scope.conversation()))
            .filter(here(Column::App, scope.app()));
        query = match which {
            Which::Pinned(limit) => query
                .filter(Column::Pinned.eq(true))
                .order_by_desc(Column::Id)
                .limit(limit),
            Which::Ids(ids) => query.filter(Column::Id.is_in(texts(ids))),
        };
        self.all(query).await
    }

    async fn change(&self, scope: &Scope, id: Uuid, change: Change) -> Result<Option<Fact>, MemoryError> {
        if let Some(text) = &change.text {
            admit_text(text)?;
        }
        if matches!(change.status, Some(Status::Superseded | Status::Deleted)) {
            let message = "the status may be set to `active` or `quarantined`; DELETE deletes a memory".to_owned();
            return Err(MemoryError::BadRequest(message));
        }
        let write = FactWrite::Change(scope.clone(), id, Box::new(change), self.clock.now_ms());
        Ok(self.write(write).await?.added.pop().map(|added| added.fact))
    }

    async fn supersede(&self, scope: &Scope, old: Uuid, by: Uuid, at: i64) -> Result<bool, MemoryError> {
        let write = FactWrite::Supersede(scope.clone(), [old, by], at, self.clock.now_ms());
        Ok(self.write(write).await?.rows > 0)
    }

    async fn owners(&self) -> Result<Vec<Scope>, MemoryError> {
        let names = Entity::find()
            .select_only()
            .columns([Column::Team, Column::User])
            .distinct()
            .into_tuple::<(String, String)>();
        let names = names.all(&self.database).await.map_err(|error| self.explain(&error))?;
        let scope = |(team, user)| Scope::new(team, user).map_err(|error| MemoryError::Storage(error.to_string()));
        names.into_iter().map(scope).collect()
    }

    async fn delete(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Uuid>, MemoryError> {
        let write = FactWrite::Delete(scope.clone(), texts(ids), self.clock.now_ms());
        Ok(self.write(write).await?.deleted)
    }

    async fn history(&self, scope: &Scope, id: Uuid) -> Result<Vec<Event>, MemoryError> {
        let explain = |error| self.explain(&error);
        let fact = Entity::find()
            .filter(reached(scope))
            .filter(Column::Id.eq(id.to_string()));
        if fact.one(&self.database).await.map_err(explain)?.is_none() {
            return Ok(Vec::new());
        }
        let events = fact_event::Entity::find()
            .filter(fact_event::Column::Fact.eq(id.to_string()))
            .filter(fact_event::Column::Team.eq(scope.team()))
            .order_by_asc(fact_event::Column::Id);
        let events = events.all(&self.database).await.map_err(explain)?;
        events.into_iter().map(row::to_event).collect()
    }

    async fn of_turns(&self, scope: &Scope, turns: &[Uuid]) -> Result<Vec<FromTurn>, MemoryError> {
        let mut found = Vec::new();
        for turns in turns.chunks(BATCH) {
            let query = Entity::find()
                .filter(own(scope))
                .filter(Column::Turn.is_in(texts(turns)));
            let rows: Vec<Model> = query.all(&self.database).await.map_err(|error| self.explain(&error))?;
            for row in rows {
                let Some(turn) = row.turn.as_deref() else { continue };
                found.push(FromTurn {
                    id: rows::id(&row.id)?,
                    turn: rows::id(turn)?,
                    status: row::parse_status(&row)?,
                    superseded_by: row.superseded_by.as_deref().map(rows::id).transpose()?,
                    words_sha256: row.words_sha256,
                });
            }
        }
        Ok(found)
    }

    async fn erase(&self, scope: &Scope, team_wide: bool) -> Result<u64, MemoryError> {
        Ok(self.write(FactWrite::Erase(scope.clone(), team_wide)).await?.rows)
    }

    async fn pending(&self, limit: u64) -> Result<Vec<Fact>, MemoryError> {
        let query = Entity::find()
            .filter(Column::Pending.eq(true))
            .order_by_asc(Column::Id)
            .limit(limit);
        self.all(query).await
    }

    async fn mark_indexed(&self, facts: &[(Uuid, i64)]) -> Result<(), MemoryError> {
        let facts = facts.iter().map(|(id, updated)| (id.to_string(), *updated)).collect();
        self.write(FactWrite::MarkIndexed(facts)).await.map(drop)
    }

    async fn mark_all_pending(&self) -> Result<u64, MemoryError> {
        Ok(self.write(FactWrite::MarkAllPending).await?.rows)
    }

    async fn expired(&self, limit: u64) -> Result<Vec<Fact>, MemoryError> {
        let query = Entity::find()
            .filter(Column::ExpiresAt.lte(self.clock.now_ms()))
            .filter(Column::Status.ne(row::status(Status::Deleted)))
            .order_by_asc(Column::ExpiresAt)
            .limit(limit);
        self.all(query).await
    }
}
