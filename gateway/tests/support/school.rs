//! What learning works with in tests: a school in the place of the trainer, and a pupil in the place of the model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use habit_gateway::learner::workshop::Tools;
use habit_gateway::learner::{Served, Workshop};
use habit_learning::run::Trainer;
use habit_learning::testing::{PUPIL, Pupil, School};
use habit_learning::trainer::{Job, Step, TrainError, Trained};
use tokio_util::sync::CancellationToken;

struct Doubles {
    school: Arc<School>,
    trainer: Arc<dyn Trainer>,
    weights: PathBuf,
}

/// A new one.
pub fn workshop() -> Arc<dyn Workshop> {
    let school = Arc::new(School::default());
    with(Arc::clone(&school), school)
}

/// One that is in the middle of each training until the token says so, or the training is stopped.
pub fn slow() -> (Arc<dyn Workshop>, CancellationToken) {
    let (school, open) = (Arc::new(School::default()), CancellationToken::new());
    let trainer = Slow {
        school: Arc::clone(&school),
        open: open.clone(),
    };
    (with(school, Arc::new(trainer)), open)
}

fn with(school: Arc<School>, trainer: Arc<dyn Trainer>) -> Arc<dyn Workshop> {
    Arc::new(Doubles {
        school,
        trainer,
        weights: PathBuf::from("base.gguf"),
    })
}

struct Slow {
    school: Arc<School>,
    open: CancellationToken,
}

#[async_trait]
impl Trainer for Slow {
    async fn train(
        &self,
        job: &Job,
        progress: &mut (dyn FnMut(Step) + Send),
        cancel: &CancellationToken,
    ) -> Result<Trained, TrainError> {
        // As the real one does, which begins a process with it.
        let failed = |error: std::io::Error| TrainError::Failed(error.to_string());
        let text = serde_json::to_vec(job).map_err(|error| failed(error.into()))?;
        std::fs::write(job.out.join("job.json"), text).map_err(failed)?;
        cancel.run_until_cancelled(self.open.cancelled()).await;
        self.school.train(job, progress, cancel).await
    }

    fn merge(&self, weights: &Path, adapter: &Path, target: &Path) -> Result<(), String> {
        self.school.merge(weights, adapter, target)
    }
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
            trainer: Arc::clone(&self.trainer),
            loader: Arc::clone(&self.school) as _,
        })
    }
}
