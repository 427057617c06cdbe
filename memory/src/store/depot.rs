//! [`Depot`]: where that is kept which is in no table, a folder of this machine, or a part of an object store that several
//! gateways share. What is written there is not this file's business.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, resolve_bucket_region};
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use crate::error::MemoryError;

/// What the address of a place in an object store begins with.
const SCHEME: &str = "s3://";

/// A request to an object store is tried so many times more, …
const RETRIES: usize = 3;
/// … for so long altogether: whoever waits is told soon, and the indexer tries again by itself.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// Where something is kept.
#[derive(Debug, Clone)]
pub enum Depot {
    /// A folder of this machine, of which this process is the only user.
    Folder(PathBuf),
    /// A part of an object store, which others may use at the same time.
    Bucket(Bucket),
}

/// A part of an object store that speaks S3. Its options hold secrets: they are not in its `Debug`.
#[derive(Clone)]
pub struct Bucket {
    bucket: String,
    prefix: String,
    options: BTreeMap<String, String>,
}

impl Bucket {
    /// The place at this address, `s3://bucket/prefix`. Options are those of the object store's client (`endpoint`, `region`,
    /// `access_key_id`, …); what they leave open comes from the usual `AWS_…` variables.
    ///
    /// # Errors
    /// [`MemoryError::BadRequest`] if the address names no bucket, or there is no such option.
    pub fn new(url: &str, options: impl IntoIterator<Item = (String, String)>) -> Result<Self, MemoryError> {
        let place = url.strip_prefix(SCHEME).map(|place| place.trim_end_matches('/'));
        let fits = |place: &&str| !place.is_empty() && !place.starts_with('/') && !place.contains(['?', '#', '@']);
        let Some(place) = place.filter(fits) else {
            return Err(MemoryError::BadRequest(format!(
                "`{url}` is no place in an object store; write s3://BUCKET or s3://BUCKET/PREFIX"
            )));
        };
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let mut own = BTreeMap::new();
        for (name, value) in options {
            let name = name.to_ascii_lowercase();
            if name.parse::<AmazonS3ConfigKey>().is_err() {
                return Err(MemoryError::BadRequest(format!(
                    "there is no option `{name}` of an object store; there are endpoint, region, access_key_id, \
                     secret_access_key, session_token, allow_http and others of its client"
                )));
            }
            own.insert(name, value);
        }
        let mut new = Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            options: own,
        };
        // Whoever writes such an address means it.
        if new.endpoint().is_some_and(|endpoint| endpoint.starts_with("http://")) {
            new.options
                .entry("allow_http".to_owned())
                .or_insert_with(|| "true".to_owned());
        }
        Ok(new)
    }

    /// The part of this place that has this name.
    #[must_use]
    pub fn within(&self, name: &str) -> Self {
        let prefix = match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        Self { prefix, ..self.clone() }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("{SCHEME}{}", self.bucket),
            prefix => format!("{SCHEME}{}/{prefix}", self.bucket),
        }
    }

    /// The options for LanceDB, with its own for how long a request is tried.
    pub(super) fn options(&self) -> impl Iterator<Item = (String, String)> {
        let tries = [
            ("client_max_retries", RETRIES.to_string()),
            ("client_retry_timeout", RETRY_FOR.as_secs().to_string()),
        ];
        let tries = tries.into_iter().map(|(name, value)| (name.to_owned(), value));
        self.options.clone().into_iter().chain(tries)
    }

    /// The store, of which only this place is seen.
    ///
    /// # Errors
    /// [`MemoryError::Storage`] if the options don't make one, or the bucket's region can't be found out.
    pub(crate) async fn store(&self) -> Result<Arc<dyn ObjectStore>, MemoryError> {
        let trouble = |error: object_store::Error| {
            MemoryError::Storage(format!(
                "the object store {} can't be used: {error}; look at data.objects_options and the AWS_ variables",
                self.url()
            ))
        };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&self.bucket)
            .with_retry(RetryConfig {
                max_retries: RETRIES,
                retry_timeout: RETRY_FOR,
                ..RetryConfig::default()
            });
        for (name, value) in &self.options {
            if let Ok(key) = name.parse() {
                builder = builder.with_config(key, value);
            }
        }
        if self.endpoint().is_none() && self.set(AmazonS3ConfigKey::Region).is_none() {
            let region = resolve_bucket_region(&self.bucket, &ClientOptions::default()).await;
            builder = builder.with_region(region.map_err(trouble)?);
        }
        let store = builder.build().map_err(trouble)?;
        Ok(match self.prefix.as_str() {
            "" => Arc::new(store),
            prefix => Arc::new(PrefixStore::new(store, prefix)),
        })
    }

    fn endpoint(&self) -> Option<String> {
        self.set(AmazonS3ConfigKey::S3Endpoint)
            .or_else(|| self.set(AmazonS3ConfigKey::Endpoint))
    }

    /// What an option or a variable says.
    fn set(&self, key: AmazonS3ConfigKey) -> Option<String> {
        let is_it = |name: &str| name.parse::<AmazonS3ConfigKey>().is_ok_and(|named| named == key);
        let option = self.options.iter().find(|(name, _)| is_it(name));
        option.map(|(_, value)| value.clone()).or_else(|| {
            let mut variables = std::env::vars_os().filter_map(|(name, value)| {
                let name = name.to_str()?.strip_prefix("AWS_")?.to_ascii_lowercase();
                is_it(&format!("aws_{name}")).then(|| value.into_string().ok())?
            });
            variables.next()
        })
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.url()).finish()
    }
}

impl fmt::Display for Depot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Bucket(bucket) => bucket.url().fmt(f),
        }
    }
}

impl From<&Path> for Depot {
    fn from(folder: &Path) -> Self {
        Self::Folder(folder.to_owned())
    }
}

impl From<&PathBuf> for Depot {
    fn from(folder: &PathBuf) -> Self {
        Self::Folder(folder.clone())
    }
}

impl From<PathBuf> for Depot {
    fn from(folder: PathBuf) -> Self {
        Self::Folder(folder)
    }
}

impl From<Bucket> for Depot {
    fn from(bucket: Bucket) -> Self {
        Self::Bucket(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(name: &str, value: &str) -> [(String, String); 1] {
        [(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn addresses_are_read_and_told() {
        let bucket = Bucket::new("s3://habit-data/a/b/", []).unwrap();
        assert_eq!(bucket.url(), "s3://habit-data/a/b");
        assert_eq!(bucket.within("index").url(), "s3://habit-data/a/b/index");
        let bare = Bucket::new("s3://habit-data", []).unwrap();
        assert_eq!(bare.within("files").url(), "s3://habit-data/files");
        for wrong in ["", "s3://", "s3:///x", "gs://b/c", "/srv/data", "s3://key:secret@b/c"] {
            let error = Bucket::new(wrong, []).unwrap_err().to_string();
            assert!(error.contains("s3://BUCKET"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_misspelt_option_is_told_and_secrets_are_not() {
        let error = Bucket::new("s3://b", option("secret_acess_key", "hush")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("secret_acess_key") && !error.contains("hush"), "{error}");
        let bucket = Bucket::new("s3://b", option("secret_access_key", "hush")).unwrap();
        assert!(!format!("{:?}", Depot::from(bucket)).contains("hush"));
    }

    #[test]
    fn an_address_without_encryption_is_meant() {
        let plain = Bucket::new("s3://b", option("endpoint", "http://127.0.0.1:9")).unwrap();
        assert_eq!(plain.options.get("allow_http").map(String::as_str), Some("true"));
        let secure = Bucket::new("s3://b", option("endpoint", "https://127.0.0.1:9")).unwrap();
        assert_eq!(secure.options.get("allow_http"), None);
    }
}
