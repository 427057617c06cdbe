//! Turns an upstream's response into deltas: an event stream, or the whole JSON that some servers send instead.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use reqwest::{Response, header};
use serde::Deserialize;
use serde_json::Value;

use super::estimate::estimate;
use super::logprobs;
use super::sse::{Event, Parser};
use super::wire;
use crate::{Delta, EngineError, FinishReason, Usage};

/// The deltas of a response. `prompt_guess` stands in for usage that the upstream doesn't give.
pub(super) fn deltas(
    response: Response,
    name: String,
    prompt_guess: usize,
) -> impl Stream<Item = Result<Delta, EngineError>> + Send + 'static {
    let whole = is_json(&response);
    let mut assembly = Assembly {
        name,
        prompt_guess,
        ..Assembly::default()
    };
    async_stream::stream! {
        let mut bytes = response.bytes_stream();
        let mut parser = Parser::default();
        let mut json = Vec::new();
        'reply: loop {
            let piece = match bytes.next().await {
                Some(Ok(piece)) => piece,
                // Some servers hang up as soon as they have said why they end.
                Some(Err(_)) if assembly.reason.is_some() => {
                    assembly.end();
                    break;
                }
                Some(Err(error)) => {
                    assembly.fail(&format!("the connection was lost: {error}"));
                    break;
                }
                None if whole => {
                    assembly.whole(&json);
                    break;
                }
                None => {
                    if let Some(event) = parser.finish() {
                        assembly.event(&event);
                    }
                    assembly.end();
                    break;
                }
            };
            if whole {
                json.extend_from_slice(&piece);
                continue;
            }
            match parser.push(&piece) {
                Ok(events) => events.iter().for_each(|event| assembly.event(event)),
                Err(error) => assembly.fail(&error.to_string()),
            }
            while let Some(item) = assembly.ready.pop_front() {
                yield item;
            }
            if assembly.ended {
                break 'reply;
            }
        }
        while let Some(item) = assembly.ready.pop_front() {
            yield item;
        }
    }
}

/// Whether a response is one JSON text rather than events.
pub(super) fn is_json(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

/// What has come of a reply.
#[derive(Default)]
pub(super) struct Assembly {
    pub(super) name: String,
    pub(super) prompt_guess: usize,
    pub(super) ready: VecDeque<Result<Delta, EngineError>>,
    pub(super) reason: Option<FinishReason>,
    /// The stop string that ended it, where the upstream says so.
    pub(super) stop_string: Option<String>,
    pub(super) usage: Option<Usage>,
    /// Tokens of the reply's text, estimated, for an upstream that doesn't count.
    pub(super) estimated: usize,
    pub(super) begun: bool,
    pub(super) ended: bool,
    /// Whether the last chunk was for the usage only: it had no choices.
    pub(super) bare: bool,
}

/// What is read of a chunk, or of a whole reply. Upstreams put things of any type into most fields: what has another
/// type than OpenAI's is as good as absent.
#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Value>,
    error: Option<Value>,
    detail: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    index: Option<Value>,
    #[serde(alias = "message")]
    delta: Option<Part>,
    text: Option<Value>,
    logprobs: Option<Value>,
    finish_reason: Option<Value>,
    stop_reason: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Part {
    content: Option<Value>,
    reasoning_content: Option<Value>,
    reasoning: Option<Value>,
    tool_calls: Option<Value>,
}

impl Assembly {
    pub(super) fn event(&mut self, event: &Event) {
        if self.ended {
            return;
        }
        let data = event.data.trim();
        if data == "[DONE]" {
            // Its word that this is the end, whether or not it said why.
            self.reason.get_or_insert(FinishReason::Stop);
            return self.end();
        }
        match serde_json::from_str(data) {
            Ok(chunk) => self.chunk(chunk, data.as_bytes()),
            // A ping or the like in words; real servers send nothing else that isn't JSON.
            Err(_) if data.is_empty() => {}
            Err(error) => self.fail(&format!("a chunk is not as OpenAI's: {error}")),
        }
    }

    pub(super) fn whole(&mut self, json: &[u8]) {
        match serde_json::from_slice(json) {
            Ok(reply) => {
                self.chunk(reply, json);
                self.end();
            }
            Err(error) => self.fail(&format!("the reply is not as OpenAI's: {error}")),
        }
    }

    fn chunk(&mut self, chunk: Chunk, json: &[u8]) {
        if chunk.error.is_some() || (chunk.choices.is_none() && chunk.detail.is_some()) {
            let body: Value = serde_json::from_slice(json).unwrap_or_default();
            let said = wire::error_text(&body).unwrap_or_else(|| body.to_string());
            return self.fail(&said);
        }
        self.usage = chunk.usage.as_ref().and_then(wire::usage).or(self.usage);
        let choices = chunk.choices.unwrap_or_default();
        self.bare = choices.is_empty();
        // Of several replies at once, the first is the one that counts.
        let first = |choice: &Choice| choice.index.as_ref().and_then(Value::as_u64).unwrap_or(0) == 0;
        let Some(choice) = choices.into_iter().find(first) else {
            return;
        };
        let Part {
            content,
            reasoning_content,
            reasoning,
            tool_calls,
        } = choice.delta.unwrap_or_default();
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let tokens = choice.logprobs.as_ref().map(logprobs::of).unwrap_or_default();
        if !tokens.is_empty() {
            self.give(Delta::Logprobs(tokens));
        }
        if let Some(text) = text(reasoning_content).or_else(|| text(reasoning)) {
            self.estimated += estimate(&text);
            self.give(Delta::Reasoning(text));
        }
        // A raw prompt's reply has its text beside, not in, a delta.
        if let Some(text) = text(content).or_else(|| text(choice.text)) {
            self.estimated += estimate(&text);
            self.give(Delta::Text(text));
        }
        let calls = match tool_calls {
            Some(Value::Array(calls)) => calls,
            _ => Vec::new(),
        };
        for (index, mut call) in calls.into_iter().enumerate() {
            // Whole replies (and some streams) leave the index out.
            if let Some(call) = call.as_object_mut().filter(|call| !call.contains_key("index")) {
                call.insert("index".into(), index.into());
            }
            self.estimated += estimate(&call["function"]["arguments"].to_string());
            self.give(Delta::ToolCall(call));
        }
        let reason = choice.finish_reason.as_ref().and_then(Value::as_str);
        self.reason = reason.map(wire::finish_reason).or(self.reason);
        // vLLM says which stop string it was; of a stop token it gives the number, which nobody asked for.
        if let Some(Value::String(stop)) = choice.stop_reason {
            self.stop_string = Some(stop);
        }
    }

    fn give(&mut self, delta: Delta) {
        self.begun = true;
        self.ready.push_back(Ok(delta));
    }

    /// The stream is over: a finish if the upstream said so, else an error.
    pub(super) fn end(&mut self) {
        if self.ended {
            return;
        }
        let Some(reason) = self.reason else {
            return self.fail("the stream ended without a finish");
        };
        let guess = Usage {
            prompt_tokens: self.prompt_guess,
            completion_tokens: self.estimated,
            ..Usage::default()
        };
        if let Some(stop) = self.stop_string.take() {
            self.ready.push_back(Ok(Delta::StopString(stop)));
        }
        self.ready.push_back(Ok(Delta::Finish {
            reason,
            usage: self.usage.unwrap_or(guess),
        }));
        self.ended = true;
    }

    pub(super) fn fail(&mut self, reason: &str) {
        if self.ended {
            return;
        }
        let message = format!("{}: {reason}", self.name);
        let error = if self.begun {
            EngineError::Interrupted(message)
        } else {
            EngineError::Unavailable(message)
        };
        self.ready.push_back(Err(error));
        self.ended = true;
    }
}

/// The deltas that stand for the pieces of [`Delta::Written`], without the finish; what can't be read is left out.
#[must_use]
pub fn read(written: &[Bytes]) -> Vec<Delta> {
    let mut assembly = Assembly::default();
    let json = written
        .iter()
        .flat_map(|piece| piece.iter())
        .find(|byte| !byte.is_ascii_whitespace());
    if json == Some(&b'{') {
        assembly.whole(&written.concat());
    } else {
        let mut parser = Parser::default();
        for piece in written {
            let events = parser.push(piece).unwrap_or_default();
            events.iter().for_each(|event| assembly.event(event));
        }
    }
    let deltas = assembly.ready.into_iter().filter_map(Result::ok);
    deltas.filter(|delta| !matches!(delta, Delta::Finish { .. })).collect()
}
