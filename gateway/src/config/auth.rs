//! `[auth]`: who may ask.

use serde::{Deserialize, Serialize};

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Whether requests need a key. It may be off only while `server.bind` is a loopback address; everyone on this
    /// machine is then the one user `me` of the team `default`.
    pub required: bool,
}

impl Default for Auth {
    fn default() -> Self {
        Self { required: true }
    }
}
