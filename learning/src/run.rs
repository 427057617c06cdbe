//! One learning run: examples are divided, adapters trained and merged, the merged files scored as they would be served,
//! the best one judged by the [gate](crate::gate), and all of it told in a [`Report`]. The same code serves downtime and the
//! benchmark; it changes nothing that is served, that is for [`crate::rollout`].
//!
//! A run has a folder of its own and can be broken off at any moment, by kill -9 too: what is done is kept in `run.json`
//! ([`state`]), and [`go`] goes on from there. What is in the folder at the end:
//!
//! ```text
//! report.json, report.md, right.svg, likelihood.svg      what was found
//! adapter/, model.gguf                                   if it passed (or was to be kept): what can be served
//! ```
//!
//! The examples' texts are in the report where their answers changed; [`Report::forget`] takes them out again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use habit_engine::Embedder;
use habit_memory::clock::Clock;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::examples::{Example, Shares};
use crate::gate::Bounds;
use crate::score::{Model, ScoreError};
use crate::trainer::{Job, Settings, Step, TrainError, Trained};

mod chart;
mod drive;
mod markdown;
pub mod report;
pub mod state;

pub use drive::{go, tidy};
pub use report::{Changed, Report};

/// The most settings that one run tries: each costs a training, and makes the gate stricter.
pub const MOST_SETTINGS: usize = 6;

/// What a run is to do; it is kept in the run's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Of the run.
    pub id: Uuid,
    /// Whose run it is; a name for readers, not a path.
    pub team: String,
    /// The GGUF file that is served.
    pub weights: PathBuf,
    /// The directory of its tokenizer and template.
    pub model_dir: PathBuf,
    /// All examples that there are, however old: every run begins from the base.
    pub examples: Vec<Example>,
    /// How they are divided.
    #[serde(default)]
    pub shares: Shares,
    /// General sentences to stay true to; the trainer's own if there are none.
    #[serde(default)]
    pub anchors: Vec<String>,
    /// General sentences to measure forgetting by: others than the anchors.
    pub general: Vec<String>,
    /// Settings to try, 1 to [`MOST_SETTINGS`]; see [`grid`].
    pub grid: Vec<Settings>,
    /// What must be shown.
    #[serde(default)]
    pub bounds: Bounds,
    /// Keep the model even if it is rejected: for comparisons.
    #[serde(default)]
    pub keep: bool,
    /// Bytes of memory that the training may take; what is free if none are named.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Threads of the training; all processors if none are named.
    #[serde(default)]
    pub threads: Option<usize>,
}

/// Settings to try: the best of the last run first, and then what differs from it in one thing each.
#[must_use]
pub fn grid(best: Option<&Settings>, points: usize) -> Vec<Settings> {
    let first = best.cloned().unwrap_or_default();
    let mut grid = vec![first.clone()];
    let (slow, fast) = (first.learning_rate / 2.0, first.learning_rate * 2.0);
    let others = [
        Settings {
            learning_rate: slow,
            ..first.clone()
        },
        Settings {
            epochs: first.epochs + 1,
            ..first.clone()
        },
        Settings {
            learning_rate: fast,
            ..first.clone()
        },
        Settings {
            anchor_weight: first.anchor_weight * 2.0,
            ..first.clone()
        },
        Settings {
            epochs: first.epochs.saturating_sub(1).max(1),
            ..first.clone()
        },
    ];
    for settings in others {
        if !grid.contains(&settings) {
            grid.push(settings);
        }
    }
    grid.truncate(points.clamp(1, MOST_SETTINGS));
    grid
}

/// Makes adapters and merges them; the real one is [`Apart`].
///
/// Laws: the same job in the same folder goes on where it was broken off; after `Ok` the adapter's folder is whole.
#[async_trait]
pub trait Trainer: Send + Sync {
    /// Trains.
    ///
    /// # Errors
    /// [`TrainError::Stopped`] when cancelled, and others with what to do.
    async fn train(
        &self,
        job: &Job,
        progress: &mut (dyn FnMut(Step) + Send),
        cancel: &CancellationToken,
    ) -> Result<Trained, TrainError>;

    /// Writes the served file with the adapter in it. Blocks; may leave a part of `target` when it fails.
    ///
    /// # Errors
    /// What is wrong and what to do.
    fn merge(&self, weights: &Path, adapter: &Path, target: &Path) -> Result<(), String>;
}

/// Brings up an engine for a merged file, as it would be served.
#[async_trait]
pub trait Loader: Send + Sync {
    /// Takes seconds. Dropping the engine frees the model.
    ///
    /// # Errors
    /// What is wrong and what to do.
    async fn load(&self, weights: &Path) -> Result<Model, String>;
}

/// What a run works with.
#[derive(Clone)]
pub struct Parts {
    /// What is served now, unchanged: the file [`Plan::weights`].
    pub base: Model,
    /// Trains.
    pub trainer: Arc<dyn Trainer>,
    /// Loads what was trained.
    pub loader: Arc<dyn Loader>,
    /// Finds the nearest example, whose answer is what anything trained has to beat.
    pub embedder: Arc<dyn Embedder>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// What is served is asked.
    Base,
    /// An adapter is trained.
    Training,
    /// It is merged into the served file.
    Merging,
    /// The merged file is loaded and asked.
    Scoring,
    /// Everything is judged and written down.
    Judging,
}

impl Phase {
    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Base => "asking the model as it is",
            Self::Training => "training",
            Self::Merging => "merging",
            Self::Scoring => "asking the trained model",
            Self::Judging => "judging",
        }
    }
}

/// Hears how far a run is.
pub trait Watch: Send + Sync {
    /// A phase begins, of the setting with this number of so many; it has about so many steps.
    fn phase(&self, phase: Phase, setting: (usize, usize), steps: usize);
    /// So many steps of the phase are done; `note` says what a person may want to know, such as the loss.
    fn step(&self, done: usize, note: &str);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn phase(&self, _: Phase, _: (usize, usize), _: usize) {}
    fn step(&self, _: usize, _: &str) {}
}

/// Why a run did not come to its end. Nothing that is served has changed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Someone wanted it to stop; [`go`] goes on.
    #[error("the run was stopped; start it again to go on")]
    Cancelled,
    /// The plan makes no sense; the message says what would.
    #[error("{0}")]
    Plan(String),
    /// The training failed.
    #[error(transparent)]
    Train(TrainError),
    /// The trained file could not be made or loaded.
    #[error("{0}")]
    Merged(String),
    /// A model could not be asked.
    #[error(transparent)]
    Score(ScoreError),
    /// The folder can't be read or written.
    #[error("{} can't be {doing}: {why}", path.display())]
    Folder {
        /// What.
        path: PathBuf,
        /// Read or written.
        doing: &'static str,
        /// Why.
        why: String,
    },
}

impl From<ScoreError> for RunError {
    fn from(error: ScoreError) -> Self {
        match error {
            ScoreError::Cancelled => Self::Cancelled,
            other => Self::Score(other),
        }
    }
}

impl From<TrainError> for RunError {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Stopped { .. } => Self::Cancelled,
            other => Self::Train(other),
        }
    }
}

/// The trainer in a process of its own ([`crate::trainer::train_apart`]).
#[derive(Debug, Clone)]
pub struct Apart {
    /// The program that has the hidden command for it: this one.
    pub program: PathBuf,
}

#[async_trait]
impl Trainer for Apart {
    async fn train(
        &self,
        job: &Job,
        progress: &mut (dyn FnMut(Step) + Send),
        cancel: &CancellationToken,
    ) -> Result<Trained, TrainError> {
        crate::trainer::train_apart(&self.program, job, progress, cancel.clone()).await
    }

    fn merge(&self, weights: &Path, adapter: &Path, target: &Path) -> Result<(), String> {
        crate::adapter::merge(weights, adapter, target).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
