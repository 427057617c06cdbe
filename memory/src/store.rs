//! Where memory is kept. [`sea`] is the journal in SQLite, [`lance`] the index in LanceDB, [`shelves`] what
//! of it is kept in memory; [`depot`] is where what is in no table lies, [`news`] what several gateways tell one another of
//! the index; [`entity`] are the database's tables. The doubles that keep everything in the process are for tests.

pub mod depot;
pub mod entity;
pub mod lance;
pub mod news;
#[cfg(feature = "testing")]
pub mod ram;
#[cfg(feature = "testing")]
pub mod ram_index;
#[cfg(feature = "testing")]
pub mod ram_objects;
pub mod sea;
pub mod shelf;
pub mod shelves;

use crate::documents::{Chunk, Document, Place};
use crate::error::MemoryError;
use crate::interaction::Interaction;
use crate::objects::Object;
use crate::scope::Scope;

/// What every journal asks of a turn before it is written.
fn admit_turn(turn: &Interaction) -> Result<(), MemoryError> {
    if turn.scope.conversation().is_none() {
        return Err(MemoryError::BadRequest(format!(
            "turn {} names no conversation: give its scope one",
            turn.id
        )));
    }
    Ok(())
}

/// The document as it is written: its number of chunks is right, and its scope names a conversation or a store if and
/// only if it counts in that one only.
fn admit_document(mut document: Document, chunks: &[Chunk]) -> Result<Document, MemoryError> {
    let too_many = |_| MemoryError::BadRequest(format!("{}: too many chunks; split the file", document.name));
    document.chunks = u32::try_from(chunks.len()).map_err(too_many)?;
    let scope = &document.scope;
    let principal =
        || Scope::new(scope.team(), scope.user()).map_err(|error| MemoryError::BadRequest(error.to_string()));
    document.scope = match (document.place, scope.conversation(), scope.store()) {
        (Place::Conversation, Some(conversation), _) => principal()?.in_conversation(conversation),
        (Place::Store, _, Some(store)) => principal()?.in_store(store),
        (Place::User | Place::Team, ..) => principal()?,
        (Place::Conversation, None, _) => {
            let reason = format!(
                "{}: a document for one conversation must name the conversation",
                document.name
            );
            return Err(MemoryError::BadRequest(reason));
        }
        (Place::Store, _, None) => {
            let reason = format!("{}: a document in a vector store must name the store", document.name);
            return Err(MemoryError::BadRequest(reason));
        }
    };
    Ok(document)
}

/// The answer to a write of an id that something else has.
fn taken() -> MemoryError {
    MemoryError::BadRequest("this id is taken: write it with a new UUIDv7".to_owned())
}

/// What every store asks of an object before it is written.
fn admit_object(object: &Object) -> Result<(), MemoryError> {
    if object.kind.is_empty() || object.id.is_empty() {
        return Err(MemoryError::BadRequest("an object needs a kind and an id".to_owned()));
    }
    Ok(())
}

/// The answer to a listing that is to go on where nothing is.
fn not_listed(kind: &str, id: &str) -> MemoryError {
    MemoryError::BadRequest(format!("there is no {kind} `{id}` to go on from; begin without it"))
}
