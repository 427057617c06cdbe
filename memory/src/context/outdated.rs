//! Turns that say no more than a fact which does not hold any more: what was said stays on record, but is not put before a
//! model as if it were so.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::error::MemoryError;
use crate::facts::{Facts, Filter, FromTurn, Status, words_sha256};
use crate::interaction::Interaction;
use crate::rank::words;
use crate::scope::Scope;

/// The ids of those among these turns, of which these are the facts. A turn that says more than its fact is not one of them,
/// nor is one whose fact was only said more fully later.
pub(super) async fn among(
    facts: &dyn Facts,
    scope: &Scope,
    turns: &[Interaction],
    mut ended: Vec<FromTurn>,
) -> Result<HashSet<Uuid>, MemoryError> {
    ended.retain(|fact| fact.status != Status::Active);
    if ended.is_empty() {
        return Ok(HashSet::new());
    }
    let later: Vec<Uuid> = ended.iter().filter_map(|fact| fact.superseded_by).collect();
    let later = facts.by_id(scope, &Filter::all(), &later).await?.into_iter();
    let later: HashMap<Uuid, String> = later.map(|fact| (fact.id, fact.text)).collect();
    let is_over = |turn: &Interaction, fact: &FromTurn| {
        let said = fact.turn == turn.id && fact.words_sha256 == words_sha256(&turn.prompt);
        let by = fact.superseded_by.and_then(|id| later.get(&id));
        let fuller = fact.status == Status::Superseded && by.is_some_and(|by| says_more(by, &turn.prompt));
        said && !fuller
    };
    let over = turns.iter().filter(|turn| ended.iter().any(|fact| is_over(turn, fact)));
    Ok(over.map(|turn| turn.id).collect())
}

/// Whether the later text says all that the earlier one does, and takes nothing of it back.
fn says_more(later: &str, earlier: &str) -> bool {
    let all = words::content(later);
    words::content(earlier).iter().all(|word| all.contains(word)) && (denies(earlier) || !denies(later))
}

fn denies(text: &str) -> bool {
    let text = text.to_lowercase().replace('\u{2019}', "'");
    let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '\'');
    words.any(|word| {
        matches!(word, "no" | "not" | "never" | "cannot" | "used" | "hate" | "dislike") || word.ends_with("n't")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_say_more_is_not_to_take_back() {
        assert!(says_more(
            "My dog is called Biscuit by everyone.",
            "My dog is called Biscuit."
        ));
        assert!(!says_more("My dog is called Rex.", "My dog is called Biscuit."));
        assert!(!says_more("I no longer live in Ghent.", "I live in Ghent."));
        assert!(!says_more("I don\u{2019}t live in Ghent now.", "I live in Ghent."));
    }
}
