//! A response as it is made: from deltas to OpenAI's numbered events, in OpenAI's order, and to the response that the
//! last event holds. A response that is kept is shown again by the same means ([`replay()`]).

use std::collections::VecDeque;

use habit_engine::{Delta, FinishReason, TokenLogprob};
use serde_json::{Value, json};

use super::body::{IncompleteDetails, ResponseBody, ResponseError, Status};
use super::items::new_id;
use super::style::{Style, custom_input, logprobs};
use crate::api::blocks::{Block, Blocks, End, Kind, Step};
use crate::api::error::ApiError;

mod replay;
mod searches;

pub use replay::replay;
pub use searches::search_item;

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
    /// For this response, which has its id and model.
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
        if queued {
            self.response.status = Status::Queued;
            events.push(self.whole("response.created"));
            events.push(self.whole("response.queued"));
            self.response.status = Status::InProgress;
        } else {
            events.push(self.whole("response.created"));
        }
        events.push(self.whole("response.in_progress"));
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
        let mut told = match (&block.kind, edge) {
            (Kind::Text, Edge::End) => self.annotations(text, &place),
            _ => Vec::new(),
        };
        let events = match (&block.kind, edge) {
            (Kind::Text, Edge::Begin) => vec![(
                "response.content_part.added",
                json!({"content_index": 0, "part": self.style.text_part("", Vec::new())}),
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
                        json!({"content_index": 0, "part": self.style.text_part(text, tokens)}),
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
        let events = events.into_iter();
        told.extend(events.map(|(kind, fields)| self.event(kind, place.with(fields))));
        told
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

/// An end of an item's part.
#[derive(Clone, Copy)]
enum Edge {
    /// Nothing of it is there.
    Begin,
    /// All of it is.
    End,
}

fn is_cut(reason: FinishReason) -> bool {
    matches!(reason, FinishReason::Length | FinishReason::ContentFilter)
}
