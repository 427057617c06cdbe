//! `habit models`: what is known, what is here.

use std::sync::Arc;

use habit_engine::models::Store;
use habit_engine::models::fit::{Dimensions, available_memory, gigabytes};

use super::progress::Bars;
use crate::cli::{Common, Models};

/// Tokens of context that `fit` counts with where none are named.
const USUAL_CONTEXT: u64 = 4096;

/// Lists, fetches, sizes or adds models.
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
        Models::Fit { model, context } => {
            let model = store.resolve(&model, Arc::new(Bars::default())).await?;
            let dimensions = Dimensions::of(&model)?;
            let context = context.unwrap_or_else(|| dimensions.window.min(USUAL_CONTEXT));
            print!("{}", table(&model.id, &dimensions, context, available_memory()));
        }
        Models::Tune(flags) => super::tune::run(common, flags).await?,
        Models::Add { path, name } => {
            let ready = store.add(&path, name.as_deref(), Arc::new(Bars::default())).await?;
            println!("{} is ready: habit serve --model {}", ready.id, ready.id);
        }
    }
    Ok(())
}

/// What a model takes, as people read it.
fn table(id: &str, dimensions: &Dimensions, context: u64, free: u64) -> String {
    let millions = dimensions.parameters.div_ceil(1_000_000);
    let mut text = format!(
        "{id}: {millions} million weights, {} as its files have them; {} of memory free\n\n\
         {:<10} {:>10} {:>18} {:>10} {:>10}\n",
        gigabytes(dimensions.weights),
        gigabytes(free),
        "precision",
        "weights",
        format!("{context} tokens"),
        "in all",
        "",
    );
    let as_is = dimensions.needs(context);
    let rows = dimensions.table(context, free);
    let rows = rows
        .iter()
        .map(|row| (format!("{} bits", row.precision.bits()), row.needs, row.fits));
    for (precision, needs, fits) in std::iter::once(("as it is".to_owned(), as_is, as_is.total() <= free)).chain(rows) {
        let line = format!(
            "{precision:<10} {:>10} {:>18} {:>10} {:>10}\n",
            gigabytes(needs.weights),
            gigabytes(needs.kv),
            gigabytes(needs.total()),
            if fits { "fits" } else { "too large" },
        );
        text.push_str(&line);
    }
    text
}
