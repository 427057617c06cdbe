//! What is done in downtime: memory's routines, learning, and the search for better settings.

use std::sync::Arc;

use habit_engine::Engine;
use habit_learning::tune::Shots;
use habit_memory::clock::Clock;
use habit_memory::routines::{self, Runner};

use crate::app::MemoryParts;
use crate::config::Config;
use crate::downtime::DowntimeParts;
use crate::downtime::learn::Learn;
use crate::downtime::traffic::Turns;
use crate::downtime::tune::{Tune, TuneParts};
use crate::learner::Learner;
use crate::lease::Leases;
use crate::lifecycle::Lifecycle;
use crate::turn::running::Running;
use crate::turn::variant::Variants;

/// What is done in downtime, and when.
pub(super) fn downtime_parts(
    config: &Config,
    memory: &MemoryParts,
    (variants, learner): (Option<Variants>, Option<Learner>),
    running: &Running,
    (clock, lifecycle): (&Arc<dyn Clock>, &Lifecycle),
    leases: Leases,
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
    DowntimeParts {
        leases,
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
pub(super) fn with_tuning(
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
        asking: Arc::clone(&memory.asking),
        banks: memory.banks.clone(),
        shots: shots(config),
        shot_tokens: config.learning.few_shot_tokens,
    });
    DowntimeParts {
        runner: parts.runner.with(Arc::new(tune)),
        ..parts
    }
}

/// Past answers that are shown, as configured.
fn shots(config: &Config) -> Option<Shots> {
    let floor = (config.learning.few_shot_floor * 100.0).round();
    let shots = Shots {
        count: config.learning.few_shot,
        // Checked when it was read.
        floor: (0..=100_u16)
            .find(|percent| f32::from(*percent) >= floor)
            .unwrap_or(100),
    };
    (config.memory.on && shots.count > 0).then_some(shots)
}
