//! One engine of a fleet: which models it serves under which names, whether it may see memory, and what is known of
//! its state. An engine of this process is taken at its word; a remote one is checked in the background and left alone
//! for a while when it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::Serialize;

use crate::breaker::{Breaker, BreakerOptions, Pass, State};
use crate::{Engine, EngineError, Health, Load, ModelInfo, TokenCounter};

/// A health check that takes longer has failed.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// A member that is down is checked at least this often.
const CHECK_WHEN_DOWN: Duration = Duration::from_secs(1);

/// What a remote engine is to a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberOptions {
    /// What messages to people call it.
    pub name: String,
    /// The models that may be asked of it, each with the engine's own name for it; empty means all that it lists.
    pub models: Vec<(String, String)>,
    /// Its share of the requests for a model, against other engines that serve it too. At least 1.
    pub weight: u32,
    /// Whether memory may be sent to it.
    pub sees_memory: bool,
    /// How often it is asked whether it is well.
    pub check_every: Duration,
    /// When it is left alone.
    pub breaker: BreakerOptions,
}

impl Default for MemberOptions {
    fn default() -> Self {
        Self {
            name: "upstream".to_owned(),
            models: Vec::new(),
            weight: 1,
            sees_memory: false,
            check_every: Duration::from_secs(10),
            breaker: BreakerOptions::default(),
        }
    }
}

/// See the module.
pub struct Member {
    options: MemberOptions,
    engine: Arc<dyn Engine>,
    remote: Option<Remote>,
}

/// What is known of an engine that is elsewhere.
struct Remote {
    breaker: Arc<Breaker>,
    /// What the last check said.
    health: ArcSwap<Health>,
    /// What went wrong last, in the engine's words.
    fault: ArcSwapOption<String>,
    checking: AtomicBool,
    born: Instant,
    /// When it is to be checked next, in milliseconds since `born`.
    check_at: AtomicU64,
}

/// How a member is, and what it has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What it is called.
    pub name: String,
    /// The names of its models.
    pub models: Vec<String>,
    /// Whether it is elsewhere.
    pub remote: bool,
    /// Whether it can answer now.
    pub health: Health,
    /// What it has to do.
    pub load: Load,
}

impl Member {
    /// An engine of this process: always asked, with all its models, and memory.
    #[must_use]
    pub fn own(engine: &Arc<dyn Engine>) -> Self {
        let first = engine.models().into_iter().next();
        let options = MemberOptions {
            name: first.map_or_else(|| "this process".to_owned(), |info| info.id),
            sees_memory: true,
            ..MemberOptions::default()
        };
        Self {
            options,
            engine: Arc::clone(engine),
            remote: None,
        }
    }

    /// An engine elsewhere, which may come and go. Until it has been checked it counts as not there.
    #[must_use]
    pub fn remote(engine: Arc<dyn Engine>, options: MemberOptions) -> Self {
        let unknown = Health::Unavailable(format!("{} has not answered yet", options.name));
        let remote = Remote {
            breaker: Arc::new(Breaker::new(options.breaker)),
            health: ArcSwap::from_pointee(unknown),
            fault: ArcSwapOption::empty(),
            checking: AtomicBool::new(false),
            born: Instant::now(),
            check_at: AtomicU64::new(0),
        };
        Self {
            options,
            engine,
            remote: Some(remote),
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Whether it is elsewhere.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Whether memory may be sent to it.
    #[must_use]
    pub fn sees_memory(&self) -> bool {
        self.options.sees_memory
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine)
    }

    /// Its share of the requests.
    pub(super) fn weight(&self) -> u32 {
        self.options.weight.max(1)
    }

    pub(super) fn load(&self) -> Load {
        self.engine.load()
    }

    /// Whether it serves a model under this name.
    #[must_use]
    pub fn serves(&self, model: &str) -> bool {
        if self.options.models.is_empty() {
            return self.engine.serves(model);
        }
        self.options.models.iter().any(|(name, _)| name == model)
    }

    /// The engine's own name for a model.
    pub(super) fn theirs<'a>(&'a self, model: &'a str) -> &'a str {
        let named = self.options.models.iter().find(|(name, _)| name == model);
        named.map_or(model, |(_, theirs)| theirs)
    }

    pub(super) fn first_model(&self) -> Option<String> {
        match self.options.models.first() {
            Some((name, _)) => Some(name.clone()),
            None => self.engine.models().into_iter().next().map(|info| info.id),
        }
    }

    /// Its models, under the names by which they are asked for here.
    pub(super) fn models(&self) -> Vec<ModelInfo> {
        let listed = self.engine.models();
        if self.options.models.is_empty() {
            return listed;
        }
        let named = |(name, theirs): &(String, String)| {
            let known = listed.iter().find(|info| info.id == *theirs).cloned();
            // It may be down, or list nothing: what the configuration says of it is still true.
            let info = known.unwrap_or_else(|| ModelInfo {
                id: String::new(),
                context_window: None,
                owned_by: self.options.name.clone(),
                created: 0,
            });
            ModelInfo {
                id: name.clone(),
                ..info
            }
        };
        self.options.models.iter().map(named).collect()
    }

    pub(super) fn relays(&self, model: &str) -> bool {
        self.engine.relays(self.theirs(model))
    }

    pub(super) fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>> {
        self.engine.token_counter(self.theirs(model))
    }

    /// Whether it should be asked before others, at this time.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        let Some(remote) = &self.remote else { return true };
        **remote.health.load() == Health::Ready && !matches!(remote.breaker.state(now), State::Open(_))
    }

    /// Whether it has never said which models it serves, so that any could be among them.
    pub(super) fn is_silent(&self) -> bool {
        self.is_remote() && self.options.models.is_empty() && self.engine.models().is_empty()
    }

    /// Leave to ask it: `None` while it is left alone. An engine of this process needs none.
    pub(super) fn pass(&self, now: Instant) -> Option<Option<Pass>> {
        match &self.remote {
            None => Some(None),
            Some(remote) => remote.breaker.pass(now).map(Some),
        }
    }

    /// What is wrong with it, for a person.
    pub(super) fn trouble(&self) -> String {
        let Some(remote) = &self.remote else {
            return format!("{} can't answer now", self.options.name);
        };
        let said = remote.fault.load_full();
        match (said, &**remote.health.load()) {
            (Some(said), _) => said.to_string(),
            (None, Health::Unavailable(said)) => said.clone(),
            (None, Health::Ready) => format!("{} can't answer now; try again later", self.options.name),
        }
    }

    /// Notes how a request to it failed.
    pub(super) fn failed(&self, pass: Option<Pass>, error: &EngineError) {
        if let Some(pass) = pass {
            pass.failed(Instant::now());
        }
        if let Some(remote) = &self.remote {
            remote.fault.store(Some(Arc::new(error.to_string())));
            // Better found out by a check than by the next request.
            remote.check_at.store(0, Ordering::Relaxed);
        }
    }

    /// What the last check of a remote member said.
    #[must_use]
    pub fn checked(&self) -> Option<Health> {
        self.remote.as_ref().map(|remote| Health::clone(&remote.health.load()))
    }

    /// Whether it can answer now: asked directly where it is in this process, else as last checked.
    pub async fn health(&self) -> Health {
        let Some(remote) = &self.remote else {
            return self.engine.health().await;
        };
        let checked = Health::clone(&remote.health.load());
        match (remote.breaker.state(Instant::now()), checked) {
            (State::Open(_), Health::Ready) => Health::Unavailable(self.trouble()),
            (_, checked) => checked,
        }
    }

    /// How it is, and what it has to do.
    pub async fn report(&self) -> Report {
        Report {
            name: self.options.name.clone(),
            models: self.models().into_iter().map(|info| info.id).collect(),
            remote: self.is_remote(),
            health: self.health().await,
            load: self.load(),
        }
    }

    /// Whether it is time to check it again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let Some(remote) = &self.remote else { return false };
        remote.since(now) >= remote.check_at.load(Ordering::Relaxed) && !remote.checking.load(Ordering::Relaxed)
    }

    /// Asks it whether it is well. Only one check runs at a time; others come back at once.
    pub async fn check(&self) {
        let Some(remote) = &self.remote else { return };
        if remote.checking.swap(true, Ordering::AcqRel) {
            return;
        }
        let _running = Checking(&remote.checking);
        let late = |_| {
            let within = CHECK_LIMIT.as_secs();
            Health::Unavailable(format!("{} did not answer within {within} s", self.options.name))
        };
        let health = tokio::time::timeout(CHECK_LIMIT, self.engine.health()).await;
        let health = health.unwrap_or_else(late);
        let now = Instant::now();
        let ready = health == Health::Ready;
        let wait = if ready {
            self.options.check_every
        } else {
            self.options.check_every.min(CHECK_WHEN_DOWN)
        };
        let at = remote.since(now + wait);
        remote.check_at.store(at, Ordering::Relaxed);
        let before = remote.health.swap(Arc::new(health.clone()));
        match (*before == Health::Ready, &health) {
            (false, Health::Ready) => tracing::info!(engine.name = self.options.name, "{} answers", self.options.name),
            (true, Health::Unavailable(why)) => {
                tracing::warn!(engine.name = self.options.name, "an engine does not answer: {why}");
            }
            _ => {}
        }
        if ready {
            remote.breaker.may_be_back(now);
        }
    }
}

impl Remote {
    fn since(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }
}

/// A check that runs; also over when it is dropped.
struct Checking<'a>(&'a AtomicBool);

impl Drop for Checking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
