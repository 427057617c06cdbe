//! The nearest corrected questions, found as the few-shot layer finds them and shown as it shows them.

use std::collections::HashMap;

use habit_engine::{Embedder, Message, Role};
use habit_learning::examples::Example;
use habit_learning::few_shot::Bank;

use super::stream::Stream;
use crate::commands::progress;

/// Texts that are embedded at a time.
const BATCH: usize = 32;

/// The corrections of a stream, and the vectors of all that is asked.
pub struct Nearest {
    bank: Bank,
    vectors: HashMap<String, Vec<f32>>,
    /// Corrected questions that are shown, at most, and how near they must be.
    limits: (usize, f32),
}

impl Nearest {
    /// Embeds the questions of a stream.
    ///
    /// # Errors
    /// If the embedder can't run.
    pub async fn new(embedder: &dyn Embedder, stream: &Stream, limits: (usize, f32)) -> anyhow::Result<Self> {
        let all = stream.corrections.iter().chain(&stream.later).chain(&stream.earlier);
        let questions: Vec<String> = all.map(Example::question).collect();
        let bar = progress::counting("embedding questions", questions.len() as u64);
        let mut vectors = HashMap::new();
        for batch in questions.chunks(BATCH) {
            let made = embedder.embed(batch.to_vec()).await?;
            vectors.extend(batch.iter().cloned().zip(made));
            bar.inc(batch.len() as u64);
        }
        bar.finish_and_clear();
        Ok(Self {
            bank: Bank::build(embedder, stream.corrections.clone(), None).await?,
            vectors,
            limits,
        })
    }

    /// Corrections of before `until` (Unix milliseconds), the nearest first.
    fn find(&self, example: &Example, until: i64, floor: f32) -> impl Iterator<Item = &Example> {
        let own = self.vectors.get(&example.question());
        let all = self.bank.examples().len();
        let near = own.map(|own| self.bank.nearest(own, all, floor)).unwrap_or_default();
        near.into_iter()
            .map(|shot| shot.example)
            .filter(move |known| known.at < until)
    }

    /// The nearest one's answer, however far it is.
    #[must_use]
    pub fn copied(&self, example: &Example, until: i64) -> Option<String> {
        self.find(example, until, -1.0).next().map(|near| near.answer.clone())
    }

    /// The example, asked after the nearest ones with their answers, the nearest last.
    #[must_use]
    pub fn shown(&self, example: &Example, until: i64) -> Example {
        let (count, floor) = self.limits;
        let near: Vec<&Example> = self.find(example, until, floor).take(count).collect();
        let before = near.iter().rev().flat_map(|near| {
            let answer = Message::new(Role::Assistant, near.answer.clone());
            near.messages.iter().cloned().chain([answer])
        });
        let mut shown = example.clone();
        shown.messages = before.chain(example.messages.iter().cloned()).collect();
        shown
    }
}
