//! `habit keys`.

use clap::Subcommand;

/// What to do with keys. The data directory's files are the authority: no server needs to run.
#[derive(Debug, Clone, Subcommand)]
pub enum Keys {
    /// Make a key; it is shown this once
    Create {
        /// The team whose memory it reaches
        #[arg(long, default_value = "default")]
        team: String,
        /// The user as whom it writes
        #[arg(long, default_value = "me")]
        user: String,
        /// May manage its team's keys and rebuild the index
        #[arg(long)]
        admin: bool,
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
        /// Days until it stops working [default: never]
        #[arg(long, value_name = "DAYS")]
        expires_days: Option<u32>,
        /// Requests a minute [default: no limit]
        #[arg(long, value_name = "N")]
        rpm: Option<u32>,
        /// Tokens a minute, of prompts and replies together [default: no limit]
        #[arg(long, value_name = "N")]
        tpm: Option<u32>,
        /// Requests at the same time [default: no limit]
        #[arg(long, value_name = "N")]
        concurrency: Option<u32>,
        /// Only this model, by its own name; may be given several times [default: all]
        #[arg(long = "model", value_name = "MODEL")]
        models: Vec<String>,
    },
    /// List them
    List {
        /// Only this team's
        #[arg(long)]
        team: Option<String>,
    },
    /// Revoke one: it stops working within two seconds
    Revoke {
        /// Its id: the part of the key between `hb-` and the next `-`
        id: String,
    },
}
