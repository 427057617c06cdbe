//! The trainer as a process of its own: a crash, its memory and its threads stay there, and it runs with low priority.
//!
//! The parent writes the job to a file in its folder and reads a line of JSON a step from the child's standard output. The
//! child ends, after a checkpoint, when its standard input does: so it stops when it is asked to, and when the parent dies.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::{Job, Step, TrainError, Trained, train};

/// The command of the `habit` program that [`work`] is.
pub const COMMAND: &str = "trainer";

/// A child that was asked to stop has so long for the step that it is in.
const GRACE: Duration = Duration::from_mins(1);

/// What the child says, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Step(Step),
    Trained(Trained),
    Stopped { step: usize, steps: usize },
    DoesNotFit { needed: u64, free: u64 },
    Unfit(String),
    Nothing(String),
    Failed(String),
}

/// [`train`], in a process of its own with low priority: `program` is the `habit` program. When `cancel` is cancelled the
/// child keeps a checkpoint and ends.
///
/// # Errors
/// As [`train`]; [`TrainError::Failed`] with what the child said last if it broke off.
pub async fn train_apart(
    program: &Path,
    job: &Job,
    progress: &mut (dyn FnMut(Step) + Send),
    cancel: CancellationToken,
) -> Result<Trained, TrainError> {
    std::fs::create_dir_all(&job.out).map_err(TrainError::io("create", &job.out))?;
    let path = job.out.join("job.json");
    let text = serde_json::to_vec(job).map_err(|error| TrainError::Failed(error.to_string()))?;
    std::fs::write(&path, text).map_err(TrainError::io("write", &path))?;
    let mut child = start(program, &path, job.threads).map_err(TrainError::io("start", program))?;
    let (Some(out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(TrainError::Failed("the trainer's output can't be read".to_owned()));
    };
    let mut lines = BufReader::new(out).lines();
    let mut last = None;
    let mut complaints = String::new();
    let reading = async {
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str(&line) {
                Ok(Said::Step(step)) => progress(step),
                Ok(said) => last = Some(said),
                Err(error) => tracing::warn!(line, %error, "the trainer said something else"),
            }
        }
    };
    let input = child.stdin.take();
    let asking = async {
        cancel.cancelled().await;
        drop(input);
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ((), _) = async { tokio::join!(reading, err.read_to_string(&mut complaints)) } => {}
        () = asking => { child.start_kill().ok(); }
    }
    let status = child.wait().await.map_err(TrainError::io("wait for", program))?;
    match last {
        Some(Said::Trained(trained)) => Ok(trained),
        Some(Said::Stopped { step, steps }) => Err(TrainError::Stopped { step, steps }),
        Some(Said::DoesNotFit { needed, free }) => Err(TrainError::DoesNotFit { needed, free }),
        Some(Said::Unfit(reason)) => Err(TrainError::Unfit(reason)),
        Some(Said::Nothing(reason)) => Err(TrainError::Nothing(reason)),
        Some(Said::Failed(reason)) => Err(TrainError::Failed(reason)),
        Some(Said::Step(_)) | None => {
            let told = complaints.trim().lines().last().unwrap_or("it said nothing").to_owned();
            Err(TrainError::Failed(format!(
                "its process ended with {status}: {told}; start the same job again to go on from its last checkpoint"
            )))
        }
    }
}

fn start(program: &Path, job: &Path, threads: Option<usize>) -> std::io::Result<Child> {
    let command = |mut command: Command| {
        command.arg(COMMAND).arg(job).kill_on_drop(true);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(threads) = threads {
            command.env("RAYON_NUM_THREADS", threads.max(1).to_string());
        }
        command.spawn()
    };
    let mut low = Command::new("nice");
    low.arg("-n").arg("15").arg(program);
    // Where there is no `nice`, it runs as it is.
    command(low).or_else(|_| command(Command::new(program)))
}

/// What the child does: the job in this file, with its lines on standard output. Gives the job, and its result if it went
/// well.
///
/// # Errors
/// If the file is no job, or nothing can be said.
pub fn work(job: &Path) -> std::io::Result<(Job, Option<Trained>)> {
    let text = std::fs::read(job)?;
    let lock = job.with_extension("lock");
    let job: Job = serde_json::from_slice(&text)?;
    let stop = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&stop);
    // It ends with the process: a thread that only waits.
    std::thread::Builder::new()
        .name("habit-stop".to_owned())
        .spawn(move || {
            std::io::stdin().lock().read_to_end(&mut Vec::new()).ok();
            heard.store(true, Ordering::Relaxed);
        })?;
    // One whose parent was killed is still in its last step: its checkpoint is where this one goes on. Where files can't be
    // locked, nothing waits.
    let lock = std::fs::File::create(&lock)?;
    lock.lock().ok();
    let said = train(&job, &mut |step| say(&Said::Step(step)), &|| {
        stop.load(Ordering::Relaxed)
    });
    let trained = said.as_ref().ok().cloned();
    say(&match said {
        Ok(trained) => Said::Trained(trained),
        Err(TrainError::Stopped { step, steps }) => Said::Stopped { step, steps },
        Err(TrainError::DoesNotFit { needed, free }) => Said::DoesNotFit { needed, free },
        Err(TrainError::Unfit(reason)) => Said::Unfit(reason),
        Err(TrainError::Nothing(reason)) => Said::Nothing(reason),
        Err(TrainError::Failed(reason)) => Said::Failed(reason),
        Err(error @ TrainError::Io { .. }) => Said::Failed(error.to_string()),
    });
    Ok((job, trained))
}

/// A parent that is gone hears nothing; the run then ends by its standard input.
fn say(said: &Said) {
    let mut out = std::io::stdout().lock();
    if let Ok(line) = serde_json::to_string(said) {
        writeln!(out, "{line}").and_then(|()| out.flush()).ok();
    }
}
