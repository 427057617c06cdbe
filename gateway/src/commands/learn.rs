//! `habit learn`: runs, reports and exports, by the HTTP API.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use http::Method;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::client::Connection;
use super::progress;
use crate::cli::{Common, Learn};
use crate::wiring::Purpose;

const RUNS: &str = "/v1/learning/runs";

/// How often a run is asked how far it is.
const LOOK: Duration = Duration::from_millis(500);

/// Does one of them.
///
/// # Errors
/// With what to do about it.
pub async fn run(common: &Common, what: Learn) -> anyhow::Result<()> {
    let purpose = match what {
        Learn::Run { .. } => Purpose::Gateway,
        _ => Purpose::Memory,
    };
    let connection = Connection::open(common, what.target(), purpose).await?;
    let result = act(&connection, &what).await;
    connection.close().await;
    result
}

async fn act(connection: &Connection, what: &Learn) -> anyhow::Result<()> {
    match what {
        Learn::Run { no_wait, .. } => {
            let run = post(connection, RUNS, &json!({})).await?;
            let id = text(&run, "id").to_owned();
            if *no_wait {
                println!("{id} has begun; `habit learn status` tells how far it is");
                return Ok(());
            }
            watch(connection, &id).await
        }
        Learn::Status { .. } => {
            status(&get(connection, "/v1/learning/status").await?);
            Ok(())
        }
        Learn::History { .. } => {
            let runs = get(connection, RUNS).await?;
            let status = get(connection, "/v1/learning/status").await?;
            history(&runs, &status);
            Ok(())
        }
        Learn::Show { run, output, .. } => show(connection, &one(run)?, output.as_deref()).await,
        Learn::Cancel { run, .. } => {
            post(connection, &format!("{}/cancel", one(run)?), &json!({})).await?;
            println!("{run} is cancelled; nothing that is served has changed");
            Ok(())
        }
        Learn::Promote { run, .. } => {
            let body = run.as_ref().map_or_else(|| json!({}), |run| json!({"run": run.trim()}));
            change(&post(connection, "/v1/learning/promote", &body).await?);
            Ok(())
        }
        Learn::Rollback { why, .. } => {
            let body = why.as_ref().map_or_else(|| json!({}), |why| json!({"why": why}));
            change(&post(connection, "/v1/learning/rollback", &body).await?);
            Ok(())
        }
        Learn::Export { format, output, .. } => {
            let request = connection.request(Method::GET, "/v1/learning/export");
            let lines = connection.response(request.query(&[("format", format)])).await?;
            let lines = lines.text().await?;
            match output {
                Some(file) => {
                    std::fs::write(file, &lines).with_context(|| format!("{} can't be written", file.display()))?;
                    eprintln!("{} lines in {}", lines.lines().count(), file.display());
                }
                None => print!("{lines}"),
            }
            Ok(())
        }
        Learn::Lineage { feedback, .. } => {
            let id = uuid::Uuid::parse_str(feedback.trim())
                .with_context(|| format!("`{feedback}` is no feedback's id; GET /v1/feedback lists them"))?;
            let lineage = get(connection, &format!("/v1/learning/lineage/{id}")).await?;
            println!("{}", text(&lineage, "summary"));
            Ok(())
        }
    }
}

/// The path of one run; an id has nothing in it that would make another path.
fn one(id: &str) -> anyhow::Result<String> {
    let id = uuid::Uuid::parse_str(id.trim())
        .with_context(|| format!("`{id}` is no run's id; `habit learn history` shows them"))?;
    Ok(format!("{RUNS}/{id}"))
}

async fn get(connection: &Connection, path: &str) -> anyhow::Result<Value> {
    connection.json(connection.request(Method::GET, path)).await
}

async fn post(connection: &Connection, path: &str, body: &Value) -> anyhow::Result<Value> {
    connection.json(connection.request(Method::POST, path).json(body)).await
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Shows how far a run is, until it has ended; then its report.
async fn watch(connection: &Connection, id: &str) -> anyhow::Result<()> {
    let mut shown: Option<(String, ProgressBar)> = None;
    loop {
        let run = get(connection, &one(id)?).await?;
        if text(&run, "status") != "running" {
            if let Some((_, bar)) = shown {
                bar.finish_and_clear();
            }
            if let Some(problem) = run["problem"].as_str() {
                anyhow::bail!("the run {id} failed: {problem}");
            }
            return show(connection, &one(id)?, None).await;
        }
        let now = &run["progress"];
        let label = text(now, "label").to_owned();
        let steps = now["steps"].as_u64().unwrap_or_default();
        if shown.as_ref().is_none_or(|(known, _)| *known != label) {
            if let Some((_, bar)) = shown.take() {
                bar.finish_and_clear();
            }
            shown = Some((label.clone(), progress::counting(&label, steps)));
        }
        if let Some((_, bar)) = &shown {
            bar.set_length(steps);
            bar.set_position(now["done"].as_u64().unwrap_or_default());
            bar.set_message(format!("{label} {}", text(now, "note")));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => {
                eprintln!("not waiting any more; `habit learn status` tells how far it is, `habit learn cancel {id}` ends it");
                return Ok(());
            }
        }
    }
}

async fn show(connection: &Connection, run: &str, output: Option<&Path>) -> anyhow::Result<()> {
    let whole = get(connection, run).await?;
    if whole["report"].is_null() {
        println!(
            "{}  {}  {}",
            text(&whole, "id"),
            text(&whole, "status"),
            text(&whole, "problem")
        );
        return Ok(());
    }
    let form = async |format: &str| {
        let request = connection.request(Method::GET, run).query(&[("format", format)]);
        anyhow::Ok(connection.response(request).await?.bytes().await?)
    };
    let report = form("markdown").await?;
    let Some(folder) = output else {
        println!("{}", String::from_utf8_lossy(&report));
        return Ok(());
    };
    let cannot = || format!("{} can't be written", folder.display());
    std::fs::create_dir_all(folder).with_context(cannot)?;
    std::fs::write(folder.join("report.md"), &report).with_context(cannot)?;
    for plot in ["right.svg", "likelihood.svg"] {
        std::fs::write(folder.join(plot), form(plot).await?).with_context(cannot)?;
    }
    println!("{}", folder.join("report.md").display());
    Ok(())
}

fn status(status: &Value) {
    let nearest = &status["nearest_label"];
    println!(
        "to learn from: {} examples of yours, {} for the team's model ({} users must agree), {} came to nothing",
        status["own_examples"], status["team_examples"], status["users_needed"], status["left_out"]
    );
    println!(
        "without a model, the nearest earlier example's answer is right for {} of {}",
        nearest["right"], nearest["items"]
    );
    for (name, what) in [("serving", "serves"), ("canary", "is on trial")] {
        let model = &status[name];
        if !model.is_null() {
            println!("the model {} {what}: {}", text(model, "id"), text(model, "summary"));
        }
    }
    if status["serving"].is_null() {
        println!("the base model serves");
    }
    let running = &status["running"];
    if !running.is_null() {
        let now = &running["progress"];
        println!(
            "{} runs: {}, {} of {} {}",
            text(running, "id"),
            text(now, "label"),
            now["done"],
            now["steps"],
            text(now, "note")
        );
    }
    for run in status["to_be_made_anew"].as_array().into_iter().flatten() {
        let run = run.as_str().unwrap_or_default();
        println!("{run} was made with what was forgotten since; the next run is made from base without it");
    }
}

fn history(runs: &Value, status: &Value) {
    let runs = runs["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if runs.is_empty() {
        eprintln!("there were no runs yet; `habit learn run` makes one");
    }
    for run in runs {
        let model = run["model"].as_str().unwrap_or("-");
        let reason = run["reasons"][0]
            .as_str()
            .or(run["problem"].as_str())
            .unwrap_or_default();
        println!(
            "{}  {:<10}  {model:<11}  {reason}",
            text(run, "id"),
            text(run, "status")
        );
    }
    for entry in status["history"].as_array().into_iter().flatten() {
        change(entry);
    }
}

fn change(entry: &Value) {
    let at = entry["at"]
        .as_i64()
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    let day = at
        .map(|at| at.strftime("%Y-%m-%d %H:%M").to_string())
        .unwrap_or_default();
    println!("{day}  {}", text(entry, "what"));
    for why in entry["why"].as_array().into_iter().flatten() {
        println!("    because {}", why.as_str().unwrap_or_default());
    }
    if !text(entry, "undo").is_empty() {
        println!("    to undo it: {}", text(entry, "undo"));
    }
}
