//! Texts of a step, packed one after the other without padding. What all examples begin with (the template's own words,
//! a common system prompt) is there once: its keys and values are seen by all, and all of them train it.

use std::ops::Range;

use candle_core::{Device, Tensor};
use habit_engine::native::{Lesson, Shape};
use habit_kernels::training::Packed;

use super::TrainError;
use crate::random::Random;

/// A tokenised example.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What the model reads: the prompt, and the answer but for its last token.
    pub tokens: Vec<u32>,
    /// The answer: `wanted[i]` is to follow `tokens[first + i]`.
    pub wanted: Vec<u32>,
    /// The last token of the prompt.
    pub first: usize,
    /// How much it counts.
    pub weight: f32,
}

impl Sample {
    /// Of a lesson with at most `longest` tokens: the beginning of a longer prompt is left out. `None` if hardly any of
    /// the prompt would be left.
    #[must_use]
    pub fn new(lesson: &Lesson, weight: f32, longest: usize) -> Option<Self> {
        let left = longest.checked_sub(lesson.answer.len()).filter(|left| *left >= 8)?;
        let prompt = &lesson.prompt[lesson.prompt.len().saturating_sub(left)..];
        let (_, read) = lesson.answer.split_last()?;
        let weight = if weight.is_finite() { weight.max(0.0) } else { 0.0 };
        (!prompt.is_empty() && weight > 0.0).then(|| Self {
            tokens: prompt.iter().chain(read).copied().collect(),
            wanted: lesson.answer.clone(),
            first: prompt.len() - 1,
            weight,
        })
    }
}

/// The texts of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// All tokens.
    pub tokens: Vec<u32>,
    /// Each token's place in its text.
    pub positions: Vec<usize>,
    /// The texts: what they share, the examples, the anchors.
    pub texts: Vec<(Range<usize>, bool)>,
    /// Rows of what all examples begin with.
    pub shared: usize,
    /// The rows after which a token of an answer is wanted, then all of the anchors'.
    pub rows: Vec<u32>,
    /// The tokens that are wanted, and how much each counts: 1 in all.
    pub wanted: Vec<(u32, f32)>,
    /// Rows of anchors: the last of `rows`.
    pub anchored: usize,
    /// Which of the texts are examples.
    examples: Range<usize>,
    /// What is added to their embeddings.
    noise: Option<Noise>,
}

/// Noise on embeddings.
#[derive(Debug, Clone, PartialEq)]
struct Noise {
    /// See [`super::Settings::noise`].
    most: f32,
    chance: Random,
}

impl Batch {
    /// Packs examples and general texts.
    #[must_use]
    pub fn new(samples: &[&Sample], anchors: &[&[u32]]) -> Self {
        let shared = shared(samples);
        let mut batch = Self {
            tokens: Vec::new(),
            positions: Vec::new(),
            texts: Vec::new(),
            shared,
            rows: Vec::new(),
            wanted: Vec::new(),
            anchored: 0,
            examples: 0..0,
            noise: None,
        };
        if let (Some(first), true) = (samples.first(), shared > 0) {
            batch.text(&first.tokens[..shared], 0, false);
        }
        batch.examples = batch.texts.len()..batch.texts.len() + samples.len();
        let count = |sample: &&Sample| sample.weight * sample.wanted.len() as f32;
        let all: f32 = samples.iter().map(count).sum();
        for sample in samples {
            let start = batch.tokens.len();
            batch.text(&sample.tokens[shared..], shared, shared > 0);
            let first = start + sample.first - shared;
            batch.rows.extend((first..batch.tokens.len()).map(|row| row as u32));
            let weight = sample.weight / all;
            batch.wanted.extend(sample.wanted.iter().map(|token| (*token, weight)));
        }
        for anchor in anchors {
            let start = batch.tokens.len();
            batch.text(anchor, 0, false);
            batch.rows.extend((start..batch.tokens.len()).map(|row| row as u32));
            batch.anchored += anchor.len();
        }
        batch
    }

    /// The same with noise on what the examples are read as; the same chance gives the same noise.
    pub(super) fn noisy(mut self, most: f32, chance: Random) -> Self {
        self.noise = (most > 0.0).then_some(Noise { most, chance });
        self
    }

    /// What is added to the embeddings, a row of `width` numbers for each token; `None` for nothing.
    pub(super) fn noise(&self, width: usize) -> Result<Option<Tensor>, TrainError> {
        let Some(Noise { most, mut chance }) = self.noise.clone() else {
            return Ok(None);
        };
        let mut numbers = vec![0.0_f32; self.tokens.len() * width];
        for (rows, _) in &self.texts[self.examples.clone()] {
            let most = most / ((rows.len() * width) as f32).sqrt();
            for number in &mut numbers[rows.start * width..rows.end * width] {
                *number = most * (2.0 * chance.unit() as f32 - 1.0);
            }
        }
        let noise = Tensor::from_vec(numbers, (self.tokens.len(), width), &Device::Cpu)?;
        Ok(Some(noise))
    }

    fn text(&mut self, tokens: &[u32], from: usize, goes_on: bool) {
        let start = self.tokens.len();
        self.tokens.extend(tokens);
        self.positions.extend(from..from + tokens.len());
        self.texts.push((start..self.tokens.len(), goes_on));
    }

    /// How attention is to see it.
    #[must_use]
    pub fn packed(&self, shape: &Shape) -> Packed {
        Packed {
            shared: self.shared,
            texts: self.texts.clone(),
            heads: shape.heads,
            kv_heads: shape.kv.heads,
            width: shape.kv.width,
        }
    }

    /// Cosine and sine of each row's pairs.
    #[must_use]
    pub fn turns(&self, frequencies: &[f32]) -> Vec<(f32, f32)> {
        let mut turns = Vec::with_capacity(self.positions.len() * frequencies.len());
        for position in &self.positions {
            turns.extend(frequencies.iter().map(|frequency| {
                let (sine, cosine) = (*position as f32 * frequency).sin_cos();
                (cosine, sine)
            }));
        }
        turns
    }

    /// The rows of `rows`, as a tensor.
    pub(super) fn wanted_rows(&self) -> Result<Tensor, TrainError> {
        Ok(Tensor::new(self.rows.as_slice(), &Device::Cpu)?)
    }
}

/// Tokens that all begin with, before any row after which something is wanted. With one example nothing is shared.
fn shared(samples: &[&Sample]) -> usize {
    let [first, others @ ..] = samples else { return 0 };
    let alike = |sample: &&Sample| {
        let same = first
            .tokens
            .iter()
            .zip(&sample.tokens)
            .take_while(|(a, b)| a == b)
            .count();
        same.min(sample.first)
    };
    others.iter().map(alike).min().map_or(0, |least| least.min(first.first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(prompt: &[u32], answer: &[u32]) -> Sample {
        let lesson = Lesson {
            prompt: prompt.to_vec(),
            answer: answer.to_vec(),
        };
        Sample::new(&lesson, 1.0, 64).unwrap()
    }

    #[test]
    fn what_is_shared_is_there_once() {
        let (a, b) = (sample(&[1, 2, 3, 4], &[8, 0]), sample(&[1, 2, 5], &[9, 9, 0]));
        let batch = Batch::new(&[&a, &b], &[&[7, 7]]);
        assert_eq!(batch.tokens, [1, 2, 3, 4, 8, 5, 9, 9, 7, 7]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 4, 2, 3, 4, 0, 1]);
        assert_eq!(batch.texts, [(0..2, false), (2..5, true), (5..8, true), (8..10, false)]);
        assert_eq!(batch.rows, [3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(
            batch.wanted.iter().map(|one| one.0).collect::<Vec<_>>(),
            [8, 0, 9, 9, 0]
        );
        assert!((batch.wanted.iter().map(|one| one.1).sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!((batch.shared, batch.anchored), (2, 2));
    }

    #[test]
    fn noise_is_on_examples_alone_and_the_same_again() {
        let (a, b) = (sample(&[1, 2, 3, 4], &[8, 0]), sample(&[1, 2, 5], &[9, 9, 0]));
        let noise = |most: f32, seed: u64, samples: &[&Sample]| {
            let batch = Batch::new(samples, &[&[7, 7]]).noisy(most, Random::new(seed));
            let noise = batch.noise(4).unwrap();
            noise.map(|noise| noise.to_vec2::<f32>().unwrap())
        };
        assert_eq!(noise(0.0, 1, &[&a, &b]), None);
        let some = noise(5.0, 1, &[&a, &b]).unwrap();
        assert_eq!(noise(5.0, 1, &[&a, &b]).as_ref(), Some(&some));
        assert_ne!(noise(5.0, 2, &[&a, &b]).as_ref(), Some(&some));
        let length = |row: &Vec<f32>| row.iter().fold(0.0_f32, |most, number| most.max(number.abs()));
        let none = |rows: &[Vec<f32>]| rows.iter().all(|row| length(row) == 0.0);
        assert!(
            none(&some[..2]) && none(&some[8..]),
            "neither what is shared nor anchors: {some:?}"
        );
        let most = 5.0 / 12.0_f32.sqrt();
        assert!(
            some[2..8].iter().all(|row| length(row) > 0.0 && length(row) <= most),
            "{some:?}"
        );
        let alone = noise(5.0, 1, &[&a]).unwrap();
        assert!(length(&alone[0]) > 0.0 && none(&alone[5..]), "{alone:?}");
    }

    #[test]
    fn the_row_before_an_answer_is_never_shared() {
        let (a, b) = (sample(&[1, 2], &[8, 0]), sample(&[1, 2], &[9, 0]));
        let batch = Batch::new(&[&a, &b], &[]);
        assert_eq!((batch.shared, batch.tokens.as_slice()), (1, [1, 2, 8, 2, 9].as_slice()));
    }

    #[test]
    fn long_prompts_lose_their_beginning() {
        let lesson = Lesson {
            prompt: (0..100).collect(),
            answer: vec![200, 0],
        };
        let sample = Sample::new(&lesson, 1.0, 32).unwrap();
        assert_eq!((sample.tokens[0], sample.tokens.len(), sample.first), (70, 31, 29));
        assert!(
            Sample::new(
                &Lesson {
                    prompt: vec![1],
                    answer: vec![0; 40]
                },
                1.0,
                32
            )
            .is_none()
        );
        assert!(Sample::new(&lesson, f32::NAN, 32).is_none() && Sample::new(&lesson, -1.0, 32).is_none());
    }
}
