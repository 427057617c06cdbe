//! The model of this process as what a learning run works on.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use habit_engine::Engine;
use habit_engine::models::{LocalModel, Progress, Store, Weights};

use super::own::{self, Own};
use crate::config::{self, Config};
use crate::tuned::Tuned;

/// The model of this process as files, and what runs other weights in their place: what was learnt, as it would be served.
#[derive(Clone)]
pub struct Learnable {
    /// The files that are served.
    pub model: LocalModel,
    wanted: config::Engine,
}

impl Learnable {
    /// Finds the files; they are fetched and prepared where they are not yet.
    ///
    /// # Errors
    /// With what to do about it: no model runs in this process, or its weights are not one GGUF file.
    pub async fn of(config: &Config, progress: Arc<dyn Progress>) -> anyhow::Result<Self> {
        let own = Own {
            store: Arc::new(Store::open(config.models_dir()?)?),
            progress,
            tuned: config.data_dir().ok().map(|dir| Tuned::of(&dir)),
        };
        let (model, wanted) = own.named(&config.engine).await?;
        anyhow::ensure!(
            matches!(model.weights, Weights::Gguf(_)),
            "`{}` is no GGUF file, and only those can be trained here; take one of `habit models list`",
            model.id
        );
        Ok(Self { model, wanted })
    }

    /// The weights' file, and the folder of tokenizer and template.
    ///
    /// # Errors
    /// If the model has no such folder.
    pub fn files(&self) -> anyhow::Result<(PathBuf, PathBuf)> {
        let (Weights::Gguf(weights) | Weights::Safetensors(weights)) = &self.model.weights;
        let folder = self.model.tokenizer_dir.clone();
        let folder =
            folder.with_context(|| format!("`{}` has no tokenizer of its own to train with", self.model.id))?;
        Ok((weights.clone(), folder))
    }

    /// The same model with other weights, of the same shape and types.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn run(&self, weights: &std::path::Path) -> anyhow::Result<Arc<dyn Engine>> {
        let model = LocalModel {
            weights: Weights::Gguf(weights.to_owned()),
            ..self.model.clone()
        };
        own::admitted(&self.wanted, model).await
    }
}

#[async_trait::async_trait]
impl habit_learning::run::Loader for Learnable {
    async fn load(&self, weights: &std::path::Path) -> Result<habit_learning::score::Model, String> {
        let engine = self.run(weights).await.map_err(|error| format!("{error:#}"))?;
        let name = self.model.id.clone();
        Ok(habit_learning::score::Model { engine, name })
    }
}
