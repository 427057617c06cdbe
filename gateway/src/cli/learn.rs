//! The command line of `habit learn`.

use std::path::PathBuf;

use clap::Subcommand;

use super::Target;

/// What to do about learning from use.
#[derive(Debug, Clone, Subcommand)]
pub enum Learn {
    /// Train on what users said of replies, and serve the result if it is shown to be better
    Run {
        /// Begin it and do not wait for its end (it needs a server that goes on)
        #[arg(long)]
        no_wait: bool,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Tell what there is to learn from, what runs, and which model serves
    Status {
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// List the runs, newest first, and what changed
    History {
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Show the report of a run: what changed, on which examples, by how much, how sure, and how to undo it
    Show {
        /// Its id, from `habit learn history`
        run: String,
        /// Write report and plots to this folder
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Stop a run for good
    Cancel {
        /// Its id
        run: String,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Let a model answer all requests: the one on trial, or that of a run
    Promote {
        /// The run, from `habit learn history` [default: the model on trial]
        run: Option<String>,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Take the last step back: what served before serves again
    Rollback {
        /// Why, for the history
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Write what is learnt from, without secrets, for other trainers
    Export {
        /// chat, preference, dpo, kto or sharegpt
        #[arg(long, value_name = "FORMAT", default_value = "chat")]
        format: String,
        /// Write to this file [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Tell what a feedback did
    Lineage {
        /// Its id
        feedback: String,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
}

impl Learn {
    /// Where it is to be done.
    #[must_use]
    pub fn target(&self) -> &Target {
        match self {
            Self::Run { target, .. }
            | Self::Status { target }
            | Self::History { target }
            | Self::Show { target, .. }
            | Self::Cancel { target, .. }
            | Self::Promote { target, .. }
            | Self::Rollback { target, .. }
            | Self::Export { target, .. }
            | Self::Lineage { target, .. } => target,
        }
    }
}
