//! The command line: a file here for the flags of each command. What the commands do is in [`crate::commands`]; what flags
//! of `serve` and `worker` set is in [`crate::config`], where each field says why one would change it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use figment::value::Value;

use crate::config::{Config, ConfigError, Sources};

mod bench;
mod chat;
mod documents;
mod downtime;
mod eval;
mod keys;
mod learn;
mod memory;
mod models;
mod serve;
mod tune;

pub use bench::{Bench, BenchProxy, BenchRecall, Cores, Through};
pub use chat::{Ask, Asking, Chat};
pub use documents::{Documents, Ingest};
pub use downtime::Downtime;
pub use eval::{Eval, Learning};
pub use keys::Keys;
pub use learn::Learn;
pub use memory::Memory;
pub use models::Models;
pub use serve::{EngineFlags, Serve, Worker};
pub use tune::Tune;

const EXAMPLES: &str = "\
Start here:
  habit serve                          serve a small model on http://127.0.0.1:8420, print a key and a snippet
  habit chat                           talk to it in this terminal
  habit ingest notes.md handbook.pdf   give it documents to answer from

More:
  habit serve --model ./model.gguf     another model: a file, a directory, a name from `habit models list`, a hub id
  habit worker --model ./model.gguf    run the model apart, in a process of its own …
  habit serve --upstream http://127.0.0.1:8421   … and the gateway in front of it, or of any OpenAI-compatible server
  habit keys create --team acme --user ann       a key for someone else: what each says stays with them

Every setting: `deploy/habit.toml` in the source, read from --config FILE or from habit.toml in the data directory;
HABIT_SECTION_FIELD in the environment (HABIT_SERVER_BIND=…) and flags win over it.";

/// An OpenAI-compatible gateway that remembers.
#[derive(Debug, Parser)]
#[command(name = "habit", version, about, after_help = EXAMPLES, max_term_width = 120)]
#[command(
    long_about = "An OpenAI-compatible gateway that remembers: point any OpenAI client at it, and what was said in \
                        one conversation, or stands in your documents, is there in the next."
)]
pub struct Cli {
    /// For every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Common {
    /// Read settings from this file [default: habit.toml in the data directory, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep the database, the index and the models here [default: ~/.local/share/habit]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Keep model files here [default: models in the data directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub models_dir: Option<PathBuf>,
    /// Log a line for each request (RUST_LOG says it more exactly)
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the OpenAI API, with memory
    Serve(Serve),
    /// Run a model apart, without memory, for a gateway's --upstream
    Worker(Worker),
    /// Talk in this terminal
    Chat(Chat),
    /// Ask one question and print the answer
    Ask(Ask),
    /// Give documents to memory
    Ingest(Ingest),
    /// List, search and delete documents
    #[command(subcommand)]
    Documents(Documents),
    /// Show, change, forget, export and erase what is known of a user
    #[command(subcommand)]
    Memory(Memory),
    /// Learn from what users said of replies: train, prove, serve, take back
    #[command(subcommand)]
    Learn(Learn),
    /// Serve memory as tools (MCP) on standard input and output; a running server has them at /mcp
    Mcp(Target),
    /// Show, run and undo the work for which nobody waits
    #[command(subcommand)]
    Downtime(Downtime),
    /// List, fetch and add models
    #[command(subcommand)]
    Models(Models),
    /// Make, list and revoke keys
    #[command(subcommand)]
    Keys(Keys),
    /// Make the search index anew from the record; beside a running server the old one serves meanwhile
    Reindex(Target),
    /// Measure how well it does
    #[command(subcommand)]
    Eval(Eval),
    /// Measure what a gateway costs
    #[command(subcommand)]
    Bench(Bench),
    /// Train an adapter as a file says; what learning starts as a process of its own
    #[command(hide = true)]
    Trainer {
        /// The job, as JSON
        job: PathBuf,
        /// Then merge the adapter into the served file, and write this one
        #[arg(long, value_name = "FILE")]
        merge: Option<PathBuf>,
        /// Then write the logits of the first example, as safetensors, for checks by other tools
        #[arg(long, value_name = "FILE")]
        probe: Option<PathBuf>,
    },
    /// Print the API's description (OpenAPI, YAML)
    Openapi,
}

/// Which server a command talks to, and as whom.
#[derive(Debug, Clone, Default, Args)]
pub struct Target {
    /// Talk to this server [default: the one that runs on this data directory, or a short-lived one]
    #[arg(long, value_name = "URL", env = "HABIT_URL")]
    pub url: Option<String>,
    /// The key for that server [default: a short-lived one, where this user may write the data directory]
    #[arg(long, value_name = "KEY", env = "HABIT_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Without a key: act for this team
    #[arg(long, default_value = "default")]
    pub team: String,
    /// Without a key: act as this user
    #[arg(long, default_value = "me")]
    pub user: String,
}

/// A flag, the field that it sets, and its value.
type Flag = (&'static str, &'static str, Value);

impl Common {
    /// The configuration, with these flags over it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(&self, flags: Vec<Flag>) -> Result<Config, ConfigError> {
        Config::load(&self.sources(flags))
    }

    /// What the configuration is read from, also when it is read again.
    #[must_use]
    pub fn sources(&self, mut flags: Vec<Flag>) -> Sources {
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        push(&mut flags, "--data-dir", "data.dir", text(&self.data_dir));
        push(&mut flags, "--models-dir", "data.models", text(&self.models_dir));
        Sources::of_process(self.config.clone(), flags)
    }
}

fn push(flags: &mut Vec<Flag>, flag: &'static str, field: &'static str, value: Option<impl Into<Value>>) {
    flags.extend(value.map(|value| (flag, field, value.into())));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_win() {
        let cli = Cli::parse_from([
            "habit",
            "serve",
            "--bind",
            "127.0.0.1:0",
            "--threads",
            "3",
            "--no-memory",
        ]);
        let Command::Serve(serve) = cli.command else {
            panic!("not serve")
        };
        let mut flags = serve.flags();
        push(&mut flags, "--data-dir", "data.dir", Some("/nonexistent"));
        let sources = Sources {
            flags,
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        assert_eq!(config.server.bind.port(), 0);
        assert_eq!(config.engine.threads, 3);
        assert!(!config.memory.on);
    }

    #[test]
    fn an_upstream_stands_for_the_whole_list() {
        let config = |arguments: &[&str]| {
            let cli = Cli::parse_from(["habit", "serve"].iter().chain(arguments));
            let Command::Serve(serve) = cli.command else {
                panic!("not serve")
            };
            let sources = Sources {
                flags: serve.flags(),
                env: vec![("HABIT_UPSTREAM_KEY".to_owned(), "secret".to_owned())],
                ..Sources::default()
            };
            Config::load(&sources).unwrap()
        };
        let alone = config(&["--upstream", "http://y"]);
        assert_eq!(alone.upstreams[0].url, "http://y");
        assert_eq!(alone.upstreams[0].secret().unwrap().unwrap().expose(), "secret");
        assert_eq!(alone.engine.own_model(alone.upstreams.len()), None);
        let both = config(&["--upstream", "http://y", "--model", "x"]);
        assert_eq!(both.engine.own_model(both.upstreams.len()), Some("x"));
        assert_eq!(config(&[]).engine.own_model(0), Some("default"));
    }
}
