//! What of a user's words is a fact about them: stated preferences and facts, found by rules and without a model. Only
//! what is said in so many words, verbatim; when in doubt, nothing: the turn itself is recalled anyway.
//!
//! Only the user's own words are read. What is quoted, pasted, fenced as code, given as a text to work on, or supposed
//! is not said of oneself. Secrets are never taken.

use std::sync::LazyLock;

use habit_engine::Role;
use regex::Regex;

use super::{Fact, Kind, Origin};
use crate::interaction::Interaction;

mod alike;
mod nouns;
mod others;
mod sentences;

use alike::{about, preference, without_time};
use nouns::{
    IN_PASSING, NO_VALUE, NOT_BY_TRADE, NOT_NAMES, NOT_OWNED, NOT_PLACES, NOT_WORK, PEOPLE, PROFESSIONS, SINGLE,
};
use others::Others;
use sentences::own_sentences;

/// Longer messages are pasted texts rather than something that is told.
const MOST_CHARACTERS: usize = 2_000;

/// A statement of these many characters is one; longer sentences hold more than a fact.
const STATEMENT: std::ops::RangeInclusive<usize> = 4..=300;

/// Something that a user states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Verbatim.
    pub text: String,
    /// What sort of statement it is.
    pub kind: Kind,
    /// See [`Fact::attribute`].
    pub attribute: Option<String>,
}

/// The facts that a turn teaches: of the user's last message alone, never of a reply, a tool's result, a document, or what
/// memory put before the model.
#[must_use]
pub fn taught(turn: &Interaction) -> Vec<Fact> {
    let Some(message) = turn.messages.iter().rev().find(|message| message.role == Role::User) else {
        return Vec::new();
    };
    let speaker = message.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let owner = crate::Scope::new(turn.scope.team(), turn.scope.user());
    let Ok(owner) = owner else { return Vec::new() };
    let fact = |statement: Statement| Fact {
        kind: statement.kind,
        // What one of several speakers says of themselves is not said of the others.
        attribute: statement.attribute.map(|attribute| match speaker {
            Some(name) => format!("{name}/{attribute}"),
            None => attribute,
        }),
        origin: Origin {
            said_by: speaker.unwrap_or("user").to_owned(),
            turn: Some(turn.id),
            document: None,
        },
        ..Fact::new(owner.clone(), statement.text, turn.asked_at)
    };
    statements(&message.text()).into_iter().map(fact).collect()
}

/// The statements of a message, in order, each once.
#[must_use]
pub fn statements(message: &str) -> Vec<Statement> {
    let Some(rules) = RULES.as_ref() else { return Vec::new() };
    if message.chars().count() > MOST_CHARACTERS {
        return Vec::new();
    }
    let mut found: Vec<Statement> = Vec::new();
    for sentence in own_sentences(message, rules) {
        let explicit = rules.explicit.is_match(&sentence);
        for clause in rules.clauses(&sentence) {
            if !explicit && rules.others.say(clause) {
                break;
            }
            if let Some(statement) = rules.read(clause)
                && !found.iter().any(|known| known.text == statement.text)
            {
                found.push(statement);
            }
        }
    }
    rules.drop_what_ended(&mut found);
    found
}

/// What one statement is about, for a text that is given as a fact: its kind and its attribute, if a rule knows them.
#[must_use]
pub fn classify(text: &str) -> (Kind, Option<String>) {
    let read = RULES.as_ref().and_then(|rules| rules.read(text.trim()));
    read.map_or((Kind::Fact, None), |statement| (statement.kind, statement.attribute))
}

/// Words that questions about an attribute use, and its statements often don't: "where do I live?" asks for "I moved to Lyon".
#[must_use]
pub fn keys(attribute: &str) -> &'static str {
    // Behind the speaker's name, before what it is about.
    let name = attribute.rsplit('/').next().unwrap_or(attribute);
    match name.split(':').next().unwrap_or(name) {
        "home" => "live, home, city, address, moved",
        "work" => "work, job, employer, company",
        "job" => "job, profession, occupation, work",
        "name" => "name, called",
        "allergy" => "allergies, allergic, food",
        "diet" => "diet, eat, food",
        "age" => "age, old",
        "prefers" | "taste" => "prefer, like, love, favourite",
        "rule" => "instruction, answer",
        "habit" => "habit, usually",
        _ => "",
    }
}

struct Rules {
    others: Others,
    /// What says that something is not so.
    not: Regex,
    /// Where one sentence tells several things.
    joint: Regex,
    filler: Regex,
    explicit: Regex,
    secret: Regex,
    supposed: Regex,
    works_on_text: Regex,
    call_me: Regex,
    home: Regex,
    /// A home that is shared, or one that was moved to: of other things the same is said.
    moved: Regex,
    work: Regex,
    job: Regex,
    profession: Regex,
    traded: Regex,
    allergy: Regex,
    diet: Regex,
    intolerant: Regex,
    age: Regex,
    prefer: Regex,
    taste: Regex,
    mine: Regex,
    rule: Regex,
    habit: Regex,
}

static RULES: LazyLock<Option<Rules>> = LazyLock::new(|| Rules::new().ok());

impl Rules {
    fn new() -> Result<Self, regex::Error> {
        let rule = |pattern: &str| Regex::new(&format!("(?i){pattern}"));
        Ok(Self {
            others: Others::new()?,
            not: rule(r"\bno longer\b|\bnot\b|n['\u{2019}]t\b")?,
            joint: rule(
                r"(?:,\s*(?:and\s+|but\s+)?|;\s*|\s+and\s+|\s+but\s+)(?:(?:now|these days|currently)\s+)?(?:(?:i|we)(?:['\u{2019}](?:m|ve|d|re))?\s|my\s|call me\s)",
            )?,
            filler: rule(
                r"^(?:(?:please|btw|by the way|fyi|hi|hello|hey|well|so|also|and|but|oh|ok|okay|actually|thanks|note|just so you know|for your information|from now on|now|these days|nowadays|currently|correction|update|for context|to be clear|fun fact|one more thing)\b[\s,:!-]*)+",
            )?,
            explicit: rule(
                r"^(?:(?:please|and|also)\s+)?(?:remember|don['\u{2019}]t forget|do not forget|keep in mind|bear in mind|note|memori[sz]e|for the record)\b\s*(?:(?:that\b|this\b)?\s*[:,-]?)\s*(.+)$",
            )?,
            secret: rule(
                r"\b(?:password|passphrase|passcode|pin(?: code)?|secret|api[ -]?key|access key|private key|token|cvv|cvc|credit card|card number|iban|ssn|social security|seed phrase|recovery phrase)\b|\b(?:sk|hb|ghp|xox[bp])-?[A-Za-z0-9_-]{12,}",
            )?,
            supposed: rule(
                r"^(?:if|suppose|supposing|imagine|pretend|assume|assuming|say|let['\u{2019}]s say|what if|when|unless|would|could|should|maybe|perhaps|i wish|i hope|i wonder)\b|\bif i\b|\bas if\b",
            )?,
            works_on_text: rule(
                r"^(?:please\s+|can you\s+|could you\s+)?(?:translate|rewrite|rephrase|paraphrase|correct|proofread|summari[sz]e|fix|edit|classify|check|complete|continue|convert|improve|shorten|expand|analy[sz]e|extract|write|compose|draft|act|play|role-?play|pretend|imagine|you are)\b|:\s*$|\bthe following\b",
            )?,
            call_me: rule(r"^(?:you (?:can|may|should) )?(?:please )?call me (.+)$")?,
            home: rule(
                r"^(?:i|we)(?:['\u{2019}](?:m|ve|re)| am| are| have)?\s+(?:(?:just|now|recently|currently|no longer|still|do not|don['\u{2019}]t)\s+)*(?:(?:moved|relocated)\b(?:\s+\w+)?(?:\s+from\s+.+?)?\s+to|(?:live|living|reside|based)\b(?:\s+now)?\s+(?:in|at|on|near|with))\s+(.+)$",
            )?,
            moved: rule(r"^we\b|\b(?:moved|relocated)\b")?,
            work: rule(
                r"^i(?:(?:['\u{2019}]m| am)?\s+(?:(?:now|currently|no longer|do not|don['\u{2019}]t)\s+)*work(?:ing)?(?:\s+now)?\s+(?:at|for|in)|(?:['\u{2019}]ve| have)?\s+(?:just\s+)?(?:(?:started|got|found|began|have)\s+(?:a|my)\s+new|(?:quit|left|lost)\s+my)\s+job\s+(?:at|with|for))\s+(.+)$",
            )?,
            job: rule(
                r"^i(?:['\u{2019}]m| am)?\s+(?:(?:now|currently|no longer|do not|don['\u{2019}]t)\s+)*work(?:ing)?(?:\s+now)?\s+as\s+(.+)$",
            )?,
            profession: rule(&format!(
                r"^i(?:['\u{{2019}}]m| am)\s+(?:(?:now|currently|no longer|actually)\s+)*an?\s+((?:[\w-]+\s+){{0,3}}?)(?:{})(?:\s+(?:now|these days|nowadays|currently|at|for|in|any\s?more)\b.*)?[.!]*$",
                PROFESSIONS.join("|")
            ))?,
            traded: rule(
                r"^i(?:['\u{2019}]ve| have)?\s+(?:just\s+)?(?:sold|traded in)\s+my\s+(.+?)\s+(?:and|to)\s+(?:bought|buy|got)\s+an?\s+(.+)$",
            )?,
            allergy: rule(r"^i(?:['\u{2019}]m| am)\s+(?:(?:not|no longer|severely|very)\s+)?allergic\s+to\s+(.+)$")?,
            diet: rule(
                r"^i(?:['\u{2019}]m| am)\s+(?:(?:a|an|now|not|no longer|currently|strictly)\s+)*(vegan|vegetarian|pescatarian)\b",
            )?,
            intolerant: rule(
                r"^i(?:['\u{2019}]m| am)\s+(?:(?:a|an|now|not|no longer|strictly)\s+)*(lactose intolerant|coeliac|celiac|kosher|halal)\b",
            )?,
            age: rule(r"^i(?:['\u{2019}]m| am)\s+(\d{1,3})(?:\s+years\s+old)?[.!]*$")?,
            prefer: rule(
                r"^i(?:['\u{2019}]d| would)?\s+(?:(?:now|currently|really|much|strongly|generally|usually)\s+)*prefer\s+(.+)$",
            )?,
            taste: rule(
                r"^i\s+(?:(?:really|absolutely|also|now|still|no longer)\s+)*(?:like|love|enjoy|hate|dislike|can['\u{2019}]t stand|(?:don['\u{2019}]t|do not) (?:really )?(?:like|love|enjoy|eat|drink))\s+(.+)$",
            )?,
            mine: rule(
                r"^my\s+([a-z][\w'\u{2019} -]{1,60}?)(?:\s+is|\s+are|['\u{2019}]s name is)\s+((?:called|named)\s+)?(.+)$",
            )?,
            rule: rule(r"^(always|never|do not ever|don['\u{2019}]t ever)\s+(.+)$")?,
            habit: rule(r"^i\s+(always|never)\s+(.+)$")?,
        })
    }

    /// A sentence's parts, each of which may state something.
    fn clauses<'a>(&self, sentence: &'a str) -> Vec<&'a str> {
        let mut parts = Vec::new();
        let mut start = 0;
        for joint in self.joint.find_iter(sentence) {
            // The joint ends with the first words of what follows; these belong to it.
            let inside = joint.as_str();
            let lower = inside.to_lowercase();
            let begins = ["call me", "my", "i", "we"]
                .iter()
                .filter_map(|word| lower.rfind(word))
                .filter(|at| lower[..*at].ends_with([' ', ',', ';']))
                .max()
                .unwrap_or_default();
            parts.push(sentence[start..joint.start()].trim());
            start = joint.start() + begins;
        }
        parts.push(sentence[start..].trim());
        parts.retain(|part| !part.is_empty());
        parts
    }

    fn read(&self, clause: &str) -> Option<Statement> {
        let clause = clause.trim().trim_end_matches(',').trim_end();
        if !STATEMENT.contains(&clause.chars().count()) || self.secret.is_match(clause) {
            return None;
        }
        let bare = self.filler.replace(clause, "").trim().to_owned();
        if self.supposed.is_match(&bare) {
            return None;
        }
        if let Some(said) = self.explicit.captures(&bare).and_then(|found| found.get(1)) {
            let text = said.as_str().trim();
            if !STATEMENT.contains(&text.chars().count()) || text.to_lowercase().starts_with("to ") {
                return None;
            }
            let (kind, attribute) = self.classified(text).unwrap_or((Kind::Fact, None));
            return Some(Statement {
                text: text.to_owned(),
                kind,
                attribute,
            });
        }
        let (kind, attribute) = self.classified(&bare)?;
        Some(Statement {
            text: bare,
            kind,
            attribute,
        })
    }

    fn classified(&self, text: &str) -> Option<(Kind, Option<String>)> {
        let value = |rule: &Regex| -> Option<String> {
            let found = rule.captures(text)?.get(1)?;
            Some(found.as_str().trim_end_matches(['.', '!']).trim().to_owned())
        };
        let one = |kind: Kind, attribute: &str| Some((kind, Some(attribute.to_owned())));
        if let Some(name) = value(&self.call_me) {
            let first = name.split_whitespace().next().unwrap_or_default().to_lowercase();
            let odd = [
                "back", "later", "when", "if", "at", "a", "an", "tomorrow", "on", "crazy", "today", "the",
            ];
            let named = name.split_whitespace().count() <= 4 && !odd.contains(&first.as_str());
            return named.then(|| (Kind::Preference, Some("name".to_owned())));
        }
        if let Some(place) = value(&self.home) {
            let known = !self.moved.is_match(text) || is_place(&place, text);
            return known.then(|| (Kind::Fact, Some("home".to_owned())));
        }
        if let Some(place) = value(&self.work) {
            return (!is_how(&place)).then(|| (Kind::Fact, Some("work".to_owned())));
        }
        if let Some(what) = value(&self.job) {
            return (!is_how(&what)).then(|| (Kind::Fact, Some("job".to_owned())));
        }
        if let Some(how) = value(&self.profession) {
            let so = !how
                .split_whitespace()
                .any(|word| NOT_BY_TRADE.contains(&word.to_lowercase().as_str()));
            return so.then(|| (Kind::Fact, Some("job".to_owned())));
        }
        if value(&self.traded).is_some() {
            // Which of the things that were told before is gone, only its name would tell.
            return Some((Kind::Fact, None));
        }
        if let Some(what) = value(&self.allergy) {
            return one(Kind::Fact, &format!("allergy:{}", about(&what)));
        }
        if value(&self.diet).is_some() {
            return one(Kind::Fact, "diet");
        }
        if let Some(what) = value(&self.intolerant) {
            return one(Kind::Fact, &format!("diet:{}", about(&what)));
        }
        if value(&self.age).is_some() {
            return one(Kind::Fact, "age");
        }
        if let Some(what) = value(&self.prefer) {
            return (!in_passing(&what)).then(|| (Kind::Preference, preference(&what)));
        }
        if let Some(what) = value(&self.taste) {
            let short = what.split_whitespace().count() <= 8;
            return (short && !in_passing(&what)).then(|| (Kind::Preference, Some(format!("taste:{}", about(&what)))));
        }
        if let Some(found) = self.rule.captures(text) {
            let what = found.get(2)?.as_str();
            let several = what.split_whitespace().count() >= 2;
            return several.then(|| (Kind::Instruction, Some(format!("rule:{}", about(what)))));
        }
        if let Some(found) = self.habit.captures(text) {
            return one(Kind::Preference, &format!("habit:{}", about(found.get(2)?.as_str())));
        }
        self.owned(text)
    }

    /// "My … is …".
    fn owned(&self, text: &str) -> Option<(Kind, Option<String>)> {
        let found = self.mine.captures(text)?;
        let (what, value) = (found.get(1)?.as_str().to_lowercase(), found.get(3)?.as_str());
        let names: Vec<&str> = what.split_whitespace().filter(|word| *word != "new").collect();
        let last = *names.last()?;
        let single = SINGLE.contains(&last) || PEOPLE.contains(&last);
        let likes = names[0].starts_with("favo") || names[0] == "preferred";
        // "My boss is now Nina", but not "my engine is now broken".
        let value = if single || likes {
            without_time(value)
        } else {
            value.to_owned()
        };
        let first_of_value = value.split(|c: char| !c.is_alphanumeric()).next()?.to_lowercase();
        if names.len() > 4
            || names.iter().any(|name| NOT_OWNED.contains(name))
            || NO_VALUE.contains(&first_of_value.as_str())
        {
            return None;
        }
        let kind = if likes { Kind::Preference } else { Kind::Fact };
        let named = found.get(2).is_some() || text.to_lowercase().contains("s name is ");
        let attribute = if last == "name" && names.len() <= 2 {
            Some("name".to_owned())
        } else if PEOPLE.contains(&last) {
            // "My boss is ill" says nothing against "my boss is Nina".
            (named || is_name(&value)).then(|| format!("my:{}", about(&names.join(" "))))
        } else if named {
            // A new dog is another one.
            Some(format!("my:{}:name", about(&what)))
        } else if likes || single {
            Some(format!("my:{}", about(&names.join(" "))))
        } else {
            // "My dog is brown" says nothing against "my dog is ill".
            None
        };
        Some((kind, attribute))
    }

    /// "I'm vegetarian now, I'm no longer vegan": what is so is said, so what is not takes no place of its own.
    fn drop_what_ended(&self, found: &mut Vec<Statement>) {
        let one_of = |statement: &Statement| {
            let attribute = statement.attribute.as_deref();
            attribute
                .filter(|one| matches!(*one, "home" | "work" | "job" | "diet"))
                .map(str::to_owned)
        };
        let is_so = |statement: &Statement| !self.not.is_match(&statement.text);
        let so: Vec<_> = found.iter().filter(|found| is_so(found)).filter_map(one_of).collect();
        found.retain(|found| is_so(found) || one_of(found).is_none_or(|one| !so.contains(&one)));
    }
}

/// "Lille", but neither "Linux" nor "a new office". Who speaks of others too must give the place a name.
fn is_place(value: &str, text: &str) -> bool {
    let bare = value.strip_prefix("the ").unwrap_or(value);
    let first = bare
        .split(|c: char| !c.is_alphanumeric() && c != '-')
        .next()
        .unwrap_or_default();
    let named =
        first.chars().next().is_some_and(char::is_uppercase) && first.chars().skip(1).all(|c| !c.is_uppercase());
    let ours = text.to_lowercase().starts_with("we");
    !NOT_PLACES.contains(&first.to_lowercase().as_str()) && (named || !ours)
}

/// Whether "I work at …" or "I work as …" tells how or when rather than where or what: "at night", "as hard as I can".
fn is_how(value: &str) -> bool {
    let mut words = value.split_whitespace().take(2).map(str::to_lowercase);
    words.any(|word| NOT_WORK.contains(&word.as_str()))
}

/// "Nina", "Doctor Quill", but neither "tired" nor "Spanish".
fn is_name(value: &str) -> bool {
    let words: Vec<&str> = value.split_whitespace().collect();
    let first = value.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    (1..=4).contains(&words.len())
        && first.chars().next().is_some_and(char::is_uppercase)
        && !NOT_NAMES.contains(&first.to_lowercase().as_str())
}

fn in_passing(value: &str) -> bool {
    let words: Vec<String> = value
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let first = words.first().is_none_or(|word| IN_PASSING.contains(&word.as_str()));
    first
        || words
            .last()
            .is_some_and(|word| matches!(word.as_str(), "one" | "option" | "version" | "answer"))
}

#[cfg(test)]
mod tests;
