//! From logits to the next token: penalties, temperature, top-k, top-p, min-p, and a generator of our own.
//!
//! The engine's sampler has one random generator for all requests, so a reply would depend on what else runs. Here a
//! draw depends only on the request's seed and the position in the reply: same seed and request, same text.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

use crate::Sampling;

/// Below this temperature the likeliest token is taken: the quotients would overflow long before they mattered.
const GREEDY_BELOW: f64 = 1e-5;

/// The share of candidates sorted first when the nucleus is looked for: it is nearly always among them.
const NUCLEUS_GUESS: usize = 256;

/// An odd number without a pattern, which makes other seeds of a seed.
const ANOTHER_ROUND: u64 = 0xD1B5_4A32_D192_ED03;

/// Chooses the tokens of one reply.
pub(crate) struct Sampler {
    temperature: f64,
    top_p: f64,
    top_k: usize,
    min_p: f64,
    frequency_penalty: f32,
    presence_penalty: f32,
    /// Only where it is on.
    repetition_penalty: Option<f32>,
    bias: HashMap<u32, f32>,
    seed: u64,
    position: u64,
    prompt: HashSet<u32>,
    written: HashMap<u32, u16>,
}

/// A token that may be chosen, and its weight: its logit first, then its share of the likeliest one's probability.
#[derive(Clone, Copy)]
struct Candidate {
    id: u32,
    weight: f64,
}

impl Sampler {
    /// A sampler for a reply to `prompt`; `random` is the seed where the request has none.
    pub(crate) fn new(sampling: &Sampling, bias: HashMap<u32, f32>, prompt: &[u32], random: u64) -> Self {
        let on = |penalty: &f32| (penalty - 1.0).abs() > f32::EPSILON;
        let repetition_penalty = sampling.repetition_penalty.filter(on);
        Self {
            temperature: sampling.temperature.unwrap_or(1.0),
            top_p: sampling.top_p.unwrap_or(1.0),
            top_k: sampling.top_k.unwrap_or(0),
            min_p: sampling.min_p.unwrap_or(0.0),
            frequency_penalty: sampling.frequency_penalty.unwrap_or(0.0),
            presence_penalty: sampling.presence_penalty.unwrap_or(0.0),
            repetition_penalty,
            bias,
            seed: sampling.seed.unwrap_or(random),
            position: 0,
            // Only the repetition penalty looks at the prompt.
            prompt: repetition_penalty
                .map(|_| prompt.iter().copied().collect())
                .unwrap_or_default(),
            written: HashMap::new(),
        }
    }

    /// Chooses a token of adjusted logits. Tokens of logit minus infinity are never chosen; `None` when no token is left
    /// (the model gave no usable numbers). Of another `round` at the same place the draw is another.
    pub(crate) fn choose(&self, logits: &[f32], round: u64) -> Option<u32> {
        if self.temperature < GREEDY_BELOW {
            likeliest(logits)
        } else {
            self.draw(logits, round)
        }
    }

    /// Remembers the token that the reply goes on with.
    pub(crate) fn note(&mut self, token: u32) {
        self.position += 1;
        let count = self.written.entry(token).or_default();
        *count = count.saturating_add(1);
    }

    /// All in one, for a reply that may go on with any token.
    #[cfg(test)]
    pub(crate) fn pick(&mut self, logits: &mut [f32]) -> Option<u32> {
        self.adjust(logits);
        let token = self.choose(logits, 0)?;
        self.note(token);
        Some(token)
    }

    /// The bias and the penalties. OpenAI's two count what the reply has said so far; the repetition penalty, as
    /// llama.cpp and the webui mean it, also counts the prompt.
    pub(crate) fn adjust(&self, logits: &mut [f32]) {
        for (token, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        for (token, count) in &self.written {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit -= f32::from(*count) * self.frequency_penalty + self.presence_penalty;
            }
        }
        if let Some(penalty) = self.repetition_penalty {
            let unsaid = self.prompt.iter().filter(|token| !self.written.contains_key(token));
            for token in self.written.keys().chain(unsaid) {
                if let Some(logit) = logits.get_mut(*token as usize) {
                    *logit = if *logit > 0.0 {
                        *logit / penalty
                    } else {
                        *logit * penalty
                    };
                }
            }
        }
    }

    /// Draws by probability, after temperature, top-k, top-p and min-p, in this order.
    fn draw(&self, logits: &[f32], round: u64) -> Option<u32> {
        let mut candidates: Vec<Candidate> = (0u32..)
            .zip(logits)
            .filter(|(_, logit)| logit.is_finite())
            .map(|(id, logit)| Candidate {
                id,
                weight: f64::from(*logit),
            })
            .collect();
        if self.top_k > 0 && self.top_k < candidates.len() {
            candidates.select_nth_unstable_by(self.top_k - 1, by_weight);
            candidates.truncate(self.top_k);
        }
        let max = candidates
            .iter()
            .map(|candidate| candidate.weight)
            .fold(f64::NEG_INFINITY, f64::max);
        for candidate in &mut candidates {
            candidate.weight = ((candidate.weight - max) / self.temperature).exp();
        }
        if self.top_p < 1.0 {
            keep_nucleus(&mut candidates, self.top_p);
        }
        if self.min_p > 0.0 {
            // The likeliest token's weight is 1, so a weight is already the share that min-p asks for.
            candidates.retain(|candidate| candidate.weight >= self.min_p);
        }
        // The order must not depend on how the candidates were partitioned.
        candidates.sort_unstable_by_key(|candidate| candidate.id);
        let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
        let seed = self.seed ^ round.wrapping_mul(ANOTHER_ROUND);
        let mut left = uniform(seed, self.position) * total;
        for candidate in &candidates {
            left -= candidate.weight;
            if left < 0.0 {
                return Some(candidate.id);
            }
        }
        // Rounding may leave a crumb; a token of weight 0 must not get it.
        candidates
            .iter()
            .rev()
            .find(|candidate| candidate.weight > 0.0)
            .map(|candidate| candidate.id)
    }
}

/// Heavier first; of equal weights the smaller id, so that the order is total.
fn by_weight(a: &Candidate, b: &Candidate) -> Ordering {
    b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
}

/// The first of the likeliest tokens.
fn likeliest(logits: &[f32]) -> Option<u32> {
    let finite = (0u32..).zip(logits).filter(|(_, logit)| logit.is_finite());
    finite.min_by(|(_, a), (_, b)| b.total_cmp(a)).map(|(id, _)| id)
}

/// Keeps the smallest set of the heaviest candidates that has at least the share `top_p` of all weight.
fn keep_nucleus(candidates: &mut Vec<Candidate>, top_p: f64) {
    let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
    let mut sorted = NUCLEUS_GUESS;
    loop {
        sorted = sorted.min(candidates.len());
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted, by_weight);
        }
        candidates[..sorted].sort_unstable_by(by_weight);
        let mut sum = 0.0;
        let within = candidates[..sorted].iter().position(|candidate| {
            sum += candidate.weight;
            sum >= top_p * total
        });
        if let Some(last) = within {
            candidates.truncate(last + 1);
            return;
        }
        if sorted == candidates.len() {
            return;
        }
        sorted *= 8;
    }
}

/// A number in [0, 1) that depends on nothing but its arguments: SplitMix64 (Steele, Lea and Flood, 2014), with the
/// position as the number of steps.
fn uniform(seed: u64, position: u64) -> f64 {
    let mut z = seed.wrapping_add(position.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    // The upper 53 bits are what a double holds exactly.
    (z >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{Sampler, uniform};
    use crate::Sampling;

    fn sampler(sampling: &Sampling) -> Sampler {
        Sampler::new(sampling, HashMap::new(), &[], 7)
    }

    fn seen(sampling: &Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        for seed in 0..draws as u64 {
            let mut sampler = sampler(&Sampling {
                seed: Some(seed),
                ..sampling.clone()
            });
            counts[sampler.pick(&mut logits.to_vec()).expect("a token") as usize] += 1;
        }
        counts
    }

    #[test]
    fn zero_is_greedy_and_takes_the_first_of_equals() {
        let mut greedy = sampler(&Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        });
        assert_eq!(greedy.pick(&mut [0.0, 3.0, 3.0, f32::NAN]), Some(1));
        assert_eq!(greedy.pick(&mut [f32::NEG_INFINITY, f32::NAN]), None);
        assert_eq!(greedy.pick(&mut []), None);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0f32, 3f32.ln(), f32::NEG_INFINITY];
        let counts = seen(&Sampling::default(), &logits, 4000);
        assert_eq!(counts[2], 0);
        let share = counts[1] as f64 / 4000.0;
        assert!((share - 0.75).abs() < 0.03, "{share}");
    }

    #[test]
    fn top_k_top_p_and_min_p_cut() {
        let logits: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
        let kept = |sampling: &Sampling| seen(sampling, &logits, 500).iter().filter(|count| **count > 0).count();
        assert_eq!(kept(&Sampling::default()), 4);
        assert_eq!(
            kept(&Sampling {
                top_k: Some(2),
                ..Sampling::default()
            }),
            2
        );
        assert_eq!(
            kept(&Sampling {
                top_p: Some(0.6),
                ..Sampling::default()
            }),
            2
        );
        assert_eq!(
            kept(&Sampling {
                top_p: Some(0.01),
                ..Sampling::default()
            }),
            1
        );
        assert_eq!(
            kept(&Sampling {
                min_p: Some(0.2),
                ..Sampling::default()
            }),
            3
        );
        assert_eq!(
            kept(&Sampling {
                min_p: Some(1.0),
                ..Sampling::default()
            }),
            1
        );
    }

    #[test]
    fn penalties_turn_the_greedy_choice() {
        let greedy = Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        };
        let mut frequency = sampler(&Sampling {
            frequency_penalty: Some(0.6),
            ..greedy.clone()
        });
        let said: Vec<_> = (0..3).map(|_| frequency.pick(&mut [1.0, 0.0])).collect();
        assert_eq!(said, [Some(0), Some(0), Some(1)]);
        let mut presence = sampler(&Sampling {
            presence_penalty: Some(1.5),
            ..greedy.clone()
        });
        assert_eq!(
            (presence.pick(&mut [1.0, 0.0]), presence.pick(&mut [1.0, 0.0])),
            (Some(0), Some(1))
        );
        let repetition = Sampling {
            repetition_penalty: Some(2.0),
            ..greedy
        };
        assert_eq!(
            Sampler::new(&repetition, HashMap::new(), &[0], 7).pick(&mut [1.0, 0.6]),
            Some(1)
        );
    }

    #[test]
    fn a_bias_bans_or_forces() {
        let greedy = Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        };
        let mut biased = Sampler::new(&greedy, HashMap::from([(0, -100.0), (9, 1.0)]), &[], 7);
        assert_eq!(biased.pick(&mut [1.0, 0.0]), Some(1));
    }

    proptest! {
        #[test]
        fn same_seed_same_tokens(seed: u64, logits in prop::collection::vec(-8f32..8.0, 1..600), top_p in 0.05f64..1.0) {
            let sampling = Sampling { seed: Some(seed), top_p: Some(top_p), ..Sampling::default() };
            let (mut one, mut two) = (sampler(&sampling), Sampler::new(&sampling, HashMap::new(), &[], 99));
            for _ in 0..4 {
                prop_assert_eq!(one.pick(&mut logits.clone()), two.pick(&mut logits.clone()));
            }
        }

        #[test]
        fn uniform_stays_within(seed: u64, position: u64) {
            prop_assert!((0.0..1.0).contains(&uniform(seed, position)));
        }
    }
}
