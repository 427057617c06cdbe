//! What was found to suit a team better than what is configured: how much memory may put before the model, and how that
//! is found; and how many past answers are shown, where that is found out while serving.

use std::sync::Arc;

use habit_learning::rollout::choice::lot;
use habit_learning::rollout::{Policy, Rollouts};
use habit_learning::tune::Knobs;
use habit_memory::context::{Finding, Slot};
use habit_memory::interaction::Shots;
use habit_memory::passage::SourceKind;

/// A team's settings; `None` is as configured.
pub type KnobsOf = Arc<dyn Fn(&str) -> Option<Knobs> + Send + Sync>;

/// As the rollouts have them.
#[must_use]
pub fn of(rollouts: &Rollouts) -> KnobsOf {
    let rollouts = rollouts.clone();
    Arc::new(move |team| rollouts.state(team).knobs)
}

/// How many past answers a turn is shown, by how replies of its team fared with these many. The same turn gets the same
/// answer as long as nothing changes.
#[must_use]
pub fn draw(rollouts: &Rollouts) -> super::few_shot::Draw {
    let rollouts = rollouts.clone();
    Arc::new(move |team, turn, counts| {
        let at = lot(&[b"shots", turn.as_bytes()]);
        let (count, propensity) = rollouts.state(team).shots.choose(counts, &Policy::default(), at)?;
        Some(Shots { count, propensity })
    })
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
        let percent = |of: u16| f32::from(of) / 100.0;
        let finding = knobs.finding.filter(|_| slot.source.kind() == SourceKind::Recalled);
        let source = finding.and_then(|finding| {
            slot.source.finding(&Finding {
                floor: percent(finding.floor),
                words: percent(finding.words),
                meaning: percent(finding.meaning),
                session: percent(finding.session),
            })
        });
        Slot {
            chunks,
            source: source.unwrap_or_else(|| Arc::clone(&slot.source)),
            ..slot.clone()
        }
    };
    configured.iter().map(under).collect()
}
