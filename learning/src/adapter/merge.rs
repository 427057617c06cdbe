//! Merging: the served file once more, with an adapter's changes in its matrices. Every tensor keeps its type, what is not
//! adapted its very bytes.

use std::fs;
use std::path::Path;

use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};
use habit_engine::models::{gguf, requantise};
use habit_engine::native::Shape;

use super::{Adapter, AdapterError};
use crate::trainer::base::{Base, in_file};
use crate::trainer::lora::Module;

/// Writes `target`: the GGUF file `weights` with the adapter in the folder `adapter`. It is there whole or not at all.
///
/// # Errors
/// [`AdapterError::Unfit`] for an adapter of another model, [`AdapterError::Model`] for files that can't be read or
/// written.
pub fn merge(weights: &Path, adapter: &Path, target: &Path) -> Result<(), AdapterError> {
    let unfit = |reason: String| AdapterError::Unfit {
        path: adapter.to_owned(),
        reason,
    };
    let changes = Adapter::read(adapter)?;
    let file = gguf::inspect(weights)?;
    let shape = Shape::read(&file).map_err(unfit)?;
    for ((layer, module), [first, second]) in &changes.pairs {
        let module = Module::ALL[*module];
        let (outputs, inputs) = Base::dimensions(&shape, module);
        if *layer >= shape.kv.layers
            || first.dims() != [changes.rank, inputs]
            || second.dims() != [outputs, changes.rank]
        {
            let name = module.name();
            return Err(unfit(format!(
                "its matrices for `{name}` of layer {layer} are not of this model's shape"
            )));
        }
    }
    let beside = target.with_extension("part");
    requantise::copy(weights, &file, &beside, None, |name, tensor| {
        let Some((layer, module)) = place(name) else {
            return Ok(tensor);
        };
        let Some(delta) = changes.delta(layer, module)? else {
            return Ok(tensor);
        };
        let turned = matches!(module, Module::Query | Module::Key) && shape.rope.neighbours;
        let delta = if turned {
            in_file_order(&delta, shape.kv.width)?
        } else {
            delta
        };
        QTensor::quantize(&(tensor.dequantize(&Device::Cpu)? + delta)?, tensor.dtype())
    })?;
    fs::rename(&beside, target).map_err(|source| AdapterError::Io {
        doing: "write",
        path: target.to_owned(),
        source,
    })
}

/// Layer and module of a tensor's name.
fn place(name: &str) -> Option<(usize, Module)> {
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let part = part.strip_suffix(".weight")?;
    let module = Module::ALL.into_iter().find(|module| module.in_gguf() == part)?;
    Some((layer.parse().ok()?, module))
}

/// Rows as llama's files have them.
fn in_file_order(delta: &Tensor, head: usize) -> candle_core::Result<Tensor> {
    let rows = delta.dim(0)?;
    let mut order = vec![0u32; rows];
    for row in 0..rows {
        order[in_file(row, head)] = row as u32;
    }
    delta.index_select(&Tensor::new(order, &Device::Cpu)?, 0)
}
