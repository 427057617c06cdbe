//! File searches of a response: their items, their events, and the files that the text cites.

use habit_memory::vector_stores::{Findings, Found};
use serde_json::{Value, json};

use super::{Event, Place, Render};
use crate::api::file_search::Cited;
use crate::api::responses::items::new_id;
use crate::api::responses::style::opened_search;

/// The item of a search that was made. `results` shows what it found.
#[must_use]
pub fn search_item(findings: Findings, results: bool) -> Value {
    let Findings { queries, found } = findings;
    // Nothing to look for is no failure.
    let failed = found.is_none() && !queries.is_empty();
    let shown = found
        .filter(|_| results)
        .map(|found| found.into_iter().map(result).collect());
    json!({"id": new_id("fs"), "type": "file_search_call", "status": if failed { "failed" } else { "completed" },
        "queries": queries, "results": shown.map(Value::Array)})
}

fn result(found: Found) -> Value {
    json!({"file_id": found.file, "filename": found.name, "score": found.score, "attributes": found.attributes,
        "text": found.chunk.text})
}

impl Render {
    /// Searches were made before the model begins, and these files are what it was shown something of.
    pub fn searched(&mut self, items: Vec<Value>, cited: Vec<Cited>) -> Vec<Event> {
        self.style.cited = cited;
        items.into_iter().flat_map(|item| self.search(item)).collect()
    }

    /// The events of one search.
    pub(super) fn search(&mut self, item: Value) -> Vec<Event> {
        let output = self.response.output.len();
        let added = json!({"output_index": output, "item": opened_search(&item)});
        let mut events = vec![self.event("response.output_item.added", added)];
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        let place = Place { item: &id, output };
        let kinds: &[&'static str] = match item["status"].as_str() {
            Some("completed") => &[
                "response.file_search_call.in_progress",
                "response.file_search_call.searching",
                "response.file_search_call.completed",
            ],
            _ => &[
                "response.file_search_call.in_progress",
                "response.file_search_call.searching",
            ],
        };
        events.extend(kinds.iter().map(|kind| self.event(kind, place.with(json!({})))));
        let done = json!({"output_index": output, "item": item});
        events.push(self.event("response.output_item.done", done));
        self.response.output.push(item);
        events
    }

    /// The events of a text's annotations.
    pub(super) fn annotations(&mut self, text: &str, place: &Place<'_>) -> Vec<Event> {
        let all = self.style.annotations(text).into_iter().enumerate();
        let added = |(at, annotation)| {
            let fields = json!({"content_index": 0, "annotation_index": at, "annotation": annotation});
            self.event("response.output_text.annotation.added", place.with(fields))
        };
        all.map(added).collect()
    }
}
