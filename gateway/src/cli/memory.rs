//! The command line of `habit memory`.

use std::path::PathBuf;

use clap::Subcommand;

use super::Target;

/// What to do with what is remembered.
#[derive(Debug, Clone, Subcommand)]
pub enum Memory {
    /// List what is known, newest first
    List {
        /// active, superseded, quarantined or all
        #[arg(long, value_name = "STATUS", default_value = "active")]
        status: String,
        /// What held at this time, such as 2026-03-01
        #[arg(long, value_name = "TIME", conflicts_with = "status")]
        as_of: Option<String>,
        /// Only of this conversation
        #[arg(long, value_name = "ID")]
        conversation: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Find what fits a question
    Search {
        /// The question
        #[arg(required = true)]
        query: Vec<String>,
        /// What held at this time, such as 2026-03-01
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 10)]
        limit: u32,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Remember a statement
    Add {
        /// The statement
        #[arg(required = true)]
        text: Vec<String>,
        /// Shown in every turn, whatever is asked
        #[arg(long)]
        pin: bool,
        /// For everyone in the team
        #[arg(long)]
        team_wide: bool,
        /// Only for this conversation
        #[arg(long, value_name = "ID", conflicts_with = "team_wide")]
        conversation: Option<String>,
        /// Since when it holds, such as 2026-03-01 [default: now]
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Days until it is deleted [default: never]
        #[arg(long, value_name = "DAYS")]
        days: Option<u32>,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Show one with all that is known of it
    Show {
        /// Its id, from `habit memory list`
        id: String,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Give one another text; the old one stays in its history
    Update {
        /// Its id
        id: String,
        /// The text
        #[arg(required = true)]
        text: Vec<String>,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Show one in every turn, whatever is asked
    Pin {
        /// Its id
        id: String,
        /// No longer
        #[arg(long)]
        off: bool,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Doubt one: it is kept, and never shown to a model
    Quarantine {
        /// Its id
        id: String,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Let one hold again that was doubted, or that a newer one took the place of
    Restore {
        /// Its id
        id: String,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Tell what became of one
    History {
        /// Its id
        id: String,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Delete some: their texts are gone, also from their history
    Delete {
        /// Their ids
        #[arg(required = true, value_name = "MEMORY")]
        ids: Vec<String>,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Delete what memory finds for a concept; shows it first
    Forget {
        /// Words for the concept
        #[arg(required = true)]
        query: Vec<String>,
        /// Also whole documents of which a passage fits
        #[arg(long)]
        documents: bool,
        /// Things of each sort that are shown, and deleted, at most: 1 to 100 [default: 20]
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Delete what is shown
        #[arg(long)]
        yes: bool,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Write all that is kept of a user, as JSON lines
    Export {
        /// Write it here [default: the terminal]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Leave the bytes of files out
        #[arg(long)]
        without_files: bool,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Erase all that is kept of a user, for good
    Erase {
        /// The user's name, as a confirmation
        #[arg(long, value_name = "USER")]
        confirm: String,
        /// Also what the user gave the whole team
        #[arg(long)]
        team_wide: bool,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
}

impl Memory {
    /// Which server is meant.
    #[must_use]
    pub fn target(&self) -> &Target {
        match self {
            Self::List { target, .. }
            | Self::Search { target, .. }
            | Self::Add { target, .. }
            | Self::Show { target, .. }
            | Self::Update { target, .. }
            | Self::Pin { target, .. }
            | Self::Quarantine { target, .. }
            | Self::Restore { target, .. }
            | Self::History { target, .. }
            | Self::Delete { target, .. }
            | Self::Forget { target, .. }
            | Self::Export { target, .. }
            | Self::Erase { target, .. } => target,
        }
    }
}
