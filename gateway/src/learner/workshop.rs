//! Where learning gets its models from, and what trains on them: the seam [`Workshop`], and the one of a gateway that runs
//! a model of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use habit_engine::Engine;
use habit_engine::models::Weights;
use habit_learning::run::{self, Apart, Trainer};
use habit_learning::score::Model;

use crate::loader::{Loader, Wanted};

/// The model that a team's model is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Its name, as requests mean it.
    pub name: String,
    /// Its GGUF file.
    pub weights: PathBuf,
    /// The directory of its tokenizer and template.
    pub model_dir: PathBuf,
}

/// What a run works with.
pub struct Tools {
    /// What is served now.
    pub base: Model,
    /// Trains.
    pub trainer: Arc<dyn Trainer>,
    /// Loads what was trained.
    pub loader: Arc<dyn run::Loader>,
}

/// Gives learning what it works with. An error is for people and says what to do.
#[async_trait]
pub trait Workshop: Send + Sync {
    /// The model that is served.
    ///
    /// # Errors
    /// Where there is none that could be trained.
    async fn served(&self) -> Result<Served, String>;

    /// What to work with.
    ///
    /// # Errors
    /// As [`Workshop::served`].
    async fn tools(&self) -> Result<Tools, String>;
}

/// The model that this process runs.
pub struct Own {
    /// All engines.
    pub engine: Arc<dyn Engine>,
    /// Knows the models' files, and loads them; `None` where the engines can't be changed.
    pub loader: Option<Arc<Loader>>,
}

impl Own {
    fn loader(&self) -> Result<&Arc<Loader>, String> {
        let none = "learning trains the model that runs in this process, and none does here; start it with --model";
        self.loader.as_ref().ok_or_else(|| none.to_owned())
    }
}

#[async_trait]
impl Workshop for Own {
    async fn served(&self) -> Result<Served, String> {
        let files = self.loader()?.files().await.map_err(|error| error.to_string())?;
        let Weights::Gguf(weights) = files.weights else {
            return Err(format!(
                "`{}` is not a GGUF file; learning trains GGUF models (`habit serve --bits 8` makes one of it)",
                files.id
            ));
        };
        let name = self.engine.resolve(&files.id);
        if !self.engine.serves(&name) {
            return Err(format!(
                "the model `{name}` does not run in this process; learning needs `habit serve`"
            ));
        }
        let beside = weights.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(Served {
            name,
            model_dir: files.tokenizer_dir.unwrap_or(beside),
            weights,
        })
    }

    async fn tools(&self) -> Result<Tools, String> {
        let program = std::env::current_exe().map_err(|error| format!("this program can't be found: {error}"))?;
        Ok(Tools {
            base: Model {
                engine: Arc::clone(&self.engine),
                name: self.served().await?.name,
            },
            trainer: Arc::new(Apart { program }),
            loader: Arc::new(Merged(Arc::clone(self.loader()?))),
        })
    }
}

/// Loads merged files as they would be served.
struct Merged(Arc<Loader>);

#[async_trait]
impl run::Loader for Merged {
    async fn load(&self, weights: &Path) -> Result<Model, String> {
        let wanted = Wanted {
            model: Some(weights.display().to_string()),
            ..Wanted::default()
        };
        let engine = self.0.apart(&wanted).await.map_err(|error| error.to_string())?;
        let name = engine.models().into_iter().next().map(|info| info.id);
        Ok(Model {
            name: name.ok_or("the trained model came up without a name")?,
            engine,
        })
    }
}
