//! Embedder, recall and recording, on real stores in a temporary directory. `make bench` runs it; the model directory
//! comes from `HABIT_TEST_EMBEDDER`. Prints a table; figures of one run compare with each other only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use habit_engine::embedder::MiniLm;
use habit_engine::{Embedder, Message, Role, Usage};
use habit_memory::Scope;
use habit_memory::context::{ContextSource, Options, Recalled, Request};
use habit_memory::index::{Entry, Index, Owner};
use habit_memory::indexer::Indexer;
use habit_memory::interaction::{Interaction, Lookup, Outcome, Timing};
use habit_memory::journal::Journal;
use habit_memory::overflow::Gone;
use habit_memory::passage::SourceKind;
use habit_memory::store::lance::LanceIndex;
use habit_memory::store::sea::SeaJournal;
use habit_memory::store::shelves::{Lexicon, Shelves};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Sizes of the memory that recall is measured at; `HABIT_BENCH_SIZES=1000` runs fewer.
const SIZES: [usize; 2] = [1_000, 100_000];
/// Questions a size.
const QUESTIONS: usize = 200;
/// Memory for the index: enough for the largest size.
const MEMORY: usize = 2 << 30;
/// Vectors of one write to the index while it is filled.
const BATCH: usize = 5_000;

#[tokio::main]
async fn main() {
    // `cargo test` builds and starts benches too, with no wish to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let dir = PathBuf::from(std::env::var_os("HABIT_TEST_EMBEDDER").expect("HABIT_TEST_EMBEDDER: run `make bench`"));
    let embedder: Arc<dyn Embedder> = Arc::new(MiniLm::load(&dir, 0).unwrap());
    embedding(&*embedder).await;
    recording().await;
    indexing(&embedder).await;
    let sizes = std::env::var("HABIT_BENCH_SIZES").ok();
    let sizes = sizes.map_or_else(
        || SIZES.to_vec(),
        |text| text.split(',').map(|size| size.parse().unwrap()).collect(),
    );
    for size in sizes {
        recall(&embedder, size).await;
    }
}

/// Milliseconds at the 50th, 95th and 99th percentile.
fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    format!(
        "p50 {:8.2} ms   p95 {:8.2} ms   p99 {:8.2} ms",
        at(0.5),
        at(0.95),
        at(0.99)
    )
}

async fn embedding(embedder: &dyn Embedder) {
    let question = || vec!["What did I say about the crane in the north harbour?".to_owned()];
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        embedder.embed(question()).await.unwrap();
        times.push(began.elapsed());
    }
    println!("embed one question (13 tokens)        {}", percentiles(times));
    for batch in [16, 64] {
        let texts: Vec<String> = (0..batch).map(|number| sentence(number, 30)).collect();
        let began = Instant::now();
        for _ in 0..8 {
            embedder.embed(texts.clone()).await.unwrap();
        }
        let rate = f64::from(8 * u32::try_from(batch).unwrap()) / began.elapsed().as_secs_f64();
        println!("embed batches of {batch:3} (30 words each)   {rate:8.0} texts/s");
    }
}

async fn recording() {
    for writers in [1, 16, 128] {
        let dir = tempfile::tempdir().unwrap();
        let journal = Arc::new(SeaJournal::open(&dir.path().join("habit.db")).await.unwrap());
        let each = 2_000 / writers;
        let began = Instant::now();
        let tasks: Vec<_> = (0..writers)
            .map(|writer| {
                let journal = Arc::clone(&journal);
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    for number in 0..each {
                        let began = Instant::now();
                        journal.record(turn(writer * each + number)).await.unwrap();
                        times.push(began.elapsed());
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.unwrap());
        }
        let rate = times.len() as f64 / began.elapsed().as_secs_f64();
        println!(
            "record, {writers:3} writers   {rate:8.0} turns/s   each {}",
            percentiles(times)
        );
    }
}

async fn recall(embedder: &Arc<dyn Embedder>, size: usize) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(SeaJournal::open(&dir.path().join("habit.db")).await.unwrap());
    let index = index(&dir, embedder).await;
    let began = Instant::now();
    fill(&journal, &*index, embedder.dimensions(), size).await;
    index.optimize().await.unwrap();
    println!("filled with {size} memories in {:.0} s", began.elapsed().as_secs_f64());

    let source = Recalled::new(journal.clone(), index.clone(), None, Options::default());
    let (mut whole, mut without_embedding) = (Vec::new(), Vec::new());
    let began = Instant::now();
    first_search(&source, embedder).await;
    println!(
        "the first search, by the disk          {:8.2} ms",
        began.elapsed().as_secs_f64() * 1e3
    );
    in_memory(&source, embedder).await;
    println!(
        "held in memory after                   {:8.2} s",
        began.elapsed().as_secs_f64()
    );
    for number in 0..QUESTIONS {
        // Questions about different things, in the words of the memories.
        let query = format!("What did I say about {}?", sentence(number * 7 + 3, 4));
        let began = Instant::now();
        let request = request(embedder, query).await;
        let vector_ready = began.elapsed();
        source.passages(&request).await.unwrap();
        whole.push(began.elapsed());
        without_embedding.push(began.elapsed().saturating_sub(vector_ready));
    }
    println!("recall at {size:7}, embedding included  {}", percentiles(whole));
    println!(
        "recall at {size:7}, without embedding   {}",
        percentiles(without_embedding)
    );
}

/// The index as it serves: LanceDB with what is asked for held in memory.
async fn index(dir: &tempfile::TempDir, embedder: &Arc<dyn Embedder>) -> Arc<dyn Index> {
    let disk = LanceIndex::open(dir.path().join("index"), embedder.dimensions(), embedder.id())
        .await
        .unwrap();
    let lexicon = Lexicon::new(Arc::clone(embedder));
    Arc::new(Shelves::new(Arc::new(disk), embedder.dimensions(), MEMORY).with_lexicon(lexicon))
}

async fn request(embedder: &Arc<dyn Embedder>, query: String) -> Request {
    let vector = embedder.embed(vec![query.clone()]).await.unwrap().pop().unwrap();
    Request {
        scope: scope(),
        messages: Arc::new(vec![Message::new(Role::User, query.clone())]),
        query,
        asked_at: 1_800_000_000_000,
        vector: Some(Arc::new(vector)),
        limit: 5,
        gone: Gone::default(),
    }
}

async fn first_search(source: &Recalled, embedder: &Arc<dyn Embedder>) {
    let request = request(embedder, format!("What did I say about {}?", sentence(1, 4))).await;
    source.passages(&request).await.unwrap();
}

/// Until three searches in a row are quick: then they are answered from memory.
async fn in_memory(source: &Recalled, embedder: &Arc<dyn Embedder>) {
    let (mut quick, deadline) = (0, Instant::now() + Duration::from_mins(2));
    while quick < 3 && Instant::now() < deadline {
        let began = Instant::now();
        first_search(source, embedder).await;
        quick = if began.elapsed() < Duration::from_millis(30) {
            quick + 1
        } else {
            0
        };
    }
}

/// Turns of plain English, recorded at once, until all are embedded and indexed.
async fn indexing(embedder: &Arc<dyn Embedder>) {
    const TURNS: usize = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(SeaJournal::open(&dir.path().join("habit.db")).await.unwrap());
    let index = index(&dir, embedder).await;
    let stop = CancellationToken::new();
    let (indexer, task) = Indexer::spawn(journal.clone(), index, Arc::clone(embedder), stop.clone());
    let began = Instant::now();
    let turns = (0..TURNS).map(|number| {
        let mut turn = turn(number);
        turn.prompt = plain(number, 14);
        turn
    });
    for written in futures::future::join_all(turns.map(|turn| journal.record(turn))).await {
        written.unwrap();
    }
    assert!(indexer.caught_up(Duration::from_mins(5)).await);
    let rate = TURNS as f64 / began.elapsed().as_secs_f64();
    println!("recorded, embedded and indexed         {rate:8.0} turns/s (14 words each)");
    stop.cancel();
    task.await.unwrap();
}

/// A sentence of common words.
fn plain(seed: usize, words: usize) -> String {
    const WORDS: &str = "the a my our your we they she he it is was will can go went see saw buy bought make made home work \
        garden sister brother friend dog cat car train city river summer winter morning evening dinner bread coffee music \
        piano movie book paint walk run swim travel plan meeting project deadline doctor school house kitchen window red \
        green old new happy tired early late because with for from about under after before next last week month year";
    let all: Vec<&str> = WORDS.split_whitespace().collect();
    let mut random = Random(seed as u64 + 99);
    let word = |share: f64| all[(share * all.len() as f64) as usize];
    (0..words).map(|_| word(random.share())).collect::<Vec<_>>().join(" ")
}

/// Writes turns and their entries. Vectors are random directions: how near they are does not change the work of a
/// search, and embedding 100,000 texts would take longer than all else.
async fn fill(journal: &Arc<SeaJournal>, index: &dyn Index, dimensions: usize, size: usize) {
    let mut random = Random(7);
    for start in (0..size).step_by(BATCH) {
        let turns: Vec<Interaction> = (start..size.min(start + BATCH)).map(turn).collect();
        let entries: Vec<Entry> = turns
            .iter()
            .map(|turn| entry(turn, random.direction(dimensions)))
            .collect();
        index.upsert(entries).await.unwrap();
        let writes = turns.into_iter().map(|turn| journal.record(turn));
        futures::future::join_all(writes)
            .await
            .into_iter()
            .for_each(|written| written.unwrap());
    }
}

fn scope() -> Scope {
    Scope::new("team", "user").unwrap().in_conversation("now")
}

fn turn(number: usize) -> Interaction {
    let prompt = sentence(number, 14);
    let reply = sentence(number + 1, 40);
    Interaction {
        id: Uuid::now_v7(),
        scope: Scope::new("team", "user")
            .unwrap()
            .in_conversation(format!("c{}", number / 20)),
        parent: None,
        asked_at: 1_700_000_000_000 + number as i64 * 60_000,
        model: "bench".to_owned(),
        messages: vec![Message::new(Role::User, prompt.clone())],
        prompt,
        reply,
        outcome: Outcome::Completed,
        finish_reason: None,
        usage: Usage::default(),
        injected: Vec::new(),
        lookup: Lookup::default(),
        chain: format!("{number:064x}"),
        timing: Timing::default(),
        error: None,
        remember: true,
    }
}

fn entry(turn: &Interaction, vector: Vec<f32>) -> Entry {
    Entry {
        id: turn.id,
        parent: turn.id,
        source: SourceKind::Recalled,
        owner: Owner {
            team: "team".to_owned(),
            user: Some("user".to_owned()),
            conversation: None,
        },
        session: turn.scope.conversation().unwrap_or_default().to_owned(),
        speaker: None,
        text: format!("{}\n{}", turn.prompt, turn.reply),
        words: 14,
        states: true,
        vector,
        at: turn.asked_at,
    }
}

/// Words of a made-up vocabulary of 20,000, common ones more often (Zipf), as in natural text.
fn sentence(seed: usize, words: usize) -> String {
    let mut random = Random(seed as u64 + 1);
    let word = |share: f64| format!("w{}", (20_000_f64.powf(share) - 1.0) as usize);
    (0..words).map(|_| word(random.share())).collect::<Vec<_>>().join(" ")
}

/// SplitMix64: repeatable, and good enough for filler.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn direction(&mut self, dimensions: usize) -> Vec<f32> {
        let mut vector: Vec<f32> = (0..dimensions).map(|_| self.share() as f32 - 0.5).collect();
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        for value in &mut vector {
            *value /= length;
        }
        vector
    }
}
