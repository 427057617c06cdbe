//! What users say without saying it: they ask again, they put it right in their next message, they go on. It is read off
//! the recorded turns when examples are made, and never stored; clients may report what only they see, such as copying.
//! It weighs little: it moves the weight of what a person said, and alone it makes no example.

use std::collections::HashMap;
use std::sync::LazyLock;

use habit_memory::interaction::Interaction;
use regex::Regex;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A question that comes again within this time was not answered well, in milliseconds: ten minutes.
const AGAIN_MS: i64 = 10 * 60 * 1000;

/// Words of what is said again and again to hear more ("go on", "continue").
const SHORT: usize = 2;

/// What was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Implicit {
    /// The same was asked again at the same place.
    Regenerate,
    /// The next message puts it right ("no, I meant …").
    Meant,
    /// The reply was copied.
    Copy,
    /// The conversation went on.
    Continue,
}

impl Implicit {
    /// How it moves an opinion of -1 to 1.
    #[must_use]
    pub fn weight(self) -> f32 {
        match self {
            Self::Regenerate | Self::Meant => -0.5,
            Self::Copy | Self::Continue => 0.2,
        }
    }

    /// As it is written in the database and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Regenerate => "regenerate",
            Self::Meant => "meant",
            Self::Copy => "copy",
            Self::Continue => "continue",
        }
    }
}

/// How a message begins that puts the reply before it right.
static MEANT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let begins = r"no[,.! ]+(?:i|that|not|it|you)\b|that'?s (?:wrong|not (?:right|what|correct|it))|that is (?:wrong|not (?:right|what|correct))|wrong[,.!]|i (?:actually )?(?:meant|asked for|wanted)\b|not what i (?:asked|meant|wanted)";
    Regex::new(&format!(r"(?i)^\W*(?:{begins})")).ok()
});

/// Whether a message says that the reply before it was not what was asked for.
#[must_use]
pub fn puts_right(message: &str) -> bool {
    MEANT.as_ref().is_some_and(|meant| meant.is_match(message))
}

/// What these turns of one user say of each other, by the turn that it is said of.
#[must_use]
pub fn read(turns: &[Interaction]) -> HashMap<Uuid, Vec<Implicit>> {
    let mut said: HashMap<Uuid, Vec<Implicit>> = HashMap::new();
    let known: HashMap<Uuid, &Interaction> = turns.iter().map(|turn| (turn.id, turn)).collect();
    let mut ordered: Vec<&Interaction> = turns.iter().collect();
    ordered.sort_by_key(|turn| turn.id);
    // The newest turn that asked this at this place.
    let mut asked: HashMap<(Option<Uuid>, Option<&str>, &str), &Interaction> = HashMap::new();
    for turn in ordered {
        // Without a parent, "at the same place" is any new conversation.
        let place = turn.parent.and(turn.scope.conversation());
        let again = asked.insert((turn.parent, place, turn.prompt.trim()), turn);
        // A client that only names its conversation asks again behind the reply, not in its place.
        let parent = turn.parent.and_then(|parent| known.get(&parent).copied());
        let says = turn.prompt.split_whitespace().count() > SHORT;
        let behind = parent.filter(|parent| says && parent.prompt.trim() == turn.prompt.trim());
        let soon = |before: &&Interaction| turn.asked_at - before.asked_at <= AGAIN_MS;
        if let Some(before) = again.filter(soon).or(behind) {
            if soon(&before) {
                said.entry(before.id).or_default().push(Implicit::Regenerate);
            }
            // Asking anew is no going on.
            continue;
        }
        if let Some(parent) = turn.parent {
            let what = if puts_right(&turn.prompt) {
                Implicit::Meant
            } else {
                Implicit::Continue
            };
            let known = said.entry(parent).or_default();
            if !known.contains(&what) {
                known.push(what);
            }
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use habit_engine::{Message, Role};
    use habit_memory::Scope;

    use super::*;

    fn turn(number: u128, parent: Option<u128>, at: i64, prompt: &str) -> Interaction {
        let scope = Scope::new("t", "u").unwrap().in_conversation("c");
        Interaction {
            id: Uuid::from_u128(number),
            parent: parent.map(Uuid::from_u128),
            ..Interaction::completed(&scope, at, vec![Message::new(Role::User, prompt)], "")
        }
    }

    #[test]
    fn asking_again_putting_right_and_going_on_are_told_apart() {
        let turns = [
            turn(1, None, 0, "Where is my card?"),
            turn(2, None, 60_000, "Where is my card? "),
            turn(3, Some(2), 70_000, "No, I meant the new one."),
            turn(4, Some(3), 80_000, "Thank you, and the old one?"),
            turn(5, None, 86_400_000, "Where is my card?"),
        ];
        let said = read(&turns);
        let of = |number| said.get(&Uuid::from_u128(number)).cloned().unwrap_or_default();
        assert_eq!(of(1), [Implicit::Regenerate]);
        assert_eq!(of(2), [Implicit::Meant], "a day later is another question");
        assert_eq!(of(3), [Implicit::Continue]);
        assert_eq!(of(4), []);
    }

    #[test]
    fn to_go_on_twice_is_to_go_on() {
        let turns = [
            turn(1, None, 0, "Tell me a story."),
            turn(2, Some(1), 10_000, "go on"),
            turn(3, Some(2), 20_000, "go on"),
        ];
        let said = read(&turns);
        assert_eq!(said.get(&Uuid::from_u128(2)), Some(&vec![Implicit::Continue]));
    }

    #[test]
    fn asking_again_in_a_conversation_that_is_only_named_is_no_going_on() {
        let turns = [
            turn(1, None, 0, "Where is my card?"),
            turn(2, Some(1), 60_000, " Where is my card?"),
            turn(3, Some(2), 120_000, "Where is my card?"),
            turn(4, Some(3), 130_000, "Thank you very much."),
            turn(5, Some(4), 86_400_000, "Thank you very much."),
        ];
        let said = read(&turns);
        let of = |number| said.get(&Uuid::from_u128(number)).cloned().unwrap_or_default();
        assert_eq!(of(1), [Implicit::Regenerate]);
        assert_eq!(of(2), [Implicit::Regenerate]);
        assert_eq!(of(3), [Implicit::Continue]);
        assert_eq!(of(4), [], "a day later it says nothing");
    }

    #[test]
    fn ordinary_messages_put_nothing_right() {
        for message in [
            "No problem, thanks!",
            "Nobody knows.",
            "I mean it well",
            "Not bad",
            "What is wrong?",
        ] {
            assert!(!puts_right(message), "{message}");
        }
        for message in [
            "no, I meant Lyon",
            "That's not what I asked",
            "Wrong. It is 7.",
            "I meant the other one",
        ] {
            assert!(puts_right(message), "{message}");
        }
    }
}
