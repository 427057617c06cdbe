//! What is learnt from: [`Example`]s, and how they are divided into [`Slices`] so that no measurement sees what was
//! trained on. How feedback becomes examples is in [`mod@curate`], what of them may reach no trainer in [`habit_memory::secrets`], what counts
//! as nearly the same question in [`near`], what other trainers read in [`mod@export`].

use habit_engine::Message;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub mod curate;
pub mod export;
pub mod near;
pub mod prompt;

/// A question with the answer that it should have had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The turn that was judged; of an example that was given in a file, an id of its own.
    pub id: Uuid,
    /// The prompt as asked, oldest first; the last message is the user's.
    pub messages: Vec<Message>,
    /// The gold answer.
    pub answer: String,
    /// When the turn was asked, in Unix milliseconds.
    pub at: i64,
    /// How much it counts, above 0 and at most 1.
    pub weight: f32,
    /// The feedback that made it.
    pub from: Vec<Uuid>,
    /// The user who asked.
    pub user: String,
}

impl Example {
    /// What was asked: the text of the last user message.
    #[must_use]
    pub fn question(&self) -> String {
        let asked = self
            .messages
            .iter()
            .rev()
            .find(|message| message.role == habit_engine::Role::User);
        asked.map(Message::text).unwrap_or_default()
    }
}

/// What an example is for in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slice {
    /// Trained on.
    Train,
    /// Decides whether the result may be served.
    Gate,
    /// Watched while a share of the traffic is served.
    Canary,
    /// Reported, and never decided by.
    Report,
}

/// The parts of all examples that each slice gets, in a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// For [`Slice::Gate`].
    pub gate: usize,
    /// For [`Slice::Canary`].
    pub canary: usize,
    /// For [`Slice::Report`].
    pub report: usize,
}

impl Default for Shares {
    /// Three quarters are trained on.
    fn default() -> Self {
        Self {
            gate: 15,
            canary: 5,
            report: 5,
        }
    }
}

/// Examples, divided.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slices {
    /// See [`Slice::Train`]; the oldest.
    pub train: Vec<Example>,
    /// See [`Slice::Gate`]; newer than all of these.
    pub gate: Vec<Example>,
    /// See [`Slice::Canary`]; newer still.
    pub canary: Vec<Example>,
    /// See [`Slice::Report`]; the newest.
    pub report: Vec<Example>,
    /// In none, because an older slice holds nearly the same question.
    pub left_out: Vec<Example>,
}

/// Divides examples by [`Shares::default`].
#[must_use]
pub fn slices(examples: Vec<Example>) -> Slices {
    slices_by(examples, Shares::default())
}

/// Divides examples, oldest first: each slice is newer than the one before it, and no two of them hold nearly the same
/// question ([`near::clusters`]). An example whose like is in an older slice is left out. The order in which examples are
/// given changes nothing.
#[must_use]
pub fn slices_by(mut examples: Vec<Example>, shares: Shares) -> Slices {
    examples.sort_by_key(|example| (example.at, example.id));
    let questions: Vec<String> = examples.iter().map(Example::question).collect();
    let clusters = near::clusters(&questions);
    let all = examples.len();
    // Rounded up: few examples still leave one to measure with, but never the last one.
    let part = |share: usize| (all * share).div_ceil(100);
    let rest = all.saturating_sub(1);
    let gate = part(shares.gate).min(rest);
    let canary = part(shares.canary).min(rest - gate);
    let report = part(shares.report).min(rest - gate - canary);
    let starts = [all - report - canary - gate, all - report - canary, all - report];
    let slice_of = |place: usize| match starts.iter().filter(|start| place >= **start).count() {
        0 => Slice::Train,
        1 => Slice::Gate,
        2 => Slice::Canary,
        _ => Slice::Report,
    };
    let mut first = std::collections::HashMap::new();
    let mut slices = Slices::default();
    for (place, (example, cluster)) in examples.into_iter().zip(clusters).enumerate() {
        let slice = slice_of(place);
        if *first.entry(cluster).or_insert(slice) != slice {
            slices.left_out.push(example);
            continue;
        }
        match slice {
            Slice::Train => slices.train.push(example),
            Slice::Gate => slices.gate.push(example),
            Slice::Canary => slices.canary.push(example),
            Slice::Report => slices.report.push(example),
        }
    }
    slices
}

#[cfg(test)]
mod tests;
