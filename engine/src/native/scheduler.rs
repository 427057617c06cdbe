//! What runs together: one thread that takes all running sequences a step further, again and again.
//!
//! A step computes one token of each reply in the making and a chunk of the prompts that are still being read, so a long
//! prompt does not stall the others, and whoever left is noticed between two steps.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rayon::{ThreadPool, prelude::*};
use tokio::sync::oneshot;

use super::cache::PrefixCache;
use super::forward::{Row, forward};
use super::kv::Kv;
use super::weights::Weights;
use crate::generate::reply::{Reply, Step};

/// Tokens of prompts that a step reads when no reply waits for it: larger chunks are hardly faster.
const CHUNK_ALONE: usize = 128;

/// Tokens of prompts that a step reads beside replies: each of them waits so much longer for its next token.
const CHUNK_BESIDE: usize = 48;

/// What is asked of the engine's thread.
pub(super) struct Job {
    pub(super) tokens: Vec<u32>,
    /// Tokens that may follow.
    pub(super) limit: usize,
    /// Whose it is; see [`PrefixCache`].
    pub(super) owner: String,
    pub(super) work: Work,
}

/// What becomes of the logits.
pub(super) enum Work {
    /// A reply is made.
    Reply(Box<Reply>),
    /// They are handed over: of all the tokens, one after the other.
    Logits(Vec<f32>, oneshot::Sender<Vec<f32>>),
    /// The step that takes it up fails, as by a bug.
    #[cfg(feature = "testing")]
    Crash,
}

/// What a step made of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It goes on.
    On,
    Done,
    /// What its logits were made into failed.
    Broken,
}

/// Bounds of the scheduler.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Sequences that run together.
    pub(super) sequences: usize,
    /// Memory for keys and values of running sequences, in bytes. One sequence always runs.
    pub(super) running_bytes: u64,
    /// Memory for those of finished ones.
    pub(super) cache_bytes: u64,
}

struct Running {
    tokens: Vec<u32>,
    kv: Kv,
    /// Bytes that its keys and values may come to.
    reserved: u64,
    owner: String,
    work: Work,
}

/// See the module.
pub(super) struct Scheduler {
    weights: Arc<Weights>,
    pool: ThreadPool,
    bounds: Bounds,
    cache: PrefixCache,
    waiting: VecDeque<Job>,
    running: Vec<Running>,
}

impl Work {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Reply(reply) => reply.pieces.is_closed(),
            Self::Logits(_, answer) => answer.is_closed(),
            #[cfg(feature = "testing")]
            Self::Crash => false,
        }
    }
}

impl Scheduler {
    pub(super) fn new(weights: Arc<Weights>, pool: ThreadPool, bounds: Bounds) -> Self {
        Self {
            cache: PrefixCache::new(weights.shape.kv, bounds.cache_bytes),
            weights,
            pool,
            bounds,
            waiting: VecDeque::new(),
            running: Vec::new(),
        }
    }

    /// Works until nobody can send jobs any more and all that were sent are done.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            if self.running.is_empty() && self.waiting.is_empty() {
                let Ok(job) = jobs.recv() else { return };
                self.waiting.push_back(job);
            }
            while let Ok(job) = jobs.try_recv() {
                self.waiting.push_back(job);
            }
            let step = AssertUnwindSafe(|| {
                self.admit();
                self.step();
            });
            if catch_unwind(step).is_err() {
                self.start_anew();
            }
        }
    }

    /// After a step that failed: the weights can't have changed, and all else is let go. The streams of the replies that
    /// ran end without a finish, which tells their readers; those that waited are taken up.
    fn start_anew(&mut self) {
        let replies = self.running.len();
        tracing::error!(replies, "the engine failed in a step; its replies break off");
        self.running.clear();
        self.cache = PrefixCache::new(self.weights.shape.kv, self.bounds.cache_bytes);
    }

    /// Begins what there is room for, in order.
    fn admit(&mut self) {
        self.waiting.retain(|job| !job.work.is_abandoned());
        while self.running.len() < self.bounds.sequences {
            let Some(job) = self.waiting.front() else { return };
            let reserved = self.weights.shape.kv.bytes(job.tokens.len() + job.limit);
            let held: u64 = self.running.iter().map(|running| running.reserved).sum();
            if held > 0 && held + reserved > self.bounds.running_bytes {
                return;
            }
            let Some(job) = self.waiting.pop_front() else { return };
            let mut running = Running {
                kv: Kv::new(self.weights.shape.kv),
                tokens: job.tokens,
                reserved,
                owner: job.owner,
                work: job.work,
            };
            #[cfg(feature = "testing")]
            #[allow(clippy::panic, reason = "a test asked for it")]
            if matches!(running.work, Work::Crash) {
                panic!("a test asked for it");
            }
            if let Work::Reply(reply) = &mut running.work {
                running.kv = self.cache.find(&running.owner, &running.tokens);
                reply.cached_tokens = running.kv.len();
            }
            self.running.push(running);
        }
    }

    /// Takes all running sequences a token, or a chunk, further.
    fn step(&mut self) {
        for gone in self.running.extract_if(.., |running| running.work.is_abandoned()) {
            self.cache.keep(gone.owner, &gone.tokens, &gone.kv);
        }
        let rows = self.rows();
        if rows.is_empty() {
            return;
        }
        let (weights, running) = (&*self.weights, &mut self.running);
        let vocabulary = weights.vocabulary();
        let outcomes = self.pool.install(|| {
            let mut sequences: Vec<&mut Kv> = running.iter_mut().map(|running| &mut running.kv).collect();
            let mut logits = forward(weights, &rows, &mut sequences);
            // In the order of the rows, so each sequence's are together.
            let mut wanted = logits.as_mut_slice();
            let mut steps = Vec::with_capacity(running.len());
            for (index, running) in running.iter_mut().enumerate() {
                let own = rows.iter().filter(|row| row.sequence == index && row.wanted).count();
                let (now, later) = wanted.split_at_mut(own * vocabulary);
                wanted = later;
                steps.push((running, now));
            }
            steps
                .into_par_iter()
                .with_max_len(1)
                .map(|(running, logits)| {
                    // A reply's own grammar or template of calls may fail; the others have nothing to do with it.
                    catch_unwind(AssertUnwindSafe(|| running.step(logits))).unwrap_or(Outcome::Broken)
                })
                .collect::<Vec<Outcome>>()
        });
        let mut each = outcomes.iter();
        let over = |outcome: Option<&Outcome>| outcome.is_some_and(|outcome| *outcome != Outcome::On);
        let over = self.running.extract_if(.., |_| over(each.next()));
        let how = outcomes.iter().filter(|outcome| **outcome != Outcome::On);
        for (done, outcome) in over.zip(how) {
            match done.work {
                _ if *outcome == Outcome::Broken => tracing::error!("a reply failed in a step and breaks off"),
                // Who asked may have left meanwhile.
                Work::Logits(logits, answer) => drop(answer.send(logits)),
                _ => self.cache.keep(done.owner, &done.tokens, &done.kv),
            }
        }
    }

    /// The next step's rows: one for each reply in the making, and a chunk of prompts, the oldest first.
    fn rows(&self) -> Vec<Row> {
        let reading = |running: &Running| running.tokens.len() - running.kv.len() > 1;
        let beside = self.running.iter().any(|running| !reading(running));
        let mut budget = if beside { CHUNK_BESIDE } else { CHUNK_ALONE };
        let mut rows = Vec::new();
        for (sequence, running) in self.running.iter().enumerate() {
            let from = running.kv.len();
            let left = running.tokens.len() - from;
            let take = if reading(running) { left.min(budget) } else { left };
            if reading(running) {
                budget -= take;
            }
            let all = matches!(running.work, Work::Logits(..));
            let tokens = running.tokens[from..from + take].iter().enumerate();
            rows.extend(tokens.map(|(at, token)| Row {
                sequence,
                token: *token,
                position: from + at,
                wanted: all || at + 1 == left,
            }));
        }
        rows
    }
}

impl Running {
    /// Takes the logits of its wanted rows.
    fn step(&mut self, logits: &mut [f32]) -> Outcome {
        match &mut self.work {
            Work::Logits(all, _) => {
                all.extend_from_slice(logits);
                let whole = self.kv.len() == self.tokens.len();
                if whole { Outcome::Done } else { Outcome::On }
            }
            // A chunk of the prompt that was not its last.
            Work::Reply(_) if logits.is_empty() => Outcome::On,
            Work::Reply(reply) => match reply.step(logits) {
                Step::Token(token) => {
                    self.tokens.push(token);
                    Outcome::On
                }
                Step::End => Outcome::Done,
            },
            #[cfg(feature = "testing")]
            Work::Crash => Outcome::Done,
        }
    }
}
