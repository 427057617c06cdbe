//! `habit ingest`: files into memory. One that can't be read is named; the others go in.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use http::Method;
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use super::client::Connection;
use super::progress;
use crate::cli::{Common, Ingest};
use crate::wiring::Purpose;

/// Sends each file on its own, so that one does not hold up the others.
///
/// # Errors
/// If no server can be had; files that can't be read are named instead, and the exit code tells.
pub async fn run(common: &Common, flags: Ingest) -> anyhow::Result<ExitCode> {
    let connection = Connection::open(common, &flags.target, Purpose::Memory).await?;
    let bar = progress::counting("reading", flags.files.len() as u64);
    let mut failed = 0_usize;
    for file in &flags.files {
        match send(&connection, file, &flags).await {
            Ok(line) => bar.suspend(|| println!("{line}")),
            Err(error) => {
                failed += 1;
                bar.suspend(|| eprintln!("error: {}: {error:#}", file.display()));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    connection.close().await;
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let total = flags.files.len();
    eprintln!("{} of {total} files went in, {failed} did not", total - failed);
    Ok(ExitCode::FAILURE)
}

async fn send(connection: &Connection, file: &Path, flags: &Ingest) -> anyhow::Result<String> {
    let name = file
        .file_name()
        .context("is not a file")?
        .to_string_lossy()
        .into_owned();
    let bytes = tokio::fs::read(file).await?;
    let mut form = Form::new().part("file", Part::bytes(bytes).file_name(name));
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
    let later = if reply["indexed"] == Value::Bool(true) {
        ""
    } else {
        " (still being indexed)"
    };
    Ok(format!(
        "{}  {}  {} passages{later}",
        text("id"),
        text("name"),
        document["chunks"]
    ))
}
