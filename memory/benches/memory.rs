//! Embedder and recording, on a real journal in a temporary directory. `make bench` runs it; the model directory comes from
//! `HABIT_TEST_EMBEDDER`. Prints a table; figures of one run compare with each other only. Recall and indexing are measured by
//! `habit bench recall`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use habit_engine::embedder::MiniLm;
use habit_engine::{Embedder, Message, Role};
use habit_memory::Scope;
use habit_memory::interaction::Interaction;
use habit_memory::journal::Journal;
use habit_memory::store::sea::SeaJournal;

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

fn turn(number: usize) -> Interaction {
    let scope = Scope::new("team", "user")
        .unwrap()
        .in_conversation(format!("c{}", number / 20));
    let asked_at = 1_700_000_000_000 + number as i64 * 60_000;
    let messages = vec![Message::new(Role::User, sentence(number, 14))];
    Interaction {
        chain: format!("{number:064x}"),
        ..Interaction::completed(&scope, asked_at, messages, sentence(number + 1, 40))
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
}
