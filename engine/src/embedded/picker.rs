//! mistral.rs calls a request's logits processor once a step. This one hands the logits to the [`Reply`], which chooses
//! the token. The engine is told the choice by logits that leave it no other, and told to stop by the one *closing*
//! token that it stops at. So nothing has to be guessed from the engine's own stream of pieces.
//!
//! The closing token is one that can't follow a reply in any later prompt. The engine keeps a finished sequence's keys
//! and values for prompts that begin alike, but has none for the sequence's last token, and would take zeros for them
//! if a prompt went on with that very token, as the next turn of a conversation does after an end-of-turn token.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};
use mistralrs_core::CustomLogitsProcessor;
use tokio::sync::OwnedSemaphorePermit;

use super::cache::PrefixCache;
use crate::generate::reply::{Reply, Step};

/// One reply in the making, on the engine's thread.
pub(super) struct Picker(Mutex<Work>);

/// What the engine works on.
pub(super) struct Work {
    pub(super) reply: Reply,
    /// The tokens that the engine has, the prompt's first.
    pub(super) tokens: Vec<u32>,
    /// The token that makes the engine stop.
    pub(super) closing: u32,
    pub(super) cache: Arc<PrefixCache>,
    /// The place in the engine; given up when the reply ends.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

impl Picker {
    pub(super) fn new(work: Work) -> Self {
        Self(Mutex::new(work))
    }
}

impl CustomLogitsProcessor for Picker {
    fn apply(&self, logits: &Tensor, _context: &[u32]) -> candle_core::Result<Tensor> {
        let mut logits = logits.to_vec1::<f32>()?;
        let token = self.0.lock().unwrap_or_else(PoisonError::into_inner).step(&mut logits);
        only(token, logits.len())
    }
}

/// Lets the engine read a prompt and stop, so that its prefix cache knows the prompt to its end.
pub(super) struct Primer {
    pub(super) prompt: Vec<u32>,
    pub(super) closing: u32,
    pub(super) cache: Arc<PrefixCache>,
}

impl CustomLogitsProcessor for Primer {
    fn apply(&self, logits: &Tensor, _context: &[u32]) -> candle_core::Result<Tensor> {
        let whole = self.prompt.iter().copied().chain([self.closing]);
        self.cache.add(whole.collect());
        only(self.closing, logits.elem_count())
    }
}

/// Logits that leave one token to choose.
fn only(token: u32, rows: usize) -> candle_core::Result<Tensor> {
    let mut logits = vec![0.0f32; rows];
    match logits.get_mut(token as usize) {
        Some(logit) => *logit = 1.0,
        None => candle_core::bail!("token {token} is not one of the model's {rows}"),
    }
    Tensor::from_vec(logits, rows, &Device::Cpu)
}

impl Work {
    /// The token that the engine is to go on with. At the reply's end its place is free.
    fn step(&mut self, logits: &mut [f32]) -> u32 {
        match self.reply.step(logits) {
            Step::Token(token) => {
                self.tokens.push(token);
                token
            }
            Step::End => {
                if self.place.take().is_some() {
                    self.tokens.push(self.closing);
                    self.cache.add(std::mem::take(&mut self.tokens));
                }
                self.closing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use candle_core::{Device, Tensor};
    use mistralrs_core::CustomLogitsProcessor;
    use tokio::sync::{Semaphore, mpsc};

    use super::{Picker, Work};
    use crate::{
        Delta, EngineError, FinishReason, Sampling,
        embedded::cache::PrefixCache,
        generate::{
            detokenize::Detokenizer,
            reply::{Length, Reply},
            sampling::Sampler,
            stop::StopMatcher,
            tokens::tests::words,
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
        let length = Length {
            prompt: 5,
            most: max_tokens,
        };
        let reply = Reply::new(
            sender,
            Sampler::new(&greedy, HashMap::new(), &[], 0),
            Detokenizer::new(words()),
            StopMatcher::new(&stops),
            Arc::new([1].into()),
            length,
        );
        let picker = Picker::new(Work {
            reply,
            tokens: vec![4; 5],
            closing: CLOSING,
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
                    Delta::StopString(_) => {}
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
