//! What holds of slices, whatever the examples are.

use std::collections::HashSet;

use habit_engine::Role;
use proptest::prelude::*;

use super::*;

fn example(number: u128, at: i64, question: &str) -> Example {
    Example {
        id: Uuid::from_u128(number),
        messages: vec![Message::new(Role::User, question)],
        answer: "a".to_owned(),
        at,
        weight: 1.0,
        from: Vec::new(),
        user: "u".to_owned(),
    }
}

fn examples() -> impl Strategy<Value = Vec<Example>> {
    let one = (
        0_i64..20,
        prop::sample::select(vec![
            "pay the bill",
            "pay the bill!",
            "freeze it",
            "x",
            "yes no",
            "where",
        ]),
    );
    proptest::collection::vec(one, 0..40).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(number, (at, question))| example(number as u128, at, question))
            .collect()
    })
}

proptest! {
    #[test]
    fn slices_are_disjoint_in_time_and_by_cluster(all in examples()) {
        let cut = slices(all.clone());
        let parts = [&cut.train, &cut.gate, &cut.canary, &cut.report];
        let kept: usize = parts.iter().map(|part| part.len()).sum();
        prop_assert_eq!(kept + cut.left_out.len(), all.len());
        for (older, newer) in parts.iter().zip(&parts[1..]) {
            let last = older.iter().map(|one| (one.at, one.id)).max();
            let first = newer.iter().map(|one| (one.at, one.id)).min();
            prop_assert!(last.is_none() || first.is_none() || last < first);
        }
        let texts: Vec<String> = parts.iter().flat_map(|part| part.iter()).map(Example::question).collect();
        let clusters = near::clusters(&texts);
        let mut place = 0;
        let mut seen: HashSet<usize> = HashSet::new();
        for part in parts {
            let own: HashSet<usize> = clusters[place..place + part.len()].iter().copied().collect();
            prop_assert!(seen.is_disjoint(&own));
            seen.extend(own);
            place += part.len();
        }
    }

    #[test]
    fn the_order_of_examples_changes_nothing(all in examples(), seed in any::<prop::sample::Index>()) {
        let mut turned = all.clone();
        if !turned.is_empty() {
            let by = seed.index(turned.len());
            turned.rotate_left(by);
        }
        prop_assert_eq!(slices(turned), slices(all));
    }
}

#[test]
fn most_is_trained_on() {
    let all: Vec<Example> = (0..160_u128)
        .map(|n| example(n, i64::try_from(n).unwrap(), &format!("{n:x}{n:o}{n:b}")))
        .collect();
    let cut = slices(all);
    assert_eq!(
        (cut.train.len(), cut.gate.len(), cut.canary.len(), cut.report.len()),
        (120, 24, 8, 8)
    );
    let one = slices(vec![example(1, 1, "alone")]);
    assert_eq!((one.train.len(), one.gate.len()), (1, 0));
}
