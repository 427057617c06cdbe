//! Sentence embedders: a BERT-class model on CPU ([`MiniLm`]), and a double for tests. The model's arithmetic is in
//! [`bert`]; here is how requests reach it: one thread of its own, what is queued together is embedded together, and a question
//! goes before a pile of texts, between two parts of it.

mod bert;
#[cfg(feature = "testing")]
mod hash;
pub mod request;

use std::collections::VecDeque;
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
/// Texts that are embedded at once: more would make the first of them wait for no gain in speed.
const GATHERED: usize = 64;
/// A request with so many texts is a question, which somebody waits for.
const FEW: usize = 2;
/// Bytes of a pile of texts that are embedded before it is looked whether there is a question: about 150 ms on two cores.
const PART: usize = 2_000;
/// How often questions go before a pile of texts in a row: it must not wait for ever.
const PASSED: usize = 16;
/// Bytes that a token stands for, about.
const A_TOKEN: usize = 4;

/// A BERT-class sentence embedder, such as all-MiniLM-L6-v2: mean pooling, vectors of length 1.
pub struct MiniLm {
    id: String,
    dimensions: usize,
    words: Arc<Words>,
    jobs: mpsc::Sender<Job>,
}

struct Job {
    texts: Vec<EmbedInput>,
    /// Of the texts that are done.
    vectors: Vec<Vec<f32>>,
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
        let job = Job {
            texts,
            vectors: Vec::new(),
            reply,
        };
        self.jobs.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

/// Answers until nobody can ask any more.
fn serve(model: &Bert, pool: &rayon::ThreadPool, mut queue: mpsc::Receiver<Job>) {
    let (mut waiting, mut passed) = (VecDeque::new(), 0);
    loop {
        if waiting.is_empty() {
            let Some(job) = queue.blocking_recv() else { return };
            waiting.push_back(job);
        }
        while waiting.len() < QUEUE
            && let Ok(job) = queue.try_recv()
        {
            waiting.push_back(job);
        }
        // Nobody waits for these any more.
        waiting.retain(|job| !job.reply.is_closed());
        let mut chosen = take(&mut waiting, &mut passed);
        work(model, pool, &mut chosen);
        for job in chosen.into_iter().rev() {
            if job.vectors.len() < job.texts.len() {
                waiting.push_front(job);
            } else {
                // An asker that has left needs no answer.
                let _left = job.reply.send(Ok(job.vectors));
            }
        }
    }
}

/// What is worked on now: the questions that wait, and else what came first. `passed` counts how often a pile was passed over.
fn take(waiting: &mut VecDeque<Job>, passed: &mut usize) -> Vec<Job> {
    let small = waiting.iter().filter(|job| job.texts.len() <= FEW).count();
    let passes = small > 0 && small < waiting.len();
    let questions = passes && *passed < PASSED;
    *passed = if questions { *passed + 1 } else { 0 };
    let (mut chosen, mut texts) = (Vec::new(), 0);
    let mut place = 0;
    while place < waiting.len() && texts < GATHERED {
        if questions && waiting[place].texts.len() > FEW {
            place += 1;
        } else if let Some(job) = waiting.remove(place) {
            texts += job.texts.len() - job.vectors.len();
            chosen.push(job);
        }
    }
    chosen
}

/// Embeds the next part of what these jobs have left, in their order.
fn work(model: &Bert, pool: &rayon::ThreadPool, jobs: &mut Vec<Job>) {
    let (mut part, mut bytes) = (Vec::new(), 0);
    let mut counts = Vec::with_capacity(jobs.len());
    for job in jobs.iter() {
        let before = part.len();
        for text in &job.texts[job.vectors.len()..] {
            if bytes >= PART || part.len() >= GATHERED {
                break;
            }
            bytes += match text {
                EmbedInput::Text(text) => text.len(),
                EmbedInput::Tokens(tokens) => tokens.len() * A_TOKEN,
            };
            part.push(text);
        }
        counts.push(part.len() - before);
    }
    // A panic in the arithmetic must not end the thread: every later request would hang.
    let result = catch_unwind(AssertUnwindSafe(|| model.embed(&part, pool)))
        .unwrap_or_else(|_| Err(EngineError::Unavailable("the embedder panicked on these texts".into())));
    match result {
        Ok(vectors) => {
            let mut vectors = vectors.into_iter();
            for (job, count) in jobs.iter_mut().zip(counts) {
                job.vectors.extend(vectors.by_ref().take(count));
            }
        }
        Err(error) => {
            for (job, count) in std::mem::take(jobs).into_iter().zip(counts) {
                if count > 0 {
                    let _left = job.reply.send(Err(error.clone()));
                } else {
                    jobs.push(job);
                }
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
