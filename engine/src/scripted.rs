//! A deterministic [`Engine`] for tests: it says what it was told to say, waits where it was told to wait, and fails
//! where it was told to fail. It counts a token for every four bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::Semaphore;

use crate::{
    ChatRequest, Delta, DeltaStream, Engine, EngineError, FinishReason, Health, Message, ModelInfo, RawPrompt,
    TokenCounter, TokenLogprob, TopLogprob, Usage,
};

/// The name of the model of [`Scripted::default`].
pub const MODEL: &str = "scripted";

type Answer = Arc<dyn Fn(&ChatRequest) -> String + Send + Sync>;

/// What goes wrong, in the order of a reply.
#[derive(Debug, Clone)]
pub enum Failure {
    /// `chat` itself fails.
    BeforeStream(EngineError),
    /// The stream gives so many deltas, then the error.
    AfterDeltas(usize, EngineError),
    /// The stream gives so many deltas, then nothing more, ever.
    HangsAfter(usize),
}

/// Lets a gated engine's deltas out, one for each release; [`Scripted::gated`] gives it.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// Lets out so many more deltas (the finish is one).
    pub fn release(&self, deltas: usize) {
        self.0.add_permits(deltas);
    }

    /// Lets everything out from here on.
    pub fn open(&self) {
        self.0.close();
    }
}

/// The double.
#[derive(Clone)]
pub struct Scripted {
    model: String,
    window: usize,
    answer: Answer,
    /// What comes instead of an answer's text.
    deltas: Option<Vec<Delta>>,
    gate: Option<Gate>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<ChatRequest>>,
    failures: Mutex<VecDeque<Failure>>,
    health: Mutex<Option<String>>,
    active: AtomicUsize,
}

impl Default for Scripted {
    /// Serves the model `scripted` with a window of 4096 tokens; repeats the last message, or the raw prompt.
    fn default() -> Self {
        Self {
            model: MODEL.into(),
            window: 4096,
            answer: Arc::new(last_words),
            deltas: None,
            gate: None,
            shared: Arc::default(),
        }
    }
}

impl Scripted {
    /// Serves a model of this name.
    #[must_use]
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            ..Self::default()
        }
    }

    /// Always says this.
    #[must_use]
    pub fn reply(self, text: impl Into<String>) -> Self {
        let text = text.into();
        self.answering(move |_| text.clone())
    }

    /// Says these in turn, and the last one from then on.
    #[must_use]
    pub fn replies<T: Into<String>>(self, texts: impl IntoIterator<Item = T>) -> Self {
        let texts: Vec<String> = texts.into_iter().map(Into::into).collect();
        let next = AtomicUsize::new(0);
        self.answering(move |_| {
            let turn = next.fetch_add(1, Ordering::SeqCst).min(texts.len().saturating_sub(1));
            texts.get(turn).cloned().unwrap_or_default()
        })
    }

    /// Always sends these, reasoning and tool calls for instance, and ends for this reason. Limits and stop strings are
    /// not looked at.
    #[must_use]
    pub fn sending(mut self, deltas: impl IntoIterator<Item = Delta>, reason: FinishReason) -> Self {
        let usage = Usage {
            prompt_tokens: 1,
            completion_tokens: 1,
            ..Usage::default()
        };
        let end = Delta::Finish { reason, usage };
        self.deltas = Some(deltas.into_iter().chain([end]).collect());
        self
    }

    /// Says what the function makes of the request.
    #[must_use]
    pub fn answering(mut self, answer: impl Fn(&ChatRequest) -> String + Send + Sync + 'static) -> Self {
        self.answer = Arc::new(answer);
        self
    }

    /// Serves this many tokens of prompt and reply together.
    #[must_use]
    pub fn window(mut self, tokens: usize) -> Self {
        self.window = tokens;
        self
    }

    /// Holds every delta, of all replies together, until the gate lets it out.
    #[must_use]
    pub fn gated(mut self) -> (Self, Gate) {
        let gate = Gate(Arc::new(Semaphore::new(0)));
        self.gate = Some(gate.clone());
        (self, gate)
    }

    /// The next request fails so; called twice, the one after it too.
    #[must_use]
    pub fn failing(self, failure: Failure) -> Self {
        self.fail_next(failure);
        self
    }

    /// As [`Scripted::failing`], on an engine in use.
    pub fn fail_next(&self, failure: Failure) {
        locked(&self.shared.failures).push_back(failure);
    }

    /// From here on health says so; `None` is ready again.
    pub fn set_unavailable(&self, reason: Option<&str>) {
        *locked(&self.shared.health) = reason.map(str::to_owned);
    }

    /// Every request that it got, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<ChatRequest> {
        locked(&self.shared.requests).clone()
    }

    /// Replies that have begun, have not ended and have not been dropped.
    #[must_use]
    pub fn active(&self) -> usize {
        self.shared.active.load(Ordering::SeqCst)
    }

    fn counter(&self) -> Counter {
        Counter { window: self.window }
    }

    /// The reply within its stop strings and limits.
    fn script(&self, request: &ChatRequest) -> Result<Vec<Delta>, EngineError> {
        if let Some(deltas) = &self.deltas {
            return Ok(deltas.clone());
        }
        let prompt = self.counter().count_request(request)?;
        if prompt + request.max_tokens.unwrap_or(1) > self.window {
            return Err(EngineError::ContextLengthExceeded {
                limit: self.window,
                prompt,
                asked: request.max_tokens,
            });
        }
        let mut text = (self.answer)(request);
        let mut reason = FinishReason::Stop;
        let met = request
            .stop
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| Some((text.find(stop)?, stop)))
            .min();
        if let Some((end, _)) = met {
            text.truncate(end);
        }
        let limit = request
            .max_tokens
            .unwrap_or(self.window - prompt)
            .min(self.window - prompt);
        if count(&text) > limit {
            text.truncate(text.floor_char_boundary(limit * BYTES_A_TOKEN));
            reason = FinishReason::Length;
        }
        let usage = Usage {
            prompt_tokens: prompt,
            completion_tokens: count(&text),
            ..Usage::default()
        };
        let mut deltas = Vec::new();
        for piece in text.split_inclusive(' ') {
            if request.extra.contains_key("logprobs") {
                deltas.push(Delta::Logprobs(vec![probability(piece)]));
            }
            deltas.push(Delta::Text(piece.to_owned()));
        }
        if let (Some((_, stop)), FinishReason::Stop) = (met, reason) {
            deltas.push(Delta::StopString(stop.clone()));
        }
        deltas.push(Delta::Finish { reason, usage });
        Ok(deltas)
    }
}

/// What was said last.
fn last_words(request: &ChatRequest) -> String {
    match &request.raw {
        Some(RawPrompt::Text { prompt, .. }) => prompt.clone(),
        Some(RawPrompt::Tokens(tokens)) => text_of(tokens).unwrap_or_default(),
        None => request.messages.last().map(Message::text).unwrap_or_default(),
    }
}

/// A word as if it were one token, half as likely as not; the only alternative is `no`.
fn probability(word: &str) -> TokenLogprob {
    let half = -std::f64::consts::LN_2;
    let top = |token: &str| TopLogprob {
        token: token.to_owned(),
        bytes: token.as_bytes().to_vec(),
        logprob: half,
    };
    TokenLogprob {
        token: word.to_owned(),
        bytes: word.as_bytes().to_vec(),
        logprob: half,
        top: vec![top(word), top("no")],
    }
}

/// Nothing here panics with a lock held but a test's own closure; its data is still good.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reply that runs.
struct Active(Arc<Shared>);

impl Active {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.active.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Engine for Scripted {
    async fn chat(&self, request: ChatRequest) -> Result<DeltaStream, EngineError> {
        locked(&self.shared.requests).push(request.clone());
        if request.model != self.model {
            return Err(EngineError::UnknownModel {
                model: request.model,
                available: vec![self.model.clone()],
            });
        }
        let failure = locked(&self.shared.failures).pop_front();
        if let Some(Failure::BeforeStream(error)) = failure {
            return Err(error);
        }
        let mut items: Vec<Result<Delta, EngineError>> = self.script(&request)?.into_iter().map(Ok).collect();
        let mut hangs = false;
        match failure {
            Some(Failure::AfterDeltas(deltas, error)) => {
                items.truncate(deltas);
                items.push(Err(error));
            }
            Some(Failure::HangsAfter(deltas)) => {
                items.truncate(deltas);
                hangs = true;
            }
            Some(Failure::BeforeStream(_)) | None => {}
        }
        let active = Active::new(&self.shared);
        let gate = self.gate.clone();
        let stream = async_stream::stream! {
            let active = active;
            for item in items {
                if let Some(Gate(gate)) = &gate
                    && let Ok(permit) = gate.acquire().await
                {
                    permit.forget();
                }
                yield item;
            }
            if hangs {
                futures::future::pending::<()>().await;
            }
            drop(active);
        };
        Ok(stream.boxed())
    }

    fn models(&self) -> Vec<ModelInfo> {
        let info = ModelInfo {
            id: self.model.clone(),
            context_window: Some(self.window),
            owned_by: "habit".into(),
            created: 0,
        };
        vec![info]
    }

    fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>> {
        (model == self.model).then(|| Arc::new(self.counter()) as Arc<dyn TokenCounter>)
    }

    async fn health(&self) -> Health {
        locked(&self.shared.health)
            .clone()
            .map_or(Health::Ready, Health::Unavailable)
    }
}

const BYTES_A_TOKEN: usize = 4;

/// Four tokens for what a template would put around a message.
const TOKENS_A_MESSAGE: usize = 4;

fn count(text: &str) -> usize {
    text.len().div_ceil(BYTES_A_TOKEN)
}

/// A token for every four bytes, rounded up, and four for every message.
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    window: usize,
}

impl Counter {
    /// A counter with this window.
    #[must_use]
    pub fn new(window: usize) -> Self {
        Self { window }
    }
}

impl TokenCounter for Counter {
    fn count(&self, text: &str) -> usize {
        count(text)
    }

    fn count_chat(&self, messages: &[Message]) -> Result<usize, EngineError> {
        Ok(messages
            .iter()
            .map(|message| count(&message.text()) + TOKENS_A_MESSAGE)
            .sum())
    }

    fn count_request(&self, request: &ChatRequest) -> Result<usize, EngineError> {
        match &request.raw {
            Some(RawPrompt::Text { prompt, suffix }) => {
                Ok(count(prompt) + suffix.as_deref().map(count).unwrap_or_default())
            }
            Some(RawPrompt::Tokens(tokens)) => Ok(tokens.len()),
            None => self.count_chat(&request.messages),
        }
    }

    /// The bytes of a token are its number, padded with zeros.
    fn encode(&self, text: &str) -> Option<Vec<u32>> {
        let number = |bytes: &[u8]| {
            let mut padded = [0; BYTES_A_TOKEN];
            padded[..bytes.len()].copy_from_slice(bytes);
            u32::from_le_bytes(padded)
        };
        Some(text.as_bytes().chunks(BYTES_A_TOKEN).map(number).collect())
    }

    fn decode(&self, tokens: &[u32]) -> Option<String> {
        text_of(tokens)
    }

    /// `role: text` a line.
    fn render(&self, request: &ChatRequest) -> Result<Option<String>, EngineError> {
        let line = |message: &Message| format!("{}: {}\n", message.role.as_str(), message.text());
        Ok(Some(request.messages.iter().map(line).collect()))
    }

    fn context_window(&self) -> usize {
        self.window
    }

    fn is_exact(&self) -> bool {
        true
    }
}

/// What [`Counter::encode`] made tokens of.
fn text_of(tokens: &[u32]) -> Option<String> {
    let bytes = tokens.iter().flat_map(|token| token.to_le_bytes());
    String::from_utf8(bytes.filter(|byte| *byte != 0).collect()).ok()
}
