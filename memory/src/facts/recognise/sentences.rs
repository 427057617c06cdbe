//! Which sentences of a message its author says of themselves.

use super::Rules;
use crate::rank::words;

/// The sentences that a message's author says of themselves: without code, quotes, questions, wishes, the words of others, and texts
/// to work on. What introduces such words takes all that follows; what asks about them takes the whole message.
pub(super) fn own_sentences(message: &str, rules: &Rules) -> Vec<String> {
    let lines = written(message);
    let all: Vec<&str> = lines.iter().flat_map(|line| sentences(line)).collect();
    if lines.iter().any(|line| rules.others.closes(line)) || all.iter().any(|one| rules.others.asks_about(one, rules)) {
        return Vec::new();
    }
    let mut own = Vec::new();
    let mut quoted = false;
    for sentence in all {
        let explicit = rules.explicit.is_match(sentence);
        let works_on_text = rules.works_on_text.is_match(sentence) && !explicit;
        if !quoted && (works_on_text || rules.others.introduced_by(sentence, explicit)) {
            return own;
        }
        let inside = quoted;
        quoted = is_quoted(quoted, sentence);
        if inside || sentence.ends_with('?') || sentence.contains(['"', '\u{201c}', '`', '{', '}', '<', '=']) {
            continue;
        }
        if words::wishes(sentence) && !explicit {
            continue;
        }
        own.push(sentence.to_owned());
    }
    own
}

/// The lines that are not code, tables, headings or cited.
fn written(message: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in message.lines().map(str::trim) {
        if line.starts_with("```") || line.starts_with("~~~") {
            fenced = !fenced;
        } else if !fenced && !line.starts_with(['>', '|', '#', '\'']) {
            lines.push(line.trim_start_matches(['-', '*', ' ']));
        }
    }
    lines
}

/// Whether a quotation is open after this: it may go on for sentences and lines.
fn is_quoted(before: bool, sentence: &str) -> bool {
    sentence.chars().fold(before, |open, character| match character {
        '"' => !open,
        '\u{201c}' => true,
        '\u{201d}' => false,
        _ => open,
    })
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
