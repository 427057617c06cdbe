//! What the store has, and what it could fetch.

use super::Store;
use super::origins::source_of;
use crate::models::catalogue::{CATALOGUE, Kind};
use crate::models::error::ModelError;

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
    /// All that is here or in the catalogue.
    ///
    /// # Errors
    /// [`ModelError::Io`] if the directory can't be read.
    pub fn list(&self) -> Result<Vec<Listed>, ModelError> {
        let mut listed: Vec<Listed> = self
            .named()?
            .into_iter()
            .map(|(name, _, manifest)| Listed {
                size: manifest.files.iter().map(|file| file.size).sum(),
                id: name,
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
}
