//! The API through the router, with doubles for engines and real stores. One binary: each links every dependency, which
//! takes longer than its tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what can go wrong here fails the test"
)]

mod auth;
mod calls;
mod chat;
mod completions;
mod config;
mod cross_tenant;
mod documents_api;
mod embeddings;
mod keys;
mod learning;
mod limits;
mod loading;
mod memories;
mod memory_turns;
mod models;
mod record;
mod relay;
mod responses;
mod rollout;
#[path = "../support/school.rs"]
mod school;
mod streaming;
#[path = "../binary/upstream.rs"]
mod upstream;
mod vector_stores;
mod webui;
