//! Small things that a user keeps and that are no turns and no documents: responses, conversations, files' cards,
//! vector stores. What a kind means, and what its body holds, is the business of whoever puts it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::error::MemoryError;
use crate::journal::Alone;
use crate::scope::Scope;

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// What it is, such as `response`; ids are unique within a kind of a user.
    pub kind: String,
    /// Its id; where it comes from a client, it is only ever seen in that client's scope.
    pub id: String,
    /// The object that it belongs to, where it belongs to one; it need not exist.
    pub parent: Option<String>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// From this time on it is not found any more; Unix milliseconds.
    pub expires_at: Option<i64>,
    /// Everything else.
    pub body: Value,
}

/// The order of a listing, by when objects were first put.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Oldest,
    /// Newest first.
    #[default]
    Newest,
}

/// A part of a listing. `after` and `before` are ids of objects of that listing, as they stand in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Only what comes after this one.
    pub after: Option<String>,
    /// Only what comes before this one.
    pub before: Option<String>,
    /// At most so many, 1 to [`Slice::MOST`].
    pub limit: u64,
    /// The listing's order.
    pub order: Order,
}

impl Slice {
    /// The longest slice.
    pub const MOST: u64 = 10_000;

    /// All that there are, up to [`Slice::MOST`], oldest first.
    #[must_use]
    pub fn all() -> Self {
        Self {
            after: None,
            before: None,
            limit: Self::MOST,
            order: Order::Oldest,
        }
    }
}

/// Keeps objects.
///
/// Laws:
/// 1. Everything is of the scope's team and user alone; the scope's conversation makes no difference. The same id may
///    exist in several scopes, each with an object of its own.
/// 2. `put` is durable when it returns, and writes all of its objects or none. An object with the kind and id of an
///    older one takes its place, also in listings.
/// 3. Listings are in the order of the first `put`; within one `put`, in the order given.
/// 4. What has expired is not found by any read but [`Objects::expired`], nor counted by deletions.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Writes objects.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if they could not be made durable; [`MemoryError::BadRequest`] if a kind or an id is
    /// empty.
    async fn put(&self, scope: &Scope, objects: Vec<Object>) -> Result<(), MemoryError>;

    /// One object.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn get(&self, scope: &Scope, kind: &str, id: &str) -> Result<Option<Object>, MemoryError>;

    /// The objects of a kind, or of those the children of `parent`.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]; [`MemoryError::BadRequest`] if there is no object `after` or `before` of this kind.
    async fn list(
        &self,
        scope: &Scope,
        kind: &str,
        parent: Option<&str>,
        slice: &Slice,
    ) -> Result<Vec<Object>, MemoryError>;

    /// Deletes an object, not its children; false if there is none.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn delete(&self, scope: &Scope, kind: &str, id: &str) -> Result<bool, MemoryError>;

    /// Deletes all objects of this kind that belong to `parent`; returns how many there were.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn delete_children(&self, scope: &Scope, kind: &str, parent: &str) -> Result<u64, MemoryError>;

    /// The kinds of which this user has something.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn kinds(&self, scope: &Scope) -> Result<Vec<String>, MemoryError>;

    /// Deletes everything of this user, of all kinds; returns how many objects there were.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn erase(&self, scope: &Scope) -> Result<u64, MemoryError>;

    /// What has expired and is still stored, longest expired first, at most `limit`: for the background sweeper, the
    /// one read without a scope, never shown to anyone. `delete` removes it.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn expired(&self, limit: u64) -> Result<Vec<(Scope, Object)>, MemoryError>;

    /// Waits until no other process changes objects by what it reads of them, and keeps them from it until what is given is
    /// dropped. Objects that no other process shares have nothing to wait for.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn alone(&self) -> Result<Alone, MemoryError> {
        Ok(Alone::default())
    }
}

/// Objects that are read at a time where only some of them are wanted.
const LOOK_BATCH: u64 = 500;

/// The objects of a kind that fit, as [`Objects::list`] orders them, at most `slice.limit`; and whether there are more.
///
/// # Errors
/// As [`Objects::list`].
pub async fn list_where(
    objects: &dyn Objects,
    scope: &Scope,
    kind: &str,
    parent: Option<&str>,
    slice: &Slice,
    fits: impl Fn(&Object) -> bool + Send,
) -> Result<(Vec<Object>, bool), MemoryError> {
    let wanted = usize::try_from(slice.limit).unwrap_or(usize::MAX);
    let (mut found, mut rest) = (Vec::new(), slice.clone());
    // One more than is wanted tells whether there are more.
    rest.limit = LOOK_BATCH.max(slice.limit.saturating_add(1)).min(Slice::MOST);
    loop {
        let batch = objects.list(scope, kind, parent, &rest).await?;
        let whole = batch.len() as u64 == rest.limit;
        rest.after = batch.last().map(|object| object.id.clone());
        found.extend(batch.into_iter().filter(&fits));
        if found.len() > wanted || !whole {
            break;
        }
    }
    let more = found.len() > wanted;
    found.truncate(wanted);
    Ok((found, more))
}

/// What goes with an object when it expires: bytes on the disk, entries of the index.
#[async_trait]
pub trait Expiry: Send + Sync {
    /// Removes what goes with this object, which is removed afterwards. It may be called again for the same object.
    ///
    /// # Errors
    /// [`MemoryError`]: the object stays, and its turn comes again.
    async fn expire(&self, scope: &Scope, object: &Object) -> Result<(), MemoryError>;
}

/// How often [`sweep`] looks: nobody finds what has expired, so only the disk waits for it.
const SWEEP_EVERY: Duration = Duration::from_mins(10);

/// Objects that are removed at a time.
const SWEEP_BATCH: u64 = 256;

/// Removes what has expired and what goes with it, at once and then every ten minutes, until `stop`.
pub async fn sweep(objects: Arc<dyn Objects>, expiry: Arc<dyn Expiry>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = sweep_once(&*objects, &*expiry).await {
            tracing::warn!("what has expired could not be removed: {error}");
        }
    }
}

/// Removes what has expired by now.
///
/// # Errors
/// [`MemoryError`]; what is left is found by the next sweep.
pub async fn sweep_once(objects: &dyn Objects, expiry: &dyn Expiry) -> Result<(), MemoryError> {
    loop {
        let expired = objects.expired(SWEEP_BATCH).await?;
        let whole = expired.len() as u64 == SWEEP_BATCH;
        for (scope, object) in expired {
            expiry.expire(&scope, &object).await?;
            objects.delete(&scope, &object.kind, &object.id).await?;
        }
        if !whole {
            return Ok(());
        }
    }
}
