//! **habit-gateway** knows HTTP: it reads configuration and keys, speaks OpenAI's dialect, and passes each chat turn
//! through a stack of layers to an engine.
//!
//! - [`config`] is what may be set, [`wiring`] turns it into an [`app::App`] (the only file that names concrete
//!   backends), [`commands`] are what the command line does with one.
//! - [`routes`] is the table of URLs; [`mod@http`] the stack that every request passes; [`api`] one endpoint family a
//!   file.
//! - [`turn`] is one chat turn as layers over an engine.
//! - [`mod@downtime`] is the work for which nobody waits; [`lease`] says which of several processes does it.
//! - [`mcp`] gives memory to other programs as tools.
//!
//! To add an endpoint: write a handler with `#[utoipa::path]` in a file of `api/`, name it in [`routes`], give it a
//! case in `tests/api/cross_tenant.rs`, and regenerate `openapi.yaml` with `habit openapi`.

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod commands;
pub mod config;
pub mod downtime;
pub mod engines;
pub mod http;
pub mod keys;
pub mod learner;
pub mod lease;
pub mod library;
pub mod lifecycle;
pub mod loader;
pub mod mcp;
pub mod openapi;
pub mod routes;
pub mod server_file;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tuned;
pub mod turn;
pub mod wiring;
