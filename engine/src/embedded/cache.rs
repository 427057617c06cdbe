//! What the engine's prefix cache holds, as far as that can be known from outside: the engine keeps every finished
//! sequence and begins a prompt with what it shares with one of them. It never lets go of any on a CPU, so its bytes are
//! counted here, and it is emptied when there are too many.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// mistral.rs grows key-value caches by this many tokens, and refuses to grow them over the model's window:
/// `NormalCache::CACHE_GROW_SIZE`.
pub(super) const CACHE_BLOCK: usize = 512;

/// Keeps count of what the engine's prefix cache holds.
pub(super) struct PrefixCache {
    budget: u64,
    bytes_per_token: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    bytes: u64,
    sequences: Vec<Vec<u32>>,
}

/// What the engine would do with a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    /// Tokens whose keys and values it would take from an earlier sequence.
    pub(super) tokens: usize,
    /// It would go on after that sequence's very last token, for which it has no keys and values.
    pub(super) is_broken: bool,
}

impl PrefixCache {
    /// A cache that may hold `budget` bytes; 0 is off.
    pub(super) fn new(budget: u64, bytes_per_token: u64) -> Self {
        Self {
            budget,
            bytes_per_token,
            kept: Mutex::default(),
        }
    }

    /// Notes a finished sequence, its last token included: the engine keeps its keys and values, in whole blocks.
    pub(super) fn add(&self, sequence: Vec<u32>) {
        let mut kept = self.kept();
        if self.budget == 0 || kept.sequences.contains(&sequence) {
            return;
        }
        kept.bytes += (sequence.len().div_ceil(CACHE_BLOCK) * CACHE_BLOCK) as u64 * self.bytes_per_token;
        kept.sequences.push(sequence);
    }

    /// What the engine would do with this prompt: it takes the longest beginning that it knows, but nothing of a prompt
    /// that it knows to its end.
    pub(super) fn matching(&self, prompt: &[u32]) -> Match {
        let kept = self.kept();
        let shared = |sequence: &Vec<u32>| sequence.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let longest = kept.sequences.iter().map(|sequence| (shared(sequence), sequence.len()));
        let (tokens, of) = longest.max_by_key(|(tokens, _)| *tokens).unwrap_or_default();
        if tokens == prompt.len() {
            return Match {
                tokens: 0,
                is_broken: false,
            };
        }
        Match {
            tokens,
            is_broken: tokens > 0 && tokens == of,
        }
    }

    /// Whether it holds more than it may.
    pub(super) fn is_over(&self) -> bool {
        self.budget > 0 && self.kept().bytes > self.budget
    }

    pub(super) fn clear(&self) {
        *self.kept() = Kept::default();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Match, PrefixCache};

    #[test]
    fn whole_blocks_are_counted_once() {
        let cache = PrefixCache::new(1024, 1);
        cache.add(vec![7; 513]);
        cache.add(vec![7; 513]);
        assert!(!cache.is_over());
        cache.add(vec![7]);
        assert!(cache.is_over());
        cache.clear();
        assert!(!cache.is_over());
        let off = PrefixCache::new(0, 1);
        off.add(vec![7; 9000]);
        assert!(!off.is_over());
    }

    #[test]
    fn the_longest_beginning_is_taken_but_never_a_whole_prompt() {
        let cache = PrefixCache::new(1024, 1);
        let matching = |prompt: &[u32]| {
            let Match { tokens, is_broken } = cache.matching(prompt);
            (tokens, is_broken)
        };
        assert_eq!(matching(&[1, 2]), (0, false));
        cache.add(vec![1, 2, 3, 0]);
        cache.add(vec![1, 2, 9, 0]);
        assert_eq!(matching(&[1, 2, 3, 4]), (3, false));
        assert_eq!(matching(&[1, 2, 3]), (0, false));
        assert_eq!(matching(&[5, 2, 3]), (0, false));
        assert_eq!(matching(&[1, 2, 3, 0, 5]), (4, true));
    }
}
