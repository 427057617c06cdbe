//! The trainer: LoRA on the processor, on the dequantised weights of the very file that is served. From examples to an
//! adapter in PEFT's layout; what it is merged into and whether it is served is decided elsewhere.
//!
//! - [`base`], [`lora`]: the frozen weights and the variables;
//! - [`batch`]: examples as tokens, exactly as served, packed without padding, what they begin with in common only once;
//! - [`ops`], [`model`], [`loss`]: the forward pass, of few large operations each with its own derivative. candle's fused
//!   norms, softmaxes and rotations have none and cut gradients silently, and its products compute one for frozen weights
//!   that nobody needs;
//! - [`anchors`]: general sentences on which the model shall stay as it was;
//! - `schedule`, `state`, `optimise`: the order of the examples, what is kept of a run that breaks off, the steps;
//! - [`apart`]: the same in a process of its own, with low priority; [`probe`]: what other tools check it by.
//!
//! What was measured is in decision 19.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::examples::Example;

pub mod anchors;
pub mod apart;
pub mod base;
pub mod batch;
pub mod lora;
pub mod loss;
pub mod model;
pub mod ops;
mod optimise;
pub mod probe;
mod schedule;
mod state;

pub use apart::train_apart;
pub use optimise::{estimate, train};

/// How to train. The default is the best recipe that was measured (decision 19).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Rank of the adapters' matrices.
    pub rank: usize,
    /// An adapter's product counts `alpha / rank` times.
    pub alpha: f32,
    /// Of AdamW, at its highest.
    pub learning_rate: f32,
    /// How often each example is seen.
    pub epochs: usize,
    /// Examples a step.
    pub batch: usize,
    /// How much the distance to the model's own words on general sentences counts, against the examples. 0 is off.
    pub anchor_weight: f32,
    /// General sentences a step.
    pub anchors_a_step: usize,
    /// Share of the steps in which the learning rate rises; then it falls to a tenth, as a cosine.
    pub warm_up: f32,
    /// Gradients longer than this (all variables together) are shortened to it.
    pub clip: f32,
    /// Noise on the embeddings of examples, by which few of them teach more than their own words: even, and at most this
    /// over the root of an example's numbers (NEFTune: Jain et al., "Noisy Embeddings Improve Instruction Finetuning",
    /// 2023; 5 is the least that they tried). 0 is off.
    pub noise: f32,
    /// What AdamW takes off the variables, times the learning rate.
    pub weight_decay: f32,
    /// Decides the order of the examples and where variables start.
    pub seed: u64,
    /// Steps between two checkpoints.
    pub checkpoint_every: usize,
    /// Tokens that an example may have; longer ones lose the beginning of their prompt.
    pub longest: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            learning_rate: 2e-3,
            epochs: 6,
            batch: 8,
            anchor_weight: 1.0,
            anchors_a_step: 4,
            warm_up: 0.1,
            clip: 1.0,
            noise: 5.0,
            weight_decay: 0.0,
            seed: 0,
            checkpoint_every: 10,
            longest: 1024,
        }
    }
}

/// What is to be trained, on what, with what, and where to. It travels as JSON to the process that does it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The GGUF file that is served.
    pub weights: PathBuf,
    /// The directory of its tokenizer and template.
    pub model_dir: PathBuf,
    /// What is learnt.
    pub examples: Vec<Example>,
    /// General sentences; the built-in ones ([`anchors::SENTENCES`]) if there are none.
    #[serde(default)]
    pub anchors: Vec<String>,
    /// How.
    #[serde(default)]
    pub settings: Settings,
    /// A folder for checkpoints and for the adapter.
    pub out: PathBuf,
    /// Bytes of memory that may be used; what is free if none are named.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Threads; all processors if none are named. Only [`train_apart`] can change it for a process.
    #[serde(default)]
    pub threads: Option<usize>,
}

/// What a job will take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Bytes of memory at the peak.
    pub bytes: u64,
    /// Seconds, by a timed step.
    pub seconds: f64,
    /// Steps.
    pub steps: usize,
    /// Matrices that are trained.
    pub variables: usize,
    /// Numbers in them.
    pub parameters: usize,
}

/// Where a run is, after a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Steps that are done.
    pub step: usize,
    /// Of so many.
    pub steps: usize,
    /// Mean surprise (negative log-likelihood, nats) of the answers' tokens in this step.
    pub loss: f32,
    /// Mean distance (nats) to the model's own words on this step's general sentences.
    pub distance: f32,
    /// Seconds that are likely left.
    pub seconds_left: f64,
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// The adapter's folder, in PEFT's layout.
    pub adapter: PathBuf,
    /// Steps that were done, those before an interruption included.
    pub steps: usize,
    /// Mean loss of the last epoch's steps.
    pub loss: f32,
    /// Mean distance of the last epoch's steps.
    pub distance: f32,
    /// Examples that were learnt.
    pub examples: usize,
    /// Examples that could not be: their prompt can't be expressed by the template, or the answer alone is too long.
    pub skipped: usize,
    /// Seconds that this process took, since it began or was resumed.
    pub seconds: f64,
    /// The process's peak memory in bytes; 0 where the system does not tell.
    pub peak_bytes: u64,
    /// Matrices that were trained.
    pub variables: usize,
}

/// Why nothing was trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The model or the settings are not of a kind that can be trained.
    #[error("this can't be trained: {0}")]
    Unfit(String),
    /// No example is left to learn from.
    #[error("there is nothing to learn: {0}")]
    Nothing(String),
    /// More memory than is free.
    #[error(
        "training takes about {} MB of memory and {} MB are free; close something, use a smaller model, or lower `batch`",
        needed / 1_000_000,
        free / 1_000_000
    )]
    DoesNotFit {
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        free: u64,
    },
    /// It was stopped; the same job goes on from its last checkpoint.
    #[error("training was stopped after {step} of {steps} steps; start the same job again to go on")]
    Stopped {
        /// Steps that are done and kept.
        step: usize,
        /// Of so many.
        steps: usize,
    },
    /// A file can't be read or written.
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The arithmetic failed.
    #[error("training failed: {0}")]
    Failed(String),
}

impl TrainError {
    pub(crate) fn io(doing: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
