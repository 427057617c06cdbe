//! Tests of the real binary: real processes, real files, real signals. `make test` sets what they need:
//! `HABIT_TEST_MODELS` (a model store with the default model and embedder), `HABIT_TEST_VENV` (Python clients), and
//! `HABIT_TEST_POSTGRES` (a server).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod anew;
mod bad_input;
mod chat_command;
mod crash;
mod crash_files;
mod documents;
mod downtime;
mod engine_room;
mod folders;
mod learning;
mod mcp;
mod postgres;
mod process;
mod remembered;
mod sdk;
mod several;
mod shutdown;
mod trainer;
mod upstream;
mod worker;
