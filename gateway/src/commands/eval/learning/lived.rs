//! The ways to answer, and how each did: what `--json` holds by seed.

use clap::ValueEnum;
use habit_learning::gate::Interval;
use habit_learning::run::Report;
use serde::Serialize;

/// A way to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// The model as it is
    Base,
    /// The answer of the nearest corrected question, without any model
    Nearest,
    /// The model, shown the nearest corrected questions
    FewShot,
    /// What passed the gate, trained in downtime
    Lora,
    /// What passed the gate, shown the nearest corrected questions
    Both,
    /// What was trained in downtime, whether it passed or not
    Ungated,
    /// As lora, with corrections that have each other's answers: the gate must let nothing pass
    Shuffled,
}

impl Arm {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Nearest => "nearest",
            Self::FewShot => "few-shot",
            Self::Lora => "lora",
            Self::Both => "both",
            Self::Ungated => "ungated",
            Self::Shuffled => "shuffled",
        }
    }

    /// Whether it has downtimes.
    #[must_use]
    pub fn is_trained(self) -> bool {
        matches!(self, Self::Lora | Self::Both | Self::Ungated)
    }
}

/// How an arm did with one seed.
#[derive(Debug, Clone, Serialize)]
pub struct Lived {
    /// The arm.
    pub arm: Arm,
    /// Whether the answer was right, in the stream's order.
    pub stream: Vec<bool>,
    /// Later questions, before anything was learnt, and after all was.
    pub later: [Vec<Right>; 2],
    /// Mean surprise of the later questions' right answers, before and after, in nats a token.
    pub nll: [Option<f64>; 2],
    /// Right answers to questions of an earlier or another domain, and their surprise, before and after.
    pub earlier: [Side; 2],
    /// Surprise of general text, before and after, in nats a token.
    pub general: [Option<f64>; 2],
}

/// Whether a question was answered rightly.
pub type Right = bool;

/// A domain that is not learnt now.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Side {
    /// The share of right answers.
    pub right: f64,
    /// Surprise of the right answers, in nats a token.
    pub nll: Option<f64>,
}

/// A downtime's run.
#[derive(Debug, Clone, Serialize)]
pub struct Downtime {
    /// Whose corrections.
    pub arm: Arm,
    /// After so many corrections.
    pub after: usize,
    /// Whether something was trained at all.
    pub trained: bool,
    /// Whether it passed.
    pub promoted: bool,
    /// Whether it is truly better on later questions; `None` where nobody looked.
    pub better: Option<bool>,
    /// The gate's gain.
    pub gain: Interval,
    /// How general text's surprise changed.
    pub general_rise: Option<f64>,
    /// Why it did not pass.
    pub reasons: Vec<String>,
    /// The whole run.
    pub seconds: f64,
    /// The trainer's peak memory, in bytes.
    pub peak_bytes: u64,
}

/// One seed.
#[derive(Debug, Clone, Serialize)]
pub struct Seed {
    /// Its number.
    pub seed: u64,
    /// By arm.
    pub arms: Vec<Lived>,
    /// All downtimes.
    pub runs: Vec<Downtime>,
}

impl Downtime {
    /// What a run's report says of it.
    #[must_use]
    pub fn of(arm: Arm, after: usize, report: &Report) -> Self {
        let trained = report.tried.iter().filter_map(|tried| tried.trained.as_ref());
        Self {
            arm,
            after,
            trained: !report.tried.is_empty(),
            promoted: report.verdict.promote,
            better: None,
            gain: report.verdict.gain,
            general_rise: report.verdict.general_rise,
            reasons: report.verdict.reasons.clone(),
            seconds: report.seconds,
            peak_bytes: trained.map(|trained| trained.peak_bytes).max().unwrap_or_default(),
        }
    }
}
