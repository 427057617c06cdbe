//! `habit serve` and `habit worker`, and which settings their flags set.

use std::net::SocketAddr;

use clap::Args;

use super::{Flag, push};

/// Flags of `serve`.
#[derive(Debug, Clone, Default, Args)]
pub struct Serve {
    /// Listen here; port 0 takes a free one [default: 127.0.0.1:8420]
    #[arg(long, value_name = "ADDR:PORT")]
    pub bind: Option<SocketAddr>,
    /// The engine's flags.
    #[command(flatten)]
    pub engine: EngineFlags,
    /// Ask this OpenAI-compatible server instead of running a model here, or beside one that --model names
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// The key that the upstream wants (better: HABIT_UPSTREAM_KEY in the environment)
    #[arg(long, value_name = "KEY", requires = "upstream")]
    pub upstream_key: Option<String>,
    /// Allow memory to be sent to an upstream on another machine
    #[arg(long)]
    pub memory_to_upstream: bool,
    /// Record, but put nothing of memory before the model
    #[arg(long)]
    pub no_memory: bool,
    /// Ask for no keys; only while listening on a loopback address
    #[arg(long)]
    pub no_auth: bool,
}

/// Flags of `worker`.
#[derive(Debug, Clone, Args)]
pub struct Worker {
    /// Listen here; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8421")]
    pub bind: SocketAddr,
    /// The engine's flags.
    #[command(flatten)]
    pub engine: EngineFlags,
    /// Ask for this key; needed unless listening on a loopback address
    #[arg(long, value_name = "KEY", env = "HABIT_WORKER_KEY", hide_env_values = true)]
    pub key: Option<String>,
}

/// Flags of what runs a model.
#[derive(Debug, Clone, Default, Args)]
pub struct EngineFlags {
    /// Run the profile of this name ([profiles.NAME] in habit.toml)
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    pub profile: Option<String>,
    /// Quantise the model to 16, 8 or 4 bits a weight, if it is finer
    #[arg(long, value_name = "N")]
    pub bits: Option<u8>,
    /// A .gguf file, a directory, a name from `habit models list`, or a hub id [default: default]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Processor threads for the model [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Replies made at the same time [default: 1 for a model here, 4096 for an upstream]
    #[arg(long, value_name = "N")]
    pub max_running: Option<usize>,
    /// Requests that may wait for their turn [default: 32]
    #[arg(long, value_name = "N")]
    pub max_waiting: Option<usize>,
    /// Tokens that prompt and reply may have together [default: the model's limit]
    #[arg(long, value_name = "N")]
    pub context_window: Option<usize>,
}

impl Serve {
    /// What these flags set.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = self.engine.flags();
        push(
            &mut flags,
            "--bind",
            "server.bind",
            self.bind.map(|bind| bind.to_string()),
        );
        push(&mut flags, "--upstream", "upstream.url", self.upstream.clone());
        push(&mut flags, "--upstream-key", "upstream.key", self.upstream_key.clone());
        push(
            &mut flags,
            "--memory-to-upstream",
            "memory.send_to_upstream",
            self.memory_to_upstream.then_some(true),
        );
        push(&mut flags, "--no-memory", "memory.on", self.no_memory.then_some(false));
        push(&mut flags, "--no-auth", "auth.required", self.no_auth.then_some(false));
        flags
    }
}

impl EngineFlags {
    /// What these flags set.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        push(&mut flags, "--model", "engine.model", self.model.clone());
        push(&mut flags, "--profile", "engine.profile", self.profile.clone());
        push(&mut flags, "--bits", "engine.bits", self.bits);
        push(&mut flags, "--threads", "engine.threads", self.threads);
        push(&mut flags, "--max-running", "engine.max_running", self.max_running);
        push(&mut flags, "--max-waiting", "engine.max_waiting", self.max_waiting);
        push(
            &mut flags,
            "--context-window",
            "engine.context_window",
            self.context_window,
        );
        flags
    }
}
