//! The writes of the journal: what each does to the tables, inside the transaction of its group.

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ColumnTrait, Condition, DbErr, EntityTrait, IntoActiveModel, Iterable, QueryFilter, QuerySelect, UpdateMany,
};
use uuid::Uuid;

use super::database::Database;
use super::facts::write::{self as facts, FactWrite};
use super::guest::GuestWrite;
use super::transaction::Transaction;
use super::{objects, rows, runs, visible};
use crate::error::MemoryError;
use crate::scope::Scope;
use crate::store::entity::{chunk, document, object, turn};
use crate::store::taken;

/// Rows or ids in one statement: SQLite takes at most 32,766 values, and a chunk has eight.
pub const BATCH: usize = 1000;

/// A write. It may be applied twice: the first time in a group that is undone.
pub enum Write {
    /// Writes a turn, in place of one with the same id.
    Record(Box<turn::Model>),
    /// Deletes a turn of this user.
    DeleteTurn(Scope, Uuid),
    /// Writes a document in place of those with the same owner, place and name.
    AddDocument(Box<document::Model>, Vec<chunk::Model>),
    /// Deletes a document that this scope sees.
    DeleteDocument(Scope, Uuid),
    /// Notes that these turns and chunks are in the index.
    MarkIndexed(Vec<String>),
    /// Makes everything pending that belongs in the index.
    MarkAllPending,
    /// Says of these turns of a user whether they may be recalled.
    SetRemember(Scope, Vec<String>, bool),
    /// Makes these turns of a user pending.
    MarkPending(Scope, Vec<String>),
    /// Writes small objects, in place of those with the same ids.
    PutObjects(Vec<object::Model>),
    /// Deletes the small objects that fit; the condition names their owner.
    DeleteObjects(Box<Condition>),
    /// Writes facts.
    Facts(Box<FactWrite>),
    /// Writes tables that are no part of memory.
    Guest(Box<dyn GuestWrite>),
    /// Deletes a user's turns and the documents that they gave, the team's only if it says so.
    Erase(Scope, bool),
    /// Overwrites what was deleted: no transaction of a group, see [`super::writer`].
    Purge,
}

impl Write {
    /// Whether it goes by what it reads, so that no other may come in between. Turns, which everyone waits for, do not.
    pub fn reads_first(&self) -> bool {
        !matches!(self, Self::Record(_))
    }
}

/// What a write did.
#[derive(Default)]
pub struct Written {
    /// Rows that were written or deleted, and that the caller counts.
    pub rows: u64,
    /// The documents that a new one replaced.
    pub replaced: Vec<Uuid>,
    /// What became of facts.
    pub facts: facts::Done,
}

/// Does this write.
pub async fn apply(database: &Database, db: &Transaction, write: &Write) -> Result<Written, MemoryError> {
    let explain = |error: DbErr| database.explain(&error);
    match write {
        Write::Record(row) => match record(db, row).await.map_err(explain)? {
            0 => Err(taken()),
            rows => Ok(Written {
                rows,
                ..Written::default()
            }),
        },
        Write::AddDocument(row, chunks) => {
            let old = add_document(db, row, chunks).await.map_err(explain)?;
            let replaced = old.iter().map(|id| rows::id(id)).collect::<Result<_, _>>()?;
            Ok(Written {
                rows: 1,
                replaced,
                ..Written::default()
            })
        }
        Write::DeleteTurn(scope, id) => {
            let turn = turn::Entity::delete_many()
                .filter(turn::Column::Id.eq(id.to_string()))
                .filter(turn::Column::Team.eq(scope.team()))
                .filter(turn::Column::User.eq(scope.user()));
            let deleted = turn.exec(db).await.map_err(explain)?;
            Ok(Written {
                rows: deleted.rows_affected,
                ..Written::default()
            })
        }
        Write::DeleteDocument(scope, id) => {
            let wanted = document::Column::Id.eq(id.to_string());
            let visible = visible(scope);
            // The chunks go with it: a foreign key that cascades.
            let document = document::Entity::delete_many().filter(wanted).filter(visible);
            let deleted = document.exec(db).await.map_err(explain)?;
            Ok(Written {
                rows: deleted.rows_affected,
                ..Written::default()
            })
        }
        Write::MarkIndexed(ids) => {
            let rows = mark_indexed(db, ids).await.map_err(explain)?;
            Ok(Written {
                rows,
                ..Written::default()
            })
        }
        Write::MarkAllPending => {
            let rows = mark_all_pending(db).await.map_err(explain)?;
            Ok(Written {
                rows,
                ..Written::default()
            })
        }
        Write::SetRemember(scope, ids, remember) => {
            let change = |turns: UpdateMany<turn::Entity>| {
                turns
                    .col_expr(turn::Column::Remember, Expr::value(*remember))
                    .col_expr(
                        turn::Column::Pending,
                        Expr::col(turn::Column::Outcome).ne(turn::FAILED).and(*remember),
                    )
                    .filter(turn::Column::Remember.ne(*remember))
            };
            let rows = update_own(db, scope, ids, change).await.map_err(explain)?;
            Ok(Written {
                rows,
                ..Written::default()
            })
        }
        Write::MarkPending(scope, ids) => {
            let change = |turns: UpdateMany<turn::Entity>| {
                turns
                    .col_expr(turn::Column::Pending, Expr::value(true))
                    .filter(turn::Column::Remember.eq(true))
                    .filter(turn::Column::Outcome.ne(turn::FAILED))
            };
            let rows = update_own(db, scope, ids, change).await.map_err(explain)?;
            Ok(Written {
                rows,
                ..Written::default()
            })
        }
        Write::PutObjects(models) => {
            let rows = objects::put(db, models).await.map_err(explain)?;
            Ok(Written {
                rows,
                ..Written::default()
            })
        }
        Write::Facts(write) => Ok(Written {
            facts: facts::apply(database, db, write).await?,
            ..Written::default()
        }),
        Write::Guest(write) => Ok(Written {
            rows: write.apply(db).await.map_err(explain)??,
            ..Written::default()
        }),
        Write::Erase(scope, team_wide) => {
            let (rows, documents) = erase(db, scope, *team_wide).await.map_err(explain)?;
            let replaced = documents.iter().map(|id| rows::id(id)).collect::<Result<_, _>>()?;
            Ok(Written {
                rows,
                replaced,
                ..Written::default()
            })
        }
        Write::Purge => Ok(Written::default()),
        Write::DeleteObjects(condition) => {
            let rows = objects::delete(db, condition).await.map_err(explain)?;
            Ok(Written {
                rows,
                ..Written::default()
            })
        }
    }
}

/// 0 if the id is another user's.
async fn record(db: &Transaction, row: &turn::Model) -> Result<u64, DbErr> {
    let own = Condition::all()
        .add(Expr::col((turn::Entity, turn::Column::Team)).eq(row.team.clone()))
        .add(Expr::col((turn::Entity, turn::Column::User)).eq(row.user.clone()));
    let replace = OnConflict::column(turn::Column::Id)
        .update_columns(turn::Column::iter().filter(|column| !matches!(column, turn::Column::Id)))
        .action_cond_where(own)
        .to_owned();
    turn::Entity::insert(row.clone().into_active_model())
        .on_conflict(replace)
        .exec_without_returning(db)
        .await
}

async fn add_document(db: &Transaction, row: &document::Model, chunks: &[chunk::Model]) -> Result<Vec<String>, DbErr> {
    let mut same = Condition::all()
        .add(document::Column::Team.eq(row.team.clone()))
        .add(document::Column::Place.eq(row.place.clone()))
        .add(document::Column::Name.eq(row.name.clone()));
    if row.place != document::TEAM {
        same = same.add(document::Column::User.eq(row.user.clone()));
    }
    if let Some(conversation) = &row.conversation {
        same = same.add(document::Column::Conversation.eq(conversation.clone()));
    }
    let old: Vec<String> = if row.place == document::STORE {
        Vec::new()
    } else {
        let same = document::Entity::find()
            .select_only()
            .column(document::Column::Id)
            .filter(same);
        same.into_tuple().all(db).await?
    };
    for ids in old.chunks(BATCH) {
        document::Entity::delete_many()
            .filter(document::Column::Id.is_in(ids))
            .exec(db)
            .await?;
    }
    document::Entity::insert(row.clone().into_active_model())
        .exec_without_returning(db)
        .await?;
    for batch in chunks.chunks(BATCH) {
        let models = batch.iter().cloned().map(IntoActiveModel::into_active_model);
        chunk::Entity::insert_many::<chunk::ActiveModel, _>(models)
            .exec_without_returning(db)
            .await?;
    }
    Ok(old)
}

/// How many turns were deleted, and which documents.
async fn erase(db: &Transaction, scope: &Scope, team_wide: bool) -> Result<(u64, Vec<String>), DbErr> {
    let turns = turn::Entity::delete_many()
        .filter(turn::Column::Team.eq(scope.team()))
        .filter(turn::Column::User.eq(scope.user()))
        .exec(db)
        .await?;
    let mut given = Condition::all()
        .add(document::Column::Team.eq(scope.team()))
        .add(document::Column::User.eq(scope.user()));
    if !team_wide {
        given = given.add(document::Column::Place.ne(document::TEAM));
    }
    let ids: Vec<String> = document::Entity::find()
        .select_only()
        .column(document::Column::Id)
        .filter(given.clone())
        .into_tuple()
        .all(db)
        .await?;
    document::Entity::delete_many().filter(given).exec(db).await?;
    runs::erase(db, scope).await?;
    Ok((turns.rows_affected, ids))
}

async fn mark_indexed(db: &Transaction, ids: &[String]) -> Result<u64, DbErr> {
    let mut rows = 0;
    for ids in ids.chunks(BATCH) {
        let turns = turn::Entity::update_many()
            .col_expr(turn::Column::Pending, Expr::value(false))
            .filter(turn::Column::Id.is_in(ids))
            .exec(db)
            .await?;
        let chunks = chunk::Entity::update_many()
            .col_expr(chunk::Column::Pending, Expr::value(false))
            .filter(chunk::Column::Id.is_in(ids))
            .exec(db)
            .await?;
        rows += turns.rows_affected + chunks.rows_affected;
    }
    Ok(rows)
}

/// Changes these turns of this user; returns how many.
async fn update_own(
    db: &Transaction,
    scope: &Scope,
    ids: &[String],
    change: impl Fn(UpdateMany<turn::Entity>) -> UpdateMany<turn::Entity>,
) -> Result<u64, DbErr> {
    let mut rows = 0;
    for ids in ids.chunks(BATCH) {
        let own = turn::Entity::update_many()
            .filter(turn::Column::Team.eq(scope.team()))
            .filter(turn::Column::User.eq(scope.user()))
            .filter(turn::Column::Id.is_in(ids));
        rows += change(own).exec(db).await?.rows_affected;
    }
    Ok(rows)
}

async fn mark_all_pending(db: &Transaction) -> Result<u64, DbErr> {
    let turns = turn::Entity::update_many()
        .col_expr(turn::Column::Pending, Expr::value(true))
        .filter(turn::Column::Remember.eq(true))
        .filter(turn::Column::Outcome.ne(turn::FAILED))
        .exec(db)
        .await?;
    let chunks = chunk::Entity::update_many()
        .col_expr(chunk::Column::Pending, Expr::value(true))
        .exec(db)
        .await?;
    Ok(turns.rows_affected + chunks.rows_affected)
}
