//! Files of a store: how they come in, what is known of them, and how they go.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::batch::Batch;
use super::{Counts, FILE, LINK, MOST_FILES, VectorStores, body, read};
use crate::documents::{self, Cut, Section, USUAL_CUT};
use crate::error::MemoryError;
use crate::index::Removal;
use crate::objects::{Object, Slice, list_where};
use crate::scope::Scope;

/// How long a request waits for files to be read before it says that they are in progress: small ones are ready by
/// then, and clients need not ask again.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is being read and indexed.
    InProgress,
    /// It can be searched.
    Completed,
    /// It could not be read.
    Failed,
    /// It was stopped before it was read.
    Cancelled,
}

/// Why a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// `invalid_file` or `server_error`.
    pub code: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// A file in a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// The store's id.
    pub store: String,
    /// The file's id.
    pub file: String,
    /// The file's name.
    pub name: String,
    /// The document of its chunks.
    pub document: Uuid,
    /// How far it has come.
    pub status: Status,
    /// Why it failed.
    pub trouble: Option<Trouble>,
    /// What filters go by.
    pub attributes: Map<String, Value>,
    /// How it is cut.
    pub cut: Cut,
    /// Bytes of its text.
    pub usage_bytes: u64,
    /// Unix milliseconds.
    pub created_at: i64,
    /// The batch that it came with.
    pub batch: Option<String>,
}

/// A file that is to go into a store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewFile {
    /// The file's id.
    pub file: String,
    /// What filters go by.
    pub attributes: Map<String, Value>,
    /// How to cut it; as usual if unset.
    pub cut: Option<Cut>,
}

impl Attached {
    /// The id of its object: a file may be in several stores.
    pub(super) fn key(&self) -> String {
        key(&self.store, &self.file)
    }

    pub(super) fn objects(&self) -> Result<[Object; 2], MemoryError> {
        let link = json!({"store": self.store, "file": self.file});
        let object = |kind: &str, id: String, parent: &str, body: Value| Object {
            kind: kind.to_owned(),
            id,
            parent: Some(parent.to_owned()),
            created_at: self.created_at,
            expires_at: None,
            body,
        };
        Ok([
            object(FILE, self.key(), &self.store, body(self)?),
            object(LINK, self.document.to_string(), &self.file, link),
        ])
    }
}

fn key(store: &str, file: &str) -> String {
    format!("{store}/{file}")
}

/// Where a document is from.
#[derive(Debug, Clone, Deserialize)]
struct Link {
    store: String,
    file: String,
}

impl VectorStores {
    /// Puts files into a store, in place of what it had of them, and begins to read them. Waits a moment for that: what
    /// it returns says how far they have come.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`] if there is no such store or file; [`MemoryError::TooLarge`] if the store is full;
    /// [`MemoryError::Storage`]. None of the files is in the store then.
    pub async fn attach(&self, scope: &Scope, store: &str, files: Vec<NewFile>) -> Result<Vec<Attached>, MemoryError> {
        self.attach_as(scope, store, files, None).await
    }

    pub(super) async fn attach_as(
        &self,
        scope: &Scope,
        store: &str,
        files: Vec<NewFile>,
        batch: Option<&Batch>,
    ) -> Result<Vec<Attached>, MemoryError> {
        self.touch(scope, store).await?;
        let now = self.parts().clock.now_ms();
        let (mut seen, mut coming) = (HashSet::new(), Vec::with_capacity(files.len()));
        for NewFile { file, attributes, cut } in files {
            if !seen.insert(file.clone()) {
                continue;
            }
            let card = self.files().get(scope, &file).await?;
            coming.push(Attached {
                store: store.to_owned(),
                file,
                name: card.name,
                document: Uuid::now_v7(),
                status: Status::InProgress,
                trouble: None,
                attributes,
                cut: cut.unwrap_or(USUAL_CUT),
                usage_bytes: 0,
                created_at: now,
                batch: batch.map(|batch| batch.id.clone()),
            });
        }
        {
            let _changes = self.changing().await?;
            let (known, others): (Vec<_>, Vec<_>) = self
                .all_attached(scope, store)
                .await?
                .into_iter()
                .partition(|attached| seen.contains(&attached.file));
            if others.len() + coming.len() > MOST_FILES {
                let message = format!("a vector store may have {MOST_FILES} files; make another one");
                return Err(MemoryError::TooLarge(message));
            }
            self.remove_documents(scope, store, &known).await?;
            let mut objects = Vec::with_capacity(2 * coming.len() + 1);
            if let Some(batch) = batch {
                objects.push(batch.object()?);
            }
            for attached in &coming {
                objects.extend(attached.objects()?);
            }
            self.parts().objects.put(scope, objects).await?;
        }
        let jobs: Vec<_> = coming
            .iter()
            .filter_map(|attached| self.begin(scope, attached))
            .collect();
        let _ = tokio::time::timeout(PATIENCE, futures::future::join_all(jobs)).await;
        let mut come = Vec::with_capacity(coming.len());
        for attached in coming {
            come.push(self.try_attached(scope, &attached.key()).await?.unwrap_or(attached));
        }
        Ok(come)
    }

    /// A file of a store.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Storage`].
    pub async fn attached(&self, scope: &Scope, store: &str, file: &str) -> Result<Attached, MemoryError> {
        self.store(scope, store).await?;
        let found = self.try_attached(scope, &key(store, file)).await?;
        let unknown = || {
            MemoryError::NotFound(format!(
                "there is no file `{file}` in the vector store `{store}`; GET /v1/vector_stores/{store}/files lists them"
            ))
        };
        let attached = found.ok_or_else(unknown)?;
        self.begin(scope, &attached);
        Ok(attached)
    }

    pub(super) async fn try_attached(&self, scope: &Scope, key: &str) -> Result<Option<Attached>, MemoryError> {
        let found = self.parts().objects.get(scope, FILE, key).await?;
        found.map(read).transpose()
    }

    /// The files of a store, or of one of its batches, those with one status if it is named; and whether there are more.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Storage`]; [`MemoryError::BadRequest`] if the slice begins or ends at
    /// an unknown file.
    pub async fn attached_files(
        &self,
        scope: &Scope,
        store: &str,
        batch: Option<&str>,
        status: Option<Status>,
        slice: &Slice,
    ) -> Result<(Vec<Attached>, bool), MemoryError> {
        self.store(scope, store).await?;
        let place = |id: &Option<String>| id.as_ref().map(|id| key(store, id));
        let slice = Slice {
            after: place(&slice.after),
            before: place(&slice.before),
            ..slice.clone()
        };
        let status = status.map(|status| body(&status)).transpose()?;
        let fits = |object: &Object| {
            status.as_ref().is_none_or(|status| object.body["status"] == *status)
                && batch.is_none_or(|batch| object.body["batch"] == batch)
        };
        let (found, more) = list_where(&*self.parts().objects, scope, FILE, Some(store), &slice, fits).await?;
        let found: Vec<Attached> = found.into_iter().map(read).collect::<Result<_, _>>()?;
        for attached in &found {
            self.begin(scope, attached);
        }
        Ok((found, more))
    }

    /// All files of a store.
    pub(super) async fn all_attached(&self, scope: &Scope, store: &str) -> Result<Vec<Attached>, MemoryError> {
        let found = self
            .parts()
            .objects
            .list(scope, FILE, Some(store), &Slice::all())
            .await?;
        found.into_iter().map(read).collect()
    }

    /// How many files of a store, or of one of its batches, are in which state. Takes up again what an earlier process
    /// left unread.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    pub async fn counts(&self, scope: &Scope, store: &str, batch: Option<&str>) -> Result<Counts, MemoryError> {
        let mut counts = Counts::default();
        for attached in self.all_attached(scope, store).await? {
            if batch.is_some_and(|batch| attached.batch.as_deref() != Some(batch)) {
                continue;
            }
            self.begin(scope, &attached);
            counts.total += 1;
            counts.usage_bytes += attached.usage_bytes;
            match attached.status {
                Status::InProgress => counts.in_progress += 1,
                Status::Completed => counts.completed += 1,
                Status::Failed => counts.failed += 1,
                Status::Cancelled => counts.cancelled += 1,
            }
        }
        Ok(counts)
    }

    /// Changes what filters go by.
    ///
    /// # Errors
    /// As [`VectorStores::attached`].
    pub async fn set_attributes(
        &self,
        scope: &Scope,
        store: &str,
        file: &str,
        attributes: Map<String, Value>,
    ) -> Result<Attached, MemoryError> {
        let _changes = self.changing().await?;
        let mut attached = self.attached(scope, store, file).await?;
        attached.attributes = attributes;
        self.put_attached(scope, &attached).await?;
        Ok(attached)
    }

    pub(super) async fn put_attached(&self, scope: &Scope, attached: &Attached) -> Result<(), MemoryError> {
        self.parts().objects.put(scope, attached.objects()?.into()).await
    }

    /// Takes a file out of a store; the file itself stays.
    ///
    /// # Errors
    /// As [`VectorStores::attached`].
    pub async fn detach(&self, scope: &Scope, store: &str, file: &str) -> Result<(), MemoryError> {
        let _changes = self.changing().await?;
        let attached = self.attached(scope, store, file).await?;
        self.remove_attached(scope, &attached).await
    }

    pub(super) async fn detach_everywhere(&self, scope: &Scope, file: &str) -> Result<(), MemoryError> {
        let _changes = self.changing().await?;
        let links = self
            .parts()
            .objects
            .list(scope, LINK, Some(file), &Slice::all())
            .await?;
        for link in links {
            let Link { store, file } = read(link)?;
            if let Some(attached) = self.try_attached(scope, &key(&store, &file)).await? {
                self.remove_attached(scope, &attached).await?;
            }
        }
        Ok(())
    }

    async fn remove_attached(&self, scope: &Scope, attached: &Attached) -> Result<(), MemoryError> {
        self.remove_documents(scope, &attached.store, std::slice::from_ref(attached))
            .await?;
        self.parts().objects.delete(scope, FILE, &attached.key()).await?;
        Ok(())
    }

    /// Removes the chunks of these files of a store, the journal first: its word counts, whatever the index still finds.
    pub(super) async fn remove_documents(
        &self,
        scope: &Scope,
        store: &str,
        files: &[Attached],
    ) -> Result<(), MemoryError> {
        if files.is_empty() {
            return Ok(());
        }
        let inside = scope.in_store(store);
        for Attached { document, .. } in files {
            self.parts().journal.delete_document(&inside, *document).await?;
            self.parts().objects.delete(scope, LINK, &document.to_string()).await?;
        }
        let removal = Removal::Parents {
            team: scope.team().to_owned(),
            parents: files.iter().map(|attached| attached.document).collect(),
        };
        self.parts().index.remove(removal).await
    }

    /// The file and its store that a document is of.
    pub(super) async fn origin(&self, scope: &Scope, document: Uuid) -> Result<Option<Attached>, MemoryError> {
        let link = self.parts().objects.get(scope, LINK, &document.to_string()).await?;
        let Some(Link { store, file }) = link.map(read).transpose()? else {
            return Ok(None);
        };
        self.try_attached(scope, &key(&store, &file)).await
    }

    /// The text of a file of a store, in its sections.
    ///
    /// # Errors
    /// As [`VectorStores::attached`]; [`MemoryError::UnreadableDocument`].
    pub async fn content(
        &self,
        scope: &Scope,
        store: &str,
        file: &str,
    ) -> Result<(Attached, Vec<Section>), MemoryError> {
        let attached = self.attached(scope, store, file).await?;
        let (card, bytes) = self.files().read(scope, file).await?;
        let (extracted, _) = documents::read(&card.name, bytes, attached.cut).await?;
        Ok((attached, extracted.sections))
    }
}
