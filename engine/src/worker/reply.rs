//! Turns an upstream's response into deltas: an event stream, or the whole JSON that some servers send instead.

use std::collections::VecDeque;

use futures::{Stream, StreamExt};
use reqwest::{Response, header};
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
    let kind = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let whole = kind.starts_with("application/json");
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

/// What has come of a reply.
#[derive(Default)]
struct Assembly {
    name: String,
    prompt_guess: usize,
    ready: VecDeque<Result<Delta, EngineError>>,
    reason: Option<FinishReason>,
    /// The stop string that ended it, where the upstream says so.
    stop_string: Option<String>,
    usage: Option<Usage>,
    /// Tokens of the reply's text, estimated, for an upstream that doesn't count.
    estimated: usize,
    begun: bool,
    ended: bool,
}

impl Assembly {
    fn event(&mut self, event: &Event) {
        if self.ended {
            return;
        }
        if event.data.trim() == "[DONE]" {
            // Its word that this is the end, whether or not it said why.
            self.reason.get_or_insert(FinishReason::Stop);
            return self.end();
        }
        match serde_json::from_str::<Value>(&event.data) {
            Ok(chunk) => self.chunk(&chunk, "delta"),
            // A ping or the like in words; real servers send nothing else that isn't JSON.
            Err(_) if event.data.trim().is_empty() => {}
            Err(error) => self.fail(&format!("a chunk is not JSON: {error}")),
        }
    }

    fn whole(&mut self, json: &[u8]) {
        match serde_json::from_slice::<Value>(json) {
            Ok(reply) => {
                self.chunk(&reply, "message");
                self.end();
            }
            Err(error) => self.fail(&format!("the reply is not JSON: {error}")),
        }
    }

    fn chunk(&mut self, chunk: &Value, part: &str) {
        if !chunk["error"].is_null() || (chunk["choices"].is_null() && !chunk["detail"].is_null()) {
            let said = wire::error_text(chunk).unwrap_or_else(|| chunk.to_string());
            return self.fail(&said);
        }
        self.usage = wire::usage(chunk).or(self.usage);
        let choice = &chunk["choices"][0];
        let delta = &choice[part];
        let text = |name: &str| delta[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let tokens = logprobs::of(choice);
        if !tokens.is_empty() {
            self.give(Delta::Logprobs(tokens));
        }
        if let Some(text) = text("reasoning_content").or_else(|| text("reasoning")) {
            self.estimated += estimate(&text);
            self.give(Delta::Reasoning(text));
        }
        // A raw prompt's reply has its text beside, not in, a delta.
        let raw = choice["text"].as_str().filter(|text| !text.is_empty());
        if let Some(text) = text("content").or_else(|| raw.map(str::to_owned)) {
            self.estimated += estimate(&text);
            self.give(Delta::Text(text));
        }
        for (index, call) in delta["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let mut call = call.clone();
            // Whole replies (and some streams) leave the index out.
            if let Some(call) = call.as_object_mut().filter(|call| !call.contains_key("index")) {
                call.insert("index".into(), index.into());
            }
            self.estimated += estimate(&call["function"]["arguments"].to_string());
            self.give(Delta::ToolCall(call));
        }
        self.reason = wire::finish_reason(choice).or(self.reason);
        // vLLM says which stop string it was; of a stop token it gives the number, which nobody asked for.
        if let Some(stop) = choice["stop_reason"].as_str() {
            self.stop_string = Some(stop.to_owned());
        }
    }

    fn give(&mut self, delta: Delta) {
        self.begun = true;
        self.ready.push_back(Ok(delta));
    }

    /// The stream is over: a finish if the upstream said so, else an error.
    fn end(&mut self) {
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

    fn fail(&mut self, reason: &str) {
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
