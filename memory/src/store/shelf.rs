//! A [`Shelf`]: all entries of one owner and one context system, in memory, ready to be searched: vectors as bytes, words in
//! an inverted index, and who follows whom in a conversation. Exact, and quick up to some hundred thousand entries. What a
//! search says of a candidate is worked out in [`search`](self::search()); what is kept where, and when, is in
//! [`super::shelves`].

use std::collections::HashMap;

use habit_kernels::vectors;
use uuid::Uuid;

use crate::index::Entry;
use crate::rank::words;

mod search;

/// For a stem, others that count for it, each with what it is worth beside it (0 to 1), the best first.
pub type Alike = HashMap<String, Vec<(String, f32)>>;

pub use search::search;

/// No entry: before the first and after the last of a conversation.
const NONE: u32 = u32::MAX;

/// Removed entries leave holes; a shelf is packed anew when it has more holes than entries, and at least so many.
const HOLES: usize = 1_000;

/// The entries of one owner and one context system.
#[derive(Default)]
pub struct Shelf {
    items: Vec<Item>,
    /// What a search reads of each item, apart, because it reads it of many.
    spots: Vec<Spot>,
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
    /// Entries that are read within one conversation or store only.
    closed: usize,
    /// Words of all entries together.
    length: u64,
}

/// What a search needs of every entry that has one of its words.
#[derive(Clone, Copy)]
struct Spot {
    /// Neighbours in the session, or [`NONE`].
    before: u32,
    after: u32,
    /// Words of the text, as BM25 counts them.
    length: u32,
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
        self.bytes.capacity() + self.items.len() * (size_of::<Item>() + size_of::<Spot>() + 48) + postings
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
            before: NONE,
            after: NONE,
            length,
            live: true,
            open: entry.owner.conversation.is_none(),
        });
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
        let Spot {
            before,
            after,
            length,
            open,
            ..
        } = *spot;
        let (parent, session) = (
            self.items[place as usize].parent,
            self.items[place as usize].session as usize,
        );
        self.live -= 1;
        self.closed -= usize::from(!open);
        self.length -= u64::from(length);
        self.orders[session].1.retain(|other| *other != place);
        if before != NONE {
            self.spots[before as usize].after = after;
        }
        if after != NONE {
            self.spots[after as usize].before = before;
        }
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
        self.spots[place as usize].before = before;
        self.spots[place as usize].after = after;
        if before != NONE {
            self.spots[before as usize].after = place;
        }
        if after != NONE {
            self.spots[after as usize].before = place;
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
        let mut spots = self.spots.iter();
        self.items.retain(|_| spots.next().is_some_and(|spot| spot.live));
        self.spots.retain(|spot| spot.live);
        for spot in &mut self.spots {
            spot.before = moved(spot.before);
            spot.after = moved(spot.after);
        }
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
