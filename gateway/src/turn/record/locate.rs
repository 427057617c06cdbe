//! Which conversation a turn belongs to: the one that the client names, else the one whose recorded history it
//! re-sends, else a new one.

use habit_engine::{Message, Role};
use habit_memory::MemoryError;
use habit_memory::conversation::{chain_hash, history};
use habit_memory::journal::{Journal, Page};
use uuid::Uuid;

use crate::turn::Turn;

/// A turn's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The conversation.
    pub conversation: String,
    /// The recorded turn that it continues.
    pub parent: Option<Uuid>,
    /// How many of the request's messages that turn and those before it hold already.
    pub held: usize,
    /// Messages at its begin that can't be recalled: a client brought them along, or they were not to be remembered.
    pub brought: usize,
    /// Whether the conversation was just made up.
    pub new: bool,
}

impl Located {
    /// The conversation, unless it is a new one.
    pub fn known(self) -> Option<String> {
        (!self.new).then_some(self.conversation)
    }
}

/// Finds the place.
///
/// # Errors
/// If the journal can't be read.
pub async fn locate(journal: &dyn Journal, turn: &Turn) -> Result<Located, MemoryError> {
    let named = turn.scope.conversation();
    for history in histories(&turn.request.messages) {
        let Some(parent) = journal.turn_by_chain(&turn.scope, &chain_hash(history)).await? else {
            continue;
        };
        let Some(conversation) = parent.scope.conversation() else {
            continue;
        };
        // A client that names its conversation means that one, whatever else has the same history.
        if named.is_none_or(|named| named == conversation) {
            let conversation = conversation.to_owned();
            let remembered = parent.remember && turn.memory.writes();
            return Ok(Located {
                conversation,
                parent: Some(parent.id),
                held: history.len(),
                brought: if remembered {
                    parent.lookup.brought
                } else {
                    history.len()
                },
                new: false,
            });
        }
    }
    let Some(named) = named else {
        return Ok(Located {
            conversation: Uuid::now_v7().to_string(),
            parent: None,
            held: 0,
            brought: brought(&turn.request.messages),
            new: true,
        });
    };
    // A client that names a conversation may leave its history out, or shorten it.
    let newest = journal.turns(&turn.scope, Page { limit: 1, before: None }).await?;
    let parent = newest.first().map(|turn| turn.id);
    Ok(Located {
        conversation: named.to_owned(),
        parent,
        held: 0,
        brought: brought(&turn.request.messages),
        new: false,
    })
}

/// How much of these messages is history, if none of it was ever asked here.
pub fn brought(messages: &[Message]) -> usize {
    let asked = messages.iter().rposition(|message| message.role == Role::User);
    let history = asked.unwrap_or(messages.len());
    let says = messages[..history].iter().any(|message| message.role != Role::System);
    if says { history } else { 0 }
}

/// The histories that a recorded turn may end: what comes before the last user message, or before a tool's results.
fn histories(messages: &[Message]) -> impl Iterator<Item = &[Message]> {
    let answers_a_call = messages.last().is_some_and(|message| message.role == Role::Tool);
    let calls = messages
        .iter()
        .rposition(|message| message.role == Role::Assistant)
        .filter(|_| answers_a_call);
    let before_results = calls.map(|at| &messages[..=at]);
    before_results.into_iter().chain(history(messages))
}
