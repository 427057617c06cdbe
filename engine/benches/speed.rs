//! The embedded engines over one model: prefill, decode, eight at once, and the time to the first token of a chat's
//! later turns. `cargo bench --package habit-engine --package habit-gateway --bench speed -- native` (or `mistralrs`);
//! the model comes from `HABIT_TEST_MODEL`, the threads from `HABIT_BENCH_THREADS`. `peers.py` beside this file asks the
//! same of other engines. Figures of one run compare with each other only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use habit_engine::models::{DEFAULT_CHAT, Silent, Store};
use habit_engine::native::{Native, NativeOptions};
use habit_engine::{ChatRequest, Delta, Engine, Message, Role, Sampling, Usage};

/// Tokens of the prompt, template included, that prefill is measured with.
const PROMPT: usize = 460;
/// Runs of each figure; the best counts, since other work on the machine only ever adds time.
const ROUNDS: usize = 4;

#[tokio::main]
async fn main() {
    // `cargo test` builds and starts benches too, with no wish to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let wanted = |name: &str| {
        let arms: Vec<String> = std::env::args()
            .skip(1)
            .filter(|argument| !argument.starts_with('-'))
            .collect();
        arms.is_empty() || arms.iter().any(|arm| arm == name)
    };
    let spec = std::env::var("HABIT_TEST_MODEL").unwrap_or_else(|_| DEFAULT_CHAT.to_owned());
    let store = Store::open(Path::new(env!("CARGO_TARGET_TMPDIR")).join("models")).expect("a store");
    let model = store.resolve(&spec, Arc::new(Silent)).await.expect("a model");
    let threads = std::env::var("HABIT_BENCH_THREADS")
        .ok()
        .and_then(|threads| threads.parse().ok());
    if wanted("native") {
        let options = NativeOptions {
            threads,
            ..NativeOptions::default()
        };
        measure("native", Arc::new(Native::load(model.clone(), options).await.unwrap())).await;
    }
    #[cfg(feature = "embedded")]
    if wanted("mistralrs") {
        use habit_engine::embedded::{Embedded, EmbeddedOptions};
        let options = EmbeddedOptions {
            threads,
            ..EmbeddedOptions::default()
        };
        measure("mistral.rs", Arc::new(Embedded::load(model, options).await.unwrap())).await;
    }
}

async fn measure(name: &str, engine: Arc<dyn Engine>) {
    let (mut prefill, mut decode, mut eight) = (0f64, 0f64, 0f64);
    for round in 0..ROUNDS {
        let read = ask(&*engine, vec![prompt(&*engine, round)], 1).await;
        prefill = prefill.max(read.usage.prompt_tokens as f64 / read.first);
        let story = vec![Message::new(
            Role::User,
            format!("Write a long story about harbour number {round}."),
        )];
        let written = ask(&*engine, story, 128).await;
        decode = decode.max((written.usage.completion_tokens - 1) as f64 / (written.whole - written.first));
        let begun = Instant::now();
        let replies = (0..8).map(|n| {
            let text = format!("Write a long story about ship number {n} in harbour {round}.");
            ask(&*engine, vec![Message::new(Role::User, text)], 96)
        });
        let replies = futures::future::join_all(replies).await;
        let tokens: usize = replies.iter().map(|reply| reply.usage.completion_tokens).sum();
        eight = eight.max(tokens as f64 / begun.elapsed().as_secs_f64());
    }
    println!("{name}: prefill {prefill:.0} tok/s, decode {decode:.0} tok/s, eight at once {eight:.0} tok/s in all");

    let mut messages = Vec::new();
    let mut firsts = Vec::new();
    for turn in 1..=10 {
        let text = format!(
            "{} Tell me fact number {turn} about the sea.",
            "I like long walks on the beach. ".repeat(6)
        );
        messages.push(Message::new(Role::User, text));
        let reply = ask(&*engine, messages.clone(), 64).await;
        firsts.push((reply.usage.prompt_tokens, reply.usage.cached_tokens, reply.first * 1e3));
        messages.push(Message::new(Role::Assistant, reply.text));
    }
    for turn in [1, 2, 5, 10] {
        let (prompt, cached, first) = firsts[turn - 1];
        println!("{name}: turn {turn}: first token after {first:.0} ms ({prompt} prompt tokens, {cached} kept)");
    }
}

struct Reply {
    text: String,
    usage: Usage,
    /// Seconds to the first piece of text, and to the end.
    first: f64,
    whole: f64,
}

async fn ask(engine: &dyn Engine, messages: Vec<Message>, max_tokens: usize) -> Reply {
    let request = ChatRequest {
        model: engine.models()[0].id.clone(),
        messages,
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        max_tokens: Some(max_tokens),
        ..ChatRequest::default()
    };
    let begun = Instant::now();
    let mut stream = engine.chat(request).await.unwrap();
    let (mut text, mut first) = (String::new(), None);
    loop {
        match stream.next().await.expect("a finish").unwrap() {
            Delta::Finish { usage, .. } => {
                let whole = begun.elapsed().as_secs_f64();
                let first = first.unwrap_or(whole);
                return Reply {
                    text,
                    usage,
                    first,
                    whole,
                };
            }
            Delta::Text(piece) => {
                first.get_or_insert_with(|| begun.elapsed().as_secs_f64());
                text.push_str(&piece);
            }
            _ => {}
        }
    }
}

/// A message that makes a prompt of about [`PROMPT`] tokens, begun otherwise each round so that nothing of it is kept.
fn prompt(engine: &dyn Engine, round: usize) -> Message {
    let counter = engine.token_counter(&engine.models()[0].id).expect("a counter");
    let mut message = Message::new(Role::System, "");
    for words in 0.. {
        let next = Message::new(Role::System, format!("{round} {}", "the ship sails on ".repeat(words)));
        if counter.count_chat(std::slice::from_ref(&next)).expect("a count") > PROMPT {
            break;
        }
        message = next;
    }
    message
}
