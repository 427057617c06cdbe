//! `habit bench`: what this gateway (or any other that speaks OpenAI's API) costs. [`proxy`] measures, [`mock`] is the
//! upstream that it measures with, [`relay`] the least that any could cost. And what it costs to look something up in
//! memory: [`recall`].

use crate::cli::{Bench, Common};

mod chart;
mod client;
mod host;
mod mock;
mod proxy;
mod recall;
mod relay;
mod report;

/// Runs one benchmark.
///
/// # Errors
/// With what to do about it.
pub async fn run(common: &Common, what: Bench) -> anyhow::Result<()> {
    let what = match what {
        Bench::Recall(flags) => return recall::run(common, flags).await,
        what => what,
    };
    // On one thread of their own: tasks that hop from thread to thread would be measured too.
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match what {
                Bench::Mock { bind } => mock::run(bind).await,
                Bench::Relay { bind, upstream } => relay::run(bind, &upstream).await,
                Bench::Proxy(flags) => proxy::run(flags).await,
                Bench::Recall(_) => Ok(()),
            }
        })
    };
    tokio::task::spawn_blocking(work).await?
}
