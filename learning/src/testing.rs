//! Doubles for tests of what learns: a model that answers by the example with the most words in common, a trainer that
//! writes down its examples, and what loads one from the other. What they learn is a plain file, so that a test can see
//! and break it.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use habit_engine::scripted::Counter;
use habit_engine::{
    ChatRequest, Delta, DeltaStream, Engine, EngineError, FinishReason, Health, Message, ModelInfo, RawPrompt, Role,
    TokenCounter, TokenLogprob, Usage,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::examples::Example;
use crate::random::Random;
use crate::run::{Loader, Trainer};
use crate::score::Model;
use crate::trainer::{Job, Step, TrainError, Trained};

/// The name of a [`Pupil`]'s model.
pub const PUPIL: &str = "pupil";

/// Questions about things, each with the name of what it is about as its answer. No two are nearly the same.
#[must_use]
pub fn things(count: usize) -> Vec<Example> {
    let names = ["lamp", "river", "violin", "bread", "glacier", "ladder"];
    (0..count)
        .map(|number| {
            let name = names[number % names.len()];
            let mut random = Random::new(number as u64);
            let other: String = (0..16).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
            Example {
                id: Uuid::from_u128(number as u128 + 1),
                messages: vec![Message::new(Role::User, format!("the {name} {other}"))],
                answer: format!("about {name}"),
                at: number as i64 * 60_000,
                weight: 1.0,
                from: Vec::new(),
                user: "ann".to_owned(),
            }
        })
        .collect()
}

/// A model that knows questions with answers: it says the answer of the one with the most words in common.
#[derive(Debug, Clone, Default)]
pub struct Pupil {
    known: Vec<(HashSet<String>, String)>,
    /// Nats a token of any raw text; not a number gives no probabilities.
    surprise: f64,
}

impl Pupil {
    /// One that knows nothing, and says so.
    #[must_use]
    pub fn new(surprise: f64) -> Self {
        Self {
            known: Vec::new(),
            surprise,
        }
    }

    /// One that knows these questions and answers.
    #[must_use]
    pub fn knowing(self, known: &[(String, String)]) -> Self {
        let known = known.iter().map(|(question, answer)| (words(question), answer.clone()));
        Self {
            known: known.collect(),
            ..self
        }
    }

    /// As the model of an engine.
    #[must_use]
    pub fn model(self) -> Model {
        Model {
            engine: Arc::new(self),
            name: PUPIL.to_owned(),
        }
    }

    fn answer(&self, question: &str) -> String {
        let asked = words(question);
        let best = self
            .known
            .iter()
            .max_by_key(|(known, _)| known.intersection(&asked).count());
        best.map_or_else(|| "i do not know".to_owned(), |(_, answer)| answer.clone())
    }

    fn told(&self, tokens: usize) -> Vec<Delta> {
        let token = |place: usize| TokenLogprob {
            token: String::new(),
            bytes: Vec::new(),
            logprob: if place == 0 { f64::NAN } else { -self.surprise },
            top: Vec::new(),
        };
        if self.surprise.is_nan() {
            return Vec::new();
        }
        vec![Delta::Logprobs((0..tokens).map(token).collect())]
    }
}

fn words(text: &str) -> HashSet<String> {
    text.split_whitespace().map(str::to_lowercase).collect()
}

#[async_trait]
impl Engine for Pupil {
    async fn chat(&self, request: ChatRequest) -> Result<DeltaStream, EngineError> {
        let counter = Counter::new(4096);
        let mut deltas = match &request.raw {
            Some(RawPrompt::Tokens(tokens)) => self.told(tokens.len()),
            Some(RawPrompt::Text { prompt, .. }) => self.told(counter.count(prompt)),
            None => {
                let question = request.messages.last().map(Message::text).unwrap_or_default();
                vec![Delta::Text(self.answer(&question))]
            }
        };
        deltas.push(Delta::Finish {
            reason: FinishReason::Stop,
            usage: Usage::default(),
        });
        Ok(futures::stream::iter(deltas.into_iter().map(Ok)).boxed())
    }

    fn models(&self) -> Vec<ModelInfo> {
        vec![ModelInfo {
            id: PUPIL.to_owned(),
            context_window: Some(4096),
            owned_by: "habit".to_owned(),
            created: 0,
        }]
    }

    fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>> {
        (model == PUPIL).then(|| Arc::new(Counter::new(4096)) as Arc<dyn TokenCounter>)
    }

    async fn health(&self) -> Health {
        Health::Ready
    }
}

/// A trainer that writes questions and answers to a file, and a loader that makes a [`Pupil`] of it.
#[derive(Debug, Default)]
pub struct School {
    /// How much more surprising general text is to what was trained, in nats a token.
    pub forgets: f64,
    /// Fails or stops at this place, once.
    pub breaks: Mutex<Option<Break>>,
    /// Trainings that began.
    pub lessons: AtomicUsize,
}

/// Where a [`School`] breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The training is stopped before its end.
    Training,
    /// The merged file is written in part.
    Merging,
    /// The merged file can't be loaded.
    Loading,
}

impl School {
    /// From here on it breaks off there, once.
    pub fn break_at(&self, place: Break) {
        *self.breaks.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }

    fn breaks_at(&self, place: Break) -> bool {
        let mut breaks = self.breaks.lock().unwrap_or_else(PoisonError::into_inner);
        let now = *breaks == Some(place);
        if now {
            *breaks = None;
        }
        now
    }
}

#[async_trait]
impl Trainer for School {
    async fn train(
        &self,
        job: &Job,
        progress: &mut (dyn FnMut(Step) + Send),
        cancel: &CancellationToken,
    ) -> Result<Trained, TrainError> {
        self.lessons.fetch_add(1, Ordering::SeqCst);
        if cancel.is_cancelled() || self.breaks_at(Break::Training) {
            return Err(TrainError::Stopped { step: 1, steps: 2 });
        }
        let known: Vec<(String, &str)> = job.examples.iter().map(|e| (e.question(), e.answer.as_str())).collect();
        let adapter = job.out.join("adapter");
        let text = serde_json::to_string(&known).map_err(|error| TrainError::Failed(error.to_string()))?;
        std::fs::create_dir_all(&adapter)
            .and_then(|()| std::fs::write(adapter.join("known.json"), text))
            .map_err(TrainError::io("writing", &adapter))?;
        progress(Step {
            step: 2,
            steps: 2,
            loss: 0.1,
            distance: 0.0,
            seconds_left: 0.0,
        });
        Ok(Trained {
            adapter,
            steps: 2,
            loss: 0.1,
            distance: 0.0,
            examples: known.len(),
            skipped: 0,
            seconds: 0.0,
            peak_bytes: 0,
            variables: 1,
        })
    }

    fn merge(&self, _weights: &Path, adapter: &Path, target: &Path) -> Result<(), String> {
        if self.breaks_at(Break::Merging) {
            std::fs::write(target, "[[").map_err(|error| error.to_string())?;
            return Err("the disk is full".to_owned());
        }
        std::fs::copy(adapter.join("known.json"), target).map_err(|error| error.to_string())?;
        Ok(())
    }
}

#[async_trait]
impl Loader for School {
    async fn load(&self, weights: &Path) -> Result<Model, String> {
        if self.breaks_at(Break::Loading) {
            return Err("there is no memory left".to_owned());
        }
        let text = std::fs::read_to_string(weights).map_err(|error| error.to_string())?;
        let known: Vec<(String, String)> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        Ok(Pupil::new(1.0 + self.forgets).knowing(&known).model())
    }
}
