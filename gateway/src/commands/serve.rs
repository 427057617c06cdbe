//! `habit serve` and `habit worker`.

use std::sync::Arc;

use super::banner;
use super::progress::Bars;
use super::running::Running;
use crate::cli::{Common, Serve, Worker};
use crate::config::Config;
use crate::http::auth::{DEFAULT_TEAM, DEFAULT_USER};
use crate::keys::NewKey;
use crate::lifecycle::{self, Signals};
use crate::wiring::Purpose;

/// Serves the OpenAI API, with memory, until a signal.
///
/// # Errors
/// With what to do about it.
pub async fn serve(common: &Common, flags: &Serve) -> anyhow::Result<()> {
    let sources = common.sources(flags.flags());
    let config = Config::load(&sources)?;
    let apart = config.upstreams.iter().filter(|one| !one.sees_memory(&config.memory));
    for upstream in apart.filter(|one| config.memory.on && one.memory.is_none()) {
        eprintln!(
            "note: {} is another machine, so memory is recorded but not sent there; allow it with --memory-to-upstream",
            upstream.url
        );
    }
    let signals = lifecycle::signals()?;
    let start = Running::start(config, Purpose::Gateway, None, Arc::new(Bars::default()));
    until_stopped(start, signals, |running| {
        Box::pin(async move {
            for trouble in running.app.engines.troubles() {
                eprintln!("note: {trouble}; it is asked again until it answers");
            }
            running.app.engines.reload_from(sources, &running.app.lifecycle)?;
            let mut key = None;
            if let Some(keys) = &running.app.keys {
                let (team, user) = (DEFAULT_TEAM.to_owned(), DEFAULT_USER.to_owned());
                let first = NewKey {
                    team,
                    user,
                    admin: true,
                    label: "first key".to_owned(),
                    ..NewKey::default()
                };
                key = keys.create_first(first).await?.map(|created| created.key);
            }
            let models = running.app.engine.models();
            Ok(banner::gateway(
                &running.url(),
                &models,
                key.as_deref(),
                running.app.keys.is_some(),
            ))
        })
    })
    .await
}

/// Runs a model apart, until a signal.
///
/// # Errors
/// With what to do about it.
pub async fn worker(common: &Common, flags: &Worker) -> anyhow::Result<()> {
    let mut config = common.load(flags.engine.flags())?;
    config.server.bind = flags.bind;
    // A worker runs a model: it never asks another one.
    config.upstreams.clear();
    config.aliases.clear();
    let key = flags.key.as_deref().filter(|key| !key.is_empty());
    if key.is_none() && !flags.bind.ip().is_loopback() {
        anyhow::bail!(
            "{} can be reached from other machines: give the worker a key with --key KEY",
            flags.bind
        );
    }
    let signals = lifecycle::signals()?;
    let start = Running::start(config, Purpose::Worker, key, Arc::new(Bars::default()));
    until_stopped(start, signals, |running| {
        Box::pin(async move {
            Ok(banner::worker(
                &running.url(),
                &running.app.engine.models(),
                running.app.keys.is_some(),
            ))
        })
    })
    .await
}

type Ready<'a> = futures::future::BoxFuture<'a, anyhow::Result<String>>;

/// Starts, says so, waits for a signal, drains; a second signal ends it at once.
async fn until_stopped(
    start: impl Future<Output = anyhow::Result<Running>>,
    mut signals: Signals,
    ready: impl for<'a> FnOnce(&'a Running) -> Ready<'a>,
) -> anyhow::Result<()> {
    let running = tokio::select! {
        running = start => running?,
        () = signals.next() => return Ok(()),
    };
    let said = ready(&running).await;
    match said {
        Ok(text) => println!("{text}"),
        Err(error) => {
            running.stop(std::future::ready(())).await;
            return Err(error);
        }
    }
    signals.next().await;
    eprintln!("stopping: running replies may finish (again to stop at once) …");
    if !running.stop(signals.next()).await {
        eprintln!("stopped before every reply was finished; what was sent of them is recorded");
    }
    Ok(())
}
