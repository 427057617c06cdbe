//! The layers of a turn over memory's parts; their order is in `turn/stack.rs`.

use std::sync::Arc;
use std::time::Duration;

use habit_engine::Engine;

use crate::app::MemoryParts;
use crate::config::{self, Config};
use crate::engines::Engines;
use crate::lifecycle::Lifecycle;
use crate::turn::stack::Stack;
use crate::turn::{assemble, context as context_layer, few_shot, knobs, overflow, record};

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
        embedder: Arc::clone(&memory.asking),
        vector_deadline: Duration::from_millis(config.memory.vector_ms),
        // Half of a source's time: the sources then still have theirs.
        patience: Duration::from_millis(config.memory.deadline_ms.div_ceil(2)),
        may_leave,
        knobs: Some(knobs::of(&memory.rollouts)),
    }
}

/// Which layers a turn passes; their order is in `turn/stack.rs`.
pub(super) fn layers(config: &Config, memory: &MemoryParts, engines: &Engines, lifecycle: &Lifecycle) -> Stack {
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
        knobs: Some(knobs::of(&memory.rollouts)),
        draw: (config.learning.few_shot_explore).then(|| knobs::draw(&memory.rollouts)),
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
