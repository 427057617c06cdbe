//! Between rows and what they mean: ids and structures are text in the database.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::documents::{Chunk, Document, Place};
use crate::error::MemoryError;
use crate::interaction::Interaction;
use crate::scope::Scope;
use crate::store::entity::{chunk, document, turn};

/// The row of a turn; it is pending if it can be recalled.
pub fn from_turn(turn: &Interaction) -> Result<turn::Model, MemoryError> {
    Ok(turn::Model {
        id: turn.id.to_string(),
        team: turn.scope.team().to_owned(),
        user: turn.scope.user().to_owned(),
        conversation: turn.scope.conversation().unwrap_or_default().to_owned(),
        parent: turn.parent.map(|id| id.to_string()),
        asked_at: turn.asked_at,
        model: turn.model.clone(),
        messages: json(&turn.messages)?,
        prompt: turn.prompt.clone(),
        reply: turn.reply.clone(),
        outcome: name(&turn.outcome)?,
        remember: turn.remember,
        finish_reason: turn.finish_reason.as_ref().map(name).transpose()?,
        usage: json(&turn.usage)?,
        injected: json(&turn.injected)?,
        lookup: if turn.lookup.is_empty() {
            None
        } else {
            Some(json(&turn.lookup)?)
        },
        chain: turn.chain.clone(),
        timing: json(&turn.timing)?,
        error: turn.error.clone(),
        pending: turn.is_recallable(),
    })
}

/// The turn of a row.
pub fn to_turn(row: turn::Model) -> Result<Interaction, MemoryError> {
    let damaged = |what: String| damaged("turn", &row.id, &what);
    Ok(Interaction {
        id: parse_id(&row.id).map_err(damaged)?,
        scope: scope(&row.team, &row.user, Some(&row.conversation)).map_err(damaged)?,
        parent: row.parent.as_deref().map(parse_id).transpose().map_err(damaged)?,
        asked_at: row.asked_at,
        messages: parse(&row.messages).map_err(damaged)?,
        outcome: parse_name(&row.outcome).map_err(damaged)?,
        remember: row.remember,
        finish_reason: row
            .finish_reason
            .as_deref()
            .map(parse_name)
            .transpose()
            .map_err(damaged)?,
        usage: parse(&row.usage).map_err(damaged)?,
        injected: parse(&row.injected).map_err(damaged)?,
        lookup: row
            .lookup
            .as_deref()
            .map(parse)
            .transpose()
            .map_err(damaged)?
            .unwrap_or_default(),
        timing: parse(&row.timing).map_err(damaged)?,
        model: row.model,
        prompt: row.prompt,
        reply: row.reply,
        chain: row.chain,
        error: row.error,
    })
}

/// The row of a document.
pub fn from_document(document: &Document) -> Result<document::Model, MemoryError> {
    let bytes = i64::try_from(document.bytes);
    Ok(document::Model {
        id: document.id.to_string(),
        team: document.scope.team().to_owned(),
        user: document.scope.user().to_owned(),
        conversation: match document.place {
            Place::Store => document.scope.store(),
            Place::User | Place::Team | Place::Conversation => document.scope.conversation(),
        }
        .map(str::to_owned),
        place: name(&document.place)?,
        name: document.name.clone(),
        media_type: document.media_type.clone(),
        bytes: bytes.map_err(|_| MemoryError::BadRequest(format!("{}: the file is too large", document.name)))?,
        sha256: document.sha256.clone(),
        chunks: i64::from(document.chunks),
        ingested_at: document.ingested_at,
    })
}

/// The document of a row.
pub fn to_document(row: document::Model) -> Result<Document, MemoryError> {
    let damaged = |what: String| damaged("document", &row.id, &what);
    let place = parse_name(&row.place).map_err(damaged)?;
    let scope = match (place, &row.conversation) {
        (Place::Store, Some(store)) => scope(&row.team, &row.user, None).map(|scope| scope.in_store(store)),
        (_, conversation) => scope(&row.team, &row.user, conversation.as_deref()),
    };
    Ok(Document {
        id: parse_id(&row.id).map_err(damaged)?,
        scope: scope.map_err(damaged)?,
        place,
        bytes: u64::try_from(row.bytes).map_err(|error| damaged(error.to_string()))?,
        chunks: u32::try_from(row.chunks).map_err(|error| damaged(error.to_string()))?,
        ingested_at: row.ingested_at,
        name: row.name,
        media_type: row.media_type,
        sha256: row.sha256,
    })
}

/// The row of a chunk of this document; it is pending.
pub fn from_chunk(document: &Document, chunk: &Chunk) -> chunk::Model {
    chunk::Model {
        id: chunk.id.to_string(),
        document: document.id.to_string(),
        team: document.scope.team().to_owned(),
        user: document.scope.user().to_owned(),
        ordinal: i64::from(chunk.ordinal),
        text: chunk.text.clone(),
        locator: chunk.locator.clone(),
        pending: true,
    }
}

/// The chunk of a row.
pub fn to_chunk(row: chunk::Model) -> Result<Chunk, MemoryError> {
    let damaged = |what: String| damaged("chunk", &row.id, &what);
    Ok(Chunk {
        id: parse_id(&row.id).map_err(damaged)?,
        ordinal: u32::try_from(row.ordinal).map_err(|error| damaged(error.to_string()))?,
        text: row.text,
        locator: row.locator,
    })
}

/// An id that was read from the database.
pub fn id(text: &str) -> Result<Uuid, MemoryError> {
    parse_id(text).map_err(|what| damaged("row", text, &what))
}

/// The name of a variant, as serde spells it.
pub fn name<T: Serialize>(variant: &T) -> Result<String, MemoryError> {
    match serde_json::to_value(variant) {
        Ok(Value::String(name)) => Ok(name),
        Ok(other) => Err(MemoryError::Storage(format!(
            "{other} can't be written as a name: please report this"
        ))),
        Err(error) => Err(unwritable(&error)),
    }
}

/// A structure as it is stored.
pub fn json<T: Serialize>(value: &T) -> Result<String, MemoryError> {
    serde_json::to_string(value).map_err(|error| unwritable(&error))
}

/// A structure that was read from the database.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// A variant by the name that serde gives it.
pub fn parse_name<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(name.to_owned())).map_err(|error| error.to_string())
}

/// An id, or what is wrong with it.
pub fn parse_id(text: &str) -> Result<Uuid, String> {
    Uuid::parse_str(text).map_err(|error| error.to_string())
}

/// The scope of a row.
pub fn scope(team: &str, user: &str, conversation: Option<&str>) -> Result<Scope, String> {
    let scope = Scope::new(team, user).map_err(|error| error.to_string())?;
    Ok(match conversation {
        Some(conversation) => scope.in_conversation(conversation),
        None => scope,
    })
}

fn unwritable(error: &serde_json::Error) -> MemoryError {
    MemoryError::Storage(format!("this can't be written as JSON: {error}"))
}

/// A row that does not mean anything.
pub fn damaged(kind: &str, id: &str, what: &str) -> MemoryError {
    MemoryError::Storage(format!(
        "{kind} {id} in the database is damaged ({what}): restore a backup, or delete it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::Outcome;

    #[test]
    fn the_names_in_filters_are_those_that_are_written() {
        assert_eq!(name(&Outcome::Failed).unwrap(), turn::FAILED);
        assert_eq!(name(&Place::User).unwrap(), document::USER);
        assert_eq!(name(&Place::Team).unwrap(), document::TEAM);
        assert_eq!(name(&Place::Conversation).unwrap(), document::CONVERSATION);
        assert_eq!(name(&Place::Store).unwrap(), document::STORE);
    }

    #[test]
    fn a_damaged_row_is_named() {
        let row = chunk::Model {
            id: "not an id".into(),
            document: String::new(),
            team: "t".into(),
            user: "u".into(),
            ordinal: 0,
            text: String::new(),
            locator: String::new(),
            pending: true,
        };
        let error = to_chunk(row).unwrap_err().to_string();
        assert!(error.contains("not an id") && error.contains("damaged"), "{error}");
    }
}
