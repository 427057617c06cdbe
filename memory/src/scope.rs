//! Whose memory it is. Nothing in this crate can be read or written without a [`Scope`], and a scope comes only
//! from an authenticated key: no request field ever names a team or a user.

use serde::{Deserialize, Serialize};

/// A principal and, where one is known, the conversation that it is in, or the vector store that it looks into.
///
/// A scope reads what belongs to its user, what belongs to its team as a whole, and what was given for its own
/// conversation or lies in its own store; it writes as its user. It never reaches another team.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    team: String,
    user: String,
    conversation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app: Option<String>,
}

/// A name that can't be a team or a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` can't name a team or a user: use 1 to 64 letters, digits, `.`, `_`, `-` or `@`")]
pub struct BadName(pub String);

impl Scope {
    /// A scope without a conversation.
    ///
    /// # Errors
    /// [`BadName`] if a name is empty, longer than 64 characters, or has a character outside `[A-Za-z0-9._@-]`.
    pub fn new(team: impl Into<String>, user: impl Into<String>) -> Result<Self, BadName> {
        let (team, user) = (team.into(), user.into());
        for name in [&team, &user] {
            let fits = (1..=64).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b));
            if !fits {
                return Err(BadName(name.clone()));
            }
        }
        Ok(Self {
            team,
            user,
            conversation: None,
            store: None,
            app: None,
        })
    }

    /// The same principal in this conversation.
    #[must_use]
    pub fn in_conversation(&self, id: impl Into<String>) -> Self {
        Self {
            conversation: Some(id.into()),
            ..self.clone()
        }
    }

    /// The same principal, looking into this vector store.
    #[must_use]
    pub fn in_store(&self, id: impl Into<String>) -> Self {
        Self {
            store: Some(id.into()),
            ..self.clone()
        }
    }

    /// The same principal, asking through this application.
    #[must_use]
    pub fn in_app(&self, name: impl Into<String>) -> Self {
        Self {
            app: Some(name.into()),
            ..self.clone()
        }
    }

    /// The team.
    #[must_use]
    pub fn team(&self) -> &str {
        &self.team
    }

    /// The user within the team.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The conversation's id, where one is known.
    #[must_use]
    pub fn conversation(&self) -> Option<&str> {
        self.conversation.as_deref()
    }

    /// The application's name, where one is known. It narrows which facts apply, and opens nothing.
    #[must_use]
    pub fn app(&self) -> Option<&str> {
        self.app.as_deref()
    }

    /// The vector store's id, where one is looked into.
    #[must_use]
    pub fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }
}
