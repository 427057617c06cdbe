//! Files that users keep: the bytes in a folder or an object store ([`bytes`]) under ids of ours, a card for each in the
//! small objects. What is read out of a file, and where it is searched, is the business of [`crate::vector_stores`].

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::MemoryError;
use crate::objects::{Object, Objects, Slice, list_where};
use crate::scope::Scope;

pub mod bytes;

pub use bytes::{Bytes, Pieces};

/// The kind of a file's card.
pub(crate) const KIND: &str = "file";

/// Files that a user may keep.
const MOST_FILES: u64 = 9_999;

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// `file-…`.
    pub id: String,
    /// Its name, without folders. Shown, never used as a path.
    pub name: String,
    /// What it is for, in OpenAI's words.
    pub purpose: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256, lowercase hex.
    pub sha256: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// When it is removed, in Unix milliseconds.
    pub expires_at: Option<i64>,
}

/// What a client says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its name, without folders.
    pub name: String,
    /// What it is for.
    pub purpose: String,
    /// How long it is kept, in milliseconds; for ever if unset.
    pub keep_ms: Option<i64>,
}

/// Keeps files.
pub struct Files {
    objects: Arc<dyn Objects>,
    clock: Arc<dyn Clock>,
    bytes: Bytes,
    /// Bytes that all files of a user may have together.
    quota: u64,
    /// When this process began, in Unix milliseconds.
    began: i64,
}

/// A file that is being received. Dropped before [`Files::keep`], it leaves nothing behind.
pub struct Incoming {
    id: String,
    writing: bytes::Writing,
    hash: Sha256,
    bytes: u64,
    room: u64,
    quota: u64,
}

impl Files {
    /// Files whose bytes are kept there. `quota` is in bytes, a user.
    #[must_use]
    pub fn new(objects: Arc<dyn Objects>, clock: Arc<dyn Clock>, bytes: Bytes, quota: u64) -> Self {
        Self {
            objects,
            bytes,
            quota,
            began: clock.now_ms(),
            clock,
        }
    }

    /// Makes ready for the bytes of a new file.
    ///
    /// # Errors
    /// [`MemoryError::TooLarge`] if the user has no room for more; [`MemoryError::Storage`].
    pub async fn receive(&self, scope: &Scope) -> Result<Incoming, MemoryError> {
        let cards = self.objects.list(scope, KIND, None, &Slice::all()).await?;
        if cards.len() as u64 >= MOST_FILES {
            let message =
                format!("there are {MOST_FILES} files already, which is all that one user may keep; delete some");
            return Err(MemoryError::TooLarge(message));
        }
        let taken: u64 = cards.iter().filter_map(card).map(|card| card.bytes).sum();
        let id = format!("file-{}", Uuid::now_v7().simple());
        Ok(Incoming {
            writing: self.bytes.write(scope, &id),
            id,
            hash: Sha256::new(),
            bytes: 0,
            room: self.quota.saturating_sub(taken),
            quota: self.quota,
        })
    }

    /// Keeps what was received; durable when it returns.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]; [`MemoryError::BadRequest`] if the file is empty.
    pub async fn keep(&self, scope: &Scope, incoming: Incoming, about: About) -> Result<Card, MemoryError> {
        let Incoming {
            id,
            writing,
            hash,
            bytes,
            ..
        } = incoming;
        if bytes == 0 {
            return Err(MemoryError::BadRequest(format!("{}: the file is empty", about.name)));
        }
        let now = self.clock.now_ms();
        let card = Card {
            id,
            name: about.name,
            purpose: about.purpose,
            bytes,
            sha256: hex::encode(hash.finalize()),
            created_at: now,
            expires_at: about.keep_ms.map(|keep| now.saturating_add(keep)),
        };
        // The bytes first: a card without them would be a promise that can't be kept, while bytes without a card are
        // found and removed at the next start.
        writing.finish().await?;
        if let Err(error) = self.objects.put(scope, vec![object(&card)?]).await {
            let _ = self.bytes.remove(scope, &card.id).await;
            return Err(error);
        }
        Ok(card)
    }

    /// A file's card.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Storage`].
    pub async fn get(&self, scope: &Scope, id: &str) -> Result<Card, MemoryError> {
        let found = self.objects.get(scope, KIND, id).await?;
        let unknown = || MemoryError::NotFound(format!("there is no file `{id}`; GET /v1/files lists them"));
        found.as_ref().and_then(card).ok_or_else(unknown)
    }

    /// Files, those for one purpose if it is named; and whether there are more.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]; [`MemoryError::BadRequest`] if the slice begins after an unknown file.
    pub async fn list(
        &self,
        scope: &Scope,
        purpose: Option<&str>,
        slice: &Slice,
    ) -> Result<(Vec<Card>, bool), MemoryError> {
        let fits = |object: &Object| purpose.is_none_or(|purpose| object.body["purpose"] == purpose);
        let (found, more) = list_where(&*self.objects, scope, KIND, None, slice, fits).await?;
        Ok((found.iter().filter_map(card).collect(), more))
    }

    /// Opens a file's bytes.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Storage`].
    pub async fn open(&self, scope: &Scope, id: &str) -> Result<(Card, Pieces), MemoryError> {
        let card = self.get(scope, id).await?;
        let pieces = self.bytes.pieces(scope, &card.id).await?;
        Ok((card, pieces))
    }

    /// All of a file's bytes.
    ///
    /// # Errors
    /// As [`Files::open`].
    pub async fn read(&self, scope: &Scope, id: &str) -> Result<(Card, Vec<u8>), MemoryError> {
        let card = self.get(scope, id).await?;
        let bytes = self.bytes.read(scope, &card.id).await?;
        Ok((card, bytes))
    }

    /// Removes a file: its card first, so that nobody is promised bytes that are gone. False if there is none.
    pub(crate) async fn delete(&self, scope: &Scope, id: &str) -> Result<bool, MemoryError> {
        let was = self.objects.delete(scope, KIND, id).await?;
        if was {
            self.remove_bytes(scope, id).await?;
        }
        Ok(was)
    }

    /// Removes the bytes of all of a user's files; their cards go with the user's objects.
    pub(crate) async fn erase(&self, scope: &Scope) -> Result<(), MemoryError> {
        self.bytes.erase(scope).await
    }

    /// Removes the bytes of a file whose card goes by itself.
    pub(crate) async fn remove_bytes(&self, scope: &Scope, id: &str) -> Result<(), MemoryError> {
        self.bytes.remove(scope, id).await
    }

    /// Removes what an earlier process left half done: bytes without a card.
    pub async fn tidy(&self) {
        if let Err(error) = self.try_tidy().await {
            tracing::warn!("left-over files could not be removed: {error}");
        }
    }

    async fn try_tidy(&self) -> Result<(), MemoryError> {
        self.bytes.tidy(self.began).await?;
        for (scope, ids) in self.bytes.older(self.began).await? {
            let cards = self.objects.list(&scope, KIND, None, &Slice::all()).await?;
            let known: HashSet<&str> = cards.iter().map(|card| card.id.as_str()).collect();
            for id in ids.iter().filter(|id| !known.contains(id.as_str())) {
                self.bytes.remove(&scope, id).await?;
            }
        }
        Ok(())
    }
}

impl Incoming {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`MemoryError::TooLarge`] if the user's files would become too large; [`MemoryError::Storage`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), MemoryError> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > self.room {
            let message = format!(
                "there is no room for this file: all files of a user may have {} bytes together (memory.file_quota); \
                 delete some with DELETE /v1/files/ID",
                self.quota
            );
            return Err(MemoryError::TooLarge(message));
        }
        self.hash.update(bytes);
        self.writing.add(bytes).await
    }
}

fn object(card: &Card) -> Result<Object, MemoryError> {
    Ok(Object {
        kind: KIND.to_owned(),
        id: card.id.clone(),
        parent: None,
        created_at: card.created_at,
        expires_at: card.expires_at,
        body: serde_json::to_value(card).map_err(|error| MemoryError::Storage(error.to_string()))?,
    })
}

fn card(object: &Object) -> Option<Card> {
    Card::deserialize(&object.body).ok()
}
