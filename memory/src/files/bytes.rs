//! [`Bytes`]: where the bytes of files are kept, a folder or an object store; one way of using either. A file is there whole
//! or not at all, under a name that its user's scope and its id make. Whether it should be there is said by its card.

use std::collections::HashMap;
use std::path::{Path as Folder, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::io::AsyncWriteExt;

use crate::error::MemoryError;
use crate::scope::Scope;
use crate::store::depot::Depot;

/// What is sent at a time; a file that is no larger is sent at once. Object stores want parts of 5 MiB at least.
const PART: usize = 8 * 1024 * 1024;

/// Parts of a file on their way at the same time; with the one that is being filled, what an upload takes in memory.
const UNDER_WAY: usize = 2;

/// Bytes of files in an object store are left over only when they are so old: another gateway may just be writing their card.
const SETTLES: Duration = Duration::from_hours(1);

/// The ending of a file that an earlier version was still writing.
const HALF: &str = "part";

/// The bytes of one file, piece by piece.
pub type Pieces = BoxStream<'static, std::io::Result<Vec<u8>>>;

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Bytes {
    store: Arc<dyn ObjectStore>,
    depot: Depot,
}

impl Bytes {
    /// The bytes in this place; a folder is made (private to its owner) if there is none.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if it can't be made, or there is no such object store.
    pub async fn open(depot: impl Into<Depot>) -> Result<Self, MemoryError> {
        let depot = depot.into();
        let store = match &depot {
            Depot::Bucket(bucket) => bucket.store().await?,
            Depot::Folder(folder) => {
                let made = make_folder(folder).await;
                made.map_err(|error| cannot(&depot, "opened", folder.display(), &error))?;
                let store = LocalFileSystem::new_with_prefix(folder);
                let store = store.map_err(|error| cannot(&depot, "opened", folder.display(), &error))?;
                // What was kept is on the disk, and of who is erased not even the folder's name stays.
                Arc::new(store.with_fsync(true).with_automatic_cleanup(true))
            }
        };
        Ok(Self { store, depot })
    }

    /// Begins a new file, of which nothing is there until [`Writing::finish`].
    #[must_use]
    pub fn write(&self, scope: &Scope, id: &str) -> Writing {
        let writer = BufWriter::with_capacity(Arc::clone(&self.store), path(scope, id), PART);
        Writing {
            id: id.to_owned(),
            depot: self.depot.clone(),
            writer: Some(writer.with_max_concurrency(UNDER_WAY)),
        }
    }

    /// A file's bytes, piece by piece.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn pieces(&self, scope: &Scope, id: &str) -> Result<Pieces, MemoryError> {
        let found = self.store.get(&path(scope, id)).await;
        let found = found.map_err(|error| cannot(&self.depot, "read", id, &error))?;
        let pieces = found.into_stream().map_ok(|piece| piece.to_vec());
        Ok(pieces.map_err(std::io::Error::other).boxed())
    }

    /// All of a file's bytes.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn read(&self, scope: &Scope, id: &str) -> Result<Vec<u8>, MemoryError> {
        let read = async { self.store.get(&path(scope, id)).await?.bytes().await };
        let bytes = read.await.map_err(|error| cannot(&self.depot, "read", id, &error))?;
        Ok(bytes.to_vec())
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn remove(&self, scope: &Scope, id: &str) -> Result<(), MemoryError> {
        match self.store.delete(&path(scope, id)).await {
            Err(error) if !matches!(error, object_store::Error::NotFound { .. }) => {
                Err(cannot(&self.depot, "removed", id, &error))
            }
            _ => Ok(()),
        }
    }

    /// Removes all files of a user, half-written ones too.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn erase(&self, scope: &Scope) -> Result<(), MemoryError> {
        let failed = |error: &dyn std::fmt::Display| cannot(&self.depot, "removed", "of a user", error);
        match &self.depot {
            Depot::Folder(folder) => match tokio::fs::remove_dir_all(user_folder(folder, scope)).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(&error)),
                _ => Ok(()),
            },
            Depot::Bucket(_) => {
                let all = self.store.list(Some(&user(scope))).map_ok(|file| file.location);
                let removed: Result<Vec<Path>, _> = self.store.delete_stream(all.boxed()).try_collect().await;
                removed.map(drop).map_err(|error| failed(&error))
            }
        }
    }

    /// Files that were written before this time (Unix milliseconds), by whose they are.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub(super) async fn older(&self, than: i64) -> Result<HashMap<Scope, Vec<String>>, MemoryError> {
        let than = match self.depot {
            Depot::Folder(_) => than,
            Depot::Bucket(_) => than.saturating_sub(i64::try_from(SETTLES.as_millis()).unwrap_or(i64::MAX)),
        };
        let mut found: HashMap<Scope, Vec<String>> = HashMap::new();
        let mut files = self.store.list(None);
        while let Some(file) = files.next().await {
            let file = file.map_err(|error| cannot(&self.depot, "listed", "s of all users", &error))?;
            if let Some((scope, id)) = owner(&file.location)
                && file.last_modified.timestamp_millis() < than
            {
                found.entry(scope).or_default().push(id);
            }
        }
        Ok(found)
    }

    /// Removes what an earlier process had half written in a folder; an object store shows no half-written files.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub(super) async fn tidy(&self, began: i64) -> Result<(), MemoryError> {
        let Depot::Folder(folder) = &self.depot else {
            return Ok(());
        };
        let tidied = remove_half_written(folder, began).await;
        tidied.map_err(|error| cannot(&self.depot, "removed", folder.display(), &error))
    }
}

/// A file that is being written. Dropped before it is finished, it leaves nothing behind.
pub struct Writing {
    id: String,
    depot: Depot,
    /// Gone once it is finished.
    writer: Option<BufWriter>,
}

impl Writing {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn add(&mut self, bytes: &[u8]) -> Result<(), MemoryError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let written = writer.write_all(bytes).await;
        written.map_err(|error| cannot(&self.depot, "written", &self.id, &error))
    }

    /// The file is there, whole and durable, when this returns.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]; nothing of it is there.
    pub async fn finish(mut self) -> Result<(), MemoryError> {
        let Some(mut writer) = self.writer.take() else {
            return Ok(());
        };
        let finished = writer.shutdown().await;
        finished.map_err(|error| cannot(&self.depot, "written", &self.id, &error))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let (Some(mut writer), Ok(runtime)) = (self.writer.take(), tokio::runtime::Handle::try_current()) {
            // Parts that were sent would be paid for, unseen, until somebody takes them back.
            runtime.spawn(async move {
                if let Err(error) = writer.abort().await {
                    tracing::warn!("parts of a file that was not kept could not be removed: {error}");
                }
            });
        }
    }
}

/// Where a user's files are. Names of teams and users may be `..`; after a prefix they are only names.
fn user(scope: &Scope) -> Path {
    Path::from_iter([format!("team-{}", scope.team()), format!("user-{}", scope.user())])
}

fn user_folder(folder: &Folder, scope: &Scope) -> PathBuf {
    let parts = user(scope);
    parts
        .parts()
        .fold(folder.to_owned(), |folder, part| folder.join(part.as_ref()))
}

/// `id` is that of a card, and so one of ours; whatever it is, it names nothing outside of the user's place.
fn path(scope: &Scope, id: &str) -> Path {
    user(scope).join(id)
}

/// Whose file it is, and its id.
fn owner(path: &Path) -> Option<(Scope, String)> {
    let parts: Vec<String> = path.parts().map(|part| part.as_ref().to_owned()).collect();
    let [team, user, id] = parts.as_slice() else {
        return None;
    };
    let scope = Scope::new(team.strip_prefix("team-")?, user.strip_prefix("user-")?).ok()?;
    Some((scope, id.clone()))
}

async fn make_folder(folder: &Folder) -> std::io::Result<()> {
    let mut builder = tokio::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(0o700);
    builder.create(folder).await
}

/// A file that is being written has a number after its name; what this process writes now is younger than it is.
async fn remove_half_written(folder: &Folder, began: i64) -> std::io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut entries = tokio::fs::read_dir(&folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            let about = entry.metadata().await?;
            if about.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let half = name.contains('#') || Folder::new(&name).extension().is_some_and(|ending| ending == HALF);
            let written = about.modified().ok().and_then(|at| jiff::Timestamp::try_from(at).ok());
            if half && written.is_some_and(|at| at.as_millisecond() < began) {
                tokio::fs::remove_file(entry.path()).await?;
            }
        }
    }
    Ok(())
}

fn cannot(
    depot: &Depot,
    doing: &str,
    what: impl std::fmt::Display,
    error: &(impl std::fmt::Display + ?Sized),
) -> MemoryError {
    let advice = match depot {
        Depot::Folder(_) => "look for free space and write permission there",
        Depot::Bucket(_) => "look whether the object store can be reached and this gateway may write there",
    };
    MemoryError::Storage(format!(
        "the file {what} in {depot} can't be {doing}: {error}; {advice}"
    ))
}
