//! The folders of runs.

use std::path::Path;

use habit_learning::run::RunError;
use habit_memory::MemoryError;
use uuid::Uuid;

/// Something of a run that can't be read or written, in memory's words.
pub(super) fn storage(error: impl ToString) -> MemoryError {
    MemoryError::Storage(error.to_string())
}

/// Removes a file or a folder with all that is in it, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), RunError> {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(RunError::Folder {
            path: path.to_owned(),
            doing: "removed",
            why: error.to_string(),
        }),
        _ => Ok(()),
    }
}

/// The names in a folder; none if it is not there.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.collect()
}

/// The ids that folders in a folder have, oldest first; none if it is not there.
pub(super) fn ids(folder: &Path) -> Vec<Uuid> {
    let names = names(folder).into_iter();
    let mut ids: Vec<Uuid> = names.filter_map(|name| Uuid::parse_str(&name).ok()).collect();
    ids.sort_unstable();
    ids
}

/// The runs in a team's folder, oldest first.
pub(super) fn folders(team: &Path) -> Vec<Uuid> {
    let ids = ids(team).into_iter();
    ids.filter(|id| has_begun(&team.join(id.to_string()))).collect()
}

/// Whether there is more than an empty folder: a process may end before it has written what the run is to be, and then there
/// was none.
pub(super) fn has_begun(run: &Path) -> bool {
    ["run.json", "report.json"].iter().any(|file| run.join(file).exists())
}
