//! `habit trainer JOB`: one training run as a process of its own, started by [`habit_learning::trainer::train_apart`]. It
//! tells its steps as lines of JSON, and ends after a checkpoint when its standard input does.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use habit_learning::trainer::apart;

/// Runs it.
///
/// # Errors
/// If the file is no job; that a job fails is told on standard output.
pub async fn run(job: PathBuf) -> anyhow::Result<ExitCode> {
    let shown = job.display().to_string();
    let done = tokio::task::spawn_blocking(move || apart::work(&job)).await?;
    let went_well = done.with_context(|| format!("{shown} can't be done"))?;
    Ok(if went_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
