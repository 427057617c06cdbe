//! Stores, sources and assembly through their traits. One binary: each links every dependency, which takes longer than its
//! tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "what can go wrong here fails the test"
)]

mod assembly;
mod context;
mod contract_index;
mod contract_journal;
mod generations;
