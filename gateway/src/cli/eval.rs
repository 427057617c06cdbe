//! Flags of `habit eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::commands::eval::learning::lived::Arm;
use crate::commands::eval::learning::stream::Drift;

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
    /// Whether it learns from use: a stream of questions, each answered, corrected, and learnt from in downtime
    ///
    /// The questions are crowd-written single turns of CLINC150 or banking77, and the right answer is the intent's name.
    /// Each downtime learns from all corrections until then, which takes minutes; --every with as many as --corrections has
    /// only the last of them. Too few corrections are not trained on, as nothing could be shown of the result.
    Learning(Learning),
}

/// Flags of `eval learning`.
#[derive(Debug, Clone, Args)]
pub struct Learning {
    /// A folder in CLINC150's layout (data_small.json, domains.json, wiki.txt) or banking77's (train.csv, test.csv,
    /// categories.json)
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// What the questions are about; a wrong name lists those that there are
    #[arg(long, value_name = "NAME")]
    pub domain: String,
    /// Corrections in the stream
    #[arg(long, value_name = "N", default_value_t = 160)]
    pub corrections: usize,
    /// How often all of it is done, each time with other questions in another order; how long the training of all takes is
    /// told before it begins, and fewer take less
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub seeds: u64,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub first_seed: u64,
    /// Ways to answer
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "base,nearest,few-shot,lora,shuffled"
    )]
    pub arms: Vec<Arm>,
    /// What changes half way
    #[arg(long, value_enum)]
    pub drift: Option<Drift>,
    /// Corrections between two downtimes
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub every: usize,
    /// Questions that are asked before and after
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub later: usize,
    /// Training settings that a downtime tries, 1 to 6
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=6))]
    pub grid: u8,
    /// Training settings to begin with, as JSON; what is not named is as always
    #[arg(long, value_name = "JSON")]
    pub settings: Option<String>,
    /// Anchor on sentences of the data instead of the trainer's own
    #[arg(long)]
    pub anchors: bool,
    /// Write all figures to this file, as JSON
    #[arg(long, value_name = "OUT")]
    pub json: Option<PathBuf>,
    /// Write plots and the runs' reports to this folder
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
}
