//! `tuned.json` in the data directory: the settings that `habit models tune` found, by machine and model. `serve` takes
//! them for fields of `[engine]` that nobody set.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use habit_engine::models::{LocalModel, fingerprint};
use habit_engine::tune::{Measured, Runner, Setting};
use serde::{Deserialize, Serialize};

use crate::config::{self, Backend};

/// What was found for one model on one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The machine, as [`machine`] names it.
    pub machine: String,
    /// The model's files, as [`fingerprint`] names them, before any quantising.
    pub fingerprint: String,
    /// The model's name, for people.
    pub model: String,
    /// The best setting.
    pub setting: Setting,
    /// What it gives.
    pub measured: Measured,
    /// When it was found, in Unix seconds.
    pub found: i64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Tuned {
    path: PathBuf,
}

impl Tuned {
    /// What a data directory keeps. Nothing is read yet.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self {
            path: config::tuned_path(data_dir),
        }
    }

    /// All entries.
    ///
    /// # Errors
    /// If the file is there and can't be read.
    pub fn all(&self) -> anyhow::Result<Vec<Entry>> {
        let text = match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text,
        };
        let entries = text
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(serde_json::from_str(&text)?));
        entries.with_context(|| format!("{} can't be read; delete it and tune again", self.path.display()))
    }

    /// Keeps an entry, in the place of an earlier one for the same model and machine.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn keep(&self, entry: Entry) -> anyhow::Result<()> {
        let mut entries = self.all()?;
        entries.retain(|old| (&old.machine, &old.fingerprint) != (&entry.machine, &entry.fingerprint));
        entries.push(entry);
        self.write(&entries)
    }

    /// Forgets the entries of a model, or all; says how many they were.
    ///
    /// # Errors
    /// As [`Tuned::keep`].
    pub fn forget(&self, fingerprint: Option<&str>) -> anyhow::Result<usize> {
        let mut entries = self.all()?;
        let before = entries.len();
        entries.retain(|entry| fingerprint.is_some_and(|fingerprint| entry.fingerprint != fingerprint));
        self.write(&entries)?;
        Ok(before - entries.len())
    }

    /// What was found for this model on this machine. A file that can't be read is logged, and nothing was found.
    #[must_use]
    pub fn find(&self, model: &LocalModel) -> Option<Entry> {
        let entries = self.all();
        let entries = entries.inspect_err(|error| tracing::warn!("{error:#}")).ok()?;
        if entries.is_empty() {
            return None;
        }
        let (machine, fingerprint) = (machine(), fingerprint(model).ok()?);
        let mut entries = entries.into_iter();
        entries.find(|entry| entry.machine == machine && entry.fingerprint == fingerprint)
    }

    /// Whole or not at all: a server may read it meanwhile.
    fn write(&self, entries: &[Entry]) -> anyhow::Result<()> {
        let failed = || format!("{} can't be written", self.path.display());
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(failed)?;
        let part = self.path.with_extension("part");
        let mut file = std::fs::File::create(&part).with_context(failed)?;
        file.write_all(serde_json::to_string_pretty(entries)?.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&part, &self.path))
            .with_context(failed)
    }
}

/// This machine, as far as it decides about speed: its processor and how many cores this process may use.
#[must_use]
pub fn machine() -> String {
    let system = sysinfo::System::new_with_specifics(
        sysinfo::RefreshKind::nothing().with_cpu(sysinfo::CpuRefreshKind::nothing()),
    );
    let brand = system.cpus().first().map(|cpu| cpu.brand().trim().to_owned());
    let brand = brand.filter(|brand| !brand.is_empty());
    format!(
        "{}, {} cores",
        brand.as_deref().unwrap_or("unknown processor"),
        processors()
    )
}

/// Cores that this process may use.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The settings with what was found where nobody set anything. Another backend than the one that was found best is
/// another matter: then nothing of it is taken.
#[must_use]
pub fn over(entry: &Entry, wanted: &config::Engine) -> config::Engine {
    let Setting {
        runner,
        bits,
        threads,
        running,
    } = entry.setting;
    let backend = match runner {
        Runner::Native => Backend::Native,
        Runner::MistralRs => Backend::MistralRs,
    };
    if wanted.backend != Backend::Auto && wanted.backend != backend {
        return wanted.clone();
    }
    let or = |set: usize, found: usize| if set == 0 { found } else { set };
    config::Engine {
        backend,
        bits: wanted.bits.or(bits),
        threads: or(wanted.threads, threads),
        max_running: or(wanted.max_running, running),
        ..wanted.clone()
    }
}

/// The settings of `[engine]` under which a setting is tried.
#[must_use]
pub fn exactly(setting: Setting, wanted: &config::Engine) -> config::Engine {
    let backend = match setting.runner {
        Runner::Native => Backend::Native,
        Runner::MistralRs => Backend::MistralRs,
    };
    config::Engine {
        backend,
        bits: setting.bits,
        threads: setting.threads,
        max_running: setting.running,
        ..wanted.clone()
    }
}

#[cfg(test)]
mod tests {
    use habit_engine::models::Weights;

    use super::*;

    fn entry(fingerprint: &str, runner: Runner) -> Entry {
        Entry {
            machine: machine(),
            fingerprint: fingerprint.to_owned(),
            model: "m".to_owned(),
            setting: Setting {
                runner,
                bits: Some(8),
                threads: 3,
                running: 4,
            },
            measured: Measured {
                prompt_tokens: 1000,
                first_token_s: 1.0,
                decode: 50.0,
                together: 100.0,
            },
            found: 1,
        }
    }

    #[test]
    fn what_is_kept_is_found_for_the_same_files_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let tuned = Tuned::of(&dir.path().join("data"));
        let weights = dir.path().join("m.gguf");
        std::fs::write(&weights, b"some weights").expect("a file");
        let model = LocalModel {
            id: "m".to_owned(),
            weights: Weights::Gguf(weights.clone()),
            tokenizer_dir: None,
            context_window: None,
            created: 0,
        };
        assert_eq!(tuned.find(&model), None);
        let name = fingerprint(&model).expect("a fingerprint");
        let first = entry(&name, Runner::Native);
        tuned.keep(first).expect("kept");
        let second = entry(&name, Runner::MistralRs);
        tuned.keep(second.clone()).expect("kept");
        tuned.keep(entry("another", Runner::Native)).expect("kept");
        assert_eq!(tuned.find(&model), Some(second));
        let elsewhere = Entry {
            machine: "another machine".to_owned(),
            ..entry("third", Runner::Native)
        };
        tuned.keep(elsewhere).expect("kept");
        assert_eq!(tuned.all().expect("entries").len(), 3);
        std::fs::write(&weights, b"other weights").expect("a file");
        assert_eq!(tuned.find(&model), None);
        assert_eq!(tuned.forget(Some(&name)).expect("forgotten"), 1);
        assert_eq!(tuned.forget(None).expect("forgotten"), 2);
        std::fs::write(dir.path().join("data/tuned.json"), "not json").expect("a file");
        assert_eq!(tuned.find(&model), None);
        assert!(tuned.all().is_err());
    }

    #[test]
    fn what_somebody_set_stays() {
        let native = entry("f", Runner::Native);
        let unset = config::Engine::default();
        let taken = over(&native, &unset);
        assert_eq!(
            (taken.backend, taken.bits, taken.threads, taken.max_running),
            (Backend::Native, Some(8), 3, 4)
        );
        let set = config::Engine {
            bits: Some(4),
            threads: 1,
            max_running: 2,
            ..config::Engine::default()
        };
        let kept = over(&native, &set);
        assert_eq!((kept.bits, kept.threads, kept.max_running), (Some(4), 1, 2));
        let other = config::Engine {
            backend: Backend::MistralRs,
            ..config::Engine::default()
        };
        assert_eq!(over(&native, &other), other);
    }
}
