//! The one place that names concrete backends: from a [`Config`] to an [`App`]. Everything else sees traits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use habit_engine::embedder::MiniLm;
use habit_engine::fleet::Fleet;
use habit_engine::models::{LocalModel, Progress, Store, Weights};
use habit_engine::{Embedder, Engine};
use habit_learning::curator::{self, Curator};
use habit_learning::feedback::Ledger;
use habit_learning::feedback::sea::SeaLedger;
use habit_learning::few_shot::Banks;
use habit_learning::rollout::Rollouts;
use habit_memory::clock::{Clock, SystemClock};
use habit_memory::consent::Consents;
use habit_memory::context::{self, ContextSource, KnownFacts, Recalled, Slot};
use habit_memory::facts::Facts;
use habit_memory::files::Files;
use habit_memory::index::Index;
use habit_memory::indexer::Indexer;
use habit_memory::journal::Journal;
use habit_memory::memories::{self, Memories};
use habit_memory::objects::{self, Objects};
use habit_memory::routines::{self, Runner};
use habit_memory::store::lance::LanceIndex;
use habit_memory::store::sea::{Runs, SeaJournal};
use habit_memory::store::shelves::{Lexicon, Shelves};
use habit_memory::vector_stores::{self, VectorStores};

use tokio_util::sync::CancellationToken;

use self::own::Own;
use crate::api::responses::background::Background;
use crate::app::{App, MemoryParts};
use crate::config::{self, Config};
use crate::downtime::learn::Learn;
use crate::downtime::traffic::Turns;
use crate::downtime::tune::{Tune, TuneParts};
use crate::downtime::{Downtime, DowntimeParts};
use crate::engines::Engines;
use crate::keys::KeyStore;
use crate::learner::jobs::Jobs;
use crate::learner::{self, Learner, Workshop};
use crate::library::Library;
use crate::lifecycle::Lifecycle;
use crate::loader::{Load, Loader};
use crate::tuned::Tuned;
use crate::turn::running::Running;
use crate::turn::stack::{self, Stack};
use crate::turn::variant::{VariantParts, Variants};
use crate::turn::{assemble, context as context_layer, few_shot, knobs, overflow, record};

mod own;
pub mod upstream;

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
    pub index: Arc<dyn Index>,
    /// Small things of users.
    pub objects: Arc<dyn Objects>,
    /// What is known of users.
    pub facts: Arc<dyn Facts>,
    /// Who is not to be remembered.
    pub consents: Arc<dyn Consents>,
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
        let journal = SeaJournal::open(&config::database_path(&data_dir)).await?;
        keys = config
            .auth
            .required
            .then(|| KeyStore::new(journal.connection(), Arc::clone(&clock)));
        let embedder = embedder(&config, &store, Arc::clone(&progress)).await?;
        let folder = config::index_path(&data_dir);
        let index = match purpose {
            Purpose::Reindex => LanceIndex::rebuild(&folder, embedder.dimensions(), embedder.id()).await?,
            _ => LanceIndex::open(&folder, embedder.dimensions(), embedder.id()).await?,
        };
        let budget = config.memory.index_mb.saturating_mul(1024 * 1024);
        let lexicon = Lexicon::new(Arc::clone(&embedder));
        let index = Shelves::new(Arc::new(index), embedder.dimensions(), budget).with_lexicon(lexicon);
        let index = Arc::new(index);
        if purpose == Purpose::Gateway {
            drop(lifecycle.spawn(hold(Arc::clone(&index) as Arc<dyn Index>, lifecycle.soft().clone())));
        }
        memory = Some(Remembering {
            objects: Arc::new(journal.objects(Arc::clone(&clock))),
            facts: Arc::new(journal.facts(Arc::clone(&clock))),
            consents: Arc::new(journal.consents()),
            ledger: Arc::new(SeaLedger::new(journal.guest())),
            rollouts: rollouts(&journal, &clock).await?,
            runs: journal.runs(),
            journal: Arc::new(journal),
            index,
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
    let memory = memory.map(|memory| remember(&config, memory, &clock, &lifecycle));
    let running = Running::default();
    let learner = memory.as_ref().zip(variants.as_ref()).map(|(memory, variants)| {
        let learner = Learner::new(learner::Parts {
            curator: memory.curator.clone(),
            rollouts: variants.rollouts().clone(),
            workshop: workshop.unwrap_or_else(|| {
                Arc::new(learner::workshop::Own {
                    engine: Arc::clone(&engine),
                    loader: loader.clone(),
                })
            }),
            keys: keys.clone(),
            learning: config.learning.clone(),
            rollout: config.rollout.clone(),
            folder: config::learning_path(&config.data_dir().unwrap_or_default()),
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
    let downtime = memory.as_ref().map(|memory| {
        let parts = downtime_parts(
            &config,
            memory,
            (variants.clone(), learner.clone()),
            &running,
            (&clock, &lifecycle),
        );
        let downtime = Downtime::new(with_tuning(parts, &config, (memory, learner.clone()), &engine));
        drop(lifecycle.spawn(downtime.clone().work()));
        downtime
    });
    let turns = stack::build(Stack {
        running: running.clone(),
        variants: variants.clone(),
        ..match &memory {
            Some(memory) => layers(&config, memory, &engines, &lifecycle),
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
    let rollouts = Rollouts::new(journal.connection(), Arc::clone(clock));
    rollouts.refresh().await?;
    Ok(rollouts)
}

/// What is done in downtime, and when.
fn downtime_parts(
    config: &Config,
    memory: &MemoryParts,
    (variants, learner): (Option<Variants>, Option<Learner>),
    running: &Running,
    (clock, lifecycle): (&Arc<dyn Clock>, &Lifecycle),
) -> DowntimeParts {
    let mut routines = routines::memory(&routines::Parts {
        journal: Arc::clone(&memory.journal),
        index: Arc::clone(&memory.index),
        indexer: memory.indexer.clone(),
        facts: Arc::clone(&memory.facts),
        memories: memory.memories.clone(),
        objects: Arc::clone(&memory.objects),
        expiry: Arc::new(memory.stores.clone()),
        runs: memory.runs.clone(),
        clock: Arc::clone(clock),
        learns: config.memory.learn,
    });
    if let Some(learner) = learner {
        let rollouts = learner.rollouts().clone();
        routines.push(Arc::new(Learn::new(Arc::new(learner), rollouts)));
    }
    // A data directory has one process at a time.
    let folder = config.data_dir().unwrap_or_default();
    let host = sysinfo::System::host_name().unwrap_or_default();
    DowntimeParts {
        holder: format!("{host}:{}", folder.display()),
        runner: Runner::new(memory.runs.clone(), routines, Arc::clone(clock)),
        journal: Arc::clone(&memory.journal),
        facts: Arc::clone(&memory.facts),
        traffic: Turns::new(running.clone(), memory.indexer.clone()),
        variants,
        config: config.downtime.clone(),
        rollout: config.rollout.clone(),
        clock: Arc::clone(clock),
        stop: lifecycle.soft().clone(),
    }
}

/// With the search for better settings of memory.
fn with_tuning(
    parts: DowntimeParts,
    config: &Config,
    (memory, learner): (&MemoryParts, Option<Learner>),
    engine: &Arc<dyn Engine>,
) -> DowntimeParts {
    let Some(learner) = learner else { return parts };
    let tune = Tune::new(TuneParts {
        learner,
        rollouts: memory.rollouts.clone(),
        engine: Arc::clone(engine),
        slots: Arc::clone(&memory.slots),
        tokens: config.memory.tokens,
        embedder: Arc::clone(&memory.embedder),
    });
    DowntimeParts {
        runner: parts.runner.with(Arc::new(tune)),
        ..parts
    }
}

/// Reads the index into memory, so that the first question of everyone is as quick as the next.
async fn hold(index: Arc<dyn Index>, stop: CancellationToken) {
    if let Some(Err(error)) = stop.run_until_cancelled(index.hold()).await {
        tracing::warn!("the index is not read into memory yet, first questions are slower: {error}");
    }
}

/// What the context layer asks, over this memory.
#[must_use]
pub fn context_parts(
    config: &Config,
    memory: &MemoryParts,
    may_leave: Arc<dyn Fn(&str) -> bool + Send + Sync>,
) -> context_layer::ContextParts {
    context_layer::ContextParts {
        slots: if config.memory.on {
            Arc::clone(&memory.slots)
        } else {
            Arc::default()
        },
        embedder: Arc::clone(&memory.embedder),
        vector_deadline: Duration::from_millis(config.memory.vector_ms),
        // Half of a source's time: the sources then still have theirs.
        patience: Duration::from_millis(config.memory.deadline_ms.div_ceil(2)),
        may_leave,
        knobs: Some(knobs::of(&memory.rollouts)),
    }
}

/// Which layers a turn passes; their order is in `turn/stack.rs`.
fn layers(config: &Config, memory: &MemoryParts, engines: &Engines, lifecycle: &Lifecycle) -> Stack {
    let fleet = Arc::clone(engines.fleet());
    let engine: Arc<dyn Engine> = Arc::clone(engines.fleet()) as Arc<dyn Engine>;
    let record = record::layer(record::RecordParts {
        journal: Arc::clone(&memory.journal),
        indexer: Some(memory.indexer.clone()),
        consents: Some(Arc::clone(&memory.consents)),
        lifecycle: lifecycle.clone(),
    });
    let may_leave: Arc<dyn Fn(&str) -> bool + Send + Sync> = Arc::new(move |model| fleet.may_see_memory(model));
    let context = context_layer::layer(context_parts(config, memory, Arc::clone(&may_leave)));
    let few_shot = few_shot::layer(few_shot::FewShotParts {
        banks: memory.banks.clone(),
        embedder: Arc::clone(&memory.embedder),
        engine: Arc::clone(&engine),
        may_leave: Arc::clone(&may_leave),
        k: config.learning.few_shot,
        floor: config.learning.few_shot_floor,
        tokens: config.learning.few_shot_tokens,
        patience: Duration::from_millis(config.memory.deadline_ms),
        lifecycle: lifecycle.clone(),
    });
    let overflow = overflow::layer(overflow::OverflowParts {
        engine: Arc::clone(&engine),
        recall: config.memory.on && config.memory.overflow == config::memory::Overflow::Recall,
        memory_tokens: config.memory.tokens,
        may_leave,
    });
    let assemble = assemble::layer(assemble::AssembleParts {
        engine: Arc::clone(&engine),
        memory_tokens: config.memory.tokens,
        knobs: Some(knobs::of(&memory.rollouts)),
    });
    Stack {
        record: Some(record),
        overflow,
        // Also where memory is off: a request may name what is to be searched.
        context: Some(context),
        few_shot: config.memory.on.then_some(few_shot),
        assemble: Some(assemble),
        ..Stack::bare(engine)
    }
}

/// Memory with its background work and its sources.
fn remember(config: &Config, memory: Remembering, clock: &Arc<dyn Clock>, lifecycle: &Lifecycle) -> MemoryParts {
    let Remembering {
        journal,
        index,
        objects,
        facts,
        consents,
        ledger,
        rollouts,
        runs,
        embedder,
    } = memory;
    let (indexer, task) = Indexer::spawn_with_facts(
        Arc::clone(&journal),
        Arc::clone(&index),
        Arc::clone(&embedder),
        (Arc::clone(&facts), config.memory.learn),
        lifecycle.soft().clone(),
    );
    drop(lifecycle.spawn(task));
    // Where there is no data directory, nothing was opened in it, and this is not reached.
    let folder = config::files_path(&config.data_dir().unwrap_or_default());
    let files = Files::new(
        Arc::clone(&objects),
        Arc::clone(clock),
        folder,
        config.memory.file_quota,
    );
    let files = Arc::new(files);
    let stores = VectorStores::new(vector_stores::Parts {
        files: Arc::clone(&files),
        objects: Arc::clone(&objects),
        journal: Arc::clone(&journal),
        index: Arc::clone(&index),
        indexer: indexer.clone(),
        embedder: Arc::clone(&embedder),
        clock: Arc::clone(clock),
        tasks: lifecycle.tracker(),
        stop: lifecycle.soft().clone(),
    });
    let curator = Curator::new(curator::Parts {
        ledger,
        journal: Arc::clone(&journal),
        clock: Arc::clone(clock),
        cap: config.learning.feedback_a_day,
    });
    let memories = Memories::new(memories::Parts {
        facts: Arc::clone(&facts),
        consents: Arc::clone(&consents),
        journal: Arc::clone(&journal),
        objects: Arc::clone(&objects),
        files: Arc::clone(&files),
        index: Arc::clone(&index),
        indexer: indexer.clone(),
        embedder: Arc::clone(&embedder),
        clock: Arc::clone(clock),
        followers: vec![Arc::new(curator.clone())],
    });
    let (sweeper, stop) = (memories.clone(), lifecycle.soft().clone());
    drop(lifecycle.spawn(async move { sweeper.sweep(stop).await }));
    drop(lifecycle.spawn(async move { files.tidy().await }));
    let expiry = Arc::new(stores.clone());
    drop(lifecycle.spawn(objects::sweep(Arc::clone(&objects), expiry, lifecycle.soft().clone())));
    let deadline = Duration::from_millis(config.memory.deadline_ms);
    let slot = |source: Arc<dyn ContextSource>, chunks| Slot {
        source,
        chunks,
        deadline,
    };
    let options = context::Options::default;
    let (j, i, wake) = (|| Arc::clone(&journal), || Arc::clone(&index), || Some(indexer.clone()));
    let slots = [
        slot(
            Arc::new(Recalled::new(j(), i(), wake(), options()).with_facts(Arc::clone(&facts))),
            config.memory.recalled,
        ),
        slot(
            context::persistent(j(), i(), wake(), options()),
            config.memory.persistent,
        ),
        slot(
            Arc::new(KnownFacts::new(Arc::clone(&facts), i(), wake(), options())),
            config.memory.facts,
        ),
        slot(context::inference(j(), i(), wake(), options()), config.memory.inference),
    ];
    MemoryParts {
        journal,
        index,
        objects,
        facts,
        rollouts,
        runs,
        memories,
        banks: Banks::new(curator.clone(), Arc::clone(&embedder)),
        curator,
        consents,
        stores,
        embedder,
        indexer,
        slots: Arc::new(slots),
    }
}

async fn embedder(config: &Config, store: &Store, progress: Arc<dyn Progress>) -> anyhow::Result<Arc<dyn Embedder>> {
    let name = &config.memory.embedder;
    let model = store
        .resolve(name, progress)
        .await
        .with_context(|| format!("the embedder `{name}`"))?;
    let Weights::Safetensors(dir) = model.weights else {
        anyhow::bail!(
            "the embedder `{name}` is a chat model; set memory.embedder to a BERT-class model in safetensors"
        );
    };
    let threads = config.engine.threads;
    // Reading the weights blocks.
    let loaded = tokio::task::spawn_blocking(move || MiniLm::load(&dir, threads)).await?;
    Ok(Arc::new(loaded.with_context(|| format!("the embedder `{name}`"))?))
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

/// The model of this process as files, and what runs other weights in their place: what was learnt, as it would be served.
#[derive(Clone)]
pub struct Learnable {
    /// The files that are served.
    pub model: LocalModel,
    wanted: config::Engine,
}

impl Learnable {
    /// Finds the files; they are fetched and prepared where they are not yet.
    ///
    /// # Errors
    /// With what to do about it: no model runs in this process, or its weights are not one GGUF file.
    pub async fn of(config: &Config, progress: Arc<dyn Progress>) -> anyhow::Result<Self> {
        let own = Own {
            store: Arc::new(Store::open(config.models_dir()?)?),
            progress,
            tuned: config.data_dir().ok().map(|dir| Tuned::of(&dir)),
        };
        let (model, wanted) = own.named(&config.engine).await?;
        anyhow::ensure!(
            matches!(model.weights, Weights::Gguf(_)),
            "`{}` is no GGUF file, and only those can be trained here; take one of `habit models list`",
            model.id
        );
        Ok(Self { model, wanted })
    }

    /// The weights' file, and the folder of tokenizer and template.
    ///
    /// # Errors
    /// If the model has no such folder.
    pub fn files(&self) -> anyhow::Result<(PathBuf, PathBuf)> {
        let (Weights::Gguf(weights) | Weights::Safetensors(weights)) = &self.model.weights;
        let folder = self.model.tokenizer_dir.clone();
        let folder =
            folder.with_context(|| format!("`{}` has no tokenizer of its own to train with", self.model.id))?;
        Ok((weights.clone(), folder))
    }

    /// The same model with other weights, of the same shape and types.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn run(&self, weights: &std::path::Path) -> anyhow::Result<Arc<dyn Engine>> {
        let model = LocalModel {
            weights: Weights::Gguf(weights.to_owned()),
            ..self.model.clone()
        };
        own::admitted(&self.wanted, model).await
    }
}

#[async_trait::async_trait]
impl habit_learning::run::Loader for Learnable {
    async fn load(&self, weights: &std::path::Path) -> Result<habit_learning::score::Model, String> {
        let engine = self.run(weights).await.map_err(|error| format!("{error:#}"))?;
        let name = self.model.id.clone();
        Ok(habit_learning::score::Model { engine, name })
    }
}

/// The keys of a data directory, for commands on the machine where it is: who may write its files may make keys.
///
/// # Errors
/// If the database can't be opened.
pub async fn open_keys(config: &Config) -> anyhow::Result<KeyStore> {
    let path: PathBuf = config::database_path(&config.data_dir()?);
    let journal = SeaJournal::open(&path).await?;
    Ok(KeyStore::new(journal.connection(), Arc::new(SystemClock)))
}
