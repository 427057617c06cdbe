//! Watching a canary: whether it does worse than what serves beside it, by the test of [`crate::gate::canary`], which
//! holds at every moment at once: one may look after each outcome and stop when it is clear.

use std::collections::BTreeSet;

use crate::gate::canary::{Canary as Trial, Standing};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The chance that a canary that is as good is rolled back, ever.
const ALPHA: f64 = 0.05;

/// How much worse it may be and still not be rolled back: less is not worth a change.
const TOLERANCE: f64 = 0.02;

/// Outcomes that one user counts for, on each side: nobody decides a trial alone.
const MOST_OF_A_USER: usize = 20;

/// Outcomes that are kept; those beyond are left out, and the trial goes on with what it has.
const MOST: usize = 4000;

/// An outcome within a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The turn.
    pub turn: Uuid,
    /// Who said so: [`mark`] of the name, so that nothing of it is left where the user is erased.
    pub user: String,
    /// Whether the canary answered it.
    pub tried: bool,
    /// 0 to 1.
    pub reward: f64,
}

/// What the outcomes say.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing yet, or nothing against it.
    Open,
    /// It does worse; how much, and how sure that is.
    Worse(String),
    /// It does better.
    Better(String),
}

/// The same for the same user, and no name.
#[must_use]
pub fn mark(user: &str) -> String {
    let mut mark = hex::encode(Sha256::digest(user));
    mark.truncate(16);
    mark
}

/// Notes an outcome: once a turn, and of one user at most [`MOST_OF_A_USER`] on each side.
pub fn note(seen: &mut Vec<Seen>, new: Seen) {
    if let Some(known) = seen.iter_mut().find(|known| known.turn == new.turn) {
        *known = new;
        return;
    }
    let same = |known: &&Seen| known.user == new.user && known.tried == new.tried;
    if seen.len() < MOST && seen.iter().filter(same).count() < MOST_OF_A_USER {
        seen.push(new);
    }
}

/// How the canary does: by all outcomes, and where several users gave some, also without those of any one.
#[must_use]
pub fn verdict(seen: &[Seen]) -> Verdict {
    let trial = trial(seen);
    let standing = trial.standing();
    if standing == Standing::Open {
        return Verdict::Open;
    }
    let users: BTreeSet<&str> = seen.iter().map(|one| one.user.as_str()).collect();
    let same_without = |user: &str| {
        let others: Vec<Seen> = seen.iter().filter(|one| one.user != user).cloned().collect();
        self::trial(&others).standing() == standing
    };
    if users.len() > 1 && !users.into_iter().all(same_without) {
        return Verdict::Open;
    }
    let difference = trial.difference();
    let bounds = format!(
        "by {:+.2} to {:+.2}, sure to {:.0} % at any time; {}",
        difference.lower,
        difference.upper,
        (1.0 - ALPHA) * 100.0,
        summary(seen)
    );
    match standing {
        Standing::Worse => Verdict::Worse(format!("the canary does worse, {bounds}")),
        Standing::Better => Verdict::Better(format!("the canary does better, {bounds}")),
        Standing::Open => Verdict::Open,
    }
}

fn trial(seen: &[Seen]) -> Trial {
    let mut trial = Trial::new(ALPHA, TOLERANCE);
    for one in seen {
        trial.see(one.tried, one.reward);
    }
    trial
}

/// Both sides in words.
#[must_use]
pub fn summary(seen: &[Seen]) -> String {
    let side = |tried: bool| {
        let rewards = seen.iter().filter(|one| one.tried == tried).map(|one| one.reward);
        let (count, sum) = rewards.fold((0_u32, 0.0), |(count, sum), reward| (count + 1, sum + reward));
        let mean = if count > 0 { sum / f64::from(count) } else { 0.0 };
        (mean, count)
    };
    let ((tried, turns), (beside, others)) = (side(true), side(false));
    format!("canary {tried:.2} over {turns} turns with feedback, beside it {beside:.2} over {others}")
}
