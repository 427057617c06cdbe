//! One reply in the making: an engine gives logits, [`Reply::step`] does the rest. It chooses the token (sampling,
//! schema), turns it into text, tells reasoning and tool calls from the answer, looks for stop strings, counts, sends
//! what can go out, and decides when the reply ends.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use tokio::sync::mpsc::UnboundedSender;

use super::{
    channel::{Channels, Segment},
    detokenize::Detokenizer,
    grammar::Guide,
    logprobs::Scores,
    sampling::Sampler,
    stop::StopMatcher,
};
use crate::{Delta, EngineError, FinishReason, TokenLogprob, Usage};

/// How often another token is looked for where one would write a stop string into a schema's text.
const DETOURS: u64 = 32;

/// Everything that a reply needs.
pub(crate) struct Reply {
    /// Where the pieces go; nobody listens any more when it is closed.
    pub(crate) pieces: UnboundedSender<Result<Delta, EngineError>>,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    pub(crate) channels: Channels,
    /// Tokens that are no text, but shown to `channels` as these.
    pub(crate) shown: HashMap<u32, &'static str>,
    /// Keeps the reply to what it must be like.
    pub(crate) guide: Option<Guide>,
    /// Where the tokens' probabilities were asked for.
    pub(crate) scores: Option<Scores>,
    /// The prompt's tokens that are still to be read one by one, because their probabilities are asked for, and the
    /// tokens that were.
    pub(crate) unread: VecDeque<u32>,
    pub(crate) read: Vec<TokenLogprob>,
    /// The tokens with which the reply ends.
    pub(crate) ends: Arc<HashSet<u32>>,
    /// Tokens that are never chosen.
    pub(crate) barred: Arc<HashSet<u32>>,
    /// Before there are so many tokens no end is chosen.
    pub(crate) min_tokens: usize,
    prompt_tokens: usize,
    /// Of the prompt's tokens, those whose keys and values were there already.
    pub(crate) cached_tokens: usize,
    max_tokens: usize,
    completion_tokens: usize,
    reasoning_tokens: usize,
    /// Nothing more is to come.
    over: bool,
}

/// How long a prompt is, and how long the reply may be, in tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) prompt: usize,
    pub(crate) most: usize,
}

/// How a reply goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// With this token: the engine appends it and gives the next logits.
    Token(u32),
    /// Not at all: everything has been sent.
    End,
}

impl Reply {
    /// A plain reply; what more it needs is set in its fields.
    pub(crate) fn new(
        pieces: UnboundedSender<Result<Delta, EngineError>>,
        sampler: Sampler,
        detokenizer: Detokenizer,
        stop: StopMatcher,
        ends: Arc<HashSet<u32>>,
        length: Length,
    ) -> Self {
        Self {
            pieces,
            sampler,
            detokenizer,
            stop,
            channels: Channels::default(),
            shown: HashMap::new(),
            guide: None,
            scores: None,
            unread: VecDeque::new(),
            read: Vec::new(),
            ends,
            barred: Arc::default(),
            min_tokens: 0,
            prompt_tokens: length.prompt,
            cached_tokens: 0,
            max_tokens: length.most,
            completion_tokens: 0,
            reasoning_tokens: 0,
            over: false,
        }
    }

    /// Takes the logits after all tokens so far; chooses the next token and sends its text.
    pub(crate) fn step(&mut self, logits: &mut [f32]) -> Step {
        if self.over || self.pieces.is_closed() {
            return self.close();
        }
        if let Some(token) = self.read_on(logits) {
            return Step::Token(token);
        }
        if self.max_tokens == 0 {
            return self.finish(FinishReason::Length);
        }
        match self.next(logits) {
            Ok(Next::Token(token)) => Step::Token(token),
            Ok(Next::Finish(reason)) => self.finish(reason),
            Err(reason) => {
                self.send(Err(EngineError::Interrupted(reason)));
                self.close()
            }
        }
    }

    /// The prompt's next token, where it is read one by one. When it has been read its tokens go out.
    fn read_on(&mut self, logits: &[f32]) -> Option<u32> {
        if let (Some(token), Some(scores)) = (self.unread.pop_front(), &self.scores) {
            let place = scores.at(logits);
            let logprob = place.logprob(logits, token);
            self.read.push(scores.named(token, logprob, place.top));
            return Some(token);
        }
        if !self.read.is_empty() {
            let read = std::mem::take(&mut self.read);
            self.send(Ok(Delta::Logprobs(read)));
        }
        None
    }

    fn next(&mut self, logits: &mut [f32]) -> Result<Next, String> {
        let scored = self.scores.as_ref().map(|scores| (scores.at(logits), logits.to_vec()));
        let Some(token) = self.choose(logits)? else {
            return Ok(Next::Finish(FinishReason::Stop));
        };
        self.sampler.note(token);
        self.completion_tokens += 1;
        if self.channels.is_reasoning() {
            self.reasoning_tokens += 1;
        }
        if self.ends.contains(&token) {
            return Ok(Next::Finish(FinishReason::Stop));
        }
        if let Some(guide) = &mut self.guide {
            guide.take(token)?;
        }
        let piece = match self.shown.get(&token) {
            Some(shown) => self.detokenizer.finish() + shown,
            None => self.detokenizer.push(token),
        };
        if let (Some((place, raw)), Some(scores)) = (scored, &mut self.scores) {
            let logprob = place.logprob(&raw, token);
            let named = scores.named(token, logprob, place.top);
            scores.note(named, &piece);
        }
        let segments = self.channels.push(&piece);
        self.say(segments);
        let complete = self.stop.is_stopped() || self.guide.as_ref().is_some_and(Guide::is_complete);
        Ok(if complete {
            Next::Finish(FinishReason::Stop)
        } else if self.completion_tokens >= self.max_tokens {
            Next::Finish(FinishReason::Length)
        } else {
            Next::Token(token)
        })
    }

    /// The token to go on with; none where the reply must end here.
    ///
    /// A token that doesn't fit the guide is looked for a second time among those that fit. That is the same as asking
    /// the guide for all fitting tokens first, which takes much longer than asking about one.
    fn choose(&mut self, logits: &mut [f32]) -> Result<Option<u32>, String> {
        const UNUSABLE: &str = "the model gave no usable probabilities; its file may be damaged";
        self.sampler.adjust(logits);
        let early = self.completion_tokens < self.min_tokens;
        let ends = early.then_some(&self.ends).into_iter().flat_map(|ends| ends.iter());
        for token in self.barred.iter().chain(ends) {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let first = self.sampler.choose(logits, 0);
        let Some(guide) = &mut self.guide else {
            return first.map(Some).ok_or_else(|| UNUSABLE.to_owned());
        };
        let fits = match first {
            Some(token) => guide.fits(token, &self.ends)?,
            None => return Err(UNUSABLE.to_owned()),
        };
        let mut token = first;
        if !fits {
            guide.restrict(logits, &self.ends)?;
            token = self.sampler.choose(logits, 1);
        }
        let Some(chosen) = token else {
            // All that fits was barred.
            return Ok(None);
        };
        Ok(Some(self.around_stops(chosen, fits, logits)?))
    }

    /// Another token in place of one that would write a stop string into a schema's text, if there is any: a stop string
    /// ends the reply, and half of a JSON text is none.
    fn around_stops(&mut self, first: u32, free: bool, logits: &mut [f32]) -> Result<u32, String> {
        let plain = self.channels.reasoner.is_none() && self.channels.calls.is_none();
        if self.stop.is_idle() || !plain {
            return Ok(first);
        }
        let mut token = first;
        let mut restricted = !free;
        for round in 2..DETOURS {
            let piece = self.detokenizer.clone().push(token);
            let mut stop = self.stop.clone();
            stop.push(&piece);
            if !stop.is_stopped() || self.ends.contains(&token) {
                return Ok(token);
            }
            if let (false, Some(guide)) = (restricted, &mut self.guide) {
                guide.restrict(logits, &self.ends)?;
                restricted = true;
            }
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = f32::NEG_INFINITY;
            }
            match self.sampler.choose(logits, round) {
                Some(other) => token = other,
                None => break,
            }
        }
        Ok(first)
    }

    /// Sends what still waits, and the end.
    fn finish(&mut self, reason: FinishReason) -> Step {
        let rest = self.detokenizer.finish();
        if let Some(scores) = &mut self.scores {
            scores.more(&rest);
        }
        let segments = self.channels.push(&rest);
        self.say(segments);
        let segments = self.channels.finish();
        self.say(segments);
        // The last text may have completed a stop string.
        let reason = match reason {
            _ if self.stop.is_stopped() => FinishReason::Stop,
            FinishReason::Stop if self.channels.called() => FinishReason::ToolCalls,
            reason => reason,
        };
        let held = self.stop.finish();
        self.tell(held);
        if let Some(stop) = self.stop.met() {
            self.send(Ok(Delta::StopString(stop.to_owned())));
        } else if let Some(scores) = &mut self.scores {
            let rest = scores.rest();
            if !rest.is_empty() {
                self.send(Ok(Delta::Logprobs(rest)));
            }
        }
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            cached_tokens: self.cached_tokens,
            reasoning_tokens: self.reasoning_tokens,
        };
        self.send(Ok(Delta::Finish { reason, usage }));
        self.close()
    }

    fn close(&mut self) -> Step {
        self.over = true;
        Step::End
    }

    /// Sends what the model wrote, as what it is. Stop strings are looked for in the answer only: they are about its
    /// form, and would leave reasoning and calls in pieces.
    fn say(&mut self, segments: Vec<Segment>) {
        for segment in segments {
            if self.stop.is_stopped() {
                return;
            }
            let bytes = match &segment {
                Segment::Text(text) | Segment::Reasoning(text) => text.len(),
                Segment::Marks(bytes) => *bytes,
                Segment::Call(_) => 0,
            };
            if let Some(scores) = &mut self.scores {
                scores.sort(bytes, matches!(segment, Segment::Text(_)));
            }
            match segment {
                Segment::Text(text) => {
                    let out = self.stop.push(&text);
                    self.tell(out);
                }
                Segment::Reasoning(text) => self.send(Ok(Delta::Reasoning(text))),
                Segment::Call(call) => self.send(Ok(Delta::ToolCall(call))),
                Segment::Marks(_) => {}
            }
        }
    }

    /// Sends text for the reader, its tokens' probabilities before it.
    fn tell(&mut self, text: String) {
        if text.is_empty() {
            return;
        }
        if let Some(scores) = &mut self.scores {
            let tokens = scores.release(text.len());
            if !tokens.is_empty() {
                self.send(Ok(Delta::Logprobs(tokens)));
            }
        }
        self.send(Ok(Delta::Text(text)));
    }

    /// A listener that has left is seen at the next step.
    fn send(&self, piece: Result<Delta, EngineError>) {
        self.pieces.send(piece).ok();
    }
}

/// What a token means for the reply.
enum Next {
    Token(u32),
    Finish(FinishReason),
}
