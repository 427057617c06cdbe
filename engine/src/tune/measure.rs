//! What an engine gives: the time to the first token of a long prompt, and tokens a second, alone and together.

use std::time::Instant;

use futures::StreamExt;
use serde_json::json;

use super::{Measured, PROMPT};
use crate::{ChatRequest, Delta, Engine, EngineError, Message, Role, Sampling};

/// Runs of each figure; the best counts, since other work on the machine only ever adds time.
const ROUNDS: usize = 2;

/// A run that takes longer is not repeated, in seconds: chance is a small part of it.
const LONG: f64 = 8.0;

/// Tokens of the prompt by which it is guessed how long a whole one takes.
const PILOT: usize = 96;

/// Tokens written alone, and by each of several.
const WRITTEN: usize = 64;

/// Runs the engine with so many replies at the same time. Nothing else should run on the machine.
///
/// # Errors
/// What the engine says when it fails.
pub async fn measure(engine: &dyn Engine, running: usize) -> Result<Measured, EngineError> {
    let bench = Bench::new(engine)?;
    // The first request warms caches; the second tells how long a long prompt may be.
    bench.run("Hello.", 4).await?;
    let pilot = bench.run(&bench.prompt(0, PILOT), 1).await?;
    let rate = pilot.prompt as f64 / pilot.first_s;
    let most = (bench.window / 2).min(PROMPT);
    let prompt = ((rate * LONG * 4.0) as usize).clamp(PILOT.min(most), most);

    let (mut first_token_s, mut prompt_tokens) = (f64::INFINITY, 1);
    for round in 1..=ROUNDS {
        let read = bench.run(&bench.prompt(round, prompt), 1).await?;
        if read.first_s < first_token_s {
            (first_token_s, prompt_tokens) = (read.first_s, read.prompt);
        }
        if read.first_s > LONG {
            break;
        }
    }
    let written = WRITTEN.min(bench.window / 4);
    let (mut decode, mut together) = (0f64, 0f64);
    for round in 0..ROUNDS {
        let one = bench
            .run(&format!("Write a long story about harbour {round}."), written)
            .await?;
        decode = decode.max(one.decode());
        let begun = Instant::now();
        if running > 1 {
            let texts: Vec<String> = (0..running)
                .map(|n| format!("Write a story about ship {n} in {round}."))
                .collect();
            let replies = texts.iter().map(|text| bench.run(text, written));
            let replies = futures::future::try_join_all(replies).await?;
            let tokens: usize = replies.iter().map(|reply| reply.written).sum();
            together = together.max(tokens as f64 / begun.elapsed().as_secs_f64());
        } else {
            together = together.max(one.written as f64 / one.whole_s);
        }
        if one.whole_s > LONG {
            break;
        }
    }
    Ok(Measured {
        prompt_tokens,
        first_token_s,
        decode,
        together,
    })
}

struct Bench<'a> {
    engine: &'a dyn Engine,
    model: String,
    window: usize,
}

/// One reply.
struct Run {
    prompt: usize,
    written: usize,
    /// Seconds to the first piece of it, and to its end.
    first_s: f64,
    whole_s: f64,
}

impl Run {
    /// Tokens a second, after the first.
    fn decode(&self) -> f64 {
        self.written.saturating_sub(1).max(1) as f64 / (self.whole_s - self.first_s).max(1e-6)
    }
}

impl<'a> Bench<'a> {
    fn new(engine: &'a dyn Engine) -> Result<Self, EngineError> {
        let gone = || EngineError::Unavailable("the engine serves no model".to_owned());
        let model = engine.models().into_iter().next().ok_or_else(gone)?.id;
        let window = engine.token_counter(&model).ok_or_else(gone)?.context_window();
        Ok(Self { engine, model, window })
    }

    /// A text of about so many tokens, begun otherwise each time, so that nothing of it is known.
    fn prompt(&self, round: usize, tokens: usize) -> String {
        let begin = format!("Round {round}: ");
        let Some(counter) = self.engine.token_counter(&self.model) else {
            return begin;
        };
        let sentence = format!("the ship number {round} sails on and on ");
        let each = counter.count(&sentence).max(1);
        begin + &sentence.repeat(tokens.saturating_sub(40).div_ceil(each).max(1))
    }

    async fn run(&self, text: &str, max_tokens: usize) -> Result<Run, EngineError> {
        let request = ChatRequest {
            model: self.model.clone(),
            messages: vec![Message::new(Role::User, text)],
            sampling: Sampling {
                temperature: Some(0.0),
                ..Sampling::default()
            },
            max_tokens: Some(max_tokens),
            extra: [("ignore_eos".to_owned(), json!(true))].into_iter().collect(),
            ..ChatRequest::default()
        };
        let begun = Instant::now();
        let mut stream = self.engine.chat(request).await?;
        let mut first = None;
        while let Some(delta) = stream.next().await {
            let now = begun.elapsed().as_secs_f64();
            first = first.or(Some(now));
            if let Delta::Finish { usage, .. } = delta? {
                return Ok(Run {
                    prompt: usage.prompt_tokens,
                    written: usage.completion_tokens,
                    first_s: first.unwrap_or(now),
                    whole_s: now,
                });
            }
        }
        Err(EngineError::Interrupted("its reply had no end".to_owned()))
    }
}
