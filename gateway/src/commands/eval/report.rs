//! What `habit eval recall` found, as tables and as JSON.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use habit_memory::eval::dataset::{ADVERSARIAL, Sample};
use habit_memory::eval::{Outcome, Tally};
use habit_memory::query_vector::QueryVector;
use serde_json::{Value, json};

use crate::commands::measuring::percentiles;

/// A question and how it fared.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The sample that it is about.
    pub sample: usize,
    /// The question.
    pub text: String,
    /// Its category.
    pub category: i64,
    /// Turns that hold the answer.
    pub evidence: HashSet<String>,
    /// Its vector.
    pub vector: QueryVector,
    /// How long the vector took.
    pub embedding: Duration,
    /// How long the rest took.
    pub search: Duration,
    /// Turns that were found.
    pub found: usize,
    /// How they meet the evidence.
    pub outcome: Outcome,
}

impl Asked {
    fn counts(&self) -> bool {
        !self.evidence.is_empty()
    }
}

/// All of it.
pub struct Report {
    samples: Vec<String>,
    turns: usize,
    indexing: Duration,
    /// The questions.
    pub asked: Vec<Asked>,
    /// The same by other settings.
    pub arms: Vec<(String, Vec<Asked>)>,
    /// Questions to someone else's memory that were given something, and all of them.
    pub foreign: (usize, usize),
}

impl Report {
    /// Of these samples, recorded and indexed in this time.
    pub fn of(samples: &[Sample], indexing: Duration) -> Self {
        Self {
            samples: samples.iter().map(|sample| sample.name.clone()).collect(),
            turns: samples.iter().map(Sample::turns).sum(),
            indexing,
            asked: Vec::new(),
            arms: Vec::new(),
            foreign: (0, 0),
        }
    }

    fn skipped(&self) -> usize {
        self.asked.iter().filter(|asked| !asked.counts()).count()
    }

    /// Tallies, each with its name: all, without the adversarial, each category, each conversation.
    fn rows(&self) -> Vec<(String, Tally)> {
        let mut rows = vec![
            ("all".to_owned(), tally(&self.asked, |_| true)),
            (
                "answerable (without category 5)".to_owned(),
                tally(&self.asked, |asked| asked.category != ADVERSARIAL),
            ),
        ];
        let categories: BTreeMap<i64, ()> = self.asked.iter().map(|asked| (asked.category, ())).collect();
        for category in categories.into_keys() {
            let name = match category {
                1 => "category 1 (several turns)".to_owned(),
                2 => "category 2 (time)".to_owned(),
                3 => "category 3 (knowledge beside)".to_owned(),
                4 => "category 4 (one turn)".to_owned(),
                5 => "category 5 (adversarial)".to_owned(),
                other => format!("category {other}"),
            };
            rows.push((name, tally(&self.asked, |asked| asked.category == category)));
        }
        for (number, name) in self.samples.iter().enumerate() {
            rows.push((name.clone(), tally(&self.asked, |asked| asked.sample == number)));
        }
        rows.retain(|(_, tally)| tally.questions > 0);
        rows
    }

    fn latencies(&self) -> [(&'static str, [f64; 3]); 3] {
        let of = |value: &dyn Fn(&Asked) -> Duration| percentiles(self.asked.iter().map(value).collect());
        [
            ("embedding the question", of(&|asked| asked.embedding)),
            ("search and ranking", of(&|asked| asked.search)),
            ("both", of(&|asked| asked.embedding + asked.search)),
        ]
    }

    /// The figures.
    pub fn json(&self) -> Value {
        let rows = |rows: Vec<(String, Tally)>| -> Value {
            rows.into_iter()
                .map(|(name, tally)| (name, figures(&tally)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let arms = self
            .arms
            .iter()
            .map(|(name, asked)| (name.clone(), tally(asked, |_| true)))
            .collect();
        json!({
            "turns": self.turns,
            "questions": self.asked.len(),
            "skipped_without_evidence": self.skipped(),
            "indexing_s": self.indexing.as_secs_f64(),
            "recall": rows(self.rows()),
            "arms": rows(arms),
            "latency_ms": self.latencies().map(|(what, [p50, p95, p99])| json!({"what": what, "p50": p50, "p95": p95, "p99": p99})),
            "foreign": {"asked": self.foreign.1, "injected": self.foreign.0},
        })
    }
}

fn tally(asked: &[Asked], which: impl Fn(&Asked) -> bool) -> Tally {
    let mut tally = Tally::default();
    for asked in asked.iter().filter(|asked| asked.counts() && which(asked)) {
        tally.add(asked.outcome);
    }
    tally
}

fn figures(tally: &Tally) -> Value {
    let [one, five, ten] = tally.any();
    json!({"questions": tally.questions, "any@1": one, "any@5": five, "any@10": ten, "all@10": tally.all(), "mrr": tally.mrr() / 100.0})
}

fn table(f: &mut fmt::Formatter<'_>, title: &str, rows: &[(String, Tally)]) -> fmt::Result {
    writeln!(f, "\n{title:34} questions   any@1   any@5  any@10  all@10     MRR")?;
    for (name, tally) in rows {
        let [one, five, ten] = tally.any();
        let (questions, all, mrr) = (tally.questions, tally.all(), tally.mrr() / 100.0);
        writeln!(
            f,
            "{name:34} {questions:9} {one:7.1} {five:7.1} {ten:7.1} {all:7.1} {mrr:7.3}"
        )?;
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.turns as f64 / self.indexing.as_secs_f64().max(1e-9);
        writeln!(
            f,
            "{} turns of {} conversations, recorded and indexed in {:.1} s ({rate:.0} turns/s); {} questions",
            self.turns,
            self.samples.len(),
            self.indexing.as_secs_f64(),
            self.asked.len(),
        )?;
        if self.skipped() > 0 {
            writeln!(
                f,
                "{} of them name no turn as evidence and are not counted",
                self.skipped()
            )?;
        }
        table(f, "recall of turns, in percent", &self.rows())?;
        if !self.arms.is_empty() {
            let mut arms = vec![("as served".to_owned(), tally(&self.asked, |_| true))];
            arms.extend(
                self.arms
                    .iter()
                    .map(|(name, asked)| (name.clone(), tally(asked, |_| true))),
            );
            table(f, "with other settings", &arms)?;
        }
        writeln!(f, "\n{:34}       p50       p95       p99", "latency, in milliseconds")?;
        for (what, [p50, p95, p99]) in self.latencies() {
            writeln!(f, "{what:34} {p50:9.2} {p95:9.2} {p99:9.2}")?;
        }
        let (injected, all) = self.foreign;
        if all == 0 {
            return writeln!(
                f,
                "\nthe floor was not measured: that takes the questions of another conversation"
            );
        }
        let kept = (all - injected) as f64 * 100.0 / all as f64;
        writeln!(
            f,
            "\nthe floor: of {all} questions put to the memory of other people, {kept:.1} % were given nothing"
        )
    }
}
