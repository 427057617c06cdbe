//! What must hold of every conversation that outgrows the window.

use habit_engine::scripted::Counter;
use habit_engine::{ChatRequest, Message, Role, TokenCounter};
use habit_memory::overflow::{Room, Shortened, shorten};
use proptest::prelude::*;
use serde_json::json;

fn request(messages: Vec<Message>) -> ChatRequest {
    ChatRequest {
        messages,
        ..ChatRequest::default()
    }
}

fn count(messages: &[Message]) -> usize {
    Counter::new(0).count_chat(messages).unwrap()
}

fn room(most: usize) -> Room {
    Room {
        most,
        aim: most * 5 / 6,
        limit: most + 20,
    }
}

fn cut(messages: &[Message], room: Room) -> Option<Shortened> {
    shorten(&request(messages.to_vec()), room, &Counter::new(room.most)).unwrap()
}

fn call(id: usize) -> Message {
    let mut message = Message::new(Role::Assistant, "");
    message.tool_calls = vec![json!({"id": format!("call{id}"), "function": {"name": "f", "arguments": "{}"}})];
    message
}

fn result(id: usize, text: &str) -> Message {
    let mut message = Message::new(Role::Tool, text);
    message.tool_call_id = Some(format!("call{id}"));
    message
}

/// One step of a conversation; no two messages are the same.
fn part(number: usize, kind: usize, words: &str) -> Vec<Message> {
    let said = |role, what: &str| Message::new(role, format!("{what} {number} {words}"));
    match kind {
        0 => vec![said(Role::System, "rule")],
        1 | 2 => vec![said(Role::User, "ask"), said(Role::Assistant, "answer")],
        3 => vec![
            said(Role::User, "look"),
            call(number),
            result(number, &format!("found {number} {words}")),
            said(Role::Assistant, "seen"),
        ],
        // The result comes after the user has gone on talking.
        4 => vec![
            said(Role::User, "begin"),
            call(number),
            said(Role::User, "meanwhile"),
            result(number, &format!("late {number} {words}")),
        ],
        _ => vec![said(Role::Assistant, "by the way")],
    }
}

prop_compose! {
    fn talk()(
        parts in prop::collection::vec((0_usize..6, "[a-z ]{0,120}"), 0..40),
        asked in "[a-z ]{1,60}",
        steps in 0_usize..4,
    ) -> Vec<Message> {
        let mut messages: Vec<Message> = parts
            .iter()
            .enumerate()
            .flat_map(|(number, (kind, words))| part(number, *kind, words))
            .collect();
        messages.push(Message::new(Role::User, format!("now {asked}")));
        for step in 0..steps {
            messages.push(call(1000 + step));
            messages.push(result(1000 + step, &format!("result {step} {asked}")));
        }
        messages
    }
}

proptest! {
    #[test]
    fn every_prompt_fits_in_order_and_whole(messages in talk(), most in 60_usize..600) {
        let room = room(most);
        let whole = count(&messages);
        let Some(Shortened { messages: kept, left, earlier }) = cut(&messages, room) else {
            // It fits, or nothing helps: what always stays is too long by itself.
            let asked = messages.iter().rposition(|message| message.role == Role::User).unwrap();
            let least: Vec<Message> = messages.iter().enumerate()
                .filter(|(place, message)| message.role == Role::System || *place == asked || place + 2 >= messages.len())
                .map(|(_, message)| message.clone()).collect();
            let stuck = count(&least) > room.limit || messages.iter().any(|message| message.text().starts_with("late"));
            prop_assert!(whole <= most || stuck || least.len() == messages.len());
            return Ok(());
        };
        prop_assert!(whole > most, "nothing leaves what fits");
        let asked = messages.iter().rev().find(|message| message.role == Role::User).unwrap();
        prop_assert!(count(&kept) <= room.limit);
        prop_assert!(count(&kept) <= room.aim || left.turns > 0);
        // In order, and nothing new.
        let mut rest = messages.iter();
        prop_assert!(kept.iter().all(|one| rest.any(|other| other == one)));
        // What always stays.
        prop_assert!(kept.contains(asked) && kept.last() == messages.last());
        let rules = |messages: &[Message]| messages.iter().filter(|message| message.role == Role::System).count();
        prop_assert_eq!(rules(&kept), rules(&messages));
        // A call with its results, or neither.
        for message in &messages {
            for id in message.tool_calls.iter().map(|call| call["id"].as_str().unwrap()) {
                let answers = |one: &&Message| one.tool_call_id.as_deref() == Some(id);
                let sent = messages.iter().filter(answers).count();
                let stay = kept.iter().filter(answers).count();
                prop_assert_eq!(stay, if kept.contains(message) { sent } else { 0 });
            }
        }
        // The oldest left: but for instructions and what is asked now, all that stays is newer.
        let gone: Vec<usize> = left.places.iter().flat_map(|(from, to)| *from..*to).collect();
        let newest = *gone.last().unwrap();
        let older = kept.iter().filter(|one| messages.iter().position(|other| other == *one).unwrap() < newest);
        prop_assert!(older.into_iter().all(|one| one.role == Role::System || one == asked || one.tool_call_id.is_some()
            || !one.tool_calls.is_empty() || one.text().starts_with("begin")));
        // The account is right.
        prop_assert_eq!(left.messages, messages.len() - kept.len());
        prop_assert_eq!(gone.len(), left.messages);
        prop_assert_eq!(earlier.len(), left.turns);
        prop_assert!(gone.iter().all(|place| !kept.contains(&messages[*place]) || messages[*place].text().is_empty()));
    }

    #[test]
    fn the_cut_moves_in_steps(turns in 60_usize..120, words in 20_usize..120) {
        // A conversation that grows: the prompt's begin is nearly always the one of the turn before.
        let room = room(500);
        let (mut messages, mut firsts) = (vec![Message::new(Role::System, "rule")], Vec::new());
        for turn in 0..turns {
            messages.push(Message::new(Role::User, format!("ask {turn} {}", "x".repeat(words))));
            if let Some(cut) = cut(&messages, room) {
                prop_assert!(count(&cut.messages) <= room.aim);
                // Not much more leaves than it takes, either.
                prop_assert!(count(&cut.messages) >= room.aim / 3, "{} of {}", count(&cut.messages), room.aim);
                firsts.push(cut.messages[1].text());
            }
            messages.push(Message::new(Role::Assistant, format!("answer {turn}")));
        }
        let moves = firsts.windows(2).filter(|pair| pair[0] != pair[1]).count();
        prop_assert!(moves * 3 <= firsts.len() * 2, "{moves} moves in {} turns", firsts.len());
    }
}

#[test]
fn a_message_that_is_too_long_by_itself_is_left_to_the_engine() {
    let long = Message::new(Role::User, "x".repeat(4_000));
    assert_eq!(cut(std::slice::from_ref(&long), room(500)), None);
    let before = [Message::new(Role::User, "a"), Message::new(Role::Assistant, "b"), long];
    assert_eq!(cut(&before, room(500)), None);
}
