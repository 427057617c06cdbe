//! What a new fact does to those that are there. Pure.

use uuid::Uuid;

use super::{Fact, Status, words_sha256};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Nothing: this one says the same and holds, or its owner doubts it already.
    Known(Uuid),
    /// The fact is added.
    Added {
        /// Those that held when it began to hold: they end there.
        ends: Vec<Uuid>,
        /// Where it was true only before another that is there already: when that begins, and which it is.
        until: Option<(i64, Uuid)>,
    },
}

/// Settles a new fact against the facts of the same owner, place and attribute, and those of the same owner and place
/// that say the same.
///
/// For each attribute, the times in which facts hold never overlap, whatever the order in which they become known.
#[must_use]
pub fn settle(there: &[Fact], new: &Fact) -> Settled {
    let words = words_sha256(&new.text);
    let same =
        |fact: &&Fact| matches!(fact.status, Status::Active | Status::Quarantined) && words_sha256(&fact.text) == words;
    if let Some(known) = there.iter().find(same) {
        return Settled::Known(known.id);
    }
    let Some(attribute) = &new.attribute else {
        return Settled::Added {
            ends: Vec::new(),
            until: None,
        };
    };
    let alike = there.iter().filter(|fact| {
        matches!(fact.status, Status::Active | Status::Superseded) && fact.attribute.as_ref() == Some(attribute)
    });
    let (mut ends, mut until) = (Vec::new(), None::<(i64, Uuid)>);
    for fact in alike {
        if fact.valid_from > new.valid_from {
            if until.is_none_or(|(from, _)| fact.valid_from < from) {
                until = Some((fact.valid_from, fact.id));
            }
        } else if fact.valid_to.is_none_or(|end| end > new.valid_from) {
            ends.push(fact.id);
        }
    }
    Settled::Added { ends, until }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scope::Scope;

    fn fact(text: &str, attribute: Option<&str>, from: i64) -> Fact {
        let scope = Scope::new("t", "u").unwrap();
        Fact {
            attribute: attribute.map(str::to_owned),
            ..Fact::new(scope, text, from)
        }
    }

    /// As a store does it.
    fn add(there: &mut Vec<Fact>, mut new: Fact) {
        let Settled::Added { ends, until } = settle(there, &new) else {
            return;
        };
        for fact in there.iter_mut().filter(|fact| ends.contains(&fact.id)) {
            (fact.status, fact.valid_to, fact.superseded_by) = (Status::Superseded, Some(new.valid_from), Some(new.id));
        }
        if let Some((end, by)) = until {
            (new.status, new.valid_to, new.superseded_by) = (Status::Superseded, Some(end), Some(by));
        }
        there.push(new);
    }

    proptest! {
        #[test]
        fn at_most_one_of_an_attribute_holds_at_any_time(
            facts in prop::collection::vec(("[ab]", 0..6_u8, 0..50_i64), 0..12),
            at in 0..60_i64,
        ) {
            let mut there = Vec::new();
            for (attribute, text, from) in &facts {
                add(&mut there, fact(&format!("text {text}"), Some(attribute), *from));
            }
            for attribute in ["a", "b"] {
                let of = |fact: &&Fact| fact.attribute.as_deref() == Some(attribute);
                let holding = there.iter().filter(of).filter(|fact| fact.held_at(at)).count();
                prop_assert!(holding <= 1, "{there:#?}");
                let open = there.iter().filter(of).filter(|fact| fact.valid_to.is_none()).count();
                prop_assert_eq!(open, usize::from(there.iter().any(|fact| of(&fact))));
            }
        }

        #[test]
        fn facts_without_an_attribute_stand_beside_each_other(texts in prop::collection::hash_set("[a-z]{3,9}", 0..9)) {
            let mut there = Vec::new();
            for text in &texts {
                add(&mut there, fact(text, None, 1));
                add(&mut there, fact(&format!("{}!", text.to_uppercase()), None, 2));
            }
            prop_assert_eq!(there.len(), texts.len());
            prop_assert!(there.iter().all(|fact| fact.status == Status::Active));
        }
    }

    #[test]
    fn what_is_in_quarantine_is_not_believed_when_it_is_said_again() {
        let doubted = Fact {
            status: Status::Quarantined,
            ..fact("The moon is cheese", None, 1)
        };
        let again = fact("the moon is cheese.", None, 2);
        assert_eq!(
            settle(std::slice::from_ref(&doubted), &again),
            Settled::Known(doubted.id)
        );
    }
}
