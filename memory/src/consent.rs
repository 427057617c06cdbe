//! Who does not want to be remembered, or reminded: rules for a team, a user, a key or a conversation. The strictest one
//! counts, and no rule allows more than a request or the configuration does.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::MemoryError;
use crate::scope::Scope;

/// What memory may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing.
    Off,
    /// Add to prompts, but remember nothing.
    Read,
    /// Remember, but add nothing to prompts.
    Write,
    /// Both.
    #[default]
    On,
}

impl Mode {
    /// Whether memory may add to prompts.
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::On)
    }

    /// Whether turns may be remembered.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::On)
    }

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.reads() && other.reads(), self.writes() && other.writes()) {
            (true, true) => Self::On,
            (true, false) => Self::Read,
            (false, true) => Self::Write,
            (false, false) => Self::Off,
        }
    }
}

/// Whom a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "id")]
pub enum Subject {
    /// Everyone in the scope's team.
    Team,
    /// The scope's user.
    User,
    /// Whoever asks with this key, by its public part.
    Key(String),
    /// This conversation of the scope's user.
    Conversation(String),
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Whom it is for.
    pub subject: Subject,
    /// What memory may do for them.
    pub mode: Mode,
}

/// Keeps rules.
///
/// Laws: a rule of one team is never seen from, nor counts in, another; those for a user and for their conversations
/// neither for other users. What `set` wrote counts within two seconds, also where another process wrote it.
#[async_trait]
pub trait Consents: Send + Sync {
    /// Makes a rule, in place of the old one for the same subject; `None` takes it away.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn set(&self, scope: &Scope, subject: &Subject, mode: Option<Mode>) -> Result<(), MemoryError>;

    /// The rules that this scope's user may see: the team's, the user's own, those of their conversations, and those of
    /// the team's keys.
    ///
    /// # Errors
    /// [`MemoryError::Storage`].
    async fn rules(&self, scope: &Scope) -> Result<Vec<Rule>, MemoryError>;

    /// What memory may do in this scope, asked with this key.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]: then nothing is known to be allowed.
    async fn mode(&self, scope: &Scope, key: &str) -> Result<Mode, MemoryError>;
}
