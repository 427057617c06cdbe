//! The ledger in the journal's database, written by the journal's writer: [`SeaLedger`].

use std::collections::BTreeSet;

use async_trait::async_trait;
use habit_memory::journal::Page;
use habit_memory::store::sea::{Guest, GuestWrite, Outcome, Transaction};
use habit_memory::{MemoryError, Scope};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, DbErr, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
};
use uuid::Uuid;

use super::{DAY_MS, Feedback, Given, Ledger, Tainted, Thumb, Use, admit, tainted};

/// Ids in one statement; SQLite takes at most 32,766 values.
const BATCH: usize = 1000;

mod said {
    //! A row of `feedback`.
    use sea_orm::entity::prelude::*;

    /// A row.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "feedback")]
    pub struct Model {
        /// UUIDv7.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// Whose it is.
        pub team: String,
        /// Whose it is.
        pub user: String,
        /// Of which turn.
        pub turn: String,
        /// `up` or `down`.
        pub thumb: Option<String>,
        /// 0 to 1.
        pub score: Option<f64>,
        /// Words for people.
        pub comment: Option<String>,
        /// The right answer.
        pub correction: Option<String>,
        /// What a client noticed.
        pub implicit: Option<String>,
        /// Unix milliseconds.
        pub at: i64,
    }

    /// No joins.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod used {
    //! A row of `learning_uses`.
    use sea_orm::entity::prelude::*;

    /// A row.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "learning_uses")]
    pub struct Model {
        /// The run.
        #[sea_orm(primary_key, auto_increment = false)]
        pub run: String,
        /// The feedback.
        #[sea_orm(primary_key, auto_increment = false)]
        pub feedback: String,
        /// Whose run it is.
        pub team: String,
        /// Who gave the feedback.
        pub user: String,
        /// What it made.
        pub example: String,
        /// The feedback is gone.
        pub forgotten: bool,
        /// Unix milliseconds.
        pub at: i64,
    }

    /// No joins.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// See the module.
#[derive(Clone)]
pub struct SeaLedger {
    guest: Guest,
}

impl SeaLedger {
    /// Over the journal's database.
    #[must_use]
    pub fn new(guest: Guest) -> Self {
        Self { guest }
    }

    async fn all(&self, query: Select<said::Entity>) -> Result<Vec<Feedback>, MemoryError> {
        let rows = query.all(self.guest.readers()).await;
        let rows = rows.map_err(|error| self.guest.explain(&error))?;
        rows.into_iter().map(to_feedback).collect()
    }

    async fn uses(&self, condition: Condition) -> Result<Vec<used::Model>, MemoryError> {
        let query = used::Entity::find().filter(condition).order_by_asc(used::Column::At);
        let rows = query.all(self.guest.readers()).await;
        rows.map_err(|error| self.guest.explain(&error))
    }
}

/// What this user gave.
fn own(scope: &Scope) -> Condition {
    Condition::all()
        .add(said::Column::Team.eq(scope.team()))
        .add(said::Column::User.eq(scope.user()))
}

fn paged(query: Select<said::Entity>, page: Page) -> Select<said::Entity> {
    let query = query
        .order_by_desc(said::Column::Id)
        .limit(page.limit.clamp(1, Page::MOST));
    match page.before {
        Some(before) => query.filter(said::Column::Id.lt(before.to_string())),
        None => query,
    }
}

/// A write of the ledger.
enum Write {
    /// Adds a row, unless its user has this many since then.
    Add(Box<said::Model>, u64),
    /// Deletes what fits, of this user.
    Delete(Condition, Scope),
    /// Deletes all of this user.
    Erase(Scope),
    /// Notes uses.
    Uses(Vec<used::Model>),
}

#[async_trait]
impl GuestWrite for Write {
    async fn apply(&self, db: &Transaction) -> Outcome {
        Ok(Ok(match self {
            Self::Add(row, cap) => add(db, row, *cap).await?,
            Self::Delete(which, scope) => delete(db, &own(scope).add(which.clone()), scope).await?,
            Self::Erase(scope) => {
                let rows = delete(db, &own(scope), scope).await?;
                let of_user = Condition::all()
                    .add(used::Column::Team.eq(scope.team()))
                    .add(used::Column::User.eq(scope.user()));
                used::Entity::update_many()
                    .col_expr(used::Column::Forgotten, Expr::value(true))
                    .col_expr(used::Column::User, Expr::value(""))
                    .filter(of_user)
                    .exec(db)
                    .await?;
                rows
            }
            Self::Uses(rows) => note(db, rows).await?,
        }))
    }
}

async fn add(db: &Transaction, row: &said::Model, cap: u64) -> Result<u64, DbErr> {
    let today = said::Entity::find()
        .filter(said::Column::Team.eq(row.team.as_str()))
        .filter(said::Column::User.eq(row.user.as_str()))
        .filter(said::Column::At.gt(row.at - DAY_MS));
    if today.count(db).await? >= cap {
        return Ok(0);
    }
    said::Entity::insert(row.clone().into_active_model())
        .exec_without_returning(db)
        .await
}

/// Deletes feedback, and marks what was made with it. The condition names the owner.
async fn delete(db: &Transaction, which: &Condition, scope: &Scope) -> Result<u64, DbErr> {
    let ids: Vec<String> = said::Entity::find()
        .select_only()
        .column(said::Column::Id)
        .filter(which.clone())
        .into_tuple()
        .all(db)
        .await?;
    for ids in ids.chunks(BATCH) {
        used::Entity::update_many()
            .col_expr(used::Column::Forgotten, Expr::value(true))
            .filter(used::Column::Team.eq(scope.team()))
            .filter(used::Column::Feedback.is_in(ids))
            .exec(db)
            .await?;
    }
    let deleted = said::Entity::delete_many().filter(which.clone()).exec(db).await?;
    Ok(deleted.rows_affected)
}

/// A run that goes on notes the same again: what is noted stays as it is.
async fn note(db: &Transaction, rows: &[used::Model]) -> Result<u64, DbErr> {
    for rows in rows.chunks(BATCH) {
        let ids: Vec<&str> = rows.iter().map(|row| row.feedback.as_str()).collect();
        let there: Vec<String> = said::Entity::find()
            .select_only()
            .column(said::Column::Id)
            .filter(said::Column::Id.is_in(ids))
            .into_tuple()
            .all(db)
            .await?;
        let there: std::collections::HashSet<String> = there.into_iter().collect();
        let models = rows.iter().map(|row| {
            let forgotten = row.forgotten || !there.contains(&row.feedback);
            used::Model {
                forgotten,
                user: if forgotten { String::new() } else { row.user.clone() },
                ..row.clone()
            }
            .into_active_model()
        });
        let key = [used::Column::Run, used::Column::Feedback];
        let keep = sea_orm::sea_query::OnConflict::columns(key)
            .update_column(used::Column::Run)
            .to_owned();
        used::Entity::insert_many(models)
            .on_conflict(keep)
            .exec_without_returning(db)
            .await?;
    }
    Ok(rows.len() as u64)
}

fn texts(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}

#[async_trait]
impl Ledger for SeaLedger {
    async fn add(&self, scope: &Scope, feedback: Feedback, cap: u64) -> Result<bool, MemoryError> {
        admit(scope, &feedback)?;
        let row = from_feedback(scope, feedback);
        Ok(self.guest.write(Write::Add(Box::new(row), cap)).await? > 0)
    }

    async fn get(&self, scope: &Scope, id: Uuid) -> Result<Option<Feedback>, MemoryError> {
        let query = said::Entity::find()
            .filter(own(scope))
            .filter(said::Column::Id.eq(id.to_string()));
        Ok(self.all(query).await?.pop())
    }

    async fn list(&self, scope: &Scope, turns: &[Uuid], page: Page) -> Result<Vec<Feedback>, MemoryError> {
        let mut query = said::Entity::find().filter(own(scope));
        if !turns.is_empty() {
            query = query.filter(said::Column::Turn.is_in(texts(turns)));
        }
        self.all(paged(query, page)).await
    }

    async fn mark(&self, scope: &Scope) -> Result<(u64, Option<Uuid>), MemoryError> {
        let query = said::Entity::find()
            .select_only()
            .column_as(said::Column::Id.count(), "all")
            .column_as(said::Column::Id.max(), "newest")
            .filter(own(scope))
            .into_tuple::<(i64, Option<String>)>();
        let found = query.one(self.guest.readers()).await;
        let (all, newest) = found.map_err(|error| self.guest.explain(&error))?.unwrap_or_default();
        Ok((all.unsigned_abs(), newest.and_then(|id| Uuid::try_parse(&id).ok())))
    }

    async fn of_team(&self, team: &str, page: Page) -> Result<Vec<Feedback>, MemoryError> {
        let query = said::Entity::find().filter(said::Column::Team.eq(team));
        self.all(paged(query, page)).await
    }

    async fn delete(&self, scope: &Scope, ids: &[Uuid]) -> Result<u64, MemoryError> {
        let mut rows = 0;
        for ids in ids.chunks(BATCH) {
            let which = Condition::all().add(said::Column::Id.is_in(texts(ids)));
            rows += self.guest.write(Write::Delete(which, scope.clone())).await?;
        }
        Ok(rows)
    }

    async fn delete_of_turns(&self, scope: &Scope, turns: &[Uuid]) -> Result<u64, MemoryError> {
        let mut rows = 0;
        for turns in turns.chunks(BATCH) {
            let which = Condition::all().add(said::Column::Turn.is_in(texts(turns)));
            rows += self.guest.write(Write::Delete(which, scope.clone())).await?;
        }
        Ok(rows)
    }

    async fn erase(&self, scope: &Scope) -> Result<u64, MemoryError> {
        self.guest.write(Write::Erase(scope.clone())).await
    }

    async fn note_uses(&self, team: &str, uses: Vec<Use>) -> Result<(), MemoryError> {
        if uses.is_empty() {
            return Ok(());
        }
        let row = |one: Use| used::Model {
            run: one.run,
            feedback: one.feedback.to_string(),
            team: team.to_owned(),
            user: one.user,
            example: one.example.to_string(),
            forgotten: one.forgotten,
            at: one.at,
        };
        let rows = uses.into_iter().map(row).collect();
        self.guest.write(Write::Uses(rows)).await.map(drop)
    }

    async fn uses_of(&self, scope: &Scope, feedback: Uuid) -> Result<Vec<Use>, MemoryError> {
        let of_it = Condition::all()
            .add(used::Column::Team.eq(scope.team()))
            .add(used::Column::User.eq(scope.user()))
            .add(used::Column::Feedback.eq(feedback.to_string()));
        self.uses(of_it).await?.into_iter().map(to_use).collect()
    }

    async fn tainted(&self, team: &str) -> Result<Vec<Tainted>, MemoryError> {
        let forgotten = Condition::all()
            .add(used::Column::Team.eq(team))
            .add(used::Column::Forgotten.eq(true));
        let mut uses = Vec::new();
        for row in self.uses(forgotten).await? {
            let example = id(&row.feedback, &row.example)?;
            uses.push((row.run, example));
        }
        Ok(tainted(uses.into_iter()))
    }

    async fn users(&self, team: &str) -> Result<BTreeSet<String>, MemoryError> {
        let query = said::Entity::find()
            .select_only()
            .column(said::Column::User)
            .distinct()
            .filter(said::Column::Team.eq(team))
            .into_tuple::<String>();
        let users = query.all(self.guest.readers()).await;
        let users = users.map_err(|error| self.guest.explain(&error))?;
        Ok(users.into_iter().collect())
    }
}

fn from_feedback(scope: &Scope, feedback: Feedback) -> said::Model {
    let Given {
        thumb,
        score,
        comment,
        correction,
        implicit,
    } = feedback.given;
    let thumb = thumb.map(|thumb| match thumb {
        Thumb::Up => "up",
        Thumb::Down => "down",
    });
    said::Model {
        id: feedback.id.to_string(),
        team: scope.team().to_owned(),
        user: scope.user().to_owned(),
        turn: feedback.turn.to_string(),
        thumb: thumb.map(str::to_owned),
        score: score.map(f64::from),
        comment,
        correction,
        implicit: implicit.map(|implicit| implicit.as_str().to_owned()),
        at: feedback.at,
    }
}

fn damaged(id: &str, what: &str) -> MemoryError {
    MemoryError::Storage(format!("feedback {id} in the database is damaged: {what}; delete it"))
}

fn id(row: &str, text: &str) -> Result<Uuid, MemoryError> {
    Uuid::parse_str(text).map_err(|error| damaged(row, &error.to_string()))
}

fn to_feedback(row: said::Model) -> Result<Feedback, MemoryError> {
    let thumb = match row.thumb.as_deref() {
        None => None,
        Some("up") => Some(Thumb::Up),
        Some("down") => Some(Thumb::Down),
        Some(other) => return Err(damaged(&row.id, &format!("`{other}` is no thumb"))),
    };
    let implicit = row
        .implicit
        .map(|name| serde_json::from_value(name.into()).map_err(|error| damaged(&row.id, &error.to_string())));
    Ok(Feedback {
        id: id(&row.id, &row.id)?,
        turn: id(&row.id, &row.turn)?,
        given: Given {
            thumb,
            score: row.score.map(|score| score as f32),
            comment: row.comment,
            correction: row.correction,
            implicit: implicit.transpose()?,
        },
        user: row.user,
        at: row.at,
    })
}

fn to_use(row: used::Model) -> Result<Use, MemoryError> {
    Ok(Use {
        feedback: id(&row.feedback, &row.feedback)?,
        example: id(&row.feedback, &row.example)?,
        run: row.run,
        user: row.user,
        forgotten: row.forgotten,
        at: row.at,
    })
}
