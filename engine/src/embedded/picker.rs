//! What happens at each token of a reply, on the engine's thread: the engine gives logits, the [`Picker`] does the rest.
//!
//! mistral.rs calls a request's logits processor once a step. This one chooses the token (sampling, schema), turns it
//! into text, looks for stop strings, counts, sends what can go out, and decides when the reply ends. The engine is
//! told the choice by logits that leave it no other, and told to stop by the one *closing* token that it stops at.
//! So every rule of a reply is in one place and nothing has to be guessed from the engine's own stream of pieces.
//!
//! The closing token is one that can't follow a reply in any later prompt. The engine keeps a finished sequence's keys
//! and values for prompts that begin alike, but has none for the sequence's last token, and would take zeros for them
//! if a prompt went on with that very token, as the next turn of a conversation does after an end-of-turn token.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{Device, Tensor};
use mistralrs_core::{CustomLogitsProcessor, llguidance::Matcher};
use tokio::sync::{OwnedSemaphorePermit, mpsc::UnboundedSender};

use super::{detokenize::Detokenizer, load::PrefixCache, sampling::Sampler, stop::StopMatcher};
use crate::{Delta, EngineError, FinishReason, Usage};

/// One reply in the making.
pub(super) struct Picker(Mutex<Reply>);

/// Everything that a reply needs.
pub(super) struct Reply {
    /// Where the pieces go; nobody listens any more when it is closed.
    pub(super) pieces: UnboundedSender<Result<Delta, EngineError>>,
    pub(super) sampler: Sampler,
    pub(super) detokenizer: Detokenizer,
    pub(super) stop: StopMatcher,
    /// Follows the schema that the reply must fit.
    pub(super) grammar: Option<Matcher>,
    /// The tokens with which the model ends its turn.
    pub(super) ends: Arc<HashSet<u32>>,
    /// The token that makes the engine stop.
    pub(super) closing: u32,
    pub(super) prompt_tokens: usize,
    pub(super) max_tokens: usize,
    pub(super) completion_tokens: usize,
    pub(super) cache: Arc<PrefixCache>,
    /// The place in the engine; given up when the reply ends.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

impl Picker {
    pub(super) fn new(reply: Reply) -> Self {
        Self(Mutex::new(reply))
    }
}

impl CustomLogitsProcessor for Picker {
    fn apply(&self, logits: &Tensor, _context: &[u32]) -> candle_core::Result<Tensor> {
        let mut logits = logits.to_vec1::<f32>()?;
        let token = self.0.lock().unwrap_or_else(PoisonError::into_inner).step(&mut logits);
        let rows = logits.len();
        logits.fill(0.0);
        match logits.get_mut(token as usize) {
            Some(logit) => *logit = 1.0,
            None => candle_core::bail!("token {token} is not one of the model's {rows}"),
        }
        Tensor::from_vec(logits, rows, &Device::Cpu)
    }
}

impl Reply {
    /// Chooses the next token, sends its text, and gives the token that the engine is to go on with.
    fn step(&mut self, logits: &mut [f32]) -> u32 {
        if self.place.is_none() || self.pieces.is_closed() {
            return self.close();
        }
        match self.next(logits) {
            Ok(Next::Token(token)) => token,
            Ok(Next::Finish(reason)) => self.finish(reason),
            Err(reason) => {
                self.send(Err(EngineError::Interrupted(reason)));
                self.close()
            }
        }
    }

    fn next(&mut self, logits: &mut [f32]) -> Result<Next, String> {
        if let Some(grammar) = &mut self.grammar {
            restrict(grammar, logits, &self.ends)?;
        }
        let token = self
            .sampler
            .pick(logits)
            .ok_or("the model gave no usable probabilities; its file may be damaged")?;
        self.completion_tokens += 1;
        if self.ends.contains(&token) {
            return Ok(Next::Finish(FinishReason::Stop));
        }
        if let Some(grammar) = &mut self.grammar {
            grammar
                .consume_token(token)
                .map_err(|error| format!("the reply left its schema: {error}"))?;
        }
        let piece = self.detokenizer.push(token);
        let text = self.stop.push(&piece);
        self.say(text);
        let complete = self.stop.is_stopped() || self.grammar.as_ref().is_some_and(Matcher::is_stopped);
        Ok(if complete {
            Next::Finish(FinishReason::Stop)
        } else if self.completion_tokens >= self.max_tokens {
            Next::Finish(FinishReason::Length)
        } else {
            Next::Token(token)
        })
    }

    /// Sends what still waits, and the end.
    fn finish(&mut self, reason: FinishReason) -> u32 {
        let rest = self.detokenizer.finish();
        let mut text = self.stop.push(&rest);
        // The last token's text may complete a stop string.
        let reason = if self.stop.is_stopped() {
            FinishReason::Stop
        } else {
            reason
        };
        text.push_str(&self.stop.finish());
        self.say(text);
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
        };
        self.send(Ok(Delta::Finish { reason, usage }));
        self.close()
    }

    /// Ends the work for this reply: nothing more is sent, the place is free, and the engine stops.
    fn close(&mut self) -> u32 {
        if self.place.take().is_some() {
            self.cache.add(self.prompt_tokens + self.completion_tokens);
        }
        self.closing
    }

    fn say(&self, text: String) {
        if !text.is_empty() {
            self.send(Ok(Delta::Text(text)));
        }
    }

    /// A listener that has left is seen at the next step.
    fn send(&self, piece: Result<Delta, EngineError>) {
        self.pieces.send(piece).ok();
    }
}

/// How a reply goes on.
enum Next {
    Token(u32),
    Finish(FinishReason),
}

/// Leaves only the tokens that fit the schema, and the ends where the reply may end.
fn restrict(grammar: &mut Matcher, logits: &mut [f32], ends: &HashSet<u32>) -> Result<(), String> {
    let broken = |error: &dyn std::fmt::Display| format!("the reply can't be kept to its schema: {error}");
    let may_end = grammar.is_accepting().map_err(|error| broken(&error))?;
    let allowed = grammar.compute_mask_or_eos().map_err(|error| broken(&error))?;
    for (token, logit) in (0u32..).zip(logits) {
        let fits = if ends.contains(&token) {
            may_end
        } else {
            (token as usize) < allowed.len() && allowed.is_allowed(token)
        };
        if !fits {
            *logit = f32::NEG_INFINITY;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use candle_core::{Device, Tensor};
    use mistralrs_core::CustomLogitsProcessor;
    use tokio::sync::{Semaphore, mpsc};

    use super::{Picker, Reply};
    use crate::{
        Delta, EngineError, FinishReason, Sampling,
        embedded::{
            detokenize::Detokenizer, load::PrefixCache, sampling::Sampler, stop::StopMatcher, tokens::tests::words,
        },
    };

    const CLOSING: u32 = 2;
    const ROWS: usize = 9;

    struct Bench {
        picker: Picker,
        pieces: mpsc::UnboundedReceiver<Result<Delta, EngineError>>,
        places: Arc<Semaphore>,
    }

    fn bench(stops: &[&str], max_tokens: usize) -> Bench {
        let (sender, pieces) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(1));
        let greedy = Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        };
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let picker = Picker::new(Reply {
            pieces: sender,
            sampler: Sampler::new(&greedy, HashMap::new(), &[], 0),
            detokenizer: Detokenizer::new(words()),
            stop: StopMatcher::new(&stops),
            grammar: None,
            ends: Arc::new([1].into()),
            closing: CLOSING,
            prompt_tokens: 5,
            max_tokens,
            completion_tokens: 0,
            cache: Arc::new(PrefixCache::new(100, 1)),
            place: Some(Arc::clone(&places).try_acquire_owned().expect("a place")),
        });
        Bench { picker, pieces, places }
    }

    impl Bench {
        /// What the engine goes on with when the model wants `token`.
        fn step(&self, token: usize) -> u32 {
            let mut logits = vec![0f32; ROWS];
            logits[token] = 5.0;
            self.after(&logits)
        }

        fn after(&self, logits: &[f32]) -> u32 {
            let logits = Tensor::from_slice(logits, logits.len(), &Device::Cpu).expect("logits");
            let out: Vec<f32> = self
                .picker
                .apply(&logits, &[])
                .expect("a choice")
                .to_vec1()
                .expect("logits");
            assert_eq!(out.iter().filter(|logit| **logit != 0.0).count(), 1);
            out.iter().position(|logit| *logit > 0.0).expect("one token") as u32
        }

        fn reply(&mut self) -> (String, Option<(FinishReason, usize)>) {
            let mut text = String::new();
            while let Ok(piece) = self.pieces.try_recv() {
                match piece.expect("no error") {
                    Delta::Text(piece) => text.push_str(&piece),
                    Delta::Finish { reason, usage } => return (text, Some((reason, usage.completion_tokens))),
                    other => panic!("{other:?}"),
                }
            }
            (text, None)
        }
    }

    #[test]
    fn the_models_end_ends_the_reply_and_frees_the_place() {
        let mut bench = bench(&[], 10);
        assert_eq!([bench.step(4), bench.step(3)], [4, 3]);
        assert_eq!(bench.places.available_permits(), 0);
        assert_eq!(bench.step(1), CLOSING);
        assert_eq!(bench.reply(), ("hello user".to_owned(), Some((FinishReason::Stop, 3))));
        assert_eq!(bench.places.available_permits(), 1);
        assert_eq!(bench.step(4), CLOSING);
        assert_eq!(bench.reply(), (String::new(), None));
    }

    #[test]
    fn the_longest_reply_ends_at_its_last_token() {
        let mut bench = bench(&[], 2);
        assert_eq!([bench.step(4), bench.step(4)], [4, CLOSING]);
        assert_eq!(
            bench.reply(),
            ("hello hello".to_owned(), Some((FinishReason::Length, 2)))
        );
    }

    #[test]
    fn a_stop_string_ends_the_reply_before_it() {
        let mut bench = bench(&["user"], 10);
        assert_eq!([bench.step(4), bench.step(3)], [4, CLOSING]);
        assert_eq!(bench.reply(), ("hello ".to_owned(), Some((FinishReason::Stop, 2))));
    }

    #[test]
    fn a_listener_that_left_ends_the_work_at_the_next_token() {
        let mut bench = bench(&[], 10);
        assert_eq!(bench.step(4), 4);
        bench.pieces.close();
        assert_eq!(bench.step(4), CLOSING);
        assert_eq!(bench.places.available_permits(), 1);
    }

    #[test]
    fn unusable_numbers_end_the_reply_with_an_error() {
        let mut bench = bench(&[], 10);
        assert_eq!(bench.after(&[f32::NAN; ROWS]), CLOSING);
        assert!(matches!(bench.pieces.try_recv(), Ok(Err(EngineError::Interrupted(_)))));
    }
}
