//! What must hold of every ranking.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn hit(id: u128, at: i64, bm25: Option<f32>, cosine: Option<f32>) -> Hit {
    Hit {
        id: Uuid::from_u128(id),
        session: format!("s{}", id % 3),
        at,
        bm25,
        cosine,
    }
}

fn candidates<'a>(hits: &'a [Hit], texts: &'a [String]) -> Vec<Candidate<'a>> {
    hits.iter()
        .zip(texts)
        .map(|(hit, text)| Candidate { hit, text })
        .collect()
}

prop_compose! {
    fn some_hits()(parts in prop::collection::vec(
        (0_i64..1_000, prop::option::of(0.0_f32..20.0), prop::option::of(-1.0_f32..1.0), "[a-z ]{0,40}\\??"), 0..12,
    )) -> (Vec<Hit>, Vec<String>) {
        parts.into_iter().enumerate().map(|(i, (at, bm25, cosine, text))| (hit(i as u128, at, bm25, cosine), text)).unzip()
    }
}

proptest! {
    #[test]
    fn scores_are_shares_and_fall((hits, texts) in some_hits()) {
        let list = candidates(&hits, &texts);
        let ranked = rank(&list, &Weights::default());
        prop_assert_eq!(ranked.len(), hits.len());
        prop_assert!(ranked.iter().all(|scored| (0.0..=1.0).contains(&scored.score)));
        prop_assert!(ranked.windows(2).all(|pair| pair[0].score >= pair[1].score));
    }

    #[test]
    fn the_order_of_the_candidates_does_not_matter((hits, texts) in some_hits(), turn in 0_usize..12) {
        let list = candidates(&hits, &texts);
        let mut turned = list.clone();
        let by = turn % turned.len().max(1);
        turned.rotate_left(by);
        let ids = |list: &[Candidate<'_>]| -> Vec<(Uuid, f32)> {
            rank(list, &Weights::default()).iter().map(|s| (list[s.place].hit.id, s.score)).collect()
        };
        let (one, other) = (ids(&list), ids(&turned));
        for (a, b) in one.iter().zip(&other) {
            prop_assert!((a.1 - b.1).abs() < 1e-5);
        }
    }

    #[test]
    fn a_better_match_never_scores_less((hits, texts) in some_hits(), more in 0.0_f32..5.0) {
        prop_assume!(!hits.is_empty());
        let score = |hits: &[Hit]| {
            let list = candidates(hits, &texts);
            rank(&list, &Weights::default()).iter().find(|s| s.place == 0).map(|s| s.score)
        };
        let before = score(&hits);
        let mut better = hits.clone();
        // Only where the search found it at all: otherwise the set of features would change too.
        prop_assume!(better[0].bm25.is_some());
        better[0].bm25 = better[0].bm25.map(|value| value + more);
        prop_assert!(score(&better).unwrap_or_default() >= before.unwrap_or_default() - 1e-5);
    }

    #[test]
    fn the_floor_only_takes_away((hits, texts) in some_hits(), query in "[a-z ]{0,30}") {
        let list = candidates(&hits, &texts);
        let ranked = rank(&list, &Weights::default());
        let kept = above_floor(&query, &list, ranked.clone(), &Floor::default());
        let mut rest = ranked.iter();
        prop_assert!(kept.iter().all(|scored| rest.any(|other| other == scored)));
    }
}

#[test]
fn nothing_gives_nothing() {
    assert!(rank(&[], &Weights::default()).is_empty());
    assert!(above_floor("anything", &[], Vec::new(), &Floor::default()).is_empty());
}

#[test]
fn a_statement_goes_before_the_question_about_it() {
    let hits = [hit(1, 5, Some(4.0), Some(0.6)), hit(4, 5, Some(4.0), Some(0.6))];
    let texts = [
        "what is my dog called?".to_owned(),
        "my dog is called biscuit".to_owned(),
    ];
    let ranked = rank(&candidates(&hits, &texts), &Weights::default());
    assert_eq!(ranked[0].place, 1);
}

#[test]
fn an_unrelated_candidate_is_below_the_floor_even_when_it_is_the_best() {
    let hits = [hit(1, 5, Some(1.0), Some(0.12))];
    let texts = ["I went for a walk in the rain".to_owned()];
    let list = candidates(&hits, &texts);
    let ranked = rank(&list, &Weights::default());
    assert!(ranked[0].score > 0.9, "alone it is the best of all");
    assert!(above_floor("How do I sort a list in Python?", &list, ranked, &Floor::default()).is_empty());
}

#[test]
fn words_alone_suffice_when_there_are_no_vectors() {
    let hits = [hit(1, 5, Some(3.0), None)];
    let texts = ["My dog is called Biscuit".to_owned()];
    let list = candidates(&hits, &texts);
    let kept = above_floor(
        "What is my dog called?",
        &list,
        rank(&list, &Weights::default()),
        &Floor::default(),
    );
    assert_eq!(kept.len(), 1);
}
