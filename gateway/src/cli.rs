//! The command line. What the commands do is in [`crate::commands`]; what flags of `serve` and `worker` set is in
//! [`crate::config`], where each field says why one would change it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use figment::value::Value;

use crate::config::{Config, ConfigError, Sources};

mod bench;
mod downtime;
mod eval;
mod learn;
mod memory;
mod tune;

pub use bench::{Bench, BenchProxy, BenchRecall, Cores, Through};
pub use downtime::Downtime;
pub use eval::{Eval, Learning};
pub use learn::Learn;
pub use memory::Memory;
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
    /// Rebuild the search index from the record
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

/// What is asked of the model, and how it answers.
#[derive(Debug, Clone, Default, Args)]
pub struct Asking {
    /// The model to ask [default: the server's]
    #[arg(long)]
    pub model: Option<String>,
    /// How freely it words an answer: 0 always takes the likeliest word, 2 is the most (small models ramble above 0.5)
    #[arg(long, value_name = "T", default_value_t = 0.2)]
    pub temperature: f64,
    /// The longest answer, in tokens (small models may go on and on)
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub max_tokens: usize,
}

/// Flags of `chat`.
#[derive(Debug, Clone, Default, Args)]
pub struct Chat {
    /// Where.
    #[command(flatten)]
    pub target: Target,
    /// How.
    #[command(flatten)]
    pub asking: Asking,
    /// Go on with this conversation's documents (its words are recalled, not shown again)
    #[arg(long, value_name = "ID")]
    pub conversation: Option<String>,
    /// Instructions for the model
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

/// Flags of `ask`.
#[derive(Debug, Clone, Default, Args)]
pub struct Ask {
    /// The question
    #[arg(required = true)]
    pub question: Vec<String>,
    /// Where.
    #[command(flatten)]
    pub target: Target,
    /// How.
    #[command(flatten)]
    pub asking: Asking,
    /// Ask within this conversation
    #[arg(long, value_name = "ID")]
    pub conversation: Option<String>,
}

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
    /// Delete some, by id, or all of a conversation
    Delete {
        /// The ids, from `habit documents list`
        #[arg(required_unless_present = "conversation", value_name = "DOCUMENT")]
        ids: Vec<String>,
        /// Documents of this conversation; all of them, if no id is given
        #[arg(long, value_name = "ID")]
        conversation: Option<String>,
        /// Where.
        #[command(flatten)]
        target: Target,
    },
}

/// What to do with models.
#[derive(Debug, Clone, Subcommand)]
pub enum Models {
    /// List what is known and what is here
    List,
    /// Fetch and prepare a model
    Pull {
        /// A name from `habit models list`, or a hub id (org/name[@revision][:file.gguf])
        model: String,
    },
    /// Tell what a model takes in memory at 16, 8 and 4 bits, and whether that is free
    Fit {
        /// As for `habit serve --model`; fetched if it is not here
        model: String,
        /// Tokens that prompt and reply may have together [default: the model's window, at most 4096]
        #[arg(long, value_name = "TOKENS")]
        context: Option<u64>,
    },
    /// Find the settings under which a model is fastest on this machine, and keep them for `serve`
    Tune(Tune),
    /// Give a model file of your own a name
    Add {
        /// A .gguf file or a directory
        path: PathBuf,
        /// The name [default: the file's]
        #[arg(long)]
        name: Option<String>,
    },
}

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
