//! What learning works with in tests: a school in the place of the trainer, and a pupil in the place of the model.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use habit_gateway::learner::workshop::Tools;
use habit_gateway::learner::{Served, Workshop};
use habit_learning::testing::{PUPIL, Pupil, School};

struct Doubles {
    school: Arc<School>,
    weights: PathBuf,
}

/// A new one.
pub fn workshop() -> Arc<dyn Workshop> {
    Arc::new(Doubles {
        school: Arc::new(School::default()),
        weights: PathBuf::from("base.gguf"),
    })
}

#[async_trait]
impl Workshop for Doubles {
    async fn served(&self) -> Result<Served, String> {
        Ok(Served {
            name: PUPIL.to_owned(),
            weights: self.weights.clone(),
            model_dir: PathBuf::new(),
        })
    }

    async fn tools(&self) -> Result<Tools, String> {
        Ok(Tools {
            base: Pupil::new(1.0).model(),
            trainer: Arc::clone(&self.school) as _,
            loader: Arc::clone(&self.school) as _,
        })
    }
}
