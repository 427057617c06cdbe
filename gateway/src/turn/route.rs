//! The innermost layer: resolves the model's name and asks the engine, or the model that was trained for the turn's team.
//! Notes how long everything before it took.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use habit_engine::{ChatRequest, DeltaStream, Engine, EngineError};
use habit_learning::rollout::Arm;
use habit_memory::interaction::Variant;
use tower::Service;

/// The name that, like an empty one, stands for whatever the server serves first.
pub use habit_engine::engine::DEFAULT as DEFAULT_MODEL;

use super::running::{Bill, Running};
use super::variant::{Chosen, Variants};
use super::{Reply, Trace, Turn, TurnError};

/// Asks the engine.
#[derive(Clone)]
pub struct Route {
    engine: Arc<dyn Engine>,
    running: Running,
    variants: Option<Variants>,
}

impl Route {
    /// Over this engine (usually a fleet behind admission). Replies under way are in `running`.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, running: Running) -> Self {
        Self {
            engine,
            running,
            variants: None,
        }
    }

    /// With teams' own models.
    #[must_use]
    pub fn with_variants(self, variants: Option<Variants>) -> Self {
        Self { variants, ..self }
    }
}

/// The model that a request means; see [`Engine::resolve`].
#[must_use]
pub fn resolve(engine: &dyn Engine, model: &str) -> String {
    engine.resolve(model)
}

impl Service<Turn> for Route {
    type Response = Reply;
    type Error = TurnError;
    type Future = BoxFuture<'static, Result<Reply, TurnError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TurnError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, turn: Turn) -> Self::Future {
        let engine = Arc::clone(&self.engine);
        let running = self.running.clone();
        let variants = self.variants.clone();
        let coming = running.coming();
        Box::pin(async move {
            let mut request = turn.request;
            request.model = resolve(&*engine, &request.model);
            let chosen = variants.and_then(|variants| variants.choose(&turn.scope, turn.id, &request.model));
            let relayed = request.verbatim.is_some() && engine.relays(&request.model);
            let mut trace = Trace {
                model: request.model.clone(),
                relayed,
                conversation: turn.scope.conversation().map(str::to_owned),
                context_ms: super::millis(turn.arrived.elapsed()),
                ..Trace::default()
            };
            // An upstream's tokens can't be counted here, and its prompts are not worth a copy.
            let counter = engine
                .token_counter(&request.model)
                .filter(|counter| counter.is_exact());
            let bill = counter.map(|counter| Bill {
                request: request.clone(),
                counter,
            });
            let deltas = match own(chosen, &request, &mut trace).await? {
                Some(deltas) => deltas,
                None => engine.chat(request).await?,
            };
            let deltas = running.watch(&turn.scope, turn.id, deltas, bill);
            drop(coming);
            Ok(Reply { deltas, trace })
        })
    }
}

/// The reply of the team's own model; `None` where the base is to answer. Nothing of a reply has come before this returns, so
/// that a model with no room, or one that is gone, costs no request.
async fn own(
    chosen: Option<Chosen>,
    request: &ChatRequest,
    trace: &mut Trace,
) -> Result<Option<DeltaStream>, EngineError> {
    let Some(Chosen { variant, engine }) = chosen else {
        return Ok(None);
    };
    let note = match engine {
        None => None,
        Some((engine, name)) => {
            let mut theirs = request.clone();
            theirs.model = name;
            theirs.verbatim = None;
            match engine.chat(theirs).await {
                Ok(deltas) => {
                    trace.relayed = false;
                    trace.variant = Some(variant);
                    return Ok(Some(deltas));
                }
                Err(error) if error.is_retryable() => Some(format!("the team's model did not answer: {error}")),
                Err(error) => return Err(error),
            }
        }
    };
    trace.variant = Some(match note {
        None => variant,
        Some(_) => Variant {
            arm: Arm::Base.name().to_owned(),
            model: None,
            propensity: 1.0,
            note,
        },
    });
    Ok(None)
}
