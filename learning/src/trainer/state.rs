//! What is kept of a run: checkpoints, from which it goes on as if nothing had happened, and what a finished run was.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::lora::Lora;
use super::{Job, TrainError, Trained};

const CHECKPOINT: &str = "checkpoint.safetensors";
const FINISHED: &str = "trained.json";

/// What a step changes.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Steps that are done.
    pub(super) step: usize,
    /// AdamW's two running means of each variable.
    pub(super) means: Vec<[Vec<f32>; 2]>,
    /// Surprise and distance of each step.
    pub(super) losses: Vec<[f32; 2]>,
}

#[derive(Serialize, Deserialize)]
struct Finished {
    job: String,
    trained: Trained,
}

/// A name for what decides a run's result: examples, anchors, settings, and the weights' file.
pub(super) fn name(job: &Job) -> Result<String, TrainError> {
    let file = fs::metadata(&job.weights).map_err(TrainError::io("read", &job.weights))?;
    let changed = file
        .modified()
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let all = serde_json::to_vec(&(
        &job.examples,
        &job.anchors,
        &job.settings,
        &job.weights,
        file.len(),
        changed.map(|at| at.as_millis() as u64),
    ));
    let all = all.map_err(|error| TrainError::Failed(format!("the job can't be written as JSON: {error}")))?;
    Ok(hex::encode(Sha256::digest(all)))
}

/// The result of a run that has ended, if it was this job.
pub(super) fn finished(job: &Job, name: &str) -> Option<Trained> {
    let text = fs::read(job.out.join(FINISHED)).ok()?;
    let finished: Finished = serde_json::from_slice(&text).ok()?;
    (finished.job == name && finished.trained.adapter.is_dir()).then_some(finished.trained)
}

/// Notes the result, after which the checkpoint is of no more use.
pub(super) fn finish(job: &Job, name: &str, trained: &Trained) -> Result<(), TrainError> {
    let finished = Finished {
        job: name.to_owned(),
        trained: trained.clone(),
    };
    let text = serde_json::to_vec_pretty(&finished).map_err(|error| TrainError::Failed(error.to_string()))?;
    whole(&job.out.join(FINISHED), |path| {
        fs::write(path, text).map_err(TrainError::io("write", path))
    })?;
    fs::remove_file(job.out.join(CHECKPOINT)).ok();
    Ok(())
}

impl State {
    pub(super) fn new(lora: &Lora) -> Self {
        let zeros = |n: usize| [vec![0.0; n], vec![0.0; n]];
        Self {
            means: lora.variables().map(|variable| zeros(variable.elem_count())).collect(),
            ..Self::default()
        }
    }

    /// What was kept of this job, variables included; nothing if there is no whole checkpoint of it.
    pub(super) fn resume(job: &Job, name: &str, lora: &Lora) -> Option<Self> {
        let path = job.out.join(CHECKPOINT);
        let kept = candle_core::safetensors::load(&path, &Device::Cpu).ok()?;
        let numbers = |key: &str| kept.get(key)?.flatten_all().ok()?.to_vec1::<f32>().ok();
        let own = kept.get("job")?.to_vec1::<u8>().ok()?;
        if own != name.as_bytes() {
            tracing::info!(path = %path.display(), "the checkpoint is of another job: starting anew");
            return None;
        }
        let losses = numbers("losses")?;
        let mut state = Self {
            step: losses.len() / 2,
            means: Vec::new(),
            losses: losses.as_chunks::<2>().0.to_vec(),
        };
        for (index, variable) in lora.variables().enumerate() {
            let [first, second] = ["first", "second"].map(|mean| numbers(&format!("{mean}.{index}")));
            let means = [first?, second?];
            if means.iter().any(|mean| mean.len() != variable.elem_count()) {
                return None;
            }
            state.means.push(means);
            variable.set(kept.get(&format!("variable.{index}"))?).ok()?;
        }
        Some(state)
    }

    /// Keeps it: the file is whole, or as it was before.
    pub(super) fn keep(&self, job: &Job, name: &str, lora: &Lora) -> Result<(), TrainError> {
        let vector = |numbers: &[f32]| Tensor::new(numbers, &Device::Cpu);
        let mut all: HashMap<String, Tensor> = HashMap::new();
        for (index, (variable, [first, second])) in lora.variables().zip(&self.means).enumerate() {
            all.insert(format!("variable.{index}"), variable.as_detached_tensor());
            all.insert(format!("first.{index}"), vector(first)?);
            all.insert(format!("second.{index}"), vector(second)?);
        }
        all.insert("losses".to_owned(), vector(self.losses.as_flattened())?);
        all.insert("job".to_owned(), Tensor::new(name.as_bytes(), &Device::Cpu)?);
        whole(&job.out.join(CHECKPOINT), |path| {
            Ok(candle_core::safetensors::save(&all, path)?)
        })
    }
}

/// Writes a file that is there whole or not at all.
pub(crate) fn whole(path: &Path, write: impl FnOnce(&Path) -> Result<(), TrainError>) -> Result<(), TrainError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    write(&beside)?;
    let synced = File::open(&beside).and_then(|file| file.sync_all());
    synced
        .and_then(|()| fs::rename(&beside, path))
        .map_err(TrainError::io("write", path))
}
