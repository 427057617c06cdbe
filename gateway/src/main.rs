//! The `habit` program: parses the command line and runs one command. What commands do is in `commands/`.

use std::process::ExitCode;

use clap::Parser;
use habit_gateway::cli::Cli;
use habit_gateway::{commands, telemetry};
use mimalloc::MiMalloc;

/// Gives memory back where glibc's arenas keep it: models and prefix caches are large and come and go.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start(cli.common.verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(commands::run(cli));
    // Blocking work that nobody waits for any more (a model that was being read) must not delay the end.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
