//! What a query looks for: its words and how rare they are, those alike, and who is named.

use std::collections::HashSet;

use crate::index::Query;
use crate::rank::words;
use crate::store::shelf::{Alike, Shelf, WINDOW};

/// Words alike that are looked for beside each of the question's.
const ALIKE: usize = 8;

/// What is looked for.
pub(super) struct Asked {
    pub(super) terms: Vec<Term>,
    /// The one speaker who is named, if any: then what they said counts more than what was said to them.
    pub(super) speaker: Option<String>,
    /// Words of an entry with its window, in the mean.
    pub(super) length: f32,
    /// The sum of the terms' rarity.
    pub(super) weight: f32,
    pub(super) around: bool,
}

/// A word of the question.
pub(super) struct Term {
    /// How rare it is.
    pub(super) rarity: f32,
    /// Its stem, and those that are alike and on the shelves, each with its rarity times what it is worth.
    pub(super) stems: Vec<(String, f32)>,
}

impl Asked {
    pub(super) fn of(shelves: &[&Shelf], query: &Query<'_>, alike: &Alike) -> Self {
        let speakers: HashSet<&str> = shelves
            .iter()
            .flat_map(|shelf| shelf.speakers.iter().map(AsRef::as_ref))
            .collect();
        let stems = words::content(query.text);
        let mut named: Vec<&str> = speakers
            .iter()
            .copied()
            .filter(|name| words::stems(name).iter().any(|part| stems.contains(part)))
            .collect();
        named.sort_unstable();
        // Who is named tells whose words are meant, not which words: they hardly ever say their own name.
        let names: HashSet<String> = named.iter().flat_map(|name| words::stems(name)).collect();
        let other: Vec<String> = stems.iter().filter(|stem| !names.contains(*stem)).cloned().collect();
        let stems = if other.is_empty() { stems } else { other };
        let all: usize = shelves.iter().map(|shelf| shelf.live).sum();
        let found = |stem: &str| -> usize { shelves.iter().map(|shelf| shelf.having(stem)).sum() };
        let rarity = |stem: &str| {
            let found = found(stem) as f32;
            (1.0 + (all as f32 - found + 0.5) / (found + 0.5)).ln()
        };
        let terms: Vec<Term> = stems
            .into_iter()
            .map(|stem| {
                let own = rarity(&stem);
                let alike = alike.get(&stem).map_or(&[][..], Vec::as_slice).iter();
                let alike = alike.filter(|(stem, _)| found(stem) > 0).take(ALIKE);
                let alike = alike.map(|(stem, worth)| (stem.clone(), worth * rarity(stem)));
                let stems = std::iter::once((stem, own)).chain(alike).collect();
                Term { rarity: own, stems }
            })
            .collect();
        let total: u64 = shelves.iter().map(|shelf| shelf.length).sum();
        let sessions: usize = shelves.iter().map(|shelf| shelf.talks()).sum();
        let around = query.around;
        let mean = total as f32 / all.max(1) as f32;
        let neighbours = if around {
            2.0 * WINDOW * (all.saturating_sub(sessions)) as f32 / all.max(1) as f32
        } else {
            0.0
        };
        Self {
            weight: terms.iter().map(|term| term.rarity).sum(),
            terms,
            speaker: if let [one] = named[..] {
                Some(one.to_owned())
            } else {
                None
            },
            length: (mean * (1.0 + neighbours)).max(1.0),
            around,
        }
    }
}
