//! Rewrites a GGUF file so that its tensors have other types: ones with a fast kernel, or smaller ones.
//!
//! candle has AVX2 kernels for Q4_0, Q8_0 and the K-quants; Q4_1, Q5_0 and Q5_1 run scalar, several times slower.
//! They become Q8_0: the nearest fast type that loses nothing that can be measured. Norms stay as they are.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};

use super::Progress;
use super::error::ModelError;
use super::fit::Precision;
use super::gguf::Inspected;

/// What the tensors of a file become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Slow types become Q8_0; the rest stays.
    Fast,
    /// Matrices that are finer than this become this coarse; norms and biases stay.
    AtMost(Precision),
}

impl Goal {
    /// The type that a tensor is to have.
    fn of(self, name: &str, shape: &[usize], now: GgmlDType) -> GgmlDType {
        let Self::AtMost(precision) = self else {
            return if is_slow(now) { GgmlDType::Q8_0 } else { now };
        };
        let matrix = shape.len() >= 2 && shape.last().is_some_and(|row| row % GgmlDType::Q8_0.block_size() == 0);
        // The table of words and the output are the most sensitive, as llama.cpp treats them.
        let sensitive = name.starts_with("token_embd") || name.starts_with("output.");
        let wanted = match precision {
            Precision::Sixteen => GgmlDType::F16,
            Precision::Four if !sensitive => GgmlDType::Q4_0,
            Precision::Four | Precision::Eight => GgmlDType::Q8_0,
        };
        if matrix && bits(now) > bits(wanted) {
            wanted
        } else if is_slow(now) {
            GgmlDType::Q8_0
        } else {
            now
        }
    }

    /// `general.file_type` of the result, in llama.cpp's numbers (`LLAMA_FTYPE_MOSTLY_…`).
    fn file_type(self) -> u32 {
        match self {
            Self::AtMost(Precision::Sixteen) => 1,
            Self::AtMost(Precision::Four) => 2,
            Self::Fast | Self::AtMost(Precision::Eight) => 7,
        }
    }
}

/// Bits a weight of a type takes, its scales included.
fn bits(kind: GgmlDType) -> usize {
    kind.type_size() * 8 / kind.block_size()
}

/// Whether a file has tensors that the goal would change.
#[must_use]
pub fn is_needed(inspected: &Inspected, goal: Goal) -> bool {
    inspected
        .content
        .tensor_infos
        .iter()
        .any(|(name, info)| goal.of(name, info.shape.dims(), info.ggml_dtype) != info.ggml_dtype)
}

fn is_slow(kind: GgmlDType) -> bool {
    matches!(kind, GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1)
}

/// Writes `target` with the metadata of `source` and its tensors as the goal wants them. The file is synced to disk.
///
/// # Errors
/// [`ModelError::Invalid`] if a tensor can't be read, [`ModelError::Io`] if the target can't be written.
pub fn requantise(
    source: &Path,
    inspected: &Inspected,
    target: &Path,
    goal: Goal,
    progress: &dyn Progress,
) -> Result<(), ModelError> {
    let content = &inspected.content;
    progress.begin("preparing the weights", Some(content.tensor_infos.len() as u64));
    let result = rewrite(source, inspected, target, goal, progress);
    progress.end();
    result
}

fn rewrite(
    source: &Path,
    inspected: &Inspected,
    target: &Path,
    goal: Goal,
    progress: &dyn Progress,
) -> Result<(), ModelError> {
    let change = |name: &str, tensor: QTensor| {
        let wanted = goal.of(name, tensor.shape().dims(), tensor.dtype());
        progress.advance(1);
        if wanted == tensor.dtype() {
            return Ok(tensor);
        }
        QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, wanted)
    };
    copy(source, inspected, target, Some(goal.file_type()), change)
}

/// Writes `target` with the metadata of `source` and its tensors as `change` makes them, which gets each with its name, in
/// the order of the file. The file is synced to disk. `file_type` is `general.file_type`, if it is to be another.
///
/// # Errors
/// [`ModelError::Invalid`] if a tensor can't be read or changed, [`ModelError::Io`] if the target can't be written.
pub fn copy(
    source: &Path,
    inspected: &Inspected,
    target: &Path,
    file_type: Option<u32>,
    mut change: impl FnMut(&str, QTensor) -> candle_core::Result<QTensor>,
) -> Result<(), ModelError> {
    let content = &inspected.content;
    let unreadable =
        |error: candle_core::Error| ModelError::invalid(source, format!("a tensor can't be read: {error}"));
    let mut reader = BufReader::new(File::open(source).map_err(ModelError::io("open", source))?);

    // In the order of the file, so that it is read from front to back.
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort_by_key(|name| content.tensor_infos[*name].offset);
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        let tensor = content.tensor(&mut reader, name, &Device::Cpu).map_err(unreadable)?;
        tensors.push((name.as_str(), change(name, tensor).map_err(unreadable)?));
    }

    let file_type = file_type.map(Value::U32);
    // The writer aligns to 32 whatever the source did; a key that says otherwise would be wrong.
    let mut metadata: Vec<(&str, &Value)> = content
        .metadata
        .iter()
        .filter(|(key, _)| key.as_str() != "general.alignment")
        .filter(|(key, _)| file_type.is_none() || key.as_str() != "general.file_type")
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    metadata.extend(file_type.as_ref().map(|file_type| ("general.file_type", file_type)));
    metadata.sort_by_key(|(key, _)| *key);
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();

    let file = File::create(target).map_err(ModelError::io("create", target))?;
    let mut writer = BufWriter::new(file);
    gguf_file::write(&mut writer, &metadata, &tensors).map_err(|error| ModelError::Io {
        doing: "write",
        path: target.to_owned(),
        source: std::io::Error::other(error.to_string()),
    })?;
    writer.flush().map_err(ModelError::io("write", target))?;
    writer.get_ref().sync_all().map_err(ModelError::io("write", target))
}
