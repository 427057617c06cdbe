//! `habit bench proxy`: the same requests to a mock upstream, directly and through gateways, in turns within each round,
//! so that what the machine does besides touches all of them alike.
//!
//! The mock and this client share one core, the gateway has another. See docs/performance.md for what to make of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;

use super::chart;
use super::client::{Connection, Shape, Target, Took};
use super::host::{Process, pin_self, resident};
use super::report::{Capacity, Latency, Memory, Report, Round, Times};
use crate::cli::BenchProxy;

/// The way without a gateway.
pub const DIRECT: &str = "direct";
/// The way through a relay that reads nothing: what any gateway on that core costs at least.
const FLOOR: &str = "bytes only";
/// Requests that each arm sends before it is measured.
const WARM_UP: usize = 50;
/// Requests of one arm before the next has its turn.
const TURN: usize = 20;
/// An arm that takes longer than this for a request sends a quarter of the requests.
const SLOW: Duration = Duration::from_millis(2);
/// How long each round of many connections is.
const CAPACITY: Duration = Duration::from_secs(3);
/// The upstream's time to its first token with many connections, in milliseconds.
const WAIT_MS: u64 = 20;
/// Milliseconds between the events of streams that are to be open at once: all are begun before the first ends.
const PACE_MS: u64 = 120;
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Until memory is looked at for the last time.
const AFTER: Duration = Duration::from_secs(2);

/// A way to the upstream.
struct Arm {
    name: String,
    target: Target,
    /// The process to watch.
    pid: Option<u32>,
    /// Whether Habit records what goes this way.
    store: bool,
}

/// Measures, prints tables, and writes files where they are asked for.
pub async fn run(flags: BenchProxy) -> anyhow::Result<()> {
    let (client_core, gateway_core) = flags.cores.pair();
    let mock = match &flags.upstream {
        Some(_) => None,
        None => Some(Process::start(client_core, &["bench", "mock"], url_of)?),
    };
    let upstream = flags
        .upstream
        .clone()
        .or_else(|| mock.as_ref().map(|mock| mock.line.clone()));
    let upstream = upstream.context("no upstream")?;
    let mut arms = vec![Arm {
        name: DIRECT.to_owned(),
        target: Target::new(&upstream, None, false)?,
        pid: None,
        store: false,
    }];
    let floor = Process::start(gateway_core, &["bench", "relay", "--upstream", &upstream], url_of)?;
    arms.push(Arm {
        name: FLOOR.to_owned(),
        target: Target::new(&floor.line, None, false)?,
        pid: None,
        store: false,
    });
    let own = match flags.no_habit {
        true => None,
        false => Some(Own::start(gateway_core, &upstream)?),
    };
    if let Some(own) = &own {
        for (name, store) in [("habit", false), ("habit, recorded", true)] {
            arms.push(Arm {
                name: name.to_owned(),
                target: Target::new(&own.process.line, Some(&own.key), true)?,
                pid: Some(own.process.id()),
                store,
            });
        }
    }
    for through in &flags.through {
        arms.push(Arm {
            name: through.name.clone(),
            target: Target::new(&through.url, flags.key.as_deref(), false)?,
            pid: through.pid,
            store: false,
        });
    }
    if let Some(core) = client_core {
        pin_self(core)?;
    }
    let mut report = Report::default();
    for &bytes in &flags.bodies {
        for stream in [false, true] {
            // Recording goes on after the reply (a commit, the indexer): apart, so that it is in nobody else's way.
            let (with, without): (Vec<&Arm>, Vec<&Arm>) = arms.iter().partition(|arm| arm.store);
            report.latency.extend(latency(&without, &flags, bytes, stream).await?);
            if !with.is_empty() {
                let arms: Vec<&Arm> = without[..1].iter().chain(&with).copied().collect();
                report
                    .latency
                    .extend(latency(&arms, &flags, bytes, stream).await?.split_off(1));
            }
            eprintln!("measured: {bytes} bytes, {}", if stream { "streamed" } else { "whole" });
        }
    }
    if flags.connections > 0 {
        report.capacity = capacity(&arms, &flags).await?;
    }
    if flags.streams > 0 {
        for arm in arms.iter().filter(|arm| !arm.store) {
            report.memory.extend(memory(arm, &flags).await?);
        }
    }
    println!("{}", report.tables());
    if let Some(path) = &flags.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &flags.svg {
        chart::draw(&report, path)?;
    }
    Ok(())
}

/// A gateway of our own, on data that is thrown away.
struct Own {
    process: Process,
    key: String,
    _data: Scratch,
}

impl Own {
    fn start(core: Option<usize>, upstream: &str) -> anyhow::Result<Self> {
        let data = Scratch(std::env::temp_dir().join(format!("habit-bench-{}", uuid::Uuid::now_v7())));
        let dir = data.0.display().to_string();
        let common = ["--data-dir", &dir];
        let word = |line: &str| {
            line.split_whitespace()
                .find(|word| word.starts_with("hb-"))
                .map(str::to_owned)
        };
        let key = Process::start(None, &[&common[..], &["keys", "create"]].concat(), word)?
            .line
            .clone();
        let serve = ["serve", "--bind", "127.0.0.1:0", "--no-memory", "--upstream", upstream];
        let process = Process::start(core, &[&common[..], &serve].concat(), url_of)?;
        Ok(Self {
            process,
            key,
            _data: data,
        })
    }
}

/// A directory that goes when the benchmark does.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The address in a line of output.
fn url_of(line: &str) -> Option<String> {
    let from = line.find("http://127.0.0.1:")?;
    let url = line[from..].split_whitespace().next()?;
    Some(url.trim_end_matches("/v1").trim_end_matches(['.', ',', '/']).to_owned())
}

/// One connection an arm, in turns.
async fn latency(arms: &[&Arm], flags: &BenchProxy, bytes: usize, stream: bool) -> anyhow::Result<Vec<Latency>> {
    let mut open = Vec::new();
    for arm in arms {
        let shape = Shape {
            bytes,
            stream,
            wait_ms: 0,
            pace_ms: 0,
            store: arm.store,
        };
        let mut connection = Connection::open(&arm.target, &flags.model, shape).await?;
        let began = Instant::now();
        for _ in 0..WARM_UP {
            connection.ask().await.with_context(|| arm.name.clone())?;
        }
        let slow = began.elapsed() / u32::try_from(WARM_UP)? > SLOW;
        open.push((
            connection,
            if slow {
                flags.requests.div_ceil(4)
            } else {
                flags.requests
            },
        ));
    }
    let mut lines: Vec<Latency> = arms
        .iter()
        .zip(&open)
        .map(|(arm, (_, requests))| Latency {
            arm: arm.name.clone(),
            bytes,
            stream,
            requests: *requests,
            rounds: Vec::new(),
        })
        .collect();
    for _ in 0..flags.rounds {
        let mut times = arms.iter().map(|_| Times::new()).collect::<anyhow::Result<Vec<_>>>()?;
        let mut sent = 0;
        while sent < flags.requests {
            for (((connection, requests), times), arm) in open.iter_mut().zip(&mut times).zip(arms) {
                for _ in sent..(sent + TURN).min(*requests) {
                    times.add(connection.ask().await.with_context(|| arm.name.clone())?);
                }
            }
            sent += TURN;
        }
        for (line, own) in lines.iter_mut().zip(&times) {
            line.rounds.push(Round::new(own, &times[0]));
        }
    }
    Ok(lines)
}

/// Many connections, each asking again and again for a while.
async fn capacity(arms: &[Arm], flags: &BenchProxy) -> anyhow::Result<Vec<Capacity>> {
    let mut best: Vec<Option<Capacity>> = arms.iter().map(|_| None).collect();
    for _ in 0..flags.rounds {
        for (arm, best) in arms.iter().zip(&mut best) {
            let shape = Shape {
                bytes: 1024,
                stream: true,
                wait_ms: WAIT_MS,
                pace_ms: 0,
                store: arm.store,
            };
            let mut asking = JoinSet::new();
            let until = Instant::now() + CAPACITY;
            for _ in 0..flags.connections {
                let mut connection = Connection::open(&arm.target, &flags.model, shape).await?;
                asking.spawn(async move {
                    let mut took: Vec<Took> = Vec::new();
                    while Instant::now() < until {
                        took.push(connection.ask().await?);
                    }
                    anyhow::Ok(took)
                });
            }
            let mut times = Times::new()?;
            let mut finished = 0_usize;
            while let Some(took) = asking.join_next().await {
                let took = took?.with_context(|| arm.name.clone())?;
                finished += took.len();
                took.into_iter().for_each(|took| times.add(took));
            }
            let per_second = finished as f64 / CAPACITY.as_secs_f64();
            if best.as_ref().is_none_or(|best| best.per_second < per_second) {
                let first = Round::new(&times, &times).first;
                let (arm, connections) = (arm.name.clone(), flags.connections);
                *best = Some(Capacity {
                    arm,
                    connections,
                    per_second,
                    first,
                });
            }
        }
        eprintln!("measured: a round of {} connections", flags.connections);
    }
    Ok(best.into_iter().flatten().collect())
}

/// Many slow streams at once; `None` where the process is not known.
async fn memory(arm: &Arm, flags: &BenchProxy) -> anyhow::Result<Option<Memory>> {
    let Some(pid) = arm.pid else { return Ok(None) };
    let at_rest = resident(pid).with_context(|| format!("{}: there is no process {pid}", arm.name))?;
    let shape = Shape {
        bytes: 1024,
        stream: true,
        wait_ms: WAIT_MS,
        pace_ms: PACE_MS,
        store: arm.store,
    };
    let mut asking = JoinSet::new();
    for _ in 0..flags.streams {
        let mut connection = Connection::open(&arm.target, &flags.model, shape)
            .await
            .context("so many connections need as many open files: raise `ulimit -n`")?;
        asking.spawn(async move { connection.ask().await });
    }
    let (mut finished, mut under_load) = (0, at_rest);
    let mut look = tokio::time::interval(LOOK);
    while !asking.is_empty() {
        tokio::select! {
            Some(done) = asking.join_next() => match done? {
                Ok(_) => finished += 1,
                Err(error) => tracing::debug!("{}: a stream failed: {error:#}", arm.name),
            },
            _ = look.tick() => under_load = under_load.max(resident(pid).unwrap_or_default()),
        }
    }
    tokio::time::sleep(AFTER).await;
    eprintln!("measured: memory of {}", arm.name);
    Ok(Some(Memory {
        arm: arm.name.clone(),
        streams: flags.streams,
        finished,
        at_rest,
        under_load,
        after: resident(pid).unwrap_or_default(),
    }))
}
