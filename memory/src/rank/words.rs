//! Words as the ranking compares them: lower case, without endings, and which of them carry content.

use std::collections::HashSet;
use std::sync::LazyLock;

/// English words that tell nothing of what a sentence is about. Question words and the verbs of asking for something
/// remembered are among them: "do you remember my dog" is about the dog.
const FUNCTION_WORDS: &str = "a about again all also am an and any are as at be been but by call called can could did \
    do does for from had has have he her here hers him his how i if in into is it its just know like may me mention \
    mentioned might mine must my name named no not of off on one or our out please remember said say says shall she \
    should so some tell tells than that the their them then there these they this those to told up us was we were \
    what when where which who whom whose why will with would you your yours";

/// The stems of [`FUNCTION_WORDS`].
static FUNCTION_STEMS: LazyLock<HashSet<String>> =
    LazyLock::new(|| FUNCTION_WORDS.split_whitespace().map(stem).collect());

/// Endings that are cut, longest first, with the letters that must remain before them.
const ENDINGS: &[(&str, usize)] = &[
    ("ations", 3),
    ("ation", 3),
    ("ings", 3),
    ("ing", 3),
    ("ied", 2),
    ("ies", 2),
    ("ers", 3),
    ("er", 3),
    ("ed", 3),
    ("es", 3),
    ("ly", 3),
    ("s", 2),
    ("e", 3),
];

/// The stems of a text's words, in order.
#[must_use]
pub fn stems(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '\u{2019}')
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .map(stem)
        .collect()
}

/// The stems that carry content, each once, in the order of the text.
#[must_use]
pub fn content(text: &str) -> Vec<String> {
    let mut content: Vec<String> = Vec::new();
    for stem in stems(text) {
        if !FUNCTION_STEMS.contains(&stem) && !content.contains(&stem) {
            content.push(stem);
        }
    }
    content
}

/// Whether a stem tells something of what a sentence is about.
#[must_use]
pub fn carries_content(stem: &str) -> bool {
    !FUNCTION_STEMS.contains(stem)
}

/// A word in lower case, without its possessive and its commonest endings. Light on purpose: it only has to bring
/// "dogs" and "dog", "working" and "work" together, and is never shown.
#[must_use]
pub fn stem(word: &str) -> String {
    let lower = word.to_lowercase();
    let base = lower.split(['\'', '\u{2019}']).next().unwrap_or_default();
    for (ending, remain) in ENDINGS {
        if let Some(start) = base.strip_suffix(ending)
            && start.chars().count() >= *remain
            && !(*ending == "s" && start.ends_with('s'))
        {
            let start = if matches!(*ending, "ied" | "ies") {
                format!("{start}y")
            } else {
                start.to_owned()
            };
            return undouble(start);
        }
    }
    base.to_owned()
}

/// "stopp" (from "stopped") becomes "stop"; "ll" and "ss" stay.
fn undouble(mut word: String) -> String {
    let mut ends = word.chars().rev();
    if let (Some(last), Some(before)) = (ends.next(), ends.next())
        && last == before
        && !matches!(last, 'l' | 's' | 'a' | 'e' | 'i' | 'o' | 'u')
        && last.is_alphabetic()
    {
        word.pop();
    }
    word
}

/// Whether a text only asks: every sentence of it ends in a question mark, or, where it has no punctuation, it opens
/// with a question word.
#[must_use]
pub fn only_asks(text: &str) -> bool {
    const OPENINGS: &[&str] = &[
        "what", "who", "where", "when", "which", "why", "how", "whose", "do", "does", "did", "can", "could", "is",
        "are",
    ];
    let text = text.trim();
    if text.is_empty() {
        return false;
    }
    if text.ends_with('?') {
        return !text.trim_end_matches('?').contains(['.', '!', '\n', ';']);
    }
    let first = text
        .split(|c: char| !c.is_alphabetic())
        .next()
        .unwrap_or_default()
        .to_lowercase();
    !text.contains(['.', '!', '\n', ',', ';']) && OPENINGS.contains(&first.as_str())
}

/// Whether the text states something of its speaker ("my …", "I …", "we …") rather than asking.
#[must_use]
pub fn is_about_oneself(text: &str) -> bool {
    const FIRST_PERSON: [&str; 5] = ["i", "my", "mine", "we", "our"];
    let asks = text.trim_end().ends_with('?') || only_asks(text);
    let mut words = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    !asks && words.any(|word| FIRST_PERSON.contains(&word.to_lowercase().as_str()))
}

/// Whether the text tells the assistant to do something ("Write a poem …", "Please explain …").
#[must_use]
pub fn wishes(text: &str) -> bool {
    const VERBS: &str = "add answer calculate change check classify compare complete compose compute continue convert \
        correct create define describe design draft draw edit estimate evaluate explain extract find fix format generate \
        give help identify imagine improve list make name outline paraphrase play pretend propose provide read recommend \
        rephrase reply rewrite say show shorten simplify solve sort suggest summarise summarize teach tell translate try \
        turn use write";
    let mut words = text
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase);
    let first = words.find(|word| !matches!(word.as_str(), "please" | "now" | "ok" | "okay" | "hi" | "hello" | "hey"));
    first.is_some_and(|first| VERBS.split_whitespace().any(|verb| verb == first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_word_meet() {
        for (one, other) in [
            ("dogs", "dog"),
            ("working", "work"),
            ("stopped", "stop"),
            ("cities", "city"),
            ("lives", "live"),
        ] {
            assert_eq!(stem(one), stem(other), "{one} and {other}");
        }
    }

    #[test]
    fn only_content_words_remain() {
        assert_eq!(content("What is my dog called?"), ["dog"]);
        assert_eq!(content("Do you remember where I work?"), ["work"]);
    }

    #[test]
    fn wishes_are_told_from_statements() {
        assert!(wishes("Write a short poem on tomato soup."));
        assert!(wishes("please, explain black holes"));
        assert!(!wishes("My dog is called Biscuit"));
        assert!(!wishes("guide.md Leave\nList of holidays"));
        assert!(!wishes(""));
    }

    #[test]
    fn questions_are_told_from_statements() {
        assert!(only_asks("What is my dog called?"));
        assert!(only_asks("where do I work"));
        assert!(!only_asks("My dog is called Biscuit, I work at the harbour"));
        assert!(!only_asks("My dog is called Biscuit. Isn't that nice?"));
        assert!(!only_asks(""));
    }

    #[test]
    fn statements_about_oneself_are_told_from_wishes_and_questions() {
        assert!(is_about_oneself("My dog is called Biscuit, I work at the harbour."));
        assert!(is_about_oneself("I'm allergic to peanuts"));
        assert!(!is_about_oneself("Please give me a recipe for soup."));
        assert!(!is_about_oneself("What is my dog called?"));
        assert!(!is_about_oneself("It is raining in Ghent."));
    }
}
