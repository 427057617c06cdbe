//! What is kept of a run while it runs: `run.json` in its folder. Each change is written whole beside and moved in place,
//! so that whoever reads it after a crash finds the last step or the one before, and never half of one.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{MOST_SETTINGS, Plan, RunError};
use crate::score::{General, Scored};
use crate::trainer::{Settings, Trained};

/// The state's file.
const FILE: &str = "run.json";

/// How a model did on what the run measures by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// On [`crate::examples::Slices::gate`].
    pub gate: Vec<Scored>,
    /// On [`crate::examples::Slices::report`].
    pub report: Vec<Scored>,
    /// On general sentences.
    pub general: Option<General>,
}

/// How far one of the settings is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The settings.
    pub settings: Settings,
    /// Once it was trained.
    pub trained: Option<Trained>,
    /// Once the merged file is there, whole.
    pub merged: Option<PathBuf>,
    /// Once it was asked.
    pub scores: Option<Scores>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What it does.
    pub plan: Plan,
    /// When it began, in Unix milliseconds.
    pub began: i64,
    /// Milliseconds that it worked, all its attempts together, up to the last step that was kept.
    pub worked: i64,
    /// How the served model did.
    pub base: Option<Scores>,
    /// One for each of the plan's settings.
    pub tried: Vec<Tried>,
}

impl State {
    /// A run that begins now.
    ///
    /// # Errors
    /// [`RunError::Plan`].
    pub fn new(plan: Plan, now: i64) -> Result<Self, RunError> {
        if plan.grid.is_empty() || plan.grid.len() > MOST_SETTINGS {
            let many = plan.grid.len();
            return Err(RunError::Plan(format!(
                "a run tries 1 to {MOST_SETTINGS} settings, not {many}"
            )));
        }
        if plan.examples.is_empty() {
            return Err(RunError::Plan(
                "there is nothing to learn from yet; give feedback first".to_owned(),
            ));
        }
        let tried = plan.grid.iter().map(|settings| Tried {
            settings: settings.clone(),
            trained: None,
            merged: None,
            scores: None,
        });
        Ok(Self {
            tried: tried.collect(),
            plan,
            began: now,
            worked: 0,
            base: None,
        })
    }

    /// What is in this folder; `None` if no run is under way there.
    ///
    /// # Errors
    /// [`RunError::Folder`] if it can't be read.
    pub fn read(folder: &Path) -> Result<Option<Self>, RunError> {
        let path = folder.join(FILE);
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let state = serde_json::from_slice(&text);
        state.map(Some).map_err(|error| failed(&path, "read", &error))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// [`RunError::Folder`].
    pub fn keep(&self, folder: &Path) -> Result<(), RunError> {
        write_json(&folder.join(FILE), self)
    }

    /// Ends it: the report stands for it now.
    ///
    /// # Errors
    /// [`RunError::Folder`].
    pub fn remove(folder: &Path) -> Result<(), RunError> {
        let path = folder.join(FILE);
        // A process that ended while it wrote leaves a part, with the examples' texts in it.
        remove(&beside(&path))?;
        remove(&path)
    }
}

/// The bytes of a file; `None` without one.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, RunError> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, "read", &error)),
    }
}

pub(super) fn write_json(path: &Path, what: &impl Serialize) -> Result<(), RunError> {
    let text = serde_json::to_vec_pretty(what).map_err(|error| failed(path, "written", &error))?;
    write(path, &text)
}

/// Where a file is written before it is moved in place.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("part")
}

/// Writes a file whole or not at all, and down to the disk.
pub(super) fn write(path: &Path, text: &[u8]) -> Result<(), RunError> {
    let beside = beside(path);
    let written = std::fs::File::create(&beside)
        .and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| failed(path, "written", &error))
}

/// Removes a file or a folder with all that is in it, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), RunError> {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(path, "removed", &error)),
        _ => Ok(()),
    }
}

pub(super) fn failed(path: &Path, doing: &'static str, why: &dyn std::fmt::Display) -> RunError {
    RunError::Folder {
        path: path.to_owned(),
        doing,
        why: why.to_string(),
    }
}
