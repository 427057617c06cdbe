//! What a trained model says, for checks by other tools: the very logits of the trainer's own forward pass.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use habit_engine::native::Lessons;

use super::base::Base;
use super::batch::Batch;
use super::lora::Lora;
use super::model::forward;
use super::ops::outputs;
use super::{Job, TrainError};
use crate::adapter::Adapter;

/// Writes `target`, a safetensors file with the `tokens` of the job's first example, prompt and answer, and the `logits`
/// after each of them, with the adapter in the folder `adapter`.
///
/// # Errors
/// [`TrainError::Unfit`] for an adapter of another model, [`TrainError::Nothing`] without an example.
pub fn probe(job: &Job, adapter: &Path, target: &Path) -> Result<(), TrainError> {
    let Some(example) = job.examples.first() else {
        return Err(TrainError::Nothing("no example was given".to_owned()));
    };
    let unfit = |error: &dyn std::fmt::Display| TrainError::Unfit(error.to_string());
    let lessons = Lessons::open(&job.weights, &job.model_dir).map_err(TrainError::Unfit)?;
    let lesson = lessons
        .lesson(&example.messages, &example.answer)
        .map_err(|error| unfit(&error))?;
    let tokens = [lesson.prompt, lesson.answer].concat();
    let base = Base::read(&job.weights)?;
    let lora = Lora::of(&Adapter::read(adapter).map_err(|error| unfit(&error))?, &base.shape)?;
    let hidden = forward(&base, Some(&lora), &Batch::new(&[], &[&tokens]))?;
    let logits = outputs(&hidden.detach(), &base.output)?;
    let columns = logits.len() / tokens.len();
    let all = HashMap::from([
        (
            "logits",
            Tensor::from_vec(logits, (tokens.len(), columns), &Device::Cpu)?,
        ),
        ("tokens", Tensor::new(tokens.as_slice(), &Device::Cpu)?),
    ]);
    Ok(candle_core::safetensors::save(&all, target)?)
}
