//! Engines, models and the fleet through their traits. One binary: each links every dependency, which takes longer than
//! its tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "what can go wrong here fails the test"
)]

mod admission;
mod contract;
#[cfg(feature = "embedded")]
mod embedded;
mod embedder;
#[cfg(feature = "embedded")]
mod features;
mod fleet;
#[path = "../support/gguf.rs"]
mod gguf;
mod laws;
#[path = "../support/layout.rs"]
mod layout;
#[path = "../support/models.rs"]
mod models;
mod native;
mod smollm2_tokenizer;
mod store;
#[path = "../support/upstream.rs"]
mod upstream;
mod worker;

/// Held by a test that runs a model, so that two do not share the cores and the memory.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
