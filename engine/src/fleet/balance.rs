//! In which order the members that serve a model are asked: those that are well before those that may not be, and among
//! them the one with the least to do for its weight.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Memory};
use std::time::Instant;

use super::Member;

/// The members in the order in which they should be asked. `turn` moves on with each: equals have turns.
pub(super) fn order<'a>(
    members: impl Iterator<Item = &'a Arc<Member>>,
    turn: &AtomicUsize,
    now: Instant,
) -> Vec<Arc<Member>> {
    let mut members: Vec<Arc<Member>> = members.map(Arc::clone).collect();
    if members.len() < 2 {
        return members;
    }
    let turn = turn.fetch_add(1, Memory::Relaxed) % members.len();
    members.rotate_left(turn);
    // Looked up once each: loads change while they are compared.
    members.sort_by_cached_key(|member| {
        let load = member.load();
        Rank {
            unwell: !member.is_ready(now),
            busy: load.running + load.waiting,
            weight: member.weight(),
        }
    });
    members
}

/// The least is asked first.
#[derive(Debug, PartialEq, Eq)]
struct Rank {
    unwell: bool,
    /// Requests that it has.
    busy: usize,
    weight: u32,
}

impl Rank {
    /// Requests that it would have for each unit of weight, times both weights.
    fn share(&self, other: &Self) -> u128 {
        (self.busy as u128 + 1) * u128::from(other.weight)
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.unwell
            .cmp(&other.unwell)
            .then_with(|| self.share(other).cmp(&other.share(self)))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the weights, members that are always asked in this order share requests by their weights.
        #[test]
        fn requests_are_shared_by_weight(weights in proptest::collection::vec(1..8_u32, 2..5)) {
            let mut busy = vec![0_usize; weights.len()];
            let all: u32 = weights.iter().sum();
            for _ in 0..all * 10 {
                let rank = |at: usize| Rank { unwell: false, busy: busy[at], weight: weights[at] };
                let next = (0..weights.len()).min_by_key(|at| rank(*at)).unwrap();
                busy[next] += 1;
            }
            for (busy, weight) in busy.iter().zip(&weights) {
                let due = (*weight as usize) * 10;
                prop_assert!(busy.abs_diff(due) <= weights.len(), "{busy} instead of {due}");
            }
        }
    }

    #[test]
    fn who_is_not_well_comes_last() {
        let rank = |unwell, busy, weight| Rank { unwell, busy, weight };
        assert!(rank(false, 100, 1) < rank(true, 0, 9));
        assert!(rank(false, 1, 2) < rank(false, 1, 1));
        assert!(rank(false, 0, 1) < rank(false, 1, 1));
    }
}
