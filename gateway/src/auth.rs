//! Who is calling: a [`Caller`] is made from a key in one place (`http/auth.rs`) and is the only source of a scope.

use std::sync::Arc;

use habit_memory::Scope;

use crate::keys::Meter;
use crate::learner::private;

/// The authenticated caller, inserted as a typed request extension by the auth layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The public part of the key; `local` with `--no-auth`.
    pub key_id: String,
    /// Team and user of the key; never from the request.
    pub scope: Scope,
    /// May use the administrative routes.
    pub admin: bool,
    /// What the key uses and may use; `None` for a key without limits.
    pub meter: Option<Arc<Meter>>,
}

impl Caller {
    /// Whether the key may ask only some models.
    #[must_use]
    pub fn is_limited_to_models(&self) -> bool {
        self.meter.as_ref().is_some_and(|meter| meter.limits().models.is_some())
    }

    /// Whether the key may ask this model, which is not another team's own, by the model's own name.
    #[must_use]
    pub fn may_ask(&self, model: &str) -> bool {
        if !private::may_ask(self.scope.team(), model) {
            return false;
        }
        let models = self.meter.as_ref().and_then(|meter| meter.limits().models.as_ref());
        models.is_none_or(|models| models.iter().any(|known| known == model))
    }
}
