//! A [`Shelf`]: all entries of one owner and one context system, in memory, ready to be searched: vectors as bytes, words in
//! an inverted index, and who follows whom in a conversation. Exact, and quick up to some hundred thousand entries. What a
//! search says of a candidate is worked out in [`search`](self::search()); what is kept where, and when, is in
//! [`super::shelves`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use habit_kernels::vectors;
use uuid::Uuid;

use crate::index::Entry;
use crate::rank::words;

mod search;

/// For a stem, others that count for it, each with what it is worth beside it (0 to 1), the best first.
pub type Alike = HashMap<String, Vec<(String, f32)>>;

pub use search::search;

/// What a word in a neighbour counts beside one in the entry itself.
const WINDOW: f32 = 0.5;

/// No entry: before the first and after the last of a conversation.
const NONE: u32 = u32::MAX;

/// Removed entries leave holes; a shelf is packed anew when it has more holes than entries, and at least so many.
const HOLES: usize = 1_000;

/// Bytes an entry, beside its item: what is apart, and the spare lists of one search.
const EACH: usize = 18 + 5 * 4;

/// Lists of a number for each entry that are kept for the next search: as many as two searches at once need. Fresh memory
/// of that size comes from the kernel, which clears it page by page: a third of a search's time.
const SPARE: usize = 10;

/// The entries of one owner and one context system.
#[derive(Default)]
pub struct Shelf {
    items: Vec<Item>,
    /// What a search reads of each item, each apart, because it reads it of many.
    spots: Vec<Spot>,
    /// Neighbours in the session, before and after, or [`NONE`].
    beside: Vec<[u32; 2]>,
    /// Words of each text, as BM25 counts them; and with those beside it, as far as they count.
    lengths: Vec<f32>,
    windows: Vec<f32>,
    places: HashMap<Uuid, u32>,
    /// The entries of a document; a turn is its own.
    children: HashMap<Uuid, Vec<u32>>,
    /// The vectors, end to end.
    bytes: Vec<i8>,
    /// What one step of each vector's bytes is worth.
    steps: Vec<f32>,
    /// Stem -> the entries that have it, oldest place first, and how often.
    terms: HashMap<Box<str>, Vec<(u32, u16)>>,
    sessions: HashMap<Box<str>, u32>,
    /// The entries of each session, in the order in which they were said.
    orders: Vec<(Box<str>, Vec<u32>)>,
    speakers: Vec<Box<str>>,
    live: usize,
    /// The places of removed entries, until it is packed.
    gone: Vec<u32>,
    /// Entries that are read within one conversation or store only.
    closed: usize,
    /// Words of all entries together.
    length: u64,
    spare: Mutex<Vec<Vec<f32>>>,
}

/// Whether an entry may be found.
#[derive(Clone, Copy)]
struct Spot {
    live: bool,
    /// Whether it is read from everywhere, not only within one conversation or store.
    open: bool,
}

/// An entry without its words and its vector.
struct Item {
    id: Uuid,
    parent: Uuid,
    at: i64,
    conversation: Option<Box<str>>,
    session: u32,
    speaker: Option<u16>,
    words: u32,
    states: bool,
}

impl Shelf {
    /// Entries on it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let postings: usize = self.terms.values().map(|list| 64 + list.capacity() * 8).sum();
        self.bytes.capacity() + self.items.len() * (size_of::<Item>() + EACH + 48) + postings
    }

    /// A zero for each entry, in memory that was used before if there is some.
    fn zeros(&self, size: usize) -> Vec<f32> {
        let mut list = self.spare().pop().unwrap_or_default();
        list.clear();
        list.resize(size, 0.0);
        list
    }

    /// Keeps the memory of a list for the next search.
    fn keep(&self, list: Vec<f32>) {
        let mut spare = self.spare();
        if spare.len() < SPARE {
            spare.push(list);
        }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Vec<f32>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry, in place of the one with its id.
    pub fn put(&mut self, entry: &Entry) {
        self.forget(entry.id);
        let place = self.items.len() as u32;
        let (bytes, step) = vectors::pack(&entry.vector);
        self.bytes.extend(bytes);
        self.steps.push(step);
        let length = self.index_words(place, &entry.text);
        let session = self.session(&entry.session);
        let speaker = entry.speaker.as_deref().map(|name| self.speaker(name));
        self.items.push(Item {
            id: entry.id,
            parent: entry.parent,
            at: entry.at,
            conversation: entry.owner.conversation.as_deref().map(Into::into),
            session,
            speaker,
            words: entry.words,
            states: entry.states,
        });
        self.spots.push(Spot {
            live: true,
            open: entry.owner.conversation.is_none(),
        });
        self.beside.push([NONE; 2]);
        self.lengths.push(length as f32);
        self.windows.push(0.0);
        self.link(place);
        self.places.insert(entry.id, place);
        if entry.parent != entry.id {
            self.children.entry(entry.parent).or_default().push(place);
        }
        self.live += 1;
        self.closed += usize::from(entry.owner.conversation.is_some());
        self.length += u64::from(length);
    }

    /// Removes everything whose parent this is.
    pub fn remove(&mut self, parent: Uuid) {
        let own = self.places.get(&parent).map(|place| &self.items[*place as usize]);
        if own.is_some_and(|item| item.parent == parent) {
            self.take(parent);
        }
        for place in self.children.remove(&parent).unwrap_or_default() {
            let id = self.items[place as usize].id;
            self.take(id);
        }
        self.pack();
    }

    /// Removes the entry with this id.
    pub fn forget(&mut self, id: Uuid) {
        if self.places.contains_key(&id) {
            self.take(id);
            self.pack();
        }
    }

    fn take(&mut self, id: Uuid) {
        let Some(place) = self.places.remove(&id) else { return };
        let spot = &mut self.spots[place as usize];
        spot.live = false;
        let open = spot.open;
        // Words that still lead here lead no further.
        let [before, after] = std::mem::replace(&mut self.beside[place as usize], [NONE; 2]);
        let (parent, session) = (
            self.items[place as usize].parent,
            self.items[place as usize].session as usize,
        );
        self.live -= 1;
        self.gone.push(place);
        self.closed -= usize::from(!open);
        self.length -= self.lengths[place as usize] as u64;
        self.orders[session].1.retain(|other| *other != place);
        if before != NONE {
            self.beside[before as usize][1] = after;
        }
        if after != NONE {
            self.beside[after as usize][0] = before;
        }
        self.measure([before, after]);
        if let Some(children) = self.children.get_mut(&parent) {
            children.retain(|child| *child != place);
        }
    }

    /// The stems of a text that carry content; the others are never looked for.
    fn index_words(&mut self, place: u32, text: &str) -> u32 {
        let stems = words::stems(text);
        let mut counts: HashMap<&str, u16> = HashMap::new();
        for stem in stems.iter().filter(|stem| words::carries_content(stem)) {
            let count = counts.entry(stem).or_default();
            *count = count.saturating_add(1);
        }
        for (stem, count) in counts {
            match self.terms.get_mut(stem) {
                Some(list) => list.push((place, count)),
                None => {
                    self.terms.insert(stem.into(), vec![(place, count)]);
                }
            }
        }
        stems.len() as u32
    }

    fn session(&mut self, name: &str) -> u32 {
        if let Some(session) = self.sessions.get(name) {
            return *session;
        }
        let session = self.orders.len() as u32;
        self.sessions.insert(name.into(), session);
        self.orders.push((name.into(), Vec::new()));
        session
    }

    fn speaker(&mut self, name: &str) -> u16 {
        let known = self.speakers.iter().position(|known| **known == *name);
        let place = known.unwrap_or_else(|| {
            self.speakers.push(name.into());
            self.speakers.len() - 1
        });
        // Beyond that many names the last one stands for all further ones, which only costs a little precision.
        u16::try_from(place).unwrap_or(u16::MAX)
    }

    /// Puts a new entry where it belongs in its session: by time, then by id. Nearly always at the end.
    fn link(&mut self, place: u32) {
        let key = |items: &[Item], place: u32| (items[place as usize].at, items[place as usize].id);
        let own = key(&self.items, place);
        let order = &mut self.orders[self.items[place as usize].session as usize].1;
        let mut at = order.len();
        while at > 0 && key(&self.items, order[at - 1]) > own {
            at -= 1;
        }
        let before = at.checked_sub(1).map_or(NONE, |at| order[at]);
        let after = order.get(at).copied().unwrap_or(NONE);
        order.insert(at, place);
        self.beside[place as usize] = [before, after];
        if before != NONE {
            self.beside[before as usize][1] = place;
        }
        if after != NONE {
            self.beside[after as usize][0] = place;
        }
        self.measure([before, place, after]);
    }

    /// Measures the windows of these places anew.
    fn measure<const MANY: usize>(&mut self, places: [u32; MANY]) {
        for place in places.into_iter().filter(|place| *place != NONE) {
            let length = |place: u32| self.lengths.get(place as usize).copied().unwrap_or_default();
            let [before, after] = self.beside[place as usize];
            self.windows[place as usize] = length(place) + WINDOW * (length(before) + length(after));
        }
    }

    /// Gives back the holes' memory, once it is worth the work.
    fn pack(&mut self) {
        let holes = self.items.len() - self.live;
        if holes < HOLES || holes < self.live {
            return;
        }
        let dimensions = self.bytes.len() / self.items.len().max(1);
        let mut places = vec![NONE; self.items.len()];
        let (mut bytes, mut steps) = (
            Vec::with_capacity(self.live * dimensions),
            Vec::with_capacity(self.live),
        );
        let live = self.spots.iter().enumerate().filter(|(_, spot)| spot.live);
        for (kept, (old, _)) in (0..).zip(live) {
            places[old] = kept;
            bytes.extend_from_slice(&self.bytes[old * dimensions..][..dimensions]);
            steps.push(self.steps[old]);
        }
        let moved = |place: u32| if place == NONE { NONE } else { places[place as usize] };
        retain(&mut self.items, &self.spots);
        retain(&mut self.lengths, &self.spots);
        retain(&mut self.windows, &self.spots);
        retain(&mut self.beside, &self.spots);
        self.beside.iter_mut().for_each(|beside| *beside = beside.map(moved));
        self.spots.retain(|spot| spot.live);
        self.spare().clear();
        self.gone.clear();
        self.places.values_mut().for_each(|place| *place = moved(*place));
        for list in self
            .children
            .values_mut()
            .chain(self.orders.iter_mut().map(|(_, order)| order))
        {
            list.iter_mut().for_each(|place| *place = moved(*place));
        }
        self.terms.retain(|_, list| {
            list.retain(|(place, _)| places[*place as usize] != NONE);
            list.iter_mut().for_each(|(place, _)| *place = places[*place as usize]);
            list.shrink_to_fit();
            !list.is_empty()
        });
        self.children.retain(|_, list| !list.is_empty());
        (self.bytes, self.steps) = (bytes, steps);
    }
}

/// Keeps what belongs to live entries.
fn retain<T>(list: &mut Vec<T>, spots: &[Spot]) {
    let mut spots = spots.iter();
    list.retain(|_| spots.next().is_some_and(|spot| spot.live));
}

#[cfg(test)]
mod tests;
