//! Bounds how much an engine does at once: so many replies run, so many wait in order, and the next is told to come
//! back later. An engine on CPU gains nothing from more; without a bound every reply would slow to nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{ChatRequest, Delta, DeltaStream, Engine, EngineError, Health, ModelInfo, TokenCounter};

/// What a reply is thought to take before one has been seen.
const FIRST_GUESS: Duration = Duration::from_secs(10);
/// The newest reply's share in the moving average.
const NEWEST: f64 = 0.2;
/// Nobody is told to come back later than this, in seconds.
const LATEST_RETRY_S: u64 = 600;

/// An engine behind a door: first come, first served.
pub struct Admission {
    inner: Arc<dyn Engine>,
    places: Arc<Places>,
}

struct Places {
    semaphore: Arc<Semaphore>,
    max_running: usize,
    max_waiting: usize,
    waiting: AtomicUsize,
    /// The moving average of a reply's time, in milliseconds.
    average_ms: AtomicUsize,
}

impl Admission {
    /// Lets `max_running` replies run at once (at least one) and `max_waiting` requests wait for a place.
    #[must_use]
    pub fn new(inner: Arc<dyn Engine>, max_running: usize, max_waiting: usize) -> Self {
        let max_running = max_running.clamp(1, Semaphore::MAX_PERMITS);
        let places = Places {
            semaphore: Arc::new(Semaphore::new(max_running)),
            max_running,
            max_waiting,
            waiting: AtomicUsize::new(0),
            average_ms: AtomicUsize::new(usize::try_from(FIRST_GUESS.as_millis()).unwrap_or(usize::MAX)),
        };
        Self {
            inner,
            places: Arc::new(places),
        }
    }

    /// Replies that run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.places.running()
    }

    /// Requests that wait for a place now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.places.waiting.load(Ordering::Relaxed)
    }
}

impl Places {
    fn running(&self) -> usize {
        self.max_running.saturating_sub(self.semaphore.available_permits())
    }

    /// A place, now or when the requests before this one have had theirs.
    async fn take(self: &Arc<Self>) -> Result<Place, EngineError> {
        // The semaphore hands a freed permit to the first waiter, so taking one here never overtakes anybody.
        let permit = if let Ok(permit) = Arc::clone(&self.semaphore).try_acquire_owned() {
            permit
        } else {
            let _queued = self.queue()?;
            let closed = |_| EngineError::Unavailable("the engine is shutting down; try again later".into());
            Arc::clone(&self.semaphore).acquire_owned().await.map_err(closed)?
        };
        Ok(Place {
            places: Arc::clone(self),
            _permit: permit,
            since: Instant::now(),
            counts: false,
        })
    }

    fn queue(&self) -> Result<Queued<'_>, EngineError> {
        let more = |waiting: usize| (waiting < self.max_waiting).then_some(waiting + 1);
        match self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Queued(&self.waiting)),
            Err(waiting) => Err(EngineError::Overloaded {
                running: self.running(),
                waiting,
                retry_after_s: self.retry_after_s(waiting),
            }),
        }
    }

    /// When those who wait now have been served, if replies take as long as they lately did.
    fn retry_after_s(&self, waiting: usize) -> u64 {
        let average = self.average_ms.load(Ordering::Relaxed);
        let ms = average.saturating_mul(waiting + 1) / self.max_running;
        u64::try_from(ms.div_ceil(1000))
            .unwrap_or(LATEST_RETRY_S)
            .clamp(1, LATEST_RETRY_S)
    }

    fn took(&self, time: Duration) {
        let ms = time.as_secs_f64() * 1000.0;
        let average = self.average_ms.load(Ordering::Relaxed) as f64;
        // Two replies that end at once may lose one update: it is a guess either way.
        self.average_ms
            .store((average + NEWEST * (ms - average)) as usize, Ordering::Relaxed);
    }
}

/// A request in the queue; leaves it on drop.
struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place that is taken; free on drop.
struct Place {
    places: Arc<Places>,
    _permit: OwnedSemaphorePermit,
    since: Instant,
    /// Whether its time says anything about a reply's time.
    counts: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.counts {
            self.places.took(self.since.elapsed());
        }
    }
}

/// A reply that holds its place until it ends or is dropped. The stream is dropped first: its work is cancelled
/// before the next one may begin.
struct Admitted {
    stream: Option<DeltaStream>,
    place: Option<Place>,
}

impl Stream for Admitted {
    type Item = Result<Delta, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(None);
        };
        let item = std::task::ready!(stream.poll_next_unpin(context));
        if matches!(item, None | Some(Err(_) | Ok(Delta::Finish { .. }))) {
            // What follows (recording, say) doesn't need the engine.
            self.stream = None;
            self.place = None;
        }
        Poll::Ready(item)
    }
}

#[async_trait]
impl Engine for Admission {
    async fn chat(&self, request: ChatRequest) -> Result<DeltaStream, EngineError> {
        let mut place = self.places.take().await?;
        let stream = self.inner.chat(request).await?;
        place.counts = true;
        Ok(Admitted {
            stream: Some(stream),
            place: Some(place),
        }
        .boxed())
    }

    fn models(&self) -> Vec<ModelInfo> {
        self.inner.models()
    }

    fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>> {
        self.inner.token_counter(model)
    }

    async fn health(&self) -> Health {
        self.inner.health().await
    }
}
