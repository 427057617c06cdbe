//! Whether two texts say the same. Pure. Careful: what only looks alike, but for a number, a name or a "not", is not the same.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Words that change nothing about what is said.
const FILLERS: &[&str] = &[
    "a", "an", "the", "really", "very", "just", "also", "please", "so", "well", "oh", "quite", "ok", "okay", "hi",
    "hello", "hey", "thanks",
];

/// Numbers that stand for a text.
const SKETCH: usize = 32;

/// The words that say something, in order, in lower case.
fn telling(text: &str) -> impl Iterator<Item = String> + '_ {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '\'');
    let words = words.map(|word| word.trim_matches('\'').to_lowercase());
    words.filter(|word| !word.is_empty() && !FILLERS.contains(&word.as_str()))
}

/// The same for texts that say the same in the same words but for case, punctuation and fillers; `None` of a text that says
/// nothing.
pub fn essence(text: &str) -> Option<u64> {
    let mut hash = DefaultHasher::new();
    let mut any = false;
    for word in telling(text) {
        word.hash(&mut hash);
        any = true;
    }
    any.then(|| hash.finish())
}

/// What a longer text says, roughly: enough to tell how many words two of them share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch {
    /// The least hash of all words, once for each of [`SKETCH`] ways to hash.
    least: Vec<u64>,
    /// Numbers and negations: where these differ, nothing else matters.
    hard: u64,
}

impl Sketch {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        let mut least = vec![u64::MAX; SKETCH];
        let mut hard = DefaultHasher::new();
        for word in telling(text) {
            if word.chars().any(|c| c.is_ascii_digit()) || is_negation(&word) {
                word.hash(&mut hard);
            }
            for (way, least) in least.iter_mut().enumerate() {
                let mut hash = DefaultHasher::new();
                (way, &word).hash(&mut hash);
                *least = (*least).min(hash.finish());
            }
        }
        let hard = hard.finish();
        Self { least, hard }
    }

    /// Whether they share about nine of ten words, and all numbers and negations in the same order.
    pub fn is_like(&self, other: &Self) -> bool {
        let same = self.least.iter().zip(&other.least).filter(|(a, b)| a == b).count();
        self.hard == other.hard && same * 10 >= SKETCH * 9
    }
}

fn is_negation(word: &str) -> bool {
    matches!(
        word,
        "no" | "not" | "never" | "none" | "nothing" | "nobody" | "cannot" | "without"
    ) || word.ends_with("n't")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_in_other_clothes_is_the_same() {
        assert_eq!(essence("I like the tea."), essence("i really like tea!"));
        assert_ne!(essence("I like tea"), essence("I do not like tea"));
        assert_ne!(essence("the bid is 500"), essence("the bid is 700"));
        assert_ne!(essence("Ann knows Bob"), essence("Bob knows Ann"));
        assert_eq!(essence(" … "), None);
        let long = "one of many words that come here ".repeat(4);
        let with = |end: &str| Sketch::of(&format!("{long}{end}"));
        assert!(with("in all").is_like(&with("In ALL!")));
        assert!(!with("it costs 500").is_like(&with("it costs 700")));
        assert!(!with("it is so").is_like(&with("it isn't so")));
        assert!(!Sketch::of("cats sleep all day").is_like(&Sketch::of("dogs run at night")));
    }
}
