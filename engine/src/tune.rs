//! Which settings make a model fastest on this machine: tries them in stages and picks by one rule.
//!
//! The rule: the setting under which a usual turn, [`PROMPT`] tokens read and [`REPLY`] written, is over first. Of settings
//! within [`CLOSE`] of each other the one that was tried first wins: as stored before quantised, fewer threads before
//! more. Then as many replies at the same time as still raise the tokens a second of all together by [`GAIN`].
//!
//! What a setting gives is a [`Workload`]'s to say; [`measure`] asks an engine. Where results are kept is not here.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub mod measure;

/// Tokens of the prompt of a usual turn: a question with history and memory.
pub const PROMPT: usize = 1000;

/// Tokens of its reply.
pub const REPLY: usize = 200;

/// Settings whose turns differ by less than this share are equally good: two runs of one setting differ as much.
const CLOSE: f64 = 0.03;

/// More replies at the same time must bring this share more tokens a second: each of them gets slower by it.
const GAIN: f64 = 0.10;

/// What computes the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runner {
    /// [`crate::native`].
    Native,
    /// [`crate::embedded`].
    MistralRs,
}

/// How a model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Setting {
    /// What computes it.
    pub runner: Runner,
    /// Bits a weight that it is quantised to; `None` for as its files have it.
    pub bits: Option<u8>,
    /// Processor threads.
    pub threads: usize,
    /// Replies at the same time.
    pub running: usize,
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let runner = match self.runner {
            Runner::Native => "native",
            Runner::MistralRs => "mistralrs",
        };
        let bits = self
            .bits
            .map_or_else(|| "as stored".to_owned(), |bits| format!("{bits} bits"));
        write!(
            f,
            "{runner}, {bits}, {} threads, {} at once",
            self.threads, self.running
        )
    }
}

/// What a setting gives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Tokens of the long prompt: [`PROMPT`], or fewer where that would take too long or the window is smaller.
    pub prompt_tokens: usize,
    /// Seconds until the first token of the reply to it.
    pub first_token_s: f64,
    /// Tokens a second of one reply.
    pub decode: f64,
    /// Tokens a second of all replies, as many as the setting has at the same time.
    pub together: f64,
}

impl Measured {
    /// Seconds of a usual turn: what the rule is about.
    #[must_use]
    pub fn turn_s(&self) -> f64 {
        self.first_token_s * PROMPT as f64 / self.prompt_tokens.max(1) as f64 + REPLY as f64 / self.decode
    }
}

/// Finds out what a setting gives.
#[async_trait]
pub trait Workload: Send + Sync {
    /// Runs the model under this setting.
    ///
    /// # Errors
    /// Why it does not run so; the setting is then out.
    async fn measure(&self, setting: Setting) -> Result<Measured, String>;
}

/// What is tried. In each list, what comes first is preferred among equals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// What may compute the model; the first that runs it sets the stage.
    pub runners: Vec<Runner>,
    /// Precisions.
    pub bits: Vec<Option<u8>>,
    /// Numbers of threads, ascending. The last is what other choices are made with.
    pub threads: Vec<usize>,
    /// Numbers of replies at the same time, ascending, for what runs several together.
    pub running: Vec<usize>,
}

impl Space {
    /// What makes sense on a machine with so many processors.
    #[must_use]
    pub fn of_machine(processors: usize) -> Self {
        let powers = std::iter::successors(Some(1usize), |n| n.checked_mul(2));
        let mut threads: Vec<usize> = powers.take_while(|n| *n < processors).collect();
        threads.push(processors.max(1));
        Self {
            runners: vec![Runner::Native, Runner::MistralRs],
            bits: vec![None],
            threads,
            running: vec![1, 2, 4, 8],
        }
    }

    /// The most settings that will be tried.
    #[must_use]
    pub fn size(&self) -> usize {
        self.runners.len() + self.bits.len() + self.threads.len() + self.running.len() - 3
    }
}

/// A setting that was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The setting.
    pub setting: Setting,
    /// What came of it.
    pub outcome: Result<Measured, String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The best setting.
    pub setting: Setting,
    /// What it gives.
    pub measured: Measured,
    /// All that was tried, in order.
    pub trials: Vec<Trial>,
}

/// Tries the settings of a space, a dimension at a time; `tried` hears of each. `None` if none of them runs.
pub async fn tune(workload: &dyn Workload, space: &Space, tried: &(dyn Fn(&Trial) + Send + Sync)) -> Option<Found> {
    let mut search = Search {
        workload,
        tried,
        trials: Vec::new(),
    };
    let most = space.threads.last().copied().unwrap_or(1);
    let with = |runner, bits, threads, running| Setting {
        runner,
        bits,
        threads,
        running,
    };
    let first_bits = space.bits.first().copied().flatten();
    let runners = space.runners.iter().map(|runner| with(*runner, first_bits, most, 1));
    let mut best = search.faster(None, runners.collect()).await?;

    let runner = best.0.runner;
    let bits = space.bits.iter().skip(1).map(|bits| with(runner, *bits, most, 1));
    best = search.faster(Some(best), bits.collect()).await?;

    // Fewer threads are preferred, so the one that all was measured with must be better than they are.
    let bits = best.0.bits;
    let fewer = space.threads.iter().filter(|threads| **threads != most);
    let fewer = fewer.map(|threads| with(runner, bits, *threads, 1)).collect();
    if let Some(few) = search.faster(None, fewer).await
        && !is_faster(&best.1, &few.1)
    {
        best = few;
    }

    // mistral.rs answers one after the other here.
    let threads = best.0.threads;
    let several = space
        .running
        .iter()
        .filter(|running| **running > 1 && runner == Runner::Native);
    for running in several {
        let setting = with(runner, bits, threads, *running);
        let Some(measured) = search.try_out(setting).await else {
            break;
        };
        if measured.together < best.1.together * (1.0 + GAIN) {
            break;
        }
        best = (setting, measured);
    }
    Some(Found {
        setting: best.0,
        measured: best.1,
        trials: search.trials,
    })
}

/// Whether the first is so much faster that it is not chance.
fn is_faster(this: &Measured, that: &Measured) -> bool {
    this.turn_s() < that.turn_s() * (1.0 - CLOSE)
}

struct Search<'a> {
    workload: &'a dyn Workload,
    tried: &'a (dyn Fn(&Trial) + Send + Sync),
    trials: Vec<Trial>,
}

impl Search<'_> {
    /// The best of what is had and what is tried now; the earlier among equals.
    async fn faster(
        &mut self,
        have: Option<(Setting, Measured)>,
        settings: Vec<Setting>,
    ) -> Option<(Setting, Measured)> {
        let mut best = have;
        for setting in settings {
            let Some(measured) = self.try_out(setting).await else {
                continue;
            };
            if best.is_none_or(|(_, best)| is_faster(&measured, &best)) {
                best = Some((setting, measured));
            }
        }
        best
    }

    async fn try_out(&mut self, setting: Setting) -> Option<Measured> {
        let outcome = self.workload.measure(setting).await;
        let measured = outcome.as_ref().ok().copied();
        let trial = Trial { setting, outcome };
        (self.tried)(&trial);
        self.trials.push(trial);
        measured
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::{Found, Measured, Runner, Setting, Space, Workload, tune};

    /// Gives what a formula says; refuses what it gives nothing for.
    struct Formula<F>(F);

    #[async_trait]
    impl<F: Fn(Setting) -> Option<(f64, f64, f64)> + Send + Sync> Workload for Formula<F> {
        async fn measure(&self, setting: Setting) -> Result<Measured, String> {
            let (first_token_s, decode, together) = (self.0)(setting).ok_or("it does not run so")?;
            Ok(Measured {
                prompt_tokens: 1000,
                first_token_s,
                decode,
                together,
            })
        }
    }

    fn space() -> Space {
        Space {
            bits: vec![None, Some(8), Some(4)],
            ..Space::of_machine(6)
        }
    }

    async fn found(formula: impl Fn(Setting) -> Option<(f64, f64, f64)> + Send + Sync) -> Option<Found> {
        let heard = Mutex::new(0);
        let found = tune(&Formula(formula), &space(), &|_| *heard.lock().expect("a count") += 1).await;
        if let Some(found) = &found {
            assert_eq!(found.trials.len(), heard.into_inner().expect("a count"));
            assert!(found.trials.len() <= space().size(), "{:?}", found.trials);
        }
        found
    }

    #[test]
    fn a_machine_has_powers_of_two_and_all() {
        assert_eq!(Space::of_machine(1).threads, [1]);
        assert_eq!(Space::of_machine(2).threads, [1, 2]);
        assert_eq!(Space::of_machine(6).threads, [1, 2, 4, 6]);
        assert_eq!(Space::of_machine(8).threads, [1, 2, 4, 8]);
    }

    #[tokio::test]
    async fn the_fastest_of_each_is_found() {
        // mistral.rs is better here, and best at 8 bits with four threads.
        let found = found(|setting| {
            let runner = if setting.runner == Runner::MistralRs { 1.0 } else { 3.0 };
            let bits = if setting.bits == Some(8) { 1.0 } else { 1.5 };
            let threads = 1.0 + setting.threads.abs_diff(4) as f64;
            Some((runner * bits * threads, 100.0, 100.0))
        });
        let found = found.await.expect("a setting");
        let best = Setting {
            runner: Runner::MistralRs,
            bits: Some(8),
            threads: 4,
            running: 1,
        };
        assert_eq!(found.setting, best);
        assert!(found.trials.iter().all(|trial| trial.setting.running == 1));
    }

    #[tokio::test]
    async fn among_equals_the_plain_ones_win() {
        let found = found(|setting| Some((1.0 - 0.001 * setting.threads as f64, 50.0, 50.0)));
        let setting = found.await.expect("a setting").setting;
        assert_eq!((setting.runner, setting.bits), (Runner::Native, None));
        assert_eq!((setting.threads, setting.running), (1, 1));
    }

    #[tokio::test]
    async fn replies_are_added_while_they_bring_something() {
        let found = found(|setting| {
            Some((
                6.0 / setting.threads as f64,
                50.0,
                [0.0, 50.0, 90.0, 0.0, 120.0, 0.0, 0.0, 0.0, 125.0][setting.running],
            ))
        });
        let found = found.await.expect("a setting");
        assert_eq!((found.setting.threads, found.setting.running), (6, 4));
        assert!((found.measured.together - 120.0).abs() < 1e-9);
    }

    #[tokio::test]
    async fn what_does_not_run_is_out() {
        let only = |setting: Setting| (setting.runner == Runner::MistralRs).then_some((9.0, 9.0, 9.0));
        let found_one = found(only).await.expect("a setting");
        assert_eq!(found_one.setting.runner, Runner::MistralRs);
        assert!(found_one.trials[0].outcome.is_err());
        assert!(found(|_| None).await.is_none());
    }
}
