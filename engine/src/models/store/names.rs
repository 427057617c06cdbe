//! What a model is called in the store, and by which directory.

use std::path::Path;

use sha2::{Digest, Sha256};

/// A model's name as a directory's: what separates paths becomes `--`.
pub(super) fn folder_name(name: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let parts: Vec<String> = name
        .split(['/', ':', '\\'])
        .map(|part| part.chars().map(|c| if safe(c) { c } else { '_' }).collect::<String>())
        .collect();
    parts.join("--").trim_start_matches('.').to_owned()
}

/// A file's name without `.gguf`; a directory's name.
pub(super) fn stem(path: &Path) -> String {
    let name = path
        .file_name()
        .map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    match name.len().checked_sub(5) {
        Some(end) if name.to_lowercase().ends_with(".gguf") && name.is_char_boundary(end) => name[..end].to_owned(),
        _ => name,
    }
}

pub(super) fn short_hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..4])
}

/// A relative path as one that can't be taken for a name.
pub(super) fn dotted(path: &Path) -> String {
    if path.is_absolute() {
        path.display().to_string()
    } else {
        format!("./{}", path.display())
    }
}
