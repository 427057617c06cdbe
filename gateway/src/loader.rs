//! Models that are loaded, swapped and given up while the server runs. One change at a time; replies that are being
//! made keep the engine that they began with, so none is dropped.

use std::sync::Arc;

use async_trait::async_trait;
use habit_engine::fleet::Fleet;
use habit_engine::models::LocalModel;
use habit_engine::{Engine, ModelInfo};
use tokio::sync::Mutex;

use crate::config::{self, Config};

/// Brings up an engine for a model in this process.
#[async_trait]
pub trait Load: Send + Sync {
    /// The engine that these settings name, behind its admission. Takes seconds; minutes if the model must be fetched.
    ///
    /// # Errors
    /// With what to do about it: no such model, it does not fit in memory, its files are broken.
    async fn load(&self, wanted: &config::Engine) -> anyhow::Result<Arc<dyn Engine>>;

    /// The files of the model that these settings name, as they are loaded: what is trained on.
    ///
    /// # Errors
    /// With what to do about it.
    async fn files(&self, _wanted: &config::Engine) -> anyhow::Result<LocalModel> {
        anyhow::bail!("the files of this server's models are not known to it")
    }

    /// The names of models that are here and ready to be loaded.
    ///
    /// # Errors
    /// If the store can't be read.
    fn ready(&self) -> anyhow::Result<Vec<String>>;
}

/// What is wanted. What is absent is as the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// As `engine.model`.
    pub model: Option<String>,
    /// A profile of the configuration.
    pub profile: Option<String>,
    /// As `engine.bits`.
    pub bits: Option<u8>,
    /// As `engine.context_window`.
    pub context_window: Option<usize>,
    /// The model whose place it takes: requests for that name get the new one, and the old one is given up.
    pub replaces: Option<String>,
    /// Whether it is what requests without a model mean from now on.
    pub default: bool,
}

/// Why a model was not loaded or given up.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// What was asked for makes no sense; the message says what would.
    #[error("{0}")]
    BadRequest(String),
    /// The model is not loaded.
    #[error("the model `{model}` is not loaded; loaded are: {}", loaded.join(", "))]
    NotLoaded {
        /// What was named.
        model: String,
        /// What there is.
        loaded: Vec<String>,
    },
    /// The engine did not come up.
    #[error("{0}")]
    Failed(String),
}

/// See the module.
pub struct Loader {
    config: Arc<Config>,
    load: Arc<dyn Load>,
    fleet: Arc<Fleet>,
    changing: Mutex<()>,
}

impl Loader {
    /// Loads into this fleet.
    #[must_use]
    pub fn new(config: Arc<Config>, load: Arc<dyn Load>, fleet: Arc<Fleet>) -> Self {
        Self {
            config,
            load,
            fleet,
            changing: Mutex::new(()),
        }
    }

    /// Loads a model, or puts it in the place of another. A second one waits for the first.
    ///
    /// # Errors
    /// [`LoadError`]; what was being served goes on being served.
    pub async fn load(&self, wanted: Wanted) -> Result<ModelInfo, LoadError> {
        let _one = self.changing.lock().await;
        if let Some(old) = &wanted.replaces {
            self.loaded(old)?;
        }
        let engine = self.load.load(&self.settings(&wanted)?).await;
        let engine = engine.map_err(|error| LoadError::Failed(format!("{error:#}")))?;
        let info = engine.models().into_iter().next();
        let info = info.ok_or_else(|| LoadError::Failed("the engine came up without a model".to_owned()))?;
        // A model of the same name makes way for the new one; another is added beside.
        drop(self.fleet.replace(&info.id, &engine));
        if let Some(old) = wanted.replaces.filter(|old| *old != info.id) {
            self.fleet.alias(&old, &info.id);
            drop(self.fleet.remove(&old));
        }
        if wanted.default {
            self.fleet.set_default(&info.id);
        }
        tracing::info!(model = info.id, "a model was loaded");
        Ok(info)
    }

    /// Brings a model up that is no part of the fleet: who asks for it, keeps it. Its file is taken as it is.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn apart(&self, wanted: &Wanted) -> Result<Arc<dyn Engine>, LoadError> {
        let _one = self.changing.lock().await;
        let mut settings = self.settings(wanted)?;
        settings.bits = None;
        let engine = self.load.load(&settings).await;
        engine.map_err(|error| LoadError::Failed(format!("{error:#}")))
    }

    /// The files of the model that the configuration runs.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn files(&self) -> Result<LocalModel, LoadError> {
        if self.config.engine.own_model(self.config.upstreams.len()).is_none() {
            let none = "no model runs in this process; learning trains one that does (start it with --model)";
            return Err(LoadError::BadRequest(none.to_owned()));
        }
        let files = self.load.files(&self.config.engine).await;
        files.map_err(|error| LoadError::Failed(format!("{error:#}")))
    }

    /// Gives a model up. Replies that are being made are finished first; their memory is free then.
    ///
    /// # Errors
    /// [`LoadError::NotLoaded`].
    pub async fn unload(&self, model: &str) -> Result<(), LoadError> {
        let _one = self.changing.lock().await;
        self.loaded(model)?;
        if self.fleet.remove(model).is_none() {
            let why =
                format!("`{model}` is not loaded here, but served by an upstream; take that out of [[upstreams]]");
            return Err(LoadError::BadRequest(why));
        }
        tracing::info!(model, "a model was given up");
        Ok(())
    }

    /// The names of models and profiles that could be loaded.
    ///
    /// # Errors
    /// [`LoadError::Failed`] if the store can't be read.
    pub fn available(&self) -> Result<(Vec<String>, Vec<String>), LoadError> {
        let models = self
            .load
            .ready()
            .map_err(|error| LoadError::Failed(format!("{error:#}")))?;
        Ok((models, self.config.profiles.keys().cloned().collect()))
    }

    fn loaded(&self, model: &str) -> Result<(), LoadError> {
        let loaded: Vec<String> = self.fleet.models().into_iter().map(|info| info.id).collect();
        if loaded.iter().any(|known| known == model) {
            return Ok(());
        }
        let model = model.to_owned();
        Err(LoadError::NotLoaded { model, loaded })
    }

    fn settings(&self, wanted: &Wanted) -> Result<config::Engine, LoadError> {
        let mut engine = self.config.engine.clone();
        if let Some(name) = &wanted.profile {
            let profile = self.config.profiles.get(name).ok_or_else(|| {
                let known: Vec<&str> = self.config.profiles.keys().map(String::as_str).collect();
                LoadError::BadRequest(format!("there is no profile `{name}`; there are: {}", known.join(", ")))
            })?;
            engine = profile.over(&engine);
        } else if wanted.model.is_none() {
            return Err(LoadError::BadRequest("name a `model` or a `profile`".to_owned()));
        }
        if let Some(model) = &wanted.model {
            engine.model.clone_from(model);
        }
        engine.bits = wanted.bits.or(engine.bits);
        engine.context_window = wanted.context_window.or(engine.context_window);
        engine
            .check()
            .map_err(|error| LoadError::BadRequest(error.to_string()))?;
        Ok(engine)
    }
}
