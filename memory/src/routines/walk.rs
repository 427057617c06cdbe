//! A walk past all of a user's turns, newest first, and then past the facts: what it saw so far is kept between steps, in
//! memory only. Another process that goes on with the run begins the walk anew.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::{Step, Target, page};
use crate::error::MemoryError;
use crate::interaction::Interaction;
use crate::journal::Journal;

/// The cursor after the last turn.
const FACTS: &str = "facts";

/// See the module. `T` is what was seen.
pub(super) struct Walk<T> {
    seen: Mutex<Option<(Target, T)>>,
}

/// Where a step stands.
pub(super) enum Place<R> {
    /// At turns: what was found in them, and the step that passes them.
    Turns(R, Step),
    /// At the facts, which are the end.
    Facts,
    /// Nowhere: what was seen before is not known here. This step begins anew.
    Lost(Step),
}

impl<T: Default> Walk<T> {
    /// One that has seen nothing.
    pub(super) fn new() -> Self {
        Self { seen: Mutex::default() }
    }

    /// Goes from `cursor` past the next turns, with a look at them in the light of those before. A page may be looked at
    /// twice, where its changes could not be written down the first time.
    ///
    /// # Errors
    /// [`MemoryError`] of the journal; [`MemoryError::BadRequest`] for a target that is no single user.
    pub(super) async fn next<R>(
        &self,
        journal: &dyn Journal,
        target: &Target,
        cursor: &Value,
        look: impl FnOnce(&mut T, &[Interaction]) -> R + Send,
    ) -> Result<Place<R>, MemoryError> {
        if cursor == FACTS {
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
            return Ok(Place::Facts);
        }
        let (turns, next) = page(journal, &target.scope()?, cursor).await?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if cursor.is_null() {
            *seen = Some((target.clone(), T::default()));
        }
        let Some((_, known)) = seen.as_mut().filter(|(known, _)| known == target) else {
            return Ok(Place::Lost(Step {
                next: Some(Value::Null),
                afresh: true,
                ..Step::default()
            }));
        };
        let found = look(known, &turns);
        let step = Step {
            next: Some(next.unwrap_or_else(|| FACTS.into())),
            done: turns.len() as u64,
            ..Step::default()
        };
        Ok(Place::Turns(found, step))
    }
}
