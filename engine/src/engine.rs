//! The seams of this crate: [`Engine`], [`TokenCounter`], [`Embedder`]. Their laws are in the docs below and in
//! the contract suites (`tests/engine/contract.rs`), which run over every implementation.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::Serialize;

use crate::{ChatRequest, Delta, EmbedRequest, Embeddings, EngineError, Message};

/// A reply as it is made. Laws: the last item is [`Delta::Finish`] or an error, and nothing follows it;
/// dropping the stream cancels the work at the next token and frees its place.
pub type DeltaStream = BoxStream<'static, Result<Delta, EngineError>>;

/// A model as an engine offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// The name by which requests ask for it.
    pub id: String,
    /// Tokens that prompt and reply may have together; `None` where an upstream does not say.
    pub context_window: Option<usize>,
    /// Who made or serves it (OpenAI's `owned_by`).
    pub owned_by: String,
    /// When it was loaded or made, in Unix seconds.
    pub created: i64,
}

/// Whether an engine can answer now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", content = "detail", rename_all = "snake_case")]
pub enum Health {
    /// Ready.
    Ready,
    /// Not yet, or not any more, with the reason; it may come back.
    Unavailable(String),
}

/// What an engine has to do now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Replies being made.
    pub running: usize,
    /// Replies that may be made at the same time; 0 where nothing bounds them.
    pub max_running: usize,
    /// Requests that wait for a place, background ones included.
    pub waiting: usize,
    /// Of them, those of [`Priority::Background`](crate::Priority::Background).
    pub waiting_background: usize,
    /// Requests that may wait.
    pub max_waiting: usize,
}

/// The name that, like an empty one, stands for whatever an engine serves first.
pub const DEFAULT: &str = "default";

/// Something that answers conversations.
///
/// Laws:
/// 1. `chat` gives an error before the first delta or a stream that keeps [`DeltaStream`]'s laws.
/// 2. An unknown model is [`EngineError::UnknownModel`]; a prompt over the window is
///    [`EngineError::ContextLengthExceeded`]; neither disturbs other requests.
/// 3. `usage` counts exactly what the model read and wrote, where the engine itself can know it.
/// 4. No stop string is ever in a text, nor a part of a character in a delta.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Starts a reply.
    ///
    /// # Errors
    /// See the laws; [`EngineError::is_retryable`] tells which may be tried elsewhere.
    async fn chat(&self, request: ChatRequest) -> Result<DeltaStream, EngineError>;

    /// The models that it serves.
    fn models(&self) -> Vec<ModelInfo>;

    /// Vectors of texts, by a model that makes them. Few engines have one.
    ///
    /// # Errors
    /// [`EngineError::Rejected`] where this engine's models make none.
    async fn embed(&self, request: EmbedRequest) -> Result<Embeddings, EngineError> {
        Err(EngineError::Rejected {
            message: format!(
                "the model `{}` gives no embeddings; name an embedding model",
                request.model
            ),
            param: Some("model".to_owned()),
        })
    }

    /// The counter that fits this model; `None` if the model is not served here.
    fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>>;

    /// Whether requests for this model that have a [`Verbatim`](crate::Verbatim) are sent on as they were written.
    fn relays(&self, _model: &str) -> bool {
        false
    }

    /// Whether it can answer now.
    async fn health(&self) -> Health;

    /// Whether it serves a model of exactly this name. Asked for every request: worth an answer without copies.
    fn serves(&self, model: &str) -> bool {
        self.models().iter().any(|info| info.id == model)
    }

    /// The model that a name means: the first one for [`DEFAULT`] and the empty name, unless a model is really called
    /// that; where there are aliases, what they stand for. A name that means nothing comes back as it is.
    fn resolve(&self, name: &str) -> String {
        if !name.is_empty() && name != DEFAULT {
            return name.to_owned();
        }
        let models = self.models();
        let named = models.iter().find(|info| info.id == name).or(models.first());
        named.map_or_else(|| name.to_owned(), |info| info.id.clone())
    }

    /// What it has to do now; nothing, where it doesn't count.
    fn load(&self) -> Load {
        Load::default()
    }
}

/// Counts tokens as one model does.
///
/// Laws: pure; `count_chat` is at least the sum that the template adds to the texts; more messages never count less.
pub trait TokenCounter: Send + Sync {
    /// Tokens of a text on its own.
    fn count(&self, text: &str) -> usize;

    /// Tokens of a whole prompt, template and generation prefix included.
    ///
    /// # Errors
    /// [`EngineError::Rejected`] when the model's template can't express these messages.
    fn count_chat(&self, messages: &[Message]) -> Result<usize, EngineError>;

    /// Tokens of the prompt that this request makes: as `count_chat`, with tools, a template of its own, or a raw prompt.
    ///
    /// # Errors
    /// As `count_chat`.
    fn count_request(&self, request: &ChatRequest) -> Result<usize, EngineError> {
        self.count_chat(&request.messages)
    }

    /// The model's tokens of a text, without any that the model's tokenizer would add; `None` where the model's
    /// tokenizer is not here.
    fn encode(&self, _text: &str) -> Option<Vec<u32>> {
        None
    }

    /// The text of tokens; `None` where the model's tokenizer is not here, or a token is not one of the model's.
    fn decode(&self, _tokens: &[u32]) -> Option<String> {
        None
    }

    /// The prompt as the model reads it, special tokens as text; `None` where the template is not here.
    ///
    /// # Errors
    /// As `count_chat`.
    fn render(&self, _request: &ChatRequest) -> Result<Option<String>, EngineError> {
        Ok(None)
    }

    /// Tokens that prompt and reply may have together.
    fn context_window(&self) -> usize;

    /// Whether counts are the model's own (true) or a careful estimate that is rather too high (false).
    fn is_exact(&self) -> bool;
}

/// Turns texts into vectors whose dot product tells how near they are in meaning.
///
/// Laws: deterministic; one vector a text, in order; each of [`Embedder::dimensions`] floats and of length 1
/// (within 1e-3); an empty batch gives an empty answer; texts longer than the model's window are cut, not refused.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// Embeds a batch.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] if the model can't run.
    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EngineError>;

    /// Floats a vector.
    fn dimensions(&self) -> usize;

    /// Names the model and its version: vectors of different ids must never be compared.
    fn id(&self) -> &str;

    /// The name by which requests ask for it: the id without the version.
    fn name(&self) -> &str {
        self.id().split('@').next().unwrap_or_default()
    }

    /// The same model by its tokens, for those who count them; `None` if it has none.
    fn tokens(&self) -> Option<&dyn TokenEmbedder> {
        None
    }
}

/// An embedder by its tokens: nothing is cut here.
///
/// Laws: `embed_tokens(encode(text))` is `embed(text)` for texts that `embed` doesn't cut; deterministic; in order.
#[async_trait]
pub trait TokenEmbedder: Send + Sync {
    /// The tokens that the model reads for a text, those that its tokenizer adds included.
    fn encode(&self, text: &str) -> Vec<u32>;

    /// The tokens that the model reads for a text whose own tokens these are; `None` if one is not the model's.
    fn surround(&self, tokens: &[u32]) -> Option<Vec<u32>>;

    /// The most tokens a text.
    fn window(&self) -> usize;

    /// Embeds texts of 1 to [`TokenEmbedder::window`] tokens.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] if the model can't run.
    async fn embed_tokens(&self, texts: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, EngineError>;
}
