//! The journal in an SQL database: [`SeaJournal`]. Reads run on a pool of connections ([`database`]); every write goes
//! through the one [`writer`], which commits what waits together. What is different in SQLite and Postgres is in [`site`].

use std::collections::HashMap;
use std::path::Path;

use async_trait::async_trait;
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};
use uuid::Uuid;

use super::entity::{chunk, document, turn};
use super::{admit_document, admit_turn};
use crate::documents::{Chunk, Document};
use crate::error::MemoryError;
use crate::interaction::Interaction;
use crate::journal::{Alone, Erased, First, Journal, Page, Pending, Totals};
use crate::scope::Scope;

mod alone;
mod consents;
mod database;
mod facts;
mod failure;
mod feed;
mod guest;
mod objects;
mod pending;
mod postgres;
mod rows;
mod runs;
mod site;
mod sqlite;
mod transaction;
mod write;
mod writer;

pub use alone::Work;
pub use consents::SeaConsents;
pub use database::Database;
pub use facts::SeaFacts;
pub use feed::{Feed, Reader};
pub use guest::{Guest, GuestWrite, Outcome};
pub use objects::SeaObjects;
pub use runs::{INTENDED, MADE, Runs, UNDONE};
use site::Site;
pub use transaction::Transaction;
use write::{BATCH, Write};
use writer::Writer;

/// The journal in a SQLite file or in a Postgres database. Dropping it without [`Journal::close`] loses nothing that was
/// acknowledged.
pub struct SeaJournal {
    database: Database,
    writer: Writer,
}

impl SeaJournal {
    /// Opens a SQLite file, or makes it, and brings its tables up to date. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if the file can't be written, is damaged, locked, or was made by a newer version.
    pub async fn open(path: &Path) -> Result<Self, MemoryError> {
        Self::open_at(Site::sqlite(path)).await
    }

    /// Opens a Postgres database (`postgres://user:password@host/name`), which must be there, and brings its tables up to
    /// date. Several gateways may have it open. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`MemoryError::BadRequest`] if this is no such address; [`MemoryError::Storage`] if the server can't be reached, does
    /// not let the user in, or the tables were made by a newer version. The password is in no message.
    pub async fn connect(url: &str) -> Result<Self, MemoryError> {
        Self::open_at(Site::postgres(url)?).await
    }

    async fn open_at(site: Site) -> Result<Self, MemoryError> {
        let connection = site.prepare().await?;
        let database = Database::new(site);
        let writer = Writer::start(database.clone(), connection);
        Ok(Self { database, writer })
    }

    /// The database, also for tables that are no part of the journal, such as [`super::entity::api_key`].
    #[must_use]
    pub fn database(&self) -> Database {
        self.database.clone()
    }

    fn explain(&self, error: &DbErr) -> MemoryError {
        self.database.explain(error)
    }

    async fn one_turn(&self, query: Select<turn::Entity>) -> Result<Option<Interaction>, MemoryError> {
        let row = query.one(&self.database).await.map_err(|error| self.explain(&error))?;
        row.map(rows::to_turn).transpose()
    }

    async fn all_turns(&self, query: Select<turn::Entity>) -> Result<Vec<Interaction>, MemoryError> {
        let rows = query.all(&self.database).await.map_err(|error| self.explain(&error))?;
        rows.into_iter().map(rows::to_turn).collect()
    }

    async fn all_documents(&self, query: Select<document::Entity>) -> Result<Vec<Document>, MemoryError> {
        let rows = query.all(&self.database).await.map_err(|error| self.explain(&error))?;
        rows.into_iter().map(rows::to_document).collect()
    }

    /// How many rows the query has; it must select the id alone, so that an index can answer.
    async fn count<E: EntityTrait>(&self, id: E::Column, filter: Condition) -> Result<u64, MemoryError> {
        let query = E::find()
            .select_only()
            .column_as(id.count(), "rows")
            .filter(filter)
            .into_tuple::<i64>();
        let count = query.one(&self.database).await.map_err(|error| self.explain(&error))?;
        Ok(count.map_or(0, i64::unsigned_abs))
    }
}

/// This user's turns.
fn own_turns(scope: &Scope) -> Select<turn::Entity> {
    turn::Entity::find()
        .filter(turn::Column::Team.eq(scope.team()))
        .filter(turn::Column::User.eq(scope.user()))
}

/// The documents that this scope sees.
fn visible(scope: &Scope) -> Condition {
    use document::Column::{Conversation, Place, Team, User};
    let mut own = Condition::any().add(Place.eq(document::USER));
    if let Some(conversation) = scope.conversation() {
        let here = Condition::all()
            .add(Place.eq(document::CONVERSATION))
            .add(Conversation.eq(conversation));
        own = own.add(here);
    }
    if let Some(store) = scope.store() {
        let there = Condition::all()
            .add(Place.eq(document::STORE))
            .add(Conversation.eq(store));
        own = own.add(there);
    }
    let own = Condition::all().add(User.eq(scope.user())).add(own);
    let seen = Condition::any().add(Place.eq(document::TEAM)).add(own);
    Condition::all().add(Team.eq(scope.team())).add(seen)
}

fn texts(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}

#[async_trait]
impl Journal for SeaJournal {
    async fn record(&self, turn: Interaction) -> Result<(), MemoryError> {
        admit_turn(&turn)?;
        let row = rows::from_turn(&turn)?;
        self.writer.write(Write::Record(Box::new(row))).await.map(drop)
    }

    async fn turn(&self, scope: &Scope, id: Uuid) -> Result<Option<Interaction>, MemoryError> {
        self.one_turn(own_turns(scope).filter(turn::Column::Id.eq(id.to_string())))
            .await
    }

    async fn turns_by_id(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Interaction>, MemoryError> {
        let mut turns = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH) {
            turns.extend(
                self.all_turns(own_turns(scope).filter(turn::Column::Id.is_in(texts(ids))))
                    .await?,
            );
        }
        Ok(turns)
    }

    async fn turns(&self, scope: &Scope, page: Page) -> Result<Vec<Interaction>, MemoryError> {
        let mut query = own_turns(scope)
            .order_by_desc(turn::Column::Id)
            .limit(page.limit.clamp(1, Page::MOST));
        if let Some(conversation) = scope.conversation() {
            query = query.filter(turn::Column::Conversation.eq(conversation));
        }
        if let Some(before) = page.before {
            query = query.filter(turn::Column::Id.lt(before.to_string()));
        }
        self.all_turns(query).await
    }

    async fn turn_by_chain(&self, scope: &Scope, chain: &str) -> Result<Option<Interaction>, MemoryError> {
        let same = own_turns(scope).filter(turn::Column::Chain.eq(chain));
        self.one_turn(same.order_by_desc(turn::Column::Id).limit(1)).await
    }

    async fn delete_turn(&self, scope: &Scope, id: Uuid) -> Result<bool, MemoryError> {
        Ok(self.writer.write(Write::DeleteTurn(scope.clone(), id)).await?.rows > 0)
    }

    async fn add_document(&self, document: Document, chunks: Vec<Chunk>) -> Result<Vec<Uuid>, MemoryError> {
        let document = admit_document(document, &chunks)?;
        let rows = chunks.iter().map(|chunk| rows::from_chunk(&document, chunk)).collect();
        let write = Write::AddDocument(Box::new(rows::from_document(&document)?), rows);
        Ok(self.writer.write(write).await?.replaced)
    }

    async fn documents(&self, scope: &Scope) -> Result<Vec<Document>, MemoryError> {
        let query = document::Entity::find()
            .filter(visible(scope))
            .order_by_desc(document::Column::Id);
        self.all_documents(query).await
    }

    async fn document(&self, scope: &Scope, id: Uuid) -> Result<Option<Document>, MemoryError> {
        let query = document::Entity::find()
            .filter(visible(scope))
            .filter(document::Column::Id.eq(id.to_string()));
        Ok(self.all_documents(query).await?.pop())
    }

    async fn chunks_by_id(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<(Document, Chunk)>, MemoryError> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH) {
            let wanted = chunk::Column::Id.is_in(texts(ids));
            let query = chunk::Entity::find()
                .filter(chunk::Column::Team.eq(scope.team()))
                .filter(wanted);
            let chunks = query.all(&self.database).await.map_err(|error| self.explain(&error))?;
            let parents = document::Column::Id.is_in(chunks.iter().map(|chunk| chunk.document.as_str()));
            let documents = document::Entity::find().filter(visible(scope)).filter(parents);
            let documents = self.all_documents(documents).await?;
            let documents: HashMap<String, Document> = documents
                .into_iter()
                .map(|document| (document.id.to_string(), document))
                .collect();
            for chunk in chunks {
                if let Some(document) = documents.get(&chunk.document) {
                    found.push((document.clone(), rows::to_chunk(chunk)?));
                }
            }
        }
        Ok(found)
    }

    async fn chunks(&self, scope: &Scope, document: Uuid) -> Result<Vec<Chunk>, MemoryError> {
        if self.document(scope, document).await?.is_none() {
            return Ok(Vec::new());
        }
        let query = chunk::Entity::find()
            .filter(chunk::Column::Team.eq(scope.team()))
            .filter(chunk::Column::Document.eq(document.to_string()))
            .order_by_asc(chunk::Column::Ordinal);
        let chunks = query.all(&self.database).await.map_err(|error| self.explain(&error))?;
        chunks.into_iter().map(rows::to_chunk).collect()
    }

    async fn given(&self, scope: &Scope) -> Result<Vec<Document>, MemoryError> {
        let query = document::Entity::find()
            .filter(document::Column::Team.eq(scope.team()))
            .filter(document::Column::User.eq(scope.user()))
            .order_by_asc(document::Column::Id);
        self.all_documents(query).await
    }

    async fn erase(&self, scope: &Scope, team_wide: bool) -> Result<Erased, MemoryError> {
        let written = self.writer.write(Write::Erase(scope.clone(), team_wide)).await?;
        Ok(Erased {
            turns: written.rows,
            documents: written.replaced,
        })
    }

    async fn purge(&self) -> Result<(), MemoryError> {
        self.writer.write(Write::Purge).await.map(drop)
    }

    async fn delete_document(&self, scope: &Scope, id: Uuid) -> Result<bool, MemoryError> {
        Ok(self.writer.write(Write::DeleteDocument(scope.clone(), id)).await?.rows > 0)
    }

    async fn pending(&self, limit: u64, first: First) -> Result<Vec<Pending>, MemoryError> {
        pending::read(&self.database, limit, first).await
    }

    async fn mark_indexed(&self, ids: &[Uuid]) -> Result<(), MemoryError> {
        self.writer.write(Write::MarkIndexed(texts(ids))).await.map(drop)
    }

    async fn mark_all_pending(&self) -> Result<u64, MemoryError> {
        Ok(self.writer.write(Write::MarkAllPending).await?.rows)
    }

    async fn owners(&self) -> Result<Vec<Scope>, MemoryError> {
        let turns = turn::Entity::find()
            .select_only()
            .columns([turn::Column::Team, turn::Column::User])
            .distinct()
            .into_tuple::<(String, String)>();
        let documents = document::Entity::find()
            .select_only()
            .columns([document::Column::Team, document::Column::User])
            .distinct()
            .into_tuple::<(String, String)>();
        let explain = |error: DbErr| self.explain(&error);
        let mut names = turns.all(&self.database).await.map_err(explain)?;
        names.extend(documents.all(&self.database).await.map_err(explain)?);
        names.sort();
        names.dedup();
        let scope = |(team, user)| Scope::new(team, user).map_err(|error| MemoryError::Storage(error.to_string()));
        names.into_iter().map(scope).collect()
    }

    async fn set_remember(&self, scope: &Scope, ids: &[Uuid], remember: bool) -> Result<u64, MemoryError> {
        let write = Write::SetRemember(scope.clone(), texts(ids), remember);
        Ok(self.writer.write(write).await?.rows)
    }

    async fn mark_pending(&self, scope: &Scope, ids: &[Uuid]) -> Result<u64, MemoryError> {
        let write = Write::MarkPending(scope.clone(), texts(ids));
        Ok(self.writer.write(write).await?.rows)
    }

    async fn totals(&self) -> Result<Totals, MemoryError> {
        let all = Condition::all;
        let pending_turns = all().add(turn::Column::Pending.eq(true));
        let pending_chunks = all().add(chunk::Column::Pending.eq(true));
        Ok(Totals {
            turns: self.count::<turn::Entity>(turn::Column::Id, all()).await?,
            documents: self.count::<document::Entity>(document::Column::Id, all()).await?,
            chunks: self.count::<chunk::Entity>(chunk::Column::Id, all()).await?,
            pending: self.count::<turn::Entity>(turn::Column::Id, pending_turns).await?
                + self.count::<chunk::Entity>(chunk::Column::Id, pending_chunks).await?,
        })
    }

    async fn index_alone(&self) -> Result<Alone, MemoryError> {
        self.database.alone(Work::Indexing).await
    }

    async fn close(&self) {
        self.writer.close().await;
    }
}

#[cfg(test)]
mod tests {
    use habit_engine::{Message, Role};
    use tempfile::TempDir;

    use super::*;

    fn turn(scope: &Scope, letters: usize) -> Interaction {
        Interaction::completed(scope, 0, vec![Message::new(Role::User, "x".repeat(letters))], "")
    }

    fn with_pragma(path: &Path, pragma: &'static str, value: &'static str) -> Site {
        Site::Sqlite {
            path: path.to_owned(),
            options: Box::new(sqlite::options(path).pragma(pragma, value)),
        }
    }

    /// A page limit makes SQLite answer as it does on a full disk.
    #[tokio::test]
    async fn a_full_disk_is_told_and_writes_go_on_when_there_is_space() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("habit.db");
        let journal = SeaJournal::open_at(with_pragma(&path, "max_page_count", "100"))
            .await
            .unwrap();
        let scope = Scope::new("t", "u").unwrap().in_conversation("c");
        let mut kept = Vec::new();
        let refused = loop {
            // Several at once, so that the group fails first and then each alone.
            let turns: Vec<Interaction> = (0..8).map(|_| turn(&scope, 5_000)).collect();
            let writes = turns.iter().map(|turn| journal.record(turn.clone()));
            let results = futures::future::join_all(writes).await;
            let mut refused = None;
            for (turn, result) in turns.into_iter().zip(results) {
                match result {
                    Ok(()) => kept.push(turn),
                    Err(error) => refused = Some(error.to_string()),
                }
            }
            if let Some(refused) = refused {
                break refused;
            }
            assert!(kept.len() < 100, "100 pages of 4 KiB can't hold this");
        };
        assert!(
            refused.contains("disk is full") && refused.contains("free some space"),
            "{refused}"
        );
        for turn in &kept {
            assert_eq!(journal.turn(&scope, turn.id).await.unwrap().as_ref(), Some(turn));
        }
        assert_eq!(journal.totals().await.unwrap().turns, kept.len() as u64);
        for turn in kept.drain(..8) {
            assert!(journal.delete_turn(&scope, turn.id).await.unwrap());
        }
        let later = turn(&scope, 5_000);
        journal.record(later.clone()).await.unwrap();
        assert_eq!(journal.turn(&scope, later.id).await.unwrap(), Some(later));
    }

    #[tokio::test]
    async fn a_database_that_cannot_be_written_is_told() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("habit.db");
        SeaJournal::open(&path).await.unwrap().close().await;
        let journal = SeaJournal::open_at(with_pragma(&path, "query_only", "ON"))
            .await
            .unwrap();
        let scope = Scope::new("t", "u").unwrap().in_conversation("c");
        let error = journal.record(turn(&scope, 1)).await.unwrap_err().to_string();
        assert!(
            error.contains("habit.db") && error.contains("write permission"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn pending_is_found_by_an_index() {
        use sea_orm::{ConnectionTrait, Statement};
        let folder = TempDir::new().unwrap();
        let journal = SeaJournal::open(&folder.path().join("habit.db")).await.unwrap();
        let db = journal.database();
        for (sql, index) in [
            (
                "SELECT * FROM turns WHERE pending = 1 ORDER BY id LIMIT 9",
                "turns_pending",
            ),
            (
                r#"SELECT * FROM turns WHERE team = 't' AND "user" = 'u' ORDER BY id DESC LIMIT 9"#,
                "turns_scope_time",
            ),
            (
                r#"SELECT * FROM turns WHERE team = 't' AND "user" = 'u' AND chain = 'c' ORDER BY id DESC"#,
                "turns_chain",
            ),
        ] {
            let question = Statement::from_string(db.get_database_backend(), format!("EXPLAIN QUERY PLAN {sql}"));
            let plan = db.query_all_raw(question).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.try_get("", "detail").unwrap()).collect();
            assert!(plan.iter().any(|step| step.contains(index)), "{plan:?}");
            assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{plan:?}");
        }
    }
}
