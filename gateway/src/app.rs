//! What handlers share: the parts that `wiring.rs` chose.

use std::sync::Arc;

use axum::extract::FromRef;
use habit_engine::{Embedder, Engine};
use habit_learning::curator::Curator;
use habit_learning::few_shot::Banks;
use habit_learning::rollout::Rollouts;
use habit_memory::clock::Clock;
use habit_memory::consent::Consents;
use habit_memory::context::Slot;
use habit_memory::facts::Facts;
use habit_memory::generations::Generations;
use habit_memory::index::Index;
use habit_memory::indexer::Indexer;
use habit_memory::journal::Journal;
use habit_memory::memories::Memories;
use habit_memory::objects::Objects;
use habit_memory::store::sea::Runs;
use habit_memory::vector_stores::VectorStores;

use crate::api::error::ApiError;
use crate::api::responses::background::Background;
use crate::config::Config;
use crate::downtime::Downtime;
use crate::engines::Engines;
use crate::keys::KeyStore;
use crate::learner::Learner;
use crate::learner::jobs::Jobs;
use crate::library::Library;
use crate::lifecycle::Lifecycle;
use crate::loader::Loader;
use crate::turn::TurnService;
use crate::turn::running::Running;
use crate::turn::variant::Variants;

/// The running application; cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The configuration that it was built from.
    pub config: Arc<Config>,
    /// Model name -> engine, with admission.
    pub engine: Arc<dyn Engine>,
    /// The same engines, for what is done to them rather than asked of them.
    pub engines: Arc<Engines>,
    /// The layers of a turn over `engine`.
    pub turns: TurnService,
    /// The replies under way.
    pub running: Running,
    /// Teams' own models; `None` where nothing is kept (`habit worker`).
    pub variants: Option<Variants>,
    /// The work for which nobody waits; `None` where nothing is kept.
    pub downtime: Option<Downtime>,
    /// Learning runs; `None` where nothing is kept.
    pub learner: Option<Learner>,
    /// Fine-tuning from files; `None` where nothing is kept.
    pub jobs: Option<Jobs>,
    /// Responses that are made in the background.
    pub background: Background,
    /// Characters, presets and templates.
    pub library: Library,
    /// Loads models while it runs; `None` where the engine can't be changed.
    pub loader: Option<Arc<Loader>>,
    /// Memory's parts; `None` when this process only serves an engine (`habit worker`).
    pub memory: Option<MemoryParts>,
    /// The keys; `None` with `--no-auth`.
    pub keys: Option<KeyStore>,
    /// Shutdown, tasks.
    pub lifecycle: Lifecycle,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl FromRef<App> for Library {
    fn from_ref(app: &App) -> Self {
        app.library.clone()
    }
}

impl App {
    /// Memory's parts.
    ///
    /// # Errors
    /// 404 in a process that has none.
    pub fn memory(&self) -> Result<&MemoryParts, ApiError> {
        let none =
            || ApiError::not_found("this server only runs a model and keeps nothing; ask the gateway that uses it");
        self.memory.as_ref().ok_or_else(none)
    }
}

/// Memory, as handlers use it.
#[derive(Clone)]
pub struct MemoryParts {
    /// The truth.
    pub journal: Arc<dyn Journal>,
    /// What finds.
    pub index: Arc<dyn Index>,
    /// Responses, conversations and other small things of users.
    pub objects: Arc<dyn Objects>,
    /// What is known of users.
    pub facts: Arc<dyn Facts>,
    /// Which models and settings serve which team.
    pub rollouts: Rollouts,
    /// What routines did in downtime.
    pub runs: Runs,
    /// What users do with what is known of them.
    pub memories: Memories,
    /// What users say of replies, and what came of it.
    pub curator: Curator,
    /// Past answers to show, by user.
    pub banks: Banks,
    /// Who is not to be remembered.
    pub consents: Arc<dyn Consents>,
    /// Files of users, and the stores that they are searched in.
    pub stores: VectorStores,
    /// Text to vectors, by the model that is configured.
    pub embedder: Arc<dyn Embedder>,
    /// Text to vectors that are compared with those of the index: another model while the index is being made anew.
    pub asking: Arc<dyn Embedder>,
    /// The index again, as what can be made anew.
    pub generations: Arc<Generations>,
    /// Keeps the index up with the journal.
    pub indexer: Indexer,
    /// The context sources, also those that are switched off (0 chunks).
    pub slots: Arc<[Slot]>,
}
