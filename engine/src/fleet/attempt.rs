//! One request on its way through the members that may answer it: on to the next while nothing of the reply has come,
//! and never after that.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt};

use super::Member;
use crate::breaker::Pass;
use crate::{ChatRequest, Delta, DeltaStream, EmbedRequest, Embeddings, EngineError};

/// A request, and the members that have not been asked yet, the next one last.
pub(super) struct Attempt {
    rest: Vec<Arc<Member>>,
    request: ChatRequest,
    /// The best reason so far why there is no reply.
    error: Option<EngineError>,
}

impl Attempt {
    /// Members in the order in which they are asked. None at all means that memory may not go to any.
    pub(super) fn new(mut order: Vec<Arc<Member>>, request: ChatRequest) -> Self {
        order.reverse();
        Self {
            rest: order,
            request,
            error: None,
        }
    }

    /// Asks one after the other.
    pub(super) async fn start(mut self) -> Result<DeltaStream, EngineError> {
        while let Some(member) = self.rest.pop() {
            let Some(pass) = member.pass(Instant::now()) else {
                self.note(EngineError::Unavailable(member.trouble()));
                continue;
            };
            match member.engine().chat(self.request_for(&member)).await {
                Ok(stream) => {
                    return Ok(Watched {
                        state: Watching::Reply(stream),
                        pass,
                        member,
                        again: (!self.rest.is_empty()).then_some(self),
                    }
                    .boxed());
                }
                Err(error) => {
                    self.after(&member, pass, error)?;
                }
            }
        }
        let nobody = || {
            EngineError::Unavailable(format!(
                "no engine that may see memory serves `{}` now; try again later, or without memory",
                self.request.model
            ))
        };
        Err(self.error.unwrap_or_else(nobody))
    }

    /// The request under the member's own name for the model; copied only while another member may need it.
    fn request_for(&mut self, member: &Member) -> ChatRequest {
        let theirs = member.theirs(&self.request.model);
        let theirs = (theirs != self.request.model).then(|| theirs.to_owned());
        let mut request = if self.rest.is_empty() {
            let model = self.request.model.clone();
            let last = std::mem::take(&mut self.request);
            self.request.model.clone_from(&model);
            last
        } else {
            self.request.clone()
        };
        if let Some(theirs) = theirs {
            request.model = theirs;
        }
        request
    }

    /// Notes why a member gave no reply; the error itself, where no other member would do better.
    fn after(&mut self, member: &Member, pass: Option<Pass>, error: EngineError) -> Result<(), EngineError> {
        if is_fault(&error) {
            tracing::debug!(
                engine.name = member.name(),
                "a request goes on to the next engine: {error}"
            );
            member.failed(pass, &error);
        } else {
            succeeded(pass);
        }
        // A model that an upstream has dropped meanwhile may still be at another.
        if error.is_retryable() || is_fault(&error) || matches!(error, EngineError::UnknownModel { .. }) {
            self.note(error);
            return Ok(());
        }
        Err(error)
    }

    /// Keeps the error that helps most: a full engine will have room again soon, an absent one perhaps not.
    fn note(&mut self, error: EngineError) {
        let better = match (&self.error, &error) {
            (None, _) | (_, EngineError::Overloaded { .. }) => true,
            (Some(EngineError::Overloaded { .. }), _) => false,
            (Some(_), error) => !matches!(error, EngineError::UnknownModel { .. }),
        };
        if better {
            self.error = Some(error);
        }
    }
}

/// Vectors from the first member that gives any.
pub(super) async fn embed(order: &[Arc<Member>], request: &EmbedRequest) -> Result<Embeddings, EngineError> {
    let mut last = EngineError::Unavailable(format!("no engine serves `{}` now; try again later", request.model));
    for member in order {
        let Some(pass) = member.pass(Instant::now()) else {
            last = EngineError::Unavailable(member.trouble());
            continue;
        };
        let mut asked = request.clone();
        member.theirs(&request.model).clone_into(&mut asked.model);
        match member.engine().embed(asked).await {
            Err(error) if is_fault(&error) => {
                member.failed(pass, &error);
                last = error;
            }
            answer => {
                succeeded(pass);
                match answer {
                    Err(error) if error.is_retryable() => last = error,
                    answer => return answer,
                }
            }
        }
    }
    Err(last)
}

/// Whether an error speaks against the engine, rather than against the request or the moment.
fn is_fault(error: &EngineError) -> bool {
    matches!(error, EngineError::Unavailable(_) | EngineError::Interrupted(_))
}

fn succeeded(pass: Option<Pass>) {
    if let Some(pass) = pass {
        pass.succeeded();
    }
}

/// A reply whose member hears how it went; before its first delta it can still begin anew elsewhere.
struct Watched {
    state: Watching,
    pass: Option<Pass>,
    member: Arc<Member>,
    /// Set until the first delta, where other members are left.
    again: Option<Attempt>,
}

enum Watching {
    Reply(DeltaStream),
    /// The next member is being asked.
    Anew(BoxFuture<'static, Result<DeltaStream, EngineError>>),
    /// Another member's reply, which is watched by itself.
    Elsewhere(DeltaStream),
}

impl Watched {
    fn saw(&mut self, item: &Result<Delta, EngineError>) {
        match item {
            Ok(Delta::Finish { .. }) => succeeded(self.pass.take()),
            Ok(_) => {
                self.again = None;
                // Others wait for the one that tries: they need not wait for its whole reply.
                if self.tries() {
                    succeeded(self.pass.take());
                }
            }
            Err(error) if is_fault(error) => self.member.failed(self.pass.take(), error),
            Err(_) => succeeded(self.pass.take()),
        }
    }

    fn tries(&self) -> bool {
        self.pass.as_ref().is_some_and(Pass::tries)
    }
}

impl Stream for Watched {
    type Item = Result<Delta, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut self.state {
                Watching::Reply(stream) => {
                    let item = ready!(stream.poll_next_unpin(context));
                    // Nothing of the reply yet.
                    if matches!(&item, Some(Ok(delta)) if delta.is_mark()) {
                        return Poll::Ready(item);
                    }
                    // Only these say something new of a reply that has begun.
                    let more = matches!(item, Some(Ok(Delta::Text(_) | Delta::Written(_))));
                    let news = self.again.is_some() || !more || self.tries();
                    if let Some(item) = item.as_ref().filter(|_| news) {
                        self.saw(item);
                    }
                    match (item, self.again.take()) {
                        (Some(Err(error)), Some(mut again)) if is_fault(&error) || error.is_retryable() => {
                            again.note(error);
                            self.state = Watching::Anew(Box::pin(again.start()));
                        }
                        (item, _) => return Poll::Ready(item),
                    }
                }
                Watching::Anew(start) => match ready!(start.as_mut().poll(context)) {
                    Ok(stream) => self.state = Watching::Elsewhere(stream),
                    Err(error) => {
                        self.state = Watching::Elsewhere(futures::stream::empty().boxed());
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                Watching::Elsewhere(stream) => return stream.poll_next_unpin(context),
            }
        }
    }
}
