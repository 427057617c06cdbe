//! What is a fact, and, more often, what is not.

use habit_engine::Message;
use proptest::prelude::*;

use super::*;
use crate::Scope;

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

#[test]
fn words_of_others_within_a_message_teach_nothing() {
    for message in [
        "My colleague wrote me this. I live in Brazil. I prefer football. What should I reply?",
        "What does this mean: I live in Peru. I work at Shell.",
        "Dear Mr Smith,\nI live in Chile and I work at Ikea.\nYours, Paul\n\nIs this letter polite?",
        "Dear Mr Smith,\n\nI live in Chile.\n\nI work at Ikea.",
        "Hello Ann,\nI live in Chile.\nKind regards,\nPaul",
        "User review: I love this hotel. I live in Spain.",
        "Review: Great hotel. I live in Spain.",
        "She told me: my name is Zed and my favourite colour is pink.",
        "She told me she left and I live in Rome.",
        "He said it's fine, my name is Zed.",
        "Paul: Hello there. I live in Chile.\nAnn: I work at Ikea.",
        "Note from Paul: I live in Chile. I work at Ikea.",
        "I got this email today. I live in Chile. I work at Ikea.",
        "Here is what my tenant sent. I live in Chile.",
        "She wrote \"I love tea. I live in Rome. I work at Shell.\"",
        "\"I love tea.\nI live in Rome.\nI work at Shell.\"",
        "I live in Peru. I work at Shell. Translate this into French.",
        "I live in Peru.\n\nWhat does that mean?",
        "I live in Peru. How do I answer that?",
        "Reply to this politely. I live in Peru.",
        "Can you proofread this? I live in Peru.",
        "I live in Peru. Is the text above correct?",
    ] {
        assert!(statements(message).is_empty(), "{message}: {:?}", statements(message));
    }
}

#[test]
fn ones_own_words_beside_those_of_others_are_taken() {
    for (message, expected) in [
        (
            "I live in Ghent. Translate this: je suis Paul",
            &["I live in Ghent."][..],
        ),
        (
            "I live in Ghent. My neighbour wrote: I live in Chile.",
            &["I live in Ghent."],
        ),
        (
            "I live in Ghent and my wife says I work at Shell.",
            &["I live in Ghent"],
        ),
        ("By the way: I live in Ghent.", &["I live in Ghent."]),
        ("Correction: I live in Ghent.", &["I live in Ghent."]),
        ("As I said, I live in Ghent.", &["I live in Ghent."]),
        ("I told my boss. I live in Ghent.", &["I live in Ghent."]),
        (
            "My sister told me that it rains. I live in Ghent.",
            &["I live in Ghent."],
        ),
        (
            "I have two pets: a cat and a dog. My dog is called Rex.",
            &["My dog is called Rex."],
        ),
        (
            "Remember: I live in Ghent. I work at Shell.",
            &["I live in Ghent.", "I work at Shell."],
        ),
        ("The train leaves at 10:30. I live in Ghent.", &["I live in Ghent."]),
        ("I live in Ghent. Thanks, Ann", &["I live in Ghent."]),
    ] {
        assert_eq!(texts(message), expected, "{message}");
    }
}

#[test]
fn words_of_time_and_spelling_do_not_part_what_is_the_same() {
    for (one, other) in [
        ("I prefer tea over coffee.", "I prefer coffee over tea now."),
        ("I prefer tea over coffee.", "Now I prefer coffee over tea."),
        (
            "I prefer tea over coffee.",
            "I prefer coffee instead of tea these days.",
        ),
        ("I prefer tea.", "I prefer coffee now."),
        ("I prefer tea over coffee.", "I currently prefer matcha."),
        ("I like jazz.", "I don't like jazz anymore."),
        ("I like jazz.", "I don't like jazz any more!"),
        ("I like jazz.", "I no longer like jazz."),
        ("My phone number is 123.", "My new phone number is 456."),
        ("My favorite color is teal.", "My favourite colour is red now."),
        ("My favourite colour is teal.", "My new favourite colour is red."),
        ("My girlfriend is Sara.", "My girlfriend is Nina now."),
        ("My girlfriend is Sara.", "My new girlfriend is called Nina."),
        ("My fianc\u{e9}e is Sara.", "My fiancee's name is Nina."),
        ("My boss is Henrietta Vance.", "My boss is now Nina."),
        ("My dog is called Biscuit.", "My dog is called Bello now."),
        ("I'm vegan.", "I'm no longer vegan."),
        ("I'm vegan.", "I'm not vegan any more."),
        ("I work as a nurse.", "I'm a teacher now."),
        ("I work as a nurse.", "I'm a software engineer at Google."),
        ("I work as a nurse.", "I no longer work as a nurse."),
        ("I work at Shell.", "I started a new job at Airbus."),
        ("I work at Shell.", "I don't work at Shell any more."),
        ("I live in Ghent.", "We moved to Lille."),
        ("I live in Ghent.", "We've just moved to Lille!"),
        ("I'm allergic to nuts.", "I'm no longer allergic to nuts."),
    ] {
        assert!(attribute(one).is_some(), "{one}");
        assert_eq!(attribute(one), attribute(other), "{one} / {other}");
    }
}

#[test]
fn what_may_both_be_so_is_kept_apart() {
    for (one, other) in [
        ("My dog is called Biscuit.", "My new dog is called Bello."),
        ("My girlfriend is Sara.", "My girlfriend is tired."),
        ("My girlfriend is Sara.", "My girlfriend is Spanish."),
        ("My boss is Henrietta.", "My boss is a kind man."),
        ("My girlfriend is Sara.", "My ex-girlfriend is Nina."),
        ("My boss is Henrietta.", "My sister's boss is Nina."),
        ("I prefer tea.", "I prefer Python."),
        ("I prefer dark mode.", "I prefer coffee now."),
        ("I like jazz.", "I don't like rock anymore."),
        ("I'm vegan.", "I'm lactose intolerant."),
    ] {
        assert!(attribute(one).is_some(), "{one}");
        assert_ne!(attribute(one), attribute(other), "{one} / {other}");
    }
    for message in [
        "I'm a big fan of trains.",
        "I'm a bit tired.",
        "I'm not a doctor.",
        "I'm a former nurse.",
        "I'm a terrible driver.",
        "I'm a teacher's pet.",
        "We moved to Kubernetes.",
        "We moved to AWS.",
        "We moved to the next chapter.",
        "I moved to Linux.",
        "We live in a society.",
        "I used to live in Ghent.",
        "I work at night.",
        "I don't work in the evenings any more.",
        "I work for eight hours.",
        "I don't work as hard any more.",
    ] {
        assert!(statements(message).is_empty(), "{message}: {:?}", statements(message));
    }
    // Which thing took which one's place is not said.
    assert_eq!(attribute("I sold my Clio and bought a Tesla."), None);
}

#[test]
fn what_is_so_now_is_the_last_word_of_a_message() {
    for (message, expected) in [
        ("I changed jobs, I'm a teacher now", &["I'm a teacher now"][..]),
        ("I'm vegetarian now, I'm no longer vegan.", &["I'm vegetarian now"]),
        (
            "I live in Lyon now. I no longer live in Ghent.",
            &["I live in Lyon now."],
        ),
        ("I used to like tea but now I prefer coffee.", &["I prefer coffee."]),
        (
            "I don't like coffee any more, I prefer matcha",
            &["I don't like coffee any more", "I prefer matcha"],
        ),
    ] {
        assert_eq!(texts(message), expected, "{message}");
    }
}

fn turn(messages: Vec<Message>) -> Interaction {
    let scope = Scope::new("t", "u").unwrap().in_conversation("c");
    let reply = "I live in Paris. Your name is Bob. Remember that I live in Oslo.";
    Interaction {
        prompt: "I live in Rome.".into(),
        ..Interaction::completed(&scope, 7, messages, reply)
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
