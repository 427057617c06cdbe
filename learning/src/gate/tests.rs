//! What the gate and the canary must never do, over made outcomes.

use proptest::prelude::*;
use uuid::Uuid;

use super::canary::Sequence;
use super::{Bounds, Canary, Interval, Pair, Standing, bootstrap, clustered};
use crate::random::Random;

fn pair(number: usize, wanted: &str, before: &str, after: &str) -> Pair {
    let said = |reply: &str| (reply.to_owned(), reply == wanted);
    Pair {
        id: Uuid::from_u128(number as u128 + 1),
        wanted: wanted.to_owned(),
        before: said(before),
        after: said(after),
    }
}

fn quick() -> Bounds {
    Bounds {
        resamples: 1000,
        ..Bounds::default()
    }
}

/// Answers of `labels` kinds, drawn by chance.
fn labels(random: &mut Random, count: usize, labels: usize) -> Vec<String> {
    (0..count).map(|_| format!("label {}", random.below(labels))).collect()
}

#[test]
fn a_clear_gain_passes_and_names_what_changed() {
    let names = ["a", "b", "c", "d"];
    let pairs: Vec<Pair> = (0..24)
        .map(|n| match n {
            0 => pair(n, names[n % 4], names[n % 4], "nothing"),
            _ => pair(n, names[n % 4], "something", names[n % 4]),
        })
        .collect();
    let verdict = quick().judge(&pairs, Some(0.01), 1);
    assert!(verdict.promote, "{verdict:?}");
    assert_eq!(verdict.won.len(), 23);
    assert_eq!(verdict.lost, [Uuid::from_u128(1)]);
    assert!(verdict.gain.lower > 0.5 && verdict.beyond_chance.mean < verdict.gain.mean);
}

#[test]
fn each_reason_stands_alone() {
    let good: Vec<Pair> = (0..24)
        .map(|n| pair(n, &format!("label {}", n % 6), "?", &format!("label {}", n % 6)))
        .collect();
    let bounds = quick();
    let few = bounds.judge(&good[..11], Some(0.0), 1);
    assert!(!few.promote && few.reasons[0].contains("11 examples"), "{few:?}");
    let forgets = bounds.judge(&good, Some(0.05), 1);
    assert!(!forgets.promote && forgets.reasons.len() == 1 && forgets.reasons[0].contains("forgets"));
    let unknown = bounds.judge(&good, None, 1);
    assert!(!unknown.promote && unknown.reasons[0].contains("could not be measured"));
    let no_number = bounds.judge(&good, Some(f64::NAN), 1);
    assert!(!no_number.promote, "what is no number is no proof");
    let same: Vec<Pair> = good
        .iter()
        .map(|pair| Pair {
            after: pair.before.clone(),
            ..pair.clone()
        })
        .collect();
    let same = bounds.judge(&same, Some(0.0), 1);
    assert!(
        !same.promote && same.reasons[0].contains("not shown to be better"),
        "{same:?}"
    );
    assert!(!bounds.judge(&[], Some(0.0), 1).promote);
}

#[test]
fn one_frequent_answer_to_everything_is_no_gain() {
    // Half of all want the same; the candidate always says it, and is right in half of all cases.
    let pairs: Vec<Pair> = (0..60)
        .map(|n| {
            pair(
                n,
                &if n % 2 == 0 { "yes".into() } else { format!("label {n}") },
                "?",
                "yes",
            )
        })
        .collect();
    let verdict = quick().judge(&pairs, Some(0.0), 1);
    assert!(verdict.gain.lower > 0.0, "it would pass without the second condition");
    assert!(
        !verdict.promote && verdict.reasons[0].contains("by chance"),
        "{verdict:?}"
    );
}

#[test]
fn answers_without_a_meaning_are_rejected_over_many_runs() {
    let mut random = Random::new(3);
    let mut passed = 0;
    for _ in 0..300 {
        let wanted = labels(&mut random, 32, 15);
        // A candidate that has learnt the answers and their frequencies, and nothing else.
        let said = labels(&mut random, 32, 15);
        let pairs: Vec<Pair> = wanted
            .iter()
            .zip(&said)
            .enumerate()
            .map(|(n, (w, s))| pair(n, w, "?", s))
            .collect();
        passed += usize::from(quick().judge(&pairs, Some(0.0), 1).promote);
    }
    assert!(passed <= 3, "{passed} of 300 passed, and one in a hundred may");
}

#[test]
fn more_candidates_make_it_harder() {
    let pairs: Vec<Pair> = (0..40)
        .map(|n| {
            pair(
                n,
                &format!("label {n}"),
                "?",
                &if n < 5 { format!("label {n}") } else { "?".into() },
            )
        })
        .collect();
    let (one, six) = (quick().judge(&pairs, Some(0.0), 1), quick().judge(&pairs, Some(0.0), 6));
    assert!(six.gain.lower <= one.gain.lower);
    assert_eq!(six.tried, 6);
}

#[test]
fn intervals_hold_the_truth_about_as_often_as_they_say() {
    let mut random = Random::new(11);
    let mut held = 0;
    for run in 0..400 {
        let seen: Vec<f64> = (0..40).map(|_| f64::from(u8::from(random.unit() < 0.3))).collect();
        let Interval { lower, upper, .. } = bootstrap(&seen, 0.95, 600, run);
        held += usize::from(lower <= 0.3 && 0.3 <= upper);
    }
    assert!((364..=396).contains(&held), "{held} of 400, of which 380 are meant");
}

#[test]
fn groups_that_differ_make_an_interval_wider() {
    let groups: Vec<Vec<f64>> = [0.0, 0.2, 0.8, 1.0].iter().map(|group| vec![*group; 30]).collect();
    let together: Vec<f64> = groups.iter().flatten().copied().collect();
    let (apart, pooled) = (clustered(&groups, 0.95, 2000, 1), bootstrap(&together, 0.95, 2000, 1));
    assert!((apart.mean - pooled.mean).abs() < 1e-9);
    assert!(apart.upper - apart.lower > 2.0 * (pooled.upper - pooled.lower));
    assert_eq!(clustered(&[Vec::new()], 0.95, 10, 1), Interval::NOTHING);
}

#[test]
fn a_sequence_is_looked_at_all_the_time_and_stays_right() {
    let mut random = Random::new(5);
    for truth in [0.1, 0.5, 0.9] {
        let mut wrong = 0;
        for _ in 0..200 {
            let mut sequence = Sequence::new(0.1);
            let ever = (0..400).any(|_| {
                sequence.see(f64::from(u8::from(random.unit() < truth)));
                let now = sequence.interval();
                truth < now.lower || now.upper < truth
            });
            wrong += usize::from(ever);
        }
        assert!(
            wrong <= 20,
            "{wrong} of 200 were wrong at some time with a mean of {truth}"
        );
    }
}

#[test]
fn a_canary_tells_worse_from_better_and_keeps_still_otherwise() {
    let mut random = Random::new(8);
    let mut run = |served: f64, candidate: f64| {
        let mut canary = Canary::new(0.05, 0.0);
        for turn in 0..3000 {
            let drawn = random.unit() < 0.2;
            let outcome = random.unit() < if drawn { candidate } else { served };
            canary.see(drawn, f64::from(u8::from(outcome)));
            if canary.standing() != Standing::Open {
                return (canary.standing(), turn);
            }
        }
        (canary.standing(), 3000)
    };
    assert_eq!(run(0.8, 0.3).0, Standing::Worse);
    assert_eq!(run(0.3, 0.8).0, Standing::Better);
    assert!(run(0.9, 0.1).1 < 300, "a bad one is taken back soon");
    let calm = (0..40).filter(|_| run(0.6, 0.6).0 == Standing::Open).count();
    assert!(calm >= 38, "{calm} of 40 that are equal were left alone");
}

#[test]
fn a_canary_goes_on_after_a_restart() {
    let mut canary = Canary::new(0.05, 0.1);
    (0..50).for_each(|turn| canary.see(turn % 3 == 0, f64::from(turn % 2)));
    let kept = serde_json::to_string(&canary).expect("JSON");
    let mut again: Canary = serde_json::from_str(&kept).expect("a canary");
    canary.see(true, 1.0);
    again.see(true, 1.0);
    assert_eq!(canary.counts(), again.counts());
    assert!((canary.difference().lower - again.difference().lower).abs() < 1e-12);
}

proptest! {
    #[test]
    fn an_interval_is_in_order_and_within_what_was_seen(
        seen in prop::collection::vec(-1.0..1.0f64, 1..60), seed in any::<u64>(), confidence in 0.5..0.999f64
    ) {
        let interval = bootstrap(&seen, confidence, 200, seed);
        let (low, high) = seen.iter().fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
        prop_assert!(interval.lower <= interval.upper);
        prop_assert!(low - 1e-9 <= interval.lower && interval.upper <= high + 1e-9);
        prop_assert_eq!(interval, bootstrap(&seen, confidence, 200, seed));
        let surer = bootstrap(&seen, 0.5 + confidence / 2.0, 200, seed);
        prop_assert!(surer.lower <= interval.lower && interval.upper <= surer.upper);
    }

    #[test]
    fn what_is_never_better_never_passes(replies in prop::collection::vec((0usize..4, any::<bool>()), 12..40), tried in 1usize..6) {
        let pairs: Vec<Pair> = replies.iter().enumerate().map(|(n, (label, right))| {
            let wanted = format!("label {label}");
            // Right after only where it was right before.
            pair(n, &wanted, &wanted, if *right { &wanted } else { "?" })
        }).collect();
        let verdict = Bounds { resamples: 100, ..Bounds::default() }.judge(&pairs, Some(0.0), tried);
        prop_assert!(!verdict.promote);
        prop_assert_eq!(verdict.lost.len(), replies.iter().filter(|(_, right)| !right).count());
        prop_assert!(verdict.won.is_empty());
    }

    #[test]
    fn bounds_of_a_sequence_only_narrow(outcomes in prop::collection::vec(-0.5..1.5f64, 1..200)) {
        let mut sequence = Sequence::new(0.05);
        let mut before = sequence.interval();
        for outcome in outcomes {
            sequence.see(outcome);
            let now = sequence.interval();
            prop_assert!(before.lower <= now.lower && now.upper <= before.upper);
            before = now;
        }
        let count = sequence.count();
        sequence.see(f64::NAN);
        prop_assert_eq!(sequence.count(), count);
    }
}
