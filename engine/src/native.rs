//! A model in this process, computed by Habit's own code: for processors, where it is several times as fast as
//! mistral.rs and runs several replies together. It reads GGUF files of llama's and Qwen's dense layouts; what it can't
//! run, [`Native::load`] refuses, and [`crate::embedded`] is for.
//!
//! - [`block`], [`matrix`], [`kernels`]: packed weights and the arithmetic, whose results never depend on what else is
//!   computed beside them;
//! - [`shape`], [`weights`], [`load`]: from files to memory;
//! - [`kv`], [`cache`], [`forward`]: the transformer, keys and values, and what is kept of finished conversations;
//! - [`scheduler`]: the thread on which all replies advance together.
//!
//! Its reading of files is also what a trainer starts from ([`Weights`], [`Lessons`]).
//!
//! What is made of logits is in [`crate::generate`], the same for both engines. See decision 11.

mod block;
mod cache;
mod forward;
mod kernels;
mod kv;
mod lesson;
mod load;
mod matrix;
mod scheduler;
mod shape;
mod weights;

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::oneshot;

pub use self::kv::Layout;
pub use self::lesson::{Lesson, Lessons};
use self::load::{Loaded, load};
pub use self::matrix::Matrix;
use self::scheduler::{Bounds, Job, Scheduler, Work};
pub use self::shape::{Rope, Shape};
pub use self::weights::{Layer, Weights};
use crate::generate::language::{Language, Pieces};
use crate::models::LocalModel;
use crate::{ChatRequest, Delta, DeltaStream, Engine, EngineError, Health, ModelInfo, TokenCounter};

/// How a model is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeOptions {
    /// Threads for the arithmetic; `None` takes every processor.
    pub threads: Option<usize>,
    /// A smaller window than the model's own, in tokens.
    pub context_window: Option<usize>,
    /// Replies that advance together; more wait in order.
    pub parallel: usize,
    /// Memory for the keys and values of replies in the making, in bytes: a reply that might need more than is left
    /// waits. One always runs.
    pub running_bytes: u64,
    /// Memory for those of finished conversations, in bytes: a next turn reads only what is new. 0 is off; the text
    /// of a reply never depends on it.
    pub prefix_cache_bytes: u64,
}

impl Default for NativeOptions {
    fn default() -> Self {
        Self {
            threads: None,
            context_window: None,
            parallel: Native::PARALLEL,
            running_bytes: 4 << 30,
            prefix_cache_bytes: 1 << 30,
        }
    }
}

/// An [`Engine`] over one model that is computed here. Dropping it frees the model when the last reply has ended.
pub struct Native {
    model: LocalModel,
    language: Arc<Language>,
    vocabulary: usize,
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

impl Native {
    /// Replies that advance together unless it is said otherwise: eight at once give several times the tokens of one,
    /// and beyond that each only gets slower.
    pub const PARALLEL: usize = 8;

    /// Loads a model.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] when the model can't be loaded or is not of a kind that is run here, with the reason.
    pub async fn load(model: LocalModel, options: NativeOptions) -> Result<Self, EngineError> {
        let id = model.id.clone();
        let failed =
            |reason: String| EngineError::Unavailable(format!("the model `{id}` can't be run natively: {reason}"));
        let (files, window) = (model.clone(), options.context_window);
        let Loaded { weights, language } = tokio::task::spawn_blocking(move || load(&files, window))
            .await
            .map_err(|error| failed(format!("the loader broke off: {error}")))?
            .map_err(failed)?;
        let threads = options
            .threads
            .or_else(|| std::thread::available_parallelism().ok().map(usize::from));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or(1))
            .thread_name(|index| format!("habit-math-{index}"))
            .build()
            .map_err(|error| failed(format!("its threads can't be started: {error}")))?;
        let bounds = Bounds {
            sequences: options.parallel.max(1),
            running_bytes: options.running_bytes,
            cache_bytes: options.prefix_cache_bytes,
        };
        let vocabulary = weights.vocabulary();
        let scheduler = Scheduler::new(Arc::new(weights), pool, bounds);
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("habit-native".to_owned())
            .spawn(move || scheduler.run(&queue))
            .map_err(|error| failed(format!("no thread could be started: {error}")))?;
        Ok(Self {
            model,
            language: Arc::new(language),
            vocabulary,
            jobs,
            thread,
        })
    }

    /// The logits after each of the tokens, one row of the vocabulary's length a token.
    ///
    /// # Errors
    /// [`EngineError::ContextLengthExceeded`] for more tokens than the window, [`EngineError::Rejected`] for a token that
    /// is not the model's, [`EngineError::Unavailable`] if the engine is gone.
    pub async fn prompt_logits(&self, tokens: Vec<u32>) -> Result<Vec<Vec<f32>>, EngineError> {
        let (limit, prompt) = (self.language.tokens.context_window(), tokens.len());
        if prompt > limit {
            return Err(EngineError::ContextLengthExceeded {
                limit,
                prompt,
                asked: None,
            });
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= self.vocabulary) {
            return Err(EngineError::Rejected {
                message: format!("{token} is not one of the model's {} tokens", self.vocabulary),
                param: None,
            });
        }
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, logits) = oneshot::channel();
        self.send(Job {
            tokens,
            limit: 0,
            owner: String::new(),
            work: Work::Logits(Vec::new(), answer),
        })?;
        let logits = logits.await.map_err(|_| broken())?;
        Ok(logits.chunks_exact(self.vocabulary).map(<[f32]>::to_vec).collect())
    }

    /// Makes the engine's thread panic, as a bug in it would.
    #[cfg(feature = "testing")]
    pub fn crash_for_test(&self) {
        let job = Job {
            tokens: Vec::new(),
            limit: 0,
            owner: String::new(),
            work: Work::Crash,
        };
        self.send(job).ok();
    }

    fn send(&self, job: Job) -> Result<(), EngineError> {
        self.jobs.send(job).map_err(|_| gone())
    }
}

fn gone() -> EngineError {
    EngineError::Unavailable("the engine's thread has ended; restart Habit".to_owned())
}

fn broken() -> EngineError {
    EngineError::Interrupted("the engine failed in a step; try again".to_owned())
}

/// The reply's stream. Dropping it ends the work at the next step.
fn stream(mut pieces: Pieces) -> DeltaStream {
    Box::pin(async_stream::stream! {
        loop {
            let piece = pieces.recv().await.unwrap_or_else(|| Err(broken()));
            let last = matches!(piece, Err(_) | Ok(Delta::Finish { .. }));
            yield piece;
            if last {
                return;
            }
        }
    })
}

#[async_trait]
impl Engine for Native {
    async fn chat(&self, request: ChatRequest) -> Result<DeltaStream, EngineError> {
        if request.model != self.model.id {
            return Err(EngineError::UnknownModel {
                model: request.model,
                available: vec![self.model.id.clone()],
            });
        }
        let (language, owner) = (Arc::clone(&self.language), request.tenant.clone());
        let prepared = tokio::task::spawn_blocking(move || language.prepare(request)).await;
        let ask =
            prepared.map_err(|error| EngineError::Unavailable(format!("the prompt was not prepared: {error}")))??;
        let limit = ask.steps();
        let (tokens, reply, pieces) = self.language.begin(ask);
        self.send(Job {
            tokens,
            limit,
            owner,
            work: Work::Reply(Box::new(reply)),
        })?;
        Ok(stream(pieces))
    }

    fn models(&self) -> Vec<ModelInfo> {
        vec![ModelInfo {
            id: self.model.id.clone(),
            context_window: Some(self.language.tokens.context_window()),
            owned_by: "habit".to_owned(),
            created: self.model.created,
        }]
    }

    fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>> {
        (model == self.model.id).then(|| Arc::clone(&self.language.tokens) as Arc<dyn TokenCounter>)
    }

    async fn health(&self) -> Health {
        if self.thread.is_finished() {
            Health::Unavailable(gone().to_string())
        } else {
            Health::Ready
        }
    }
}
