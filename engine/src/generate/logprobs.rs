//! The probabilities of a reply's tokens: from the model's own logits, before anything is done to them, kept until the
//! text that they belong to goes out.

use std::collections::VecDeque;

use super::vocabulary::Vocabulary;
use crate::{TokenLogprob, TopLogprob};

/// What stands for the logarithm of nothing, which JSON has no number for. OpenAI's API uses the same.
const IMPOSSIBLE: f64 = -9999.0;

/// The probabilities of one reply's tokens.
///
/// Places are counted in bytes: first in all that the model wrote, then in what of it is text for the reader. A token
/// belongs to the text in which its first byte is.
pub(crate) struct Scores {
    /// How many of the likeliest tokens are named for each.
    top: usize,
    vocabulary: Vocabulary,
    /// Tokens of which it isn't known yet whether they are text, with their places in all.
    written: VecDeque<(usize, TokenLogprob)>,
    /// Tokens of text that waits, with their places in the text.
    text: VecDeque<(usize, TokenLogprob)>,
    /// Bytes written, those of them that were told apart, those of these that are text, those that went out.
    bytes: usize,
    sorted: usize,
    readable: usize,
    released: usize,
}

impl Scores {
    pub(crate) fn new(top: usize, vocabulary: Vocabulary) -> Self {
        Self {
            top,
            vocabulary,
            written: VecDeque::new(),
            text: VecDeque::new(),
            bytes: 0,
            sorted: 0,
            readable: 0,
            released: 0,
        }
    }

    /// The probabilities at one place, after which the token is known by [`Scores::named`].
    pub(crate) fn at(&self, logits: &[f32]) -> Place {
        let normaliser = log_sum_exp(logits);
        let top = likeliest(logits, self.top);
        let top = top.into_iter().map(|id| {
            let (token, bytes) = self.text_of(id);
            let logprob = logprob(logits, id, normaliser);
            TopLogprob { token, bytes, logprob }
        });
        Place {
            top: top.collect(),
            normaliser,
        }
    }

    /// What is said of `token`.
    pub(crate) fn named(&self, token: u32, logprob: f64, top: Vec<TopLogprob>) -> TokenLogprob {
        let (text, bytes) = self.text_of(token);
        TokenLogprob {
            token: text,
            bytes,
            logprob,
            top,
        }
    }

    /// Notes a token and the text that came of it (none while a character is incomplete).
    pub(crate) fn note(&mut self, mut token: TokenLogprob, piece: &str) {
        // Some tokenizers leave out the space before a text's first word.
        if self.bytes == 0 && self.written.is_empty() && token.bytes.strip_prefix(b" ") == Some(piece.as_bytes()) {
            token.bytes.remove(0);
            piece.clone_into(&mut token.token);
        }
        self.written.push_back((self.bytes, token));
        self.bytes += piece.len();
    }

    /// Text that came without a token of its own.
    pub(crate) fn more(&mut self, piece: &str) {
        self.bytes += piece.len();
    }

    /// The next `bytes` of what was written are text, or are not.
    pub(crate) fn sort(&mut self, bytes: usize, is_text: bool) {
        let end = self.sorted + bytes;
        while self.written.front().is_some_and(|(start, _)| *start < end) {
            let Some((start, token)) = self.written.pop_front() else {
                break;
            };
            if is_text {
                let within = start.saturating_sub(self.sorted);
                self.text.push_back((self.readable + within, token));
            }
        }
        self.sorted = end;
        if is_text {
            self.readable += bytes;
        }
    }

    /// The tokens of the next `bytes` of text, which go out.
    pub(crate) fn release(&mut self, bytes: usize) -> Vec<TokenLogprob> {
        self.released += bytes;
        let mut tokens = Vec::new();
        while self.text.front().is_some_and(|(start, _)| *start < self.released) {
            tokens.extend(self.text.pop_front().map(|(_, token)| token));
        }
        tokens
    }

    /// The tokens at the end that gave no text, when all text went out.
    pub(crate) fn rest(&mut self) -> Vec<TokenLogprob> {
        let text = self.text.drain(..);
        text.chain(self.written.drain(..)).map(|(_, token)| token).collect()
    }

    fn text_of(&self, token: u32) -> (String, Vec<u8>) {
        let bytes = self.vocabulary.bytes(token);
        (String::from_utf8_lossy(&bytes).into_owned(), bytes)
    }
}

/// The probabilities at one place of a reply.
pub(crate) struct Place {
    pub(crate) top: Vec<TopLogprob>,
    normaliser: f64,
}

impl Place {
    /// The natural logarithm of the token's probability.
    pub(crate) fn logprob(&self, logits: &[f32], token: u32) -> f64 {
        logprob(logits, token, self.normaliser)
    }
}

fn logprob(logits: &[f32], token: u32, normaliser: f64) -> f64 {
    let logit = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let logprob = f64::from(logit) - normaliser;
    if logprob.is_finite() {
        logprob.clamp(IMPOSSIBLE, 0.0)
    } else {
        IMPOSSIBLE
    }
}

/// The logarithm of the sum of all tokens' weights.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let finite = || {
        logits
            .iter()
            .filter(|logit| logit.is_finite())
            .map(|logit| f64::from(*logit))
    };
    let max = finite().fold(f64::NEG_INFINITY, f64::max);
    max + finite().map(|logit| (logit - max).exp()).sum::<f64>().ln()
}

/// The ids of the `count` largest logits, largest first; of equal ones the smaller id.
fn likeliest(logits: &[f32], count: usize) -> Vec<u32> {
    let mut best: Vec<u32> = Vec::with_capacity(count + 1);
    let logit = |id: u32| logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    for (id, value) in (0u32..).zip(logits) {
        let full = best.len() == count;
        if !value.is_finite() || full && best.last().is_none_or(|last| *value <= logit(*last)) {
            continue;
        }
        let at = best.partition_point(|other| logit(*other) >= *value);
        best.insert(at, id);
        best.truncate(count);
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{IMPOSSIBLE, Scores, likeliest};
    use crate::generate::{tokens::tests::words, vocabulary::Vocabulary};

    fn scores(top: usize) -> Scores {
        Scores::new(top, Vocabulary::new(words(), None))
    }

    #[test]
    fn natural_logarithms_of_the_softmax() {
        let logits = [0.0, 3f32.ln(), f32::NEG_INFINITY, f32::NAN];
        let scores = scores(2);
        let place = scores.at(&logits);
        assert!((place.logprob(&logits, 0) - 0.25f64.ln()).abs() < 1e-7);
        assert!((place.logprob(&logits, 1) - 0.75f64.ln()).abs() < 1e-7);
        assert_eq!(place.logprob(&logits, 2).to_bits(), IMPOSSIBLE.to_bits());
        assert_eq!(place.logprob(&logits, 99).to_bits(), IMPOSSIBLE.to_bits());
        let top: Vec<&str> = place.top.iter().map(|top| top.token.as_str()).collect();
        assert_eq!(top, ["<end>", "<unk>"]);
    }

    #[test]
    fn a_token_goes_out_with_its_first_byte() {
        let mut scores = scores(0);
        for (token, piece) in [(4, "hello"), (3, ""), (5, " é"), (3, "STOP")] {
            let token = scores.named(token, -1.0, Vec::new());
            scores.note(token, piece);
        }
        // The reader sees "hel" of the first, then what follows a mark of three bytes.
        scores.sort(5, true);
        assert_eq!(scores.release(3).len(), 1);
        assert_eq!(scores.release(2).len(), 0);
        scores.sort(3, true);
        assert_eq!(scores.release(3).len(), 2, "the token without text goes with the next");
        scores.sort(4, false);
        assert_eq!(scores.rest().len(), 0);
    }

    proptest! {
        #[test]
        fn the_likeliest_are_those_of_a_sort(logits in prop::collection::vec(-4i8..4, 0..60), count in 0usize..8) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let mut sorted: Vec<u32> = (0..logits.len() as u32).collect();
            sorted.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
            sorted.truncate(count);
            prop_assert_eq!(likeliest(&logits, count), sorted);
        }

        #[test]
        fn probabilities_add_up_to_one(logits in prop::collection::vec(-30f32..30.0, 1..50)) {
            let scores = scores(0);
            let place = scores.at(&logits);
            let sum: f64 = (0..logits.len() as u32).map(|id| place.logprob(&logits, id).exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9);
        }
    }
}
