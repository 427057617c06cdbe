//! From the paths on the command line to files: a folder stands for all that is in it, at any depth.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A file to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// The folders above it, from the one that was named on; empty for a file that was named itself.
    pub folder: String,
    /// Its own name.
    pub base: String,
}

impl Found {
    /// One file below a folder that was named, or a file that was named itself (`root` is the file).
    pub fn below(root: &Path, path: &Path) -> Option<Self> {
        let base = path.file_name()?.to_string_lossy().into_owned();
        let above = if root == path {
            PathBuf::new()
        } else {
            let top = root.file_name().map(PathBuf::from).unwrap_or_default();
            top.join(path.strip_prefix(root).ok()?.parent()?)
        };
        let parts = above.iter().map(|part| part.to_string_lossy().into_owned());
        Some(Self {
            path: path.to_owned(),
            folder: parts.collect::<Vec<_>>().join("/"),
            base,
        })
    }

    /// The name that its document has.
    pub fn name(&self) -> String {
        if self.folder.is_empty() {
            self.base.clone()
        } else {
            format!("{}/{}", self.folder, self.base)
        }
    }
}

/// All files that the paths stand for, in a fixed order. Below folders, hidden files and folders are left out, and links
/// are not followed.
///
/// # Errors
/// If a path does not exist, or a folder can't be read.
pub fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in paths {
        let path = whole(path);
        if !path.is_dir() {
            let file = Found::below(&path, &path).with_context(|| format!("{} is not a file", path.display()))?;
            found.push(file);
            continue;
        }
        let mut folders = VecDeque::from([path.clone()]);
        while let Some(folder) = folders.pop_front() {
            let unreadable = || format!("the folder {} can't be read", folder.display());
            let mut entries = std::fs::read_dir(&folder)
                .with_context(unreadable)?
                .collect::<Result<Vec<_>, _>>()
                .with_context(unreadable)?;
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let kind = entry.file_type().with_context(unreadable)?;
                if is_hidden(&entry.path()) {
                    continue;
                }
                if kind.is_dir() {
                    folders.push_back(entry.path());
                } else if kind.is_file() {
                    found.extend(Found::below(&path, &entry.path()));
                }
            }
        }
    }
    Ok(found)
}

/// A path whose last part is a name: `.` and `..` are resolved.
pub fn whole(path: &Path) -> PathBuf {
    match path.file_name() {
        Some(_) => path.to_owned(),
        None => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
    }
}

/// Whether a name begins with a dot.
pub fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'))
}
