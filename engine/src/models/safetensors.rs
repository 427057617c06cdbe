//! Checks a directory of safetensors before a loader sees it, and reads what its `config.json` says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::ModelError;

/// A directory that was found whole.
#[derive(Debug, Default)]
pub struct Inspected {
    /// The first of `config.json`'s `architectures`.
    pub architecture: Option<String>,
    /// `max_position_embeddings`.
    pub context_window: Option<usize>,
    /// How many tensors there are of each type.
    pub types: BTreeMap<String, usize>,
    /// Whether it has a `tokenizer.json`.
    pub tokenizer: bool,
    /// The weights' files, by name.
    pub files: Vec<PathBuf>,
}

/// The weights' files of a directory, sorted.
///
/// # Errors
/// [`ModelError::Io`] if it can't be read.
pub fn weight_files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, ModelError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(ModelError::io("read", dir))? {
        let path = entry.map_err(ModelError::io("read", dir))?.path();
        if path
            .extension()
            .is_some_and(|found| found.eq_ignore_ascii_case(extension))
            && path.is_file()
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads and checks a directory.
///
/// # Errors
/// [`ModelError::Invalid`] if a needed file is absent or cut short.
pub fn inspect(dir: &Path) -> Result<Inspected, ModelError> {
    let config = dir.join("config.json");
    let text = std::fs::read(&config)
        .map_err(|_| ModelError::invalid(dir, "it is not a model directory: it has no readable config.json"))?;
    let config: Value = serde_json::from_slice(&text)
        .map_err(|error| ModelError::invalid(&config, format!("it is not JSON: {error}")))?;
    let mut inspected = Inspected {
        architecture: config["architectures"][0].as_str().map(str::to_owned),
        context_window: config["max_position_embeddings"]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok()),
        types: BTreeMap::new(),
        tokenizer: dir.join("tokenizer.json").is_file(),
        files: weight_files(dir, "safetensors")?,
    };
    if inspected.files.is_empty() {
        return Err(ModelError::invalid(
            dir,
            "it holds no .safetensors file; convert the model, or take one that has them",
        ));
    }
    for path in &inspected.files {
        check(path, &mut inspected.types)?;
    }
    Ok(inspected)
}

/// The header is whole, and so is the data that it speaks of.
/// The format: eight bytes of length, JSON, data (<https://github.com/huggingface/safetensors#format>).
fn check(path: &Path, types: &mut BTreeMap<String, usize>) -> Result<(), ModelError> {
    let cut_short = || ModelError::invalid(path, "it is cut short or damaged; fetch the file again");
    let mut file = File::open(path).map_err(ModelError::io("open", path))?;
    let length = file.metadata().map_err(ModelError::io("read", path))?.len();
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| cut_short())?;
    let size = u64::from_le_bytes(size);
    let data = size
        .checked_add(8)
        .filter(|start| *start <= length)
        .ok_or_else(cut_short)?;

    let mut header = vec![0; usize::try_from(size).map_err(|_| cut_short())?];
    file.read_exact(&mut header).map_err(|_| cut_short())?;
    let header: Value = serde_json::from_slice(&header).map_err(|_| cut_short())?;
    for (name, tensor) in header.as_object().ok_or_else(cut_short)? {
        if name == "__metadata__" {
            continue;
        }
        let end = tensor["data_offsets"][1].as_u64().and_then(|end| end.checked_add(data));
        if end.is_none_or(|end| end > length) {
            return Err(cut_short());
        }
        *types
            .entry(tensor["dtype"].as_str().unwrap_or("unknown").to_owned())
            .or_insert(0) += 1;
    }
    Ok(())
}
