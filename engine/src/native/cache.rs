//! Keys and values of finished conversations, kept for prompts that begin alike. Bounded in bytes; what was used longest
//! ago goes first. Nothing is shared across owners: how fast an answer comes must not tell one what another has asked.

use std::collections::HashSet;
use std::sync::Arc;

use super::kv::{Kv, Layout};

/// See the module.
pub(super) struct PrefixCache {
    layout: Layout,
    budget: u64,
    entries: Vec<Entry>,
    /// Counts uses, to order entries by them.
    clock: u64,
}

struct Entry {
    owner: String,
    tokens: Vec<u32>,
    kv: Kv,
    used: u64,
}

impl PrefixCache {
    /// `budget` is in bytes; with 0 nothing is kept.
    pub(super) fn new(layout: Layout, budget: u64) -> Self {
        Self {
            layout,
            budget,
            entries: Vec::new(),
            clock: 0,
        }
    }

    /// The longest beginning of `tokens` that is here, without their last: its logits are wanted.
    pub(super) fn find(&mut self, owner: &str, tokens: &[u32]) -> Kv {
        let most = tokens.len().saturating_sub(1);
        self.clock += 1;
        let fits = self.entries.iter_mut().filter(|entry| entry.owner == owner);
        let best = fits.map(|entry| (common(&entry.tokens, &tokens[..most]), entry));
        match best.max_by_key(|(length, _)| *length) {
            Some((length, entry)) if length > 0 => {
                entry.used = self.clock;
                entry.kv.prefix(length)
            }
            _ => Kv::new(self.layout),
        }
    }

    /// Keeps what was computed for `tokens`.
    pub(super) fn keep(&mut self, owner: String, tokens: &[u32], kv: &Kv) {
        if self.budget == 0 || kv.len() == 0 {
            return;
        }
        let tokens = &tokens[..kv.len().min(tokens.len())];
        self.clock += 1;
        let clock = self.clock;
        let own = |entry: &Entry| entry.owner == owner;
        if let Some(longer) = self
            .entries
            .iter_mut()
            .find(|entry| own(entry) && entry.tokens.starts_with(tokens))
        {
            longer.used = clock;
            return;
        }
        // A conversation that went on takes the place of what it began with.
        self.entries
            .retain(|entry| !own(entry) || !tokens.starts_with(&entry.tokens));
        self.entries.push(Entry {
            owner,
            tokens: tokens.to_vec(),
            kv: kv.clone(),
            used: clock,
        });
        while self.bytes() > self.budget {
            let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.used);
            let Some((oldest, _)) = oldest else { return };
            self.entries.swap_remove(oldest);
        }
    }

    /// What it holds; pages that entries share are counted once.
    fn bytes(&self) -> u64 {
        let pages = self.entries.iter().flat_map(|entry| entry.kv.pages());
        let distinct: HashSet<_> = pages.map(Arc::as_ptr).collect();
        distinct.len() as u64 * self.layout.page_bytes()
    }
}

/// How many tokens are the same from the beginning.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::PrefixCache;
    use crate::native::kv::{Kv, Layout};

    const LAYOUT: Layout = Layout {
        layers: 1,
        heads: 1,
        width: 32,
    };

    fn kv(positions: usize) -> Kv {
        let mut kv = Kv::new(LAYOUT);
        kv.grow(positions);
        kv
    }

    fn tokens(from: u32, to: u32) -> Vec<u32> {
        (from..to).collect()
    }

    #[test]
    fn the_longest_beginning_is_found_from_any_branch() {
        let mut cache = PrefixCache::new(LAYOUT, u64::MAX);
        cache.keep(String::new(), &tokens(0, 50), &kv(50));
        let branch = [tokens(0, 40), tokens(90, 140)].concat();
        cache.keep(String::new(), &branch, &kv(90));
        assert_eq!(cache.find("", &[&branch[..60], &[7]].concat()).len(), 60);
        assert_eq!(cache.find("", &tokens(0, 200)).len(), 50);
        // The last token is always computed.
        assert_eq!(cache.find("", &tokens(0, 50)).len(), 49);
        assert_eq!(cache.find("", &tokens(1, 50)).len(), 0);
    }

    #[test]
    fn owners_do_not_see_each_other() {
        let mut cache = PrefixCache::new(LAYOUT, u64::MAX);
        cache.keep("a".into(), &tokens(0, 50), &kv(50));
        assert_eq!(cache.find("b", &tokens(0, 60)).len(), 0);
        assert_eq!(cache.find("", &tokens(0, 60)).len(), 0);
        assert_eq!(cache.find("a", &tokens(0, 60)).len(), 50);
    }

    #[test]
    fn the_budget_holds_and_the_oldest_goes() {
        let page = LAYOUT.page_bytes();
        let mut cache = PrefixCache::new(LAYOUT, 4 * page);
        cache.keep(String::new(), &tokens(100, 164), &kv(64));
        cache.keep(String::new(), &tokens(200, 264), &kv(64));
        assert_eq!(cache.find("", &tokens(100, 170)).len(), 64);
        cache.keep(String::new(), &tokens(300, 332), &kv(32));
        assert!(cache.bytes() <= 4 * page);
        assert_eq!(cache.find("", &tokens(200, 270)).len(), 0);
        assert_eq!(cache.find("", &tokens(100, 170)).len(), 64);
        // What continues an entry replaces it; a beginning of one adds nothing.
        cache.keep(String::new(), &tokens(300, 340), &kv(40));
        cache.keep(String::new(), &tokens(300, 310), &kv(10));
        assert_eq!(cache.entries.len(), 2);
        cache.keep(String::new(), &tokens(500, 900), &kv(400));
        assert!(cache.bytes() <= 4 * page);
    }

    #[test]
    fn without_a_budget_nothing_is_kept() {
        let mut cache = PrefixCache::new(LAYOUT, 0);
        cache.keep(String::new(), &tokens(0, 50), &kv(50));
        assert_eq!(cache.find("", &tokens(0, 60)).len(), 0);
    }
}
