//! [`QueryVector`]: the embedding of a question, which may still be on its way. Whoever searches can do meanwhile what words
//! alone are enough for.

use std::sync::Arc;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::Shared;

/// A question's vector: known, coming, or none. Clones are of the same one.
#[derive(Debug, Clone, Default)]
pub struct QueryVector(State);

#[derive(Debug, Clone, Default)]
enum State {
    #[default]
    None,
    Known(Arc<Vec<f32>>),
    Coming(Shared<oneshot::Receiver<Arc<Vec<f32>>>>),
}

/// Whoever holds this is waited for: it says what the vector is, or is dropped, and there is none.
#[derive(Debug)]
pub struct Promise(oneshot::Sender<Arc<Vec<f32>>>);

impl Promise {
    /// This is the vector.
    pub fn keep(self, vector: Arc<Vec<f32>>) {
        // Where nobody waits any more, nobody needs it.
        let _unheard = self.0.send(vector);
    }
}

impl QueryVector {
    /// One that comes, and the promise of it.
    #[must_use]
    pub fn coming() -> (Promise, Self) {
        let (sender, receiver) = oneshot::channel();
        (Promise(sender), Self(State::Coming(receiver.shared())))
    }

    /// Whether there is one, or may be.
    #[must_use]
    pub fn may_be(&self) -> bool {
        !matches!(self.0, State::None)
    }

    /// It, when it is there; `None` if there is none, or none will come.
    pub async fn get(&self) -> Option<Arc<Vec<f32>>> {
        match &self.0 {
            State::None => None,
            State::Known(vector) => Some(Arc::clone(vector)),
            State::Coming(vector) => vector.clone().await.ok(),
        }
    }

    /// The same, known or none.
    pub async fn settled(&self) -> Self {
        self.get().await.into()
    }

    /// It, if it is known by now.
    #[must_use]
    pub fn known(&self) -> Option<&Arc<Vec<f32>>> {
        match &self.0 {
            State::None => None,
            State::Known(vector) => Some(vector),
            State::Coming(vector) => vector.peek()?.as_ref().ok(),
        }
    }

    /// As [`QueryVector::get`], on a thread that may be kept waiting.
    #[must_use]
    pub(crate) fn wait(&self) -> Option<Arc<Vec<f32>>> {
        match &self.0 {
            State::Coming(vector) if vector.peek().is_none() => futures::executor::block_on(vector.clone()).ok(),
            _ => self.known().cloned(),
        }
    }
}

impl From<Option<Arc<Vec<f32>>>> for QueryVector {
    fn from(vector: Option<Arc<Vec<f32>>>) -> Self {
        Self(vector.map_or(State::None, State::Known))
    }
}

impl From<Option<Vec<f32>>> for QueryVector {
    fn from(vector: Option<Vec<f32>>) -> Self {
        vector.map(Arc::new).into()
    }
}

impl From<Vec<f32>> for QueryVector {
    fn from(vector: Vec<f32>) -> Self {
        Some(vector).into()
    }
}
