//! Members of the fleet for servers elsewhere: from an entry of the list to something that answers, with everything that
//! stands before it.

use std::sync::Arc;
use std::time::Duration;

use habit_engine::admission::Admission;
use habit_engine::fleet::patience::Patience;
use habit_engine::fleet::{Member, MemberOptions};
use habit_engine::worker::{Worker, WorkerOptions};

use crate::config::{Config, Kind, Upstream};

/// Replies at the same time from an upstream: enough for any that this gateway is likely to have in front of it, and a
/// bound if it hangs.
const RUNNING: usize = 4096;

/// An upstream as a member of the fleet. Whether it answers is found out later.
///
/// # Errors
/// If its URL or its key won't do.
pub fn member(config: &Config, upstream: &Upstream) -> anyhow::Result<Arc<Member>> {
    let name = upstream.display_name();
    let worker = Worker::new(WorkerOptions {
        base_url: upstream.url.clone(),
        api_key: upstream.secret()?.map(|key| key.expose().to_owned()),
        name: name.clone(),
        models: upstream.named_models().into_iter().map(|(_, theirs)| theirs).collect(),
        webui: upstream.kind == Kind::Webui,
        connect: Duration::from_secs(upstream.connect_s),
        retries: upstream.retries,
    })?;
    let (first, silence) = (upstream.first_token_s, upstream.silence_s);
    let patient = Patience::new(
        Arc::new(worker),
        &name,
        Duration::from_secs(first),
        Duration::from_secs(silence),
    );
    let running = match (upstream.max_running, config.engine.max_running) {
        (0, 0) => RUNNING,
        (0, running) | (running, _) => running,
    };
    let waiting = upstream.max_waiting.unwrap_or(config.engine.max_waiting);
    let options = MemberOptions {
        name,
        models: upstream.named_models(),
        weight: upstream.weight,
        sees_memory: upstream.sees_memory(&config.memory),
        check_every: Duration::from_secs(upstream.check_s),
        ..MemberOptions::default()
    };
    let admitted = Admission::new(Arc::new(patient), running, waiting);
    Ok(Arc::new(Member::remote(Arc::new(admitted), options)))
}
