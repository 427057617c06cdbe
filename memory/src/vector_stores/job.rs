//! The work of reading a file into a store: extract, cut, journal, wait for the index. It may be done again from the
//! start at any time, and finds out by itself that its file was taken out or stopped meanwhile.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::VectorStores;
use super::attach::{Attached, Status, Trouble};
use crate::documents::{self, Document, Place};
use crate::error::MemoryError;
use crate::scope::Scope;

/// How long one wait for the indexer is; then the file is looked at again, which may be gone by now.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What has become of a file when its work ends.
enum End {
    /// It can be searched; bytes of its text.
    Ready(u64),
    /// It was taken out of the store, or stopped.
    Gone,
}

impl VectorStores {
    /// Begins to read a file that is in progress, unless someone is at it already.
    pub(super) fn begin(&self, scope: &Scope, attached: &Attached) -> Option<JoinHandle<()>> {
        if attached.status != Status::InProgress {
            return None;
        }
        // By the document: a file that is put in again is new work, whatever the old is doing.
        let name = (
            scope.team().to_owned(),
            scope.user().to_owned(),
            attached.document.to_string(),
        );
        if !self.running().insert(name.clone()) {
            return None;
        }
        let (stores, scope, attached) = (self.clone(), scope.clone(), attached.clone());
        let stop = self.parts().stop.clone();
        let work = async move {
            // Cut off, it stays in progress, and is begun again when someone asks for it.
            let _ = stop.run_until_cancelled(stores.work(&scope, &attached)).await;
            stores.running().remove(&name);
        };
        Some(self.parts().tasks.spawn(work))
    }

    /// Goes on with what an earlier process left unread of a store: who searches it need not know of that.
    pub(super) async fn take_up(&self, scope: &Scope, store: &str) -> Result<(), MemoryError> {
        let name = (scope.team().to_owned(), scope.user().to_owned(), store.to_owned());
        let known = || self.inner.taken_up.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(&name) {
            return Ok(());
        }
        for attached in self.all_attached(scope, store).await? {
            self.begin(scope, &attached);
        }
        known().insert(name);
        Ok(())
    }

    async fn work(&self, scope: &Scope, attached: &Attached) {
        let end = self.read_in(scope, attached).await;
        if let Err(error) = self.finish(scope, attached, end).await {
            tracing::warn!(
                store = attached.store,
                "a file of a vector store stays in progress, and is read again later: {error}"
            );
        }
    }

    async fn read_in(&self, scope: &Scope, attached: &Attached) -> Result<End, MemoryError> {
        let parts = self.parts();
        let inside = scope.in_store(&attached.store);
        let Ok(place) = self.inner.readers.acquire().await else {
            return Ok(End::Gone);
        };
        if !self.is_wanted(scope, attached).await? {
            return Ok(End::Gone);
        }
        let (card, bytes) = self.files().read(scope, &attached.file).await?;
        let (extracted, chunks) = documents::read(&card.name, bytes, attached.cut).await?;
        drop(place);
        let text = chunks.iter().map(|chunk| chunk.text.len() as u64).sum();
        let document = Document {
            id: attached.document,
            scope: inside.clone(),
            place: Place::Store,
            name: card.name,
            media_type: extracted.media_type,
            bytes: card.bytes,
            sha256: card.sha256,
            chunks: 0,
            ingested_at: parts.clock.now_ms(),
        };
        {
            // Nobody takes the file out between the look and the write.
            let _changes = self.changing().await?;
            if !self.is_wanted(scope, attached).await? {
                return Ok(End::Gone);
            }
            // An earlier run may have come this far, or another gateway at the same time.
            if parts.journal.document(&inside, attached.document).await?.is_none()
                && let Err(error) = parts.journal.add_document(document, chunks).await
                && parts.journal.document(&inside, attached.document).await?.is_none()
            {
                return Err(error);
            }
        }
        if !self.is_wanted(scope, attached).await? {
            // Another gateway took it out in between, or is done with it already.
            let gone = self.try_attached(scope, &attached.key()).await?;
            if gone.is_none_or(|now| now.document != attached.document) {
                self.remove_documents(scope, &attached.store, std::slice::from_ref(attached))
                    .await?;
            }
            return Ok(End::Gone);
        }
        parts.indexer.wake();
        while !parts.indexer.caught_up(LOOK_AGAIN).await {
            if !self.is_wanted(scope, attached).await? {
                return Ok(End::Gone);
            }
        }
        Ok(End::Ready(text))
    }

    async fn is_wanted(&self, scope: &Scope, attached: &Attached) -> Result<bool, MemoryError> {
        let now = self.try_attached(scope, &attached.key()).await?;
        Ok(now.is_some_and(|now| now.document == attached.document && now.status == Status::InProgress))
    }

    async fn finish(
        &self,
        scope: &Scope,
        attached: &Attached,
        end: Result<End, MemoryError>,
    ) -> Result<(), MemoryError> {
        let _changes = self.changing().await?;
        let now = self.try_attached(scope, &attached.key()).await?;
        let Some(mut now) = now.filter(|now| now.document == attached.document && now.status == Status::InProgress)
        else {
            return Ok(());
        };
        match end {
            Ok(End::Gone) => return Ok(()),
            Ok(End::Ready(text)) => {
                now.status = Status::Completed;
                now.usage_bytes = text;
            }
            // It will go better later, as far as anyone knows.
            Err(error @ (MemoryError::Storage(_) | MemoryError::Embedding(_))) => return Err(error),
            Err(error) => {
                now.status = Status::Failed;
                now.trouble = Some(Trouble {
                    code: "invalid_file".to_owned(),
                    message: error.to_string(),
                });
            }
        }
        self.put_attached(scope, &now).await
    }
}
