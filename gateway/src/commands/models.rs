//! `habit models`: what is known, what is here.

use std::sync::Arc;

use habit_engine::models::Store;

use super::progress::Bars;
use crate::cli::{Common, Models};

/// Lists, fetches or adds models.
///
/// # Errors
/// With what to do about it.
pub async fn run(common: &Common, what: Models) -> anyhow::Result<()> {
    let config = common.load(Vec::new())?;
    let store = Store::open(config.models_dir()?)?;
    match what {
        Models::List => {
            for model in store.list()? {
                println!("{model}");
            }
        }
        Models::Pull { model } => {
            let ready = store.pull(&model, Arc::new(Bars::default())).await?;
            println!("{} is ready: habit serve --model {}", ready.id, ready.id);
        }
        Models::Add { path, name } => {
            let ready = store.add(&path, name.as_deref(), Arc::new(Bars::default())).await?;
            println!("{} is ready: habit serve --model {}", ready.id, ready.id);
        }
    }
    Ok(())
}
