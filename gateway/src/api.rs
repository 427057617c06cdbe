//! The endpoints, one family a file: wire types, handlers and their documentation. A handler parses, asks the part
//! that knows, and renders; what it knows of HTTP stays here, and what it knows of memory or engines is their traits.

#![allow(
    clippy::missing_errors_doc,
    reason = "handlers name their errors in #[utoipa::path], and their doc comments are the API's description"
)]

pub mod admin;
pub mod ask;
pub mod blocks;
pub mod chat;
pub mod chat_wire;
pub mod completions;
pub mod conversations;
pub mod documents;
pub mod downtime;
pub mod embeddings;
pub mod error;
pub mod feedback;
pub mod file_search;
pub mod files;
pub mod fine_tuning;
pub mod generation;
pub mod health;
pub mod keys;
pub mod learning;
pub mod listing;
pub mod loading;
pub mod memories;
pub mod messages;
pub mod models;
pub mod relay;
pub mod rerank;
pub mod responses;
pub mod sse;
pub mod tokenize;
pub mod turns;
pub mod vector_stores;
pub mod webui;
