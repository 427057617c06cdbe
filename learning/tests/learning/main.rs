//! The ledger's laws and the trainer. One binary: each links every dependency, which takes longer than its tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what can go wrong here fails the test"
)]

mod contract_ledger;
#[allow(dead_code, reason = "the engine's tests use the rest")]
#[path = "../../../engine/tests/support/gguf.rs"]
mod gguf;
#[allow(dead_code, reason = "the engine's tests use the rest")]
#[path = "../../../engine/tests/support/layout.rs"]
mod layout;
mod trainer;
