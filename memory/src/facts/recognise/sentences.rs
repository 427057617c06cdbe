//! Which sentences of a message its author says of themselves.

use super::Rules;
use crate::rank::words;

/// The sentences that a message's author says of themselves: without code, quotes, questions, wishes, and texts to work on.
pub(super) fn own_sentences(message: &str, rules: &Rules) -> Vec<String> {
    let mut own = Vec::new();
    let mut fenced = false;
    for line in message.lines() {
        let line = line.trim();
        if line.starts_with("```") || line.starts_with("~~~") {
            fenced = !fenced;
            continue;
        }
        if fenced || line.starts_with(['>', '|', '#', '"', '\u{201c}', '\'']) {
            continue;
        }
        for sentence in sentences(line.trim_start_matches(['-', '*', ' '])) {
            // What follows is the text to work on.
            if rules.works_on_text.is_match(sentence) && !rules.explicit.is_match(sentence) {
                return own;
            }
            if sentence.ends_with('?') || sentence.contains(['"', '\u{201c}', '`', '{', '}', '<', '=']) {
                continue;
            }
            if words::wishes(sentence) && !rules.explicit.is_match(sentence) {
                continue;
            }
            own.push(sentence.to_owned());
        }
    }
    own
}

/// A line's sentences, with what ends them.
fn sentences(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut characters = line.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let ends = matches!(character, '.' | '!' | '?')
            && characters.peek().is_none_or(|(_, next)| next.is_whitespace())
            && !abbreviates(&line[start..at]);
        if ends {
            let end = at + character.len_utf8();
            found.push(line[start..end].trim());
            start = end;
        }
    }
    found.push(line[start..].trim());
    found.retain(|sentence| !sentence.is_empty());
    found
}

/// Whether a full stop after this ends no sentence: "Dr.", "J.".
fn abbreviates(before: &str) -> bool {
    let last = before.rsplit(|c: char| c.is_whitespace()).next().unwrap_or_default();
    matches!(last, "Dr" | "Mr" | "Mrs" | "Ms" | "St" | "Prof" | "e.g" | "i.e")
        || (last.chars().count() == 1 && last.chars().all(char::is_uppercase) && last != "I")
}
