//! The engines that answer, as one fleet, and the list of upstreams that it is made from, which may change while the
//! server runs: what stays as it was keeps its connections and its state, what is new is asked whether it is there before
//! it takes its place, what goes finishes what it has begun.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use habit_engine::Health;
use habit_engine::fleet::{Fleet, Member};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::config::{Config, Sources, Upstream};
use crate::lifecycle::{self, Lifecycle};

/// How long new upstreams are waited for before they are taken into the fleet; later ones come by themselves.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// Makes a member of the fleet from an entry of the list.
pub type MakeMember = fn(&Config, &Upstream) -> anyhow::Result<Arc<Member>>;

/// See the module.
pub struct Engines {
    fleet: Arc<Fleet>,
    make: MakeMember,
    sources: OnceLock<Sources>,
    /// What was applied last; one change at a time.
    applied: Mutex<Applied>,
}

#[derive(Default)]
struct Applied {
    config: Option<Config>,
    members: Vec<(Upstream, Arc<Member>)>,
}

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Changes {
    /// Upstreams that are new, or are not what they were.
    pub added: Vec<String>,
    /// Upstreams that are gone, or are not what they were.
    pub removed: Vec<String>,
    /// Upstreams that are as they were.
    pub kept: Vec<String>,
    /// Sections of the configuration that have changed too, and only a restart applies.
    pub needs_restart: Vec<String>,
}

/// Why nothing was reloaded; everything is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// This process was not started from a configuration that can be read again.
    #[error("this server was started without a configuration that could be read again")]
    NoSources,
    /// The new configuration won't do.
    #[error("nothing was changed: {0:#}")]
    Bad(anyhow::Error),
}

impl Engines {
    /// These engines of the process; upstreams come with [`Engines::apply`].
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, make: MakeMember) -> Self {
        Self {
            fleet,
            make,
            sources: OnceLock::new(),
            applied: Mutex::default(),
        }
    }

    /// The fleet, which is the same one for the life of the process.
    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// What is wrong with upstreams that did not answer yet.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let members = self.fleet.members();
        let checked = members.iter().filter_map(|member| member.checked());
        checked
            .filter_map(|health| match health {
                Health::Ready => None,
                Health::Unavailable(why) => Some(why),
            })
            .collect()
    }

    /// From here on [`Engines::reload`] reads these sources, and so does SIGHUP.
    ///
    /// # Errors
    /// If the process can't listen for signals.
    pub fn reload_from(self: &Arc<Self>, sources: Sources, lifecycle: &Lifecycle) -> std::io::Result<()> {
        // The first call wins: there is only one.
        let _ = self.sources.set(sources);
        let mut hangups = lifecycle::hangups()?;
        let (engines, stop) = (Arc::clone(self), lifecycle.soft().clone());
        let task = async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = hangups.next() => {}
                }
                match engines.reload().await {
                    Ok(changes) => tracing::info!(
                        "reloaded: {} upstreams added, {} removed, {} kept",
                        changes.added.len(),
                        changes.removed.len(),
                        changes.kept.len()
                    ),
                    Err(error) => tracing::warn!("the configuration was not reloaded: {error}"),
                }
            }
        };
        drop(lifecycle.spawn(task));
        Ok(())
    }

    /// Reads the configuration again and applies its upstreams and aliases.
    ///
    /// # Errors
    /// [`ReloadError`]; everything is then as it was.
    pub async fn reload(&self) -> Result<Changes, ReloadError> {
        let sources = self.sources.get().ok_or(ReloadError::NoSources)?;
        let config = Config::load(sources).map_err(|error| ReloadError::Bad(error.into()))?;
        self.apply(&config).await.map_err(ReloadError::Bad)
    }

    /// Makes the fleet's upstreams and aliases those of this configuration.
    ///
    /// # Errors
    /// If an entry can't be made; everything is then as it was.
    pub async fn apply(&self, config: &Config) -> anyhow::Result<Changes> {
        let mut applied = self.applied.lock().await;
        let mut changes = Changes {
            needs_restart: applied.config.as_ref().map_or_else(Vec::new, |old| frozen(old, config)),
            ..Changes::default()
        };
        let same = |old: &Config| old.engine == config.engine && old.memory == config.memory;
        // What an entry leaves open is filled from these sections.
        let reusable = applied.config.as_ref().is_some_and(same);
        let mut members = Vec::with_capacity(config.upstreams.len());
        let mut new = Vec::new();
        for upstream in &config.upstreams {
            let known = applied.members.iter().find(|(old, _)| reusable && old == upstream);
            let member = match known {
                Some((_, member)) => {
                    changes.kept.push(upstream.display_name());
                    Arc::clone(member)
                }
                None => {
                    changes.added.push(upstream.display_name());
                    let member = (self.make)(config, upstream)?;
                    new.push(Arc::clone(&member));
                    member
                }
            };
            members.push((upstream.clone(), member));
        }
        let gone = |(_, old): &&(Upstream, Arc<Member>)| !members.iter().any(|(_, new)| Arc::ptr_eq(old, new));
        changes.removed = applied
            .members
            .iter()
            .filter(gone)
            .map(|(old, _)| old.display_name())
            .collect();
        Fleet::of(new).first_look(FIRST_LOOK).await;
        let aliases: Vec<(String, String)> = config.aliases.clone().into_iter().collect();
        let remote: Vec<Arc<Member>> = members.iter().map(|(_, member)| Arc::clone(member)).collect();
        self.fleet.set_remote(&remote, &aliases);
        applied.config = Some(config.clone());
        applied.members = members;
        Ok(changes)
    }
}

/// The sections that differ and are read at the start only.
fn frozen(old: &Config, new: &Config) -> Vec<String> {
    let sections = [
        ("server", old.server != new.server),
        ("data", old.data != new.data),
        ("engine", old.engine != new.engine),
        ("profiles", old.profiles != new.profiles),
        ("memory", old.memory != new.memory),
        ("downtime", old.downtime != new.downtime),
        ("rollout", old.rollout != new.rollout),
        ("auth", old.auth != new.auth),
    ];
    let changed = sections.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(name, _)| name.to_owned()).collect()
}
