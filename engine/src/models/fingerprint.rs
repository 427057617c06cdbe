//! A short name for a model's very files, by which what was found out about one is found again.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::ModelError;
use super::{LocalModel, Weights, safetensors};

/// Bytes that are read at a file's beginning and end. The beginning of a GGUF file has all its metadata and shapes.
const READ: u64 = 1 << 20;

/// The checksum of length, beginning and end of the weights' files: gigabytes in between are not read, so that it costs
/// nothing at every start.
///
/// # Errors
/// [`ModelError`] if they can't be read.
pub fn fingerprint(model: &LocalModel) -> Result<String, ModelError> {
    let files: Vec<PathBuf> = match &model.weights {
        Weights::Gguf(path) => vec![path.clone()],
        Weights::Safetensors(dir) => safetensors::inspect(dir)?.files,
    };
    let mut hash = Sha256::new();
    for path in files {
        take(&mut hash, &path).map_err(ModelError::io("read", &path))?;
    }
    Ok(hex::encode(hash.finalize()))
}

fn take(hash: &mut Sha256, path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    hash.update(length.to_le_bytes());
    let mut bytes = Vec::new();
    (&mut file).take(READ).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(length.saturating_sub(READ)))?;
    file.take(READ).read_to_end(&mut bytes)?;
    hash.update(&bytes);
    Ok(())
}
