//! `[data]`: where things are kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use habit_memory::store::depot::{Bucket, Depot};
use serde::{Deserialize, Serialize};

use super::{ConfigError, Secret};

/// Where things are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// The directory with the database, the index and the models. Unset, it is `habit` in the user's data directory
    /// (`$XDG_DATA_HOME`, or `~/.local/share`). One server a directory.
    pub dir: Option<PathBuf>,
    /// The directory with model files, to share them between data directories. Unset, it is `models` in `dir`.
    pub models: Option<PathBuf>,
    /// A Postgres database for all that is in the database: `postgres://user:password@host/name`. Unset, it is a SQLite file
    /// in `dir`. Several gateways may share it.
    pub database: Option<Secret>,
    /// A place in an object store, `s3://bucket/prefix`, for the index and the files that users keep: several gateways may
    /// share it. Unset, they are folders in `dir`.
    pub objects: Option<String>,
    /// How the object store is reached, in the words of its client: `endpoint`, `region`, `access_key_id`,
    /// `secret_access_key`, …; what is not said here comes from the usual `AWS_…` variables.
    pub objects_options: BTreeMap<String, Secret>,
}

impl Data {
    /// Where the index is.
    ///
    /// # Errors
    /// [`ConfigError::Bad`] if `objects` is no such place, or an option is unknown.
    pub fn index(&self, dir: &Path) -> Result<Depot, ConfigError> {
        self.depot(dir, super::index_path, "index")
    }

    /// Where the files are that users keep.
    ///
    /// # Errors
    /// As [`Data::index`].
    pub fn files(&self, dir: &Path) -> Result<Depot, ConfigError> {
        self.depot(dir, super::files_path, "files")
    }

    fn depot(&self, dir: &Path, folder: impl Fn(&Path) -> PathBuf, name: &str) -> Result<Depot, ConfigError> {
        let bucket = self.bucket()?;
        Ok(bucket.map_or_else(|| folder(dir).into(), |bucket| bucket.within(name).into()))
    }

    fn bucket(&self) -> Result<Option<Bucket>, ConfigError> {
        let options = self.objects_options.iter();
        let options = options.map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let bucket = self.objects.as_ref().map(|url| Bucket::new(url, options)).transpose();
        bucket.map_err(|error| ConfigError::bad("data.objects", format!("won't do: {error}")))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let schemes = ["postgres://", "postgresql://"];
        let is_postgres = |url: &Secret| schemes.iter().any(|scheme| url.expose().starts_with(scheme));
        if self.database.as_ref().is_some_and(|url| !is_postgres(url)) {
            let why = "is no address of a Postgres database; write postgres://user:password@host/name, or leave it out for \
                       SQLite in the data directory";
            return Err(ConfigError::bad("data.database", why));
        }
        if self.objects.is_none() && !self.objects_options.is_empty() {
            let why = "mean nothing without data.objects; write objects = \"s3://BUCKET/PREFIX\"";
            return Err(ConfigError::bad("data.objects_options", why));
        }
        self.bucket().map(drop)
    }
}

/// `habit` in the user's data directory, by the XDG base directory specification.
pub(super) fn default_dir() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")))?;
    Some(base.join("habit"))
}
