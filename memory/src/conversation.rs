//! How a conversation is known when the client names none: by the hash chain of the history that it re-sends.

use std::collections::HashSet;

use habit_engine::{Message, Role};
use sha2::{Digest, Sha256};

/// The hash of a history. System messages are left out (clients put dates and settings there), and so is white
/// space around a text (clients trim replies). Lowercase hex, 64 characters.
#[must_use]
pub fn chain_hash(messages: &[Message]) -> String {
    let mut hasher = Sha256::new();
    for message in messages.iter().filter(|message| message.role != Role::System) {
        let text = message.text();
        let text = text.trim();
        hasher.update(message.role.as_str().as_bytes());
        // The length makes the encoding unambiguous.
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
        for call in &message.tool_calls {
            hasher.update(call.to_string().as_bytes());
        }
    }
    hex::encode(hasher.finalize())
}

/// What the client's history was when it asked: everything before the last user message. `None` when there is no
/// history, so that nothing is continued.
#[must_use]
pub fn history(messages: &[Message]) -> Option<&[Message]> {
    let last_user = messages.iter().rposition(|message| message.role == Role::User)?;
    let history = &messages[..last_user];
    history
        .iter()
        .any(|message| message.role == Role::Assistant)
        .then_some(history)
}

/// The texts that the model will see anyway: a recalled turn that is among them is not injected again.
#[must_use]
pub fn visible_texts(messages: &[Message]) -> HashSet<String> {
    messages
        .iter()
        .filter(|message| message.role != Role::System)
        .map(|message| message.text().trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn role() -> impl Strategy<Value = Role> {
        prop_oneof![
            Just(Role::System),
            Just(Role::User),
            Just(Role::Assistant),
            Just(Role::Tool)
        ]
    }

    /// Few letters and white space, so that boundaries are often the only difference.
    fn message() -> impl Strategy<Value = Message> {
        (role(), "[ab \n]{0,4}").prop_map(|(role, text)| Message::new(role, text))
    }

    fn messages() -> impl Strategy<Value = Vec<Message>> {
        proptest::collection::vec(message(), 0..6)
    }

    /// What the hash is to tell apart.
    fn meaning(messages: &[Message]) -> Vec<(Role, String)> {
        let said = messages.iter().filter(|message| message.role != Role::System);
        said.map(|message| (message.role, message.text().trim().to_owned()))
            .collect()
    }

    proptest! {
        #[test]
        fn equal_hashes_mean_equal_histories(a in messages(), b in messages()) {
            prop_assert_eq!(chain_hash(&a) == chain_hash(&b), meaning(&a) == meaning(&b));
        }

        #[test]
        fn system_messages_and_outer_space_change_nothing(
            history in messages(), at in any::<prop::sample::Index>(), text in ".{0,20}",
        ) {
            let before = chain_hash(&history);
            let mut changed: Vec<Message> =
                history.iter().map(|m| Message::new(m.role, format!(" {}\n", m.text()))).collect();
            changed.insert(at.index(history.len() + 1), Message::new(Role::System, text));
            prop_assert_eq!(chain_hash(&changed), before);
        }

        #[test]
        fn the_next_request_continues_the_recorded_turn(
            mut history in messages(), reply in "[a-z]{1,9}", next in "[a-z]{1,9}",
        ) {
            history.push(Message::new(Role::User, "q"));
            history.push(Message::new(Role::Assistant, reply));
            let recorded = chain_hash(&history);
            let mut request = history.clone();
            request.push(Message::new(Role::User, next));
            let found = super::history(&request).map(chain_hash);
            prop_assert_eq!(found, Some(recorded));
        }

        #[test]
        fn a_history_ends_before_the_last_user_message_and_has_an_answer(messages in messages()) {
            let last_user = messages.iter().rposition(|message| message.role == Role::User);
            let before = &messages[..last_user.unwrap_or(0)];
            let answered = before.iter().any(|message| message.role == Role::Assistant);
            prop_assert_eq!(history(&messages), answered.then_some(before));
        }

        #[test]
        fn visible_is_what_is_said_in_the_messages(messages in messages()) {
            let visible = visible_texts(&messages);
            for message in &messages {
                prop_assert!(message.role == Role::System || visible.contains(message.text().trim()));
            }
            let said: HashSet<String> = meaning(&messages).into_iter().map(|(_, text)| text).collect();
            prop_assert_eq!(visible, said);
        }
    }

    #[test]
    fn parts_hash_as_their_text() {
        let parts = habit_engine::Content::Parts(vec![json!({"type": "text", "text": "hello"})]);
        let parts = Message {
            content: parts,
            ..Message::new(Role::User, "")
        };
        assert_eq!(chain_hash(&[parts]), chain_hash(&[Message::new(Role::User, "hello")]));
    }

    #[test]
    fn tool_calls_are_part_of_the_history() {
        let plain = Message::new(Role::Assistant, "");
        let calling = Message {
            tool_calls: vec![json!({"id": "1"})],
            ..plain.clone()
        };
        assert_ne!(chain_hash(&[plain]), chain_hash(&[calling]));
    }

    #[test]
    fn the_hash_is_stable() {
        // Recorded turns are found by it: a change here cuts every conversation in every database.
        let hash = chain_hash(&[Message::new(Role::User, "hi"), Message::new(Role::Assistant, "hello")]);
        assert_eq!(hash, "36b0ba7495f20e82961cf62dfc24d9efa572e3ffb8d89afd2fac4c653ebd49d8");
    }
}
