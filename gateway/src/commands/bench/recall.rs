//! `habit bench recall`: how long memory takes to look something up among many memories, by the very layer that serves,
//! on real stores in a directory of its own that is removed at the end; and how quickly what is said is indexed.
//!
//! Vectors of the filling are random directions: how near they are does not change the work of a search, and to embed so
//! many texts would take longer than all else. Questions, and what the rate of indexing is measured with, are embedded.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, stream};
use habit_engine::{ChatRequest, Message, Role};
use habit_memory::Scope;
use habit_memory::interaction::Interaction;
use habit_memory::overflow::Gone;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use uuid::Uuid;

use crate::app::{App, MemoryParts};
use crate::cli::{BenchRecall, Common};
use crate::commands::measuring::{Place, percentiles};
use crate::commands::progress::{self, Bars};
use crate::lifecycle::Lifecycle;
use crate::turn::overflow::Overflow;
use crate::turn::{MemoryMode, Reply, Trace, Turn, TurnError, context};
use crate::wiring::{self, Purpose};

mod filler;

use filler::{Random, SAID, entry, plain, sentence, turn};

/// Turns that are written together while memory is filled.
const BATCH: usize = 2_000;

/// Turns of a conversation.
const TALK: usize = 20;

/// Questions before the first that is measured.
const WARM_UP: usize = 10;

/// How often the indexer is asked how far it is.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long the index may take to be held in memory, and the indexer to come to an end.
const PATIENCE: Duration = Duration::from_mins(5);

/// Runs it.
///
/// # Errors
/// With what to do about it: the disk, the embedder.
pub async fn run(common: &Common, flags: BenchRecall) -> anyhow::Result<()> {
    let place = Place::new("bench")?;
    let mut config = common.load(Vec::new())?;
    config.data.models = Some(config.models_dir()?);
    config.data.dir = Some(place.path().to_owned());
    let lifecycle = Lifecycle::new(Duration::ZERO);
    let app = wiring::build(config, Purpose::Memory, lifecycle.clone(), Arc::new(Bars::default())).await?;
    let measured = measure(&app, &flags).await;
    lifecycle.shut_down(std::future::ready(())).await;
    if let Some(memory) = &app.memory {
        memory.journal.close().await;
    }
    let report = measured?;
    print!("{report}");
    if let Some(out) = flags.json {
        write(&out, &report)?;
    }
    Ok(())
}

fn write(out: &PathBuf, report: &Report) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&report.json())?;
    std::fs::write(out, text).with_context(|| format!("{} can't be written", out.display()))
}

async fn measure(app: &App, flags: &BenchRecall) -> anyhow::Result<Report> {
    let memory = app.memory.as_ref().context("memory is not part of this process")?;
    let mut report = Report {
        memories: flags.memories,
        ..Report::default()
    };
    report.indexed = flags.index;
    report.indexing = index(memory, flags.index).await?;
    report.filling = fill(memory, flags.memories).await?;
    let asker = Asker::new(app, memory)?;
    let began = Instant::now();
    asker.ask(0).await?;
    report.first = began.elapsed();
    tokio::time::timeout(PATIENCE, memory.index.hold()).await??;
    report.held = began.elapsed();
    for number in 0..WARM_UP {
        asker.ask(number).await?;
    }
    let bar = progress::counting("asking", flags.questions as u64);
    for number in 0..flags.questions {
        report.asked.push(asker.ask(WARM_UP + number).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(report)
}

/// Asks memory as a turn does, by the turn's own layer.
struct Asker {
    layer: context::ContextLayer,
    memory: MemoryParts,
    scope: Scope,
}

/// How one question fared.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    whole: Duration,
    /// The embedder alone, for the same question.
    embedding: Duration,
    /// The sources, of which the slowest counts. They wait for the embedder when words are looked up.
    sources: Duration,
    words_alone: bool,
    found: usize,
}

impl Asker {
    fn new(app: &App, memory: &MemoryParts) -> anyhow::Result<Self> {
        Ok(Self {
            layer: context::layer(wiring::context_parts(&app.config, memory, Arc::new(|_| true))),
            memory: memory.clone(),
            scope: owner()?.in_conversation("now"),
        })
    }

    async fn ask(&self, number: usize) -> anyhow::Result<Asked> {
        // Questions about different things, in the words of the memories.
        let text = format!("What did I say about {}?", sentence(number * 7 + 3, 4));
        let began = Instant::now();
        self.memory.embedder.embed(vec![text.clone()]).await?;
        let embedding = began.elapsed();
        let began = Instant::now();
        let inner = service_fn(|turn: Turn| async move {
            let trace = Trace {
                injected: turn.passages,
                ..Trace::default()
            };
            let deltas = stream::empty().boxed();
            Ok::<_, TurnError>(Reply { deltas, trace })
        });
        let Reply { trace, .. } = self.layer.layer(inner).oneshot(self.turn(&text)).await?;
        let slowest = trace.sources.iter().map(|source| source.took_ms).fold(0.0, f64::max);
        Ok(Asked {
            whole: began.elapsed(),
            embedding,
            sources: Duration::from_secs_f64(slowest / 1e3),
            words_alone: trace.words_alone.is_some(),
            found: trace.injected.len(),
        })
    }

    fn turn(&self, text: &str) -> Turn {
        Turn {
            id: Uuid::now_v7(),
            scope: self.scope.clone(),
            request: ChatRequest {
                messages: vec![Message::new(Role::User, text)],
                ..ChatRequest::default()
            },
            memory: MemoryMode::Read,
            store: false,
            overflow: Overflow::Configured,
            asked_at: 1_800_000_000_000,
            arrived: Instant::now(),
            gone: Gone::default(),
            sources: Vec::new(),
            passages: Vec::new(),
            meter: None,
        }
    }
}

fn owner() -> anyhow::Result<Scope> {
    Ok(Scope::new("team", "user")?)
}

/// Turns of plain English, recorded at once, until all are embedded and indexed; how long that took.
async fn index(memory: &MemoryParts, turns: usize) -> anyhow::Result<Duration> {
    let bar = progress::counting("recording, embedding and indexing", turns as u64);
    let began = Instant::now();
    let writes = (0..turns).map(|number| {
        let scope = Scope::new("team", "other").map(|scope| scope.in_conversation("theirs"));
        let memory = memory.clone();
        async move {
            let mut turn = turn(&scope?, number);
            turn.prompt = plain(number, SAID);
            anyhow::Ok(memory.journal.record(turn).await?)
        }
    });
    futures::future::try_join_all(writes).await?;
    memory.indexer.wake();
    while !memory.indexer.caught_up(LOOK_AGAIN).await {
        bar.set_position((turns as u64).saturating_sub(memory.indexer.lag()));
        anyhow::ensure!(began.elapsed() < PATIENCE, "the indexer does not come to an end");
    }
    bar.finish_and_clear();
    Ok(began.elapsed())
}

/// Writes turns and their entries; how long that took.
async fn fill(memory: &MemoryParts, size: usize) -> anyhow::Result<Duration> {
    let scope = owner()?;
    let bar = progress::counting("filling memory", size as u64);
    let began = Instant::now();
    let mut random = Random(7);
    for start in (0..size).step_by(BATCH) {
        let turns = start..size.min(start + BATCH);
        let turns: Vec<Interaction> = turns
            .map(|number| turn(&scope.in_conversation(format!("c{}", number / TALK)), number))
            .collect();
        let ids: Vec<Uuid> = turns.iter().map(|turn| turn.id).collect();
        let entries = turns
            .iter()
            .map(|turn| entry(turn, random.direction(memory.embedder.dimensions())));
        memory.index.upsert(entries.collect()).await?;
        let writes = turns.into_iter().map(|turn| memory.journal.record(turn));
        futures::future::try_join_all(writes).await?;
        memory.journal.mark_indexed(&ids).await?;
        bar.inc(ids.len() as u64);
    }
    bar.finish_and_clear();
    memory.index.optimize().await?;
    Ok(began.elapsed())
}

/// What was measured.
#[derive(Default)]
struct Report {
    memories: usize,
    indexed: usize,
    indexing: Duration,
    filling: Duration,
    first: Duration,
    held: Duration,
    asked: Vec<Asked>,
}

impl Report {
    fn latencies(&self) -> [(&'static str, [f64; 3]); 3] {
        let of = |time: fn(&Asked) -> Duration| percentiles(self.asked.iter().map(time).collect());
        [
            ("memory, embedding included", of(|asked| asked.whole)),
            ("the embedder alone", of(|asked| asked.embedding)),
            ("the slowest source, with its wait for that", of(|asked| asked.sources)),
        ]
    }

    fn words_alone(&self) -> usize {
        self.asked.iter().filter(|asked| asked.words_alone).count()
    }

    fn rate(&self) -> f64 {
        self.indexed as f64 / self.indexing.as_secs_f64().max(1e-9)
    }

    fn json(&self) -> Value {
        let times = self
            .latencies()
            .map(|(name, [p50, p95, p99])| json!({"what": name, "p50": p50, "p95": p95, "p99": p99}));
        json!({
            "memories": self.memories,
            "questions": self.asked.len(),
            "words_alone": self.words_alone(),
            "found": self.asked.iter().filter(|asked| asked.found > 0).count(),
            "milliseconds": times,
            "first_ms": self.first.as_secs_f64() * 1e3,
            "held_s": self.held.as_secs_f64(),
            "indexed_per_s": self.rate(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} memories of one user, written in {:.0} s; the first question took {:.1} ms, all were held in memory after {:.1} s",
            self.memories,
            self.filling.as_secs_f64(),
            self.first.as_secs_f64() * 1e3,
            self.held.as_secs_f64(),
        )?;
        writeln!(f, "{:44}       p50       p95       p99", "latency, in milliseconds")?;
        for (what, [p50, p95, p99]) in self.latencies() {
            writeln!(f, "{what:44} {p50:9.2} {p95:9.2} {p99:9.2}")?;
        }
        writeln!(
            f,
            "of {} questions, {} were answered by words alone because the embedder was late; {} were given something",
            self.asked.len(),
            self.words_alone(),
            self.asked.iter().filter(|asked| asked.found > 0).count(),
        )?;
        writeln!(
            f,
            "{} turns of {SAID} words recorded, embedded and indexed: {:.0} turns/s",
            self.indexed,
            self.rate()
        )
    }
}
