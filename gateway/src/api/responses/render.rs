//! A response as it is made: from deltas to OpenAI's numbered events, in OpenAI's order, and to the response that the
//! last event holds. A response that is kept is shown again by the same means.

use std::collections::VecDeque;

use habit_engine::{Delta, FinishReason, TokenLogprob};
use serde_json::{Value, json};

use super::body::{IncompleteDetails, ResponseBody, ResponseError, Status};
use super::items::new_id;
use crate::api::blocks::{Block, Blocks, End, Kind, Step};
use crate::api::chat_wire::TokenLogprobBody;
use crate::api::error::ApiError;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name, such as `response.created`.
    pub kind: &'static str,
    /// Its data, with `type` and `sequence_number`.
    pub data: Value,
}

/// Makes events of deltas.
#[derive(Debug)]
pub struct Render {
    response: ResponseBody,
    blocks: Blocks,
    style: Style,
    /// The open item: its id and what it is.
    item: String,
    kind: Kind,
    number: u64,
    ended: bool,
}

/// How items are shown.
#[derive(Debug, Clone, Default)]
pub struct Style {
    /// Reasoning goes into summaries.
    pub summarise: bool,
    /// Names of tools that take a text.
    pub custom: Vec<String>,
}

/// What an item's events have in common.
struct Place<'a> {
    item: &'a str,
    output: usize,
}

impl Place<'_> {
    fn with(&self, mut fields: Value) -> Value {
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("item_id".to_owned(), json!(self.item));
            fields.insert("output_index".to_owned(), json!(self.output));
        }
        fields
    }
}

impl Render {
    /// For this response, which has its id and model, and as output what is there before the model begins.
    #[must_use]
    pub fn new(response: ResponseBody, style: Style) -> Self {
        Self {
            response,
            blocks: Blocks::default(),
            style,
            item: String::new(),
            kind: Kind::Text,
            number: 0,
            ended: false,
        }
    }

    /// The response as far as it is.
    #[must_use]
    pub fn response(&self) -> &ResponseBody {
        &self.response
    }

    /// Whether the model has ended; [`Render::terminal`] is then due.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The first events; of a response in the background also that it waits.
    pub fn begin(&mut self, queued: bool) -> Vec<Event> {
        let mut events = Vec::new();
        let made = std::mem::take(&mut self.response.output);
        if queued {
            self.response.status = Status::Queued;
            events.push(self.whole("response.created"));
            events.push(self.whole("response.queued"));
            self.response.status = Status::InProgress;
        } else {
            events.push(self.whole("response.created"));
        }
        events.push(self.whole("response.in_progress"));
        for item in made {
            let output = self.response.output.len();
            events.push(self.event(
                "response.output_item.added",
                json!({"output_index": output, "item": item}),
            ));
            events.push(self.event(
                "response.output_item.done",
                json!({"output_index": output, "item": item}),
            ));
            self.response.output.push(item);
        }
        events
    }

    /// What a delta adds.
    pub fn push(&mut self, delta: Delta) -> Vec<Event> {
        let steps = self.blocks.push(delta);
        let cut = steps
            .iter()
            .any(|step| matches!(step, Step::End(end) if is_cut(end.reason)));
        steps.into_iter().flat_map(|step| self.step(step, cut)).collect()
    }

    /// The end of a reply that an error broke off.
    pub fn fail(&mut self, error: &ApiError) {
        self.break_off();
        self.response.status = Status::Failed;
        let code = if error.status == http::StatusCode::TOO_MANY_REQUESTS {
            "rate_limit_exceeded"
        } else if error.status.is_client_error() {
            "invalid_prompt"
        } else {
            "server_error"
        };
        self.response.error = Some(ResponseError {
            code: code.to_owned(),
            message: error.message.clone(),
        });
    }

    /// The end of a reply that its client cancelled.
    pub fn cancel(&mut self) {
        self.break_off();
        self.response.status = Status::Cancelled;
    }

    /// The last event. `now` is in Unix milliseconds.
    pub fn terminal(&mut self, now: i64) -> Event {
        let kind = match self.response.status {
            Status::Completed | Status::Queued | Status::InProgress => "response.completed",
            Status::Incomplete => "response.incomplete",
            Status::Cancelled => "response.cancelled",
            Status::Failed => "response.failed",
        };
        if self.response.status == Status::Completed {
            self.response.completed_at.get_or_insert(now.div_euclid(1000));
        }
        self.whole(kind)
    }

    /// What there is of the open item is kept, without events: the last event holds it.
    fn break_off(&mut self) {
        self.ended = true;
        if let Some(Step::Close(_, block)) = self.blocks.break_off() {
            let item = self.style.item(&self.item, &block, "incomplete");
            self.response.output.push(item);
        }
    }

    fn step(&mut self, step: Step, cut: bool) -> VecDeque<Event> {
        let output = self.response.output.len();
        match step {
            Step::Open(_, kind) => {
                self.item = new_id(self.style.prefix(&kind));
                self.kind = kind.clone();
                let block = Block {
                    kind,
                    text: String::new(),
                    logprobs: Vec::new(),
                };
                let item = self.style.opened(&self.item, &block);
                let added = self.event(
                    "response.output_item.added",
                    json!({"output_index": output, "item": item}),
                );
                let part = self.part(&block, output, Edge::Begin);
                std::iter::once(added).chain(part).collect()
            }
            Step::Add(_, text, tokens) => self.add(text, tokens, output),
            Step::Close(_, block) => {
                let mut events: VecDeque<Event> = self.part(&block, output, Edge::End).into();
                let status = if cut { "incomplete" } else { "completed" };
                let item = self.style.item(&self.item, &block, status);
                events.push_back(self.event(
                    "response.output_item.done",
                    json!({"output_index": output, "item": item}),
                ));
                self.response.output.push(item);
                events
            }
            Step::End(End { reason, usage, .. }) => {
                self.ended = true;
                self.response.usage = Some(usage.into());
                self.response.status = if is_cut(reason) {
                    Status::Incomplete
                } else {
                    Status::Completed
                };
                let why = match reason {
                    FinishReason::Length => Some("max_output_tokens"),
                    FinishReason::ContentFilter => Some("content_filter"),
                    FinishReason::Stop | FinishReason::ToolCalls => None,
                };
                self.response.incomplete_details = why.map(|reason| IncompleteDetails {
                    reason: reason.to_owned(),
                });
                VecDeque::new()
            }
        }
    }

    fn add(&mut self, delta: String, tokens: Vec<TokenLogprob>, output: usize) -> VecDeque<Event> {
        let item = self.item.clone();
        let place = Place { item: &item, output };
        let (kind, fields) = match &self.kind {
            // Its text is inside of the arguments' JSON: it is sent whole at the end.
            Kind::Call { name, .. } if self.style.custom.contains(name) => return VecDeque::new(),
            Kind::Call { .. } => ("response.function_call_arguments.delta", json!({"delta": delta})),
            Kind::Reasoning if self.style.summarise => (
                "response.reasoning_summary_text.delta",
                json!({"summary_index": 0, "delta": delta}),
            ),
            Kind::Reasoning => (
                "response.reasoning_text.delta",
                json!({"content_index": 0, "delta": delta}),
            ),
            Kind::Text => {
                let fields = json!({"content_index": 0, "delta": delta, "logprobs": logprobs(tokens)});
                ("response.output_text.delta", fields)
            }
        };
        let fields = place.with(fields);
        VecDeque::from([self.event(kind, fields)])
    }

    /// The events of an item's only part as it begins or ends.
    fn part(&mut self, block: &Block, output: usize, edge: Edge) -> Vec<Event> {
        let item = self.item.clone();
        let place = Place { item: &item, output };
        let text = &block.text;
        let events = match (&block.kind, edge) {
            (Kind::Text, Edge::Begin) => vec![(
                "response.content_part.added",
                json!({"content_index": 0, "part": text_part("", Vec::new())}),
            )],
            (Kind::Text, Edge::End) => {
                let tokens = block.logprobs.clone();
                vec![
                    (
                        "response.output_text.done",
                        json!({"content_index": 0, "text": text, "logprobs": logprobs(tokens.clone())}),
                    ),
                    (
                        "response.content_part.done",
                        json!({"content_index": 0, "part": text_part(text, tokens)}),
                    ),
                ]
            }
            (Kind::Reasoning, Edge::Begin) if self.style.summarise => vec![(
                "response.reasoning_summary_part.added",
                json!({"summary_index": 0, "part": {"type": "summary_text", "text": ""}}),
            )],
            (Kind::Reasoning, Edge::End) if self.style.summarise => vec![
                (
                    "response.reasoning_summary_text.done",
                    json!({"summary_index": 0, "text": text}),
                ),
                (
                    "response.reasoning_summary_part.done",
                    json!({"summary_index": 0, "part": {"type": "summary_text", "text": text}}),
                ),
            ],
            (Kind::Reasoning, Edge::Begin) => vec![(
                "response.content_part.added",
                json!({"content_index": 0, "part": {"type": "reasoning_text", "text": ""}}),
            )],
            (Kind::Reasoning, Edge::End) => vec![
                (
                    "response.reasoning_text.done",
                    json!({"content_index": 0, "text": text}),
                ),
                (
                    "response.content_part.done",
                    json!({"content_index": 0, "part": {"type": "reasoning_text", "text": text}}),
                ),
            ],
            (Kind::Call { .. }, Edge::Begin) => Vec::new(),
            (Kind::Call { name, .. }, Edge::End) if self.style.custom.contains(name) => {
                let input = custom_input(text);
                vec![
                    ("response.custom_tool_call_input.delta", json!({"delta": input})),
                    ("response.custom_tool_call_input.done", json!({"input": input})),
                ]
            }
            (Kind::Call { name, .. }, Edge::End) => {
                vec![(
                    "response.function_call_arguments.done",
                    json!({"name": name, "arguments": text}),
                )]
            }
        };
        events
            .into_iter()
            .map(|(kind, fields)| self.event(kind, place.with(fields)))
            .collect()
    }

    fn whole(&mut self, kind: &'static str) -> Event {
        let response = serde_json::to_value(&self.response).unwrap_or_default();
        self.event(kind, json!({"response": response}))
    }

    fn event(&mut self, kind: &'static str, fields: Value) -> Event {
        let mut data = json!({"type": kind, "sequence_number": self.number});
        self.number += 1;
        if let (Some(data), Value::Object(fields)) = (data.as_object_mut(), fields) {
            data.extend(fields);
        }
        Event { kind, data }
    }
}

#[derive(Clone, Copy)]
enum Edge {
    Begin,
    End,
}

impl Style {
    fn prefix(&self, kind: &Kind) -> &'static str {
        match kind {
            Kind::Reasoning => "rs",
            Kind::Text => "msg",
            Kind::Call { name, .. } if self.custom.contains(name) => "ctc",
            Kind::Call { .. } => "fc",
        }
    }

    /// An item of which nothing is there yet.
    fn opened(&self, id: &str, block: &Block) -> Value {
        let mut item = self.item(id, block, "in_progress");
        if let Some(fields) = item.as_object_mut() {
            for list in ["content", "summary"] {
                if fields.contains_key(list) {
                    fields.insert(list.to_owned(), json!([]));
                }
            }
        }
        item
    }

    fn item(&self, id: &str, block: &Block, status: &str) -> Value {
        let text = &block.text;
        match &block.kind {
            Kind::Text => json!({"id": id, "type": "message", "status": status, "role": "assistant",
                "content": [text_part(text, block.logprobs.clone())]}),
            Kind::Reasoning if self.summarise => json!({"id": id, "type": "reasoning", "status": status,
                "summary": [{"type": "summary_text", "text": text}], "encrypted_content": null}),
            Kind::Reasoning => json!({"id": id, "type": "reasoning", "status": status, "summary": [],
                "content": [{"type": "reasoning_text", "text": text}], "encrypted_content": null}),
            Kind::Call { id: call, name } if self.custom.contains(name) => json!({"id": id, "type": "custom_tool_call",
                "status": status, "call_id": call, "name": name, "input": custom_input(text)}),
            Kind::Call { id: call, name } => json!({"id": id, "type": "function_call", "status": status,
                "call_id": call, "name": name, "arguments": text}),
        }
    }
}

fn text_part(text: &str, tokens: Vec<TokenLogprob>) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs(tokens)})
}

fn logprobs(tokens: Vec<TokenLogprob>) -> Value {
    let tokens = tokens
        .into_iter()
        .map(|token| serde_json::to_value(TokenLogprobBody::from(token)).unwrap_or_default());
    Value::Array(tokens.collect())
}

/// The text that a custom tool is called with: the arguments are an object with it, as far as the model kept to that.
fn custom_input(arguments: &str) -> String {
    let parsed = serde_json::from_str::<Value>(arguments).ok();
    let input = parsed.and_then(|arguments| arguments.get("input")?.as_str().map(str::to_owned));
    input.unwrap_or_else(|| arguments.to_owned())
}

fn is_cut(reason: FinishReason) -> bool {
    matches!(reason, FinishReason::Length | FinishReason::ContentFilter)
}

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
            "message" => Some((Kind::Text, text(&item["content"][0]["text"]))),
            "reasoning" if self.style.summarise => Some((Kind::Reasoning, text(&item["summary"][0]["text"]))),
            "reasoning" => Some((Kind::Reasoning, text(&item["content"][0]["text"]))),
            "function_call" => Some((call(), text(&item["arguments"]))),
            "custom_tool_call" => Some((call(), text(&item["input"]))),
            _ => None,
        };
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
