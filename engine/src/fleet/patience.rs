//! How long a silent engine is waited for: an engine whose reply doesn't begin in time, or stops coming, has failed. It
//! stands behind admission, so that time in the queue doesn't count.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use tokio::time::{Instant, Sleep};

use crate::{
    ChatRequest, Delta, DeltaStream, EmbedRequest, Embeddings, Engine, EngineError, Health, Load, ModelInfo,
    TokenCounter,
};

/// An engine that is given so much time.
pub struct Patience {
    inner: Arc<dyn Engine>,
    name: String,
    first: Duration,
    between: Duration,
}

impl Patience {
    /// `first` is the time until the first delta, from when the engine is asked; `between` the longest silence after
    /// it. `name` is what messages call the engine.
    #[must_use]
    pub fn new(inner: Arc<dyn Engine>, name: impl Into<String>, first: Duration, between: Duration) -> Self {
        Self {
            inner,
            name: name.into(),
            first,
            between,
        }
    }

    fn late(&self) -> EngineError {
        let within = self.first.as_secs_f64();
        EngineError::Unavailable(format!("{} did not begin to reply within {within} s", self.name))
    }
}

#[async_trait]
impl Engine for Patience {
    async fn chat(&self, request: ChatRequest) -> Result<DeltaStream, EngineError> {
        let asked = Instant::now();
        let stream = tokio::time::timeout(self.first, self.inner.chat(request))
            .await
            .map_err(|_| self.late())??;
        Ok(Timed {
            stream: Some(stream),
            name: self.name.clone(),
            between: self.between,
            begun: false,
            until: asked + self.first,
            alarm: None,
        }
        .boxed())
    }

    async fn embed(&self, request: EmbedRequest) -> Result<Embeddings, EngineError> {
        tokio::time::timeout(self.first, self.inner.embed(request))
            .await
            .map_err(|_| self.late())?
    }

    fn models(&self) -> Vec<ModelInfo> {
        self.inner.models()
    }

    fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>> {
        self.inner.token_counter(model)
    }

    fn relays(&self, model: &str) -> bool {
        self.inner.relays(model)
    }

    async fn health(&self) -> Health {
        self.inner.health().await
    }

    fn serves(&self, model: &str) -> bool {
        self.inner.serves(model)
    }

    fn resolve(&self, name: &str) -> String {
        self.inner.resolve(name)
    }

    fn load(&self) -> Load {
        self.inner.load()
    }
}

/// A reply that must not fall silent.
struct Timed {
    stream: Option<DeltaStream>,
    name: String,
    between: Duration,
    begun: bool,
    /// When its patience ends.
    until: Instant,
    /// Set when the stream first had nothing to give; it then rings at `until` or before, and is set again if that has
    /// moved: a timer a silence, not one a delta.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Stream for Timed {
    type Item = Result<Delta, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(item) = stream.poll_next_unpin(context) {
            if !matches!(&item, Some(Ok(delta)) if delta.is_mark()) {
                this.begun = true;
                this.until = Instant::now() + this.between;
            }
            return Poll::Ready(item);
        }
        let until = this.until;
        let alarm = this
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        while alarm.as_mut().poll(context).is_ready() {
            if Instant::now() >= until {
                this.stream = None;
                let error = if this.begun {
                    let silence = this.between.as_secs_f64();
                    EngineError::Interrupted(format!("{} sent nothing for {silence} s", this.name))
                } else {
                    EngineError::Unavailable(format!("{} did not begin to reply in time", this.name))
                };
                return Poll::Ready(Some(Err(error)));
            }
            alarm.as_mut().reset(until);
        }
        Poll::Pending
    }
}
