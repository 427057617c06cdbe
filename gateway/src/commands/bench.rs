//! `habit bench`: what this gateway (or any other that speaks OpenAI's API) costs. [`proxy`] measures, [`mock`] is the
//! upstream that it measures with, [`relay`] the least that any could cost.

use crate::cli::Bench;

mod chart;
mod client;
mod host;
mod mock;
mod proxy;
mod relay;
mod report;

/// Runs one benchmark.
///
/// # Errors
/// With what to do about it.
pub async fn run(what: Bench) -> anyhow::Result<()> {
    // On one thread of their own: tasks that hop from thread to thread would be measured too.
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match what {
                Bench::Mock { bind } => mock::run(bind).await,
                Bench::Relay { bind, upstream } => relay::run(bind, &upstream).await,
                Bench::Proxy(flags) => proxy::run(flags).await,
            }
        })
    };
    tokio::task::spawn_blocking(work).await?
}
