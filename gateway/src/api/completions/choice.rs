//! A legacy completion's reply in OpenAI's JSON, whole and in chunks, which have the same shape.

use std::collections::BTreeMap;

use habit_engine::{Delta, FinishReason, TokenLogprob, Usage};
use serde::Serialize;
use utoipa::ToSchema;

use super::wire::Parsed;
use crate::api::ask::replies::Finished;
use crate::api::generation::reply::{Envelope, UsageBody, finite};
use crate::api::sse::Render;

/// Replies to prompts, or a piece of one.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TextCompletion {
    /// What it is.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The replies, in the prompts' order; in a chunk, one or none.
    pub choices: Vec<TextChoice>,
    /// Tokens. In chunks only with `stream_options.include_usage`, and null until the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UsageBody>)]
    pub usage: Option<Option<UsageBody>>,
}

/// A reply, or a piece of one.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TextChoice {
    /// The text.
    pub text: String,
    /// Its place: all replies to the first prompt, then those to the second.
    pub index: usize,
    /// The tokens' probabilities, where they were asked for.
    pub logprobs: Option<TextLogprobs>,
    /// `stop`, `length` or `content_filter`; null in chunks before the end.
    pub finish_reason: Option<&'static str>,
}

/// Probabilities of tokens, in OpenAI's older shape: lists of the same length.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct TextLogprobs {
    /// The tokens' texts; of bytes that are no text, `bytes:\x…`.
    pub tokens: Vec<String>,
    /// Their natural logarithms; null for a prompt's first token.
    pub token_logprobs: Vec<Option<f64>>,
    /// The likeliest tokens at each place, and the one that stands there.
    pub top_logprobs: Vec<Option<BTreeMap<String, f64>>>,
    /// Where each token begins, in characters from the prompt's beginning.
    pub text_offset: Vec<usize>,
}

impl TextLogprobs {
    /// Of these tokens; `at` is where the first begins, and then where the next one will.
    fn new(tokens: Vec<TokenLogprob>, at: &mut usize) -> Self {
        let mut lists = Self::default();
        for token in tokens {
            let itself = name(&token.token, &token.bytes);
            // A prompt's first token follows nothing: it has no probability.
            let logprob = (!token.logprob.is_nan()).then(|| finite(token.logprob));
            let top = token.top.iter();
            let mut top: BTreeMap<String, f64> = top
                .map(|top| (name(&top.token, &top.bytes), finite(top.logprob)))
                .collect();
            top.extend(logprob.map(|logprob| (itself.clone(), logprob)));
            lists.tokens.push(itself);
            lists.token_logprobs.push(logprob);
            lists.top_logprobs.push(logprob.map(|_| top));
            lists.text_offset.push(*at);
            // A character begins at each byte that doesn't continue one.
            *at += token.bytes.iter().filter(|byte| *byte & 0xC0 != 0x80).count();
        }
        lists
    }
}

fn name(text: &str, bytes: &[u8]) -> String {
    if str::from_utf8(bytes).is_ok() {
        return text.to_owned();
    }
    let hex = bytes.iter().map(|byte| format!("\\x{byte:02x}"));
    hex.fold("bytes:".to_owned(), |name, byte| name + &byte)
}

impl TextChoice {
    /// A finished reply. `echo` is its prompt, if it is to be sent back; `start` the prompt's length in characters.
    #[must_use]
    pub fn whole(index: usize, parsed: &Parsed, echo: Option<&String>, start: usize, finished: Finished) -> Self {
        let Finished { reply, reason, .. } = finished;
        let mut at = if echo.is_some() { 0 } else { start };
        let before = echo.map_or("", String::as_str);
        Self {
            text: format!("{before}{}{}", reply.reasoning, reply.text),
            index,
            logprobs: parsed.logprobs.then(|| TextLogprobs::new(reply.logprobs, &mut at)),
            finish_reason: reason.map(FinishReason::as_str),
        }
    }
}

/// Makes chunks of deltas.
#[derive(Debug)]
pub struct TextChunks {
    envelope: Envelope,
    usage_later: bool,
    /// Replies to each prompt.
    each: usize,
    /// The prompts, if they are to be sent back.
    echoes: Vec<String>,
    replies: Vec<InTheMaking>,
}

/// What must be known of a reply to make the next chunk of it.
#[derive(Debug, Clone, Default)]
struct InTheMaking {
    /// Probabilities of tokens whose text is still to come.
    logprobs: Vec<TokenLogprob>,
    /// Where the next token begins.
    at: usize,
}

impl TextChunks {
    /// For the replies to a request; `starts` are the prompts' lengths in characters.
    #[must_use]
    pub fn new(envelope: Envelope, parsed: &Parsed, echoes: Vec<String>, starts: Vec<usize>) -> Self {
        let begins = |start| InTheMaking {
            logprobs: Vec::new(),
            at: if parsed.echo { 0 } else { start },
        };
        let replies = starts.into_iter().flat_map(|start| vec![begins(start); parsed.n]);
        Self {
            envelope,
            usage_later: parsed.include_usage,
            each: parsed.n,
            echoes,
            replies: replies.collect(),
        }
    }

    fn chunk(&self, choices: Vec<TextChoice>) -> TextCompletion {
        TextCompletion {
            envelope: self.envelope.clone(),
            choices,
            usage: self.usage_later.then_some(None),
        }
    }

    fn choice(&mut self, index: usize, text: String, finish: Option<FinishReason>) -> TextCompletion {
        let reply = self.replies.get_mut(index);
        let waiting = reply.filter(|reply| !reply.logprobs.is_empty());
        let logprobs = waiting.map(|reply| TextLogprobs::new(std::mem::take(&mut reply.logprobs), &mut reply.at));
        self.chunk(vec![TextChoice {
            text,
            index,
            logprobs,
            finish_reason: finish.map(FinishReason::as_str),
        }])
    }
}

impl Render for TextChunks {
    type Chunk = TextCompletion;

    fn begin(&mut self, index: usize) -> Option<TextCompletion> {
        let echo = self.echoes.get(index / self.each).filter(|text| !text.is_empty())?;
        let echo = echo.clone();
        Some(self.choice(index, echo, None))
    }

    fn piece(&mut self, index: usize, delta: Delta) -> Option<TextCompletion> {
        match delta {
            Delta::Text(text) | Delta::Reasoning(text) => Some(self.choice(index, text, None)),
            Delta::Logprobs(tokens) => {
                self.replies.get_mut(index)?.logprobs.extend(tokens);
                None
            }
            Delta::ToolCall(_) | Delta::StopString(_) | Delta::Written(_) | Delta::Finish { .. } => None,
        }
    }

    fn finish(&mut self, index: usize, reason: FinishReason) -> TextCompletion {
        self.choice(index, String::new(), Some(reason))
    }

    fn usage(&mut self, usage: Usage) -> TextCompletion {
        TextCompletion {
            usage: Some(Some(usage.into())),
            ..self.chunk(Vec::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_count_characters_and_bytes_have_names() {
        let token = |bytes: &[u8], logprob| TokenLogprob {
            token: String::from_utf8_lossy(bytes).into_owned(),
            bytes: bytes.to_vec(),
            logprob,
            top: Vec::new(),
        };
        let tokens = vec![
            token("Wü".as_bytes(), f64::NAN),
            token(&[0xF0, 0x9F], -1.0),
            token(&[0x90, 0x95], f64::NEG_INFINITY),
            token(b"!", -0.5),
        ];
        let lists = TextLogprobs::new(tokens, &mut 3);
        assert_eq!(lists.tokens, ["Wü", r"bytes:\xf0\x9f", r"bytes:\x90\x95", "!"]);
        assert_eq!(lists.token_logprobs, [None, Some(-1.0), Some(-9999.0), Some(-0.5)]);
        assert_eq!(lists.text_offset, [3, 5, 6, 6]);
        assert_eq!(lists.top_logprobs[0], None);
        assert_eq!(lists.top_logprobs[3], Some(BTreeMap::from([("!".to_owned(), -0.5)])));
    }
}
