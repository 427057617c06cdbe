//! What a run found, for people and for programs: what changed, on which examples, by how much, how sure that is, and how
//! to undo it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::RunError;
use super::chart::{Bar, bars};
use super::state::{self, Scores, State};
use crate::examples::{Example, Slices};
use crate::few_shot::Copied;
use crate::gate::Verdict;
use crate::score::{General, mean_nll, share_right};
use crate::trainer::{Settings, Trained};

const JSON: &str = "report.json";
const MARKDOWN: &str = "report.md";
pub(super) const RIGHT: &str = "right.svg";
pub(super) const LIKELIHOOD: &str = "likelihood.svg";

/// What stands for a text that was to be forgotten.
const FORGOTTEN: &str = "(forgotten)";

/// How many examples each slice had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Trained on.
    pub train: usize,
    /// Judged by.
    pub gate: usize,
    /// Kept for the canary.
    pub canary: usize,
    /// Reported only.
    pub report: usize,
    /// Nearly the same as one in an older slice.
    pub left_out: usize,
}

/// A figure of what is served and of what was trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Of what is served.
    pub before: f64,
    /// Of what was trained.
    pub after: f64,
}

/// An example that is answered otherwise now, rightly or wrongly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// The example.
    pub id: Uuid,
    /// What was asked.
    pub question: String,
    /// The gold answer.
    pub wanted: String,
    /// What is served says.
    pub before: String,
    /// What was trained says.
    pub after: String,
    /// Whether it was wrong before and is right now; else it is the other way round.
    pub won: bool,
}

/// One of the settings that were tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The settings.
    pub settings: Settings,
    /// How the training went.
    pub trained: Option<Trained>,
    /// The share of right answers on the gate's examples.
    pub right: f64,
    /// The mean negative log-likelihood of the gold answers there, in nats a token.
    pub nll: Option<f64>,
    /// That of general text.
    pub general: Option<f64>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Of the run.
    pub id: Uuid,
    /// Whose it is.
    pub team: String,
    /// When it began, in Unix milliseconds.
    pub began: i64,
    /// When it ended.
    pub ended: i64,
    /// How long it worked, without the time between a break and its resumption.
    pub seconds: f64,
    /// The gate's answer.
    pub verdict: Verdict,
    /// Examples by slice.
    pub counts: Counts,
    /// Examples that the adapter was trained on: for lineage.
    pub trained_on: Vec<Uuid>,
    /// Examples that the gate judged by.
    pub judged_by: Vec<Uuid>,
    /// All settings that were tried.
    pub tried: Vec<Attempt>,
    /// Which of them was judged.
    pub best: Option<usize>,
    /// The share of right answers on the report's examples, which decided nothing.
    pub later: Option<Change>,
    /// Of the gate's examples, how many the answer of the nearest example that was trained on gets right, without any model.
    #[serde(default)]
    pub nearest_label: Option<Copied>,
    /// Negative log-likelihood of the gate's gold answers, in nats a token.
    pub answers: Option<Change>,
    /// That of general text.
    pub general: Option<Change>,
    /// The gate's and the report's examples that are answered otherwise in what matters.
    pub changed: Vec<Changed>,
    /// The adapter, in PEFT's layout, where it was kept.
    pub adapter: Option<PathBuf>,
    /// The merged file, where it was kept.
    pub model: Option<PathBuf>,
}

impl Report {
    pub(super) fn new(state: &State, slices: &Slices, best: Option<usize>, verdict: Verdict) -> Self {
        let ids = |examples: &[Example]| examples.iter().map(|example| example.id).collect();
        let judged = best.and_then(|at| state.tried[at].scores.as_ref());
        let both = state.base.as_ref().zip(judged);
        let change = |of: fn(&Scores) -> Option<f64>| {
            let (old, new) = both?;
            Some(Change {
                before: of(old)?,
                after: of(new)?,
            })
        };
        let attempts = state.tried.iter().filter_map(|tried| {
            let scores = tried.scores.as_ref()?;
            Some(Attempt {
                settings: tried.settings.clone(),
                trained: tried.trained.clone(),
                right: share_right(&scores.gate),
                nll: mean_nll(&scores.gate),
                general: scores.general.map(|general| general.nll),
            })
        });
        Self {
            id: state.plan.id,
            team: state.plan.team.clone(),
            began: state.began,
            ended: state.began,
            seconds: 0.0,
            counts: Counts {
                train: slices.train.len(),
                gate: slices.gate.len(),
                canary: slices.canary.len(),
                report: slices.report.len(),
                left_out: slices.left_out.len(),
            },
            trained_on: judged.map(|_| ids(&slices.train)).unwrap_or_default(),
            judged_by: ids(&slices.gate),
            tried: attempts.collect(),
            best,
            later: change(|scores| (!scores.report.is_empty()).then(|| share_right(&scores.report))),
            nearest_label: None,
            answers: change(|scores| mean_nll(&scores.gate)),
            general: change(|scores| scores.general.map(|General { nll, .. }| nll)),
            changed: both.map(|(old, new)| changed(old, new, slices)).unwrap_or_default(),
            adapter: None,
            model: None,
            verdict,
        }
    }

    /// The report in this folder; `None` if the run has not ended.
    ///
    /// # Errors
    /// [`RunError::Folder`] if it can't be read.
    pub fn read(folder: &Path) -> Result<Option<Self>, RunError> {
        let path = folder.join(JSON);
        let Some(text) = state::read(&path)? else {
            return Ok(None);
        };
        let report = serde_json::from_slice(&text);
        report.map(Some).map_err(|error| state::failed(&path, "read", &error))
    }

    /// Writes it to a folder in all its forms, the JSON last: where that is, the rest is.
    ///
    /// # Errors
    /// [`RunError::Folder`].
    pub fn write(&self, folder: &Path) -> Result<(), RunError> {
        state::write(&folder.join(RIGHT), self.right_chart().as_bytes())?;
        state::write(&folder.join(LIKELIHOOD), self.likelihood_chart().as_bytes())?;
        state::write(&folder.join(MARKDOWN), self.markdown().as_bytes())?;
        state::write_json(&folder.join(JSON), self)
    }

    /// Takes the texts of these examples out of the report in this folder. Whether there were any. What was trained on one
    /// of them ([`Report::trained_on`]) is for the caller to withdraw.
    ///
    /// # Errors
    /// [`RunError::Folder`].
    pub fn forget(folder: &Path, ids: &[Uuid]) -> Result<bool, RunError> {
        let Some(mut report) = Self::read(folder)? else {
            return Ok(false);
        };
        let mut any = false;
        for changed in report.changed.iter_mut().filter(|changed| ids.contains(&changed.id)) {
            for text in [
                &mut changed.question,
                &mut changed.wanted,
                &mut changed.before,
                &mut changed.after,
            ] {
                FORGOTTEN.clone_into(text);
            }
            any = true;
        }
        if any {
            report.write(folder)?;
        }
        Ok(any)
    }

    fn right_chart(&self) -> String {
        let (before, after) = self.verdict.right;
        let mut lines = vec![Bar::new("examples to judge by", before, after)];
        if let Some(Change { before, after }) = self.later {
            lines.push(Bar::new("newest examples", before, after));
        }
        bars("Share of right answers", 1.0, &lines)
    }

    fn likelihood_chart(&self) -> String {
        let lines = [("right answers", self.answers), ("general text", self.general)];
        let lines: Vec<Bar> = lines
            .into_iter()
            .filter_map(|(name, change)| change.map(|change| Bar::new(name, change.before, change.after)))
            .collect();
        let most = lines.iter().map(Bar::most).fold(1.0, f64::max);
        bars("Surprise, nats a token (less is better)", most, &lines)
    }
}

fn changed(old: &Scores, new: &Scores, slices: &Slices) -> Vec<Changed> {
    let after = new.gate.iter().chain(&new.report);
    let before = old.gate.iter().chain(&old.report);
    let pairs = before
        .zip(after)
        .filter(|(old, new)| old.id == new.id && old.right != new.right);
    let changed = pairs.filter_map(|(old, new)| {
        let example = slices
            .gate
            .iter()
            .chain(&slices.report)
            .find(|example| example.id == old.id)?;
        Some(Changed {
            id: old.id,
            question: example.question(),
            wanted: old.wanted.clone(),
            before: old.reply.clone(),
            after: new.reply.clone(),
            won: new.right,
        })
    });
    changed.collect()
}
