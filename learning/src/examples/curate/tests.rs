//! What feedback comes to, and what one user can't do to others.

use proptest::prelude::*;

use super::*;
use crate::feedback::{Given, Thumb};

fn told(number: u128, user: &str, question: &str, reply: &str, given: Vec<Given>) -> Told {
    let at = i64::try_from(number).unwrap();
    let feedback = given.into_iter().enumerate().map(|(place, given)| Feedback {
        id: Uuid::from_u128(number * 100 + place as u128),
        user: user.to_owned(),
        turn: Uuid::from_u128(number),
        given,
        at: at * 10 + i64::try_from(place).unwrap(),
    });
    Told {
        turn: Uuid::from_u128(number),
        user: user.to_owned(),
        messages: vec![Message::new(Role::User, question)],
        reply: reply.to_owned(),
        at,
        feedback: feedback.collect(),
        implicit: Vec::new(),
    }
}

fn fix(text: &str) -> Given {
    Given {
        correction: Some(text.to_owned()),
        ..Given::default()
    }
}

fn thumb(thumb: Thumb) -> Given {
    Given {
        thumb: Some(thumb),
        ..Given::default()
    }
}

fn me() -> Audience {
    Audience::User("ann".to_owned())
}

#[test]
fn corrections_are_gold_thumbs_approve_and_the_rest_is_told() {
    let all = vec![
        told(1, "ann", "one?", "wrong", vec![thumb(Thumb::Up), fix("right")]),
        told(2, "ann", "two?", "fine", vec![thumb(Thumb::Up)]),
        told(3, "ann", "three?", "bad", vec![thumb(Thumb::Down)]),
        told(
            4,
            "ann",
            "four?",
            "so so",
            vec![Given {
                score: Some(0.5),
                ..Given::default()
            }],
        ),
        told(
            5,
            "ann",
            "five?",
            "copied",
            vec![Given {
                implicit: Some(Implicit::Copy),
                ..Given::default()
            }],
        ),
        told(6, "bob", "six?", "x", vec![fix("not for ann")]),
    ];
    let found = curate(all, &me());
    let answers: Vec<(&str, f32)> = found
        .examples
        .iter()
        .map(|one| (one.answer.as_str(), one.weight))
        .collect();
    assert_eq!(answers, [("right", 1.0), ("fine", 0.5)]);
    assert_eq!(
        found.examples[0].from,
        [Uuid::from_u128(101)],
        "the thumb said otherwise"
    );
    assert_eq!((found.pairs.len(), found.pairs[0].rejected.as_str()), (1, "wrong"));
    let judged: Vec<(&str, bool)> = found.judged.iter().map(|one| (one.reply.as_str(), one.good)).collect();
    assert_eq!(judged, [("wrong", false), ("fine", true), ("bad", false)]);
    assert_eq!(found.left_out.len(), 3, "{:?}", found.left_out);
}

#[test]
fn of_several_words_on_a_reply_only_what_stands_makes_the_example() {
    let words = vec![
        thumb(Thumb::Down),
        fix("left"),
        thumb(Thumb::Up),
        fix("right"),
        fix("Right."),
    ];
    let found = curate(vec![told(1, "ann", "one?", "wrong", words)], &me());
    assert_eq!(found.examples[0].answer, "Right.");
    let of = [100, 103, 104].map(Uuid::from_u128);
    assert_eq!(found.examples[0].from, of, "the thumb down says so too");
    let out: Vec<Uuid> = found.left_out.iter().flat_map(|left| left.from.clone()).collect();
    assert_eq!(out, [101, 102].map(Uuid::from_u128));
    let why = format!("superseded by the correction {}", Uuid::from_u128(104));
    assert!(
        found.left_out.iter().all(|left| left.why.contains(&why)),
        "{:?}",
        found.left_out
    );
    let found = curate(
        vec![told(1, "ann", "one?", "x", vec![thumb(Thumb::Up), thumb(Thumb::Down)])],
        &me(),
    );
    assert!(found.examples.is_empty() && !found.judged[0].good);
    assert!(found.left_out[0].why.contains("later word"), "{:?}", found.left_out);
}

#[test]
fn an_answer_that_is_bad_after_all_is_withdrawn() {
    let up = || told(1, "ann", "Which one?", "The left.", vec![thumb(Thumb::Up)]);
    let down = |number, reply: &str| told(number, "ann", "which one", reply, vec![thumb(Thumb::Down)]);
    let found = curate(vec![up(), down(2, "the left")], &me());
    assert!(found.examples.is_empty(), "{:?}", found.examples);
    assert_eq!(found.left_out[0].turn, Uuid::from_u128(1));
    assert_eq!(found.judged.len(), 1, "{:?}", found.judged);
    let fixed = || told(1, "ann", "Which one?", "x", vec![fix("The left.")]);
    assert!(curate(vec![fixed(), down(2, "the left")], &me()).examples.is_empty());
    // Another answer to it says nothing of this one, nor does what was said before, or what another user said.
    let again = told(3, "ann", "Which one?", "The left.", vec![thumb(Thumb::Up)]);
    let bob = told(2, "bob", "Which one?", "The left.", vec![thumb(Thumb::Down)]);
    for all in [
        vec![up(), down(2, "the right")],
        vec![up(), down(2, "the left"), again],
        vec![up(), bob],
    ] {
        assert_eq!(curate(all, &me()).examples.len(), 1);
    }
    // Where everybody's word counts, it is the latest of all.
    let bob = told(2, "bob", "Which one?", "The left.", vec![thumb(Thumb::Down)]);
    assert!(
        curate(vec![up(), bob], &Audience::Team { users: 1 })
            .examples
            .is_empty()
    );
}

#[test]
fn what_was_asked_again_is_no_good_example() {
    let mut asked_again = told(
        1,
        "ann",
        "one?",
        "fine",
        vec![Given {
            score: Some(0.7),
            ..Given::default()
        }],
    );
    asked_again.implicit = vec![Implicit::Regenerate];
    let found = curate(vec![asked_again], &me());
    assert!(found.examples.is_empty());
    assert!(found.left_out[0].why.contains("asked again"));
}

#[test]
fn the_latest_word_wins_and_the_same_word_makes_one_example() {
    let all = vec![
        told(1, "ann", "Which one?", "x", vec![fix("the left")]),
        told(2, "ann", "which one", "x", vec![fix("the right")]),
        told(3, "ann", "Which one?!", "x", vec![fix("The right.")]),
    ];
    let found = curate(all, &me());
    assert_eq!(found.examples.len(), 1);
    assert_eq!(found.examples[0].answer, "The right.");
    assert_eq!(found.examples[0].from.len(), 2);
    assert_eq!(found.left_out.len(), 1);
    assert_eq!(found.left_out[0].turn, Uuid::from_u128(1));
}

#[test]
fn secrets_reach_no_example() {
    let found = curate(
        vec![told(
            1,
            "ann",
            "Is ann@acme.org mine?",
            "x",
            vec![fix("Yes, ann@acme.org, +49 30 9018201.")],
        )],
        &me(),
    );
    assert_eq!(found.examples[0].question(), "Is [email] mine?");
    assert_eq!(found.examples[0].answer, "Yes, [email], [phone].");
    assert_eq!(found.scrubbed, 3);
    assert!(!format!("{found:?}").contains("acme"), "{found:?}");
}

#[test]
fn one_users_bad_corrections_change_nothing_for_others() {
    let good = |number, user: &str| {
        told(
            number,
            user,
            &format!("where is branch {}", number % 3),
            "x",
            vec![fix("in town")],
        )
    };
    let mut honest: Vec<Told> = (0..3).map(|n| good(n, "ann")).collect();
    honest.extend((3..6).map(|n| good(n, "bob")));
    let team = Audience::Team { users: 2 };
    let before = curate(honest.clone(), &team);
    assert_eq!(before.examples.len(), 6);
    let bad = (100..600).map(|n| {
        told(
            n,
            "mallory",
            &format!("where is branch {}", n % 3),
            "x",
            vec![fix(&format!("nowhere {}", n % 7))],
        )
    });
    let new = (600..700).map(|n| {
        told(
            n,
            "mallory",
            &format!("what about {n} and {n}?"),
            "x",
            vec![fix("nowhere")],
        )
    });
    honest.extend(bad.chain(new));
    let after = curate(honest, &team);
    assert_eq!(after.examples, before.examples);
    assert_eq!(after.pairs, before.pairs);
}

#[test]
fn alone_in_a_team_ones_word_counts() {
    let found = curate(
        vec![told(1, "ann", "one?", "x", vec![fix("yes")])],
        &Audience::Team { users: 1 },
    );
    assert_eq!((found.examples.len(), found.examples[0].user.as_str()), (1, "ann"));
}

fn given() -> impl Strategy<Value = Given> {
    prop_oneof![
        Just(thumb(Thumb::Up)),
        Just(thumb(Thumb::Down)),
        prop::sample::select(vec!["yes", "no", "maybe"]).prop_map(fix),
        (0.0_f32..=1.0).prop_map(|score| Given {
            score: Some(score),
            ..Given::default()
        }),
    ]
}

fn world() -> impl Strategy<Value = Vec<Told>> {
    let one = (
        prop::sample::select(vec!["ann", "bob", "eve"]),
        prop::sample::select(vec!["a or b", "A or B?", "c or d"]),
        proptest::collection::vec(given(), 1..3),
    );
    proptest::collection::vec(one, 0..16).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(place, (user, question, given))| told(place as u128 + 1, user, question, "reply", given))
            .collect()
    })
}

proptest! {
    #[test]
    fn the_order_of_what_was_said_changes_nothing(all in world(), seed in any::<prop::sample::Index>()) {
        for audience in [me(), Audience::Team { users: 1 }, Audience::Team { users: 2 }] {
            let mut turned = all.clone();
            if !turned.is_empty() {
                turned.rotate_left(seed.index(all.len()));
            }
            prop_assert_eq!(curate(turned, &audience), curate(all.clone(), &audience));
        }
    }

    #[test]
    fn a_user_asks_the_same_once(all in world()) {
        let found = curate(all, &me());
        let mut asked: Vec<String> = found.examples.iter().map(|one| near::plain(&one.question())).collect();
        asked.sort();
        let all = asked.len();
        asked.dedup();
        prop_assert_eq!(asked.len(), all);
    }

    #[test]
    fn nobody_decides_alone_for_a_team(all in world()) {
        let found = curate(all.clone(), &Audience::Team { users: 2 });
        for one in &found.examples {
            let alike = all.iter().filter(|told| near::plain(&told.messages[0].text()) == near::plain(&one.question()));
            let users: BTreeSet<&str> = alike.map(|told| told.user.as_str()).collect();
            prop_assert!(users.len() >= 2);
        }
    }

    #[test]
    fn everything_said_is_somewhere(all in world()) {
        let found = curate(all.clone(), &Audience::Team { users: 1 });
        let mut seen: BTreeSet<Uuid> = found.left_out.iter().flat_map(|left| left.from.iter().copied()).collect();
        seen.extend(found.examples.iter().flat_map(|one| one.from.iter().copied()));
        let judged: BTreeSet<Uuid> = found.judged.iter().map(|one| one.id).collect();
        for one in all {
            prop_assert!(judged.contains(&one.turn) || one.feedback.iter().all(|feedback| seen.contains(&feedback.id)));
        }
    }
}
