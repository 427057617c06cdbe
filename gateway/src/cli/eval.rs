//! Flags of `habit eval`.

use std::path::PathBuf;

use clap::Subcommand;

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub enum Eval {
    /// How well earlier turns are found again, on conversations with questions (LoCoMo's JSON layout)
    Recall {
        /// The file
        file: PathBuf,
        /// Also with each feature of the ranking switched off in turn
        #[arg(long)]
        ablate: bool,
        /// Write all figures to this file, as JSON
        #[arg(long, value_name = "OUT")]
        json: Option<PathBuf>,
    },
    /// Whether memory helps: questions about what was said earlier, answered with memory off and on
    Helps {
        /// Facts, at most 40
        #[arg(long, value_name = "N", default_value_t = 40)]
        facts: usize,
        /// Write all figures to this file, as JSON
        #[arg(long, value_name = "OUT")]
        json: Option<PathBuf>,
    },
}
