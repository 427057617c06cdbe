//! The writes of facts: what each does to the tables, inside the transaction of its group.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect,
};
use uuid::Uuid;

use super::{own, reached, row};
use crate::error::MemoryError;
use crate::facts::{Added, Change, Fact, Happened, Settled, Status, settle, words_sha256};
use crate::scope::Scope;
use crate::store::entity::fact::{Column, Entity, Model};
use crate::store::entity::fact_event;
use crate::store::sea::database::Database;
use crate::store::sea::rows;
use crate::store::sea::transaction::Transaction;
use crate::store::sea::write::BATCH;

/// A write. It may be applied twice: the first time in a group that is undone.
pub enum FactWrite {
    /// Adds these, each settled against what is there, at this time.
    Add(Vec<Model>, i64),
    /// Changes one.
    Change(Scope, Uuid, Box<Change>, i64),
    /// Ends the first of the two at a time, the second taking its place.
    Supersede(Scope, [Uuid; 2], i64, i64),
    /// Deletes these.
    Delete(Scope, Vec<String>, i64),
    /// Removes all of a user's, of the team's only if it says so.
    Erase(Scope, bool),
    /// Notes that these are in the index as they were at that time.
    MarkIndexed(Vec<(String, i64)>),
    /// Makes everything pending that belongs in the index.
    MarkAllPending,
}

/// What a write did.
#[derive(Default)]
pub struct Done {
    /// Facts that were added, known or changed.
    pub added: Vec<Added>,
    /// Facts that were deleted.
    pub deleted: Vec<Uuid>,
    /// Rows, where the caller counts them.
    pub rows: u64,
}

/// Does this write.
pub async fn apply(database: &Database, db: &Transaction, write: &FactWrite) -> Result<Done, MemoryError> {
    let explain = |error: DbErr| database.explain(&error);
    let mut done = Done::default();
    match write {
        FactWrite::Add(rows, now) => done.added = add(db, rows, *now).await.map_err(explain)??,
        FactWrite::Change(scope, id, change, now) => {
            done.added = self::change(db, scope, *id, change, *now).await.map_err(explain)??;
        }
        FactWrite::Supersede(scope, [old, by], at, now) => {
            done.rows = end(db, scope, [*old, *by], *at, *now).await.map_err(explain)??;
        }
        FactWrite::Delete(scope, ids, now) => {
            let deleted = delete(db, scope, ids, *now).await.map_err(explain)?;
            done.deleted = deleted.iter().map(|id| rows::id(id)).collect::<Result<_, _>>()?;
        }
        FactWrite::Erase(scope, team_wide) => done.rows = erase(db, scope, *team_wide).await.map_err(explain)?,
        FactWrite::MarkIndexed(facts) => mark_indexed(db, facts).await.map_err(explain)?,
        FactWrite::MarkAllPending => done.rows = mark_all_pending(db).await.map_err(explain)?,
    }
    Ok(done)
}

/// What the database says, and within it what the rows mean.
type Outcome<T> = Result<Result<T, MemoryError>, DbErr>;

async fn add(db: &Transaction, new: &[Model], now: i64) -> Outcome<Vec<Added>> {
    let taught = taught_before(db, new).await?;
    let mut added = Vec::with_capacity(new.len());
    for row in new {
        let taught = row.turn.as_ref().is_some_and(|turn| taught.contains(turn));
        if taught || forgotten_since(db, row).await? {
            continue;
        }
        match add_one(db, row.clone(), now).await? {
            Ok(one) => added.push(one),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(added))
}

/// The turns of these rows that facts came of before.
async fn taught_before(db: &Transaction, new: &[Model]) -> Result<Vec<String>, DbErr> {
    let Some(first) = new.first() else {
        return Ok(Vec::new());
    };
    let turns: Vec<&str> = new.iter().filter_map(|row| row.turn.as_deref()).collect();
    if turns.is_empty() {
        return Ok(Vec::new());
    }
    Entity::find()
        .select_only()
        .column(Column::Turn)
        .filter(Column::Team.eq(first.team.as_str()))
        .filter(Column::User.eq(first.user.as_str()))
        .filter(Column::Turn.is_in(turns))
        .into_tuple()
        .all(db)
        .await
}

/// Whether the same was deleted after it was said: another turn that says it, read anew, must not bring it back.
async fn forgotten_since(db: &Transaction, row: &Model) -> Result<bool, DbErr> {
    if row.turn.is_none() {
        return Ok(false);
    }
    let mark = Entity::find()
        .filter(Column::Team.eq(row.team.as_str()))
        .filter(Column::User.eq(row.user.as_str()))
        .filter(Column::Status.eq(row::status(Status::Deleted)))
        .filter(Column::WordsSha256.eq(row.words_sha256.as_str()))
        .filter(Column::UpdatedAt.gt(row.valid_from));
    Ok(mark.one(db).await?.is_some())
}

async fn add_one(db: &Transaction, mut row: Model, now: i64) -> Outcome<Added> {
    let there = match facts(beside(db, &row).await?) {
        Ok(there) => there,
        Err(error) => return Ok(Err(error)),
    };
    let new = match row::to_fact(row.clone()) {
        Ok(new) => new,
        Err(error) => return Ok(Err(error)),
    };
    let (ends, until) = match settle(&there, &new) {
        Settled::Known(id) => {
            let known = there.into_iter().find(|fact| fact.id == id).unwrap_or(new);
            return Ok(Ok(Added {
                fact: known,
                new: false,
                superseded: Vec::new(),
            }));
        }
        Settled::Added { ends, until } => (ends, until),
    };
    for old in there.iter().filter(|fact| ends.contains(&fact.id)) {
        supersede(db, old, (row.valid_from, &row.id, &row.text), now).await?;
    }
    if let Some((end, by)) = until {
        row.status = row::status(Status::Superseded).to_owned();
        row.valid_to = Some(end);
        row.superseded_by = Some(by.to_string());
    }
    Entity::insert(row.clone().into_active_model())
        .exec_without_returning(db)
        .await?;
    record(db, &row, Happened::Add, (None, Some(row.text.clone())), now).await?;
    Ok(row::to_fact(row).map(|fact| Added {
        fact,
        new: true,
        superseded: ends,
    }))
}

/// What a new row is settled against: facts of the same owner that count in the same place, and are of the same attribute
/// or in the same words.
async fn beside(db: &Transaction, row: &Model) -> Result<Vec<Model>, DbErr> {
    let same = |column: Column, value: &Option<String>| match value {
        Some(value) => column.eq(value.as_str()),
        None => column.is_null(),
    };
    let alike = Condition::any()
        .add(Column::WordsSha256.eq(row.words_sha256.as_str()))
        .add_option(
            row.attribute
                .as_ref()
                .map(|attribute| Column::Attribute.eq(attribute.as_str())),
        );
    let whose = if row.team_wide {
        Condition::all().add(Column::TeamWide.eq(true))
    } else {
        Condition::all()
            .add(Column::User.eq(row.user.as_str()))
            .add(Column::TeamWide.eq(false))
    };
    Entity::find()
        .filter(Column::Team.eq(row.team.as_str()))
        .filter(whose)
        .filter(same(Column::Conversation, &row.conversation))
        .filter(same(Column::App, &row.app))
        .filter(same(Column::Agent, &row.agent))
        .filter(Column::Status.ne(row::status(Status::Deleted)))
        .filter(alike)
        .all(db)
        .await
}

/// Ends a fact where the one that takes its place begins (time, id, text).
async fn supersede(db: &Transaction, old: &Fact, by: (i64, &str, &str), now: i64) -> Result<(), DbErr> {
    let (from, id, text) = by;
    Entity::update_many()
        .col_expr(Column::Status, Expr::value(row::status(Status::Superseded)))
        .col_expr(Column::ValidTo, Expr::value(from))
        .col_expr(Column::SupersededBy, Expr::value(id))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::Id.eq(old.id.to_string()))
        .exec(db)
        .await?;
    let owner = (old.id.to_string(), old.scope.team(), old.scope.user());
    let texts = (Some(old.text.clone()), Some(text.to_owned()));
    record_of(db, owner, Happened::Supersede, texts, now).await
}

/// 1 if there was something to end.
async fn end(db: &Transaction, scope: &Scope, ids: [Uuid; 2], at: i64, now: i64) -> Outcome<u64> {
    let found = Entity::find()
        .filter(reached(scope))
        .filter(Column::Id.is_in(ids.map(|id| id.to_string())))
        .filter(Column::Status.eq(row::status(Status::Active)));
    let found = match facts(found.all(db).await?) {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    let [old, by] = ids.map(|id| found.iter().find(|fact| fact.id == id));
    let (Some(old), Some(by)) = (old, by) else {
        return Ok(Ok(0));
    };
    let at = at.max(old.valid_from);
    supersede(db, old, (at, &by.id.to_string(), &by.text), now).await?;
    Ok(Ok(1))
}

async fn change(db: &Transaction, scope: &Scope, id: Uuid, change: &Change, now: i64) -> Outcome<Vec<Added>> {
    let found = Entity::find()
        .filter(reached(scope))
        .filter(Column::Id.eq(id.to_string()))
        .filter(Column::Status.ne(row::status(Status::Deleted)));
    let Some(old) = found.one(db).await? else {
        return Ok(Ok(Vec::new()));
    };
    let mut row = old.clone();
    if let Some(text) = &change.text {
        row.text.clone_from(text);
        row.words_sha256 = words_sha256(text);
    }
    if let Some(attribute) = &change.attribute {
        row.attribute.clone_from(attribute);
    }
    if let Some(metadata) = &change.metadata {
        match rows::json(metadata) {
            Ok(metadata) => row.metadata = metadata,
            Err(error) => return Ok(Err(error)),
        }
    }
    row.pinned = change.pinned.unwrap_or(row.pinned);
    row.expires_at = change.expires_at.unwrap_or(row.expires_at);
    if let Some(status) = change.status {
        row.status = row::status(status).to_owned();
        if status == Status::Active {
            (row.valid_to, row.superseded_by) = (None, None);
        }
    }
    if row == old {
        return Ok(row::to_fact(row).map(|fact| vec![unchanged(fact)]));
    }
    // Later than before also on a clock that stands: `mark_indexed` goes by it.
    row.updated_at = now.max(old.updated_at.saturating_add(1));
    row.pending = true;
    let texts = (Some(old.text), Some(row.text.clone()));
    Entity::update(row.clone().into_active_model().reset_all())
        .exec(db)
        .await?;
    record(db, &row, Happened::Update, texts, now).await?;
    // A fact that holds again takes the place of those that took its own.
    let mut ended = Vec::new();
    if change.status == Some(Status::Active) && row.attribute.is_some() {
        match facts(beside(db, &row).await?) {
            Err(error) => return Ok(Err(error)),
            Ok(there) => {
                let others = there.into_iter().filter(|other| {
                    other.id != id && other.status == Status::Active && other.attribute == row.attribute
                });
                for other in others {
                    supersede(db, &other, (now.max(other.valid_from), &row.id, &row.text), now).await?;
                    ended.push(other.id);
                }
            }
        }
    }
    Ok(row::to_fact(row).map(|fact| {
        vec![Added {
            superseded: ended,
            ..unchanged(fact)
        }]
    }))
}

fn unchanged(fact: Fact) -> Added {
    Added {
        fact,
        new: false,
        superseded: Vec::new(),
    }
}

async fn delete(db: &Transaction, scope: &Scope, ids: &[String], now: i64) -> Result<Vec<String>, DbErr> {
    let mut deleted = Vec::new();
    for ids in ids.chunks(BATCH) {
        let found = Entity::find()
            .filter(reached(scope))
            .filter(Column::Id.is_in(ids))
            .filter(Column::Status.ne(row::status(Status::Deleted)));
        for row in found.all(db).await? {
            fact_event::Entity::update_many()
                .col_expr(fact_event::Column::OldText, Expr::value(Option::<String>::None))
                .col_expr(fact_event::Column::NewText, Expr::value(Option::<String>::None))
                .filter(fact_event::Column::Fact.eq(row.id.as_str()))
                .exec(db)
                .await?;
            // Its text also stands in the history of those whose place it took.
            fact_event::Entity::update_many()
                .col_expr(fact_event::Column::NewText, Expr::value(Option::<String>::None))
                .filter(fact_event::Column::Team.eq(row.team.as_str()))
                .filter(fact_event::Column::Event.eq(row::happened(Happened::Supersede)))
                .filter(fact_event::Column::NewText.eq(row.text.as_str()))
                .exec(db)
                .await?;
            record(db, &row, Happened::Delete, (None, None), now).await?;
            let mark = Model {
                text: String::new(),
                status: row::status(Status::Deleted).to_owned(),
                attribute: None,
                metadata: "{}".to_owned(),
                pinned: false,
                pending: false,
                updated_at: now.max(row.updated_at.saturating_add(1)),
                ..row.clone()
            };
            Entity::update(mark.into_active_model().reset_all()).exec(db).await?;
            deleted.push(row.id);
        }
    }
    Ok(deleted)
}

async fn erase(db: &Transaction, scope: &Scope, team_wide: bool) -> Result<u64, DbErr> {
    let mut whose = own(scope);
    if !team_wide {
        whose = whose.add(Column::TeamWide.eq(false));
    }
    let live = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(whose.clone())
        .into_tuple::<String>();
    let ids = live.all(db).await?;
    for ids in ids.chunks(BATCH) {
        fact_event::Entity::delete_many()
            .filter(fact_event::Column::Fact.is_in(ids))
            .exec(db)
            .await?;
    }
    let deleted = Entity::delete_many().filter(whose).exec(db).await?;
    Ok(deleted.rows_affected)
}

async fn mark_indexed(db: &Transaction, facts: &[(String, i64)]) -> Result<(), DbErr> {
    for (id, updated) in facts {
        Entity::update_many()
            .col_expr(Column::Pending, Expr::value(false))
            .filter(Column::Id.eq(id.as_str()))
            .filter(Column::UpdatedAt.lte(*updated))
            .exec(db)
            .await?;
    }
    Ok(())
}

/// What is in quarantine stays in the index, and is not shown: it may hold again at any time.
async fn mark_all_pending(db: &Transaction) -> Result<u64, DbErr> {
    let all = Entity::update_many()
        .col_expr(Column::Pending, Expr::value(true))
        .filter(Column::Status.ne(row::status(Status::Deleted)));
    Ok(all.exec(db).await?.rows_affected)
}

fn facts(rows: Vec<Model>) -> Result<Vec<Fact>, MemoryError> {
    rows.into_iter().map(row::to_fact).collect()
}

type Texts = (Option<String>, Option<String>);

async fn record(db: &Transaction, row: &Model, event: Happened, texts: Texts, now: i64) -> Result<(), DbErr> {
    record_of(db, (row.id.clone(), &row.team, &row.user), event, texts, now).await
}

async fn record_of(
    db: &Transaction,
    (fact, team, user): (String, &str, &str),
    event: Happened,
    (old_text, new_text): Texts,
    now: i64,
) -> Result<(), DbErr> {
    let row = fact_event::Model {
        id: Uuid::now_v7().to_string(),
        fact,
        team: team.to_owned(),
        user: user.to_owned(),
        event: row::happened(event).to_owned(),
        old_text,
        new_text,
        at: now,
    };
    fact_event::Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await
        .map(drop)
}
