//! `habit eval`: how well earlier turns are found again (`recall`), whether that helps ([`helps`]), and whether Habit learns
//! from use ([`learning`]). For the first, the conversations of a file are recorded, indexed and asked
//! about by the same journal, index and source that serve, in a data directory of its own that is removed at the end. What
//! is printed is in [`report`].

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use habit_engine::{Message, Role};
use habit_memory::Scope;
use habit_memory::context::{ContextSource, Options, Recalled, Request};
use habit_memory::eval::dataset::{self, Said, Sample};
use habit_memory::eval::{DEPTH, Outcome};
use habit_memory::interaction::Interaction;
use habit_memory::overflow::Gone;
use uuid::Uuid;

use super::measuring::Place;
use super::progress::{self, Bars};
use crate::app::{App, MemoryParts};
use crate::cli::{Common, Eval};
use crate::lifecycle::Lifecycle;
use crate::wiring::{self, Purpose};

mod facts;
mod helps;
pub mod learning;
mod reader;
mod report;

use report::{Asked, Report};

/// How often the indexer is asked how far it is.
const POLL: Duration = Duration::from_millis(100);

/// Searches before the first that is measured: the first one reads files and fills memory.
const WARM_UP: usize = 5;

/// Runs it.
///
/// # Errors
/// With what to do about it: the file, the disk, the models.
pub async fn run(common: &Common, what: Eval) -> anyhow::Result<()> {
    match what {
        Eval::Recall { file, ablate, json } => {
            let text = std::fs::read_to_string(&file).with_context(|| format!("{} can't be read", file.display()))?;
            let samples = dataset::read(&text).map_err(|why| anyhow::anyhow!("{}: {why}", file.display()))?;
            let measured = with_app(common, Purpose::Memory, async |app| {
                let memory = app.memory.as_ref().context("memory is not part of this process")?;
                measure(memory, &samples, ablate).await
            });
            let report = measured.await?;
            print!("{report}");
            write(json.as_deref(), &report.json())
        }
        Eval::Helps { facts, json } => {
            let report = with_app(common, Purpose::Gateway, async |app| helps::measure(app, facts).await).await?;
            print!("{report}");
            write(json.as_deref(), &report.json())
        }
        Eval::Learning(wanted) => {
            // Before a model is loaded: a wrong name should be told at once.
            let data = learning::Prepared::of(&wanted)?;
            let report = with_app(common, Purpose::Gateway, async |app| data.measure(app).await).await?;
            print!("{report}");
            write(wanted.json.as_deref(), &report.json()?)
        }
    }
}

/// Runs this over an application with a data directory of its own, which is removed at the end.
async fn with_app<T>(
    common: &Common,
    purpose: Purpose,
    measure: impl AsyncFnOnce(&App) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let place = Place::new("eval")?;
    let mut config = common.load(Vec::new())?;
    config.data.models = Some(config.models_dir()?);
    config.data.dir = Some(place.path().to_owned());
    let lifecycle = Lifecycle::new(Duration::ZERO);
    let app = wiring::build(config, purpose, lifecycle.clone(), Arc::new(Bars::default())).await?;
    let measured = measure(&app).await;
    lifecycle.shut_down(std::future::ready(())).await;
    if let Some(memory) = &app.memory {
        memory.journal.close().await;
    }
    measured
}

fn write(out: Option<&Path>, figures: &serde_json::Value) -> anyhow::Result<()> {
    let Some(out) = out else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures)?;
    std::fs::write(out, text).with_context(|| format!("{} can't be written", out.display()))
}

async fn measure(memory: &MemoryParts, samples: &[Sample], ablate: bool) -> anyhow::Result<Report> {
    let began = Instant::now();
    let mut ids = HashMap::new();
    for (number, sample) in samples.iter().enumerate() {
        record(memory, number, sample, &mut ids).await?;
    }
    index(memory, ids.len() as u64).await?;
    let mut report = Report::of(samples, began.elapsed());
    let mut questions = embed(memory, samples).await?;
    let options = Options::default();
    warm_up(memory, &options, samples, &questions).await?;
    let bar = progress::counting("asking", questions.len() as u64);
    for question in &mut questions {
        ask(memory, &options, &ids, samples, question).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    report.asked.clone_from(&questions);
    report.foreign = foreign(memory, &options, samples, &questions).await?;
    for (name, options) in arms(ablate) {
        let bar = progress::counting(&format!("asking: {name}"), questions.len() as u64);
        let mut asked = questions.clone();
        for question in &mut asked {
            search(memory, &options, &ids, samples, question).await?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        report.arms.push((name, asked));
    }
    Ok(report)
}

/// Other settings to compare with.
fn arms(ablate: bool) -> Vec<(String, Options)> {
    let without_floor = Options {
        floor: habit_memory::rank::Floor::NONE,
        ..Options::default()
    };
    let mut arms = vec![("no floor".to_owned(), without_floor)];
    if !ablate {
        return arms;
    }
    let mut weights = Options::default().turns;
    let names = weights.named().map(|(name, _)| name);
    for (place, name) in names.into_iter().enumerate() {
        let mut options = Options::default();
        *options.turns.named()[place].1 = 0.0;
        arms.push((format!("without {name}"), options));
    }
    for name in ["words", "meaning"] {
        let mut options = Options::default();
        for (other, weight) in options.turns.named() {
            if other != name {
                *weight = 0.0;
            }
        }
        arms.push((format!("{name} alone"), options));
    }
    arms
}

/// The user as whom a conversation is remembered: nothing is shared between conversations.
fn scope(number: usize) -> anyhow::Result<Scope> {
    Ok(Scope::new("eval", format!("conversation-{}", number + 1))?)
}

async fn record(
    memory: &MemoryParts,
    number: usize,
    sample: &Sample,
    ids: &mut HashMap<Uuid, (usize, String)>,
) -> anyhow::Result<()> {
    let scope = scope(number)?;
    for (session, said) in sample.sessions.iter().enumerate() {
        let scope = scope.in_conversation(format!("session-{}", session + 1));
        let turns = said.iter().map(|said| turn(&scope, said));
        let turns: Vec<Interaction> = turns.collect();
        ids.extend(
            turns
                .iter()
                .zip(said)
                .map(|(turn, said)| (turn.id, (number, said.id.clone()))),
        );
        let writes = turns.into_iter().map(|turn| memory.journal.record(turn));
        futures::future::try_join_all(writes).await?;
    }
    Ok(())
}

/// A turn as a client sends it that names who speaks.
fn turn(scope: &Scope, said: &Said) -> Interaction {
    let mut message = Message::new(Role::User, said.text.clone());
    message.name.clone_from(&said.speaker);
    Interaction::completed(scope, said.at, vec![message], "")
}

async fn index(memory: &MemoryParts, turns: u64) -> anyhow::Result<()> {
    memory.indexer.wake();
    let bar = progress::counting("embedding and indexing", turns);
    loop {
        let left = memory.journal.totals().await?.pending;
        bar.set_position(turns.saturating_sub(left));
        if left == 0 {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    bar.finish_and_clear();
    // And what is learnt of them in the background.
    memory.index.hold().await?;
    Ok(())
}

/// The questions with their vectors, each made alone, as in a turn, and timed.
async fn embed(memory: &MemoryParts, samples: &[Sample]) -> anyhow::Result<Vec<Asked>> {
    let all = samples.iter().enumerate();
    let all: Vec<_> = all
        .flat_map(|(number, sample)| sample.questions.iter().map(move |question| (number, question)))
        .collect();
    let bar = progress::counting("embedding questions", all.len() as u64);
    let mut asked = Vec::new();
    for (sample, question) in all {
        let began = Instant::now();
        let vector = memory.asking.embed(vec![question.text.clone()]).await?.pop();
        asked.push(Asked {
            sample,
            text: question.text.clone(),
            category: question.category,
            evidence: question.evidence.clone(),
            vector: vector.into(),
            embedding: began.elapsed(),
            ..Asked::default()
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(asked)
}

async fn warm_up(memory: &MemoryParts, options: &Options, samples: &[Sample], asked: &[Asked]) -> anyhow::Result<()> {
    for number in 0..samples.len() {
        for question in asked.iter().filter(|asked| asked.sample == number).take(WARM_UP) {
            found(memory, options, samples, question, number).await?;
        }
    }
    Ok(())
}

/// Asks as a turn does, and takes the time.
async fn ask(
    memory: &MemoryParts,
    options: &Options,
    ids: &HashMap<Uuid, (usize, String)>,
    samples: &[Sample],
    question: &mut Asked,
) -> anyhow::Result<()> {
    let began = Instant::now();
    search(memory, options, ids, samples, question).await?;
    question.search = began.elapsed();
    Ok(())
}

async fn search(
    memory: &MemoryParts,
    options: &Options,
    ids: &HashMap<Uuid, (usize, String)>,
    samples: &[Sample],
    question: &mut Asked,
) -> anyhow::Result<()> {
    let turns = found(memory, options, samples, question, question.sample).await?;
    anyhow::ensure!(
        turns.iter().collect::<HashSet<_>>().len() == turns.len(),
        "a turn was found twice for `{}`",
        question.text
    );
    let turns: Vec<String> = turns
        .iter()
        .filter_map(|id| ids.get(id))
        .filter(|(sample, _)| *sample == question.sample)
        .map(|(_, turn)| turn.clone())
        .collect();
    question.found = turns.len();
    question.outcome = Outcome::of(&turns, &question.evidence);
    Ok(())
}

/// The turns that are recalled for a question in the memory of a sample, best first.
async fn found(
    memory: &MemoryParts,
    options: &Options,
    samples: &[Sample],
    question: &Asked,
    number: usize,
) -> anyhow::Result<Vec<Uuid>> {
    let source = Recalled::new(
        Arc::clone(&memory.journal),
        Arc::clone(&memory.index),
        Some(memory.indexer.clone()),
        options.clone(),
    );
    let request = Request {
        scope: scope(number)?.in_conversation("the question"),
        messages: Arc::new(vec![Message::new(Role::User, question.text.clone())]),
        query: question.text.clone(),
        asked_at: samples[number].ended_at(),
        vector: question.vector.clone(),
        limit: DEPTH,
        gone: Gone::default(),
    };
    let passages = source.passages(&request).await?;
    let ids = passages
        .iter()
        .map(|passage| Ok(Uuid::parse_str(&passage.citation.id)?));
    ids.collect()
}

/// Each sample's questions, put to the memory of the next one: how many are given something, of how many.
async fn foreign(
    memory: &MemoryParts,
    options: &Options,
    samples: &[Sample],
    asked: &[Asked],
) -> anyhow::Result<(usize, usize)> {
    if samples.len() < 2 {
        return Ok((0, 0));
    }
    let bar = progress::counting("asking strangers", asked.len() as u64);
    let mut answered = 0;
    for question in asked {
        let stranger = (question.sample + 1) % samples.len();
        let found = found(memory, options, samples, question, stranger).await?;
        answered += usize::from(!found.is_empty());
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((answered, asked.len()))
}
