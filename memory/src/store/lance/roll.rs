//! Which table of a folder serves, and which is to follow it: a small file beside them. In an object store there is one table,
//! which several gateways use; none can tell the others that another one serves.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::fs;

use crate::error::MemoryError;
use crate::store::depot::Depot;

/// The first table's name. With `.lance` a table's name is that of its folder.
const FIRST: &str = "entries";

/// The file.
const FILE: &str = "tables.json";

/// The names of tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Roll {
    /// The one that serves.
    pub serving: String,
    /// The one that is being made to follow it.
    #[serde(default)]
    pub next: Option<String>,
}

impl Roll {
    /// This one alone.
    pub fn of(name: &str) -> Self {
        Self {
            serving: name.to_owned(),
            next: None,
        }
    }

    /// What the file says; without one, the first table serves.
    pub async fn read(depot: &Depot) -> Result<Self, MemoryError> {
        let Depot::Folder(folder) = depot else {
            return Ok(Self::of(FIRST));
        };
        let file = folder.join(FILE);
        match fs::read(&file).await {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let advice = "`habit reindex` makes the index anew from the journal";
                trouble(&file, &format!("{error}; {advice}"))
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::of(FIRST)),
            Err(error) => Err(trouble(&file, &error)),
        }
    }

    /// Writes the file, whole or not at all.
    pub async fn write(&self, depot: &Depot) -> Result<(), MemoryError> {
        let folder = own(depot)?;
        let (file, new) = (folder.join(FILE), folder.join(format!("{FILE}.new")));
        let text = serde_json::to_vec(self).map_err(|error| trouble(&file, &error))?;
        let written = async {
            fs::create_dir_all(folder).await?;
            fs::write(&new, text).await?;
            fs::File::open(&new).await?.sync_all().await?;
            fs::rename(&new, &file).await?;
            fs::File::open(folder).await?.sync_all().await
        };
        written.await.map_err(|error| trouble(&file, &error))
    }

    /// Has a table serve that is not there yet, and removes all that there are. To remove one takes a while, and half of one
    /// must never serve.
    pub async fn begin_anew(depot: &Depot) -> Result<(), MemoryError> {
        let tables = tables(own(depot)?).await?;
        let names = tables.iter().filter_map(|table| table.file_stem()?.to_str());
        let newest = names.map(number).max().unwrap_or(0);
        let new = Self::of(&name(newest.saturating_add(1)));
        new.write(depot).await?;
        new.remove_others(depot).await
    }

    /// A name that no table here has once the others are removed.
    pub fn name_for_next(&self) -> String {
        name(number(&self.serving).saturating_add(1))
    }

    /// Removes the tables that are not named here.
    pub async fn remove_others(&self, depot: &Depot) -> Result<(), MemoryError> {
        for table in tables(own(depot)?).await? {
            let name = table.file_stem().and_then(|name| name.to_str());
            let kept = [Some(self.serving.as_str()), self.next.as_deref()];
            if !kept.contains(&name) {
                fs::remove_dir_all(&table)
                    .await
                    .map_err(|error| trouble(&table, &error))?;
            }
        }
        Ok(())
    }
}

/// The name of a table that is not the first.
fn name(number: u64) -> String {
    format!("{FIRST}-{number}")
}

/// The number of a table: 0 of the first.
fn number(name: &str) -> u64 {
    let number = name.strip_prefix(FIRST).and_then(|rest| rest.strip_prefix('-'));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The folders of all tables.
async fn tables(folder: &Path) -> Result<Vec<PathBuf>, MemoryError> {
    let explain = |error| trouble(folder, &error);
    let mut found = match fs::read_dir(folder).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.map_err(explain)?,
    };
    let mut tables = Vec::new();
    while let Some(entry) = found.next_entry().await.map_err(explain)? {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "lance") {
            tables.push(path);
        }
    }
    Ok(tables)
}

fn own(depot: &Depot) -> Result<&Path, MemoryError> {
    match depot {
        Depot::Folder(folder) => Ok(folder),
        Depot::Bucket(_) => Err(MemoryError::Storage(format!(
            "the index in {depot} is shared, and no other can be kept beside it"
        ))),
    }
}

fn trouble(place: &Path, error: &dyn std::fmt::Display) -> MemoryError {
    MemoryError::Storage(format!("{} can't be used: {error}", place.display()))
}
