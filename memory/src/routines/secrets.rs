//! What looks like a secret in a text: keys, passwords, card numbers. Tells the kind, never the secret.

use std::sync::LazyLock;

use regex::Regex;

static KINDS: LazyLock<Vec<(&'static str, Regex)>> = LazyLock::new(|| {
    let kinds = [
        ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
        (
            "an API key",
            r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\bhb-[0-9a-f]{16}-[0-9a-f]{32,}",
        ),
        (
            "an access token",
            r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|xox[abpr]-[A-Za-z0-9-]{10,}|AKIA[0-9A-Z]{16})\b",
        ),
        (
            "a signed token",
            r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}",
        ),
        (
            "a password",
            r"(?i)\b(?:password|passwort|passwd|pwd|secret)\s*(?:is|:|=)\s*\S{6,}",
        ),
    ];
    let compiled = kinds
        .into_iter()
        .filter_map(|(kind, pattern)| Some((kind, Regex::new(pattern).ok()?)));
    compiled.collect()
});

/// 13 to 19 digits, with spaces or dashes.
static CARD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b\d(?:[ -]?\d){12,18}\b").ok());

/// The kind of the first secret that a text seems to hold.
pub fn found(text: &str) -> Option<&'static str> {
    let known = KINDS
        .iter()
        .find(|(_, pattern)| pattern.is_match(text))
        .map(|(kind, _)| *kind);
    known.or_else(|| {
        let mut numbers = CARD.as_ref()?.find_iter(text);
        numbers.any(|number| checks(number.as_str())).then_some("a card number")
    })
}

/// The check that card numbers pass (Luhn, 1954).
fn checks(number: &str) -> bool {
    let digits = number.chars().rev().filter_map(|c| c.to_digit(10));
    let sum: u32 = digits
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_seen_and_plain_words_are_not() {
        assert_eq!(found("use sk-abcdefghijklmnop1234 for it"), Some("an API key"));
        assert_eq!(found("my password is hunter2222"), Some("a password"));
        assert_eq!(found("pay with 4242 4242 4242 4242"), Some("a card number"));
        assert_eq!(found("call 4242 4242 4242 4243"), None);
        assert_eq!(found("the password was changed"), None);
        assert_eq!(KINDS.len(), 5, "each pattern compiles");
    }
}
