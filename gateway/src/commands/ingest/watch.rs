//! `habit ingest --watch`: files that change go in again, files that are deleted are forgotten, until Ctrl-C.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use http::Method;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::known::Known;
use super::walk::{self, Found};
use super::{Went, send};
use crate::cli::Ingest;
use crate::commands::client::Connection;

/// Programs write a file in several steps: it is read once nothing happened for so long.
const CALM: Duration = Duration::from_millis(500);

/// What happens below the paths of the command line, noted from its beginning on.
pub struct Watch {
    /// Absolute, as all paths are told.
    roots: Vec<PathBuf>,
    told: mpsc::UnboundedReceiver<Vec<PathBuf>>,
    /// Ends when it is dropped.
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// If a path can't be watched.
    pub fn begin(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let (tell, told) = mpsc::unbounded_channel();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is no change of it.
            if let Ok(event) = event
                && !event.kind.is_access()
            {
                tell.send(event.paths).ok();
            }
        })?;
        let mut roots = Vec::new();
        for path in paths {
            let unwatched = || format!("{} can't be watched", path.display());
            let root = std::path::absolute(walk::whole(path)).with_context(unwatched)?;
            watcher.watch(&root, RecursiveMode::Recursive).with_context(unwatched)?;
            roots.push(root);
        }
        Ok(Self {
            roots,
            told,
            _watcher: watcher,
        })
    }

    /// Brings memory up to what happened since the beginning, and to what happens, until Ctrl-C.
    pub async fn follow(mut self, connection: &Connection, flags: &Ingest, known: &mut Known) {
        eprintln!("watching; Ctrl-C ends it");
        let mut touched = BTreeSet::new();
        loop {
            tokio::select! {
                paths = self.told.recv() => match paths {
                    Some(paths) => touched.extend(paths),
                    None => return,
                },
                () = tokio::time::sleep(CALM), if !touched.is_empty() => {
                    for path in std::mem::take(&mut touched) {
                        update(connection, flags, known, &self.roots, &path).await;
                    }
                }
                _ = tokio::signal::ctrl_c() => return,
            }
        }
    }
}

/// Brings memory up to one path: a file, a folder that was moved in, or something that is gone.
async fn update(connection: &Connection, flags: &Ingest, known: &mut Known, roots: &[PathBuf], path: &Path) {
    let Some(root) = roots.iter().find(|root| path.starts_with(root)) else {
        return;
    };
    let hidden = |part: &Path| walk::is_hidden(part);
    let below = path.strip_prefix(root).unwrap_or(path);
    if below.ancestors().any(hidden) {
        return;
    }
    if path.is_dir() {
        let moved_in = walk::files(&[path.to_owned()]).unwrap_or_default();
        for file in moved_in.iter().filter_map(|file| Found::below(root, &file.path)) {
            say(&file, send(connection, &file, flags, known).await);
        }
        return;
    }
    let Some(file) = Found::below(root, path) else { return };
    if path.exists() {
        say(&file, send(connection, &file, flags, known).await);
    } else if let Some(id) = known.take(&file.name()) {
        let query: Vec<_> = flags.conversation.iter().map(|id| ("conversation", id)).collect();
        let request = connection.request(Method::DELETE, &format!("/v1/documents/{id}"));
        match connection.json(request.query(&query)).await {
            Ok(_) => println!("{id}  {}  deleted", file.name()),
            Err(error) => eprintln!("error: {}: {error:#}", path.display()),
        }
    }
}

fn say(file: &Found, went: anyhow::Result<Went>) {
    match went {
        Ok(Went::In(line)) => println!("{line}"),
        Ok(Went::Unchanged) => {}
        Err(error) => eprintln!("error: {}: {error:#}", file.path.display()),
    }
}
