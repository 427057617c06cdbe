//! **habit-engine** knows models: it loads them, fetches and prepares their files, runs them, and reaches those
//! that run elsewhere. It knows nothing of memory, of keys or of HTTP routes.
//!
//! The crate has one vocabulary ([`chat`]) and three seams ([`engine`]):
//!
//! - [`Engine`] answers a conversation with a stream of deltas. [`native`] and [`embedded`] run a model in this
//!   process, [`worker`] asks any OpenAI-compatible server, [`fleet`] finds the engine for a model's name among several and
//!   goes on to another when one fails ([`breaker`]), [`admission`] bounds how much runs at once and who is next.
//!   Engines wrap engines: each is an `Arc<dyn Engine>`.
//! - [`TokenCounter`] counts as one model counts, so that prompts are fitted exactly.
//! - [`Embedder`] turns text into vectors for recall.
//!
//! To add an engine: write a module with a type that implements [`Engine`], run `contract::engine` over it in
//! `tests/engine/contract.rs`, and name it in the gateway's `wiring.rs`. Nothing else needs to know it.

pub mod admission;
pub mod breaker;
pub mod chat;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod embedder;
pub mod engine;
pub mod error;
pub mod fleet;
pub mod generate;
pub mod models;
pub mod native;
#[cfg(feature = "testing")]
pub mod scripted;
pub mod tune;
pub mod worker;

pub use chat::{
    ChatRequest, Content, Delta, FinishReason, Message, Priority, RawPrompt, Role, Sampling, TokenLogprob, TopLogprob,
    Usage, Verbatim,
};
pub use embedder::request::{EmbedInput, EmbedRequest, Embeddings};
pub use engine::{DeltaStream, Embedder, Engine, Health, Load, ModelInfo, TokenCounter, TokenEmbedder};
pub use error::EngineError;
