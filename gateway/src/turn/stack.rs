//! The layers of a turn, in order, with a reason each. Which of them are on is the configuration's business: a layer
//! that is absent here is off.

use std::sync::Arc;

use habit_engine::Engine;
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;

use super::TurnService;
use super::assemble::AssembleLayer;
use super::context::ContextLayer;
use super::few_shot::FewShotLayer;
use super::overflow::{self, OverflowLayer, OverflowParts};
use super::record::RecordLayer;
use super::route::Route;
use super::running::Running;
use super::variant::Variants;

/// What a stack is built from. A process without memory (`habit worker`) has no layers, only the engine.
#[derive(Clone)]
pub struct Stack {
    /// Records turns; see [`super::record::layer`].
    pub record: Option<RecordLayer>,
    /// Makes room; see [`super::overflow::layer`].
    pub overflow: OverflowLayer,
    /// Asks memory; see [`super::context::layer`].
    pub context: Option<ContextLayer>,
    /// Shows past answers; see [`super::few_shot::layer`].
    pub few_shot: Option<FewShotLayer>,
    /// Fits what memory gave; see [`super::assemble::layer`].
    pub assemble: Option<AssembleLayer>,
    /// Answers.
    pub engine: Arc<dyn Engine>,
    /// The replies under way.
    pub running: Running,
    /// Teams' own models.
    pub variants: Option<Variants>,
}

impl Stack {
    /// The engine and nothing else.
    #[must_use]
    pub fn bare(engine: Arc<dyn Engine>) -> Self {
        Self {
            record: None,
            overflow: overflow::layer(OverflowParts::without_memory(Arc::clone(&engine))),
            context: None,
            few_shot: None,
            assemble: None,
            engine,
            running: Running::default(),
            variants: None,
        }
    }
}

/// Puts the layers together, outermost first.
#[must_use]
pub fn build(stack: Stack) -> TurnService {
    let layers = ServiceBuilder::new()
        // Outermost: it keeps the messages as the client sent them, sees every outcome of the layers below, and
        // finds out which conversation this is before any of them asks memory.
        .option_layer(stack.record)
        // Before context: what leaves the prompt may be recalled, and what stays may not.
        .layer(stack.overflow)
        // Before assembly: proposes more than fits, so that assembly has a choice.
        .option_layer(stack.context)
        // Before assembly, which then knows what room examples leave; after context, which must not ask for them.
        .option_layer(stack.few_shot)
        // Last before the engine: nothing adds to the prompt once it has been measured.
        .option_layer(stack.assemble);
    // Innermost: aliases are resolved, and a team's own model is taken, where the engine is asked, so that all layers see
    // the client's own request.
    let route = Route::new(stack.engine, stack.running).with_variants(stack.variants);
    BoxCloneSyncService::new(layers.service(route))
}

#[cfg(test)]
mod tests;
