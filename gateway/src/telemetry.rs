//! Logs: readable lines on standard error. `RUST_LOG` says what is shown.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Without `RUST_LOG`: our own messages, and only trouble from libraries.
const QUIET: &str = "warn,mistralrs=error,mistralrs_core=error,habit_gateway=info,habit_memory=info,habit_engine=info,habit_learning=info";

/// Without `RUST_LOG`, with `--verbose`: also a line a request.
const VERBOSE: &str = "warn,mistralrs=error,mistralrs_core=error,habit_gateway=debug,habit_memory=debug,habit_engine=debug,habit_learning=debug,habit=debug";

/// Starts logging. A second call does nothing.
pub fn start(verbose: bool) {
    let default = || EnvFilter::new(if verbose { VERBOSE } else { QUIET });
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| default());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Someone else's subscriber (in tests) is as good.
    let _ = lines.try_init();
}
