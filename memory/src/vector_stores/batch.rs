//! Batches: files that came into a store together, known together, and stopped together.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::attach::{NewFile, Status};
use super::{BATCH, Counts, VectorStores, body, read};
use crate::error::MemoryError;
use crate::objects::Object;
use crate::scope::Scope;

/// Files that came together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// `vsfb_…`.
    pub id: String,
    /// The store's id.
    pub store: String,
    /// Whether it was stopped before all files were read.
    pub cancelled: bool,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// How far a batch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// Files are being read.
    InProgress,
    /// All were read, or could not be.
    Completed,
    /// It was stopped.
    Cancelled,
}

impl Batch {
    /// How far it has come, by the state of its files.
    #[must_use]
    pub fn status(&self, counts: &Counts) -> BatchStatus {
        match (self.cancelled, counts.in_progress) {
            (true, _) => BatchStatus::Cancelled,
            (false, 0) => BatchStatus::Completed,
            (false, _) => BatchStatus::InProgress,
        }
    }

    pub(super) fn object(&self) -> Result<Object, MemoryError> {
        Ok(Object {
            kind: BATCH.to_owned(),
            id: self.id.clone(),
            parent: Some(self.store.clone()),
            created_at: self.created_at,
            expires_at: None,
            body: body(self)?,
        })
    }
}

impl VectorStores {
    /// Puts files into a store, as one batch.
    ///
    /// # Errors
    /// As [`VectorStores::attach`].
    pub async fn create_batch(&self, scope: &Scope, store: &str, files: Vec<NewFile>) -> Result<Batch, MemoryError> {
        let batch = Batch {
            id: format!("vsfb_{}", Uuid::now_v7().simple()),
            store: store.to_owned(),
            cancelled: false,
            created_at: self.parts().clock.now_ms(),
        };
        self.attach_as(scope, store, files, Some(&batch)).await?;
        Ok(batch)
    }

    /// A batch.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Storage`].
    pub async fn batch(&self, scope: &Scope, store: &str, id: &str) -> Result<Batch, MemoryError> {
        self.store(scope, store).await?;
        let found = self.parts().objects.get(scope, BATCH, id).await?;
        let found: Option<Batch> = found.map(read).transpose()?;
        let unknown = || MemoryError::NotFound(format!("there is no file batch `{id}` of the vector store `{store}`"));
        found.filter(|batch| batch.store == store).ok_or_else(unknown)
    }

    /// Stops what is still to be read of a batch.
    ///
    /// # Errors
    /// As [`VectorStores::batch`].
    pub async fn cancel_batch(&self, scope: &Scope, store: &str, id: &str) -> Result<Batch, MemoryError> {
        let _changes = self.changing().await?;
        let mut batch = self.batch(scope, store, id).await?;
        let mut stopped = Vec::new();
        for attached in self.all_attached(scope, store).await? {
            if attached.batch.as_deref() == Some(id) && attached.status == Status::InProgress {
                stopped.push(attached);
            }
        }
        if stopped.is_empty() {
            return Ok(batch);
        }
        self.remove_documents(scope, store, &stopped).await?;
        batch.cancelled = true;
        let mut objects = vec![batch.object()?];
        for mut attached in stopped {
            attached.status = Status::Cancelled;
            objects.extend(attached.objects()?);
        }
        self.parts().objects.put(scope, objects).await?;
        Ok(batch)
    }
}
