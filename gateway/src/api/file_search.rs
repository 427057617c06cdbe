//! The tool `file_search`, on every endpoint that has tools: it is taken out of them, and what it finds goes the way of
//! all context. Here is what a request may say of it, and what a reply may cite; how stores are searched is in
//! [`habit_memory::vector_stores`].

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use habit_memory::context::Slot;
use habit_memory::passage::{Passage, SourceKind};
use habit_memory::vector_stores::{Findings, Finds, Found, Search, StoreSource};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::vector_stores::wire::SearchFields;
use crate::app::App;
use crate::auth::Caller;

/// The tool's type.
pub const FILE_SEARCH: &str = "file_search";

/// Stores that a request may name, all its tools together: each is a search before the model begins.
const MOST_STORES: usize = 16;

/// How long a search may take. Longer than memory's: the client has asked for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a tool says.
#[derive(Debug, Default, Deserialize)]
struct Fields {
    vector_store_ids: Option<Vec<String>>,
    #[serde(flatten)]
    how: SearchFields,
}

/// The searches of one request, in the order of its tools.
#[derive(Clone, Default)]
pub struct FileSearch {
    searches: Vec<(Slot, Finds)>,
}

/// A file that the model was shown something of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cited {
    /// The file's id.
    pub file: String,
    /// The file's name.
    pub name: String,
}

impl FileSearch {
    /// The searches that these tools ask for; each comes with the place at which errors name it.
    ///
    /// # Errors
    /// 400 that names the field; 404 if a store is not there, or not this caller's.
    pub async fn new(app: &App, caller: &Caller, tools: &[(String, Value)]) -> Result<Self, ApiError> {
        let (mut searches, mut named) = (Vec::with_capacity(tools.len()), 0);
        for (place, tool) in tools {
            let (ids, search) = read(place, tool)?;
            named += ids.len();
            if named > MOST_STORES {
                let message = format!("a request may search {MOST_STORES} vector stores, not more");
                return Err(ApiError::invalid(message, Some("tools")));
            }
            let stores = &app.memory()?.stores;
            for id in &ids {
                stores.store(&caller.scope, id).await?;
            }
            let chunks = search.limit;
            let source = StoreSource::new(stores.clone(), ids, search);
            let finds = source.finds();
            let slot = Slot {
                source: Arc::new(source),
                chunks,
                deadline: DEADLINE,
            };
            searches.push((slot, finds));
        }
        Ok(Self { searches })
    }

    /// As [`FileSearch::new`], of the tools in chat completions' fields; what is left there is for the model.
    ///
    /// # Errors
    /// As [`FileSearch::new`].
    pub async fn taken(app: &App, caller: &Caller, fields: &mut Map<String, Value>) -> Result<Self, ApiError> {
        let chosen = fields.get("tool_choice").is_none_or(|choice| choice != "none");
        let own = set_aside(fields);
        if !chosen || own.is_empty() {
            return Ok(Self::default());
        }
        Self::new(app, caller, &own).await
    }

    /// What the turn is to ask.
    #[must_use]
    pub fn sources(&self) -> Vec<Slot> {
        self.searches.iter().map(|(slot, _)| slot.clone()).collect()
    }

    /// What was looked for and found, one for each tool.
    #[must_use]
    pub fn findings(&self) -> Vec<Findings> {
        let read = |finds: &Finds| finds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.searches.iter().map(|(_, finds)| read(finds)).collect()
    }

    /// The files of which something was put before the model, each once, in the order in which they are shown.
    #[must_use]
    pub fn cited(&self, injected: &[Passage]) -> Vec<Cited> {
        let findings = self.findings();
        let found: Vec<&Found> = findings.iter().flat_map(|one| &one.found).flatten().collect();
        let mut cited: Vec<Cited> = Vec::new();
        for passage in injected.iter().filter(|passage| passage.source == SourceKind::Stored) {
            let from = |found: &&&Found| found.document.id.to_string() == passage.citation.id;
            if let Some(Found { file, name, .. }) = found.iter().find(from)
                && cited.iter().all(|known| known.file != *file)
            {
                let (file, name) = (file.clone(), name.clone());
                cited.push(Cited { file, name });
            }
        }
        cited
    }
}

/// Takes these tools out of chat completions' fields, each with the place at which errors name it. They are no tools of the
/// model's: a search is made before it begins, and a choice that demands a call is content with that.
pub fn set_aside(fields: &mut Map<String, Value>) -> Vec<(String, Value)> {
    let Some(Value::Array(tools)) = fields.get_mut("tools") else {
        return Vec::new();
    };
    let (mut own, mut rest) = (Vec::new(), Vec::new());
    for (at, tool) in std::mem::take(tools).into_iter().enumerate() {
        if tool["type"] == FILE_SEARCH {
            own.push((format!("tools[{at}]"), tool));
        } else {
            rest.push(tool);
        }
    }
    let none_left = rest.is_empty();
    *tools = rest;
    if own.is_empty() {
        return own;
    }
    let choice = fields.get("tool_choice").cloned().unwrap_or_default();
    if choice == "required" || choice == "any" || choice["type"] == FILE_SEARCH {
        fields.insert("tool_choice".to_owned(), Value::from("auto"));
    }
    if none_left {
        for field in ["tools", "tool_choice", "parallel_tool_calls"] {
            fields.remove(field);
        }
    }
    own
}

fn read(place: &str, tool: &Value) -> Result<(Vec<String>, Search), ApiError> {
    let bad = |field: &str, why: &str| {
        let param = format!("{place}{field}");
        ApiError::invalid(format!("`{param}` {why}"), Some(&param))
    };
    // Some clients send the fields as those of a function are sent.
    let fields = tool.get(FILE_SEARCH).filter(|inner| inner.is_object()).unwrap_or(tool);
    let fields: Fields =
        serde_json::from_value(fields.clone()).map_err(|error| bad("", &format!("is wrong: {error}")))?;
    let mut ids = fields.vector_store_ids.unwrap_or_default();
    if ids.is_empty() || ids.iter().any(String::is_empty) {
        return Err(bad(".vector_store_ids", "must name at least one vector store"));
    }
    ids.sort();
    ids.dedup();
    Ok((ids, fields.how.read(&format!("{place}."))?))
}
