//! Which model answers a turn: the base that was asked for, or one that was trained for the turn's team. Models are loaded
//! when they are first wanted, a few at a time; until then, and whenever something is wrong with one, the base answers.
//! Other teams never get them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use habit_engine::Engine;
use habit_learning::rollout::choice::lot;
use habit_learning::rollout::{Arm, Outcome, Policy, RolloutError, Rollouts, State};
use habit_memory::Scope;
use habit_memory::clock::Clock;
use habit_memory::interaction::{Interaction, Variant};
use uuid::Uuid;

use crate::config;
use crate::lifecycle::Lifecycle;
use crate::loader::{Loader, Wanted};

/// A model that was used so lately stays, whoever else wants its place: two teams must not make it load all the time.
const KEPT_MS: i64 = 10_000;

/// After a failure a model is not loaded again for so long.
const AGAIN_MS: i64 = 60_000;

/// What it is built on.
pub struct VariantParts {
    /// Which models serve which team.
    pub rollouts: Rollouts,
    /// Brings models up; `None` where none can be loaded.
    pub loader: Option<Arc<Loader>>,
    /// How many, and how they are chosen.
    pub config: config::Rollout,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Where loading runs.
    pub lifecycle: Lifecycle,
}

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Variants {
    inner: Arc<Inner>,
}

struct Inner {
    parts: VariantParts,
    models: Mutex<Models>,
}

#[derive(Default)]
struct Models {
    ready: HashMap<Uuid, Ready>,
    /// What is being loaded.
    loading: Option<Uuid>,
    /// What could not be loaded, when, and why.
    failed: HashMap<Uuid, (i64, String)>,
}

#[derive(Clone)]
struct Ready {
    engine: Arc<dyn Engine>,
    /// The engine's own name for it.
    name: String,
    used_at: i64,
}

/// How a turn is answered.
pub struct Chosen {
    /// For the record.
    pub variant: Variant,
    /// The engine and its name for the model; `None` is the base.
    pub engine: Option<(Arc<dyn Engine>, String)>,
}

impl Variants {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: VariantParts) -> Self {
        Self {
            inner: Arc::new(Inner {
                parts,
                models: Mutex::default(),
            }),
        }
    }

    /// Which models serve which team.
    #[must_use]
    pub fn rollouts(&self) -> &Rollouts {
        &self.inner.parts.rollouts
    }

    /// How a turn to this base model is answered; `None` where the team has no model in its place. The same turn gets the
    /// same answer as long as nothing changes.
    #[must_use]
    pub fn choose(&self, scope: &Scope, turn: Uuid, base: &str) -> Option<Chosen> {
        let parts = &self.inner.parts;
        if parts.config.loaded == 0 {
            return None;
        }
        let state = parts.rollouts.state(scope.team());
        let (model, propensity) = drawn(&state, base, turn, &parts.config)?;
        let variant = |arm: Arm, model, propensity, note| Variant {
            arm: arm.name().to_owned(),
            model,
            propensity,
            note,
        };
        let Some(id) = model else {
            return Some(Chosen {
                variant: variant(Arm::Base, None, propensity, None),
                engine: None,
            });
        };
        Some(match self.ready(&state, id) {
            Ok(ready) => Chosen {
                variant: variant(Arm::Adapter, Some(id), propensity, None),
                engine: Some(ready),
            },
            // Nothing was left to chance.
            Err(note) => Chosen {
                variant: variant(Arm::Base, None, 1.0, Some(note)),
                engine: None,
            },
        })
    }

    /// Notes how good a recorded turn was, 0 to 1, where there was a choice of how to answer it. A trial may end with it.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn heard(&self, turn: &Interaction, reward: f64) -> Result<(), RolloutError> {
        if let Some(shots) = turn.lookup.shots {
            let team = turn.scope.team();
            self.rollouts().observe_shots(team, shots.count, reward).await?;
        }
        let Some(variant) = &turn.lookup.variant else {
            return Ok(());
        };
        // One that was not drawn by chance says nothing of how the others would have done.
        if variant.note.is_some() {
            return Ok(());
        }
        let outcome = Outcome {
            turn: turn.id,
            user: turn.scope.user().to_owned(),
            arm: if variant.model.is_some() {
                Arm::Adapter
            } else {
                Arm::Base
            },
            model: variant.model,
            reward,
        };
        let team = turn.scope.team();
        if let Some(entry) = self.rollouts().observe(team, &outcome).await? {
            tracing::info!(team, model = %entry.model, "{}; {}", entry.what, entry.why.join("; "));
        }
        Ok(())
    }

    /// Loads what serves, before anyone asks; for as many as there is room.
    pub fn warm(&self) {
        let rollouts = &self.inner.parts.rollouts;
        for team in rollouts.teams() {
            let state = rollouts.state(&team);
            for id in serving(&state) {
                let _ = self.ready(&state, id);
            }
        }
    }

    /// The ids of the models that are loaded.
    #[must_use]
    pub fn loaded(&self) -> Vec<Uuid> {
        let mut ids: Vec<Uuid> = self.lock().ready.keys().copied().collect();
        ids.sort();
        ids
    }

    /// The model's engine; else why it is not there yet.
    fn ready(&self, state: &State, id: Uuid) -> Result<(Arc<dyn Engine>, String), String> {
        let now = self.inner.parts.clock.now_ms();
        let mut models = self.lock();
        if let Some(ready) = models.ready.get_mut(&id) {
            ready.used_at = now;
            return Ok((Arc::clone(&ready.engine), ready.name.clone()));
        }
        if let Some((at, why)) = models.failed.get(&id)
            && now < at.saturating_add(AGAIN_MS)
        {
            return Err(format!("the team's model can't be loaded: {why}"));
        }
        let waiting = "the team's model is being loaded".to_owned();
        if models.loading.is_some() {
            return Err(waiting);
        }
        let (Some(loader), Some(model)) = (self.inner.parts.loader.clone(), state.model(id)) else {
            return Err("nothing here can load the team's model".to_owned());
        };
        if !self.make_room(&mut models, now) {
            return Err("the team's model waits for a place: rollout.loaded says how many there are".to_owned());
        }
        models.loading = Some(id);
        drop(models);
        let wanted = Wanted {
            model: Some(model.path.display().to_string()),
            ..Wanted::default()
        };
        let this = self.clone();
        drop(self.inner.parts.lifecycle.spawn(async move {
            let loaded = loader.apart(&wanted).await;
            this.came(id, loaded.map_err(|error| error.to_string()));
        }));
        Err(waiting)
    }

    /// Whether there is a place for one more; the one that was asked longest ago may go for it.
    fn make_room(&self, models: &mut Models, now: i64) -> bool {
        let rollouts = &self.inner.parts.rollouts;
        // What serves nobody any more goes first.
        let states: Vec<Arc<State>> = rollouts.teams().iter().map(|team| rollouts.state(team)).collect();
        let wanted = |id: &Uuid| states.iter().any(|state| serving(state).contains(id));
        models.ready.retain(|id, _| wanted(id));
        while models.ready.len() >= self.inner.parts.config.loaded {
            let oldest = models.ready.iter().min_by_key(|(_, ready)| ready.used_at);
            match oldest.map(|(id, ready)| (*id, ready.used_at)) {
                Some((id, used_at)) if used_at.saturating_add(KEPT_MS) <= now => models.ready.remove(&id),
                _ => return false,
            };
        }
        true
    }

    fn came(&self, id: Uuid, loaded: Result<Arc<dyn Engine>, String>) {
        let now = self.inner.parts.clock.now_ms();
        let mut models = self.lock();
        models.loading = None;
        let named = loaded.and_then(|engine| {
            let name = engine.models().into_iter().next().map(|info| info.id);
            name.map(|name| (engine, name))
                .ok_or_else(|| "the engine came up without a model".to_owned())
        });
        match named {
            Ok((engine, name)) => {
                tracing::info!(model = %id, "a team's model was loaded");
                models.failed.remove(&id);
                models.ready.insert(
                    id,
                    Ready {
                        engine,
                        name,
                        used_at: now,
                    },
                );
            }
            Err(why) => {
                tracing::warn!(model = %id, "a team's model can't be loaded, so the base answers: {why}");
                models.failed.insert(id, (now, why));
            }
        }
    }

    /// Nothing panics with the lock held.
    fn lock(&self) -> std::sync::MutexGuard<'_, Models> {
        self.inner.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a team's requests may be answered by.
fn serving(state: &State) -> Vec<Uuid> {
    let canary = state.canary.as_ref().map(|canary| canary.model);
    state.serving.into_iter().chain(canary).collect()
}

/// The model that this turn is drawn for, with the probability of that; `None` where there is nothing to draw.
fn drawn(state: &State, base: &str, turn: Uuid, config: &config::Rollout) -> Option<(Option<Uuid>, f64)> {
    let of_base = |id: &Uuid| state.model(*id).is_some_and(|model| model.base == base);
    let serving = state.serving.filter(of_base);
    let canary = state.canary.as_ref().filter(|canary| of_base(&canary.model));
    if let Some(canary) = canary {
        let lot = lot(&[canary.model.as_bytes(), turn.as_bytes()]);
        return Some(if lot < canary.share {
            (Some(canary.model), canary.share)
        } else {
            (serving, 1.0 - canary.share)
        });
    }
    let id = serving?;
    if !config.explore {
        return Some((Some(id), 1.0));
    }
    let lot = lot(&[id.as_bytes(), turn.as_bytes()]);
    let (arm, propensity) = state.arms.choose(&[Arm::Base, Arm::Adapter], &Policy::default(), lot)?;
    Some(((arm == Arm::Adapter).then_some(id), propensity))
}
