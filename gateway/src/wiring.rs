//! The one place that names concrete backends: from a [`Config`] to an [`App`]. Everything else sees traits.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use habit_engine::fleet::Fleet;
use habit_engine::models::{Progress, Store};
use habit_engine::{Embedder, Engine};
use habit_learning::feedback::Ledger;
use habit_learning::feedback::sea::SeaLedger;
use habit_learning::rollout::Rollouts;
use habit_memory::clock::{Clock, SystemClock};
use habit_memory::consent::Consents;
use habit_memory::facts::Facts;
use habit_memory::files;
use habit_memory::generations::Generations;
use habit_memory::journal::Journal;
use habit_memory::objects::Objects;
use habit_memory::store::sea::{Runs, SeaJournal};

use self::own::Own;
use crate::api::responses::background::Background;
use crate::app::App;
use crate::config::{self, Config};
use crate::downtime::Downtime;
use crate::engines::Engines;
use crate::keys::KeyStore;
use crate::learner::jobs::Jobs;
use crate::learner::{self, Learner, Workshop};
use crate::lease::Leases;
use crate::library::Library;
use crate::lifecycle::Lifecycle;
use crate::loader::{Load, Loader};
use crate::tuned::Tuned;
use crate::turn::running::Running;
use crate::turn::stack::{self, Stack};
use crate::turn::variant::{VariantParts, Variants};

mod embedders;
mod layers;
mod learnable;
mod memory;
mod own;
mod shelves;
mod upkeep;
pub mod upstream;

pub use layers::context_parts;
pub use learnable::Learnable;

/// What a process is for: it loads no more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `habit serve`: an engine and memory.
    Gateway,
    /// `habit worker`: an engine, and nothing that is kept.
    Worker,
    /// `habit ingest` and the like: memory only; nobody chats with it.
    Memory,
    /// `habit reindex`: as [`Purpose::Memory`], with an empty index, whatever the old one was made with.
    Reindex,
}

/// What an [`App`] is put together from.
pub struct Backends {
    /// Answer.
    pub engines: Arc<Engines>,
    /// Loads models while it runs; `None` where the engines can't be changed.
    pub loader: Option<Arc<Loader>>,
    /// Remembers; `None` in a worker.
    pub memory: Option<Remembering>,
    /// Knows who may ask; `None` with `--no-auth`.
    pub keys: Option<KeyStore>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// What learning works with; the model of this process if it is `None`.
    pub workshop: Option<Arc<dyn Workshop>>,
    /// Ends it all.
    pub lifecycle: Lifecycle,
}

/// Memory's backends.
pub struct Remembering {
    /// The truth.
    pub journal: Arc<dyn Journal>,
    /// What finds.
    pub index: Arc<Generations>,
    /// Small things of users.
    pub objects: Arc<dyn Objects>,
    /// The bytes of files that users keep.
    pub files: files::Bytes,
    /// What is known of users.
    pub facts: Arc<dyn Facts>,
    /// Who is not to be remembered.
    pub consents: Arc<dyn Consents>,
    /// Counts what other gateways removed.
    pub removed_elsewhere: Arc<AtomicU64>,
    /// What users say of replies.
    pub ledger: Arc<dyn Ledger>,
    /// Which model serves which team.
    pub rollouts: Rollouts,
    /// What routines did in downtime.
    pub runs: Runs,
    /// Text to vectors.
    pub embedder: Arc<dyn Embedder>,
}

/// Builds what the configuration names: opens the data, fetches and loads models. `progress` hears of long work.
///
/// # Errors
/// With what to do about it: no disk, no network, a broken model, an index of another embedder.
pub async fn build(
    config: Config,
    purpose: Purpose,
    lifecycle: Lifecycle,
    progress: Arc<dyn Progress>,
) -> anyhow::Result<App> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Arc::new(Store::open(config.models_dir()?)?);
    // Data first: it is quick, and a full or read-only disk should not be found out after a download.
    let (mut memory, mut keys) = (None, None);
    if purpose != Purpose::Worker {
        let data_dir = config.data_dir()?;
        let journal = Arc::new(open_journal(&config).await?);
        keys = config
            .auth
            .required
            .then(|| KeyStore::new(journal.database(), Arc::clone(&clock)));
        let embedders = embedders::Source {
            store: &store,
            threads: config.engine.threads,
            progress: Arc::clone(&progress),
        };
        let embedder = embedders.load(&config.memory.embedder).await?;
        let data = (&journal, &clock);
        let opened = shelves::open(&config, purpose, data, (&embedder, &embedders), &lifecycle).await?;
        memory = Some(Remembering {
            objects: Arc::new(journal.objects(Arc::clone(&clock))),
            files: files::Bytes::open(config.data.files(&data_dir)?).await?,
            facts: Arc::new(journal.facts(Arc::clone(&clock))),
            consents: Arc::new(journal.consents()),
            ledger: Arc::new(SeaLedger::new(journal.guest())),
            rollouts: rollouts(&journal, &clock).await?,
            runs: journal.runs(),
            removed_elsewhere: opened.removed_elsewhere,
            journal,
            index: opened.index,
            embedder,
        });
    }
    let own = Own {
        store,
        progress,
        tuned: config.data_dir().ok().map(|dir| Tuned::of(&dir)),
    };
    let engines = match purpose {
        Purpose::Memory | Purpose::Reindex => Arc::new(Engines::new(Arc::default(), upstream::member)),
        Purpose::Gateway | Purpose::Worker => engines(&config, &own).await?,
    };
    let loader = Loader::new(Arc::new(config.clone()), Arc::new(own), Arc::clone(engines.fleet()));
    Ok(assemble(
        config,
        Backends {
            engines,
            loader: Some(Arc::new(loader)),
            memory,
            keys,
            clock,
            workshop: None,
            lifecycle,
        },
    ))
}

/// Puts an application together from its backends, whatever they are. Must be called in a tokio runtime.
#[must_use]
pub fn assemble(config: Config, backends: Backends) -> App {
    let config = Arc::new(config);
    let Backends {
        engines,
        loader,
        memory,
        keys,
        clock,
        workshop,
        lifecycle,
    } = backends;
    let fleet = Arc::clone(engines.fleet());
    drop(lifecycle.spawn(Arc::clone(&fleet).watch(lifecycle.soft().clone())));
    let engine: Arc<dyn Engine> = fleet;
    let variants = memory.as_ref().map(|memory| {
        Variants::new(VariantParts {
            rollouts: memory.rollouts.clone(),
            loader: loader.clone(),
            config: config.rollout.clone(),
            clock: Arc::clone(&clock),
            lifecycle: lifecycle.clone(),
        })
    });
    if let Some(variants) = &variants {
        variants.warm();
    }
    let memory = memory.map(|memory| memory::remember(&config, memory, &clock, &lifecycle));
    let running = Running::default();
    let folder = config.data_dir().unwrap_or_default();
    let leases = memory
        .as_ref()
        .map(|memory| Leases::new(memory.runs.clone(), Arc::clone(&clock), &folder));
    let learner = memory
        .as_ref()
        .zip(variants.as_ref())
        .zip(leases.as_ref())
        .map(|((memory, variants), leases)| {
            let learner = Learner::new(learner::Parts {
                curator: memory.curator.clone(),
                rollouts: variants.rollouts().clone(),
                embedder: Arc::clone(&memory.embedder),
                workshop: workshop.unwrap_or_else(|| {
                    Arc::new(learner::workshop::Own {
                        engine: Arc::clone(&engine),
                        loader: loader.clone(),
                    })
                }),
                keys: keys.clone(),
                learning: config.learning.clone(),
                rollout: config.rollout.clone(),
                folder: config::learning_path(&folder),
                leases: leases.clone(),
                clock: Arc::clone(&clock),
                lifecycle: lifecycle.clone(),
            });
            memory.curator.tell(Arc::new(learner.clone()));
            learner
        });
    let jobs = learner
        .clone()
        .map(|learner| Jobs::new(learner, Arc::clone(engines.fleet())));
    if let (Some(memory), Some(jobs)) = (&memory, &jobs) {
        memory.curator.tell(Arc::new(jobs.clone()));
        // What was broken off goes on where models run: not in a command that only asks memory.
        if !engine.models().is_empty() {
            jobs.resume();
            learner.iter().for_each(Learner::resume);
        }
    }
    let downtime = memory.as_ref().zip(leases).map(|(memory, leases)| {
        let parts = upkeep::downtime_parts(
            &config,
            memory,
            (variants.clone(), learner.clone()),
            &running,
            (&clock, &lifecycle),
            leases,
        );
        let downtime = Downtime::new(upkeep::with_tuning(parts, &config, (memory, learner.clone()), &engine));
        drop(lifecycle.spawn(downtime.clone().work()));
        downtime
    });
    let turns = stack::build(Stack {
        running: running.clone(),
        variants: variants.clone(),
        ..match &memory {
            Some(memory) => layers::layers(&config, memory, &engines, &lifecycle),
            None => Stack::bare(Arc::clone(&engine)),
        }
    });
    let library = Library::new(memory.as_ref().and_then(|_| config.data_dir().ok()));
    App {
        config,
        engine,
        engines,
        turns,
        running,
        variants,
        downtime,
        learner,
        jobs,
        background: Background::default(),
        library,
        loader,
        memory,
        keys,
        lifecycle,
        clock,
    }
}

/// Which model serves which team, as the database has it.
async fn rollouts(journal: &SeaJournal, clock: &Arc<dyn Clock>) -> anyhow::Result<Rollouts> {
    let rollouts = Rollouts::new(journal.database(), Arc::clone(clock));
    rollouts.refresh().await?;
    Ok(rollouts)
}

/// The engines that the configuration names: a model of this process, if any, and the upstreams, each behind admission.
async fn engines(config: &Config, own: &Own) -> anyhow::Result<Arc<Engines>> {
    let fleet = Arc::new(Fleet::default());
    if config.engine.own_model(config.upstreams.len()).is_some() {
        fleet.add(&own.load(&config.engine).await?);
    }
    let engines = Arc::new(Engines::new(fleet, upstream::member));
    engines.apply(config).await?;
    Ok(engines)
}

/// A model under exactly these settings, whatever was found to suit it.
///
/// # Errors
/// With what to do about it.
pub async fn run_model(
    config: &Config,
    wanted: &config::Engine,
    progress: Arc<dyn Progress>,
) -> anyhow::Result<Arc<dyn Engine>> {
    let own = Own {
        store: Arc::new(Store::open(config.models_dir()?)?),
        progress,
        tuned: None,
    };
    own.load(wanted).await
}

/// The journal: in the database that is named, or in the data directory.
async fn open_journal(config: &Config) -> anyhow::Result<SeaJournal> {
    Ok(match &config.data.database {
        Some(url) => SeaJournal::connect(url.expose()).await?,
        None => SeaJournal::open(&config::database_path(&config.data_dir()?)).await?,
    })
}

/// The keys of a data directory, for commands on the machine where it is: who may write its files may make keys.
///
/// # Errors
/// If the database can't be opened.
pub async fn open_keys(config: &Config) -> anyhow::Result<KeyStore> {
    let journal = open_journal(config).await?;
    Ok(KeyStore::new(journal.database(), Arc::new(SystemClock)))
}
