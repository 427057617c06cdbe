//! A model of the store at another precision: a second model beside it, made once.

use std::sync::Arc;

use super::super::fit::Precision;
use super::super::requantise::{self, Goal};
use super::super::{LocalModel, ModelError, Progress, Weights, gguf, prepare};
use super::names::short_hash;
use super::{Manifest, Store};
use crate::models::prepare::About;

impl Store {
    /// The model with its weights at most this fine, quantised and kept the first time. One that is as coarse already
    /// comes back as it is: finer than its file it can't be.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for safetensors, which are quantised when they are loaded, and for broken files;
    /// [`ModelError::Io`] if the disk refuses.
    pub async fn at_precision(
        &self,
        model: LocalModel,
        precision: Precision,
        progress: Arc<dyn Progress>,
    ) -> Result<LocalModel, ModelError> {
        let Weights::Gguf(path) = model.weights.clone() else {
            return Ok(model);
        };
        let goal = Goal::AtMost(precision);
        if !requantise::is_needed(&gguf::inspect(&path)?, goal) {
            return Ok(model);
        }
        let id = format!("{}-{}bit", model.id, precision.bits());
        let source = format!("{} at {} bits", path.display(), precision.bits());
        let key = format!("{id}-{}", short_hash(&source));
        let dir = self.model_dir(&key);
        if let Some(manifest) = Manifest::read(&dir) {
            return Ok(manifest.local(&dir));
        }
        let _lock = self.lock().await?;
        let about = About {
            id,
            kind: None,
            source,
            licence: None,
            sha256: None,
        };
        self.prepared(&key, move |work| {
            prepare::gguf(&path, false, work, about, goal, progress.as_ref())
        })
        .await
    }
}
