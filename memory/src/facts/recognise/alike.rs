//! Which statements are about the same thing, in whatever words, order, spelling or time.

use std::collections::BTreeSet;

use crate::rank::words;

/// Words that tell when something is so, not what it is about; longer ones first.
const TIMES: &[&str] = &[
    "at the moment",
    "these days",
    "no longer",
    "any longer",
    "any more",
    "nowadays",
    "currently",
    "anymore",
    "now",
];

/// American spellings beside British ones, wherever they stand in a word.
const SPELLINGS: &[(&str, &str)] = &[
    ("color", "colour"),
    ("favorite", "favourite"),
    ("flavor", "flavour"),
    ("neighbor", "neighbour"),
    ("humor", "humour"),
    ("behavior", "behaviour"),
    ("center", "centre"),
    ("theater", "theatre"),
    ("gray", "grey"),
    ("mom", "mum"),
    ("fianc\u{e9}", "fianc"),
    ("fiancee", "fiance"),
];

/// Drinks of which one is had instead of another.
const HOT_DRINKS: &[&str] = &["tea", "coffee", "matcha", "cocoa", "espresso", "cappuccino", "latte"];

/// The words that tell what a value is about, whatever their order.
pub(super) fn about(value: &str) -> String {
    let plain = SPELLINGS
        .iter()
        .fold(without_time(value).to_lowercase(), |text, (one, other)| {
            text.replace(one, other)
        });
    let stems: BTreeSet<String> = words::content(&plain).into_iter().collect();
    if stems.is_empty() {
        return value.trim().to_lowercase();
    }
    stems.into_iter().collect::<Vec<_>>().join(" ")
}

/// "Tea over coffee" is about tea and coffee, and so is "coffee over tea"; "dark mode" is about a mode.
pub(super) fn preference(value: &str) -> Option<String> {
    let value = without_time(value)
        .replace(" instead of ", " over ")
        .replace(" rather than ", " over ");
    let lower = value.to_lowercase();
    let things = words::content(&lower.replace(" over ", " to "));
    let drinks: Vec<String> = HOT_DRINKS.iter().map(|drink| words::stem(drink)).collect();
    if !things.is_empty() && things.iter().all(|thing| drinks.contains(thing)) {
        return Some("prefers:hot drink".to_owned());
    }
    let compares = [" over ", " to ", " than "].iter().any(|word| lower.contains(word));
    let topic = if compares {
        about(&value)
    } else {
        words::content(&value)
            .pop()
            .filter(|_| value.split_whitespace().count() > 1)?
    };
    Some(format!("prefers:{topic}"))
}

/// A text without its words of time.
pub(super) fn without_time(text: &str) -> String {
    let mut left = format!(" {} ", text.split_whitespace().collect::<Vec<_>>().join(" "));
    for time in TIMES {
        for end in [" ", ".", ",", "!"] {
            let lower = left.to_ascii_lowercase();
            if let Some(at) = lower.find(&format!(" {time}{end}")) {
                left.replace_range(at..at + 1 + time.len(), "");
            }
        }
    }
    left.trim().to_owned()
}
