//! How well a model answers examples, measured on the engine that serves or would serve it: whether the greedy reply is
//! the gold answer ([`examples()`]), how likely the gold answer is to it, and how likely general text is ([`general()`]).
//!
//! Replies are asked for as a client's would be, through chat template, quantisation and stops, and as background work:
//! whoever waits for a reply goes first. As many run at the same time as the engine takes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use habit_engine::{
    ChatRequest, Delta, Engine, EngineError, FinishReason, Message, Priority, RawPrompt, Role, Sampling, TokenCounter,
    TokenLogprob,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::examples::Example;

/// Requests at the same time, where an engine does not say how many it takes.
const PARALLEL: usize = 8;

/// Tokens that a reply may have beyond the gold answer's: it shows how a wrong one goes on, and no more.
const BEYOND: usize = 4;

/// As whom learning waits for its turn where requests wait.
const TENANT: &str = "learning";

/// How long a busy engine is left alone, and how often it is tried again: ten minutes in all.
const PATIENCE: (Duration, usize) = (Duration::from_secs(1), 600);

/// A model of an engine.
#[derive(Clone)]
pub struct Model {
    /// What answers.
    pub engine: Arc<dyn Engine>,
    /// The model's name there.
    pub name: String,
}

/// What a model made of one example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The example.
    pub id: Uuid,
    /// Its gold answer.
    pub wanted: String,
    /// The greedy reply, cut a little after the gold answer's length.
    pub reply: String,
    /// Whether the reply is the gold answer and ends there; spaces around both do not count.
    pub right: bool,
    /// The negative log-likelihood of the gold answer with its end, in nats a token; `None` where the engine gives no
    /// probabilities of prompts, or nobody asked.
    pub nll: Option<f64>,
}

/// How likely texts are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct General {
    /// Negative log-likelihood in nats a token, over all tokens of all texts but each text's first.
    pub nll: f64,
    /// These tokens.
    pub tokens: usize,
}

/// Why nothing was scored.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// Someone wanted it to stop.
    #[error("scoring was stopped")]
    Cancelled,
    /// The engine failed.
    #[error("the model could not be scored: {0}")]
    Engine(#[from] EngineError),
}

/// What is to be measured besides the replies, who hears of it, and who stops it.
pub struct Options<'a> {
    /// Also how likely the gold answers are: a second request an example.
    pub nll: bool,
    /// Called after each example or text.
    pub done: &'a (dyn Fn() + Sync),
    /// Stops it.
    pub cancel: &'a CancellationToken,
}

/// Puts the examples' prompts to the model; the results are in the examples' order. A prompt over the model's window, or
/// one that its template can't express, is answered wrong.
///
/// # Errors
/// [`ScoreError`].
pub async fn examples(model: &Model, examples: &[Example], options: &Options<'_>) -> Result<Vec<Scored>, ScoreError> {
    let mut all = Vec::with_capacity(examples.len());
    for example in examples {
        all.push(one(model, example, options).boxed());
    }
    together(model, all, options.cancel).await
}

async fn one(model: &Model, example: &Example, options: &Options<'_>) -> Result<Scored, ScoreError> {
    let (reply, ended) = answer(model, example).await?;
    let nll = if options.nll {
        likelihood(model, example).await?
    } else {
        None
    };
    (options.done)();
    Ok(Scored {
        id: example.id,
        wanted: example.answer.clone(),
        right: ended && reply.trim() == example.answer.trim(),
        reply,
        nll,
    })
}

/// How likely these texts are to the model, read as they are. `None` where the engine gives no probabilities of prompts.
///
/// # Errors
/// [`ScoreError`].
pub async fn general(model: &Model, texts: &[String], options: &Options<'_>) -> Result<Option<General>, ScoreError> {
    let mut all = Vec::with_capacity(texts.len());
    for text in texts {
        all.push(read(model, text, options).boxed());
    }
    let all: Vec<Vec<f64>> = together(model, all, options.cancel).await?;
    let tokens: usize = all.iter().map(Vec::len).sum();
    let sum: f64 = all.iter().flatten().sum();
    Ok((tokens > 0).then(|| General {
        nll: -sum / tokens as f64,
        tokens,
    }))
}

/// The logarithms of the probabilities of a text's tokens, but the first.
async fn read(model: &Model, text: &str, options: &Options<'_>) -> Result<Vec<f64>, ScoreError> {
    let prompt = RawPrompt::Text {
        prompt: text.to_owned(),
        suffix: None,
    };
    let tokens = echo(model, prompt).await?;
    (options.done)();
    let known = tokens.iter().map(|token| token.logprob);
    Ok(known.filter(|logprob| logprob.is_finite()).collect())
}

/// The mean of what is known of the gold answers' likelihoods.
#[must_use]
pub fn mean_nll(scored: &[Scored]) -> Option<f64> {
    let known: Vec<f64> = scored.iter().filter_map(|scored| scored.nll).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// The share that is right; 0 of none.
#[must_use]
pub fn share_right(scored: &[Scored]) -> f64 {
    scored.iter().filter(|scored| scored.right).count() as f64 / scored.len().max(1) as f64
}

/// Runs as many at once as suit the engine; the results are in order.
async fn together<T>(
    model: &Model,
    all: Vec<BoxFuture<'_, Result<T, ScoreError>>>,
    cancel: &CancellationToken,
) -> Result<Vec<T>, ScoreError> {
    let at_once = match model.engine.load().max_running {
        0 => PARALLEL,
        most => most,
    };
    let work = async {
        let mut results = futures::stream::iter(all).buffered(at_once);
        let mut done = Vec::new();
        while let Some(result) = results.next().await {
            done.push(result?);
        }
        Ok(done)
    };
    cancel
        .run_until_cancelled(work)
        .await
        .unwrap_or(Err(ScoreError::Cancelled))
}

fn request(model: &Model) -> ChatRequest {
    ChatRequest {
        model: model.name.clone(),
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        tenant: TENANT.to_owned(),
        priority: Priority::Background,
        ..ChatRequest::default()
    }
}

/// The greedy reply, and whether it ended by itself.
async fn answer(model: &Model, example: &Example) -> Result<(String, bool), ScoreError> {
    let counter = model.engine.token_counter(&model.name);
    let long = counter.map_or(example.answer.len(), |counter| counter.count(&example.answer));
    let request = ChatRequest {
        messages: example.messages.clone(),
        // One for the end.
        max_tokens: Some(long + 1 + BEYOND),
        ..request(model)
    };
    let mut text = String::new();
    let mut ended = false;
    let each = |delta| match delta {
        Delta::Text(piece) => text.push_str(&piece),
        Delta::Finish { reason, .. } => ended = reason == FinishReason::Stop,
        _ => {}
    };
    match ask(model, &request, each).await {
        Ok(()) => Ok((text, ended)),
        Err(EngineError::ContextLengthExceeded { .. } | EngineError::Rejected { .. }) => Ok((String::new(), false)),
        Err(error) => Err(error.into()),
    }
}

/// The gold answer's negative log-likelihood in nats a token, with the token that ends it; `None` where the engine gives no
/// probabilities of prompts, or the prompt does not fit.
///
/// # Errors
/// [`ScoreError`].
pub async fn likelihood(model: &Model, example: &Example) -> Result<Option<f64>, ScoreError> {
    let Some((prompt, answer)) = model
        .engine
        .token_counter(&model.name)
        .and_then(|counter| tokens(counter.as_ref(), example))
    else {
        return Ok(None);
    };
    let read = [prompt, answer.clone()].concat();
    let told = match echo(model, RawPrompt::Tokens(read.clone())).await {
        Ok(told) if told.len() == read.len() => told,
        // Another number of tokens is not about these.
        Ok(_) => return Ok(None),
        Err(ScoreError::Engine(EngineError::ContextLengthExceeded { .. } | EngineError::Rejected { .. })) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let told = &told[told.len() - answer.len()..];
    let sum: f64 = told.iter().map(|token| token.logprob).sum();
    Ok((!told.is_empty() && sum.is_finite()).then(|| -sum / told.len() as f64))
}

/// The tokens of an example's prompt, and those of its answer with its end, as the template writes them.
fn tokens(counter: &dyn TokenCounter, example: &Example) -> Option<(Vec<u32>, Vec<u32>)> {
    let asked = ChatRequest {
        messages: example.messages.clone(),
        ..ChatRequest::default()
    };
    let mut answered = asked.clone();
    answered
        .messages
        .push(Message::new(Role::Assistant, example.answer.trim()));
    answered.extra = object(json!({"add_generation_prompt": false}));
    let prompt = counter.render(&asked).ok()??;
    let whole = counter.render(&answered).ok()??;
    // A template that writes finished turns otherwise than turns that begin says nothing of the end.
    let answer = whole.strip_prefix(&prompt).unwrap_or(&example.answer).trim();
    Some((counter.encode(&prompt)?, counter.encode(answer)?))
}

/// The probabilities of a raw prompt's tokens; none where the engine gives none.
async fn echo(model: &Model, prompt: RawPrompt) -> Result<Vec<TokenLogprob>, ScoreError> {
    let request = ChatRequest {
        raw: Some(prompt),
        max_tokens: Some(0),
        extra: object(json!({"echo": true, "logprobs": true})),
        ..request(model)
    };
    // Those of the prompt come first, before any text.
    let (mut told, mut over) = (Vec::new(), false);
    let each = |delta| match delta {
        Delta::Logprobs(tokens) if !over => {
            told = tokens;
            over = true;
        }
        _ => over = true,
    };
    ask(model, &request, each).await?;
    Ok(told)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Asks, again and again while the engine is busy, and hands over what comes.
async fn ask(model: &Model, request: &ChatRequest, mut each: impl FnMut(Delta)) -> Result<(), EngineError> {
    let (pause, mut tries) = PATIENCE;
    let mut stream = loop {
        match model.engine.chat(request.clone()).await {
            Ok(stream) => break stream,
            Err(EngineError::Overloaded { .. }) if tries > 0 => {
                tries -= 1;
                tokio::time::sleep(pause).await;
            }
            Err(error) => return Err(error),
        }
    };
    while let Some(delta) = stream.next().await {
        each(delta?);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
