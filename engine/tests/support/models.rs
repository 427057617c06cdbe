//! The real models of the tests, from the store that `HABIT_TEST_MODELS` names (`make test` sets it and fills it), or
//! from one of the tests' own, which fetches them the first time.

use std::path::PathBuf;
use std::sync::Arc;

use habit_engine::models::{LocalModel, Silent, Store};

/// The model of this name, ready.
pub async fn model(name: &str) -> LocalModel {
    let own = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("models");
    let dir = std::env::var_os("HABIT_TEST_MODELS").map_or_else(own, PathBuf::from);
    Store::open(dir).unwrap().resolve(name, Arc::new(Silent)).await.unwrap()
}
