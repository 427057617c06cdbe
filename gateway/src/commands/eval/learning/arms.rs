//! One seed's stream, lived through by each arm: asked, answered by what it has then, corrected, and changed in downtime.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use habit_engine::Embedder;
use habit_learning::examples::{Example, Shares};
use habit_learning::gate::Bounds;
use habit_learning::run::{self, Apart, Loader, Parts, Plan, Report};
use habit_learning::score::{self, General, Model, Scored, share_right};
use habit_learning::trainer::Settings;
use habit_memory::clock::SystemClock;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lived::{Arm, Downtime, Lived, Seed, Side};
use super::nearest::Nearest;
use super::stream::Stream;
use super::watch::Bar;
use crate::commands::progress;

/// What is later is asked by the benchmark itself; nothing of the corrections needs to be kept for it.
pub const SHARES: Shares = Shares {
    gate: 15,
    canary: 0,
    report: 0,
};

/// What is the same for all seeds.
pub struct Setup<'a> {
    /// The model as it is.
    pub base: Model,
    /// Its file, and the folder of its tokenizer.
    pub files: (PathBuf, PathBuf),
    /// Loads what was trained.
    pub loader: Arc<dyn Loader>,
    /// Finds what is nearest.
    pub embedder: Arc<dyn Embedder>,
    /// This program, of which the trainer is a command.
    pub program: PathBuf,
    /// A place for runs.
    pub place: &'a Path,
    /// Which arms.
    pub arms: &'a [Arm],
    /// Corrections between two downtimes.
    pub every: usize,
    /// How to train, and how many settings to try.
    pub settings: (Settings, usize),
    /// General sentences to measure by.
    pub general: &'a [String],
    /// Sentences to anchor on; the trainer's own if there are none.
    pub anchors: &'a [String],
    /// Nobody can stop it but by ending the program.
    pub cancel: CancellationToken,
}

/// What is measured of a model when all is over.
#[derive(Clone)]
struct Measured {
    later: Vec<Scored>,
    earlier: Vec<Scored>,
    general: Option<General>,
}

impl Measured {
    fn side(&self) -> Side {
        Side {
            right: share_right(&self.earlier),
            nll: score::mean_nll(&self.earlier),
        }
    }
}

/// What is served at a time, and how it was measured.
#[derive(Clone)]
struct Served {
    model: Model,
    /// What it is, to know whether it was measured before.
    made: Option<usize>,
}

/// Lives through a seed. Reports of the runs are put into `reports`, if there is such a folder.
///
/// # Errors
/// What could not be asked, trained or written.
pub async fn live(
    setup: &Setup<'_>,
    stream: &Stream,
    seed: u64,
    nearest: Option<&Nearest>,
    reports: Option<&Path>,
) -> anyhow::Result<Seed> {
    let life = Life {
        setup,
        stream,
        seed,
        nearest,
        reports,
    };
    life.live().await
}

struct Life<'a> {
    setup: &'a Setup<'a>,
    stream: &'a Stream,
    seed: u64,
    nearest: Option<&'a Nearest>,
    reports: Option<&'a Path>,
}

impl Life<'_> {
    async fn live(&self) -> anyhow::Result<Seed> {
        let setup = self.setup;
        let base = self.measure(&setup.base, None).await?;
        let plain = self
            .answers(&setup.base, None, 0..self.stream.corrections.len())
            .await?;
        let has = |arm| setup.arms.contains(&arm);
        let mut seed = Seed {
            seed: self.seed,
            arms: Vec::new(),
            runs: Vec::new(),
        };
        if has(Arm::Base) {
            seed.arms.push(lived(Arm::Base, plain.clone(), &base, &base));
        }
        if let Some(nearest) = self.nearest {
            if has(Arm::Nearest) {
                seed.arms.push(self.copied(nearest, &base));
            }
            if has(Arm::FewShot) {
                let all = 0..self.stream.corrections.len();
                let answers = self.answers(&setup.base, Some(nearest), all).await?;
                let after = self.measure(&setup.base, Some(nearest)).await?;
                seed.arms.push(lived(Arm::FewShot, answers, &base, &after));
            }
        }
        if setup.arms.iter().any(|arm| arm.is_trained()) {
            let arms: Vec<Arm> = setup.arms.iter().copied().filter(|arm| arm.is_trained()).collect();
            self.trained(&mut seed, &arms, &self.stream.corrections, &plain, &base)
                .await?;
        }
        if has(Arm::Shuffled) {
            let shuffled = self.stream.shuffled(self.seed);
            self.trained(&mut seed, &[Arm::Shuffled], &shuffled, &plain, &base)
                .await?;
        }
        Ok(seed)
    }

    /// The arms that share these downtimes.
    async fn trained(
        &self,
        seed: &mut Seed,
        arms: &[Arm],
        corrections: &[Example],
        plain: &[bool],
        base: &Measured,
    ) -> anyhow::Result<()> {
        let unchanged = || Served {
            model: self.setup.base.clone(),
            made: None,
        };
        let mut serving: Vec<(Arm, Served, Vec<bool>)> =
            arms.iter().map(|arm| (*arm, unchanged(), Vec::new())).collect();
        let mut best: Option<Settings> = None;
        let mut begin = 0;
        for end in downtimes(corrections.len(), self.setup.every) {
            for (arm, served, answers) in &mut serving {
                let shown = self.nearest.filter(|_| *arm == Arm::Both);
                if served.made.is_none() && shown.is_none() {
                    answers.extend(&plain[begin..end]);
                } else {
                    answers.extend(self.answers(&served.model, shown, begin..end).await?);
                }
            }
            let keep = arms.contains(&Arm::Ungated);
            let report = self.downtime(arms[0], &corrections[..end], best.as_ref(), keep).await?;
            let mut line = Downtime::of(arms[0], end, &report);
            if let Some(file) = &report.model {
                let model = self.setup.loader.load(file).await.map_err(anyhow::Error::msg)?;
                let later = self
                    .ask(&model, &self.stream.later, false, "asking what was trained")
                    .await?;
                line.better = Some(share_right(&later) > share_right(&base.later));
                for (arm, served, _) in &mut serving {
                    if report.verdict.promote || *arm == Arm::Ungated {
                        *served = Served {
                            model: model.clone(),
                            made: Some(end),
                        };
                    }
                }
            }
            if report.verdict.promote {
                best = report
                    .best
                    .and_then(|at| report.tried.get(at))
                    .map(|tried| tried.settings.clone());
            }
            seed.runs.push(line);
            begin = end;
        }
        let mut known: Vec<(Option<usize>, bool, Measured)> = vec![(None, false, base.clone())];
        for (arm, served, answers) in serving {
            let shown = self.nearest.filter(|_| arm == Arm::Both);
            let same =
                |(made, shows, _): &&(Option<usize>, bool, Measured)| *made == served.made && *shows == shown.is_some();
            let after = match known.iter().find(same) {
                Some((_, _, measured)) => measured.clone(),
                None => {
                    let measured = self.measure(&served.model, shown).await?;
                    known.push((served.made, shown.is_some(), measured.clone()));
                    measured
                }
            };
            seed.arms.push(lived(arm, answers, base, &after));
        }
        Ok(())
    }

    /// One downtime, over all corrections until then.
    async fn downtime(
        &self,
        arm: Arm,
        corrections: &[Example],
        best: Option<&Settings>,
        keep: bool,
    ) -> anyhow::Result<Report> {
        let setup = self.setup;
        let (settings, points) = &setup.settings;
        let name = format!("seed-{}-{}-{}", self.seed, arm.name(), corrections.len());
        let folder = setup.place.join(&name);
        let plan = Plan {
            id: Uuid::now_v7(),
            team: "eval".to_owned(),
            weights: setup.files.0.clone(),
            model_dir: setup.files.1.clone(),
            examples: corrections.to_vec(),
            shares: SHARES,
            anchors: setup.anchors.to_vec(),
            general: setup.general.to_vec(),
            grid: run::grid(Some(best.unwrap_or(settings)), *points),
            bounds: Bounds {
                seed: self.seed,
                ..Bounds::default()
            },
            keep,
            memory: None,
            threads: None,
        };
        let parts = Parts {
            base: setup.base.clone(),
            trainer: Arc::new(Apart {
                program: setup.program.clone(),
            }),
            loader: Arc::clone(&setup.loader),
            embedder: Arc::clone(&setup.embedder),
            clock: Arc::new(SystemClock),
        };
        let bar = Bar::new(&format!(
            "seed {}, {} after {}",
            self.seed,
            arm.name(),
            corrections.len()
        ));
        let report = run::go(&folder, plan, &parts, &bar, &setup.cancel).await?;
        bar.end();
        if let Some(reports) = self.reports {
            report.write(&made(&reports.join(name))?)?;
        }
        Ok(report)
    }

    /// Answers to corrections in the stream, each by what is known before it.
    async fn answers(
        &self,
        model: &Model,
        shown: Option<&Nearest>,
        part: std::ops::Range<usize>,
    ) -> anyhow::Result<Vec<bool>> {
        let all = self.stream.corrections[part].iter();
        let asked: Vec<Example> = all
            .map(|example| match shown {
                Some(nearest) => nearest.shown(example, example.at),
                None => example.clone(),
            })
            .collect();
        let scored = self.ask(model, &asked, false, "asking the stream").await?;
        Ok(scored.iter().map(|scored| scored.right).collect())
    }

    /// All that is measured at the end.
    async fn measure(&self, model: &Model, shown: Option<&Nearest>) -> anyhow::Result<Measured> {
        let asked = |examples: &[Example]| -> Vec<Example> {
            let all = examples.iter().map(|example| match shown {
                Some(nearest) => nearest.shown(example, i64::MAX),
                None => example.clone(),
            });
            all.collect()
        };
        let bar = progress::counting("reading general text", self.setup.general.len() as u64);
        let options = score::Options {
            nll: true,
            done: &|| bar.inc(1),
            cancel: &self.setup.cancel,
        };
        let general = score::general(model, self.setup.general, &options).await?;
        bar.finish_and_clear();
        Ok(Measured {
            later: self
                .ask(model, &asked(&self.stream.later), true, "asking what is later")
                .await?,
            earlier: self
                .ask(model, &asked(&self.stream.earlier), true, "asking another domain")
                .await?,
            general,
        })
    }

    async fn ask(&self, model: &Model, examples: &[Example], nll: bool, label: &str) -> anyhow::Result<Vec<Scored>> {
        let bar = progress::counting(label, examples.len() as u64);
        let options = score::Options {
            nll,
            done: &|| bar.inc(1),
            cancel: &self.setup.cancel,
        };
        let scored = score::examples(model, examples, &options).await;
        bar.finish_and_clear();
        Ok(scored?)
    }

    /// The arm without a model.
    fn copied(&self, nearest: &Nearest, base: &Measured) -> Lived {
        let all = &self.stream.corrections;
        let right = |example: &Example, until: i64| {
            nearest
                .copied(example, until)
                .is_some_and(|answer| answer == example.answer)
        };
        let none = vec![false; self.stream.later.len()];
        let later = self
            .stream
            .later
            .iter()
            .map(|example| right(example, i64::MAX))
            .collect();
        let earlier: Vec<bool> = self
            .stream
            .earlier
            .iter()
            .map(|example| right(example, i64::MAX))
            .collect();
        let earlier = earlier.iter().filter(|right| **right).count() as f64 / earlier.len().max(1) as f64;
        Lived {
            arm: Arm::Nearest,
            stream: all.iter().map(|example| right(example, example.at)).collect(),
            later: [none, later],
            nll: [None, None],
            earlier: [
                Side::default(),
                Side {
                    right: earlier,
                    nll: None,
                },
            ],
            general: [base.general.map(|general| general.nll); 2],
        }
    }
}

/// After how many corrections there is a downtime: at the end in any case.
#[must_use]
pub fn downtimes(corrections: usize, every: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = (every..corrections).step_by(every.max(1)).collect();
    ends.push(corrections);
    ends
}

fn lived(arm: Arm, stream: Vec<bool>, before: &Measured, after: &Measured) -> Lived {
    let both = [before, after];
    Lived {
        arm,
        stream,
        later: both.map(|one| one.later.iter().map(|scored| scored.right).collect()),
        nll: both.map(|one| score::mean_nll(&one.later)),
        earlier: both.map(Measured::side),
        general: both.map(|one| one.general.map(|general| general.nll)),
    }
}

fn made(folder: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    Ok(folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::downtimes;

    #[test]
    fn a_downtime_is_at_the_end_in_any_case() {
        assert_eq!(downtimes(160, 40), [40, 80, 120, 160]);
        assert_eq!(downtimes(100, 40), [40, 80, 100]);
        assert_eq!(downtimes(30, 160), [30]);
    }
}
