//! What the words and the meaning of a query say of the entries of some shelves.

use std::collections::{HashMap, HashSet};

use habit_kernels::vectors;
use uuid::Uuid;

use super::{Alike, NONE, Shelf};
use crate::index::{Hit, Query};
use crate::rank::words;

/// BM25's constants (Robertson and Zaragoza, 2009, give 0.75 for the weight of the length and 1.2 to 2 for the saturation of
/// repeated words). Turns are short: a second mention tells little, so that the saturation is lower.
const K1: f32 = 0.9;
const B: f32 = 0.75;

/// What a word in a neighbour counts beside one in the entry itself.
const WINDOW: f32 = 0.5;

/// A word that is in more than one entry in so many is common.
const COMMON: usize = 16;

/// Words alike that are looked for beside each of the question's.
const ALIKE: usize = 8;

/// The candidates of a query among all entries of these shelves that may be read `within` a conversation or store: the best by
/// words (and by those that are `alike`) and the best by meaning, each once, unordered. Words are rare or common by all shelves together.
#[must_use]
pub fn search(shelves: &[&Shelf], within: Option<&str>, query: &Query<'_>, alike: &Alike) -> Vec<Hit> {
    if query.limit == 0 {
        return Vec::new();
    }
    let asked = Asked::of(shelves, query, alike);
    let mut legs: Vec<Legs<'_>> = shelves
        .iter()
        .map(|shelf| Legs::of(shelf, within, query, &asked))
        .collect();
    let mut hits = Vec::new();
    let words = cut(
        legs.iter()
            .flat_map(|leg| leg.words.iter().copied().filter(|score| *score > 0.0)),
        query.limit,
    );
    let meaning = cut(legs.iter().flat_map(|leg| leg.readable_cosines()), query.limit);
    for leg in &mut legs {
        leg.collect(words, meaning, &asked, &mut hits);
    }
    // Ties at the cut could give more than was asked for; which of them go must not depend on their order.
    hits
}

/// The value of which `limit` ones are at least as great.
fn cut(values: impl Iterator<Item = f32>, limit: usize) -> f32 {
    let mut best: Vec<f32> = Vec::with_capacity(2 * limit);
    let mut least = f32::MIN;
    for value in values {
        if value <= least {
            continue;
        }
        best.push(value);
        // Twice as many as are wanted, then the better half of them: most values are only looked at.
        if best.len() == 2 * limit {
            least = nth(&mut best, limit);
            best.truncate(limit);
        }
    }
    match best.len() {
        few if few < limit => f32::MIN,
        enough if enough == limit => least,
        _ => nth(&mut best, limit),
    }
}

/// The least of the `limit` greatest, which come first then.
fn nth(values: &mut [f32], limit: usize) -> f32 {
    let (_, value, _) = values.select_nth_unstable_by(limit - 1, |a, b| b.total_cmp(a));
    *value
}

/// What is looked for.
struct Asked {
    terms: Vec<Term>,
    /// The one speaker who is named, if any: then what they said counts more than what was said to them.
    speaker: Option<String>,
    vector: Option<(Vec<i8>, f32)>,
    /// Words of an entry with its window, in the mean.
    length: f32,
    /// The sum of the terms' rarity.
    weight: f32,
    around: bool,
}

/// A word of the question.
struct Term {
    /// How rare it is.
    rarity: f32,
    /// Its stem, and those that are alike and on the shelves, each with its rarity times what it is worth.
    stems: Vec<(String, f32)>,
}

impl Asked {
    fn of(shelves: &[&Shelf], query: &Query<'_>, alike: &Alike) -> Self {
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
            // Removed entries may still be counted: never more than there are, or a word of all of them would be worth nothing.
            let found = found(stem).min(all) as f32;
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
        let sessions: usize = shelves.iter().map(|shelf| shelf.orders.len()).sum();
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
            vector: query.vector.map(vectors::pack),
            length: (mean * (1.0 + neighbours)).max(1.0),
            around,
        }
    }
}

/// What both searches say of every entry of a shelf.
struct Legs<'a> {
    shelf: &'a Shelf,
    within: Option<&'a str>,
    /// Only entries with one of these parents.
    parents: Option<HashSet<Uuid>>,
    /// BM25 over the entry with its neighbours.
    words: Vec<f32>,
    /// The sum of the rarity of those terms that the entry itself has.
    overlap: Vec<f32>,
    /// Empty where there is no vector.
    cosines: Vec<f32>,
}

impl<'a> Legs<'a> {
    fn of(shelf: &'a Shelf, within: Option<&'a str>, query: &Query<'_>, asked: &Asked) -> Self {
        let mut legs = Self {
            shelf,
            within,
            parents: query.parents.map(|parents| parents.iter().copied().collect()),
            words: vec![0.0; shelf.items.len()],
            overlap: vec![0.0; shelf.items.len()],
            cosines: Vec::new(),
        };
        legs.score_words(asked);
        if let (Some((vector, step)), Some(_)) = (&asked.vector, query.vector) {
            legs.cosines = vectors::dots(&shelf.bytes, vector);
            for (cosine, own) in legs.cosines.iter_mut().zip(&shelf.steps) {
                *cosine *= own * step;
            }
        }
        legs
    }

    fn score_words(&mut self, asked: &Asked) {
        let size = self.shelf.items.len();
        let norms: Vec<f32> = (0..size).map(|place| self.norm(place, asked)).collect();
        let mut counts = vec![0.0_f32; size];
        // A word and those alike are one: of them, the one that scores best counts.
        let mut best = vec![0.0_f32; size];
        let (mut touched, mut scored) = (Vec::new(), Vec::new());
        for term in &asked.terms {
            let mut everywhere = false;
            for (number, (stem, weight)) in term.stems.iter().enumerate() {
                let Some(postings) = self.shelf.terms.get(stem.as_str()) else {
                    continue;
                };
                if number == 0 {
                    for (place, _) in postings {
                        self.overlap[*place as usize] += term.rarity;
                    }
                }
                let score = |count: f32, norm: f32| weight * count * (K1 + 1.0) / (count + norm);
                if postings.len() * COMMON > size {
                    // To go through all in a row is quicker than to jump to most.
                    everywhere = true;
                    self.count(postings, asked.around, |place, count| counts[place as usize] += count);
                    for ((count, best), norm) in counts.iter_mut().zip(&mut best).zip(&norms) {
                        *best = best.max(score(*count, *norm));
                        *count = 0.0;
                    }
                    continue;
                }
                self.count(postings, asked.around, |place, count| {
                    let sum = &mut counts[place as usize];
                    if *sum == 0.0 {
                        touched.push(place);
                    }
                    *sum += count;
                });
                for place in touched.drain(..) {
                    let count = std::mem::take(&mut counts[place as usize]);
                    let most = &mut best[place as usize];
                    if *most == 0.0 {
                        scored.push(place);
                    }
                    *most = most.max(score(count, norms[place as usize]));
                }
            }
            if everywhere {
                scored.clear();
                for (words, best) in self.words.iter_mut().zip(&mut best) {
                    *words += std::mem::take(best);
                }
            }
            for place in scored.drain(..) {
                self.words[place as usize] += std::mem::take(&mut best[place as usize]);
            }
        }
        if self.shelf.closed > 0 || self.parents.is_some() {
            for place in 0..size {
                if !self.readable(place as u32) {
                    self.words[place] = 0.0;
                }
            }
        }
    }

    /// Gives how often a stem is in each entry and, for less, beside it.
    fn count(&self, postings: &[(u32, u16)], around: bool, mut add: impl FnMut(u32, f32)) {
        for &(place, count) in postings {
            let spot = &self.shelf.spots[place as usize];
            if !spot.live {
                continue;
            }
            add(place, f32::from(count));
            if around {
                for neighbour in [spot.before, spot.after].into_iter().filter(|place| *place != NONE) {
                    add(neighbour, WINDOW * f32::from(count));
                }
            }
        }
    }

    /// What an entry's length makes of BM25's denominator.
    fn norm(&self, place: usize, asked: &Asked) -> f32 {
        let length = self.window_length(place as u32, asked.around) / asked.length;
        K1 * (1.0 - B + B * length)
    }

    fn window_length(&self, place: u32, around: bool) -> f32 {
        let spot = &self.shelf.spots[place as usize];
        let of = |place: u32| {
            let spot = self.shelf.spots.get(place as usize);
            spot.map_or(0.0, |spot| spot.length as f32)
        };
        let beside = if around {
            WINDOW * (of(spot.before) + of(spot.after))
        } else {
            0.0
        };
        spot.length as f32 + beside
    }

    fn readable(&self, place: u32) -> bool {
        let spot = &self.shelf.spots[place as usize];
        if spot.open && self.parents.is_none() {
            return spot.live;
        }
        let item = &self.shelf.items[place as usize];
        spot.live
            && item.conversation.as_deref().is_none_or(|id| Some(id) == self.within)
            && self
                .parents
                .as_ref()
                .is_none_or(|parents| parents.contains(&item.parent))
    }

    fn readable_cosines(&self) -> impl Iterator<Item = f32> {
        let all = self.cosines.iter().enumerate();
        all.filter(|(place, _)| self.readable(*place as u32))
            .map(|(_, cosine)| *cosine)
    }

    /// Those that are among the best of either leg.
    fn collect(&mut self, words: f32, meaning: f32, asked: &Asked, hits: &mut Vec<Hit>) {
        let shelf = self.shelf;
        let mut sessions: HashMap<u32, (f32, f32)> = HashMap::new();
        for (place, item) in shelf.items.iter().enumerate() {
            let cosine = self.cosines.get(place).copied();
            let by_words = self.words[place] > 0.0 && self.words[place] >= words;
            if !(by_words || cosine.is_some_and(|cosine| cosine >= meaning)) || !self.readable(place as u32) {
                continue;
            }
            let spot = &shelf.spots[place];
            let (session_words, session_meaning) = *sessions
                .entry(item.session)
                .or_insert_with(|| self.session(item.session));
            let cosine_at = |place: u32| self.cosines.get(place as usize).copied().unwrap_or_default();
            hits.push(Hit {
                id: item.id,
                session: shelf.orders[item.session as usize].0.to_string(),
                at: item.at,
                bm25: (self.words[place] > 0.0).then_some(self.words[place]),
                cosine,
                overlap: if asked.weight > 0.0 {
                    self.overlap[place] / asked.weight
                } else {
                    0.0
                },
                around: cosine.map(|_| f32::midpoint(cosine_at(spot.before), cosine_at(spot.after))),
                session_words: Some(session_words),
                session_meaning: cosine.map(|_| session_meaning),
                words: item.words,
                states: item.states,
                named: asked.speaker.as_deref().map(|name| {
                    item.speaker.is_some_and(|speaker| {
                        shelf
                            .speakers
                            .get(usize::from(speaker))
                            .is_some_and(|own| **own == *name)
                    })
                }),
            });
        }
    }

    /// The means of the three best of a session, by words and by meaning. Divided by three even where there are fewer:
    /// one near turn doesn't make a session about it.
    fn session(&self, session: u32) -> (f32, f32) {
        let order = &self.shelf.orders[session as usize].1;
        let mean = |value: &dyn Fn(u32) -> f32| {
            let mut best = [0.0_f32; 3];
            for place in order.iter().filter(|place| self.readable(**place)) {
                let value = value(*place);
                if value > best[2] {
                    best[2] = value;
                    best.sort_by(|a, b| b.total_cmp(a));
                }
            }
            best.iter().sum::<f32>() / 3.0
        };
        (
            mean(&|place| self.words[place as usize]),
            mean(&|place| self.cosines.get(place as usize).copied().unwrap_or_default()),
        )
    }
}

impl Shelf {
    /// Entries that have a stem; removed ones may still be counted for a while.
    fn having(&self, stem: &str) -> usize {
        self.terms.get(stem).map_or(0, Vec::len)
    }
}
