//! Embedders by name: a model of the store, by its own engine.

use std::sync::Arc;

use anyhow::Context;
use habit_engine::Embedder;
use habit_engine::embedder::MiniLm;
use habit_engine::models::{Progress, Store, Weights};

/// Where they are loaded from.
pub(super) struct Source<'a> {
    pub store: &'a Store,
    pub threads: usize,
    pub progress: Arc<dyn Progress>,
}

impl Source<'_> {
    /// Loads one; fetches it first if it is not there.
    pub async fn load(&self, name: &str) -> anyhow::Result<Arc<dyn Embedder>> {
        let model = self.store.resolve(name, Arc::clone(&self.progress)).await;
        let model = model.with_context(|| format!("the embedder `{name}`"))?;
        let Weights::Safetensors(dir) = model.weights else {
            anyhow::bail!(
                "the embedder `{name}` is a chat model; set memory.embedder to a BERT-class model in safetensors"
            );
        };
        let threads = self.threads;
        // Reading the weights blocks.
        let loaded = tokio::task::spawn_blocking(move || MiniLm::load(&dir, threads)).await?;
        Ok(Arc::new(loaded.with_context(|| format!("the embedder `{name}`"))?))
    }
}
