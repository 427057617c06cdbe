//! `habit models`.

use std::path::PathBuf;

use clap::Subcommand;

use super::Tune;

/// What to do with models.
#[derive(Debug, Clone, Subcommand)]
pub enum Models {
    /// List what is known and what is here
    List,
    /// Fetch and prepare a model
    Pull {
        /// A name from `habit models list`, or a hub id (org/name[@revision][:file.gguf])
        model: String,
    },
    /// Tell what a model takes in memory at 16, 8 and 4 bits, and whether that is free
    Fit {
        /// As for `habit serve --model`; fetched if it is not here
        model: String,
        /// Tokens that prompt and reply may have together [default: the model's window, at most 4096]
        #[arg(long, value_name = "TOKENS")]
        context: Option<u64>,
    },
    /// Find the settings under which a model is fastest on this machine, and keep them for `serve`
    Tune(Tune),
    /// Give a model file of your own a name
    Add {
        /// A .gguf file or a directory
        path: PathBuf,
        /// The name [default: the file's]
        #[arg(long)]
        name: Option<String>,
    },
}
