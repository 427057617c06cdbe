//! What of a turn, a chunk or a fact is embedded, and what is searched for words: from what was recorded to an entry of
//! the index.

use habit_engine::Role;

use crate::documents::Place;
use crate::documents::schema::{self, is_table};
use crate::facts::{Fact, recognise};
use crate::index::{Entry, Owner};
use crate::interaction::Interaction;
use crate::journal::Pending;
use crate::passage::SourceKind;
use crate::rank::words;

/// Characters of a reply that are embedded with a question: there the reply holds what is to be known.
const REPLY_IN_VECTOR: usize = 160;

/// Characters of the user's words that are embedded; about what the embedder's window of 256 tokens holds.
const PROMPT_IN_VECTOR: usize = 1_000;

/// What is embedded. Of a turn that states something, the user's words alone: with the reply, the cosine between a fact
/// and the question about it fell in 15 of 17 pairs, such as from 0.26 to 0.14 for "Where do I work?".
pub(super) fn text_for_vector(item: &Pending) -> String {
    match item {
        Pending::Turn { turn, .. } => {
            let prompt = cut(turn.prompt.trim(), PROMPT_IN_VECTOR);
            let reply = cut(turn.reply.trim(), REPLY_IN_VECTOR);
            let said = match speaker(turn) {
                Some(name) => format!("{name}: {prompt}"),
                None => prompt.to_owned(),
            };
            if words::only_asks(prompt) && !reply.is_empty() {
                format!("{said}\n{reply}")
            } else {
                said
            }
        }
        Pending::Chunk { document, chunk } if is_table(document, chunk) => {
            schema::described(&chunk.locator, &chunk.text)
        }
        Pending::Chunk { document, chunk } => headed(&document.name, &chunk.locator, &chunk.text),
    }
}

/// What full-text search reads. Neighbours are looked at when a question is asked.
fn text_for_words(item: &Pending) -> String {
    match item {
        Pending::Turn { turn, .. } => format!("{}\n{}", turn.prompt.trim(), turn.reply.trim()),
        Pending::Chunk { document, chunk } if is_table(document, chunk) => {
            // Without the file's name: `used_cars.sql` would make every table one of cars.
            let words = schema::described(&chunk.locator, &chunk.text);
            format!("{words}\n{}", chunk.text)
        }
        Pending::Chunk { document, chunk } => headed(&document.name, &chunk.locator, &chunk.text),
    }
}

/// The name that the client gave to who speaks.
fn speaker(turn: &Interaction) -> Option<&str> {
    let asked = turn.messages.iter().rev().find(|message| message.role == Role::User)?;
    let name = asked.name.as_deref()?.trim();
    (!name.is_empty()).then_some(name)
}

/// A chunk with its file and heading, which often name what the chunk itself only calls "it".
fn headed(name: &str, locator: &str, text: &str) -> String {
    if locator.is_empty() {
        format!("{name}\n{text}")
    } else {
        format!("{name}, {locator}\n{text}")
    }
}

pub(super) fn entry(item: &Pending, vector: Vec<f32>) -> Entry {
    let text = text_for_words(item);
    let words = |text: &str| u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX);
    match item {
        Pending::Turn { turn, .. } => Entry {
            id: turn.id,
            parent: turn.id,
            source: SourceKind::Recalled,
            // Without the conversation: a turn is recalled in every conversation of its user.
            owner: Owner {
                team: turn.scope.team().to_owned(),
                user: Some(turn.scope.user().to_owned()),
                conversation: None,
            },
            session: turn.scope.conversation().unwrap_or_default().to_owned(),
            speaker: speaker(turn).map(ToOwned::to_owned),
            words: words(&turn.prompt),
            states: !words::only_asks(&turn.prompt) && !words::wishes(&turn.prompt),
            text,
            vector,
            at: turn.asked_at,
        },
        Pending::Chunk { document, chunk } => {
            let scope = &document.scope;
            let (user, conversation) = match document.place {
                Place::Team => (None, None),
                Place::User => (Some(scope.user().to_owned()), None),
                Place::Conversation => (
                    Some(scope.user().to_owned()),
                    scope.conversation().map(ToOwned::to_owned),
                ),
                Place::Store => (Some(scope.user().to_owned()), scope.store().map(ToOwned::to_owned)),
            };
            let source = match document.place {
                Place::User | Place::Team => SourceKind::Persistent,
                Place::Conversation => SourceKind::Inference,
                Place::Store => SourceKind::Stored,
            };
            Entry {
                id: chunk.id,
                parent: document.id,
                source,
                owner: Owner {
                    team: scope.team().to_owned(),
                    user,
                    conversation,
                },
                session: document.id.to_string(),
                speaker: None,
                words: words(&text),
                states: !words::only_asks(&text) && !words::wishes(&text),
                text,
                vector,
                at: document.ingested_at,
            }
        }
    }
}

/// A fact with the words that lead to it.
pub(super) fn text_of_fact(fact: &Fact) -> String {
    match fact.attribute.as_deref().map(recognise::keys) {
        None | Some("") => fact.text.clone(),
        Some(keys) => format!("{}\n({keys})", fact.text),
    }
}

pub(super) fn fact_entry(fact: &Fact, vector: Vec<f32>) -> Entry {
    let said_by = fact.origin.said_by.as_str();
    Entry {
        id: fact.id,
        parent: fact.id,
        source: SourceKind::Fact,
        owner: Owner {
            team: fact.scope.team().to_owned(),
            user: (!fact.team_wide).then(|| fact.scope.user().to_owned()),
            conversation: fact.scope.conversation().map(ToOwned::to_owned),
        },
        session: fact.id.to_string(),
        speaker: (said_by != "user").then(|| said_by.to_owned()),
        words: u32::try_from(fact.text.split_whitespace().count()).unwrap_or(u32::MAX),
        // A fact is nothing else.
        states: true,
        text: text_of_fact(fact),
        vector,
        at: fact.valid_from,
    }
}

/// The text up to this many characters.
fn cut(text: &str, characters: usize) -> &str {
    text.char_indices()
        .nth(characters)
        .map_or(text, |(end, _)| &text[..end])
}
