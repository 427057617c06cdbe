//! The innermost layer: resolves the model's name and asks the engine. Notes how long everything before it took.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use habit_engine::Engine;
use tower::Service;

/// The name that, like an empty one, stands for whatever the server serves first.
pub use habit_engine::engine::DEFAULT as DEFAULT_MODEL;

use super::running::{Bill, Running};
use super::{Reply, Trace, Turn, TurnError};

/// Asks the engine.
#[derive(Clone)]
pub struct Route {
    engine: Arc<dyn Engine>,
    running: Running,
}

impl Route {
    /// Over this engine (usually a fleet behind admission). Replies under way are in `running`.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, running: Running) -> Self {
        Self { engine, running }
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
        Box::pin(async move {
            let mut request = turn.request;
            request.model = resolve(&*engine, &request.model);
            let relayed = request.verbatim.is_some() && engine.relays(&request.model);
            let trace = Trace {
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
            let deltas = engine.chat(request).await?;
            let deltas = running.watch(&turn.scope, turn.id, deltas, bill);
            Ok(Reply { deltas, trace })
        })
    }
}
