//! Models that were made from a team's own files: what they are called, who may ask them, and an engine under such a name.

use std::sync::Arc;

use async_trait::async_trait;
use habit_engine::{ChatRequest, DeltaStream, Engine, EngineError, Health, Load, ModelInfo, TokenCounter};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What such a name begins with, in OpenAI's way.
const BEGINS: &str = "ft:";

/// The name of a team's model: `ft:BASE:SUFFIX:ID`. The id begins with a mark of the team, by which everyone else is kept
/// out wherever models are asked for.
#[must_use]
pub fn name(team: &str, base: &str, suffix: &str, job: Uuid) -> String {
    let job = job.simple().to_string();
    format!("{BEGINS}{base}:{suffix}:{}{}", mark(team), &job[20..])
}

/// Whether this is the name of some team's own model.
#[must_use]
pub fn is_private(model: &str) -> bool {
    model.starts_with(BEGINS)
}

/// Whether this team may ask this model: not where it is another's own.
#[must_use]
pub fn may_ask(team: &str, model: &str) -> bool {
    let id = model.strip_prefix(BEGINS).and_then(|rest| rest.rsplit(':').next());
    id.is_none_or(|id| id.starts_with(&mark(team)))
}

fn mark(team: &str) -> String {
    hex::encode(&Sha256::digest(team.as_bytes())[..8])
}

/// An engine's one model under another name.
pub struct Named {
    inner: Arc<dyn Engine>,
    /// Its name there.
    own: String,
    name: String,
}

impl Named {
    /// The first model of this engine, as `name`.
    #[must_use]
    pub fn new(inner: Arc<dyn Engine>, name: impl Into<String>) -> Self {
        Self {
            own: inner.resolve(""),
            name: name.into(),
            inner,
        }
    }
}

#[async_trait]
impl Engine for Named {
    async fn chat(&self, mut request: ChatRequest) -> Result<DeltaStream, EngineError> {
        if request.model != self.name {
            return Err(EngineError::UnknownModel {
                model: request.model,
                available: vec![self.name.clone()],
            });
        }
        request.model.clone_from(&self.own);
        request.verbatim = None;
        self.inner.chat(request).await
    }

    fn models(&self) -> Vec<ModelInfo> {
        let models = self.inner.models().into_iter().take(1);
        let renamed = models.map(|info| ModelInfo {
            id: self.name.clone(),
            ..info
        });
        renamed.collect()
    }

    fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>> {
        if model == self.name {
            self.inner.token_counter(&self.own)
        } else {
            None
        }
    }

    async fn health(&self) -> Health {
        self.inner.health().await
    }

    fn serves(&self, model: &str) -> bool {
        model == self.name
    }

    fn load(&self) -> Load {
        self.inner.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_teams_own_model_is_for_that_team() {
        let name = name("acme", "base", "bank", Uuid::now_v7());
        assert!(name.starts_with("ft:base:bank:") && is_private(&name));
        assert!(may_ask("acme", &name));
        assert!(!may_ask("other", &name));
        assert!(may_ask("other", "base"));
        assert!(!may_ask("other", "ft:base"), "what is no right name is nobody's");
    }
}
