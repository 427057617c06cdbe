//! A response that is kept, shown as if it were made now.

use serde_json::{Value, json};

use super::{Edge, Event, Render, Style};
use crate::api::blocks::{Block, Kind};
use crate::api::file_search::Cited;
use crate::api::responses::body::{ResponseBody, Status};

/// The events of a response that is kept, as if it were made now: texts come in one piece.
#[must_use]
pub fn replay(response: ResponseBody) -> Vec<Event> {
    let mut end = response.clone();
    let output = std::mem::take(&mut end.output);
    let summarise = output.iter().any(|item| item["summary"][0].is_object());
    let custom = output
        .iter()
        .filter(|item| item["type"] == "custom_tool_call")
        .filter_map(|item| item["name"].as_str().map(str::to_owned));
    let style = Style {
        summarise,
        custom: custom.collect(),
        cited: Vec::new(),
    };
    let begun = ResponseBody {
        status: Status::InProgress,
        output: Vec::new(),
        usage: None,
        error: None,
        incomplete_details: None,
        completed_at: None,
        ..end.clone()
    };
    let mut render = Render::new(begun, style);
    let mut events = render.begin(false);
    for item in output {
        events.extend(render.again(&item));
    }
    render.response = response;
    if render.response.status.is_final() {
        let now = render.response.completed_at.unwrap_or_default().saturating_mul(1000);
        events.push(render.terminal(now));
    }
    events
}

impl Render {
    /// The events of an item that is there.
    fn again(&mut self, item: &Value) -> Vec<Event> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let call = || Kind::Call {
            id: text(&item["call_id"]),
            name: text(&item["name"]),
        };
        let whole = match item["type"].as_str().unwrap_or_default() {
            "file_search_call" => return self.search(item.clone()),
            "message" => Some((Kind::Text, text(&item["content"][0]["text"]))),
            "reasoning" if self.style.summarise => Some((Kind::Reasoning, text(&item["summary"][0]["text"]))),
            "reasoning" => Some((Kind::Reasoning, text(&item["content"][0]["text"]))),
            "function_call" => Some((call(), text(&item["arguments"]))),
            "custom_tool_call" => Some((call(), text(&item["input"]))),
            _ => None,
        };
        self.style.cited = cited(&item["content"][0]["annotations"]);
        let output = self.response.output.len();
        let mut events = Vec::new();
        match whole {
            Some((kind, text)) => {
                self.item = item["id"].as_str().unwrap_or_default().to_owned();
                let empty = Block {
                    kind: kind.clone(),
                    text: String::new(),
                    logprobs: Vec::new(),
                };
                let opened = self.style.opened(&self.item, &empty);
                events.push(self.event(
                    "response.output_item.added",
                    json!({"output_index": output, "item": opened}),
                ));
                events.extend(self.part(&empty, output, Edge::Begin));
                self.kind = kind;
                events.extend(self.add(text.clone(), Vec::new(), output));
                events.extend(self.part(&Block { text, ..empty }, output, Edge::End));
            }
            None => events.push(self.event(
                "response.output_item.added",
                json!({"output_index": output, "item": item}),
            )),
        }
        events.push(self.event(
            "response.output_item.done",
            json!({"output_index": output, "item": item}),
        ));
        self.response.output.push(item.clone());
        events
    }
}

/// The files of a text's annotations.
fn cited(annotations: &Value) -> Vec<Cited> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |annotation: &Value| Cited {
        file: text(&annotation["file_id"]),
        name: text(&annotation["filename"]),
    };
    annotations.as_array().into_iter().flatten().map(one).collect()
}
