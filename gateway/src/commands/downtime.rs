//! `habit downtime`: the work for which nobody waits, shown, run and taken back.

use std::time::Duration;

use anyhow::Context;
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::Connection;
use super::progress;
use crate::cli::{Common, Downtime};
use crate::wiring::Purpose;

/// How often the server is asked how far it is.
const POLL: Duration = Duration::from_millis(300);

/// Does one of them.
///
/// # Errors
/// With what to do about it.
pub async fn run(common: &Common, what: Downtime) -> anyhow::Result<()> {
    let connection = Connection::open(common, what.target(), Purpose::Memory).await?;
    let result = act(&connection, &what).await;
    connection.close().await;
    result
}

async fn act(connection: &Connection, what: &Downtime) -> anyhow::Result<()> {
    match what {
        Downtime::Status { .. } => status(&get(connection, "/v1/downtime").await?),
        Downtime::Run {
            routine, only, no_wait, ..
        } => {
            let body = json!({"routine": routine, "user": only});
            let request = connection.request(Method::POST, "/v1/downtime/run").json(&body);
            let asked = connection.json(request).await?;
            if list(&asked).is_empty() {
                eprintln!("there is nobody to do it for yet");
            }
            for run in list(&asked) {
                if *no_wait {
                    line(run);
                } else {
                    line(&followed(connection, run).await?);
                }
            }
        }
        Downtime::History { limit, .. } => {
            let runs = get(connection, &format!("/v1/downtime/runs?limit={limit}")).await?;
            if list(&runs).is_empty() {
                eprintln!("nothing was done yet; `habit downtime run` does it now");
            }
            list(&runs).iter().for_each(line);
        }
        Downtime::Show { run, .. } => {
            let run = get(connection, &one(run, "")?).await?;
            print!("{}", text(&run, "report"));
        }
        Downtime::Cancel { run, .. } => line(&post(connection, &one(run, "/cancel")?).await?),
        Downtime::Resume { run, .. } => {
            let resumed = post(connection, &one(run, "/resume")?).await?;
            line(&followed(connection, &resumed).await?);
        }
        Downtime::Undo { run, .. } => {
            let undoing = post(connection, &one(run, "/undo")?).await?;
            line(&followed(connection, &undoing).await?);
        }
    }
    Ok(())
}

/// The path of a run; an id has nothing in it that would make another path.
fn one(run: &str, act: &str) -> anyhow::Result<String> {
    let id = Uuid::parse_str(run.trim())
        .with_context(|| format!("`{run}` is no run's id; `habit downtime history` shows them"))?;
    Ok(format!("/v1/downtime/runs/{id}{act}"))
}

async fn get(connection: &Connection, path: &str) -> anyhow::Result<Value> {
    connection.json(connection.request(Method::GET, path)).await
}

async fn post(connection: &Connection, path: &str) -> anyhow::Result<Value> {
    connection.json(connection.request(Method::POST, path)).await
}

/// Waits until a run does not go on by itself, and shows how far it is. Stopping this command stops nothing.
async fn followed(connection: &Connection, run: &Value) -> anyhow::Result<Value> {
    let path = one(text(run, "id"), "")?;
    let bar = progress::counting(text(run, "routine"), 0);
    loop {
        let now = get(connection, &path).await?;
        bar.set_length(now["total"].as_u64().unwrap_or_default());
        bar.set_position(now["done"].as_u64().unwrap_or_default());
        if !matches!(text(&now, "status"), "waiting" | "running" | "undoing") {
            bar.finish_and_clear();
            return Ok(now);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn status(status: &Value) {
    if status["on"] == false {
        println!("begins only by `habit downtime run`: downtime.on is off");
    }
    match &status["current"] {
        Value::Null => println!("nothing is being done"),
        run => {
            let waits = if status["yields"] == true {
                " (waits for requests)"
            } else {
                ""
            };
            println!("being done{waits}:");
            line(run);
        }
    }
    let waiting = status["waiting"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !waiting.is_empty() {
        println!("to be done:");
        waiting.iter().for_each(line);
    }
    println!("routines:");
    for routine in status["routines"].as_array().into_iter().flatten() {
        println!("  {:<12} {}", text(routine, "name"), text(routine, "about"));
    }
}

fn line(run: &Value) {
    let whom = match (run["team"].as_str(), run["user"].as_str()) {
        (Some(team), Some(user)) => format!("{team}/{user}"),
        (Some(team), None) => team.to_owned(),
        _ => "everyone".to_owned(),
    };
    let counts: Vec<String> = run["counts"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(what, times)| format!("{times} {what}"))
        .collect();
    println!(
        "{}  {:<11}  {:<9}  {whom:<20}  {}/{}  {}",
        text(run, "id"),
        text(run, "routine"),
        text(run, "status"),
        run["done"],
        run["total"],
        counts.join(", ")
    );
}

fn list(reply: &Value) -> &[Value] {
    reply["data"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
