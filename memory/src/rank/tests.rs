//! What must hold of every ranking.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn hit(id: u128, at: i64, bm25: Option<f32>, cosine: Option<f32>, overlap: f32) -> Hit {
    Hit {
        id: Uuid::from_u128(id),
        session: format!("s{}", id % 3),
        at,
        bm25,
        cosine,
        overlap,
        around: cosine.map(|cosine| cosine / 2.0),
        session_words: bm25,
        session_meaning: cosine,
        words: u32::try_from(at % 50).unwrap(),
        states: id % 4 != 1,
        named: [None, Some(true), Some(false)][(id % 3) as usize],
        among: None,
    }
}

prop_compose! {
    fn some_hits()(parts in prop::collection::vec(
        (0_i64..1_000, prop::option::of(0.0_f32..20.0), prop::option::of(-1.0_f32..1.0), 0.0_f32..=1.0), 0..12,
    )) -> Vec<Hit> {
        parts.into_iter().enumerate().map(|(i, (at, bm25, cosine, overlap))| hit(i as u128, at, bm25, cosine, overlap)).collect()
    }
}

proptest! {
    #[test]
    fn scores_are_shares_and_fall(hits in some_hits(), dated: bool) {
        let days = dates::named("in January 1970", 0).filter(|_| dated);
        let ranked = rank(&hits, days.as_ref(), &Weights::TURNS);
        prop_assert_eq!(ranked.len(), hits.len());
        prop_assert!(ranked.iter().all(|scored| (0.0..=1.0).contains(&scored.score)));
        prop_assert!(ranked.windows(2).all(|pair| pair[0].score >= pair[1].score));
    }

    #[test]
    fn the_order_of_the_candidates_does_not_matter(hits in some_hits(), turn in 0_usize..12) {
        let mut turned = hits.clone();
        turned.rotate_left(turn % hits.len().max(1));
        let scores = |hits: &[Hit]| -> Vec<(Uuid, f32)> {
            rank(hits, None, &Weights::TURNS).iter().map(|s| (hits[s.place].id, s.score)).collect()
        };
        prop_assert_eq!(scores(&hits), scores(&turned));
    }

    #[test]
    fn a_better_match_never_scores_less(hits in some_hits(), more in 0.0_f32..0.5) {
        prop_assume!(!hits.is_empty());
        let place = |hits: &[Hit]| rank(hits, None, &Weights::TURNS).iter().position(|s| hits[s.place].id.is_nil());
        let before = place(&hits);
        let mut better = hits.clone();
        better[0].overlap = (better[0].overlap + more).min(1.0);
        prop_assert!(place(&better) <= before);
    }

    #[test]
    fn the_floor_only_takes_away(hits in some_hits()) {
        let ranked = rank(&hits, None, &Weights::TURNS);
        let kept = above_floor(&hits, ranked.clone(), &Floor::default());
        let mut all = ranked.iter();
        prop_assert!(kept.iter().all(|one| all.any(|other| other == one)), "in the same order");
        prop_assert_eq!(above_floor(&hits, ranked.clone(), &Floor::NONE), ranked);
    }
}

#[test]
fn what_nothing_speaks_for_is_left_out() {
    let kept = |hit: Hit| {
        above_floor(
            std::slice::from_ref(&hit),
            rank(std::slice::from_ref(&hit), None, &Weights::TURNS),
            &Floor::default(),
        )
        .len()
    };
    assert_eq!(kept(hit(0, 0, Some(3.0), Some(0.30), 0.3)), 0, "far, and few words");
    assert_eq!(kept(hit(0, 0, Some(3.0), Some(0.26), 1.0)), 1, "far, but all words");
    assert_eq!(kept(hit(0, 0, None, Some(0.60), 0.0)), 1, "near, in other words");
    assert_eq!(
        kept(hit(1, 0, None, Some(0.60), 0.2)),
        0,
        "an earlier wish of the same form"
    );
    assert_eq!(kept(hit(0, 0, Some(3.0), None, 0.7)), 1, "no vector, but words");
    assert_eq!(kept(hit(0, 0, Some(3.0), None, 0.3)), 0, "no vector, and few words");
}

/// The nearest of many is nearer by chance than the nearest of few.
#[test]
fn among_few_less_must_speak() {
    let kept = |among: Option<usize>, cosine: f32| {
        let hit = Hit {
            among,
            ..hit(0, 0, None, Some(cosine), 0.0)
        };
        let ranked = rank(std::slice::from_ref(&hit), None, &Weights::TURNS);
        above_floor(&[hit], ranked, &Floor::default()).len()
    };
    let counts = [1, 5, 30, 100, 300, 600, 1_000_000];
    let lowest = counts.map(|among| (0..100).find(|cosine| kept(Some(among), *cosine as f32 / 100.0) == 1));
    assert_eq!(
        lowest,
        [Some(33), Some(33), Some(38), Some(43), Some(48), Some(50), Some(50)]
    );
    assert_eq!((kept(None, 0.49), kept(None, 0.5)), (0, 1), "unknown counts as many");
}

#[test]
fn who_is_named_and_when_it_was_count() {
    let now = 1_700_000_000_000;
    let (mut one, two) = (
        hit(0, now, Some(5.0), Some(0.5), 0.5),
        hit(3, now, Some(5.0), Some(0.5), 0.5),
    );
    let best = |hits: &[Hit], question: &str| {
        let days = dates::named(question, now);
        hits[rank(hits, days.as_ref(), &Weights::TURNS)[0].place].id
    };
    one.named = Some(true);
    assert_eq!(best(&[one.clone(), two.clone()], ""), one.id);
    one.named = None;
    one.at = now - 400 * 86_400_000;
    assert_eq!(best(&[one.clone(), two.clone()], "What did I say yesterday?"), two.id);
    assert_eq!(best(&[one.clone(), two], "What did I say on 2022-10-10?"), one.id);
}
