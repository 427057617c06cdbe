//! Sentence embedders: a BERT-class model on CPU ([`MiniLm`]), and a double for tests. The model's arithmetic is in
//! [`bert`]; here is how requests reach it: one thread of its own, and what is queued together is embedded together.

mod bert;
#[cfg(feature = "testing")]
mod hash;
pub mod request;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

pub use bert::Bert;
#[cfg(feature = "testing")]
pub use hash::HashEmbedder;

use self::bert::Words;
use crate::{EmbedInput, Embedder, EngineError, TokenEmbedder};

/// Requests that may wait for the thread; a further one waits to be queued.
const QUEUE: usize = 256;
/// Texts that are taken from the queue at once: more would make the first of them wait for no gain in speed.
const GATHERED: usize = 64;

/// A BERT-class sentence embedder, such as all-MiniLM-L6-v2: mean pooling, vectors of length 1.
pub struct MiniLm {
    id: String,
    dimensions: usize,
    words: Arc<Words>,
    jobs: mpsc::Sender<Job>,
}

struct Job {
    texts: Vec<EmbedInput>,
    reply: oneshot::Sender<Result<Vec<Vec<f32>>, EngineError>>,
}

impl MiniLm {
    /// Loads the model of a directory (`config.json`, `tokenizer.json`, `model.safetensors`) and starts its thread;
    /// `threads` compute (0: as many as the machine has). Blocks while it reads.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] if the directory doesn't hold a BERT-class model.
    pub fn load(dir: &Path, threads: usize) -> Result<Self, EngineError> {
        let model = Bert::load(dir)?;
        let unavailable = |error: &dyn std::fmt::Display| {
            EngineError::Unavailable(format!("the embedder's threads can't be started: {error}"))
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("habit-embed-{n}"))
            .build()
            .map_err(|error| unavailable(&error))?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (id, dimensions, words) = (model.id().to_owned(), model.dimensions(), model.words());
        std::thread::Builder::new()
            .name("habit-embedder".into())
            .spawn(move || serve(&model, &pool, queue))
            .map_err(|error| unavailable(&error))?;
        Ok(Self {
            id,
            dimensions,
            words,
            jobs,
        })
    }

    async fn queued(&self, texts: Vec<EmbedInput>) -> Result<Vec<Vec<f32>>, EngineError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let stopped = || EngineError::Unavailable("the embedder's thread has stopped; restart Habit".into());
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { texts, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

/// Answers until nobody can ask any more.
fn serve(model: &Bert, pool: &rayon::ThreadPool, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut texts = first.texts.len();
        let mut jobs = vec![first];
        while texts < GATHERED
            && let Ok(job) = queue.try_recv()
        {
            texts += job.texts.len();
            jobs.push(job);
        }
        // Nobody waits for these any more.
        jobs.retain(|job| !job.reply.is_closed());
        answer(model, pool, jobs);
    }
}

fn answer(model: &Bert, pool: &rayon::ThreadPool, jobs: Vec<Job>) {
    let texts: Vec<&EmbedInput> = jobs.iter().flat_map(|job| &job.texts).collect();
    // A panic in the arithmetic must not end the thread: every later request would hang.
    let result = catch_unwind(AssertUnwindSafe(|| model.embed(&texts, pool)))
        .unwrap_or_else(|_| Err(EngineError::Unavailable("the embedder panicked on these texts".into())));
    match result {
        Ok(vectors) => {
            let mut vectors = vectors.into_iter();
            for job in jobs {
                let share = vectors.by_ref().take(job.texts.len()).collect();
                // An asker that has left needs no answer.
                let _left = job.reply.send(Ok(share));
            }
        }
        Err(error) => {
            for job in jobs {
                let _left = job.reply.send(Err(error.clone()));
            }
        }
    }
}

#[async_trait]
impl Embedder for MiniLm {
    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EngineError> {
        self.queued(texts.into_iter().map(EmbedInput::Text).collect()).await
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn tokens(&self) -> Option<&dyn TokenEmbedder> {
        Some(self)
    }
}

#[async_trait]
impl TokenEmbedder for MiniLm {
    fn encode(&self, text: &str) -> Vec<u32> {
        self.words.encode(text)
    }

    fn surround(&self, tokens: &[u32]) -> Option<Vec<u32>> {
        self.words.surround(tokens)
    }

    fn window(&self) -> usize {
        self.words.window
    }

    async fn embed_tokens(&self, texts: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, EngineError> {
        self.queued(texts.into_iter().map(EmbedInput::Tokens).collect()).await
    }
}
