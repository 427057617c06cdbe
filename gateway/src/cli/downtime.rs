//! The command line of `habit downtime`.

use clap::Subcommand;

use super::Target;

/// What to do with the work for which nobody waits.
#[derive(Debug, Clone, Subcommand)]
pub enum Downtime {
    /// What is being done, what is to be done, and what there is to run
    Status {
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Run it now, for everyone in the team, and show how far it is
    Run {
        /// Only this routine [default: all of them; `habit downtime status` lists them]
        routine: Option<String>,
        /// Only for this user
        #[arg(long, value_name = "USER")]
        only: Option<String>,
        /// Don't wait for its end
        #[arg(long)]
        no_wait: bool,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// List what was done, newest first
    History {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Show the report of a run
    Show {
        /// The run, from `habit downtime history`
        run: String,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Stop a run, after the step that it is in
    Cancel {
        /// The run
        run: String,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Let a run that was cancelled, or that failed, go on
    Resume {
        /// The run
        run: String,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Take back all that a run changed
    Undo {
        /// The run
        run: String,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
}

impl Downtime {
    /// Where.
    #[must_use]
    pub fn target(&self) -> &Target {
        match self {
            Self::Status { target }
            | Self::Run { target, .. }
            | Self::History { target, .. }
            | Self::Show { target, .. }
            | Self::Cancel { target, .. }
            | Self::Resume { target, .. }
            | Self::Undo { target, .. } => target,
        }
    }
}
