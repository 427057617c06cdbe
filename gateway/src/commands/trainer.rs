//! `habit trainer JOB`: one training run as a process of its own, started by [`habit_learning::trainer::train_apart`]. It
//! tells its steps as lines of JSON, and ends after a checkpoint when its standard input does.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use habit_learning::adapter;
use habit_learning::trainer::apart;
use habit_learning::trainer::probe::probe;

/// Runs it; then merges, and writes what other tools check it by, where that was asked for.
///
/// # Errors
/// If the file is no job, or what follows the training fails; that a job fails is told on standard output.
pub async fn run(job: PathBuf, merge: Option<PathBuf>, probed: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let shown = job.display().to_string();
    let work = move || -> anyhow::Result<ExitCode> {
        let (job, Some(trained)) = apart::work(&job)? else {
            return Ok(ExitCode::FAILURE);
        };
        if let Some(target) = merge {
            adapter::merge(&job.weights, &trained.adapter, &target)?;
        }
        if let Some(target) = probed {
            probe(&job, &trained.adapter, &target)?;
        }
        Ok(ExitCode::SUCCESS)
    };
    let done = tokio::task::spawn_blocking(work).await?;
    done.with_context(|| format!("{shown} can't be done"))
}
