//! Engines for models in this process: from settings to something that answers, with everything that is checked before.

use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use habit_engine::admission::Admission;
use habit_engine::models::fit::{Dimensions, available_memory};
use habit_engine::models::{Kind, LocalModel, Progress, Store};
use habit_engine::native::{Native, NativeOptions};
use habit_engine::{Engine, EngineError};

use crate::config::{self, Backend};
use crate::loader::Load;
use crate::tuned::{self, Tuned};

/// The most memory for the keys and values of replies in the making, in bytes: eight long ones of a small model. Less
/// where half of what is free is less.
const RUNNING_BYTES: u64 = 4 << 30;

/// Models of the store, run here.
pub(super) struct Own {
    pub(super) store: Arc<Store>,
    pub(super) progress: Arc<dyn Progress>,
    /// Settings that were found to suit models here; `None` takes none.
    pub(super) tuned: Option<Tuned>,
}

#[async_trait]
impl Load for Own {
    async fn load(&self, wanted: &config::Engine) -> anyhow::Result<Arc<dyn Engine>> {
        let (model, wanted) = self.named(wanted).await?;
        admitted(&wanted, model).await
    }

    async fn files(&self, wanted: &config::Engine) -> anyhow::Result<LocalModel> {
        let name = wanted.own_model(0).context("no model was named")?;
        let (model, _) = self.resolved(wanted, name).await?;
        Ok(model)
    }

    fn ready(&self) -> anyhow::Result<Vec<String>> {
        let listed = self.store.list()?.into_iter();
        let chat = listed.filter(|model| model.ready && model.kind == Kind::Chat);
        Ok(chat.map(|model| model.id).collect())
    }
}

impl Own {
    /// The model that the settings name, and the settings.
    pub(super) async fn named(&self, wanted: &config::Engine) -> anyhow::Result<(LocalModel, config::Engine)> {
        let name = wanted.own_model(0).context("no model was named")?;
        let prepared = self.prepared(wanted, name).await;
        prepared.with_context(|| format!("the model `{name}`"))
    }

    /// The model's files, found to fit in memory, and the settings.
    async fn prepared(&self, wanted: &config::Engine, name: &str) -> anyhow::Result<(LocalModel, config::Engine)> {
        let (model, wanted) = self.resolved(wanted, name).await?;
        let dimensions = Dimensions::of(&model)?;
        let window = wanted.context_window.map_or(dimensions.window, |window| window as u64);
        dimensions.check(&model, window.min(dimensions.window.max(1)), available_memory())?;
        Ok((model, wanted))
    }

    /// The model's files, fetched and quantised; and the settings, with what was found to suit it where nothing was set.
    async fn resolved(&self, wanted: &config::Engine, name: &str) -> anyhow::Result<(LocalModel, config::Engine)> {
        let mut model = self.store.resolve(name, Arc::clone(&self.progress)).await?;
        let id = model.id.clone();
        let found = self.tuned.as_ref().and_then(|tuned| tuned.find(&model));
        let named_bits = wanted.bits.is_some();
        let wanted = found.map_or_else(|| wanted.clone(), |entry| {
            tracing::info!(model = id, setting = %entry.setting, "settings that `habit models tune` found are taken");
            tuned::over(&entry, wanted)
        });
        if let Some(precision) = wanted.precision() {
            model = self
                .store
                .at_precision(model, precision, Arc::clone(&self.progress))
                .await?;
        }
        if !named_bits {
            // Who did not ask for other bits knows it by its own name.
            model.id = id;
        }
        Ok((model, wanted))
    }
}

/// The engine of a model whose files are ready, behind its admission.
pub(super) async fn admitted(wanted: &config::Engine, model: LocalModel) -> anyhow::Result<Arc<dyn Engine>> {
    let name = model.id.clone();
    let (engine, suited) = run(wanted, model)
        .await
        .with_context(|| format!("the model `{name}`"))?;
    let running = if wanted.max_running == 0 {
        suited
    } else {
        wanted.max_running
    };
    Ok(Arc::new(Admission::new(engine, running, wanted.max_waiting)))
}

/// The engine that the settings ask for, and how many replies at the same time suit it.
async fn run(wanted: &config::Engine, model: LocalModel) -> anyhow::Result<(Arc<dyn Engine>, usize)> {
    #[cfg(feature = "embedded")]
    habit_engine::embedded::check_cpu()?;
    // A build for GPUs was made for what runs on them.
    let on_gpu = cfg!(feature = "cuda") && wanted.backend == Backend::Auto;
    if on_gpu || wanted.backend == Backend::MistralRs {
        return mistralrs(wanted, model).await;
    }
    let id = model.id.clone();
    match (native(wanted, model.clone()).await, wanted.backend) {
        (Ok(engine), _) => Ok((Arc::new(engine), parallel(wanted))),
        (Err(error), Backend::Native) => Err(error.into()),
        (Err(error), _) => {
            tracing::info!(model = id, %error, "mistral.rs runs this model");
            mistralrs(wanted, model).await
        }
    }
}

async fn native(wanted: &config::Engine, model: LocalModel) -> Result<Native, EngineError> {
    let options = NativeOptions {
        threads: (wanted.threads > 0).then_some(wanted.threads),
        context_window: wanted.context_window,
        parallel: parallel(wanted),
        running_bytes: RUNNING_BYTES.min(available_memory() / 2),
        ..NativeOptions::default()
    };
    Native::load(model, options).await
}

/// Replies that the native engine advances together: as many as are let in.
fn parallel(wanted: &config::Engine) -> usize {
    match wanted.max_running {
        0 => Native::PARALLEL,
        running => running,
    }
}

#[cfg(feature = "embedded")]
async fn mistralrs(wanted: &config::Engine, model: LocalModel) -> anyhow::Result<(Arc<dyn Engine>, usize)> {
    use habit_engine::embedded::{Embedded, EmbeddedOptions};

    let options = EmbeddedOptions {
        threads: (wanted.threads > 0).then_some(wanted.threads),
        context_window: wanted.context_window,
        ..EmbeddedOptions::default()
    };
    Ok((Arc::new(Embedded::load(model, options).await?), Embedded::PARALLEL))
}

#[cfg(not(feature = "embedded"))]
async fn mistralrs(_: &config::Engine, _: LocalModel) -> anyhow::Result<(Arc<dyn Engine>, usize)> {
    anyhow::bail!("this habit was built without mistral.rs; take a GGUF model, or name a server with --upstream URL")
}
