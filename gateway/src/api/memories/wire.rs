//! The shapes of memories on the wire.

use habit_engine::Message;
use habit_memory::facts::{Change, Event, Fact, Filter, Happened, Kind, Status, words_sha256};
use habit_memory::memories::Given;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::times;
use crate::api::error::ApiError;
use crate::auth::Caller;

/// The longest metadata of a memory, in bytes of JSON.
const METADATA: usize = 16 << 10;

/// The longest name of an agent, an application or a conversation, in bytes.
const NAME: usize = 128;

/// Messages, or memories with `infer: false`, that are read at a time.
const AT_ONCE: usize = 1_000;

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
    pub source: SourceView,
    /// How well it fits, 0 to 1; only in a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
}

/// Where a memory comes from.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourceView {
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
            source: SourceView {
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

/// What became of a memory.
#[derive(Debug, Serialize, ToSchema)]
pub struct History {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// Oldest first.
    pub results: Vec<EventView>,
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

/// What is to be remembered. Further fields of mem0's clients are read over.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct AddMemory {
    /// A statement, remembered as it stands.
    #[schema(example = "I moved to Lyon.")]
    pub text: Option<String>,
    /// The same as `text`.
    pub memory: Option<String>,
    /// Messages in OpenAI's shape, or one text. Only what users say in them is read.
    #[schema(value_type = Option<Vec<Object>>)]
    pub messages: Option<Value>,
    /// Whether the statements are found in the messages by rules, as in a chat; without, each message of a user is
    /// remembered as it stands.
    pub infer: Option<bool>,
    /// The key's own user: a key speaks for no other.
    pub user_id: Option<String>,
    /// The agent that keeps it.
    pub agent_id: Option<String>,
    /// Counts in this application only (`X-Habit-App` on a chat).
    pub app_id: Option<String>,
    /// Counts in this conversation only.
    pub run_id: Option<String>,
    /// For everyone in the team.
    pub team_wide: bool,
    /// `fact`, `preference` or `instruction`.
    #[schema(value_type = Option<String>)]
    pub kind: Option<Kind>,
    /// Whatever you keep with it.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// Shown in every turn, whatever is asked.
    pub pinned: bool,
    /// Since when it holds; from now on, if it is not given.
    #[schema(value_type = Option<String>)]
    pub valid_from: Option<Value>,
    /// When it is deleted.
    #[schema(value_type = Option<String>)]
    pub expiration_date: Option<Value>,
    /// The same, in seconds from now.
    pub ttl_seconds: Option<i64>,
}

/// What a request gives.
pub(super) enum Content {
    Texts(Vec<String>),
    Messages(Vec<Message>),
}

impl AddMemory {
    /// Refuses another user's name, and names that are none.
    pub(super) fn check(&self, caller: &Caller) -> Result<(), ApiError> {
        speaks_for(caller, self.user_id.as_deref())?;
        for (field, name) in [
            ("agent_id", &self.agent_id),
            ("app_id", &self.app_id),
            ("run_id", &self.run_id),
        ] {
            check_name(field, name.as_deref())?;
        }
        Ok(())
    }

    pub(super) fn given(&self, now: i64) -> Result<Given, ApiError> {
        if self.team_wide && (self.run_id.is_some() || self.app_id.is_some()) {
            let message = "`team_wide` memories count everywhere; leave `run_id` and `app_id` out";
            return Err(ApiError::invalid(message, Some("team_wide")));
        }
        let metadata = self.metadata.clone().unwrap_or_default();
        check_metadata(&metadata)?;
        Ok(Given {
            conversation: self.run_id.clone(),
            app: self.app_id.clone(),
            agent: self.agent_id.clone(),
            team_wide: self.team_wide,
            kind: self.kind,
            metadata,
            pinned: self.pinned,
            valid_from: self
                .valid_from
                .as_ref()
                .map(|value| times::read(value, "valid_from"))
                .transpose()?,
            expires_at: expiry(self.expiration_date.as_ref(), self.ttl_seconds, now)?,
        })
    }

    pub(super) fn content(&self) -> Result<Content, ApiError> {
        let text = self.text.as_ref().or(self.memory.as_ref());
        let messages = match (text, &self.messages) {
            (Some(text), None) => return Ok(Content::Texts(vec![text.clone()])),
            (None, Some(messages)) => messages,
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid(
                    "send `text` or `messages`, not both",
                    Some("messages"),
                ));
            }
            (None, None) => {
                let message = "nothing is to be remembered: send `text`, or `messages`";
                return Err(ApiError::invalid(message, Some("text")));
            }
        };
        let messages = match messages {
            Value::String(text) => vec![Message::new(habit_engine::Role::User, text.as_str())],
            other => Vec::<Message>::deserialize(other).map_err(|error| {
                ApiError::invalid(
                    format!("`messages` must be messages or a text: {error}"),
                    Some("messages"),
                )
            })?,
        };
        if messages.len() > AT_ONCE {
            let message = format!(
                "`messages` has {} messages; send at most {AT_ONCE} at a time",
                messages.len()
            );
            return Err(ApiError::invalid(message, Some("messages")));
        }
        if self.infer == Some(false) {
            let users = messages
                .iter()
                .filter(|message| message.role == habit_engine::Role::User);
            return Ok(Content::Texts(users.map(Message::text).collect()));
        }
        Ok(Content::Messages(messages))
    }
}

/// What is to be changed; what is not named stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct UpdateMemory {
    /// Another text. The old one stays in the history.
    pub text: Option<String>,
    /// The same as `text`.
    pub memory: Option<String>,
    /// Metadata, in place of the old.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// Whether it is shown in every turn.
    pub pinned: Option<bool>,
    /// `quarantined`: kept, and never shown; `active`: it holds (again).
    #[schema(value_type = Option<String>)]
    pub status: Option<Status>,
    /// When it is deleted; null is never.
    #[serde(deserialize_with = "named")]
    #[schema(value_type = Option<String>)]
    pub expiration_date: Option<Option<Value>>,
    /// The same, in seconds from now.
    pub ttl_seconds: Option<i64>,
}

/// Tells a field that is null from one that is not there.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Value>>, D::Error> {
    Option::<Value>::deserialize(deserializer).map(Some)
}

impl UpdateMemory {
    pub(super) fn change(self, now: i64) -> Result<Change, ApiError> {
        if let Some(metadata) = &self.metadata {
            check_metadata(metadata)?;
        }
        let expires_at = match (&self.expiration_date, self.ttl_seconds) {
            (Some(None), None) => Some(None),
            (date, ttl) => expiry(date.as_ref().and_then(Option::as_ref), ttl, now)?.map(Some),
        };
        let change = Change {
            text: self.text.or(self.memory),
            attribute: None,
            metadata: self.metadata,
            pinned: self.pinned,
            status: self.status,
            expires_at,
        };
        if change == Change::default() {
            let message = "nothing is to be changed: send `text`, `metadata`, `pinned`, `status` or `expiration_date`";
            return Err(ApiError::invalid(message, None));
        }
        Ok(change)
    }
}

/// Which memories.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct MemoryQuery {
    /// The key's own user.
    pub user_id: Option<String>,
    /// Of this agent.
    pub agent_id: Option<String>,
    /// Of this application.
    pub app_id: Option<String>,
    /// Of this conversation.
    pub run_id: Option<String>,
    /// Only the team's (true), or only the user's own (false).
    pub team_wide: Option<bool>,
    /// `fact`, `preference` or `instruction`.
    #[param(value_type = Option<String>)]
    pub kind: Option<Kind>,
    /// `active` (also where it is not given), `superseded`, `quarantined` or `all`.
    pub status: Option<String>,
    /// Only (un)pinned ones.
    pub pinned: Option<bool>,
    /// Those that held at this time.
    pub as_of: Option<String>,
    /// At most so many, 1 to 1000; 100 if it is not given. Not for deletions.
    pub limit: Option<u64>,
    /// The same as `limit`.
    pub page_size: Option<u64>,
    /// Only memories older than this one.
    #[param(value_type = Option<String>)]
    pub before: Option<Uuid>,
    /// With a deletion: all that are yours.
    pub all: Option<bool>,
}

impl MemoryQuery {
    pub(super) fn filter(&self, caller: &Caller) -> Result<Filter, ApiError> {
        speaks_for(caller, self.user_id.as_deref())?;
        let (status, any_status) = match self.status.as_deref() {
            None => (None, false),
            Some(name) => super::status(name)?.map_or((None, true), |status| (Some(status), false)),
        };
        let as_of = self.as_of.as_ref();
        Ok(Filter {
            conversation: self.run_id.clone(),
            app: self.app_id.clone(),
            agent: self.agent_id.clone(),
            team_wide: self.team_wide,
            kind: self.kind,
            status,
            any_status,
            pinned: self.pinned,
            as_of: as_of
                .map(|text| times::read(&Value::String(text.clone()), "as_of"))
                .transpose()?,
        })
    }
}

/// What is looked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct SearchMemories {
    /// The question, or words of it.
    #[schema(example = "Where do I live?")]
    pub query: String,
    /// Memories at most, 1 to 100; 10 if it is not given.
    pub top_k: Option<usize>,
    /// The same as `top_k`.
    pub limit: Option<usize>,
    /// Only memories that fit so well, 0 to 1.
    pub threshold: Option<f32>,
    /// The key's own user.
    pub user_id: Option<String>,
    /// Of this agent.
    pub agent_id: Option<String>,
    /// Of this application.
    pub app_id: Option<String>,
    /// Of this conversation.
    pub run_id: Option<String>,
    /// Those that held at this time.
    pub as_of: Option<String>,
    /// Further conditions, all of which must hold: `user_id`, `agent_id`, `app_id`, `run_id`, `team_wide`, `kind`,
    /// `status`, `pinned`, `as_of`, `metadata`; also in mem0's `{"AND": [{…}, …]}`.
    #[schema(value_type = Option<Object>)]
    pub filters: Option<Value>,
}

impl SearchMemories {
    /// Which memories are meant, and what their metadata must hold.
    pub(super) fn which(&self) -> Result<(MemoryQuery, Map<String, Value>), ApiError> {
        let mut conditions = Map::new();
        for (field, value) in [
            ("user_id", &self.user_id),
            ("agent_id", &self.agent_id),
            ("app_id", &self.app_id),
            ("run_id", &self.run_id),
            ("as_of", &self.as_of),
        ] {
            if let Some(value) = value {
                conditions.insert(field.to_owned(), Value::String(value.clone()));
            }
        }
        if let Some(filters) = &self.filters {
            join(&mut conditions, filters)?;
        }
        let metadata = match conditions.remove("metadata") {
            Some(Value::Object(metadata)) => metadata,
            None => Map::new(),
            Some(_) => {
                let message = "`filters.metadata` must be an object";
                return Err(ApiError::invalid(message, Some("filters.metadata")));
            }
        };
        let query = MemoryQuery::deserialize(Value::Object(conditions))
            .map_err(|error| ApiError::invalid(format!("`filters` can't be read: {error}"), Some("filters")))?;
        Ok((query, metadata))
    }
}

/// What a filter may name.
const CONDITIONS: [&str; 10] = [
    "user_id",
    "agent_id",
    "app_id",
    "run_id",
    "team_wide",
    "kind",
    "status",
    "pinned",
    "as_of",
    "metadata",
];

/// Adds the conditions of a filter to those that there are.
fn join(conditions: &mut Map<String, Value>, filters: &Value) -> Result<(), ApiError> {
    let wrong = |message: String| ApiError::invalid(message, Some("filters"));
    let Value::Object(filters) = filters else {
        return Err(wrong("`filters` must be an object".to_owned()));
    };
    for (name, value) in filters {
        match (name.as_str(), value) {
            ("AND", Value::Array(all)) => {
                for one in all {
                    join(conditions, one)?;
                }
            }
            // mem0's "any value".
            (_, Value::String(any)) if any == "*" => {}
            (name, value) if CONDITIONS.contains(&name) => {
                let old = conditions.insert(name.to_owned(), value.clone());
                if old.is_some_and(|old| old != *value) {
                    return Err(wrong(format!("`{name}` is asked for twice, with different values")));
                }
            }
            (other, _) => {
                let message = format!(
                    "`filters` can't have `{other}`; it may have AND and {}",
                    CONDITIONS.join(", ")
                );
                return Err(wrong(message));
            }
        }
    }
    Ok(())
}

/// A key speaks for its own user: no field names another.
fn speaks_for(caller: &Caller, user: Option<&str>) -> Result<(), ApiError> {
    match user {
        Some(user) if user != caller.scope.user() => {
            let message = format!(
                "this key speaks for the user `{}`, not for `{user}`; leave `user_id` out, or make a key for that user \
                 (POST /v1/keys)",
                caller.scope.user()
            );
            Err(ApiError::forbidden(message).with_param("user_id"))
        }
        _ => Ok(()),
    }
}

fn check_name(field: &str, name: Option<&str>) -> Result<(), ApiError> {
    let fits = |name: &str| {
        (1..=NAME).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._:@/-".contains(&b))
    };
    if name.is_none_or(fits) {
        return Ok(());
    }
    let message = format!("`{field}` must be 1 to {NAME} letters, digits or any of `._:@/-`");
    Err(ApiError::invalid(message, Some(field)))
}

fn check_metadata(metadata: &Map<String, Value>) -> Result<(), ApiError> {
    let size = serde_json::to_vec(metadata).map_or(usize::MAX, |json| json.len());
    if size <= METADATA {
        return Ok(());
    }
    let message = format!("`metadata` has {size} bytes; {METADATA} are allowed");
    Err(ApiError::invalid(message, Some("metadata")))
}

fn expiry(date: Option<&Value>, ttl: Option<i64>, now: i64) -> Result<Option<i64>, ApiError> {
    match (date, ttl) {
        (None, None) => Ok(None),
        (Some(date), None) => times::read(date, "expiration_date").map(Some),
        (None, Some(seconds)) if seconds > 0 => Ok(Some(now.saturating_add(seconds.saturating_mul(1000)))),
        (None, Some(_)) => Err(ApiError::invalid(
            "`ttl_seconds` must be at least 1",
            Some("ttl_seconds"),
        )),
        (Some(_), Some(_)) => {
            let message = "send `expiration_date` or `ttl_seconds`, not both";
            Err(ApiError::invalid(message, Some("ttl_seconds")))
        }
    }
}
