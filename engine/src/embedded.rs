//! A model in this process: mistral.rs on a thread of its own, answering one conversation at a time.
//!
//! mistral.rs is asked only for logits: what is made of them is in [`crate::generate`], which `picker` hands them to.
//! `load` brings a model up, `supervise` brings it up again after a crash.

mod cache;
mod cpu;
mod load;
mod picker;
mod run;
mod supervise;

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::{
    load::{Runner, load, template_source},
    supervise::supervise,
};
use crate::{
    ChatRequest, DeltaStream, Engine, EngineError, Health, ModelInfo, TokenCounter, generate::language::Language,
    models::LocalModel,
};

pub use self::cpu::check_cpu;

/// How a model is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Threads for the tensor kernels, for all models of the process together: the first model loaded sets it.
    /// `None` takes what `RAYON_NUM_THREADS` says, or else every processor.
    pub threads: Option<usize>,
    /// A smaller window than the model's own, in tokens, to bound the memory of long conversations.
    pub context_window: Option<usize>,
    /// Memory for the keys and values of finished conversations, in bytes: a next turn reads only what is new, which
    /// saves most of its time on a CPU. When it is full it is emptied. 0 is off. Numbers that were computed one token at a
    /// time round otherwise than those of a whole prompt, so a request with a seed, which is to get the same reply every
    /// time, does without what was kept.
    pub prefix_cache_bytes: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            threads: None,
            context_window: None,
            prefix_cache_bytes: 1 << 30,
        }
    }
}

/// An [`Engine`] over one model that is loaded in this process. Dropping it frees the model when the last reply that
/// is still being read has ended.
pub struct Embedded {
    shared: Arc<Shared>,
}

/// What replies, the supervisor and the engine's handle have in common.
struct Shared {
    model: LocalModel,
    options: EmbeddedOptions,
    language: Arc<Language>,
    state: RwLock<State>,
    /// The one place in the engine; who waits for it is served in order.
    place: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// Whether the engine is up.
enum State {
    Ready(Arc<Runner>),
    Down(String),
}

impl Embedded {
    /// Replies that run at the same time; more wait in order. Measured on CPUs: two at once are each half as fast.
    pub const PARALLEL: usize = 1;

    /// Loads a model. To be called within a tokio runtime, which also runs what watches over the engine.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] when the model can't be loaded, with the reason.
    pub async fn load(model: LocalModel, options: EmbeddedOptions) -> Result<Self, EngineError> {
        set_threads(options.threads);
        let unfit =
            |reason: String| EngineError::Unavailable(format!("the model `{}` can't be used: {reason}", model.id));
        let source = template_source(&model).map_err(unfit)?;
        let runner = load(&model, &options).await?;
        let language = Language::new(
            Arc::clone(&runner.tokenizer),
            source,
            Arc::clone(&runner.ends),
            runner.grammars.clone(),
            runner.window,
        )
        .map_err(unfit)?;
        let shared = Arc::new(Shared {
            model,
            options,
            language: Arc::new(language),
            state: RwLock::new(State::Ready(Arc::new(runner))),
            place: Arc::new(Semaphore::new(Self::PARALLEL)),
            shutdown: CancellationToken::new(),
        });
        tokio::spawn(supervise(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// Makes the engine's thread panic, as a bug in it would.
    #[cfg(feature = "testing")]
    pub async fn crash_for_test(&self) {
        if let Ok(runner) = self.shared.runner() {
            runner.crash().await;
        }
    }
}

/// Sizes the kernels' thread pool, which can be done once in a process.
fn set_threads(threads: Option<usize>) {
    let Some(threads) = threads else { return };
    if rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .is_err()
        && rayon::current_num_threads() != threads
    {
        let running = rayon::current_num_threads();
        tracing::warn!(
            threads,
            running,
            "the number of threads was set before and stays as it is"
        );
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.shutdown.cancel();
    }
}

impl Shared {
    /// The engine, if it is up.
    fn runner(&self) -> Result<Arc<Runner>, EngineError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Ready(runner) => Ok(Arc::clone(runner)),
            State::Down(reason) => Err(EngineError::Unavailable(reason.clone())),
        }
    }

    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

#[async_trait]
impl Engine for Embedded {
    async fn chat(&self, request: ChatRequest) -> Result<DeltaStream, EngineError> {
        if request.model != self.shared.model.id {
            let available = vec![self.shared.model.id.clone()];
            return Err(EngineError::UnknownModel {
                model: request.model,
                available,
            });
        }
        self.shared.runner()?;
        let language = Arc::clone(&self.shared.language);
        let prepared = tokio::task::spawn_blocking(move || language.prepare(request)).await;
        let ask =
            prepared.map_err(|error| EngineError::Unavailable(format!("the prompt was not prepared: {error}")))??;
        Ok(run::stream(Arc::clone(&self.shared), ask))
    }

    fn models(&self) -> Vec<ModelInfo> {
        vec![ModelInfo {
            id: self.shared.model.id.clone(),
            context_window: Some(self.shared.language.tokens.context_window()),
            owned_by: "habit".to_owned(),
            created: self.shared.model.created,
        }]
    }

    fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>> {
        (model == self.shared.model.id).then(|| Arc::clone(&self.shared.language.tokens) as Arc<dyn TokenCounter>)
    }

    async fn health(&self) -> Health {
        match self.shared.runner() {
            Ok(_) => Health::Ready,
            Err(error) => Health::Unavailable(error.to_string()),
        }
    }
}
