//! The store: a directory of prepared models and of what they were made from.
//!
//! ```text
//! models/NAME/     manifest.json, model.gguf or *.safetensors, tokenizer.json, tokenizer_config.json
//! downloads/       HASH-NAME as fetched; NAME.part while it is
//! lock             held while something is fetched or prepared, so that two processes don't do it twice
//! ```
//!
//! A model is prepared in a directory beside and moved in place whole: what is under `models/` is complete. What was
//! downloaded is kept, so that a later version can prepare it anew without a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ModelError;
use super::hub::Hub;
use super::manifest::Manifest;
use super::pip::PipConfig;
use super::spec::{self, Spec};
use super::{LocalModel, Progress};

mod listed;
mod names;
mod origins;
mod precision;

pub use listed::Listed;
use names::{dotted, folder_name};

/// Where models are fetched from.
#[derive(Clone)]
pub struct Sources {
    /// Where packages are; `None` asks the machine's pip when it is first needed.
    pub pip: Option<PipConfig>,
    /// Where hub ids are looked up.
    pub hub: Hub,
}

impl Sources {
    /// As this machine is set up.
    #[must_use]
    pub fn of_machine() -> Self {
        Self {
            pip: None,
            hub: Hub::from_environment(),
        }
    }
}

/// The models on this machine, and the way to more.
pub struct Store {
    dir: PathBuf,
    sources: Sources,
}

impl Store {
    /// Opens a store, making its directories.
    ///
    /// # Errors
    /// [`ModelError::Io`] if they can't be made.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, ModelError> {
        Self::with_sources(dir, Sources::of_machine())
    }

    /// As [`Store::open`], fetching from elsewhere.
    ///
    /// # Errors
    /// [`ModelError::Io`] if the directories can't be made.
    pub fn with_sources(dir: impl AsRef<Path>, sources: Sources) -> Result<Self, ModelError> {
        let dir = std::path::absolute(dir.as_ref()).map_err(ModelError::io("find", dir.as_ref()))?;
        for part in ["models", "downloads"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(ModelError::io("create", &path))?;
        }
        Ok(Self { dir, sources })
    }

    /// Finds a model by what a person wrote for it: a name, `default`, the path of a GGUF file or of a directory, a hub
    /// id, a URL. What is missing is fetched and prepared; the second time is instant.
    ///
    /// # Errors
    /// A [`ModelError`] that says what to do.
    pub async fn resolve(&self, spec: &str, progress: Arc<dyn Progress>) -> Result<LocalModel, ModelError> {
        let known = self.named()?;
        let ids = known.iter().map(|(_, _, manifest)| manifest.id.clone());
        let names: Vec<String> = ids.chain(known.iter().map(|(name, ..)| name.clone())).collect();
        match spec::read(spec, &names)? {
            Spec::Catalogue(entry) => self.catalogued(entry, progress).await,
            Spec::Stored(name) => self.stored(&name),
            Spec::Gguf(path) | Spec::Dir(path) => self.own(&path, None, progress).await,
            Spec::Hub(id) => self.of_hub(&id, progress).await,
            Spec::Url(url) => self.of_url(url, progress).await,
        }
    }

    /// Fetches and prepares a model of the catalogue, of a hub or of the web.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub async fn pull(&self, spec: &str, progress: Arc<dyn Progress>) -> Result<LocalModel, ModelError> {
        self.resolve(spec, progress).await
    }

    /// Gives a file or directory of one's own a name in the store; it stays where it is.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] if it can't be run or the name can't be used.
    pub async fn add(
        &self,
        path: &Path,
        name: Option<&str>,
        progress: Arc<dyn Progress>,
    ) -> Result<LocalModel, ModelError> {
        if let Some(name) = name {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
                let reason = format!("`{name}` can't be a model's name: use letters, digits, `-`, `_` and `.`");
                return Err(ModelError::invalid(path, reason));
            }
            if super::catalogue::find(name).is_some() || name.eq_ignore_ascii_case("default") {
                return Err(ModelError::invalid(
                    path,
                    format!("`{name}` is a name of Habit's own; choose another"),
                ));
            }
        }
        match spec::read(&dotted(path), &[])? {
            Spec::Gguf(path) | Spec::Dir(path) => self.own(&path, name, progress).await,
            _ => Err(ModelError::invalid(path, "there is no such file or directory")),
        }
    }

    /// The model that is here under this name. Files of one's own may share an id.
    fn stored(&self, name: &str) -> Result<LocalModel, ModelError> {
        let known = self.named()?;
        if let Some((_, dir, manifest)) = known.iter().find(|(known, ..)| known == name) {
            return Ok(LocalModel {
                id: name.to_owned(),
                ..manifest.local(dir)
            });
        }
        let found = known.iter().filter(|(_, _, manifest)| manifest.id == name);
        let found: Vec<&Manifest> = found.map(|(_, _, manifest)| manifest).collect();
        match found.as_slice() {
            [] => Err(ModelError::Unknown {
                spec: name.to_owned(),
                near: Vec::new(),
            }),
            several => {
                let choices = several.iter().map(|manifest| manifest.source.clone()).collect();
                Err(ModelError::Ambiguous {
                    spec: name.to_owned(),
                    choices,
                })
            }
        }
    }

    /// Prepares a model in a directory beside, and moves it in place. The lock must be held.
    async fn prepared(
        &self,
        name: &str,
        prepare: impl FnOnce(&Path) -> Result<Manifest, ModelError> + Send + 'static,
    ) -> Result<LocalModel, ModelError> {
        let dir = self.model_dir(name);
        let models = self.dir.join("models");
        blocking(&dir.clone(), move || {
            clear_unfinished(&models)?;
            let work = models.join(format!(".{}", uuid::Uuid::now_v7().simple()));
            fs::create_dir_all(&work).map_err(ModelError::io("create", &work))?;
            let made = prepare(&work).and_then(|manifest| {
                if dir.exists() {
                    fs::remove_dir_all(&dir).map_err(ModelError::io("replace", &dir))?;
                }
                fs::rename(&work, &dir).map_err(ModelError::io("rename", &work))?;
                Ok(manifest.local(&dir))
            });
            if made.is_err() {
                let _nothing_more_to_do = fs::remove_dir_all(&work);
            }
            made
        })
        .await
    }

    /// Waits until no other process fetches or prepares here.
    async fn lock(&self) -> Result<fs::File, ModelError> {
        let path = self.dir.join("lock");
        blocking(&path.clone(), move || {
            let file = fs::File::create(&path).map_err(ModelError::io("create", &path))?;
            file.lock().map_err(ModelError::io("lock", &path))?;
            Ok(file)
        })
        .await
    }

    fn model_dir(&self, name: &str) -> PathBuf {
        self.dir.join("models").join(folder_name(name))
    }

    /// What is here, each by a name of its own: its id, or where several share one, that of its directory.
    fn named(&self) -> Result<Vec<(String, PathBuf, Manifest)>, ModelError> {
        let manifests = self.manifests()?;
        let ids: Vec<String> = manifests.iter().map(|(_, manifest)| manifest.id.clone()).collect();
        let named = manifests.into_iter().map(|(dir, manifest)| {
            let shared = ids.iter().filter(|id| **id == manifest.id).count() > 1;
            let folder = dir.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = folder.filter(|_| shared).unwrap_or_else(|| manifest.id.clone());
            (name, dir, manifest)
        });
        Ok(named.collect())
    }

    /// What is here and unchanged, each with its directory.
    fn manifests(&self) -> Result<Vec<(PathBuf, Manifest)>, ModelError> {
        let models = self.dir.join("models");
        let mut manifests = Vec::new();
        for entry in fs::read_dir(&models).map_err(ModelError::io("read", &models))? {
            let path = entry.map_err(ModelError::io("read", &models))?.path();
            // A directory with a dot is being made, or was when its process ended.
            let hidden = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if !hidden && let Some(manifest) = Manifest::read(&path) {
                manifests.push((path, manifest));
            }
        }
        manifests.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
        Ok(manifests)
    }
}

/// Runs blocking work; `path` is what it is about, should it panic.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, ModelError> + Send + 'static,
) -> Result<T, ModelError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(ModelError::invalid(path, format!("it can't be prepared: {error}"))))
}

/// Deletes what a process that was killed had begun. The lock is held: nobody else is preparing anything.
fn clear_unfinished(models: &Path) -> Result<(), ModelError> {
    for entry in fs::read_dir(models).map_err(ModelError::io("read", models))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with('.') {
            fs::remove_dir_all(entry.path()).map_err(ModelError::io("delete", &entry.path()))?;
        }
    }
    Ok(())
}
