//! What most layers of a turn have in common: they change the turn on its way in, and say in the reply's trace what they
//! did. Such a layer is a [`Step`] in a file of its own; this makes a tower layer of it.

use std::future::Future;
use std::task::{self, Poll};

use futures::future::BoxFuture;
use tower::{Layer, Service};

use super::{Reply, Trace, Turn, TurnError};

/// Changes a turn before the layers below see it.
pub trait Step: Clone + Send + Sync + 'static {
    /// What was done, for the trace.
    type Done: Send;

    /// Changes the turn.
    ///
    /// # Errors
    /// If the turn must not be answered.
    fn change(&self, turn: &mut Turn) -> impl Future<Output = Result<Self::Done, TurnError>> + Send;

    /// Puts into the trace what was done. The layers below have written theirs.
    fn tell(done: Self::Done, trace: &mut Trace);
}

/// A step as a layer.
#[derive(Debug, Clone)]
pub struct StepLayer<P>(pub P);

impl<S, P: Clone> Layer<S> for StepLayer<P> {
    type Service = Stepped<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Stepped {
            inner,
            step: self.0.clone(),
        }
    }
}

/// The layer's service.
#[derive(Debug, Clone)]
pub struct Stepped<S, P> {
    inner: S,
    step: P,
}

impl<S, P> Service<Turn> for Stepped<S, P>
where
    P: Step,
    S: Service<Turn, Response = Reply, Error = TurnError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Reply;
    type Error = TurnError;
    type Future = BoxFuture<'static, Result<Reply, TurnError>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), TurnError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut turn: Turn) -> Self::Future {
        // The service that was polled ready is the one that is called; the clone takes its place.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let step = self.step.clone();
        Box::pin(async move {
            let done = step.change(&mut turn).await?;
            let mut reply = inner.call(turn).await?;
            P::tell(done, &mut reply.trace);
            Ok(reply)
        })
    }
}
