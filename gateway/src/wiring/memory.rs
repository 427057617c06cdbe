//! Memory's parts over its backends, with the work that they do in the background.

use std::sync::Arc;
use std::time::Duration;

use habit_engine::Embedder;
use habit_learning::curator::{self, Curator};
use habit_learning::few_shot::Banks;
use habit_memory::clock::Clock;
use habit_memory::context::{self, ContextSource, KnownFacts, Recalled, Slot};
use habit_memory::files::Files;
use habit_memory::index::Index;
use habit_memory::indexer::Indexer;
use habit_memory::memories::{self, Memories};
use habit_memory::objects;
use habit_memory::vector_stores::{self, VectorStores};

use super::Remembering;
use crate::app::MemoryParts;
use crate::config::Config;
use crate::lifecycle::Lifecycle;

/// Memory with its background work and its sources.
pub(super) fn remember(
    config: &Config,
    memory: Remembering,
    clock: &Arc<dyn Clock>,
    lifecycle: &Lifecycle,
) -> MemoryParts {
    let Remembering {
        journal,
        index: generations,
        objects,
        files,
        facts,
        consents,
        ledger,
        removed_elsewhere,
        rollouts,
        runs,
        embedder,
    } = memory;
    let index: Arc<dyn Index> = Arc::clone(&generations) as Arc<dyn Index>;
    // Vectors that are compared with those of the index are made by whoever made these.
    let asking: Arc<dyn Embedder> = Arc::clone(&generations) as Arc<dyn Embedder>;
    let (indexer, task) = Indexer::spawn_with_facts(
        Arc::clone(&journal),
        Arc::clone(&generations),
        (Arc::clone(&facts), config.memory.learn),
        lifecycle.soft().clone(),
    );
    drop(lifecycle.spawn(task));
    let files = Files::new(Arc::clone(&objects), Arc::clone(clock), files, config.memory.file_quota);
    let files = Arc::new(files);
    let stores = VectorStores::new(vector_stores::Parts {
        files: Arc::clone(&files),
        objects: Arc::clone(&objects),
        journal: Arc::clone(&journal),
        index: Arc::clone(&index),
        indexer: indexer.clone(),
        embedder: Arc::clone(&asking),
        clock: Arc::clone(clock),
        tasks: lifecycle.tracker(),
        stop: lifecycle.soft().clone(),
    });
    let curator = Curator::new(curator::Parts {
        ledger,
        journal: Arc::clone(&journal),
        clock: Arc::clone(clock),
        cap: config.learning.feedback_a_day,
        removed_elsewhere,
    });
    let memories = Memories::new(memories::Parts {
        facts: Arc::clone(&facts),
        consents: Arc::clone(&consents),
        journal: Arc::clone(&journal),
        objects: Arc::clone(&objects),
        files: Arc::clone(&files),
        index: Arc::clone(&index),
        indexer: indexer.clone(),
        embedder: Arc::clone(&asking),
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
        asking,
        generations,
        indexer,
        slots: Arc::new(slots),
    }
}
