//! What `habit eval learning` prints: an arm a line, and a line about the downtimes.

use std::fmt;

use habit_learning::gate::{Interval, clustered};
use habit_learning::trainer::Settings;
use serde::Serialize;
use serde_json::{Value, json};

use super::lived::{Arm, Downtime, Lived, Right, Seed, Side};
use super::stream::Drift;

/// Both sides of an interval together.
const CONFIDENCE: f64 = 0.95;

/// Draws for an interval.
const RESAMPLES: usize = 5000;

/// What was measured on what.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// The data.
    pub data: &'static str,
    /// Their domain.
    pub domain: String,
    /// What changed half way.
    pub drift: Option<Drift>,
    /// The model as it is.
    pub model: String,
    /// In each stream.
    pub corrections: usize,
    /// Questions that were asked before and after.
    pub later: usize,
    /// Corrections between two downtimes.
    pub every: usize,
    /// Of the training.
    pub settings: Settings,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was measured on what.
    pub about: About,
    /// By seed.
    pub seeds: Vec<Seed>,
}

/// An arm over all seeds.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The arm.
    pub arm: Arm,
    /// The share of later questions that were answered rightly, before and after.
    pub right: [f64; 2],
    /// How many more than by the model as it is, by question.
    pub over_base: Interval,
    /// How many more than by copying the nearest answer, by question; `None` without that arm.
    pub over_nearest: Option<Interval>,
    /// Surprise of later questions' right answers, nats a token.
    pub nll: [Option<f64>; 2],
    /// Wrong answers in a stream, on average: what learning late costs.
    pub regret: f64,
    /// The other domain's right answers and their surprise.
    pub elsewhere: [Side; 2],
    /// How much the surprise of general text rose, nats a token.
    pub general_rise: Option<f64>,
}

/// The gate over all runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Precision {
    /// Runs in which something was trained.
    pub trained: usize,
    /// Of them, those that passed.
    pub passed: usize,
    /// Of these, those that are truly better on later questions.
    pub rightly: usize,
    /// Runs on feedback without a meaning, and those of them that passed.
    pub shuffled: (usize, usize),
}

impl Report {
    /// The arms, in the order in which they were lived.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let arms: Vec<Arm> = self
            .seeds
            .first()
            .into_iter()
            .flat_map(|seed| &seed.arms)
            .map(|one| one.arm)
            .collect();
        arms.into_iter().filter_map(|arm| self.line(arm)).collect()
    }

    /// What an arm did with each seed.
    pub fn of(&self, arm: Arm) -> impl Iterator<Item = &Lived> {
        let arms = self.seeds.iter().flat_map(|seed| &seed.arms);
        arms.filter(move |lived| lived.arm == arm)
    }

    fn line(&self, arm: Arm) -> Option<Line> {
        let all: Vec<&Lived> = self.of(arm).collect();
        let count = all.len();
        if count == 0 {
            return None;
        }
        let mean = |of: &dyn Fn(&Lived) -> f64| all.iter().map(|one| of(one)).sum::<f64>() / count as f64;
        let known = |of: &dyn Fn(&Lived) -> Option<f64>| {
            let values: Option<Vec<f64>> = all.iter().map(|one| of(one)).collect();
            values.map(|values| values.iter().sum::<f64>() / count as f64)
        };
        let nearest: Vec<&Lived> = self.of(Arm::Nearest).collect();
        let over_nearest = (nearest.len() == count && arm != Arm::Nearest).then(|| {
            let pairs = all
                .iter()
                .zip(nearest)
                .map(|(own, other)| (&other.later[1], &own.later[1]));
            over(pairs)
        });
        Some(Line {
            arm,
            right: [0, 1].map(|when| mean(&|one| share(&one.later[when]))),
            over_base: over(all.iter().map(|one| (&one.later[0], &one.later[1]))),
            over_nearest,
            nll: [0, 1].map(|when| known(&|one| one.nll[when])),
            regret: mean(&|one| one.stream.iter().filter(|right| !**right).count() as f64),
            elsewhere: [0, 1].map(|when| Side {
                right: mean(&|one| one.earlier[when].right),
                nll: known(&|one| one.earlier[when].nll),
            }),
            general_rise: known(&|one| Some(one.general[1]? - one.general[0]?)),
        })
    }

    /// The gate over all downtimes.
    #[must_use]
    pub fn precision(&self) -> Precision {
        let mut precision = Precision::default();
        for run in self.runs().filter(|run| run.trained) {
            let promoted = usize::from(run.promoted);
            precision.trained += 1;
            precision.passed += promoted;
            precision.rightly += usize::from(run.promoted && run.better == Some(true));
            if run.arm == Arm::Shuffled {
                precision.shuffled.0 += 1;
                precision.shuffled.1 += promoted;
            }
        }
        precision
    }

    fn runs(&self) -> impl Iterator<Item = &Downtime> {
        self.seeds.iter().flat_map(|seed| &seed.runs)
    }

    /// All figures.
    ///
    /// # Errors
    /// None that is known: everything in it has a form in JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        Ok(json!({
            "about": serde_json::to_value(&self.about)?,
            "arms": serde_json::to_value(self.lines())?,
            "gate": serde_json::to_value(self.precision())?,
            "seeds": serde_json::to_value(&self.seeds)?,
        }))
    }
}

fn share(right: &[Right]) -> f64 {
    right.iter().filter(|right| **right).count() as f64 / right.len().max(1) as f64
}

/// How many more are right after than before, question by question; seeds are drawn as a whole.
fn over<'a>(pairs: impl Iterator<Item = (&'a Vec<Right>, &'a Vec<Right>)>) -> Interval {
    let groups: Vec<Vec<f64>> = pairs
        .map(|(before, after)| {
            let both = before.iter().zip(after);
            both.map(|(before, after)| f64::from(*after) - f64::from(*before))
                .collect()
        })
        .collect();
    clustered(&groups, CONFIDENCE, RESAMPLES, 0)
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = &self.about;
        let drift = match about.drift {
            None => "",
            Some(Drift::Switch) => ", the domain switches half way",
            Some(Drift::Permute) => ", answers change their names half way",
        };
        writeln!(
            f,
            "{} `{}`, {} corrections{drift}, downtime every {}, {} later questions, {} seeds, model {}.",
            about.data,
            about.domain,
            about.corrections,
            about.every,
            about.later,
            self.seeds.len(),
            about.model
        )?;
        writeln!(
            f,
            "The data are crowd-written single turns, and an answer is right if it is exactly the intent's name: this says \
             whether it learns, not how useful it is.\n"
        )?;
        writeln!(
            f,
            "{:9} {:>6} {:>6}  {:24} {:24} {:>11} {:>6} {:>15} {:>8}",
            "arm", "before", "after", "over base", "over nearest", "surprise", "wrong", "other domain", "general"
        )?;
        for line in self.lines() {
            let nearest = line
                .over_nearest
                .map_or_else(|| "-".to_owned(), |interval| interval.to_string());
            let rise = line
                .general_rise
                .map_or_else(|| "-".to_owned(), |rise| format!("{rise:+.3}"));
            writeln!(
                f,
                "{:9} {:6.2} {:6.2}  {:24} {nearest:24} {:>5} {:>5} {:6.1} {:>7} {:>7} {rise:>8}",
                line.arm.name(),
                line.right[0],
                line.right[1],
                line.over_base.to_string(),
                figure(line.nll[0]),
                figure(line.nll[1]),
                line.regret,
                figure(line.elsewhere[0].nll),
                figure(line.elsewhere[1].nll),
            )?;
        }
        writeln!(
            f,
            "\nbefore, after: share of later questions answered exactly. over: the gain with its 95 % interval, paired by \
             question. surprise: nats a token of the right answers, before and after; other domain: the same there. wrong: \
             answers in the stream. general: how much the surprise of general text rose."
        )?;
        self.downtimes(f)
    }
}

impl Report {
    fn downtimes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.runs().next().is_none() {
            return Ok(());
        }
        writeln!(f, "\ndowntimes:")?;
        for seed in &self.seeds {
            for run in &seed.runs {
                let verdict = match (run.promoted, run.better) {
                    (true, Some(true)) => "passed, and is better".to_owned(),
                    (true, _) => "passed, and is not better".to_owned(),
                    (false, _) if !run.trained => format!("nothing was trained: {}", run.reasons.join("; ")),
                    (false, _) => format!("rejected: {}", run.reasons.join("; ")),
                };
                let rise = run
                    .general_rise
                    .map_or_else(|| "-".to_owned(), |rise| format!("{rise:+.3}"));
                writeln!(
                    f,
                    "seed {} {:8} after {:4}: gain {}, general {rise}, {:.0} s, {} MB, {verdict}",
                    seed.seed,
                    run.arm.name(),
                    run.after,
                    run.gain,
                    run.seconds,
                    run.peak_bytes / 1_000_000,
                )?;
            }
        }
        let gate = self.precision();
        writeln!(
            f,
            "the gate: {} of {} trained passed, {} of these are truly better{}; shuffled: {} of {} passed",
            gate.passed,
            gate.trained,
            gate.rightly,
            if gate.passed == 0 {
                String::new()
            } else {
                format!(" (precision {:.2})", gate.rightly as f64 / gate.passed as f64)
            },
            gate.shuffled.1,
            gate.shuffled.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lived(arm: Arm, after: &[bool]) -> Lived {
        Lived {
            arm,
            stream: vec![false, true, true],
            later: [vec![false; after.len()], after.to_vec()],
            nll: [Some(4.0), Some(1.0)],
            earlier: [Side::default(); 2],
            general: [Some(6.0), Some(6.02)],
        }
    }

    fn run(arm: Arm, promoted: bool, better: Option<bool>) -> Downtime {
        Downtime {
            arm,
            after: 160,
            trained: true,
            promoted,
            better,
            gain: Interval::NOTHING,
            general_rise: Some(0.02),
            reasons: vec!["it is not shown to be better".to_owned()],
            seconds: 100.0,
            peak_bytes: 2_000_000_000,
        }
    }

    fn report() -> Report {
        let arms = vec![
            lived(Arm::Nearest, &[true, false, false, false]),
            lived(Arm::Lora, &[true, true, true, false]),
        ];
        let seed = |seed| Seed {
            seed,
            arms: arms.clone(),
            runs: vec![
                run(Arm::Lora, true, Some(true)),
                run(Arm::Lora, true, Some(false)),
                run(Arm::Shuffled, false, None),
            ],
        };
        Report {
            about: About {
                data: "made",
                domain: "banking".to_owned(),
                drift: None,
                model: "m".to_owned(),
                corrections: 3,
                later: 4,
                every: 3,
                settings: Settings::default(),
            },
            seeds: vec![seed(0), seed(1)],
        }
    }

    #[test]
    fn arms_are_compared_question_by_question() {
        let lines = report().lines();
        let lora = lines.iter().find(|line| line.arm == Arm::Lora).expect("the arm");
        assert!((lora.right[1] - 0.75).abs() < 1e-9 && (lora.regret - 1.0).abs() < 1e-9);
        let nearest = lora.over_nearest.expect("compared");
        assert!((nearest.mean - 0.5).abs() < 1e-9 && nearest.lower >= 0.0);
        assert!((lora.general_rise.expect("measured") - 0.02).abs() < 1e-9);
        assert!(lines[0].over_nearest.is_none());
    }

    #[test]
    fn what_passed_wrongly_counts_against_the_gate() {
        let precision = report().precision();
        let wanted = Precision {
            trained: 6,
            passed: 4,
            rightly: 2,
            shuffled: (2, 0),
        };
        assert_eq!(precision, wanted);
        let text = report().to_string();
        for part in [
            "crowd-written single turns",
            "precision 0.50",
            "0 of 2 passed",
            "lora",
            "not better",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(report().json().expect("figures")["gate"]["passed"], 4);
    }
}
