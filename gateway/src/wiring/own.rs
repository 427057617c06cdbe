//! Engines for models in this process: from settings to something that answers, with everything that is checked before.

use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use habit_engine::Engine;
use habit_engine::admission::Admission;
use habit_engine::models::fit::{Dimensions, available_memory};
use habit_engine::models::{Kind, LocalModel, Progress, Store};

use crate::config;
use crate::loader::Load;

/// Replies at the same time from a model in this process (see `engine.max_running`).
const OWN_RUNNING: usize = 1;

/// Models of the store, run here.
pub(super) struct Own {
    pub(super) store: Arc<Store>,
    pub(super) progress: Arc<dyn Progress>,
}

#[async_trait]
impl Load for Own {
    async fn load(&self, wanted: &config::Engine) -> anyhow::Result<Arc<dyn Engine>> {
        let name = &wanted.model;
        let model = self
            .prepared(wanted)
            .await
            .with_context(|| format!("the model `{name}`"))?;
        let engine = run(wanted, model)
            .await
            .with_context(|| format!("the model `{name}`"))?;
        let running = if wanted.max_running == 0 {
            OWN_RUNNING
        } else {
            wanted.max_running
        };
        Ok(Arc::new(Admission::new(engine, running, wanted.max_waiting)))
    }

    fn ready(&self) -> anyhow::Result<Vec<String>> {
        let listed = self.store.list()?.into_iter();
        let chat = listed.filter(|model| model.ready && model.kind == Kind::Chat);
        Ok(chat.map(|model| model.id).collect())
    }
}

impl Own {
    /// The model's files, fetched, quantised, and found to fit in memory.
    async fn prepared(&self, wanted: &config::Engine) -> anyhow::Result<LocalModel> {
        let mut model = self.store.resolve(&wanted.model, Arc::clone(&self.progress)).await?;
        if let Some(precision) = wanted.precision() {
            model = self
                .store
                .at_precision(model, precision, Arc::clone(&self.progress))
                .await?;
        }
        let dimensions = Dimensions::of(&model)?;
        let window = wanted.context_window.map_or(dimensions.window, |window| window as u64);
        dimensions.check(&model, window.min(dimensions.window.max(1)), available_memory())?;
        Ok(model)
    }
}

#[cfg(feature = "embedded")]
async fn run(wanted: &config::Engine, model: LocalModel) -> anyhow::Result<Arc<dyn Engine>> {
    use habit_engine::embedded::{Embedded, EmbeddedOptions, check_cpu};

    check_cpu()?;
    let options = EmbeddedOptions {
        threads: (wanted.threads > 0).then_some(wanted.threads),
        context_window: wanted.context_window,
        ..EmbeddedOptions::default()
    };
    Ok(Arc::new(Embedded::load(model, options).await?))
}

#[cfg(not(feature = "embedded"))]
async fn run(_: &config::Engine, _: LocalModel) -> anyhow::Result<Arc<dyn Engine>> {
    anyhow::bail!("this habit was built without an engine of its own; name a server with --upstream URL")
}
