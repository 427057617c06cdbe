//! What comes of a run that has ended: its model begins its trial, or it is noted why none does.

use habit_learning::rollout::TeamModel;
use habit_learning::run::{self, Report};

use super::{LearnError, Learner};

impl Learner {
    /// A model that passed begins its trial; one that did not is noted with the reasons, and so is that nothing was trained.
    /// Doing it twice does it once.
    pub(super) async fn roll_out(&self, team: &str, report: &Report) -> Result<(), LearnError> {
        let parts = &self.inner.parts;
        let rollouts = &parts.rollouts;
        if rollouts.state(team).model(report.id).is_some() {
            return Ok(());
        }
        let served = parts.workshop.served().await.map_err(LearnError::Nothing)?;
        let folder = self.folder(team, report.id);
        let path = report.model.clone().unwrap_or_else(|| folder.join("model.gguf"));
        let model = TeamModel {
            id: report.id,
            run: Some(report.id),
            summary: summary(report),
            report: Some(folder.join("report.md")),
            ..TeamModel::new(served.name, path, parts.clock.now_ms())
        };
        let reasons = &report.verdict.reasons;
        if report.best.is_none() {
            rollouts.untrained(team, &model, reasons).await?;
        } else if !report.verdict.promote || report.model.is_none() {
            rollouts.reject(team, &model, reasons).await?;
        } else {
            rollouts.begin(team, &model, parts.rollout.canary_share).await?;
        }
        Ok(())
    }

    /// Does it for the runs that ended just before the server did, and removes what such a run left behind.
    pub(super) fn tell_untold(&self) {
        for (team, id) in self.all() {
            let folder = self.folder(&team, id);
            if folder.join("report.json").exists()
                && let Err(error) = run::tidy(&folder)
            {
                tracing::warn!(run = %id, "a learning run that has ended left something behind: {error}");
            }
            if self.inner.parts.rollouts.state(&team).model(id).is_some() {
                continue;
            }
            // What was trained is gone from the disk where everything of a user was erased meanwhile.
            let whole = |report: &Report| report.model.as_ref().is_none_or(|model| model.is_file());
            let Some(report) = Report::read(&self.folder(&team, id)).ok().flatten().filter(whole) else {
                continue;
            };
            let learner = self.clone();
            drop(self.inner.parts.lifecycle.spawn(async move {
                if let Err(error) = learner.roll_out(&team, &report).await {
                    tracing::warn!(run = %id, "what came of a learning run can't be noted: {error}");
                }
            }));
        }
    }
}

/// The gate's answer in a line.
pub(super) fn summary(report: &Report) -> String {
    let best = report.best.and_then(|best| report.tried.get(best));
    let right = best.map(|best| format!("{:.0} % of the gate's examples right", best.right * 100.0));
    let items = report.counts.gate;
    match (right, report.verdict.reasons.first()) {
        (Some(right), None) => format!("{right}, of {items}"),
        (Some(right), Some(reason)) => format!("{right}, of {items}; {reason}"),
        (None, Some(reason)) => format!("nothing was trained: {reason}"),
        (None, None) => "nothing was trained".to_owned(),
    }
}
