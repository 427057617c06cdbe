//! The run itself: a step after another, each kept before the next begins.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

use super::report::Report;
use super::state::{self, Scores, State};
use super::{MOST_SETTINGS, Parts, Phase, Plan, RunError, Watch};
use crate::examples::{Slices, slices_by};
use crate::few_shot::{Bank, Copied};
use crate::gate::{Pair, Verdict};
use crate::score::{self, Model, Scored, mean_nll};
use crate::trainer::Job;

/// Runs a plan in this folder to its end. A run that was broken off there goes on, whatever plan is given; one that has
/// ended gives its report again. Only one may run in a folder at a time.
///
/// # Errors
/// [`RunError`]; what was done is kept, and calling it again goes on from there.
pub async fn go(
    folder: &Path,
    plan: Plan,
    parts: &Parts,
    watch: &dyn Watch,
    cancel: &CancellationToken,
) -> Result<Report, RunError> {
    if let Some(report) = Report::read(folder)? {
        tidy(folder)?;
        return Ok(report);
    }
    std::fs::create_dir_all(folder).map_err(|error| state::failed(folder, "written", &error))?;
    let state = match State::read(folder)? {
        Some(state) => state,
        None => State::new(plan, parts.clock.now_ms())?,
    };
    state.keep(folder)?;
    let slices = slices_by(state.plan.examples.clone(), state.plan.shares);
    let mut run = Run {
        folder,
        parts,
        watch,
        cancel,
        resumed: parts.clock.now_ms() - state.worked,
        slices,
        state,
    };
    run.drive().await
}

struct Run<'a> {
    folder: &'a Path,
    parts: &'a Parts,
    watch: &'a dyn Watch,
    cancel: &'a CancellationToken,
    /// When it would have begun had it never been broken off, in Unix milliseconds.
    resumed: i64,
    slices: Slices,
    state: State,
}

impl Run<'_> {
    async fn drive(&mut self) -> Result<Report, RunError> {
        let enough = self.slices.gate.len() >= self.state.plan.bounds.items;
        // Nothing that was trained could be shown to be better: the time is saved for when it can.
        if !(enough || self.state.plan.keep) || self.slices.train.is_empty() {
            return self.end(None, None);
        }
        if self.state.base.is_none() {
            let many = self.state.tried.len();
            let base = self.scores(&self.parts.base, Phase::Base, (1, many)).await?;
            self.state.base = Some(base);
            self.keep()?;
        }
        for at in 0..self.state.tried.len() {
            self.train(at).await?;
            self.merge(at).await?;
            self.score(at).await?;
        }
        let copied = self.copied().await;
        self.end(self.best(), copied)
    }

    /// How copying the nearest example's answer does on the gate's examples, without any model.
    async fn copied(&self) -> Option<Copied> {
        let embedder = self.parts.embedder.as_ref();
        let measured = async {
            let bank = Bank::build(embedder, self.slices.train.clone(), None).await?;
            bank.copied_to(embedder, &self.slices.gate).await
        };
        // It decides nothing: what was trained is not lost for it.
        measured
            .await
            .inspect_err(|error| tracing::warn!("what the nearest examples say can't be told: {error}"))
            .ok()
    }

    /// The folder of a setting's training.
    fn place(&self, at: usize) -> PathBuf {
        place(self.folder, at)
    }

    fn of(&self, at: usize) -> (usize, usize) {
        (at + 1, self.state.tried.len())
    }

    async fn train(&mut self, at: usize) -> Result<(), RunError> {
        if self.state.tried[at].trained.is_some() {
            return Ok(());
        }
        let plan = &self.state.plan;
        let job = Job {
            weights: plan.weights.clone(),
            model_dir: plan.model_dir.clone(),
            examples: self.slices.train.clone(),
            anchors: plan.anchors.clone(),
            settings: self.state.tried[at].settings.clone(),
            out: self.place(at),
            memory: plan.memory,
            threads: plan.threads,
        };
        std::fs::create_dir_all(&job.out).map_err(|error| state::failed(&job.out, "written", &error))?;
        let of = self.of(at);
        let watch = self.watch;
        let mut begun = false;
        let mut progress = move |step: crate::trainer::Step| {
            if !begun {
                watch.phase(Phase::Training, of, step.steps);
                begun = true;
            }
            let left = step.seconds_left;
            watch.step(step.step, &format!("loss {:.2}, {left:.0} s left", step.loss));
        };
        let trained = self.parts.trainer.train(&job, &mut progress, self.cancel).await?;
        self.state.tried[at].trained = Some(trained);
        self.keep()
    }

    async fn merge(&mut self, at: usize) -> Result<(), RunError> {
        let tried = &self.state.tried[at];
        let Some(trained) = tried.trained.as_ref().filter(|_| tried.merged.is_none()) else {
            return Ok(());
        };
        self.stop_if_wanted()?;
        self.watch.phase(Phase::Merging, self.of(at), 1);
        let target = self.place(at).join("merged.gguf");
        let beside = target.with_extension("part");
        let (trainer, weights) = (self.parts.trainer.clone(), self.state.plan.weights.clone());
        let (adapter, part) = (trained.adapter.clone(), beside.clone());
        let merged = tokio::task::spawn_blocking(move || trainer.merge(&weights, &adapter, &part)).await;
        merged
            .map_err(|error| RunError::Merged(format!("merging broke off: {error}")))?
            .map_err(RunError::Merged)?;
        std::fs::rename(&beside, &target).map_err(|error| state::failed(&target, "written", &error))?;
        self.state.tried[at].merged = Some(target);
        self.watch.step(1, "");
        self.keep()
    }

    async fn score(&mut self, at: usize) -> Result<(), RunError> {
        let tried = &self.state.tried[at];
        let Some(merged) = tried.merged.as_ref().filter(|_| tried.scores.is_none()) else {
            return Ok(());
        };
        self.stop_if_wanted()?;
        let model = self.parts.loader.load(merged).await.map_err(RunError::Merged)?;
        let scores = self.scores(&model, Phase::Scoring, self.of(at)).await?;
        self.state.tried[at].scores = Some(scores);
        self.keep()
    }

    /// Asks a model all that is measured.
    async fn scores(&self, model: &Model, phase: Phase, of: (usize, usize)) -> Result<Scores, RunError> {
        let general = &self.state.plan.general;
        let steps = self.slices.gate.len() + self.slices.report.len() + general.len();
        self.watch.phase(phase, of, steps);
        let count = AtomicUsize::new(0);
        let done = || self.watch.step(count.fetch_add(1, Ordering::Relaxed) + 1, "");
        let options = score::Options {
            nll: true,
            done: &done,
            cancel: self.cancel,
        };
        Ok(Scores {
            gate: score::examples(model, &self.slices.gate, &options).await?,
            report: score::examples(model, &self.slices.report, &options).await?,
            general: score::general(model, general, &options).await?,
        })
    }

    /// The setting to judge: among those that remember, the one that gains most; of equals the one to which the right
    /// answers are likeliest, then the first.
    fn best(&self) -> Option<usize> {
        let rank = |at: &usize| {
            let verdict = self.verdict(*at)?;
            let bounds = &self.state.plan.bounds;
            let remembers = verdict.general_rise.is_some_and(|rise| rise < bounds.general_rise);
            let nll = self.state.tried[*at]
                .scores
                .as_ref()
                .and_then(|scores| mean_nll(&scores.gate));
            Some((remembers, verdict.gain.mean, -nll.unwrap_or(f64::MAX)))
        };
        (0..self.state.tried.len()).reduce(|best, next| match (rank(&best), rank(&next)) {
            (Some(old), Some(new)) if new > old => next,
            (None, Some(_)) => next,
            _ => best,
        })
    }

    fn verdict(&self, at: usize) -> Option<Verdict> {
        let (base, tried) = (self.state.base.as_ref()?, self.state.tried[at].scores.as_ref()?);
        let rise = match (&base.general, &tried.general) {
            (Some(old), Some(new)) => Some(new.nll - old.nll),
            _ => None,
        };
        let pairs = pairs(&base.gate, &tried.gate);
        Some(self.state.plan.bounds.judge(&pairs, rise, self.state.tried.len()))
    }

    /// Judges, keeps what may be served, and writes the report. Every part of it can be done twice.
    fn end(&mut self, best: Option<usize>, copied: Option<Copied>) -> Result<Report, RunError> {
        self.stop_if_wanted()?;
        self.watch.phase(Phase::Judging, self.of(0), 1);
        let verdict = best.and_then(|at| self.verdict(at));
        let verdict = verdict.unwrap_or_else(|| {
            let unjudged: Vec<Pair> = Vec::new();
            let mut verdict = self.state.plan.bounds.judge(&unjudged, None, 1);
            verdict.reasons = vec![self.too_few()];
            verdict
        });
        let mut report = Report::new(&self.state, &self.slices, best, verdict);
        report.nearest_label = copied;
        if let Some(at) = best.filter(|_| report.verdict.promote || self.state.plan.keep) {
            let tried = &self.state.tried[at];
            if let (Some(trained), Some(merged)) = (&tried.trained, &tried.merged) {
                let (adapter, model) = (self.folder.join("adapter"), self.folder.join("model.gguf"));
                moved(&trained.adapter, &adapter)?;
                moved(merged, &model)?;
                report.adapter = Some(adapter);
                report.model = Some(model);
            }
        }
        let now = self.parts.clock.now_ms();
        report.ended = now;
        report.seconds = (now - self.resumed) as f64 / 1e3;
        report.write(self.folder)?;
        // From here on the report is the run.
        tidy(self.folder)?;
        self.watch.step(1, "");
        Ok(report)
    }

    fn too_few(&self) -> String {
        let wanted = self.state.plan.bounds.items;
        format!(
            "of {} examples {} were left to judge by, and fewer than {wanted} say nothing; give more feedback",
            self.state.plan.examples.len(),
            self.slices.gate.len(),
        )
    }

    fn stop_if_wanted(&self) -> Result<(), RunError> {
        if self.cancel.is_cancelled() {
            return Err(RunError::Cancelled);
        }
        Ok(())
    }

    fn keep(&mut self) -> Result<(), RunError> {
        self.state.worked = self.parts.clock.now_ms() - self.resumed;
        self.state.keep(self.folder)
    }
}

/// What both said, by example.
fn pairs(before: &[Scored], after: &[Scored]) -> Vec<Pair> {
    let pairs = before.iter().filter_map(|old| {
        let new = after.iter().find(|new| new.id == old.id)?;
        Some(Pair {
            id: old.id,
            wanted: old.wanted.clone(),
            before: (old.reply.clone(), old.right),
            after: (new.reply.clone(), new.right),
        })
    });
    pairs.collect()
}

/// Moves a file or folder, unless that was done before.
fn moved(from: &Path, to: &Path) -> Result<(), RunError> {
    if !from.exists() && to.exists() {
        return Ok(());
    }
    std::fs::rename(from, to).map_err(|error| state::failed(to, "written", &error))
}

fn place(folder: &Path, at: usize) -> PathBuf {
    folder.join(format!("setting-{}", at + 1))
}

/// Removes what only a run under way needs; the examples' texts go with it. For a run that has its report: [`go`] does it,
/// unless the process was killed right before.
///
/// # Errors
/// [`RunError::Folder`].
pub fn tidy(folder: &Path) -> Result<(), RunError> {
    State::remove(folder)?;
    (0..MOST_SETTINGS).try_for_each(|at| state::remove(&place(folder, at)))
}
