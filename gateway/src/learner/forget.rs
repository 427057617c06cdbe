//! What is forgotten leaves the files of runs as well.

use std::path::Path;

use async_trait::async_trait;
use habit_learning::curator::Forgotten;
use habit_learning::run::{self, Report};
use habit_memory::{MemoryError, Scope};
use uuid::Uuid;

use super::place::{remove, storage};
use super::{LearnError, Learner};

/// What is forgotten leaves the files of runs too: a run under way with it begins anew some other time, a report loses the
/// words. Of an erased user the models go as well.
#[async_trait]
impl Forgotten for Learner {
    async fn forgotten(&self, scope: &Scope, erased: bool) -> Result<(), MemoryError> {
        let team = scope.team();
        let tainted = self.inner.parts.curator.ledger().tainted(team).await?;
        for one in tainted {
            let Ok(id) = Uuid::parse_str(&one.run) else { continue };
            let folder = self.folder(team, id);
            if !folder.exists() && !self.is_under_way(team, id) {
                // It may be in another gateway's data directory: that one is not to serve it either.
                if erased {
                    self.withdraw(team, id, &folder).await?;
                }
                continue;
            }
            if Report::read(&folder).map_err(storage)?.is_none() {
                match self.cancel(team, id).await {
                    Ok(()) => {}
                    // One that was broken off before it was written down whole has texts all the same.
                    Err(LearnError::Unknown(_)) => self.discard(team, id).map_err(storage)?,
                    Err(error) => return Err(storage(error)),
                }
                continue;
            }
            run::tidy(&folder).map_err(storage)?;
            Report::forget(&folder, &one.examples).map_err(storage)?;
            if erased {
                self.withdraw(team, id, &folder).await?;
            }
        }
        Ok(())
    }
}

impl Learner {
    fn is_under_way(&self, team: &str, id: Uuid) -> bool {
        let teams = self.teams();
        let now = teams.get(team).and_then(|work| work.now.as_ref());
        now.is_some_and(|(running, ..)| *running == id)
    }

    async fn withdraw(&self, team: &str, id: Uuid, folder: &Path) -> Result<(), MemoryError> {
        let rollouts = &self.inner.parts.rollouts;
        if rollouts.state(team).model(id).is_some() {
            let why = "everything of a user whose words it was trained on was erased";
            rollouts.withdraw(team, id, why).await.map_err(storage)?;
        }
        for part in ["adapter", "model.gguf"] {
            remove(&folder.join(part)).map_err(storage)?;
        }
        Ok(())
    }
}
