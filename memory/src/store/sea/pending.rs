//! What still has to be indexed: the one read without a scope.

use std::collections::HashMap;

use sea_orm::{ColumnTrait, DbErr, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect};

use super::database::Database;
use super::{BATCH, rows};
use crate::documents::Document;
use crate::error::MemoryError;
use crate::journal::{First, Pending};
use crate::store::entity::{chunk, document, turn};

/// A row of one of the two kinds; ids sort by time.
enum Row {
    Turn(Box<turn::Model>),
    Chunk(Box<chunk::Model>),
}

impl Row {
    fn id(&self) -> &str {
        match self {
            Self::Turn(row) => &row.id,
            Self::Chunk(row) => &row.id,
        }
    }
}

/// The first pending turns and chunks, in that order, at most `limit` of both together.
pub async fn read(db: &Database, limit: u64, first: First) -> Result<Vec<Pending>, MemoryError> {
    let explain = |error| db.explain(&error);
    let rows = first_rows(db, limit, first).await.map_err(explain)?;
    let before = parents(db, &rows).await.map_err(explain)?;
    let documents = documents(db, &rows).await.map_err(explain)?;
    let documents = documents
        .into_iter()
        .map(|row| Ok((row.id.clone(), rows::to_document(row)?)));
    let documents: HashMap<String, Document> = documents.collect::<Result<_, MemoryError>>()?;
    let mut pending = Vec::with_capacity(rows.len());
    for row in rows {
        match row {
            Row::Turn(row) => {
                // A parent of someone else is no parent: a client can't name one, but a neighbour's text must not
                // depend on that.
                let parent = row
                    .parent
                    .as_ref()
                    .and_then(|id| before.get(&(id.clone(), row.team.clone(), row.user.clone())));
                let before = parent.cloned();
                pending.push(Pending::Turn {
                    turn: Box::new(rows::to_turn(*row)?),
                    before,
                });
            }
            Row::Chunk(row) => {
                // Deleted between the two reads: nothing is left to index.
                let Some(document) = documents.get(&row.document) else {
                    continue;
                };
                let document = Box::new(document.clone());
                pending.push(Pending::Chunk {
                    document,
                    chunk: rows::to_chunk(*row)?,
                });
            }
        }
    }
    Ok(pending)
}

async fn first_rows(db: &Database, limit: u64, first: First) -> Result<Vec<Row>, DbErr> {
    let order = match first {
        First::Oldest => Order::Asc,
        First::Newest => Order::Desc,
    };
    let turns = turn::Entity::find()
        .filter(turn::Column::Pending.eq(true))
        .order_by(turn::Column::Id, order.clone());
    let chunks = chunk::Entity::find()
        .filter(chunk::Column::Pending.eq(true))
        .order_by(chunk::Column::Id, order);
    let turns = turns
        .limit(limit)
        .all(db)
        .await?
        .into_iter()
        .map(|row| Row::Turn(Box::new(row)));
    let chunks = chunks
        .limit(limit)
        .all(db)
        .await?
        .into_iter()
        .map(|row| Row::Chunk(Box::new(row)));
    let mut rows: Vec<Row> = turns.chain(chunks).collect();
    rows.sort_by(|a, b| a.id().cmp(b.id()));
    if first == First::Newest {
        rows.reverse();
    }
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(rows)
}

/// Prompt and reply of the turns before these, by id, team and user. Turns that are not to be recalled are left out:
/// their words must not lead to their neighbours.
async fn parents(db: &Database, rows: &[Row]) -> Result<HashMap<(String, String, String), (String, String)>, DbErr> {
    let ids: Vec<&str> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Turn(row) => row.parent.as_deref(),
            Row::Chunk(_) => None,
        })
        .collect();
    let mut parents = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(BATCH) {
        use turn::Column::{Id, Outcome, Prompt, Remember, Reply, Team, User};
        let found: Vec<(String, String, String, String, String)> = turn::Entity::find()
            .select_only()
            .columns([Id, Team, User, Prompt, Reply])
            .filter(Id.is_in(ids.iter().copied()))
            .filter(Remember.eq(true))
            .filter(Outcome.ne(turn::FAILED))
            .into_tuple()
            .all(db)
            .await?;
        parents.extend(
            found
                .into_iter()
                .map(|(id, team, user, prompt, reply)| ((id, team, user), (prompt, reply))),
        );
    }
    Ok(parents)
}

async fn documents(db: &Database, rows: &[Row]) -> Result<Vec<document::Model>, DbErr> {
    let mut ids: Vec<&str> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Chunk(row) => Some(row.document.as_str()),
            Row::Turn(_) => None,
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let mut documents = Vec::with_capacity(ids.len());
    for ids in ids.chunks(BATCH) {
        let wanted = document::Column::Id.is_in(ids.iter().copied());
        documents.extend(document::Entity::find().filter(wanted).all(db).await?);
    }
    Ok(documents)
}
