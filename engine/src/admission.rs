//! Bounds how much an engine does at once: so many replies run, so many requests wait, and the next is told to come
//! back later. An engine on CPU gains nothing from more; without a bound every reply would slow to nothing. Who waits is
//! served in a fair order, which is [`queue`]'s business.

pub mod queue;

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use tokio::sync::oneshot;

use self::queue::{Queue, Ticket};
use crate::{
    ChatRequest, Delta, DeltaStream, EmbedRequest, Embeddings, Engine, EngineError, Health, Load, ModelInfo, Priority,
    TokenCounter,
};

/// What a reply is thought to take before one has been seen.
const FIRST_GUESS: Duration = Duration::from_secs(10);
/// The newest reply's share in the moving average.
const NEWEST: f64 = 0.2;
/// Nobody is told to come back later than this, in seconds.
const LATEST_RETRY_S: u64 = 600;

/// An engine behind a door: each tenant in turn, interactive requests first.
pub struct Admission {
    inner: Arc<dyn Engine>,
    places: Arc<Places>,
}

struct Places {
    max_running: usize,
    max_waiting: usize,
    /// How many run and wait. While none waits, places are taken and given back by this alone; who waits, and every
    /// change while someone waits, needs the lock of `queue` too.
    count: AtomicCount,
    queue: Mutex<Queue<oneshot::Sender<Result<Place, EngineError>>>>,
    /// The moving average of a reply's time, in milliseconds.
    average_ms: AtomicUsize,
}

/// Two counts that change together.
#[derive(Default)]
struct AtomicCount(AtomicU64);

#[derive(Clone, Copy, PartialEq, Eq)]
struct Count {
    running: u32,
    waiting: u32,
}

impl AtomicCount {
    fn load(&self) -> Count {
        Count::from(self.0.load(Ordering::Acquire))
    }

    /// Changes the counts if `change` allows it, and tells whether it did.
    fn update(&self, mut change: impl FnMut(Count) -> Option<Count>) -> bool {
        let change = |word| change(Count::from(word)).map(u64::from);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok()
    }
}

impl From<u64> for Count {
    fn from(word: u64) -> Self {
        Self {
            running: (word >> 32) as u32,
            waiting: word as u32,
        }
    }
}

impl From<Count> for u64 {
    fn from(count: Count) -> Self {
        (Self::from(count.running) << 32) | Self::from(count.waiting)
    }
}

impl Admission {
    /// Lets `max_running` replies run at once (at least one) and `max_waiting` requests wait for a place.
    #[must_use]
    pub fn new(inner: Arc<dyn Engine>, max_running: usize, max_waiting: usize) -> Self {
        let most = u32::MAX as usize;
        let places = Places {
            max_running: max_running.clamp(1, most),
            max_waiting: max_waiting.min(most),
            count: AtomicCount::default(),
            queue: Mutex::default(),
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
        self.places.count.load().running as usize
    }

    /// Requests that wait for a place now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.places.count.load().waiting as usize
    }
}

impl Places {
    /// A place, now or when it is this tenant's turn.
    async fn take(self: &Arc<Self>, priority: Priority, tenant: &str) -> Result<Place, EngineError> {
        // Nobody who waits is overtaken: a free place is only taken here while none waits.
        if self.count.update(|count| self.one_more_runs(count)) {
            return Ok(Place::new(self));
        }
        let (ticket, granted) = match self.line_up(priority, tenant)? {
            Lined::Free => return Ok(Place::new(self)),
            Lined::Waits(ticket, granted) => (ticket, granted),
        };
        let mut waits = Waits {
            places: self,
            ticket: Some(ticket),
        };
        let answer = granted.await;
        // It was called: the queue doesn't have it any more.
        waits.ticket = None;
        let closed = |_| EngineError::Unavailable("the engine is shutting down; try again later".into());
        answer.map_err(closed)?
    }

    fn one_more_runs(&self, count: Count) -> Option<Count> {
        let free = count.waiting == 0 && (count.running as usize) < self.max_running;
        free.then_some(Count {
            running: count.running + 1,
            ..count
        })
    }

    fn line_up(&self, priority: Priority, tenant: &str) -> Result<Lined, EngineError> {
        let mut queue = self.queue();
        // Under the lock `waiting` stands still, but a place may have come free since the caller looked.
        let mut free = false;
        let fits = self.count.update(|count| {
            let runs = self.one_more_runs(count);
            free = runs.is_some();
            let room = (count.waiting as usize) < self.max_waiting;
            runs.or(room.then_some(Count {
                waiting: count.waiting + 1,
                ..count
            }))
        });
        if fits && free {
            return Ok(Lined::Free);
        }
        let (call, granted) = oneshot::channel();
        let sent_away = if fits {
            None
        } else {
            // Whose place in the queue it takes is told to come back later: the count stays as it is.
            Some(
                queue
                    .make_room(priority, tenant)
                    .ok_or_else(|| self.overloaded(queue.len()))?,
            )
        };
        let ticket = queue.push(priority, tenant, call);
        let waiting = queue.len();
        drop(queue);
        if let Some(call) = sent_away {
            // Gone anyway if it no longer listens.
            let _ = call.send(Err(self.overloaded(waiting)));
        }
        Ok(Lined::Waits(ticket, granted))
    }

    /// Gives a place to who is next, or back.
    fn give_back(self: &Arc<Self>) {
        loop {
            let none_waits = self.count.update(|count| {
                (count.waiting == 0).then_some(Count {
                    running: count.running.saturating_sub(1),
                    ..count
                })
            });
            if none_waits {
                return;
            }
            let mut queue = self.queue();
            let Some(call) = queue.pop() else { continue };
            self.one_less_waits();
            drop(queue);
            match call.send(Ok(Place::new(self))) {
                Ok(()) => return,
                // It left in this very moment: the place is still to be given.
                Err(place) => place.into_iter().for_each(Place::forget),
            }
        }
    }

    /// Under the lock only.
    fn one_less_waits(&self) {
        self.count.update(|count| {
            Some(Count {
                waiting: count.waiting.saturating_sub(1),
                ..count
            })
        });
    }

    fn queue(&self) -> MutexGuard<'_, Queue<oneshot::Sender<Result<Place, EngineError>>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn overloaded(&self, waiting: usize) -> EngineError {
        EngineError::Overloaded {
            running: self.count.load().running as usize,
            waiting,
            retry_after_s: self.retry_after_s(waiting),
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

enum Lined {
    /// A place came free in the meantime, and is taken.
    Free,
    Waits(Ticket, oneshot::Receiver<Result<Place, EngineError>>),
}

/// A request in the queue; leaves it on drop.
struct Waits<'a> {
    places: &'a Arc<Places>,
    ticket: Option<Ticket>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let Some(ticket) = &self.ticket else { return };
        let mut queue = self.places.queue();
        // If it is not there any more, it was just given a place, which goes back with the channel.
        if queue.remove(ticket).is_some() {
            self.places.one_less_waits();
        }
    }
}

/// A place that is taken; free on drop.
struct Place {
    places: Option<Arc<Places>>,
    since: Instant,
    /// Whether its time says anything about a reply's time.
    counts: bool,
}

impl Place {
    fn new(places: &Arc<Places>) -> Self {
        Self {
            places: Some(Arc::clone(places)),
            since: Instant::now(),
            counts: false,
        }
    }

    /// Without giving it back.
    fn forget(mut self) {
        self.places = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(places) = self.places.take() else { return };
        if self.counts {
            places.took(self.since.elapsed());
        }
        places.give_back();
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
        let mut place = self.places.take(request.priority, &request.tenant).await?;
        let stream = self.inner.chat(request).await?;
        place.counts = true;
        Ok(Admitted {
            stream: Some(stream),
            place: Some(place),
        }
        .boxed())
    }

    async fn embed(&self, request: EmbedRequest) -> Result<Embeddings, EngineError> {
        let _place = self.places.take(Priority::Interactive, "").await?;
        self.inner.embed(request).await
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
        let Count { running, waiting } = self.places.count.load();
        // Nobody locks to learn that nobody waits.
        let waiting_background = if waiting == 0 {
            0
        } else {
            self.places.queue().background()
        };
        Load {
            running: running as usize,
            max_running: self.places.max_running,
            waiting: waiting as usize,
            waiting_background,
            max_waiting: self.places.max_waiting,
        }
    }
}
