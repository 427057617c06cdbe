//! `habit models tune`: finds the settings under which a model is fastest on this machine, and keeps them for `serve`.
//!
//! Every setting is measured in a process of its own: threads can be set once a process, memory is given back, and a
//! setting that does not work takes nothing down with it. The rule by which one is picked is [`habit_engine::tune`]'s.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use habit_engine::models::fit::Precision;
use habit_engine::models::requantise::{Goal, is_needed};
use habit_engine::models::{LocalModel, Silent, Store, Weights, fingerprint, gguf};
use habit_engine::tune::{Found, Measured, PROMPT, REPLY, Setting, Space, Trial, Workload, measure, tune};
use tokio::process::Command;

use super::progress::{Bars, counting};
use crate::cli::{Common, Tune};
use crate::config::Config;
use crate::tuned::{self, Entry, Tuned};
use crate::wiring;

/// Characters of the longest bar of the table.
const BAR: f64 = 24.0;

/// Runs it.
///
/// # Errors
/// With what to do about it.
pub async fn run(common: &Common, flags: Tune) -> anyhow::Result<()> {
    let config = common.load(Vec::new())?;
    let kept = Tuned::of(&config.data_dir()?);
    if flags.show {
        print!("{}", shown(&kept.all()?));
        return Ok(());
    }
    let store = Store::open(config.models_dir()?)?;
    if flags.forget {
        let fingerprint = match &flags.model {
            Some(name) => Some(fingerprint(&store.resolve(name, Arc::new(Bars::default())).await?)?),
            None => None,
        };
        println!("forgotten: {}", kept.forget(fingerprint.as_deref())?);
        return Ok(());
    }
    let name = flags.model.as_deref().or_else(|| config.engine.own_model(0));
    let name = name.unwrap_or("default").to_owned();
    if let Some(setting) = &flags.only {
        let setting: Setting = serde_json::from_str(setting).context("--only wants a setting as JSON")?;
        let measured = only(&config, &name, setting).await?;
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    let model = store.resolve(&name, Arc::new(Bars::default())).await?;
    let space = space(&model, flags.four_bits)?;
    // Quantised once and here, so that no measurement does it.
    for precision in space.bits.iter().filter_map(|bits| bits.and_then(Precision::of_bits)) {
        store
            .at_precision(model.clone(), precision, Arc::new(Bars::default()))
            .await?;
    }
    println!(
        "{} on {}: best is what ends a turn of {PROMPT} tokens read and {REPLY} written first; leave the machine alone \
         meanwhile\n",
        model.id,
        tuned::machine()
    );
    let load = sysinfo::System::load_average().one;
    if load > tuned::processors() as f64 / 4.0 {
        println!("the machine is busy (load {load:.1}): the figures will be too low, and the choice may be wrong\n");
    }
    let found = search(&Processes { common, name }, &space).await;
    let found = found.with_context(|| format!("`{}` ran under no setting; `habit serve` says why", model.id))?;
    println!("\n{}\nbest: {}", plot(&found), found.setting);
    if flags.four_bits {
        println!("4 bits are less exact: compare answers before you rely on them; --forget takes it back");
    }
    kept.keep(Entry {
        machine: tuned::machine(),
        fingerprint: fingerprint(&model)?,
        model: model.id,
        setting: found.setting,
        measured: found.measured,
        found: jiff::Timestamp::now().as_second(),
    })?;
    println!("`habit serve` takes this from now on, where the configuration does not say otherwise");
    Ok(())
}

/// What can be tried with this model.
fn space(model: &LocalModel, four_bits: bool) -> anyhow::Result<Space> {
    let mut space = Space::of_machine(tuned::processors());
    if let Weights::Gguf(path) = &model.weights {
        let inspected = gguf::inspect(path)?;
        let precisions = [(Precision::Eight, true), (Precision::Four, four_bits)];
        let wanted = precisions
            .into_iter()
            .filter(|(precision, wanted)| *wanted && is_needed(&inspected, Goal::AtMost(*precision)));
        space.bits.extend(wanted.map(|(precision, _)| Some(precision.bits())));
    }
    Ok(space)
}

/// Tries the settings with a line for each as it comes.
async fn search(workload: &dyn Workload, space: &Space) -> Option<Found> {
    let bar = counting("measuring", space.size() as u64);
    let tried = |trial: &Trial| {
        let line = line(trial);
        bar.inc(1);
        bar.suspend(|| println!("{line}"));
    };
    println!(
        "{:<44} {:>12} {:>10} {:>10} {:>9}",
        "setting", "first token", "one", "together", "turn"
    );
    let found = tune(workload, space, &tried).await;
    bar.finish_and_clear();
    found
}

fn line(trial: &Trial) -> String {
    let figures = match &trial.outcome {
        Ok(measured) => figures(measured),
        Err(reason) => reason.clone(),
    };
    format!("{:<44} {figures}", trial.setting.to_string())
}

fn figures(measured: &Measured) -> String {
    format!(
        "{:>10.2} s {:>6.0} t/s {:>6.0} t/s {:>7.1} s",
        measured.first_token_s * PROMPT as f64 / measured.prompt_tokens.max(1) as f64,
        measured.decode,
        measured.together,
        measured.turn_s()
    )
}

/// The turns of all settings that ran, as bars: shorter is better.
fn plot(found: &Found) -> String {
    let turns = found
        .trials
        .iter()
        .filter_map(|trial| Some((trial.setting, trial.outcome.as_ref().ok()?.turn_s())));
    let longest = turns.clone().map(|(_, turn)| turn).fold(f64::MIN_POSITIVE, f64::max);
    let bars = turns.map(|(setting, turn)| {
        let bar = "█".repeat(((turn / longest * BAR).round() as usize).max(1));
        let best = if setting == found.setting { "  <- best" } else { "" };
        format!("{:<44} {bar} {turn:.1} s{best}\n", setting.to_string())
    });
    bars.collect()
}

/// What was kept, as people read it.
fn shown(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "nothing was tuned yet: habit models tune\n".to_owned();
    }
    let here = tuned::machine();
    let entry = |entry: &Entry| {
        let place = if entry.machine == here {
            "here".to_owned()
        } else {
            entry.machine.clone()
        };
        let day = jiff::Timestamp::from_second(entry.found).unwrap_or_default();
        format!(
            "{} ({place}, {}): {}\n    {}\n",
            entry.model,
            day.strftime("%Y-%m-%d"),
            entry.setting,
            figures(&entry.measured).trim_start()
        )
    };
    entries.iter().map(entry).collect()
}

/// Measures one setting in this process.
async fn only(config: &Config, name: &str, setting: Setting) -> anyhow::Result<Measured> {
    let mut wanted = tuned::exactly(setting, &config.engine);
    wanted.model = name.to_owned();
    let engine = wiring::run_model(config, &wanted, Arc::new(Silent)).await?;
    Ok(measure::measure(&*engine, setting.running).await?)
}

/// Measures each setting in a process of its own.
struct Processes<'a> {
    common: &'a Common,
    name: String,
}

#[async_trait]
impl Workload for Processes<'_> {
    async fn measure(&self, setting: Setting) -> Result<Measured, String> {
        let say = |error: &dyn std::fmt::Display| error.to_string();
        let setting = serde_json::to_string(&setting).map_err(|error| say(&error))?;
        let mut command = Command::new(std::env::current_exe().map_err(|error| say(&error))?);
        let dirs = [
            ("--config", &self.common.config),
            ("--data-dir", &self.common.data_dir),
            ("--models-dir", &self.common.models_dir),
        ];
        for (flag, path) in dirs {
            if let Some(path) = path {
                command.arg(flag).arg(path);
            }
        }
        command.args(["models", "tune", "--only", &setting, "--", &self.name]);
        // Before the first tensor: mistral.rs' threads can't be changed later.
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| say(&error))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let last = text.lines().rev().find(|line| line.starts_with("error: "));
            let reason = last.and_then(|line| line.strip_prefix("error: "));
            return Err(reason.map_or_else(|| format!("it ended: {}", output.status), str::to_owned));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| say(&error))
    }
}

#[cfg(test)]
mod tests {
    use habit_engine::tune::Runner;

    use super::*;

    fn trial(threads: usize, first_token_s: f64) -> Trial {
        Trial {
            setting: Setting {
                runner: Runner::Native,
                bits: None,
                threads,
                running: 1,
            },
            outcome: Ok(Measured {
                prompt_tokens: 500,
                first_token_s,
                decode: 100.0,
                together: 100.0,
            }),
        }
    }

    #[test]
    fn figures_are_of_a_whole_prompt_and_bars_in_proportion() {
        let trials = vec![trial(1, 5.0), trial(2, 2.0)];
        let found = Found {
            setting: trials[1].setting,
            measured: trials[1].outcome.clone().expect("figures"),
            trials,
        };
        assert!(line(&found.trials[0]).contains("10.00 s"), "{}", line(&found.trials[0]));
        let plot = plot(&found);
        let lines: Vec<&str> = plot.lines().collect();
        assert!(lines[0].contains(&format!(" {} 12.0 s", "█".repeat(24))), "{plot}");
        assert!(
            lines[1].contains(&format!(" {} 6.0 s  <- best", "█".repeat(12))),
            "{plot}"
        );
    }

    #[test]
    fn what_was_kept_is_told() {
        assert!(shown(&[]).contains("habit models tune"));
        let entry = Entry {
            machine: "a toaster, 1 cores".to_owned(),
            fingerprint: "f".to_owned(),
            model: "small".to_owned(),
            setting: trial(1, 1.0).setting,
            measured: trial(1, 1.0).outcome.expect("figures"),
            found: 86_400,
        };
        let text = shown(&[entry]);
        assert!(
            text.starts_with("small (a toaster, 1 cores, 1970-01-02): native, as stored, 1 threads"),
            "{text}"
        );
    }
}
