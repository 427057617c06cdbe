//! Adapters: PEFT's layout in and out ([`peft`]), and merging one into the file that is served ([`mod@merge`]).
//!
//! An adapter is kept in the order of rows that Hugging Face's models have; only the merge knows that llama's GGUF files
//! have another.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::Tensor;

use crate::trainer::lora::{Lora, Module};

pub mod merge;
pub mod peft;

pub use merge::merge;

/// What is added to some matrices of a model.
#[derive(Debug)]
pub struct Adapter {
    /// The rank of its matrices.
    pub rank: usize,
    /// How much a product counts.
    pub scale: f64,
    /// By layer and by place in [`Module::ALL`]: rank x inputs, outputs x rank.
    pub pairs: BTreeMap<(usize, usize), [Tensor; 2]>,
}

/// Why an adapter can't be read, written or merged.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
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
    /// It is not an adapter of a kind that is known, or not one for this model.
    #[error("the adapter {path} can't be used: {reason}", path = path.display())]
    Unfit {
        /// The adapter.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The model's file can't be read or written.
    #[error(transparent)]
    Model(#[from] habit_engine::models::ModelError),
    /// The arithmetic failed.
    #[error("the adapter can't be computed: {0}")]
    Failed(#[from] candle_core::Error),
}

impl Adapter {
    /// What was trained.
    ///
    /// # Errors
    /// [`AdapterError::Failed`] if the variables can't be read.
    pub fn of(lora: &Lora, rank: usize, alpha: f32) -> candle_core::Result<Self> {
        let mut pairs = BTreeMap::new();
        for (layer, modules) in lora.pairs.iter().enumerate() {
            for (module, [first, second]) in modules.iter().enumerate() {
                let pair = [first.as_detached_tensor().copy()?, second.as_detached_tensor().copy()?];
                pairs.insert((layer, module), pair);
            }
        }
        Ok(Self {
            rank,
            scale: f64::from(alpha) / rank as f64,
            pairs,
        })
    }

    /// What is added to a matrix: outputs x inputs.
    ///
    /// # Errors
    /// [`candle_core::Error`] for matrices that do not fit each other.
    pub fn delta(&self, layer: usize, module: Module) -> candle_core::Result<Option<Tensor>> {
        let Some([first, second]) = self.pairs.get(&(layer, module as usize)) else {
            return Ok(None);
        };
        Ok(Some((second.matmul(first)? * self.scale)?))
    }
}
