//! `habit ingest` and `habit documents`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Target;

/// Flags of `ingest`.
#[derive(Debug, Clone, Default, Args)]
pub struct Ingest {
    /// The files, or folders with all that is in them: text, Markdown, HTML, PDF, Word, spreadsheets, CSV, source code, SQL
    #[arg(required = true, value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Go on: take in what changes there, and forget what is deleted there, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Only for this conversation
    #[arg(long, value_name = "ID", conflicts_with = "team_wide")]
    pub conversation: Option<String>,
    /// For everyone in the team
    #[arg(long)]
    pub team_wide: bool,
    /// Where.
    #[command(flatten)]
    pub target: Target,
}

/// What to do with documents.
#[derive(Debug, Clone, Subcommand)]
pub enum Documents {
    /// List them
    List {
        /// Only the one of this name, with its folders
        name: Option<String>,
        /// Also those of this conversation
        #[arg(long, value_name = "ID")]
        conversation: Option<String>,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Show the passages that a question would find
    Search {
        /// The question
        #[arg(required = true)]
        query: Vec<String>,
        /// Also in this conversation's
        #[arg(long, value_name = "ID")]
        conversation: Option<String>,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
    /// Delete some, by id or name, or all of a conversation
    Delete {
        /// Their ids or names, from `habit documents list`
        #[arg(required_unless_present = "conversation", value_name = "DOCUMENT")]
        documents: Vec<String>,
        /// Documents of this conversation; all of them, if none is given
        #[arg(long, value_name = "ID")]
        conversation: Option<String>,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
}
