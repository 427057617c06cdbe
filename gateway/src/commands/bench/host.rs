//! The machine: which process runs on which core, and how much memory it takes. Linux only; elsewhere nothing is pinned
//! and nothing is known.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// A process that was started for a benchmark. Killed when dropped.
pub struct Process {
    child: Child,
    /// What it said first.
    pub line: String,
}

impl Process {
    /// Starts this program with these arguments, on one core, and waits for its first line of output that `says` takes.
    pub fn start(
        core: Option<usize>,
        arguments: &[&str],
        says: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let mut child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("a process could not be started (taskset is in util-linux; --cores none does without)")?;
        let output = child.stdout.take().context("a process without output")?;
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let line = lines.find_map(|line| says(&line));
        // The rest is read too, or the process would block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        match line {
            Some(line) => Ok(Self { child, line }),
            None => anyhow::bail!("`habit {}` ended at its start", arguments.join(" ")),
        }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps all threads of this process on one core.
pub fn pin_self(core: usize) -> anyhow::Result<()> {
    let status = Command::new("taskset")
        .args(["-a", "-p", "-c", &core.to_string(), &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .context("taskset (util-linux) could not be run; --cores none does without")?;
    anyhow::ensure!(
        status.success(),
        "there is no core {core}; --cores names two that exist"
    );
    Ok(())
}

/// Resident memory of a process and all that it started, in bytes.
pub fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let own = line.split_whitespace().next()?.parse::<u64>().ok()? * 1024;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children
        .split_whitespace()
        .filter_map(|child| resident(child.parse().ok()?));
    Some(own + children.sum::<u64>())
}
