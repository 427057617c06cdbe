//! Which memories a request means: conditions in a query, in a body, and in mem0's `filters`.

use habit_memory::facts::{Filter, Kind, Status};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::times;
use crate::api::error::ApiError;
use crate::auth::Caller;

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
    /// What is meant, for this caller.
    ///
    /// # Errors
    /// 400 if a condition makes no sense; 403 if another user is named.
    pub fn filter(&self, caller: &Caller) -> Result<Filter, ApiError> {
        speaks_for(caller, self.user_id.as_deref())?;
        let (status, any_status) = match self.status.as_deref() {
            None => (None, false),
            Some(name) => status(name)?.map_or((None, true), |status| (Some(status), false)),
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

/// Which page of a listing.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct Paging {
    /// Counted from 1.
    pub page: Option<usize>,
    /// At most so many; 100 if it is not given.
    pub page_size: Option<usize>,
}

impl Paging {
    /// How many are before the page, and how many are on it.
    ///
    /// # Errors
    /// 400 if the page begins after what a listing reaches.
    pub fn window(self, usual: u64, most: u64) -> Result<(usize, usize), ApiError> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let size = self.page_size.unwrap_or(usize::try_from(usual).unwrap_or(most));
        let page = self.page.unwrap_or(1);
        let first = page.checked_sub(1).and_then(|before| before.checked_mul(size));
        match first.filter(|first| *first < most && (1..=most).contains(&size)) {
            Some(first) => Ok((first, size)),
            None => {
                let message = format!("`page` counts from 1, and its pages of `page_size` reach {most} memories");
                Err(ApiError::invalid(message, Some("page")))
            }
        }
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
    ///
    /// # Errors
    /// 400 if the filters make no sense.
    pub fn which(&self) -> Result<(MemoryQuery, Map<String, Value>), ApiError> {
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
pub(super) fn speaks_for(caller: &Caller, user: Option<&str>) -> Result<(), ApiError> {
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

/// The status by its name; `None` is all of them.
fn status(name: &str) -> Result<Option<Status>, ApiError> {
    match name {
        "all" => Ok(None),
        "active" => Ok(Some(Status::Active)),
        "superseded" => Ok(Some(Status::Superseded)),
        "quarantined" => Ok(Some(Status::Quarantined)),
        other => {
            let message = format!("`status` must be active, superseded, quarantined or all, not `{other}`");
            Err(ApiError::invalid(message, Some("status")))
        }
    }
}
