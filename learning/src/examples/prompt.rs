//! The prompt of a recorded turn as it was asked. A turn's record holds only what the turn before it does not; how far
//! back the client's history went is told by the turn's hash.

use std::collections::HashMap;
use std::hash::BuildHasher;

use habit_engine::{Message, Role};
use habit_memory::conversation::chain_hash;
use habit_memory::interaction::Interaction;
use habit_memory::journal::Journal;
use habit_memory::{MemoryError, Scope};
use uuid::Uuid;

/// Turns that are gone back, at most: no example needs a longer past.
const BACK: usize = 64;

/// The messages that this turn was asked with, as far as the record tells; `near` are turns that are at hand. Where the
/// hash fits none of its pasts (a reply with tool calls), the turn's own messages are given.
///
/// # Errors
/// [`MemoryError::Storage`].
pub async fn prompt<S: BuildHasher + Sync>(
    journal: &dyn Journal,
    scope: &Scope,
    turn: &Interaction,
    near: &HashMap<Uuid, Interaction, S>,
) -> Result<Vec<Message>, MemoryError> {
    let mut messages = turn.messages.clone();
    let mut parent = turn.parent;
    for _ in 0..BACK {
        if hashes(&messages, turn) {
            return Ok(messages);
        }
        let Some(id) = parent else { break };
        let before = match near.get(&id) {
            Some(before) => Some(before.clone()),
            None => journal.turn(scope, id).await?,
        };
        let Some(before) = before else { break };
        let mut whole = before.messages;
        whole.push(Message::new(Role::Assistant, before.reply));
        whole.append(&mut messages);
        messages = whole;
        parent = before.parent;
    }
    if hashes(&messages, turn) {
        return Ok(messages);
    }
    Ok(turn.messages.clone())
}

fn hashes(messages: &[Message], turn: &Interaction) -> bool {
    let mut whole = messages.to_vec();
    whole.push(Message::new(Role::Assistant, turn.reply.clone()));
    chain_hash(&whole) == turn.chain
}
