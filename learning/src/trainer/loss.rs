//! What is made small: the surprise at the answers, and the distance to the model's own words on general sentences.
//!
//! Logits are made and used up a few rows at a time: all of them at once would take more memory than the rest of a small
//! model.

use candle_core::{Device, Tensor};
use habit_kernels::training;

use super::TrainError;
use super::base::Base;
use super::batch::Batch;
use super::ops::{Known, outputs};

/// Rows whose logits are in memory together.
const ROWS: usize = 64;

/// Of one step.
#[derive(Debug)]
pub struct Loss {
    /// What is derived.
    pub total: Tensor,
    /// Mean surprise of the wanted tokens, by weight, in nats.
    pub surprise: f32,
    /// Mean distance of the anchors' tokens, in nats; 0 without any.
    pub distance: f32,
}

/// The loss of a batch, whose `hidden` is what [`super::model::forward`] made of it. `anchors` is what the model as it
/// is served makes of the anchors, in the order of the batch; `weight` is how much their mean distance counts.
///
/// # Errors
/// [`TrainError::Failed`] if the arithmetic fails.
pub fn loss(base: &Base, batch: &Batch, hidden: &Tensor, anchors: &[Tensor], weight: f32) -> Result<Loss, TrainError> {
    let (vocabulary, _) = base.output.dims2()?;
    let detached = hidden.detach();
    let mut gradients = Vec::new();
    let mut surprise = 0.0;
    for (index, wanted) in batch.wanted.chunks(ROWS).enumerate() {
        let rows = detached.narrow(0, index * ROWS, wanted.len())?;
        let mut logits = outputs(&rows, &base.output)?;
        surprise += training::surprise(&mut logits, wanted).iter().sum::<f32>();
        gradients.push(back(base, logits, wanted.len(), vocabulary)?);
    }
    let mut distance = 0.0;
    if batch.anchored > 0 {
        let own = Tensor::cat(anchors, 0)?;
        let each = weight / batch.anchored as f32;
        for from in (0..batch.anchored).step_by(ROWS) {
            let count = ROWS.min(batch.anchored - from);
            let mut logits = outputs(&detached.narrow(0, batch.wanted.len() + from, count)?, &base.output)?;
            let mut own = outputs(&own.narrow(0, from, count)?, &base.output)?;
            distance += training::distance(&mut logits, &mut own, vocabulary, each)
                .iter()
                .sum::<f32>();
            gradients.push(back(base, logits, count, vocabulary)?);
        }
    }
    let known = Known {
        value: surprise + distance,
        gradient: Tensor::cat(&gradients, 0)?,
    };
    Ok(Loss {
        total: hidden.apply_op1(known)?,
        surprise,
        distance: if weight > 0.0 { distance / weight } else { 0.0 },
    })
}

fn back(base: &Base, slopes: Vec<f32>, rows: usize, vocabulary: usize) -> Result<Tensor, TrainError> {
    let slopes = Tensor::from_vec(slopes, (rows, vocabulary), &Device::Cpu)?;
    Ok(slopes.matmul(&base.output)?)
}
