//! Runs of routines in the journal's database, what they changed, and leases: [`Runs`]. Each write is one statement, so it
//! is there whole or not at all.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::database::Database;
use super::transaction::Transaction;
use super::{SeaJournal, rows};
use crate::error::MemoryError;
use crate::routines::{Change, Findings, Made, Run, Status, Target};
use crate::scope::Scope;
use crate::store::entity::{downtime_change, downtime_run, lease};

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Runs {
    database: Database,
}

impl SeaJournal {
    /// The runs of routines that are kept in the same database.
    #[must_use]
    pub fn runs(&self) -> Runs {
        Runs {
            database: self.database.clone(),
        }
    }
}

impl Runs {
    /// Says what the database said.
    fn explain(&self) -> impl Fn(DbErr) -> MemoryError {
        move |error| {
            let error = self.database.explain(&error);
            MemoryError::Storage(format!("the runs of routines can't be read or written: {error}"))
        }
    }

    /// Writes a new run.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn add(&self, run: &Run, now: i64) -> Result<(), MemoryError> {
        let row = downtime_run::Model {
            id: run.id.to_string(),
            team: run.target.team.clone().unwrap_or_default(),
            user: run.target.user.clone().unwrap_or_default(),
            routine: run.routine.clone(),
            status: word(&run.status)?,
            cause: run.cause.clone(),
            cursor: rows::json(&run.cursor)?,
            done: signed(run.done),
            total: signed(run.total),
            findings: rows::json(&run.findings)?,
            started_at: run.started_at,
            updated_at: now,
            ended_at: run.ended_at,
        };
        let insert = downtime_run::Entity::insert(row.into_active_model());
        insert
            .exec_without_returning(&self.database)
            .await
            .map_err(self.explain())?;
        Ok(())
    }

    /// Writes what a run is now.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`] if it is gone, since its user was erased; [`MemoryError::Storage`].
    pub async fn put(&self, run: &Run, now: i64) -> Result<(), MemoryError> {
        use downtime_run::Column;
        let update = downtime_run::Entity::update_many()
            .col_expr(Column::Status, Expr::value(word(&run.status)?))
            .col_expr(Column::Cause, Expr::value(run.cause.clone()))
            .col_expr(Column::Cursor, Expr::value(rows::json(&run.cursor)?))
            .col_expr(Column::Done, Expr::value(signed(run.done)))
            .col_expr(Column::Total, Expr::value(signed(run.total)))
            .col_expr(Column::Findings, Expr::value(rows::json(&run.findings)?))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .col_expr(Column::EndedAt, Expr::value(run.ended_at))
            .filter(Column::Id.eq(run.id.to_string()));
        if update.exec(&self.database).await.map_err(self.explain())?.rows_affected == 0 {
            return Err(MemoryError::NotFound(format!("the run {} is gone", run.id)));
        }
        Ok(())
    }

    /// A run that this team may see: its own, and those that concern everyone. `None` as the team sees all.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn get(&self, team: Option<&str>, id: Uuid) -> Result<Option<Run>, MemoryError> {
        let query = downtime_run::Entity::find_by_id(id.to_string()).filter(seen_by(team));
        let row = query.one(&self.database).await.map_err(self.explain())?;
        row.map(read).transpose()
    }

    /// Runs that this team may see, newest first.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn list(&self, team: Option<&str>, before: Option<Uuid>, limit: u64) -> Result<Vec<Run>, MemoryError> {
        let mut query = downtime_run::Entity::find()
            .filter(seen_by(team))
            .order_by_desc(downtime_run::Column::Id)
            .limit(limit);
        if let Some(before) = before {
            query = query.filter(downtime_run::Column::Id.lt(before.to_string()));
        }
        let rows = query.all(&self.database).await.map_err(self.explain())?;
        rows.into_iter().map(read).collect()
    }

    /// Runs that are not at their end, oldest first.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn open(&self) -> Result<Vec<Run>, MemoryError> {
        let open = [Status::Waiting, Status::Running, Status::Undoing];
        let open = open.iter().map(word).collect::<Result<Vec<_>, _>>()?;
        let query = downtime_run::Entity::find()
            .filter(downtime_run::Column::Status.is_in(open))
            .order_by_asc(downtime_run::Column::Id);
        let rows = query.all(&self.database).await.map_err(self.explain())?;
        rows.into_iter().map(read).collect()
    }

    /// When each routine was last begun for each target, in Unix milliseconds.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn latest(&self) -> Result<HashMap<(String, Target), i64>, MemoryError> {
        use downtime_run::Column;
        let query = downtime_run::Entity::find()
            .select_only()
            .columns([Column::Routine, Column::Team, Column::User])
            .column_as(Column::StartedAt.max(), "latest")
            .group_by(Column::Routine)
            .group_by(Column::Team)
            .group_by(Column::User)
            .into_tuple::<(String, String, String, i64)>();
        let rows = query.all(&self.database).await.map_err(self.explain())?.into_iter();
        let some = |text: String| (!text.is_empty()).then_some(text);
        let one = |(routine, team, user, at)| {
            let (team, user) = (some(team), some(user));
            ((routine, Target { team, user }), at)
        };
        Ok(rows.map(one).collect())
    }

    /// Writes down what is to be changed.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn intend(&self, run: Uuid, changes: &[Change], now: i64) -> Result<(), MemoryError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut rows = Vec::with_capacity(changes.len());
        for change in changes {
            let row = downtime_change::Model {
                id: change.id.to_string(),
                run: run.to_string(),
                status: INTENDED.to_owned(),
                what: change.what.clone(),
                data: rows::json(&change.data)?,
                at: now,
            };
            rows.push(row.into_active_model());
        }
        let insert = downtime_change::Entity::insert_many::<downtime_change::ActiveModel, _>(rows);
        insert
            .exec_without_returning(&self.database)
            .await
            .map_err(self.explain())?;
        Ok(())
    }

    /// Notes what became of changes of a run.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn mark(&self, run: Uuid, ids: &[Uuid], status: &str) -> Result<(), MemoryError> {
        if ids.is_empty() {
            return Ok(());
        }
        let update = downtime_change::Entity::update_many()
            .col_expr(downtime_change::Column::Status, Expr::value(status))
            .filter(downtime_change::Column::Run.eq(run.to_string()))
            .filter(downtime_change::Column::Id.is_in(ids.iter().map(Uuid::to_string)));
        update.exec(&self.database).await.map_err(self.explain())?;
        Ok(())
    }

    /// Changes of a run with this status, or all, in the order in which they were written down.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn changes(&self, run: Uuid, status: Option<&str>, limit: u64) -> Result<Vec<Made>, MemoryError> {
        let mut query = downtime_change::Entity::find()
            .filter(downtime_change::Column::Run.eq(run.to_string()))
            .order_by_asc(downtime_change::Column::Id)
            .limit(limit);
        if let Some(status) = status {
            query = query.filter(downtime_change::Column::Status.eq(status));
        }
        let rows = query.all(&self.database).await.map_err(self.explain())?;
        let made = |row: downtime_change::Model| {
            Ok(Made {
                change: Change {
                    id: rows::id(&row.id)?,
                    what: row.what,
                    data: parse(&row.data)?,
                },
                status: row.status,
                at: row.at,
            })
        };
        rows.into_iter().map(made).collect()
    }

    /// Takes a lease, or keeps it, for so many milliseconds; false while another holds it. Where processes of several machines
    /// may ask, the time is the database's: their clocks differ.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn lease(&self, name: &str, holder: &str, now: i64, length: i64) -> Result<bool, MemoryError> {
        let now = self.database.site().now(now);
        let free = Condition::any()
            .add(Expr::col((lease::Entity, lease::Column::Holder)).eq(holder))
            .add(Expr::col((lease::Entity, lease::Column::Until)).lt(now.clone()));
        let take = OnConflict::column(lease::Column::Name)
            .update_columns([lease::Column::Holder, lease::Column::Until])
            .action_cond_where(free)
            .to_owned();
        let mut insert = Query::insert();
        let values = [Expr::value(name), Expr::value(holder), now.add(length)];
        insert
            .into_table(lease::Entity)
            .columns([lease::Column::Name, lease::Column::Holder, lease::Column::Until])
            .on_conflict(take);
        let insert = insert
            .values(values)
            .map_err(|error| MemoryError::Storage(error.to_string()))?;
        let taken = self.database.execute(insert).await.map_err(self.explain())?;
        Ok(taken.rows_affected() > 0)
    }

    /// Gives a lease back, where this holder has it.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn release(&self, name: &str, holder: &str) -> Result<(), MemoryError> {
        let delete = lease::Entity::delete_many()
            .filter(lease::Column::Name.eq(name))
            .filter(lease::Column::Holder.eq(holder));
        delete.exec(&self.database).await.map_err(self.explain())?;
        Ok(())
    }

    /// Brings what the database knows of its own tables up to date.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn tidy(&self) -> Result<(), MemoryError> {
        let statement = self.database.site().tidy();
        self.database
            .execute_unprepared(&statement)
            .await
            .map_err(self.explain())?;
        Ok(())
    }
}

/// Written down, and not yet made.
pub const INTENDED: &str = "intended";
/// Made.
pub const MADE: &str = "made";
/// Taken back.
pub const UNDONE: &str = "undone";

/// Removes the runs that were for this user, with what they changed.
pub async fn erase(db: &Transaction, scope: &Scope) -> Result<(), DbErr> {
    let own = Condition::all()
        .add(downtime_run::Column::Team.eq(scope.team()))
        .add(downtime_run::Column::User.eq(scope.user()));
    let ids: Vec<String> = downtime_run::Entity::find()
        .select_only()
        .column(downtime_run::Column::Id)
        .filter(own.clone())
        .into_tuple()
        .all(db)
        .await?;
    for ids in ids.chunks(super::write::BATCH) {
        downtime_change::Entity::delete_many()
            .filter(downtime_change::Column::Run.is_in(ids))
            .exec(db)
            .await?;
    }
    downtime_run::Entity::delete_many().filter(own).exec(db).await?;
    Ok(())
}

fn seen_by(team: Option<&str>) -> Condition {
    match team {
        None => Condition::all(),
        Some(team) => Condition::any()
            .add(downtime_run::Column::Team.eq(team))
            .add(downtime_run::Column::Team.eq("")),
    }
}

fn read(row: downtime_run::Model) -> Result<Run, MemoryError> {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let findings: Findings = parse(&row.findings)?;
    Ok(Run {
        id: rows::id(&row.id)?,
        routine: row.routine,
        target: Target {
            team: some(row.team),
            user: some(row.user),
        },
        status: serde_json::from_value(row.status.into()).map_err(|error| damaged(&error))?,
        cause: row.cause,
        cursor: parse(&row.cursor)?,
        done: row.done.unsigned_abs(),
        total: row.total.unsigned_abs(),
        findings,
        started_at: row.started_at,
        ended_at: row.ended_at,
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An enumeration's word.
fn word<T: Serialize>(value: &T) -> Result<String, MemoryError> {
    let text = rows::json(value)?;
    Ok(text.trim_matches('"').to_owned())
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, MemoryError> {
    serde_json::from_str(text).map_err(|error| damaged(&error))
}

fn damaged(error: &serde_json::Error) -> MemoryError {
    MemoryError::Storage(format!("a run of a routine is damaged in the database: {error}"))
}
