//! What the command line does, one command a file.

use std::process::ExitCode;

use crate::cli::{Cli, Command};

pub mod ask;
pub mod banner;
pub mod bench;
pub mod chat;
pub mod client;
pub mod documents;
pub mod downtime;
pub mod eval;
pub mod indexing;
pub mod ingest;
pub mod keys;
pub mod learn;
pub mod mcp;
pub mod measuring;
pub mod memory;
pub mod models;
pub mod progress;
pub mod reindex;
pub mod running;
pub mod serve;
pub mod trainer;
pub mod tune;

/// Runs one command.
///
/// # Errors
/// With what to do about it; the program then ends with a code other than 0.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { common, command } = cli;
    match command {
        Command::Serve(flags) => serve::serve(&common, &flags).await?,
        Command::Worker(flags) => serve::worker(&common, &flags).await?,
        Command::Chat(flags) => chat::run(&common, flags).await?,
        Command::Ask(flags) => ask::run(&common, flags).await?,
        Command::Ingest(flags) => return ingest::run(&common, flags).await,
        Command::Documents(what) => documents::run(&common, what).await?,
        Command::Mcp(target) => mcp::run(&common, &target).await?,
        Command::Learn(what) => learn::run(&common, what).await?,
        Command::Memory(what) => memory::run(&common, what).await?,
        Command::Downtime(what) => downtime::run(&common, what).await?,
        Command::Models(what) => models::run(&common, what).await?,
        Command::Keys(what) => keys::run(&common, what).await?,
        Command::Reindex(target) => reindex::run(&common, target).await?,
        Command::Eval(what) => eval::run(&common, what).await?,
        Command::Bench(what) => bench::run(&common, what).await?,
        Command::Trainer { job, merge, probe } => return trainer::run(job, merge, probe).await,
        Command::Openapi => {
            let yaml = crate::openapi::yaml().map_err(|error| anyhow::anyhow!("{error}"))?;
            print!("{yaml}");
        }
    }
    Ok(ExitCode::SUCCESS)
}
