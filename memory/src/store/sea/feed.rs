//! The news of gateways that share an index, in the database that they share: [`Feed`] tells, [`Reader`] hears. Each row is
//! written by one statement and read by all others; nobody waits for anybody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::database::Database;
use super::{SeaJournal, rows};
use crate::clock::Clock;
use crate::error::MemoryError;
use crate::store::entity::index_change::{ActiveModel, Column, Entity};
use crate::store::news::{Heard, News};

/// How long an id that was given out may take to appear, at most: the next one may be there before it.
const SETTLES: Duration = Duration::from_secs(30);

/// How long news are kept, in milliseconds. Whoever was away for longer has missed some, and is told so.
const KEPT_MS: i64 = 3_600_000;

/// Rows that are read at a time.
const AT_ONCE: u64 = 500;

/// Tells the others; cheap to clone.
#[derive(Clone)]
pub struct Feed {
    database: Database,
    clock: Arc<dyn Clock>,
    /// This process, among those that share the database.
    gateway: String,
}

impl SeaJournal {
    /// The news of those who share this database, for one process.
    #[must_use]
    pub fn feed(&self, clock: Arc<dyn Clock>) -> Feed {
        Feed {
            database: self.database.clone(),
            clock,
            gateway: Uuid::now_v7().to_string(),
        }
    }
}

/// Says what the database said.
fn explain(error: DbErr) -> MemoryError {
    MemoryError::Storage(format!(
        "what gateways tell one another of the index can't be read or written: {error}"
    ))
}

impl Feed {
    /// Tells the others. To be called after the index was changed.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]: they don't know; change the index again.
    pub async fn tell(&self, news: &News) -> Result<(), MemoryError> {
        let row = ActiveModel {
            id: NotSet,
            at: Set(self.clock.now_ms()),
            gateway: Set(self.gateway.clone()),
            news: Set(rows::json(news)?),
        };
        let insert = Entity::insert(row).exec_without_returning(&self.database);
        insert.await.map(drop).map_err(explain)
    }

    /// Hears what the others tell from now on.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn reader(&self) -> Result<Reader, MemoryError> {
        Ok(Reader {
            settled: self.newest().await?,
            seen: BTreeMap::new(),
            feed: self.clone(),
        })
    }

    async fn newest(&self) -> Result<i64, MemoryError> {
        let newest = Entity::find().select_only().column_as(Column::Id.max(), "newest");
        let newest = newest.into_tuple::<Option<i64>>().one(&self.database).await;
        Ok(newest.map_err(explain)?.flatten().unwrap_or_default())
    }

    /// Throws away what is older than an hour; the newest stays, so that it can be told what was missed.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn prune(&self) -> Result<(), MemoryError> {
        let old = Entity::delete_many()
            .filter(Column::At.lt(self.clock.now_ms().saturating_sub(KEPT_MS)))
            .filter(Column::Id.lt(self.newest().await?));
        old.exec(&self.database).await.map(drop).map_err(explain)
    }
}

/// Hears what others tell.
pub struct Reader {
    feed: Feed,
    /// Nothing that was not seen will appear up to this id any more.
    settled: i64,
    /// What was seen after it, and when.
    seen: BTreeMap<i64, Instant>,
}

impl Reader {
    /// Where this reader's gateway tells.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// What the others told since the last call.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]; nothing is lost.
    pub async fn read(&mut self) -> Result<Heard, MemoryError> {
        let database = &self.feed.database;
        let ids = Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::Id.gt(self.settled))
            .order_by_asc(Column::Id)
            .into_tuple::<i64>();
        let ids = ids.all(database).await.map_err(explain)?;
        let missed = match ids.first() {
            Some(first) if *first > self.settled + 1 => self.is_behind().await?,
            _ => false,
        };
        let unseen: Vec<i64> = ids.into_iter().filter(|id| !self.seen.contains_key(id)).collect();
        let mut news = Vec::new();
        for ids in unseen.chunks(usize::try_from(AT_ONCE).unwrap_or(usize::MAX)) {
            let rows = Entity::find()
                .filter(Column::Id.is_in(ids.iter().copied()))
                .filter(Column::Gateway.ne(&self.feed.gateway))
                .order_by_asc(Column::Id);
            for row in rows.all(database).await.map_err(explain)? {
                let told = serde_json::from_str(&row.news);
                news.push(
                    told.map_err(|error| {
                        rows::damaged("change of the index", &row.id.to_string(), &error.to_string())
                    })?,
                );
            }
        }
        let now = Instant::now();
        self.seen.extend(unseen.into_iter().map(|id| (id, now)));
        while let Some(first) = self.seen.first_entry() {
            if now.duration_since(*first.get()) < SETTLES {
                break;
            }
            self.settled = first.remove_entry().0;
        }
        Ok(Heard { missed, news })
    }

    /// Whether something was thrown away that was not read. An id that was given out in vain looks the same, and is rare.
    async fn is_behind(&self) -> Result<bool, MemoryError> {
        let oldest = Entity::find().select_only().column_as(Column::Id.min(), "oldest");
        let oldest = oldest.into_tuple::<Option<i64>>().one(&self.feed.database).await;
        let oldest = oldest.map_err(explain)?.flatten();
        let read = self.seen.first_key_value().map_or(self.settled, |(first, _)| *first);
        Ok(self.settled > 0 && oldest.is_some_and(|oldest| oldest > read + 1))
    }
}
