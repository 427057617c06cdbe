//! What requests give to be remembered, or changed.

use habit_engine::{Message, Role};
use habit_memory::facts::{Change, Kind, Status};
use habit_memory::memories::Given;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::times;
use super::which::speaks_for;
use crate::api::error::ApiError;
use crate::auth::Caller;

/// The longest metadata of a memory, in bytes of JSON.
const METADATA: usize = 16 << 10;

/// The longest name of an agent, an application or a conversation, in bytes.
const NAME: usize = 128;

/// Messages that are read at a time.
const AT_ONCE: usize = 1_000;

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
            Value::String(text) => vec![Message::new(Role::User, text.as_str())],
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
            let users = messages.iter().filter(|message| message.role == Role::User);
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
