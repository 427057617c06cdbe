//! Files that users keep: the bytes on the disk under ids of ours, a card for each in the small objects. What is read
//! out of a file, and where it is searched, is the business of [`crate::vector_stores`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::MemoryError;
use crate::objects::{Object, Objects, Slice, list_where};
use crate::scope::Scope;

/// The kind of a file's card.
pub(crate) const KIND: &str = "file";

/// The ending of a file that is still being written.
const PART: &str = "part";

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
    dir: PathBuf,
    /// Bytes that all files of a user may have together.
    quota: u64,
    /// When this process began, in Unix milliseconds.
    began: i64,
}

/// A file that is being received. Dropped before [`Files::keep`], it leaves nothing behind.
pub struct Incoming {
    file: tokio::fs::File,
    part: Part,
    hash: Sha256,
    bytes: u64,
    room: u64,
    quota: u64,
}

/// A half-written file; gone when this is.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // Once it was moved to its place, there is nothing here any more.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Files {
    /// Files in this folder, which is made when the first one comes. `quota` is in bytes, a user.
    #[must_use]
    pub fn new(objects: Arc<dyn Objects>, clock: Arc<dyn Clock>, dir: PathBuf, quota: u64) -> Self {
        Self {
            objects,
            dir,
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
        let folder = self.folder(scope);
        let part = Part(folder.join(format!("{}.{PART}", Uuid::now_v7().simple())));
        let made = async {
            make_folder(&folder).await?;
            tokio::fs::File::create_new(&part.0).await
        };
        let file = made.await.map_err(|error| trouble("written", &part.0, &error))?;
        Ok(Incoming {
            file,
            part,
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
            file,
            part,
            hash,
            bytes,
            ..
        } = incoming;
        if bytes == 0 {
            return Err(MemoryError::BadRequest(format!("{}: the file is empty", about.name)));
        }
        let now = self.clock.now_ms();
        let card = Card {
            id: format!("file-{}", Uuid::now_v7().simple()),
            name: about.name,
            purpose: about.purpose,
            bytes,
            sha256: hex::encode(hash.finalize()),
            created_at: now,
            expires_at: about.keep_ms.map(|keep| now.saturating_add(keep)),
        };
        let place = self.path(scope, &card.id);
        // The bytes first: a card without them would be a promise that can't be kept, while bytes without a card are
        // found and removed at the next start.
        let moved = async {
            file.sync_all().await?;
            drop(file);
            tokio::fs::rename(&part.0, &place).await?;
            tokio::fs::File::open(self.folder(scope)).await?.sync_all().await
        };
        moved.await.map_err(|error| trouble("written", &place, &error))?;
        if let Err(error) = self.objects.put(scope, vec![object(&card)?]).await {
            let _ = tokio::fs::remove_file(&place).await;
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
    pub async fn open(&self, scope: &Scope, id: &str) -> Result<(Card, tokio::fs::File), MemoryError> {
        let card = self.get(scope, id).await?;
        let path = self.path(scope, &card.id);
        let file = tokio::fs::File::open(&path).await;
        Ok((card, file.map_err(|error| trouble("read", &path, &error))?))
    }

    /// All of a file's bytes.
    ///
    /// # Errors
    /// As [`Files::open`].
    pub async fn read(&self, scope: &Scope, id: &str) -> Result<(Card, Vec<u8>), MemoryError> {
        let card = self.get(scope, id).await?;
        let path = self.path(scope, &card.id);
        let bytes = tokio::fs::read(&path).await;
        Ok((card, bytes.map_err(|error| trouble("read", &path, &error))?))
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
        let folder = self.folder(scope);
        match tokio::fs::remove_dir_all(&folder).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(trouble("removed", &folder, &error)),
            _ => Ok(()),
        }
    }

    /// Removes the bytes of a file whose card goes by itself.
    pub(crate) async fn remove_bytes(&self, scope: &Scope, id: &str) -> Result<(), MemoryError> {
        let path = self.path(scope, id);
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(trouble("removed", &path, &error)),
            _ => Ok(()),
        }
    }

    /// Removes what an earlier process left half done: bytes without a card.
    pub async fn tidy(&self) {
        if let Err(error) = self.try_tidy().await {
            tracing::warn!(
                "left-over files in {} could not be removed: {error}",
                self.dir.display()
            );
        }
    }

    async fn try_tidy(&self) -> std::io::Result<()> {
        for (team, team_folder) in folders(&self.dir, "team-").await? {
            for (user, folder) in folders(&team_folder, "user-").await? {
                let Ok(scope) = Scope::new(team.as_str(), user) else {
                    continue;
                };
                let mut entries = tokio::fs::read_dir(&folder).await?;
                while let Some(entry) = entries.next_entry().await? {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    // What this process is writing now is not left over.
                    if entry.metadata().await.is_ok_and(|file| self.is_ours(&file)) {
                        continue;
                    }
                    let half = Path::new(&name).extension().is_some_and(|ending| ending == PART);
                    let orphan = half || matches!(self.objects.get(&scope, KIND, &name).await, Ok(None));
                    if orphan {
                        tokio::fs::remove_file(entry.path()).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_ours(&self, file: &std::fs::Metadata) -> bool {
        let written = file.modified().ok().and_then(|at| jiff::Timestamp::try_from(at).ok());
        written.is_some_and(|at| at.as_millisecond() >= self.began)
    }

    /// Names of teams and users may be `..`; after a prefix they are only names.
    fn folder(&self, scope: &Scope) -> PathBuf {
        self.dir
            .join(format!("team-{}", scope.team()))
            .join(format!("user-{}", scope.user()))
    }

    /// `id` is that of a card, and so one of ours.
    fn path(&self, scope: &Scope, id: &str) -> PathBuf {
        self.folder(scope).join(id)
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
        let written = self.file.write_all(bytes).await;
        written.map_err(|error| trouble("written", &self.part.0, &error))
    }
}

async fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = tokio::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(0o700);
    builder.create(folder).await
}

/// The folders in this one whose names have this prefix, by the rest of their names.
async fn folders(dir: &Path, prefix: &str) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut entries = match tokio::fs::read_dir(dir).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name();
        if let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(prefix)) {
            found.push((rest.to_owned(), entry.path()));
        }
    }
    Ok(found)
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

fn trouble(doing: &str, path: &Path, error: &std::io::Error) -> MemoryError {
    MemoryError::Storage(format!(
        "the file {} can't be {doing}: {error}; look for free space and write permission there",
        path.display()
    ))
}
