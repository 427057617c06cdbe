//! Rewrites a GGUF file so that every tensor has a type with a fast kernel.
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
use super::gguf::Inspected;

/// `general.file_type` of a file whose weights are mostly Q8_0 (llama.cpp's `LLAMA_FTYPE_MOSTLY_Q8_0`).
const MOSTLY_Q8_0: u32 = 7;

/// Whether the file holds types that have no fast kernel.
#[must_use]
pub fn is_needed(inspected: &Inspected) -> bool {
    inspected
        .content
        .tensor_infos
        .values()
        .any(|info| is_slow(info.ggml_dtype))
}

fn is_slow(kind: GgmlDType) -> bool {
    matches!(kind, GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1)
}

/// Writes `target` with the tensors and the metadata of `source`, the slow types as Q8_0. The file is synced to disk.
///
/// # Errors
/// [`ModelError::Invalid`] if a tensor can't be read, [`ModelError::Io`] if the target can't be written.
pub fn requantise(
    source: &Path,
    inspected: &Inspected,
    target: &Path,
    progress: &dyn Progress,
) -> Result<(), ModelError> {
    let content = &inspected.content;
    progress.begin(
        "preparing the weights for fast kernels",
        Some(content.tensor_infos.len() as u64),
    );
    let result = rewrite(source, inspected, target, progress);
    progress.end();
    result
}

fn rewrite(source: &Path, inspected: &Inspected, target: &Path, progress: &dyn Progress) -> Result<(), ModelError> {
    let content = &inspected.content;
    let unreadable =
        |error: candle_core::Error| ModelError::invalid(source, format!("a tensor can't be read: {error}"));
    let mut reader = BufReader::new(File::open(source).map_err(ModelError::io("open", source))?);

    // In the order of the file, so that it is read from front to back.
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort_by_key(|name| content.tensor_infos[*name].offset);
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        let mut tensor = content.tensor(&mut reader, name, &Device::Cpu).map_err(unreadable)?;
        if is_slow(tensor.dtype()) {
            let floats = tensor.dequantize(&Device::Cpu).map_err(unreadable)?;
            tensor = QTensor::quantize(&floats, GgmlDType::Q8_0).map_err(unreadable)?;
        }
        tensors.push((name.as_str(), tensor));
        progress.advance(1);
    }

    let file_type = Value::U32(MOSTLY_Q8_0);
    // The writer aligns to 32 whatever the source did; a key that says otherwise would be wrong.
    let mut metadata: Vec<(&str, &Value)> = content
        .metadata
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "general.alignment" | "general.file_type"))
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    metadata.push(("general.file_type", &file_type));
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
