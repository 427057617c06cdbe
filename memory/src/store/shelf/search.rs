//! What the words and the meaning of a query say of the entries of some shelves.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, OnceLock, PoisonError};

use habit_kernels::vectors;
use uuid::Uuid;

use super::{Alike, NONE, Shelf, WINDOW};
use crate::index::{Hit, Query};

mod asked;
mod best;

use asked::Asked;
use best::{Best, TOGETHER, any};

/// BM25's constants (Robertson and Zaragoza, 2009, give 0.75 for the weight of the length and 1.2 to 2 for the saturation of
/// repeated words). Turns are short: a second mention tells little, so that the saturation is lower.
const K1: f32 = 0.9;
const B: f32 = 0.75;

/// A word that is in more than one entry in so many is common.
const COMMON: usize = 16;

/// Where a stem has more entries than so many times those that were removed, it is looked up which of these have it.
const SPARSE: usize = 16;

/// Vectors that are compared before it is looked what else there is to do.
const SPAN: usize = 2_048;

/// Entries from which on vectors are compared by a thread of its own, beside the look at words: less is done before a
/// thread is there.
const APART: usize = 20_000;

/// The candidates of a query among all entries of these shelves that may be read `within` a conversation or store: the best by
/// words (and by those that are `alike`) and the best by meaning, each once, unordered. Words are rare or common by all shelves
/// together. Waits for the query's vector, which may take a while, when there is nothing else left to do.
#[must_use]
pub fn search(shelves: &[&Shelf], within: Option<&str>, query: &Query<'_>, alike: impl FnOnce() -> Alike) -> Vec<Hit> {
    if query.limit == 0 {
        return Vec::new();
    }
    let packed = OnceLock::new();
    let vector = || {
        let pack = || query.vector.wait().filter(|vector| fits(shelves, vector));
        packed
            .get_or_init(|| pack().map(|vector| vectors::pack(&vector)))
            .as_ref()
    };
    let mut cosines: Vec<Vec<f32>> = if query.vector.may_be() {
        shelves.iter().map(|shelf| shelf.zeros(shelf.items.len())).collect()
    } else {
        vec![Vec::new(); shelves.len()]
    };
    let blocks = shelves.iter().zip(&mut cosines);
    let blocks = Mutex::new(blocks.flat_map(|(shelf, cosines)| shelf.blocks(cosines)));
    let compare = || {
        // The lock is held for as long as it takes to have the next one.
        let next = || blocks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(vector) = vector() else { return };
        while let Some(block) = next() {
            block.compare(vector);
        }
    };
    let words = || {
        let asked = Asked::of(shelves, query, &alike());
        let legs = shelves.iter().map(|shelf| Legs::of(shelf, within, query, &asked));
        let legs: Vec<Legs<'_>> = legs.collect();
        let mut best = Best::new(query.limit, 0.0);
        legs.iter().for_each(|leg| best.take(&leg.words));
        // Whoever is done first goes on with what the other one has still to do.
        compare();
        (asked, legs, best)
    };
    let size: usize = shelves.iter().map(|shelf| shelf.items.len()).sum();
    let (asked, mut legs, words) = if query.vector.may_be() && size >= APART {
        beside(&compare, words)
    } else {
        words()
    };
    drop(blocks);
    let mut hits = Vec::new();
    let mut meaning = Best::new(query.limit, f32::MIN);
    let compared = vector().is_some();
    let among = shelves.iter().map(|shelf| shelf.len()).sum();
    for (leg, cosines) in legs.iter_mut().zip(cosines) {
        if compared {
            leg.cosines = cosines;
            leg.take_cosines(&mut meaning);
        } else if cosines.capacity() > 0 {
            leg.shelf.keep(cosines);
        }
    }
    let (words, meaning) = (words.least(), meaning.least());
    for leg in &legs {
        leg.collect(words, meaning, &asked, among, &mut hits);
    }
    legs.into_iter().for_each(Legs::keep);
    // Ties at the cut could give more than was asked for; which of them go must not depend on their order.
    hits
}

/// Whether a vector is of as many numbers as those of the shelves.
fn fits(shelves: &[&Shelf], vector: &[f32]) -> bool {
    shelves
        .iter()
        .all(|shelf| shelf.bytes.len() == shelf.items.len() * vector.len())
}

/// Does one on a thread of its own and the other meanwhile on this one. Not on those of a pool, which may be computing a
/// reply for a long time: the kernel gives a new thread its share at once.
fn beside<T>(there: &(impl Fn() + Sync), here: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("habit-search".to_owned());
        // Without it all is done here.
        let thread = thread.spawn_scoped(scope, there);
        let given = here();
        drop(thread.map(std::thread::ScopedJoinHandle::join));
        given
    })
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
    /// Empty where there is no vector, and until they are known.
    cosines: Vec<f32>,
}

impl<'a> Legs<'a> {
    fn of(shelf: &'a Shelf, within: Option<&'a str>, query: &Query<'_>, asked: &Asked) -> Self {
        let size = shelf.items.len();
        let mut legs = Self {
            shelf,
            within,
            parents: query.parents.map(|parents| parents.iter().copied().collect()),
            words: shelf.zeros(size),
            overlap: shelf.zeros(size),
            cosines: Vec::new(),
        };
        legs.score_words(asked);
        legs
    }

    fn score_words(&mut self, asked: &Asked) {
        let shelf = self.shelf;
        let size = shelf.items.len();
        // What an entry's length makes of BM25's denominator.
        let lengths = if asked.around { &shelf.windows } else { &shelf.lengths };
        let norm = |length: f32| (K1 * B / asked.length).mul_add(length, K1 * (1.0 - B));
        // One more, for the neighbours that are not there.
        let mut counts = shelf.zeros(size + 1);
        // A word and those alike are one: of them, the one that scores best counts.
        let mut best = shelf.zeros(size);
        for term in &asked.terms {
            let mut everywhere = false;
            for (number, (stem, weight)) in term.stems.iter().enumerate() {
                let postings = shelf.postings(stem);
                if number == 0 {
                    for (place, _) in postings {
                        self.overlap[*place as usize] += term.rarity;
                    }
                }
                for &(place, count) in postings {
                    let count = f32::from(count);
                    counts[place as usize] += count;
                    if asked.around {
                        for beside in shelf.beside[place as usize] {
                            counts[(beside as usize).min(size)] += WINDOW * count;
                        }
                    }
                }
                let score = |count: f32, length: f32| weight * (K1 + 1.0) * count / (count + norm(length));
                if postings.len() * COMMON > size {
                    // To go through all in a row is quicker than to jump to most.
                    everywhere = true;
                    for ((count, best), length) in counts.iter_mut().zip(&mut best).zip(lengths) {
                        let score = score(*count, *length);
                        *best = if score > *best { score } else { *best };
                        *count = 0.0;
                    }
                } else {
                    shelf.each(postings, asked.around, |place| {
                        let count = std::mem::take(&mut counts[place]);
                        best[place] = best[place].max(score(count, lengths[place]));
                    });
                }
            }
            if everywhere {
                for (words, best) in self.words.iter_mut().zip(&mut best) {
                    *words += std::mem::take(best);
                }
            } else {
                for (stem, _) in &term.stems {
                    shelf.each(shelf.postings(stem), asked.around, |place| {
                        self.words[place] += std::mem::take(&mut best[place]);
                    });
                }
            }
        }
        shelf.keep(counts);
        shelf.keep(best);
        if !self.all_readable() {
            for place in 0..size {
                if !self.readable(place as u32) {
                    self.words[place] = 0.0;
                }
            }
        }
    }

    /// Whether nothing is closed to who asks, and nothing was removed.
    fn all_readable(&self) -> bool {
        self.shelf.closed == 0 && self.shelf.live == self.shelf.items.len() && self.parents.is_none()
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

    fn take_cosines(&self, best: &mut Best) {
        if self.all_readable() {
            return best.take(&self.cosines);
        }
        for (place, cosine) in self.cosines.iter().enumerate() {
            if *cosine > best.least && self.readable(place as u32) {
                best.take_one(*cosine);
            }
        }
    }

    /// Keeps the memory.
    fn keep(self) {
        for list in [self.words, self.overlap, self.cosines] {
            if list.capacity() > 0 {
                self.shelf.keep(list);
            }
        }
    }

    /// The places that are among the best of either leg.
    fn places(&self, words: f32, meaning: f32) -> Vec<usize> {
        let words = words.max(f32::MIN_POSITIVE);
        let mut places = Vec::new();
        for start in (0..self.words.len()).step_by(TOGETHER) {
            let part = start..self.words.len().min(start + TOGETHER);
            let (by_words, by_meaning) = (
                &self.words[part.clone()],
                self.cosines.get(part.clone()).unwrap_or_default(),
            );
            if any(by_words, |score| score >= words) || any(by_meaning, |cosine| cosine >= meaning) {
                places.extend(part.filter(|place| {
                    let near = self.cosines.get(*place).is_some_and(|cosine| *cosine >= meaning);
                    (self.words[*place] >= words || near) && self.readable(*place as u32)
                }));
            }
        }
        places
    }

    /// Those that are among the best of either leg.
    fn collect(&self, words: f32, meaning: f32, asked: &Asked, among: usize, hits: &mut Vec<Hit>) {
        let shelf = self.shelf;
        let mut sessions: HashMap<u32, (f32, f32)> = HashMap::new();
        for place in self.places(words, meaning) {
            let item = &shelf.items[place];
            let cosine = self.cosines.get(place).copied();
            let [before, after] = shelf.beside[place];
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
                around: cosine.map(|_| f32::midpoint(cosine_at(before), cosine_at(after))),
                session_words: Some(session_words),
                session_meaning: cosine.map(|_| session_meaning),
                words: item.words,
                states: item.states,
                among: Some(among),
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
        let (mut words, mut meaning) = ([0.0_f32; 3], [0.0_f32; 3]);
        for place in order.iter().filter(|place| self.readable(**place)) {
            insert(&mut words, self.words[*place as usize]);
            insert(
                &mut meaning,
                self.cosines.get(*place as usize).copied().unwrap_or_default(),
            );
        }
        (words.iter().sum::<f32>() / 3.0, meaning.iter().sum::<f32>() / 3.0)
    }
}

/// Puts a value among the three best, if it is one of them.
fn insert(best: &mut [f32; 3], value: f32) {
    if value > best[2] {
        best[2] = value;
        best.sort_unstable_by(|a, b| b.total_cmp(a));
    }
}

/// Entries whose vectors are compared together.
struct Block<'a> {
    bytes: &'a [i8],
    steps: &'a [f32],
    cosines: &'a mut [f32],
}

impl Block<'_> {
    /// Their cosines with a packed vector.
    fn compare(self, (vector, step): &(Vec<i8>, f32)) {
        vectors::dots(self.bytes, vector, self.cosines);
        for (cosine, own) in self.cosines.iter_mut().zip(self.steps) {
            *cosine *= own * step;
        }
    }
}

impl Shelf {
    /// All entries, with the place for their cosines; none where there is no place.
    fn blocks<'a>(&'a self, cosines: &'a mut [f32]) -> impl Iterator<Item = Block<'a>> {
        let dimensions = self.bytes.len() / self.items.len().max(1);
        let bytes = self.bytes.chunks((dimensions * SPAN).max(1));
        let blocks = bytes.zip(self.steps.chunks(SPAN)).zip(cosines.chunks_mut(SPAN));
        blocks.map(|((bytes, steps), cosines)| Block { bytes, steps, cosines })
    }

    /// The entries that have a stem, and how often.
    fn postings(&self, stem: &str) -> &[(u32, u16)] {
        self.terms.get(stem).map_or(&[], Vec::as_slice)
    }

    /// Gives the places of these entries and, if wanted, of those beside them; a place may come again.
    fn each(&self, postings: &[(u32, u16)], around: bool, mut give: impl FnMut(usize)) {
        for (place, _) in postings {
            let place = *place as usize;
            give(place);
            if around {
                let beside = self.beside[place].into_iter();
                beside
                    .filter(|place| *place != NONE)
                    .for_each(|place| give(place as usize));
            }
        }
    }

    /// Entries that have a stem. Without those that were removed, though their words still lead to them: a document that was
    /// replaced again and again would make its own words seem common.
    fn having(&self, stem: &str) -> usize {
        let postings = self.postings(stem);
        if self.gone.len() * SPARSE > postings.len() {
            return postings
                .iter()
                .filter(|(place, _)| self.spots[*place as usize].live)
                .count();
        }
        let has = |place: &&u32| postings.binary_search_by_key(*place, |(place, _)| *place).is_ok();
        postings.len() - self.gone.iter().filter(has).count()
    }

    /// Sessions that have entries.
    fn talks(&self) -> usize {
        if self.gone.is_empty() {
            return self.orders.len();
        }
        self.orders.iter().filter(|(_, order)| !order.is_empty()).count()
    }
}
