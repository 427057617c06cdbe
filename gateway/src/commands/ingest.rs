//! `habit ingest`: files and folders into memory. One that can't be read is named; the others go in. What is there
//! already, unchanged, is left alone: so an interrupted run goes on where it ended.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use http::Method;
use reqwest::multipart::{Form, Part};

use self::known::Known;
use self::walk::Found;
use self::watch::Watch;
use super::client::Connection;
use super::{indexing, progress};
use crate::cli::{Common, Ingest};
use crate::wiring::Purpose;

mod known;
mod walk;
mod watch;

/// What became of one file.
enum Went {
    /// In, with a line to show.
    In(String),
    /// It was there already.
    Unchanged,
}

/// Sends each file on its own, so that one does not hold up the others; then, if that is wanted, goes on watching.
///
/// # Errors
/// If no server can be had, or a folder can't be read; files that can't be read are named instead, and the exit code tells.
pub async fn run(common: &Common, flags: Ingest) -> anyhow::Result<ExitCode> {
    // Before anything is read: what changes in the meantime goes in afterwards.
    let watch = flags.watch.then(|| Watch::begin(&flags.files)).transpose()?;
    let files = walk::files(&flags.files)?;
    let connection = Connection::open(common, &flags.target, Purpose::Memory).await?;
    let result = work(&connection, &files, &flags, watch).await;
    connection.close().await;
    result
}

async fn work(
    connection: &Connection,
    files: &[Found],
    flags: &Ingest,
    watch: Option<Watch>,
) -> anyhow::Result<ExitCode> {
    let mut known = Known::ask(connection, flags).await?;
    let bar = progress::counting("reading", files.len() as u64);
    let (mut failed, mut unchanged) = (0_usize, 0_usize);
    for file in files {
        match send(connection, file, flags, &mut known).await {
            Ok(Went::In(line)) => bar.suspend(|| println!("{line}")),
            Ok(Went::Unchanged) => unchanged += 1,
            Err(error) => {
                failed += 1;
                bar.suspend(|| eprintln!("error: {}: {error:#}", file.path.display()));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if watch.is_none() {
        // What went in is kept, whether or not this is waited for.
        indexing::wait(connection, "indexing").await?;
    }
    if unchanged > 0 {
        eprintln!("{unchanged} of {} files were there already", files.len());
    }
    if let Some(watch) = watch {
        watch.follow(connection, flags, &mut known).await;
        return Ok(ExitCode::SUCCESS);
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let total = files.len();
    eprintln!(
        "{} of {total} files went in, {failed} did not",
        total - failed - unchanged
    );
    Ok(ExitCode::FAILURE)
}

async fn send(connection: &Connection, file: &Found, flags: &Ingest, known: &mut Known) -> anyhow::Result<Went> {
    let bytes = read(&file.path).await?;
    let sha256 = known::sha256(&bytes);
    let name = file.name();
    if known.has(&name, &sha256) {
        return Ok(Went::Unchanged);
    }
    let mut form = Form::new().part("file", Part::bytes(bytes).file_name(file.base.clone()));
    // One file after the other goes in at the speed of the disk; they are embedded together, behind.
    form = form.text("wait", "false");
    if !file.folder.is_empty() {
        form = form.text("folder", file.folder.clone());
    }
    if let Some(conversation) = &flags.conversation {
        form = form.text("conversation", conversation.clone());
    }
    if flags.team_wide {
        form = form.text("team_wide", "true");
    }
    let reply = connection
        .json(connection.request(Method::POST, "/v1/documents").multipart(form))
        .await?;
    let document = &reply["data"][0];
    let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
    known.note(name, text("id"), sha256);
    Ok(Went::In(format!(
        "{}  {}  {} passages",
        text("id"),
        text("name"),
        document["chunks"]
    )))
}

async fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    tokio::fs::read(path).await.context("it can't be read")
}
