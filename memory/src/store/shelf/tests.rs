//! A search of shelves against the definition, worked out the slow way.

use proptest::prelude::*;

use super::*;
use crate::index::{Hit, Owner, Query};
use crate::passage::SourceKind;

const K1: f32 = 0.9;
const B: f32 = 0.75;

/// Many entries have the first of these, few the last.
const VOCABULARY: [&str; 9] = [
    "buoy", "harbour", "lantern", "violin", "cello", "orchard", "meadow", "quarry", "zeppelin",
];

#[derive(Debug, Clone)]
struct Said {
    session: u8,
    at: i64,
    words: Vec<usize>,
    closed: bool,
    vector: [f32; 4],
    removed: bool,
}

prop_compose! {
    fn said()(
        session in 0_u8..3, at in 0_i64..40, closed in prop::bool::weighted(0.1), removed in prop::bool::weighted(0.15),
        words in prop::collection::vec((0.0_f64..1.0).prop_map(|at| (at.powi(3) * 9.0) as usize), 0..7),
        vector in prop::array::uniform4(-1.0_f32..1.0),
    ) -> Said {
        Said { session, at, words, closed, vector, removed }
    }
}

impl Said {
    fn entry(&self, number: usize) -> Entry {
        let words: Vec<&str> = self.words.iter().map(|word| VOCABULARY[*word]).collect();
        let id = Uuid::from_u128(number as u128 + 1);
        Entry {
            id,
            parent: id,
            source: SourceKind::Recalled,
            owner: Owner {
                team: "red".to_owned(),
                user: Some("ann".to_owned()),
                conversation: self.closed.then(|| "closed".to_owned()),
            },
            session: format!("session {}", self.session),
            speaker: None,
            text: words.join(" "),
            words: words.len() as u32,
            states: true,
            vector: self.vector.to_vec(),
            at: self.at,
        }
    }

    fn count(&self, stem: &str) -> f32 {
        let is = |word: &&usize| words::stem(VOCABULARY[**word]) == stem;
        self.words.iter().filter(is).count() as f32
    }
}

/// What is on the shelf, by the definition.
struct Slow<'a> {
    /// Live ones, with their numbers.
    said: Vec<(usize, &'a Said)>,
    /// Sessions, with those of which nothing is left.
    sessions: usize,
    around: bool,
}

impl<'a> Slow<'a> {
    fn beside(&self, number: usize) -> [Option<&'a Said>; 2] {
        let own = self
            .said
            .iter()
            .find(|(other, _)| *other == number)
            .expect("it is live")
            .1;
        let mut session: Vec<&(usize, &Said)> = self
            .said
            .iter()
            .filter(|(_, said)| said.session == own.session)
            .collect();
        session.sort_by_key(|(number, said)| (said.at, *number));
        let at = session
            .iter()
            .position(|(other, _)| *other == number)
            .expect("it is in its session");
        let get = |at: Option<usize>| Some(session.get(at?)?.1);
        [get(at.checked_sub(1)), get(Some(at + 1))]
    }

    /// A value of an entry and, for half, of those beside it.
    fn window(&self, number: usize, said: &Said, value: impl Fn(&Said) -> f32) -> f32 {
        let beside = self.beside(number).into_iter().flatten().map(&value).sum::<f32>();
        value(said) + if self.around { WINDOW * beside } else { 0.0 }
    }

    fn rarity(&self, stem: &str) -> f32 {
        let found = self.said.iter().filter(|(_, said)| said.count(stem) > 0.0).count() as f32;
        let all = self.said.len() as f32;
        (1.0 + (all - found + 0.5) / (found + 0.5)).ln()
    }

    fn bm25(&self, number: usize, said: &Said, asked: &[(String, Vec<(String, f32)>)]) -> f32 {
        let all = self.said.len() as f32;
        let mean = self.said.iter().map(|(_, said)| said.words.len() as f32).sum::<f32>() / all;
        let beside = if self.around {
            (all - self.sessions as f32).max(0.0) / all
        } else {
            0.0
        };
        let length = self.window(number, said, |said| said.words.len() as f32) / (mean * (1.0 + beside)).max(1.0);
        let norm = K1 * (1.0 - B + B * length);
        let score = |stem: &str, weight: f32| {
            let count = self.window(number, said, |said| said.count(stem));
            weight * count * (K1 + 1.0) / (count + norm)
        };
        let terms = asked.iter().map(|(stem, alike)| {
            let alike = alike
                .iter()
                .filter(|(stem, _)| self.rarity(stem) < self.rarity("nowhere"));
            let alike = alike.map(|(stem, worth)| score(stem, worth * self.rarity(stem)));
            alike.fold(score(stem, self.rarity(stem)), f32::max)
        });
        terms.sum()
    }
}

fn near(one: Option<f32>, other: f32) -> bool {
    (one.unwrap_or_default() - other).abs() < 1e-3
}

proptest! {
    // The slow way is slow.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Put in any order, some removed again, some closed to who asks.
    #[test]
    fn what_is_found_is_what_the_definition_says(
        all in prop::collection::vec(said(), 1..40), asked in prop::collection::btree_set(0_usize..9, 0..3),
        alike in prop::collection::vec(0_usize..9, 0..4), around: bool, vector in prop::array::uniform4(-1.0_f32..1.0),
    ) {
        let mut shelf = Shelf::default();
        for (number, said) in all.iter().enumerate() {
            shelf.put(&said.entry(number));
        }
        for (number, _) in all.iter().enumerate().filter(|(_, said)| said.removed) {
            shelf.forget(Uuid::from_u128(number as u128 + 1));
        }

        let text: Vec<&str> = asked.iter().map(|word| VOCABULARY[*word]).collect();
        let mut known = Alike::new();
        let stems: Vec<String> = words::content(&text.join(" "));
        if let Some(first) = stems.first() {
            let alike = alike.iter().map(|word| words::stem(VOCABULARY[*word]));
            known.insert(first.clone(), alike.filter(|stem| stem != first).map(|stem| (stem, 0.5)).collect());
        }
        let terms: Vec<_> = stems.iter().map(|stem| (stem.clone(), known.get(stem).cloned().unwrap_or_default())).collect();

        let text = text.join(" ");
        let query = Query {
            source: SourceKind::Recalled,
            text: &text,
            vector: vector.to_vec().into(),
            parents: None,
            limit: 100,
            around,
        };
        // The second one works in the memory of the first.
        let first = search(&[&shelf], None, &query, || known.clone());
        let hits = search(&[&shelf], None, &query, || known.clone());
        prop_assert_eq!(&first, &hits);

        let slow = Slow {
            said: all.iter().enumerate().filter(|(_, said)| !said.removed).collect(),
            sessions: all.iter().filter(|said| !said.removed).map(|said| said.session).collect::<std::collections::HashSet<u8>>().len(),
            around,
        };
        let scores: HashMap<usize, f32> = slow
            .said
            .iter()
            .map(|(number, said)| (*number, slow.bm25(*number, said, &terms)))
            .collect();
        let open = slow.said.iter().filter(|(_, said)| !said.closed);
        prop_assert_eq!(hits.len(), open.clone().count());
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-3);
        let cosine = |said: &Said| said.vector.iter().zip(&vector).map(|(a, b)| a * b).sum::<f32>();
        for (number, said) in open {
            let hit: &Hit = hits.iter().find(|hit| hit.id.as_u128() == *number as u128 + 1).expect("it is found");
            let bm25 = scores[number];
            prop_assert!(near(hit.bm25, bm25), "{:?} for {bm25}", hit.bm25);
            prop_assert!((hit.cosine.unwrap_or_default() - cosine(said)).abs() < 0.05 * length.max(1.0), "{hit:?}");
            let total: f32 = stems.iter().map(|stem| slow.rarity(stem)).sum();
            let has = stems.iter().filter(|stem| said.count(stem) > 0.0);
            let overlap = if total > 0.0 { has.map(|stem| slow.rarity(stem)).sum::<f32>() / total } else { 0.0 };
            prop_assert!((hit.overlap - overlap).abs() < 1e-3, "{hit:?}: {overlap}");
            let mates = slow.said.iter().filter(|(_, other)| other.session == said.session && !other.closed);
            let mut best: Vec<f32> = mates.map(|(number, _)| scores[number]).collect();
            best.sort_by(|a, b| b.total_cmp(a));
            prop_assert!(near(hit.session_words, best.iter().take(3).sum::<f32>() / 3.0), "{hit:?}: {best:?}");
        }
    }
}
