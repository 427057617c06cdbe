//! What was found to suit a team better than what is configured: how much memory may put before the model.

use std::sync::Arc;

use habit_learning::rollout::Rollouts;
use habit_learning::tune::Knobs;
use habit_memory::context::Slot;
use habit_memory::passage::SourceKind;

/// A team's settings; `None` is as configured.
pub type KnobsOf = Arc<dyn Fn(&str) -> Option<Knobs> + Send + Sync>;

/// As the rollouts have them.
#[must_use]
pub fn of(rollouts: &Rollouts) -> KnobsOf {
    let rollouts = rollouts.clone();
    Arc::new(move |team| rollouts.state(team).knobs)
}

/// Memory's sources under these settings. What is switched off in the configuration stays off.
#[must_use]
pub fn slots(configured: &[Slot], knobs: &Knobs) -> Vec<Slot> {
    let under = |slot: &Slot| {
        let chunks = match slot.source.kind() {
            SourceKind::Recalled => knobs.recalled,
            SourceKind::Persistent => knobs.persistent,
            SourceKind::Fact => knobs.facts,
            SourceKind::Inference | SourceKind::Stored | SourceKind::Example => slot.chunks,
        };
        let chunks = if slot.chunks == 0 { 0 } else { chunks };
        Slot { chunks, ..slot.clone() }
    };
    configured.iter().map(under).collect()
}
