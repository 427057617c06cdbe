//! Which documents are there already, by name and content.

use std::collections::HashMap;

use http::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::client::Connection;
use crate::cli::Ingest;

/// Documents of one place, by name.
pub struct Known {
    by_name: HashMap<String, (String, String)>,
}

impl Known {
    /// Asks for the documents of the place where the files are to go.
    ///
    /// # Errors
    /// As the server says.
    pub async fn ask(connection: &Connection, flags: &Ingest) -> anyhow::Result<Self> {
        let query: Vec<_> = flags.conversation.iter().map(|id| ("conversation", id)).collect();
        let listed = connection
            .json(connection.request(Method::GET, "/v1/documents").query(&query))
            .await?;
        let place = match (&flags.conversation, flags.team_wide) {
            (Some(_), _) => "conversation",
            (None, true) => "team",
            (None, false) => "user",
        };
        let documents = listed["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        let here = documents.iter().filter(|document| document["place"] == place);
        let text = |document: &Value, field: &str| document[field].as_str().unwrap_or_default().to_owned();
        let by_name = here.map(|document| {
            let told = (text(document, "id"), text(document, "sha256"));
            (text(document, "name"), told)
        });
        Ok(Self {
            by_name: by_name.collect(),
        })
    }

    /// Whether a document of this name has exactly this content.
    pub fn has(&self, name: &str, sha256: &str) -> bool {
        self.by_name.get(name).is_some_and(|(_, known)| known == sha256)
    }

    /// Notes one that went in.
    pub fn note(&mut self, name: String, id: String, sha256: String) {
        self.by_name.insert(name, (id, sha256));
    }

    /// The id of the document of this name, which is no longer known afterwards.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.by_name.remove(name).map(|(id, _)| id)
    }
}

/// SHA-256 in lowercase hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
