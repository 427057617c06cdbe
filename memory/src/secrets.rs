//! What is in a text that should not be: what no model may learn by heart ([`scrub`]), and what had better not be kept at
//! all ([`found`]). Addresses of mail and of machines, numbers of phones, cards, accounts and persons, passwords, and what
//! looks like a key.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// A kind of secret: its name, what it looks like, and a check that keeps harmless look-alikes.
struct Kind {
    name: &'static str,
    pattern: Regex,
    check: fn(&str) -> bool,
}

/// In this order: a longer kind comes before one that would take a part of it.
static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let kinds: [(&'static str, &str, fn(&str) -> bool); 9] = [
        (
            "key",
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
            |_| true,
        ),
        (
            "password",
            r"(?i)\b(?:password|passwort|passwd|pwd|secret)\s*(?:is|:|=)\s*\S{6,}",
            |_| true,
        ),
        (
            "email",
            r"(?i)[a-z0-9._%+-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}",
            |_| true,
        ),
        (
            "iban",
            r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
            is_iban,
        ),
        ("card", r"\b\d(?:[ -]?\d){12,18}\b", is_card),
        ("key", r"[A-Za-z0-9_+/=.-]{20,}", is_key),
        ("ssn", r"\b\d{3}-\d{2}-\d{4}\b", is_ssn),
        ("ip", r"\b\d{1,3}(?:\.\d{1,3}){3}\b", is_ip),
        (
            "phone",
            r"(?:\+|\b00)[1-9]\d{0,2}[ ./-]?(?:\(\d{1,4}\)[ ./-]?)?\d(?:[ ./-]?\d){5,11}\b|(?:\(\d{2,5}\)|\b0\d{2,4}|\b\d{3})[ ./-]\d{3,4}[ ./-]?\d{3,5}\b",
            is_phone,
        ),
    ];
    let built = kinds.into_iter().filter_map(|(name, pattern, check)| {
        Some(Kind {
            name,
            pattern: Regex::new(pattern).ok()?,
            check,
        })
    });
    built.collect()
});

/// The kind of the first secret that a text seems to hold; how to reach someone, or a machine, is private, but no secret.
#[must_use]
pub fn found(text: &str) -> Option<&'static str> {
    let mut secrets = KINDS
        .iter()
        .filter(|kind| !matches!(kind.name, "email" | "phone" | "ip"));
    let holds = |kind: &&Kind| kind.pattern.find_iter(text).any(|seen| (kind.check)(seen.as_str()));
    secrets.find(holds).map(|kind| kind.name)
}

/// The text with the name of each secret in brackets in its place, so that a sentence keeps its shape, and how many there
/// were. What was scrubbed stays as it is when it is scrubbed again.
#[must_use]
pub fn scrub(text: &str) -> (String, usize) {
    let mut found = 0;
    let mut text = text.to_owned();
    for kind in KINDS.iter() {
        let swapped = kind.pattern.replace_all(&text, |seen: &Captures<'_>| {
            if (kind.check)(&seen[0]) {
                found += 1;
                format!("[{}]", kind.name)
            } else {
                seen[0].to_owned()
            }
        });
        text = swapped.into_owned();
    }
    (text, found)
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|letter| letter.to_digit(10)).collect()
}

/// The check sum of cards (Luhn's), over 13 to 19 digits.
fn is_card(text: &str) -> bool {
    let digits = digits(text);
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10) && sum > 0
}

/// The check sum of ISO 13616: the whole, with its first four letters last, is 1 modulo 97.
fn is_iban(text: &str) -> bool {
    let plain: Vec<char> = text.chars().filter(|letter| *letter != ' ').collect();
    if !(15..=34).contains(&plain.len()) {
        return false;
    }
    let turned = plain[4..].iter().chain(&plain[..4]);
    let rest = turned.fold(0_u32, |rest, letter| match letter.to_digit(36) {
        Some(digit @ 0..=9) => (rest * 10 + digit) % 97,
        Some(letter) => (rest * 100 + letter) % 97,
        None => rest,
    });
    rest == 1
}

/// A number that the United States' social security gives: no group is zero, and the area is neither 666 nor above 899.
fn is_ssn(text: &str) -> bool {
    let groups: Vec<u32> = text.split('-').filter_map(|group| group.parse().ok()).collect();
    matches!(groups[..], [area, group, serial] if (1..900).contains(&area) && area != 666 && group > 0 && serial > 0)
}

/// The address of one machine in the world: none that stands for this machine, a network at home, or an example.
fn is_ip(text: &str) -> bool {
    text.parse::<Ipv4Addr>().is_ok_and(|ip| {
        let alike = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_documentation();
        !alike && ip.octets()[0] != 0 && ip.octets()[0] < 224
    })
}

/// Seven to fifteen digits (E.164 has no more), and no date.
fn is_phone(text: &str) -> bool {
    (7..=15).contains(&digits(text).len())
}

/// Known beginnings, or letters of three kinds that look drawn at random: such as no word, path or number has them.
fn is_key(text: &str) -> bool {
    const BEGINS: [&str; 10] = [
        "sk-",
        "pk-",
        "rk_",
        "hb-",
        "ghp_",
        "gho_",
        "github_pat_",
        "xox",
        "AKIA",
        "eyJ",
    ];
    if BEGINS.iter().any(|begin| text.starts_with(begin)) {
        return true;
    }
    let count = |is: fn(&char) -> bool| text.chars().filter(is).count();
    let (upper, lower, digits) = (
        count(char::is_ascii_uppercase),
        count(char::is_ascii_lowercase),
        count(char::is_ascii_digit),
    );
    let hex = text.len() >= 32 && text.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-');
    // A UUID is a name, not a secret.
    let uuid = text.len() == 36 && text.matches('-').count() == 4;
    if hex && digits >= 6 && upper + lower >= 6 {
        return !uuid;
    }
    !text.contains(['/', '.']) && text.len() >= 24 && upper >= 4 && lower >= 4 && digits >= 4
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_go_and_the_sentence_stays() {
        for (text, scrubbed) in [
            ("write to ann.lee+x@mail.example.com today", "write to [email] today"),
            ("my card is 4111 1111 1111 1111.", "my card is [card]."),
            ("pay to DE89 3704 0044 0532 0130 00 now", "pay to [iban] now"),
            ("GB82WEST12345698765432", "[iban]"),
            ("call +49 (30) 901820-123 or 555-867-5309", "call [phone] or [phone]"),
            ("my password is hunter2222, sorry", "my [password] sorry"),
            ("the key is sk-abcdefghijklmnop1234 ok", "the key is [key] ok"),
            ("token 9f86d081884c7d659a2feaa0c55ad015", "token [key]"),
            ("aK4mZq81LpW0xTyB93nRvC2d", "[key]"),
            (
                "my number is 219-09-9999, dear office",
                "my number is [ssn], dear office",
            ),
            ("it came from 93.184.216.34.", "it came from [ip]."),
        ] {
            assert_eq!(scrub(text).0, scrubbed, "{text}");
        }
    }

    #[test]
    fn secrets_are_told_from_what_is_only_private() {
        assert_eq!(KINDS.len(), 9, "each pattern compiles");
        for (text, kind) in [
            ("use sk-abcdefghijklmnop1234 for it", Some("key")),
            ("my password is hunter2222", Some("password")),
            ("pay with 4242 4242 4242 4242", Some("card")),
            ("pay to DE89 3704 0044 0532 0130 00 now", Some("iban")),
            ("I am 219-09-9999", Some("ssn")),
            ("the server is at 93.184.216.34", None),
            ("call 4242 4242 4242 4243", None),
            ("the password was changed", None),
            ("write to ann.lee+x@mail.example.com or call +49 (30) 901820-123", None),
        ] {
            assert_eq!(found(text), kind, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_secret_stays() {
        for text in [
            "order 4111 1111 1111 1112 is no card",
            "on 2026-11-21 at 10:30 we sold 1200 for 3.50",
            "docs/decisions/0021-ledger.md and internationalisation_of_everything",
            "0199f3c2-a7e0-7b4c-9d1e-2f3a4b5c6d7e",
            "What is my account balance?",
            "XX00 1234 5678 9012",
            "000-12-3456 and 666-12-3456 are nobody's",
            "listen on 127.0.0.1 or 192.168.0.7, not on 0.0.0.0 or 300.1.1.1",
        ] {
            assert_eq!(scrub(text), (text.to_owned(), 0));
        }
    }

    proptest! {
        #[test]
        fn scrubbing_twice_is_scrubbing_once(text in "[a-z @.0-9+()A-Z-]{0,60}") {
            let (once, _) = scrub(&text);
            prop_assert_eq!(scrub(&once).0, once);
        }

        #[test]
        fn no_address_is_left(name in "[a-z]{1,8}", host in "[a-z]{2,8}", around in "[a-z ]{0,10}") {
            let (text, _) = scrub(&format!("{around} {name}@{host}.org {around}"));
            prop_assert!(!text.contains('@'));
        }
    }
}
