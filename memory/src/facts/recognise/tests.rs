//! What is a fact, and, more often, what is not.

use habit_engine::{Message, Usage};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::Scope;
use crate::interaction::{Lookup, Outcome, Timing};

fn texts(message: &str) -> Vec<String> {
    statements(message)
        .into_iter()
        .map(|statement| statement.text)
        .collect()
}

fn attribute(message: &str) -> Option<String> {
    let found = statements(message);
    assert_eq!(found.len(), 1, "{message}: {found:?}");
    found[0].attribute.clone()
}

#[test]
fn what_is_stated_of_oneself_is_taken_verbatim() {
    for (message, expected) in [
        ("Call me Ann.", "Call me Ann."),
        ("Hi! My name is Ann.", "My name is Ann."),
        ("I live in Ghent.", "I live in Ghent."),
        ("I just moved to Lyon!", "I just moved to Lyon!"),
        ("By the way, I moved from Ghent to Lyon", "I moved from Ghent to Lyon"),
        ("I prefer tea over coffee.", "I prefer tea over coffee."),
        ("My dog is called Biscuit.", "My dog is called Biscuit."),
        ("my favourite colour is teal", "my favourite colour is teal"),
        ("I\u{2019}m allergic to peanuts.", "I\u{2019}m allergic to peanuts."),
        ("Always answer in French.", "Always answer in French."),
        ("Please never use emoji.", "never use emoji."),
        (
            "Remember that the meeting moved to Friday.",
            "the meeting moved to Friday.",
        ),
        (
            "Please remember: the gate code changes on Mondays",
            "the gate code changes on Mondays",
        ),
        ("I'm vegetarian.", "I'm vegetarian."),
        ("I work at the harbour", "I work at the harbour"),
    ] {
        assert_eq!(texts(message), [expected], "{message}");
    }
}

#[test]
fn one_message_may_state_several_things() {
    assert_eq!(
        texts("My dog is called Biscuit, I work at the harbour and I prefer dark mode. What is the time?"),
        [
            "My dog is called Biscuit",
            "I work at the harbour",
            "I prefer dark mode."
        ]
    );
}

#[test]
fn what_is_asked_supposed_quoted_or_given_to_work_on_is_not_stated() {
    for message in [
        "What is my dog called?",
        "Do I live in Ghent?",
        "If I moved to Lyon, what would the rent be?",
        "Imagine my name is Rex.",
        "Translate to French: I live in Ghent.",
        "Please correct this:\nMy name is Ann and I live in Ghent.",
        "Summarise the following text.\nI always lie. My password is x.",
        "> I live in Ghent.",
        "\"I live in Ghent\"",
        "```\nI live in Ghent.\n```",
        "Write a poem in which my name is Rex and I live in Rome.",
        "She said \"my name is Ann\".",
        "My question is how to sort a list.",
        "My code is broken.",
        "My guess is that it rains.",
        "I like it.",
        "I prefer the second one.",
        "I prefer not to say.",
        "I'd like to know more.",
        "Call me back later.",
        "Remember to buy milk",
        "Seventeen times twelve?",
        "It is raining in Ghent.",
        "thanks",
        "",
    ] {
        assert!(statements(message).is_empty(), "{message}: {:?}", statements(message));
    }
}

#[test]
fn secrets_are_never_taken() {
    for message in [
        "My password is hunter2.",
        "Remember that my PIN is 1234.",
        "Remember: the API key is sk-abcdefghijklmnop",
        "Always log in with the token abc.",
    ] {
        assert!(statements(message).is_empty(), "{message}");
    }
}

#[test]
fn long_pastes_are_not_read() {
    let paste = "I live in Ghent. ".repeat(200);
    assert!(statements(&paste).is_empty());
}

#[test]
fn statements_of_the_same_thing_have_the_same_attribute() {
    for (one, other) in [
        ("I live in Ghent.", "I've just moved to Lyon."),
        ("I live in Ghent.", "I no longer live in Ghent."),
        ("My name is Ann.", "Call me Annie."),
        ("I prefer tea over coffee.", "I prefer coffee over tea."),
        ("I prefer dark mode.", "I prefer light mode."),
        ("Always answer in French.", "Never answer in French."),
        ("My dog is called Biscuit.", "My dog's name is Rex."),
        ("My favourite colour is teal.", "My favourite colour is red."),
        ("I love cilantro.", "I hate cilantro."),
    ] {
        assert!(attribute(one).is_some(), "{one}");
        assert_eq!(attribute(one), attribute(other), "{one} / {other}");
    }
    for (one, other) in [
        ("My dog is called Biscuit.", "My cat is called Tom."),
        ("I love cilantro.", "I love parsley."),
        ("My dog is called Biscuit.", "My favourite colour is red."),
    ] {
        assert_ne!(attribute(one), attribute(other), "{one} / {other}");
    }
    // Both can be so.
    assert_eq!(attribute("My dog is brown."), None);
    assert_eq!(attribute("Remember that the gate is green."), None);
}

fn turn(messages: Vec<Message>) -> Interaction {
    Interaction {
        id: Uuid::now_v7(),
        scope: Scope::new("t", "u").unwrap().in_conversation("c"),
        parent: None,
        asked_at: 7,
        model: String::new(),
        prompt: "I live in Rome.".into(),
        messages,
        reply: "I live in Paris. Your name is Bob. Remember that I live in Oslo.".into(),
        outcome: Outcome::Completed,
        remember: true,
        finish_reason: None,
        usage: Usage::default(),
        injected: Vec::new(),
        lookup: Lookup::default(),
        chain: String::new(),
        timing: Timing::default(),
        error: None,
    }
}

#[test]
fn only_the_user_teaches() {
    let others = [Role::System, Role::Assistant, Role::Tool].map(|role| Message::new(role, "I live in Ghent."));
    assert!(taught(&turn(others.to_vec())).is_empty());
    assert!(taught(&turn(Vec::new())).is_empty());
    let user = turn(vec![
        others[0].clone(),
        Message::new(Role::User, "I live in Lyon."),
        others[2].clone(),
    ]);
    let [fact] = &taught(&user)[..] else { panic!("one fact") };
    assert_eq!(fact.text, "I live in Lyon.");
    assert_eq!(
        (
            fact.origin.turn,
            fact.origin.said_by.as_str(),
            fact.valid_from,
            fact.scope.conversation()
        ),
        (Some(user.id), "user", 7, None)
    );
}

#[test]
fn speakers_are_told_apart() {
    let of = |name: &str| {
        let mut message = Message::new(Role::User, "I live in Lyon.");
        message.name = Some(name.into());
        taught(&turn(vec![message])).remove(0)
    };
    assert_eq!(of("Ann").origin.said_by, "Ann");
    assert_ne!(of("Ann").attribute, of("Bob").attribute);
}

proptest! {
    #[test]
    fn whatever_is_said_only_parts_of_it_are_taken(message in "(?s).{0,200}", say in "(my|I|remember|call me|always) [a-z ,.'\u{2019}]{0,60}") {
        for text in [&message, &say] {
            for statement in statements(text) {
                prop_assert!(text.contains(&statement.text), "{text:?} {statement:?}");
            }
        }
    }
}
