//! One server a data directory, and how commands find it: the server holds a lock on `lock` (the operating system
//! lets go of it when the process ends, however it ends) and says in `server.json` where it listens.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What `server.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFile {
    /// The base URL for clients on this machine, without `/v1`.
    pub url: String,
    /// The server's process.
    pub pid: u32,
    /// Whether it asks for keys.
    pub auth: bool,
}

/// The right to use a data directory; let go when it is dropped.
#[derive(Debug)]
pub struct DataLock {
    // Held for its lock.
    _file: File,
    dir: PathBuf,
}

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process uses it.
    #[error(
        "another habit (process {pid}) already uses {dir}{}; stop it first, or give this one its own directory with \
         --data-dir DIR",
        url.as_ref().map(|url| format!(" and answers at {url}")).unwrap_or_default()
    )]
    Taken {
        /// The directory.
        dir: String,
        /// The other process, as far as it said.
        pid: String,
        /// Where it listens, as far as it said.
        url: Option<String>,
    },
    /// The directory can't be written.
    #[error("the data directory {dir} can't be used: {why}; make it writable, or choose another with --data-dir DIR")]
    Unusable {
        /// The directory.
        dir: String,
        /// What the system said.
        why: io::Error,
    },
}

impl DataLock {
    /// Takes the directory, making it (private to its owner) if it does not exist.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let unusable = |why| LockError::Unusable {
            dir: dir.display().to_string(),
            why,
        };
        make_private_dir(dir).map_err(unusable)?;
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("lock"))
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                _file: file,
                dir: dir.to_owned(),
            }),
            Err(TryLockError::WouldBlock) => {
                let other = read(dir);
                let pid = other
                    .as_ref()
                    .map_or_else(|| "unknown".to_owned(), |other| other.pid.to_string());
                Err(LockError::Taken {
                    dir: dir.display().to_string(),
                    pid,
                    url: other.map(|other| other.url),
                })
            }
            Err(TryLockError::Error(why)) => Err(unusable(why)),
        }
    }

    /// Tells other commands where this process listens. Written whole or not at all, readable by its owner only.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn announce(&self, server: &ServerFile) -> io::Result<()> {
        let (new, path) = (self.dir.join("server.json.new"), self.dir.join("server.json"));
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(server)?)?;
        drop(file);
        std::fs::rename(new, path)
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // It names a server that is about to be gone; if that fails, the free lock tells as much.
        let _ = std::fs::remove_file(self.dir.join("server.json"));
    }
}

/// The server that holds the lock of a data directory and has said where it listens; `None` if none runs.
#[must_use]
pub fn running(dir: &Path) -> Option<ServerFile> {
    let file = File::open(dir.join("lock")).ok()?;
    match file.try_lock() {
        // It was free: what `server.json` may say is old. Dropping the file gives the lock back.
        Ok(()) | Err(TryLockError::Error(_)) => None,
        Err(TryLockError::WouldBlock) => read(dir),
    }
}

fn read(dir: &Path) -> Option<ServerFile> {
    serde_json::from_slice(&std::fs::read(dir.join("server.json")).ok()?).ok()
}

fn make_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let lock = DataLock::take(&data).unwrap();
        let server = ServerFile {
            url: "http://127.0.0.1:1".to_owned(),
            pid: 7,
            auth: true,
        };
        lock.announce(&server).unwrap();
        assert_eq!(running(&data), Some(server));
        let error = DataLock::take(&data).unwrap_err().to_string();
        assert!(error.contains("process 7") && error.contains("http://127.0.0.1:1") && error.contains("--data-dir"));
        drop(lock);
        assert_eq!(running(&data), None);
        DataLock::take(&data).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn others_may_not_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let lock = DataLock::take(&data).unwrap();
        lock.announce(&ServerFile {
            url: String::new(),
            pid: 1,
            auth: true,
        })
        .unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join("server.json")), 0o600);
    }
}
