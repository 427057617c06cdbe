//! The layers of a BERT-class encoder over texts laid end to end: no padding, so that no work is done for nothing, and
//! a token looks only at those of its own text.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use wide::f32x8;

use crate::linear::{Linear, Rows, Then};
use crate::maths;
use crate::panels::{Panels, WIDTH};

/// Tokens that go through the model together, about: their activations stay in the cache, and weights are read once for all.
/// Passes are shared out among threads whole, so that these need not meet after each product.
const PASS: usize = 64;

/// Tokens from which on the products of a single pass (a long text) are shared out. A question has fewer: on one thread it
/// takes 2 ms whatever else the machine does, while threads that meet at each of two dozen products wait for each other where
/// cores are busy.
const SHARED: usize = 96;

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
    spare: Mutex<Vec<Work>>,
}

/// The memory that a pass works in, which the next one uses again: fresh memory comes from the kernel, which clears it.
#[derive(Default)]
struct Work {
    x: Panels,
    given: Rows,
    asked: Panels,
    attended: Panels,
    more: Panels,
    wide: Panels,
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
            spare: Mutex::default(),
        })
    }

    /// Whether [`Encoder::embed`] needs no other thread for these texts.
    #[must_use]
    pub fn is_alone(texts: &[&[u32]]) -> bool {
        let tokens: usize = texts.iter().map(|text| text.len()).sum();
        tokens <= PASS || (texts.len() == 1 && tokens < SHARED)
    }

    /// The mean of the last layer's tokens, at length 1, for each text, on the threads of the present pool (see
    /// [`Encoder::is_alone`]). None may be longer than the model's positions.
    #[must_use]
    pub fn embed(&self, texts: &[&[u32]]) -> Vec<Vec<f32>> {
        let mut passes = Vec::new();
        let mut rest = texts;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = rest.iter().take_while(|text| {
                tokens += text.len();
                tokens <= PASS
            });
            let (pass, after) = rest.split_at(fits.count().max(1));
            passes.push(pass);
            rest = after;
        }
        match passes[..] {
            [] => Vec::new(),
            [one] => self.pass(one, one.iter().map(|text| text.len()).sum::<usize>() >= SHARED),
            _ => passes
                .into_par_iter()
                .flat_map_iter(|pass| self.pass(pass, false))
                .collect(),
        }
    }

    /// Some texts, all at once. `shared`: products are shared out among threads.
    fn pass(&self, texts: &[&[u32]], shared: bool) -> Vec<Vec<f32>> {
        let mut spans = Vec::with_capacity(texts.len());
        let mut rows = 0;
        for text in texts {
            spans.push(rows..rows + text.len());
            rows += text.len();
        }
        let mut work = self.spare().pop().unwrap_or_default();
        let vectors = self.work(texts, &spans, rows, shared, &mut work);
        // That of a long text goes.
        if rows <= SHARED {
            self.spare().push(work);
        }
        vectors
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Work>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(
        &self,
        texts: &[&[u32]],
        spans: &[Range<usize>],
        rows: usize,
        shared: bool,
        work: &mut Work,
    ) -> Vec<Vec<f32>> {
        let Work {
            x,
            given,
            asked,
            attended,
            more,
            wide,
        } = work;
        self.look_up(texts, rows, x);
        self.norm.apply(x);
        let mut apply = |linear: &Linear, x: &Panels, then: Then, out: &mut Panels| {
            given.take(x);
            linear.apply(given, then, shared, out);
        };
        for layer in &self.layers {
            apply(&layer.attention, x, Then::Keep, asked);
            self.attend(asked, spans, shared, attended);
            apply(&layer.attended, attended, Then::Keep, more);
            add(x, more);
            layer.attention_norm.apply(x);
            apply(&layer.widen, x, Then::Gelu, wide);
            apply(&layer.narrow, wide, Then::Keep, more);
            add(x, more);
            layer.norm.apply(x);
        }
        spans.iter().map(|span| pooled(x, span.clone())).collect()
    }

    /// The first layer's input: word, place and kind of each token.
    fn look_up(&self, texts: &[&[u32]], rows: usize, x: &mut Panels) {
        x.resize(rows, self.hidden);
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
    }

    /// Each token's mean of the values of its text, weighed by how its query meets their keys; head by head.
    fn attend(&self, asked: &Panels, spans: &[Range<usize>], shared: bool, out: &mut Panels) {
        let panels: Vec<&[[f32; WIDTH]]> = asked.panels().collect();
        let (all, each) = (self.hidden / WIDTH, self.head / WIDTH);
        let rows = asked.rows;
        out.resize(rows, self.hidden);
        let one = |(number, out): (usize, &mut [f32])| {
            let of = |part: usize| &panels[part * all + number * each..][..each];
            let head = Head {
                queries: of(0),
                keys: of(1),
                values: of(2),
                scale: 1.0 / (self.head as f32).sqrt(),
            };
            head.attend(spans, rows, out.as_chunks_mut().0);
        };
        let size = (rows * self.head).max(1);
        if shared {
            out.data.par_chunks_exact_mut(size).enumerate().for_each(one);
        } else {
            out.data.chunks_exact_mut(size).enumerate().for_each(one);
        }
    }
}

/// One head's panels.
struct Head<'a> {
    queries: &'a [&'a [[f32; WIDTH]]],
    keys: &'a [&'a [[f32; WIDTH]]],
    values: &'a [&'a [[f32; WIDTH]]],
    scale: f32,
}

impl Head<'_> {
    fn attend(&self, spans: &[Range<usize>], rows: usize, out: &mut [[f32; WIDTH]]) {
        let mut weights = Vec::new();
        for span in spans {
            for row in span.clone() {
                weights.clear();
                weights.resize(span.len(), 0.0);
                for (queries, keys) in self.queries.iter().zip(self.keys) {
                    let query = &queries[row];
                    for (weight, key) in weights.iter_mut().zip(&keys[span.clone()]) {
                        *weight += dot(query, key);
                    }
                }
                soften(&mut weights, self.scale);
                for (panel, values) in self.values.iter().enumerate() {
                    let mut sum = [f32x8::ZERO; 2];
                    for (weight, value) in weights.iter().zip(&values[span.clone()]) {
                        let (weight, value) = (f32x8::splat(*weight), halves(value));
                        sum = [weight.mul_add(value[0], sum[0]), weight.mul_add(value[1], sum[1])];
                    }
                    out[panel * rows + row] = whole(sum);
                }
            }
        }
    }
}

impl Norm {
    fn apply(&self, x: &mut Panels) {
        let share = 1.0 / self.scale.len() as f32;
        // Sums of eight columns each, which are added up at the end.
        let (mut sums, mut squares) = (vec![f32x8::ZERO; x.rows], vec![f32x8::ZERO; x.rows]);
        for panel in x.panels() {
            for (sum, values) in sums.iter_mut().zip(panel) {
                let [left, right] = halves(values);
                *sum += left + right;
            }
        }
        let means: Vec<f32x8> = sums.iter().map(|sum| f32x8::splat(sum.reduce_add() * share)).collect();
        for panel in x.panels() {
            for ((square, mean), values) in squares.iter_mut().zip(&means).zip(panel) {
                let [left, right] = halves(values).map(|half| half - *mean);
                *square = right.mul_add(right, left.mul_add(left, *square));
            }
        }
        let spread = |square: &f32x8| f32x8::splat(1.0 / square.reduce_add().mul_add(share, self.epsilon).sqrt());
        let spreads: Vec<f32x8> = squares.iter().map(spread).collect();
        let (scales, shifts) = (self.scale.as_chunks().0, self.shift.as_chunks().0);
        for ((panel, scale), shift) in x.panels_mut().zip(scales).zip(shifts) {
            let (scale, shift) = (halves(scale), halves(shift));
            for ((values, mean), spread) in panel.iter_mut().zip(&means).zip(&spreads) {
                let [left, right] = halves(values).map(|half| (half - *mean) * *spread);
                *values = whole([left.mul_add(scale[0], shift[0]), right.mul_add(scale[1], shift[1])]);
            }
        }
    }
}

fn add(x: &mut Panels, other: &Panels) {
    for (value, more) in x.data.iter_mut().zip(&other.data) {
        *value += more;
    }
}

/// Sixteen values as two registers, and back.
#[inline]
fn halves(row: &[f32; WIDTH]) -> [f32x8; 2] {
    let mut halves = [f32x8::ZERO; 2];
    for (half, values) in halves.iter_mut().zip(row.as_chunks().0) {
        *half = f32x8::new(*values);
    }
    halves
}

#[inline]
fn whole(halves: [f32x8; 2]) -> [f32; WIDTH] {
    let mut row = [0.0; WIDTH];
    for (values, half) in row.as_chunks_mut().0.iter_mut().zip(halves) {
        *values = half.to_array();
    }
    row
}

#[inline]
fn dot(a: &[f32; WIDTH], b: &[f32; WIDTH]) -> f32 {
    let (a, b) = (halves(a), halves(b));
    a[1].mul_add(b[1], a[0] * b[0]).reduce_add()
}

/// Softmax, of the weights times this.
fn soften(weights: &mut [f32], scale: f32) {
    let most = weights.iter().copied().fold(f32::MIN, f32::max);
    for weight in weights.iter_mut() {
        *weight = maths::exp((*weight - most) * scale);
    }
    let sum = 1.0 / weights.iter().sum::<f32>();
    for weight in weights {
        *weight *= sum;
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
