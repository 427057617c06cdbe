//! Small objects in the journal's database, written by its writer: [`SeaObjects`].

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait, Condition, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Select,
};
use uuid::Uuid;

use super::alone::Work;
use super::database::Database;
use super::transaction::Transaction;
use super::write::{BATCH, Write};
use super::writer::Writer;
use super::{SeaJournal, rows};
use crate::clock::Clock;
use crate::error::MemoryError;
use crate::journal::Alone;
use crate::objects::{Object, Objects, Order, Slice};
use crate::scope::Scope;
use crate::store::entity::object::{Column, Entity, Model};
use crate::store::{admit_object, not_listed};

/// Objects in a journal's database. After the journal was closed it takes no writes.
#[derive(Clone)]
pub struct SeaObjects {
    database: Database,
    writer: Writer,
    clock: Arc<dyn Clock>,
}

impl SeaJournal {
    /// The small objects that are kept in the same database.
    #[must_use]
    pub fn objects(&self, clock: Arc<dyn Clock>) -> SeaObjects {
        SeaObjects {
            database: self.database.clone(),
            writer: self.writer.clone(),
            clock,
        }
    }
}

impl SeaObjects {
    fn explain(&self, error: &DbErr) -> MemoryError {
        self.database.explain(error)
    }

    fn live(&self, scope: &Scope) -> Condition {
        own(scope).add(unexpired(self.clock.now_ms()))
    }

    async fn all(&self, query: Select<Entity>) -> Result<Vec<Model>, MemoryError> {
        query.all(&self.database).await.map_err(|error| self.explain(&error))
    }

    /// The place of an object in listings of its kind.
    async fn place(&self, scope: &Scope, kind: &str, id: &str) -> Result<String, MemoryError> {
        let query = Entity::find()
            .filter(self.live(scope))
            .filter(Column::Kind.eq(kind))
            .filter(Column::Id.eq(id));
        let found = self.all(query).await?.pop();
        found.map(|row| row.place).ok_or_else(|| not_listed(kind, id))
    }

    async fn delete_where(&self, live: Condition) -> Result<u64, MemoryError> {
        Ok(self.writer.write(Write::DeleteObjects(Box::new(live))).await?.rows)
    }
}

/// All of this user's rows.
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

#[async_trait]
impl Objects for SeaObjects {
    async fn put(&self, scope: &Scope, objects: Vec<Object>) -> Result<(), MemoryError> {
        if objects.is_empty() {
            return Ok(());
        }
        let rows = objects
            .into_iter()
            .map(|object| {
                admit_object(&object)?;
                Ok(Model {
                    team: scope.team().to_owned(),
                    user: scope.user().to_owned(),
                    place: Uuid::now_v7().to_string(),
                    body: rows::json(&object.body)?,
                    kind: object.kind,
                    id: object.id,
                    parent: object.parent,
                    created_at: object.created_at,
                    expires_at: object.expires_at,
                })
            })
            .collect::<Result<_, MemoryError>>()?;
        self.writer.write(Write::PutObjects(rows)).await.map(drop)
    }

    async fn get(&self, scope: &Scope, kind: &str, id: &str) -> Result<Option<Object>, MemoryError> {
        let query = Entity::find()
            .filter(self.live(scope))
            .filter(Column::Kind.eq(kind))
            .filter(Column::Id.eq(id));
        self.all(query).await?.pop().map(to_object).transpose()
    }

    async fn list(
        &self,
        scope: &Scope,
        kind: &str,
        parent: Option<&str>,
        slice: &Slice,
    ) -> Result<Vec<Object>, MemoryError> {
        let mut query = Entity::find()
            .filter(self.live(scope))
            .filter(Column::Kind.eq(kind))
            .limit(slice.limit.clamp(1, Slice::MOST));
        if let Some(parent) = parent {
            query = query.filter(Column::Parent.eq(parent));
        }
        let oldest_first = slice.order == Order::Oldest;
        if let Some(after) = &slice.after {
            let place = self.place(scope, kind, after).await?;
            query = query.filter(if oldest_first {
                Column::Place.gt(place)
            } else {
                Column::Place.lt(place)
            });
        }
        if let Some(before) = &slice.before {
            let place = self.place(scope, kind, before).await?;
            query = query.filter(if oldest_first {
                Column::Place.lt(place)
            } else {
                Column::Place.gt(place)
            });
        }
        let query = if oldest_first {
            query.order_by_asc(Column::Place)
        } else {
            query.order_by_desc(Column::Place)
        };
        self.all(query).await?.into_iter().map(to_object).collect()
    }

    async fn delete(&self, scope: &Scope, kind: &str, id: &str) -> Result<bool, MemoryError> {
        let wanted = own(scope).add(Column::Kind.eq(kind)).add(Column::Id.eq(id));
        let live = self.get(scope, kind, id).await?.is_some();
        // An expired one is removed as well, though nobody is told of it.
        Ok(self.delete_where(wanted).await? > 0 && live)
    }

    async fn delete_children(&self, scope: &Scope, kind: &str, parent: &str) -> Result<u64, MemoryError> {
        let children = self
            .live(scope)
            .add(Column::Kind.eq(kind))
            .add(Column::Parent.eq(parent));
        self.delete_where(children).await
    }

    async fn kinds(&self, scope: &Scope) -> Result<Vec<String>, MemoryError> {
        let query = Entity::find()
            .select_only()
            .column(Column::Kind)
            .distinct()
            .filter(self.live(scope))
            .order_by_asc(Column::Kind)
            .into_tuple::<String>();
        query.all(&self.database).await.map_err(|error| self.explain(&error))
    }

    async fn erase(&self, scope: &Scope) -> Result<u64, MemoryError> {
        let live = self.delete_where(self.live(scope)).await?;
        self.delete_where(own(scope)).await?;
        Ok(live)
    }

    async fn alone(&self) -> Result<Alone, MemoryError> {
        self.database.alone(Work::Objects).await
    }

    async fn expired(&self, limit: u64) -> Result<Vec<(Scope, Object)>, MemoryError> {
        let query = Entity::find()
            .filter(Column::ExpiresAt.lte(self.clock.now_ms()))
            .order_by_asc(Column::ExpiresAt)
            .limit(limit.clamp(1, Slice::MOST));
        let owned = |row: Model| {
            let scope = Scope::new(&row.team, &row.user).map_err(|error| damaged(&row, &error.to_string()))?;
            Ok((scope, to_object(row)?))
        };
        self.all(query).await?.into_iter().map(owned).collect()
    }
}

fn to_object(row: Model) -> Result<Object, MemoryError> {
    let body = serde_json::from_str(&row.body).map_err(|error| damaged(&row, &error.to_string()))?;
    Ok(Object {
        kind: row.kind,
        id: row.id,
        parent: row.parent,
        created_at: row.created_at,
        expires_at: row.expires_at,
        body,
    })
}

fn damaged(row: &Model, what: &str) -> MemoryError {
    rows::damaged(&row.kind, &row.id, what)
}

/// Writes rows; those that replace others keep the others' place in listings.
pub async fn put(db: &Transaction, rows: &[Model]) -> Result<u64, DbErr> {
    let replace = OnConflict::columns([Column::Team, Column::User, Column::Kind, Column::Id])
        .update_columns([Column::Parent, Column::CreatedAt, Column::ExpiresAt, Column::Body])
        .to_owned();
    // One statement can't write a row twice: of rows with the same id the last counts.
    let mut last = HashMap::with_capacity(rows.len());
    for (place, row) in rows.iter().enumerate() {
        last.insert((&row.team, &row.user, &row.kind, &row.id), place);
    }
    let kept = rows.iter().enumerate().filter(|(place, row)| {
        let key = (&row.team, &row.user, &row.kind, &row.id);
        last.get(&key) == Some(place)
    });
    let kept: Vec<&Model> = kept.map(|(_, row)| row).collect();
    for rows in kept.chunks(BATCH) {
        let models = rows.iter().map(|row| (*row).clone().into_active_model());
        Entity::insert_many(models)
            .on_conflict(replace.clone())
            .exec_without_returning(db)
            .await?;
    }
    Ok(rows.len() as u64)
}

/// Deletes rows; the condition names their owner.
pub async fn delete(db: &Transaction, condition: &Condition) -> Result<u64, DbErr> {
    let deleted = Entity::delete_many().filter(condition.clone()).exec(db).await?;
    Ok(deleted.rows_affected)
}
