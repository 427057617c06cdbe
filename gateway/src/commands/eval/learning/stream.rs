//! The order of things of one seed: which questions come in the stream, which later, and what changes half way.

use clap::ValueEnum;
use habit_engine::{Message, Role};
use habit_learning::examples::Example;
use habit_learning::random::Random;
use serde::Serialize;
use uuid::Uuid;

use super::data::{Data, Domain, Item};

/// What changes half way through the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Drift {
    /// The domain: the next one in the order of names.
    Switch,
    /// What the answers are called: each takes another's name.
    Permute,
}

/// Milliseconds between two turns.
const BETWEEN: i64 = 60_000;

/// The seeds of what is drawn, apart from each other.
const LATER: u64 = 1 << 32;

/// One seed's stream.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Asked, answered and corrected in this order.
    pub corrections: Vec<Example>,
    /// Asked when all is over, and before anything: what the stream was about last.
    pub later: Vec<Example>,
    /// Of another domain, or of the one that was switched from; none where all others are parts of the one.
    pub earlier: Vec<Example>,
}

impl Stream {
    /// Draws a stream.
    ///
    /// # Errors
    /// If a domain is unknown or has too few questions.
    pub fn draw(
        data: &Data,
        domain: &str,
        (corrections, later): (usize, usize),
        drift: Option<Drift>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let mut random = Random::new(seed);
        let mut after = Random::new(seed ^ LATER);
        let own = data.domain(domain)?;
        let next = data.next(domain);
        let none = Domain::default();
        let other = next.as_deref().map_or(Ok(&none), |next| data.domain(next))?;
        let next = next.unwrap_or_default();
        let half = if drift.is_some() { corrections / 2 } else { corrections };
        let (mut asked, mut last, earlier) = match drift {
            Some(Drift::Switch) => {
                anyhow::ensure!(
                    !next.is_empty(),
                    "no domain has nothing in common with `{domain}`, so there is none to switch to; take a smaller one, or \
                     --drift permute"
                );
                let mut asked = take(&own.stream, half, &mut random, domain)?;
                asked.extend(take(&other.stream, corrections - half, &mut random, &next)?);
                (asked, take(&other.later, later, &mut after, &next)?, &own.later)
            }
            _ => (
                take(&own.stream, corrections, &mut random, domain)?,
                take(&own.later, later, &mut after, domain)?,
                &other.later,
            ),
        };
        let earlier = take(earlier, later.min(earlier.len()), &mut after, &next)?;
        if drift == Some(Drift::Permute) {
            let renamed = renaming(&own.stream, &mut random);
            for item in asked[half..].iter_mut().chain(&mut last) {
                if let Some((_, name)) = renamed.iter().find(|(old, _)| *old == item.answer) {
                    item.answer.clone_from(name);
                }
            }
        }
        Ok(Self {
            corrections: examples(&asked, seed, 0),
            later: examples(&last, seed, 1),
            earlier: examples(&earlier, seed, 2),
        })
    }

    /// The corrections, each with the answer of another one, drawn by chance: feedback without a meaning.
    #[must_use]
    pub fn shuffled(&self, seed: u64) -> Vec<Example> {
        let mut answers: Vec<String> = self.corrections.iter().map(|example| example.answer.clone()).collect();
        Random::new(seed).shuffle(&mut answers);
        let mut corrections = self.corrections.clone();
        for (example, answer) in corrections.iter_mut().zip(answers) {
            example.answer = answer;
        }
        corrections
    }
}

fn take(items: &[Item], count: usize, random: &mut Random, domain: &str) -> anyhow::Result<Vec<Item>> {
    anyhow::ensure!(
        count <= items.len(),
        "the domain `{domain}` has {} questions, and {count} were asked for",
        items.len()
    );
    let mut items = items.to_vec();
    random.shuffle(&mut items);
    items.truncate(count);
    Ok(items)
}

/// Each name's new one: the next in an order drawn by chance, so that none keeps its own.
fn renaming(items: &[Item], random: &mut Random) -> Vec<(String, String)> {
    let mut names: Vec<String> = items.iter().map(|item| item.answer.clone()).collect();
    names.sort();
    names.dedup();
    random.shuffle(&mut names);
    let next = names.iter().cycle().skip(1);
    names.iter().cloned().zip(next.cloned()).collect()
}

fn examples(items: &[Item], seed: u64, part: u64) -> Vec<Example> {
    let all = items.iter().zip(0_u64..).map(|(item, number)| Example {
        id: Uuid::from_u64_pair(seed, (part << 32) + number + 1),
        messages: vec![Message::new(Role::User, item.text.clone())],
        answer: item.answer.clone(),
        at: number as i64 * BETWEEN,
        weight: 1.0,
        from: Vec::new(),
        user: "someone".to_owned(),
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::super::data::{Data, Domain, Item};
    use super::{Drift, Stream};

    fn data() -> Data {
        let items = |domain: &str, part: &str, count: usize| -> Vec<Item> {
            let item = |number| Item {
                text: format!("{domain} {part} {number}"),
                answer: format!("{domain} answer {}", number % 5),
            };
            (0..count).map(item).collect()
        };
        let domain = |name: &str| Domain {
            stream: items(name, "now", 40),
            later: items(name, "later", 20),
        };
        Data {
            name: "made",
            domains: BTreeMap::from(["home", "work"].map(|name| (name.to_owned(), domain(name)))),
            general: Vec::new(),
        }
    }

    fn draw(drift: Option<Drift>, seed: u64) -> Stream {
        Stream::draw(&data(), "home", (20, 10), drift, seed).expect("a stream")
    }

    #[test]
    fn seeds_repeat_and_differ_and_later_is_never_in_the_stream() {
        let one = draw(None, 1);
        assert_eq!(one.corrections, draw(None, 1).corrections);
        assert_ne!(one.corrections[0].question(), draw(None, 2).corrections[0].question());
        let now: HashSet<String> = one.corrections.iter().map(|example| example.question()).collect();
        assert!(now.len() == 20 && one.later.iter().all(|example| !now.contains(&example.question())));
        assert!(one.earlier.iter().all(|example| example.question().starts_with("work")));
        assert!(Stream::draw(&data(), "home", (41, 10), None, 1).is_err());
    }

    #[test]
    fn drift_changes_the_second_half() {
        let switched = draw(Some(Drift::Switch), 1);
        assert!(
            switched.corrections[..10]
                .iter()
                .all(|e| e.question().starts_with("home"))
        );
        assert!(
            switched.corrections[10..]
                .iter()
                .chain(&switched.later)
                .all(|e| e.question().starts_with("work"))
        );
        assert!(switched.earlier.iter().all(|e| e.question().starts_with("home")));
        let (plain, permuted) = (draw(None, 1), draw(Some(Drift::Permute), 1));
        assert_eq!(plain.corrections[..10], permuted.corrections[..10]);
        assert!(
            plain.corrections[10..]
                .iter()
                .zip(&permuted.corrections[10..])
                .all(|(a, b)| a.answer != b.answer)
        );
        assert!(
            plain
                .later
                .iter()
                .zip(&permuted.later)
                .all(|(a, b)| a.answer != b.answer)
        );
    }

    #[test]
    fn shuffling_keeps_questions_and_frequencies() {
        let stream = draw(None, 1);
        let shuffled = stream.shuffled(9);
        let sorted = |examples: &[super::Example]| {
            let mut answers: Vec<String> = examples.iter().map(|example| example.answer.clone()).collect();
            answers.sort();
            answers
        };
        assert_eq!(sorted(&shuffled), sorted(&stream.corrections));
        assert!(
            shuffled
                .iter()
                .zip(&stream.corrections)
                .all(|(a, b)| a.messages == b.messages)
        );
        assert_ne!(shuffled, stream.corrections);
    }
}
