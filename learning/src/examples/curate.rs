//! From feedback to examples: pure. What people said of a turn is weighed, the latest word wins, what says the same is
//! taken once, secrets are taken out, and what would let one user decide for others is left out. Whatever is left out is
//! told, with the reason.

use std::collections::{BTreeSet, HashMap};

use habit_engine::{Content, Message, Role};
use habit_memory::secrets::scrub;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Example, near};
use crate::feedback::{Feedback, GOOD, Implicit};

/// How much an answer counts that was said to be good but was not written by a person.
const APPROVED: f32 = 0.5;

/// The least an example may count.
const LEAST: f32 = 0.05;

/// A turn, with all that was said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The turn.
    pub turn: Uuid,
    /// Who asked.
    pub user: String,
    /// The prompt as asked, oldest first.
    pub messages: Vec<Message>,
    /// What was answered.
    pub reply: String,
    /// When it was asked, in Unix milliseconds.
    pub at: i64,
    /// What people said, in any order.
    pub feedback: Vec<Feedback>,
    /// What was noticed.
    pub implicit: Vec<Implicit>,
}

/// For whom is learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// One user: what that user said counts.
    User(String),
    /// A whole team: what at least so many different users said alike counts. 1 takes everybody's word.
    Team {
        /// Different users.
        users: usize,
    },
}

/// An answer that was better than another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The turn.
    pub id: Uuid,
    /// The prompt.
    pub messages: Vec<Message>,
    /// The better one.
    pub chosen: String,
    /// What was answered.
    pub rejected: String,
}

/// An answer that was good, or bad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The turn.
    pub id: Uuid,
    /// The prompt.
    pub messages: Vec<Message>,
    /// What was answered.
    pub reply: String,
    /// Which it was.
    pub good: bool,
}

/// What came of nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The turn.
    pub turn: Uuid,
    /// The feedback on it.
    pub from: Vec<Uuid>,
    /// Why.
    pub why: String,
}

/// What may be learnt from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curated {
    /// Questions with the answers that they should have, oldest first.
    pub examples: Vec<Example>,
    /// Answers that were better than others.
    pub pairs: Vec<Pair>,
    /// Answers that were good or bad.
    pub judged: Vec<Judged>,
    /// What came of nothing.
    pub left_out: Vec<LeftOut>,
    /// Secrets that were taken out.
    pub scrubbed: usize,
}

/// What one turn comes to.
struct Verdict {
    told: Told,
    /// The answer it should have had, and how much that counts.
    answer: Option<(String, f32)>,
    /// Whether a person corrected it.
    corrected: bool,
    /// Whether what was answered was good; `None` if nobody said so.
    good: Option<bool>,
    /// The time of the last word on it.
    last: i64,
}

/// Makes what may be learnt from of what was said. The order of what is given changes nothing.
#[must_use]
pub fn curate(told: Vec<Told>, audience: &Audience) -> Curated {
    let mut curated = Curated::default();
    let mut verdicts: Vec<Verdict> = Vec::new();
    for told in told {
        if let Audience::User(user) = audience
            && *user != told.user
        {
            continue;
        }
        match verdict(told) {
            Ok(mut verdict) => {
                curated.left_out.append(&mut superseded(&mut verdict));
                verdicts.push(verdict);
            }
            Err(left) => curated.left_out.push(left),
        }
    }
    verdicts.sort_by_key(|verdict| (verdict.told.at, verdict.told.turn));
    for verdict in &mut verdicts {
        curated.scrubbed += clean(verdict);
    }
    let (kept, mut out) = latest_word(verdicts);
    curated.left_out.append(&mut out);
    let kept = match audience {
        Audience::User(_) => kept,
        Audience::Team { users } => {
            let (kept, mut out) = agreed(kept, *users);
            curated.left_out.append(&mut out);
            kept
        }
    };
    for verdict in kept {
        add(&mut curated, verdict);
    }
    curated.left_out.sort_by_key(|left| left.turn);
    curated
}

fn ids(feedback: &[Feedback]) -> Vec<Uuid> {
    let ids: BTreeSet<Uuid> = feedback.iter().map(|one| one.id).collect();
    ids.into_iter().collect()
}

fn left(told: &Told, why: &str) -> LeftOut {
    LeftOut {
        turn: told.turn,
        from: ids(&told.feedback),
        why: why.to_owned(),
    }
}

/// Whether an opinion of -1 to 1 says that a reply was good, or bad; `None` if neither.
fn says(opinion: f32) -> Option<bool> {
    let above = GOOD.mul_add(2.0, -1.0);
    (opinion.abs() >= above).then_some(opinion > 0.0)
}

/// What the words on a turn come to.
fn verdict(mut told: Told) -> Result<Verdict, LeftOut> {
    told.feedback.sort_by_key(|one| (one.at, one.id));
    if told.messages.last().is_none_or(|message| message.role != Role::User) {
        return Err(left(&told, "its prompt does not end with a user's message"));
    }
    let last = told.feedback.iter().map(|one| one.at).max().unwrap_or(told.at);
    let correction = told.feedback.iter().rev().find_map(|one| one.given.correction.clone());
    let opinion = told.feedback.iter().rev().find_map(|one| one.given.opinion());
    let reported = told.feedback.iter().filter_map(|one| one.given.implicit);
    let noticed: BTreeSet<&str> = told
        .implicit
        .iter()
        .copied()
        .chain(reported)
        .map(Implicit::as_str)
        .collect();
    let all = [
        Implicit::Regenerate,
        Implicit::Meant,
        Implicit::Copy,
        Implicit::Continue,
    ];
    let moved: f32 = all
        .iter()
        .filter(|one| noticed.contains(one.as_str()))
        .map(|one| one.weight())
        .sum();
    let good = match &correction {
        // Who writes another answer says that this one was not it, unless it is the same.
        Some(correction) => Some(correction.trim() == told.reply.trim()),
        None => opinion.and_then(says),
    };
    let answer = match (&correction, good) {
        (Some(correction), _) => Some((correction.trim().to_owned(), 1.0)),
        (None, Some(true)) => {
            let weight = opinion.unwrap_or_default() + moved;
            if weight <= 0.0 {
                return Err(left(&told, "it was said to be good, and then asked again or put right"));
            }
            if told.reply.trim().is_empty() {
                return Err(left(&told, "the reply has no text"));
            }
            Some((told.reply.trim().to_owned(), (APPROVED * weight).clamp(LEAST, 1.0)))
        }
        _ => None,
    };
    if answer.is_none() && good.is_none() {
        let why = if opinion.is_some() {
            "the score says neither good nor bad"
        } else {
            "nobody said whether it was good: what is noticed alone, and comments, are not learnt from"
        };
        return Err(left(&told, why));
    }
    Ok(Verdict {
        corrected: correction.is_some(),
        answer,
        good,
        last,
        told,
    })
}

/// Takes out the words on a turn that say otherwise than the one that stands: the last correction, or else the last opinion.
fn superseded(verdict: &mut Verdict) -> Vec<LeftOut> {
    let turn = verdict.told.turn;
    let words = std::mem::take(&mut verdict.told.feedback);
    let last = |of: fn(&Feedback) -> bool| words.iter().rev().find(|one| of(one));
    let corrects = |one: &Feedback| one.given.correction.is_some();
    let Some(stands) = last(corrects).or_else(|| last(|one| one.given.opinion().is_some())) else {
        verdict.told.feedback = words;
        return Vec::new();
    };
    let plain = |one: &Feedback| one.given.correction.as_deref().map(near::plain);
    let (id, answer, good) = (stands.id, plain(stands), verdict.good);
    // A correction stands against opinions, whichever came first.
    let what = if corrects(stands) { "correction" } else { "later word" };
    let mut out = Vec::new();
    for one in words {
        let otherwise = match one.given.opinion() {
            _ if corrects(&one) => plain(&one) != answer,
            Some(opinion) => says(opinion) != good,
            None => false,
        };
        if otherwise {
            let why = format!("it was superseded by the {what} {id} on the same reply");
            out.push(LeftOut {
                turn,
                from: vec![one.id],
                why,
            });
        } else {
            verdict.told.feedback.push(one);
        }
    }
    out
}

/// Takes secrets out; how many there were.
fn clean(verdict: &mut Verdict) -> usize {
    let mut found = 0;
    let mut one = |text: &str| {
        let (text, secrets) = scrub(text);
        found += secrets;
        text
    };
    for message in &mut verdict.told.messages {
        message.content = match &message.content {
            Content::Text(text) => Content::Text(one(text)),
            Content::Parts(parts) => Content::Parts(
                parts
                    .iter()
                    .cloned()
                    .map(|mut part| {
                        if let Some(text) = part.get("text").and_then(|text| text.as_str()).map(&mut one) {
                            part["text"] = text.into();
                        }
                        part
                    })
                    .collect(),
            ),
        };
    }
    verdict.told.reply = one(&verdict.told.reply);
    if let Some((answer, _)) = &mut verdict.answer {
        *answer = one(answer);
    }
    found
}

/// What was asked, with what stood before it: the same words in another conversation are another question.
fn asked(messages: &[Message]) -> String {
    let said = messages.iter().filter(|message| message.role != Role::System);
    let texts: Vec<String> = said.map(|message| near::plain(&message.text())).collect();
    texts.join("\n")
}

/// Of a user's words on the same question the latest stands; what says the same makes one example, of all of them.
fn latest_word(verdicts: Vec<Verdict>) -> (Vec<Verdict>, Vec<LeftOut>) {
    let (mut kept, mut out): (Vec<Verdict>, Vec<LeftOut>) = (Vec::new(), Vec::new());
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    for verdict in verdicts {
        if verdict.answer.is_none() {
            kept.push(verdict);
            continue;
        }
        let key = (verdict.told.user.clone(), asked(&verdict.told.messages));
        let Some(place) = places.get(&key).copied() else {
            places.insert(key, kept.len());
            kept.push(verdict);
            continue;
        };
        let old = &kept[place];
        // A correction stands against a later approval of a reply to the same.
        let newer = (verdict.corrected, verdict.last, verdict.told.turn) > (old.corrected, old.last, old.told.turn);
        let same = verdict.answer.as_ref().map(|one| near::plain(&one.0))
            == old.answer.as_ref().map(|one| near::plain(&one.0));
        let (mut new, old) = if newer {
            (verdict, std::mem::replace(&mut kept[place], Verdict::nothing()))
        } else {
            let stays = std::mem::replace(&mut kept[place], Verdict::nothing());
            (stays, verdict)
        };
        if same {
            new.told.feedback.extend(old.told.feedback);
        } else {
            out.push(left(&old.told, "a later word on the same question says otherwise"));
        }
        kept[place] = new;
    }
    let (kept, mut gone) = withdrawn(kept);
    out.append(&mut gone);
    (kept, out)
}

/// Takes out answers that were said to be bad later, when the same was replied to the same question again.
fn withdrawn(verdicts: Vec<Verdict>) -> (Vec<Verdict>, Vec<LeftOut>) {
    let place = |told: &Told, answer: &str| (told.user.clone(), asked(&told.messages), near::plain(answer));
    let mut bad: HashMap<(String, String, String), Option<(i64, Uuid)>> = HashMap::new();
    for one in verdicts.iter().filter(|one| one.good == Some(false) && !one.corrected) {
        let said = bad.entry(place(&one.told, &one.told.reply)).or_default();
        *said = (*said).max(one.said());
    }
    let (out, kept): (Vec<Verdict>, Vec<Verdict>) = verdicts.into_iter().partition(|one| {
        let answer = one.answer.as_ref().map(|(answer, _)| place(&one.told, answer));
        let bad = answer.and_then(|answer| bad.get(&answer));
        bad.is_some_and(|said| *said > one.said())
    });
    let why = "the same answer was said to be bad later";
    let out = out.iter().map(|one| left(&one.told, why)).collect();
    (kept, out)
}

impl Verdict {
    /// When it was last said whether the reply was good, or what it should have been; the id tells which of one moment was
    /// the later.
    fn said(&self) -> Option<(i64, Uuid)> {
        let words = self.told.feedback.iter();
        let judging = words.filter(|one| one.given.correction.is_some() || one.given.opinion().is_some());
        judging.map(|one| (one.at, one.id)).max()
    }

    /// Stands for one that was taken out of a list, until another takes its place.
    fn nothing() -> Self {
        Self {
            told: Told {
                turn: Uuid::nil(),
                user: String::new(),
                messages: Vec::new(),
                reply: String::new(),
                at: 0,
                feedback: Vec::new(),
                implicit: Vec::new(),
            },
            answer: None,
            corrected: false,
            good: None,
            last: 0,
        }
    }
}

/// What enough users said alike of nearly the same question, where no other answer has as many.
fn agreed(verdicts: Vec<Verdict>, users: usize) -> (Vec<Verdict>, Vec<LeftOut>) {
    if users <= 1 {
        return one_each(verdicts);
    }
    let questions: Vec<String> = verdicts.iter().map(|one| asked(&one.told.messages)).collect();
    let clusters = near::clusters(&questions);
    let said = |verdict: &Verdict| match (&verdict.answer, verdict.good) {
        (Some((answer, _)), _) => near::plain(answer),
        (None, _) => String::new(),
    };
    let mut votes: HashMap<usize, HashMap<String, BTreeSet<String>>> = HashMap::new();
    for (verdict, cluster) in verdicts.iter().zip(&clusters) {
        let users = votes.entry(*cluster).or_default().entry(said(verdict)).or_default();
        users.insert(verdict.told.user.clone());
    }
    let (mut kept, mut out) = (Vec::new(), Vec::new());
    for (verdict, cluster) in verdicts.into_iter().zip(clusters) {
        let answers = &votes[&cluster];
        let own = said(&verdict);
        let for_it = answers.get(&own).map_or(0, BTreeSet::len);
        let against = answers
            .iter()
            .filter(|(answer, _)| **answer != own)
            .map(|(_, users)| users.len())
            .max();
        if for_it < users {
            let why = format!(
                "{for_it} of the {users} users said so that the team's model needs; it counts for its own user"
            );
            out.push(left(&verdict.told, &why));
        } else if against.is_some_and(|against| against >= for_it) {
            out.push(left(&verdict.told, "as many users say otherwise"));
        } else {
            kept.push(verdict);
        }
    }
    (kept, out)
}

/// Where everybody's word counts: of users who say otherwise of the very same question, the latest.
fn one_each(verdicts: Vec<Verdict>) -> (Vec<Verdict>, Vec<LeftOut>) {
    let mut users: Vec<(String, Verdict)> = verdicts
        .into_iter()
        .map(|mut one| (std::mem::take(&mut one.told.user), one))
        .collect();
    let owners: HashMap<Uuid, String> = users.iter().map(|(user, one)| (one.told.turn, user.clone())).collect();
    let (mut kept, out) = latest_word(users.drain(..).map(|(_, one)| one).collect());
    for one in &mut kept {
        if let Some(user) = owners.get(&one.told.turn) {
            one.told.user.clone_from(user);
        }
    }
    (kept, out)
}

fn add(curated: &mut Curated, verdict: Verdict) {
    let Verdict {
        told,
        answer,
        corrected,
        good,
        ..
    } = verdict;
    if let Some(good) = good
        && !told.reply.trim().is_empty()
    {
        curated.judged.push(Judged {
            id: told.turn,
            messages: told.messages.clone(),
            reply: told.reply.clone(),
            good,
        });
    }
    let Some((answer, weight)) = answer else { return };
    if corrected && good == Some(false) && !told.reply.trim().is_empty() {
        curated.pairs.push(Pair {
            id: told.turn,
            messages: told.messages.clone(),
            chosen: answer.clone(),
            rejected: told.reply.trim().to_owned(),
        });
    }
    curated.examples.push(Example {
        id: told.turn,
        messages: told.messages,
        answer,
        at: told.at,
        weight,
        from: ids(&told.feedback),
        user: told.user,
    });
}

#[cfg(test)]
mod tests;
