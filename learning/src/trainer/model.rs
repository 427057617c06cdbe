//! The forward pass over a batch.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::TrainError;
use super::base::{Base, Frozen};
use super::batch::Batch;
use super::lora::{Lora, Module};
use super::ops::{Attention, Gated, Linear, Norm, Turn};

/// What the model makes of a batch: the last norm's output at the rows that are wanted. Without `lora` it is the model
/// as it is served.
///
/// # Errors
/// [`TrainError::Failed`] if the arithmetic fails, such as for a token that is not the model's.
pub fn forward(base: &Base, lora: Option<&Lora>, batch: &Batch) -> Result<Tensor, TrainError> {
    let shape = &base.shape;
    let tokens = Tensor::new(batch.tokens.as_slice(), &Device::Cpu)?;
    let packed = Attention(Arc::new(batch.packed(shape)));
    let turn = |heads| Turn {
        heads,
        pairs: base.frequencies.len(),
        turns: Arc::default(),
    };
    let turns = Arc::new(batch.turns(&base.frequencies));
    let turn = |heads| Turn {
        turns: Arc::clone(&turns),
        ..turn(heads)
    };
    let (turn_queries, turn_keys) = (turn(shape.heads), turn(shape.kv.heads));
    let norm = |weights: &Tensor| Norm {
        weights: weights.clone(),
        epsilon: shape.epsilon,
    };
    let mut x = base.embedding.index_select(&tokens, 0)?;
    if let Some(noise) = batch.noise(shape.width)? {
        x = (x + noise)?;
    }
    for (index, layer) in base.layers.iter().enumerate() {
        let adapters = lora.map(|lora| (lora, index));
        let normal = x.apply_op1(norm(&layer.attention_norm))?;
        let mut queries = linear(layer, adapters, Module::Query, &normal)?;
        let mut keys = linear(layer, adapters, Module::Key, &normal)?;
        let values = linear(layer, adapters, Module::Value, &normal)?;
        if let Some([query, key]) = &layer.head_norms {
            // A head is as long as the weights.
            queries = queries.apply_op1(norm(query))?;
            keys = keys.apply_op1(norm(key))?;
        }
        let queries = queries.apply_op1(turn_queries.clone())?;
        let keys = keys.apply_op1(turn_keys.clone())?;
        let mixed = queries.apply_op3(&keys, &values, packed.clone())?;
        x = (x + linear(layer, adapters, Module::Output, &mixed)?)?;

        let normal = x.apply_op1(norm(&layer.feed_norm))?;
        let gate = linear(layer, adapters, Module::Gate, &normal)?;
        let up = linear(layer, adapters, Module::Up, &normal)?;
        let gated = gate.apply_op2(&up, Gated)?;
        x = (x + linear(layer, adapters, Module::Down, &gated)?)?;
    }
    // Only what is wanted goes on to the output, the largest matrix of small models.
    let wanted = x.index_select(&batch.wanted_rows()?, 0)?;
    Ok(wanted.apply_op1(norm(&base.norm))?)
}

fn linear(layer: &Frozen, adapters: Option<(&Lora, usize)>, module: Module, x: &Tensor) -> Result<Tensor, TrainError> {
    let at = module as usize;
    let linear = Linear {
        weight: layer.matrices[at].clone(),
        bias: layer.biases.as_ref().and_then(|biases| biases.get(at).cloned()),
        scale: adapters.map_or(0.0, |(lora, _)| lora.scale),
    };
    Ok(match adapters {
        None => x.apply_op1(linear)?,
        Some((lora, layer)) => {
            let [first, second] = &lora.pairs[layer][at];
            x.apply_op3(first, second, linear)?
        }
    })
}
