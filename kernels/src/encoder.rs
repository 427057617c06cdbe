//! The layers of a BERT-class encoder over texts laid end to end: no padding, so that no work is done for nothing, and
//! a token looks only at those of its own text.

use std::ops::Range;

use rayon::prelude::*;

use crate::maths;
use crate::panels::{Linear, Panels, SHARED, Then, WIDTH};

/// The sizes of a model.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Values a token.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Heads that a token's values are divided among.
    pub heads: usize,
    /// Values a token between the two halves of a layer's second part.
    pub inner: usize,
    /// The longest text, in tokens.
    pub positions: usize,
    /// Added to variances.
    pub epsilon: f32,
}

/// The model's weights.
pub struct Encoder {
    words: Vec<f32>,
    positions: Vec<f32>,
    kinds: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    hidden: usize,
    head: usize,
}

struct Layer {
    /// Queries, keys and values in one.
    attention: Linear,
    attended: Linear,
    attention_norm: Norm,
    widen: Linear,
    narrow: Linear,
    norm: Norm,
}

struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

impl Encoder {
    /// From the tensors of a checkpoint: `get` gives one by its usual name, and refuses it if its sizes are others (a
    /// size of 0 may be any).
    ///
    /// # Errors
    /// What is missing, or not supported.
    pub fn new(shape: Shape, get: &dyn Fn(&str, &[usize]) -> Result<Vec<f32>, String>) -> Result<Self, String> {
        let (hidden, inner) = (shape.hidden, shape.inner);
        let head = hidden / shape.heads.max(1);
        if hidden == 0 || !head.is_multiple_of(WIDTH) || head * shape.heads != hidden {
            return Err(format!(
                "heads of {head} are not supported, only of multiples of {WIDTH}"
            ));
        }
        if !inner.is_multiple_of(WIDTH) {
            return Err(format!(
                "an inner size of {inner} is not supported, only multiples of {WIDTH}"
            ));
        }
        let norm = |name: &str| {
            Ok::<_, String>(Norm {
                scale: get(&format!("{name}.weight"), &[hidden])?,
                shift: get(&format!("{name}.bias"), &[hidden])?,
                epsilon: shape.epsilon,
            })
        };
        let linear = |names: &[String], inputs: usize, outputs: usize| {
            let (mut rows, mut bias) = (Vec::new(), Vec::new());
            for name in names {
                rows.extend(get(&format!("{name}.weight"), &[outputs, inputs])?);
                bias.extend(get(&format!("{name}.bias"), &[outputs])?);
            }
            Ok::<_, String>(Linear::new(inputs, &rows, bias))
        };
        let layer = |number: usize| {
            let at = |part: &str| format!("encoder.layer.{number}.{part}");
            let three = ["query", "key", "value"].map(|part| at(&format!("attention.self.{part}")));
            Ok::<_, String>(Layer {
                attention: linear(&three, hidden, hidden)?,
                attended: linear(&[at("attention.output.dense")], hidden, hidden)?,
                attention_norm: norm(&at("attention.output.LayerNorm"))?,
                widen: linear(&[at("intermediate.dense")], hidden, inner)?,
                narrow: linear(&[at("output.dense")], inner, hidden)?,
                norm: norm(&at("output.LayerNorm"))?,
            })
        };
        Ok(Self {
            words: get("embeddings.word_embeddings.weight", &[0, hidden])?,
            positions: get("embeddings.position_embeddings.weight", &[shape.positions, hidden])?,
            kinds: get("embeddings.token_type_embeddings.weight", &[0, hidden])?,
            norm: norm("embeddings.LayerNorm")?,
            layers: (0..shape.layers).map(layer).collect::<Result<_, _>>()?,
            hidden,
            head,
        })
    }

    /// The mean of the last layer's tokens, at length 1, for each text. None may be longer than the model's positions.
    #[must_use]
    pub fn embed(&self, texts: &[&[u32]]) -> Vec<Vec<f32>> {
        let mut spans = Vec::with_capacity(texts.len());
        let mut rows = 0;
        for text in texts {
            spans.push(rows..rows + text.len());
            rows += text.len();
        }
        let mut x = self.look_up(texts, rows);
        self.norm.apply(&mut x);
        for layer in &self.layers {
            let attended = self.attend(&layer.attention.apply(&x, Then::Keep), &spans);
            add(&mut x, &layer.attended.apply(&attended, Then::Keep));
            layer.attention_norm.apply(&mut x);
            let wide = layer.widen.apply(&x, Then::Gelu);
            add(&mut x, &layer.narrow.apply(&wide, Then::Keep));
            layer.norm.apply(&mut x);
        }
        spans.into_iter().map(|span| pooled(&x, span)).collect()
    }

    /// The first layer's input: word, place and kind of each token.
    fn look_up(&self, texts: &[&[u32]], rows: usize) -> Panels {
        let mut x = Panels::zeros(rows, self.hidden);
        let tokens = || texts.iter().flat_map(|text| text.iter().enumerate());
        for (number, panel) in x.panels_mut().enumerate() {
            let part = |table: &[f32], row: usize, column: usize| {
                let at = row * self.hidden + number * WIDTH + column;
                table.get(at).copied().unwrap_or_default()
            };
            for (out, (place, word)) in panel.iter_mut().zip(tokens()) {
                for (column, value) in out.iter_mut().enumerate() {
                    *value = part(&self.words, *word as usize, column)
                        + part(&self.positions, place, column)
                        + part(&self.kinds, 0, column);
                }
            }
        }
        x
    }

    /// Each token's mean of the values of its text, weighed by how its query meets their keys; head by head.
    fn attend(&self, asked: &Panels, spans: &[Range<usize>]) -> Panels {
        let mut out = Panels::zeros(asked.rows, self.hidden);
        let panels: Vec<&[[f32; WIDTH]]> = asked.panels().collect();
        let (all, each) = (self.hidden / WIDTH, self.head / WIDTH);
        let scale = 1.0 / (self.head as f32).sqrt();
        out.data
            .par_chunks_exact_mut((asked.rows * self.head).max(1))
            .enumerate()
            .with_min_len(if asked.rows < SHARED { all } else { 1 })
            .for_each(|(number, out)| {
                let of = |part: usize| &panels[part * all + number * each..][..each];
                let (queries, keys, values) = (of(0), of(1), of(2));
                let out = out.as_chunks_mut::<WIDTH>().0;
                let mut weights = Vec::new();
                for span in spans {
                    for row in span.clone() {
                        weights.clear();
                        weights.extend(span.clone().map(|other| {
                            let met = queries.iter().zip(keys).map(|(q, k)| dot(&q[row], &k[other]));
                            met.sum::<f32>() * scale
                        }));
                        soften(&mut weights);
                        for (panel, values) in values.iter().enumerate() {
                            let sum = &mut out[panel * asked.rows + row];
                            for (weight, value) in weights.iter().zip(&values[span.clone()]) {
                                for column in 0..WIDTH {
                                    sum[column] = weight.mul_add(value[column], sum[column]);
                                }
                            }
                        }
                    }
                }
            });
        out
    }
}

impl Norm {
    fn apply(&self, x: &mut Panels) {
        let columns = self.scale.len() as f32;
        let mut means = vec![0.0_f32; x.rows];
        for panel in x.panels() {
            for (mean, values) in means.iter_mut().zip(panel) {
                *mean += values.iter().sum::<f32>() / columns;
            }
        }
        let mut spreads = vec![0.0_f32; x.rows];
        for panel in x.panels() {
            for ((spread, mean), values) in spreads.iter_mut().zip(&means).zip(panel) {
                *spread += values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / columns;
            }
        }
        for spread in &mut spreads {
            *spread = 1.0 / (*spread + self.epsilon).sqrt();
        }
        let (scales, shifts) = (self.scale.as_chunks::<WIDTH>().0, self.shift.as_chunks::<WIDTH>().0);
        for ((panel, scale), shift) in x.panels_mut().zip(scales).zip(shifts) {
            for ((values, mean), spread) in panel.iter_mut().zip(&means).zip(&spreads) {
                for column in 0..WIDTH {
                    values[column] = ((values[column] - mean) * spread).mul_add(scale[column], shift[column]);
                }
            }
        }
    }
}

fn add(x: &mut Panels, other: &Panels) {
    for (value, more) in x.data.iter_mut().zip(&other.data) {
        *value += more;
    }
}

fn dot(a: &[f32; WIDTH], b: &[f32; WIDTH]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Softmax.
fn soften(weights: &mut [f32]) {
    let most = weights.iter().copied().fold(f32::MIN, f32::max);
    for weight in weights.iter_mut() {
        *weight = maths::exp(*weight - most);
    }
    let sum: f32 = weights.iter().sum();
    for weight in weights {
        *weight /= sum;
    }
}

fn pooled(x: &Panels, span: Range<usize>) -> Vec<f32> {
    let mut vector = Vec::new();
    for panel in x.panels() {
        let mut sum = [0.0_f32; WIDTH];
        for values in &panel[span.clone()] {
            for column in 0..WIDTH {
                sum[column] += values[column];
            }
        }
        vector.extend(sum);
    }
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    for value in &mut vector {
        *value /= length.max(f32::MIN_POSITIVE);
    }
    vector
}
