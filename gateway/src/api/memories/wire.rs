//! How memories, and what came of them, are shown.

use habit_memory::facts::{Event, Fact, Happened, Kind, Status, words_sha256};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::times;

/// A memory.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemoryView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// Always `memory`.
    #[schema(example = "memory")]
    pub object: &'static str,
    /// The statement, verbatim.
    #[schema(example = "I moved to Lyon.")]
    pub memory: String,
    /// SHA-256 of its words.
    pub hash: String,
    /// `fact`, `preference` or `instruction`.
    #[schema(value_type = String, example = "fact")]
    pub kind: Kind,
    /// `active`, `superseded` (a newer one took its place) or `quarantined` (doubted: kept, and never shown to a model).
    #[schema(value_type = String, example = "active")]
    pub status: Status,
    /// Shown in every turn.
    pub pinned: bool,
    /// Who gave it.
    pub user_id: String,
    /// The agent that keeps it.
    pub agent_id: Option<String>,
    /// The one application in which it counts.
    pub app_id: Option<String>,
    /// The one conversation in which it counts.
    pub run_id: Option<String>,
    /// Shared with everyone in the team.
    pub team_wide: bool,
    /// What it tells, where it is known: of memories with the same attribute only the newest holds.
    pub attribute: Option<String>,
    /// Whatever its owner keeps with it.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// ISO 8601.
    pub created_at: String,
    /// ISO 8601.
    pub updated_at: String,
    /// Since when it holds.
    pub valid_from: String,
    /// Until when it held.
    pub valid_to: Option<String>,
    /// The memory that took its place.
    #[schema(value_type = Option<String>)]
    pub superseded_by: Option<Uuid>,
    /// When it is deleted.
    pub expiration_date: Option<String>,
    /// Where it comes from.
    pub source: MemorySource,
    /// How well it fits, 0 to 1; only in a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
}

/// Where a memory comes from.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemorySource {
    /// `user`, or the name that the client gave to who spoke.
    pub said_by: String,
    /// The turn that it was said in (`GET /v1/turns/{id}`).
    #[schema(value_type = Option<String>)]
    pub turn_id: Option<Uuid>,
    /// The document that it stands in.
    #[schema(value_type = Option<String>)]
    pub document_id: Option<Uuid>,
}

impl From<Fact> for MemoryView {
    fn from(fact: Fact) -> Self {
        let owned = |name: Option<&str>| name.map(str::to_owned);
        Self {
            id: fact.id,
            object: "memory",
            hash: words_sha256(&fact.text),
            memory: fact.text,
            kind: fact.kind,
            status: fact.status,
            pinned: fact.pinned,
            user_id: fact.scope.user().to_owned(),
            agent_id: fact.agent,
            app_id: owned(fact.scope.app()),
            run_id: owned(fact.scope.conversation()),
            team_wide: fact.team_wide,
            attribute: fact.attribute,
            metadata: fact.metadata,
            created_at: times::written(fact.created_at),
            updated_at: times::written(fact.updated_at),
            valid_from: times::written(fact.valid_from),
            valid_to: fact.valid_to.map(times::written),
            superseded_by: fact.superseded_by,
            expiration_date: fact.expires_at.map(times::written),
            source: MemorySource {
                said_by: fact.origin.said_by,
                turn_id: fact.origin.turn,
                document_id: fact.origin.document,
            },
            score: None,
        }
    }
}

/// Memories, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemoryList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// The memories.
    pub results: Vec<MemoryView>,
    /// Whether there may be older ones: ask again with `before` set to the last id.
    pub has_more: bool,
}

/// Memories that fit, best first.
#[derive(Debug, Serialize, ToSchema)]
pub struct FoundMemories {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// The memories, each with its score.
    pub results: Vec<MemoryView>,
}

/// That a key is good.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pong {
    /// Always `ok`.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// The key's team.
    pub org_id: String,
    /// The key's team, which has no projects within.
    pub project_id: String,
    /// The key's user.
    pub user_email: String,
}

/// What came of adding.
#[derive(Debug, Serialize, ToSchema)]
pub struct AddedMemories {
    /// One entry a statement; none where nothing in the messages is one.
    pub results: Vec<AddedMemory>,
}

/// What came of one statement.
#[derive(Debug, Serialize, ToSchema)]
pub struct AddedMemory {
    /// The memory's id.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// The memory.
    pub memory: String,
    /// `ADD`, or `NONE` where it is known already.
    #[schema(example = "ADD")]
    pub event: &'static str,
    /// The memories whose place it took.
    #[schema(value_type = Vec<String>)]
    pub superseded: Vec<Uuid>,
}

/// That a memory was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedMemory {
    /// Its id.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// Always `memory.deleted`.
    pub object: &'static str,
    /// Always true.
    pub deleted: bool,
    /// As mem0 says it.
    pub message: &'static str,
}

/// That memories were deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedMemories {
    /// As mem0 says it.
    pub message: &'static str,
    /// How many.
    pub deleted: u64,
}

/// One thing that happened to a memory.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventView {
    /// The entry's id.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// The memory.
    #[schema(value_type = String)]
    pub memory_id: Uuid,
    /// `ADD`, `UPDATE`, `SUPERSEDE` or `DELETE`.
    #[schema(value_type = String, example = "UPDATE")]
    pub event: Happened,
    /// The text before.
    pub old_memory: Option<String>,
    /// The text after; of a superseded memory, of the one that took its place.
    pub new_memory: Option<String>,
    /// ISO 8601.
    pub created_at: String,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            memory_id: event.fact,
            event: event.event,
            old_memory: event.old_text,
            new_memory: event.new_text,
            created_at: times::written(event.at),
        }
    }
}
