//! What a trainer computes besides products of matrices, each with its derivative: norms, turned positions, gates,
//! attention over packed texts, and the two losses. Rows are independent of each other but in attention.

use std::ops::Range;

use rayon::prelude::*;
use wide::f32x8;

use crate::maths::exp;

/// Rows of elementwise work that a thread takes at once.
const AT_ONCE: usize = 16;

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = f32x8::ZERO;
    for (a, b) in a.iter().zip(b) {
        sums = f32x8::from(*a).mul_add(f32x8::from(*b), sums);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.reduce_add() + rest
}

/// Adds `factor * x`.
#[inline]
fn add_times(to: &mut [f32], factor: f32, x: &[f32]) {
    for (to, x) in to.iter_mut().zip(x) {
        *to = factor.mul_add(*x, *to);
    }
}

/// `to += factor * x`, and `bias` to each row of `to`, where there is one.
pub fn add_scaled(to: &mut [f32], factor: f32, x: &[f32], bias: Option<&[f32]>, width: usize) {
    let each = to.par_chunks_mut(width).with_min_len(AT_ONCE).zip(x.par_chunks(width));
    each.for_each(|(to, x)| {
        add_times(to, factor, x);
        if let Some(bias) = bias {
            add_times(to, 1.0, bias);
        }
    });
}

/// Each row over its root mean square, times the weights.
pub fn rms_norm(x: &[f32], weights: &[f32], epsilon: f32, out: &mut [f32]) {
    let width = weights.len();
    let each = out.par_chunks_mut(width).with_min_len(AT_ONCE).zip(x.par_chunks(width));
    each.for_each(|(out, x)| {
        let factor = 1.0 / (dot(x, x) / width as f32 + epsilon).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weights) {
            *out = x * factor * weight;
        }
    });
}

/// The gradient of [`rms_norm`]'s `x`, from that of its result.
pub fn rms_norm_back(x: &[f32], weights: &[f32], epsilon: f32, gradient: &[f32], out: &mut [f32]) {
    let width = weights.len();
    let each = out.par_chunks_mut(width).with_min_len(AT_ONCE).zip(x.par_chunks(width));
    each.zip(gradient.par_chunks(width)).for_each(|((out, x), gradient)| {
        let factor = 1.0 / (dot(x, x) / width as f32 + epsilon).sqrt();
        for ((out, gradient), weight) in out.iter_mut().zip(gradient).zip(weights) {
            *out = gradient * weight;
        }
        let along = -dot(out, x) * factor * factor * factor / width as f32;
        for (out, x) in out.iter_mut().zip(x) {
            *out = along.mul_add(*x, *out * factor);
        }
    });
}

/// Turns the heads of each row by its position: number `i` of the first half with number `i` of the second, by the
/// angle with this cosine and sine (`turns`: so many pairs a row). What lies beyond the turned numbers of a head stays.
/// `back` turns the other way, which is the gradient.
pub fn turn(x: &mut [f32], heads: usize, turns: &[(f32, f32)], pairs: usize, back: bool) {
    let rows = turns.len() / pairs.max(1);
    let width = x.len() / rows.max(1);
    let sign = if back { -1.0 } else { 1.0 };
    let each = x
        .par_chunks_mut(width)
        .with_min_len(AT_ONCE)
        .zip(turns.par_chunks(pairs));
    each.for_each(|(x, turns)| {
        for head in x.chunks_exact_mut(width / heads) {
            let (first, second) = head[..2 * pairs].split_at_mut(pairs);
            for ((a, b), (cosine, sine)) in first.iter_mut().zip(second).zip(turns) {
                let sine = sine * sign;
                (*a, *b) = (*a * cosine - *b * sine, *a * sine + *b * cosine);
            }
        }
    });
}

/// silu(gate) * up.
pub fn gated(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let each = out
        .par_chunks_mut(1 << 14)
        .zip(gate.par_chunks(1 << 14))
        .zip(up.par_chunks(1 << 14));
    each.for_each(|((out, gate), up)| {
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate / (1.0 + exp(-gate)) * up;
        }
    });
}

/// The gradients of [`gated`]'s gate and up.
pub fn gated_back(gate: &[f32], up: &[f32], gradient: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
    let out = d_gate.par_chunks_mut(1 << 14).zip(d_up.par_chunks_mut(1 << 14));
    let given = gate
        .par_chunks(1 << 14)
        .zip(up.par_chunks(1 << 14))
        .zip(gradient.par_chunks(1 << 14));
    out.zip(given).for_each(|((d_gate, d_up), ((gate, up), gradient))| {
        let out = d_gate.iter_mut().zip(d_up);
        for ((d_gate, d_up), ((gate, up), gradient)) in out.zip(gate.iter().zip(up).zip(gradient)) {
            let share = 1.0 / (1.0 + exp(-gate));
            *d_up = gradient * gate * share;
            *d_gate = gradient * up * share * gate.mul_add(1.0 - share, 1.0);
        }
    });
}

/// Texts packed one after the other in the rows of one matrix. Some may begin with a text that they share: the first
/// rows, which are there once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Rows of the shared beginning; it is the first text itself.
    pub shared: usize,
    /// The texts, without what they share; together all rows, in order. True: it goes on from the shared beginning.
    pub texts: Vec<(Range<usize>, bool)>,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Numbers a head.
    pub width: usize,
}

/// What one text sees and how it is laid out.
struct Text<'a> {
    packed: &'a Packed,
    rows: Range<usize>,
    shared: usize,
}

impl Packed {
    fn text(&self, at: usize) -> Text<'_> {
        let (rows, goes_on) = self.texts[at].clone();
        Text {
            packed: self,
            rows,
            shared: if goes_on { self.shared } else { 0 },
        }
    }

    /// `all` cut at the texts' ends; a row has `width` numbers.
    fn cut<'a>(&self, mut all: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
        let mut parts = Vec::with_capacity(self.texts.len());
        for (rows, _) in &self.texts {
            let (part, rest) = all.split_at_mut(rows.len() * width);
            parts.push(part);
            all = rest;
        }
        parts
    }

    /// Attention: every row's queries over the keys before it in its text and its own. Queries have a row of
    /// `heads * width` numbers, keys and values of `kv_heads * width`.
    pub fn attention(&self, queries: &[f32], keys: &[f32], values: &[f32], out: &mut [f32]) {
        let parts = self.cut(out, self.heads * self.width);
        parts.into_par_iter().enumerate().for_each(|(at, out)| {
            self.text(at).forward(queries, keys, values, out);
        });
    }

    /// The gradients of [`Packed::attention`]'s queries, keys and values (all must come as zeros).
    pub fn attention_back(&self, given: [&[f32]; 4], d_queries: &mut [f32], d_keys: &mut [f32], d_values: &mut [f32]) {
        let kv = self.kv_heads * self.width;
        let queries = self.cut(d_queries, self.heads * self.width);
        let keys = self.cut(d_keys, kv);
        let values = self.cut(d_values, kv);
        let parts = queries.into_par_iter().zip(keys).zip(values).enumerate();
        // What texts give to the rows that they share is summed up in their order, so that it is the same every time.
        let shared: Vec<[Vec<f32>; 2]> = parts
            .map(|(at, ((d_queries, d_keys), d_values))| {
                let text = self.text(at);
                let mut shared = [vec![0.0; text.shared * kv], vec![0.0; text.shared * kv]];
                let [shared_keys, shared_values] = &mut shared;
                text.backward(given, d_queries, [shared_keys, d_keys], [shared_values, d_values]);
                shared
            })
            .collect();
        for [keys, values] in shared {
            add_times(d_keys, 1.0, &keys);
            add_times(d_values, 1.0, &values);
        }
    }
}

impl Text<'_> {
    /// The row of the `index`-th position that the text sees, its shared beginning included.
    fn row(&self, index: usize) -> usize {
        if index < self.shared {
            index
        } else {
            self.rows.start + index - self.shared
        }
    }

    /// Shares of one query over the keys that it sees.
    fn shares(&self, query: &[f32], keys: &[f32], head: usize, seen: usize, shares: &mut Vec<f32>) {
        let (width, kv) = (self.packed.width, self.packed.kv_heads * self.packed.width);
        let scale = 1.0 / (width as f32).sqrt();
        shares.clear();
        shares.extend((0..seen).map(|index| {
            let at = self.row(index) * kv + head * width;
            dot(query, &keys[at..at + width]) * scale
        }));
        let most = shares.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for share in shares.iter_mut() {
            *share = exp(*share - most);
            sum += *share;
        }
        shares.iter_mut().for_each(|share| *share /= sum);
    }

    fn forward(&self, queries: &[f32], keys: &[f32], values: &[f32], out: &mut [f32]) {
        let packed = self.packed;
        let (width, kv) = (packed.width, packed.kv_heads * packed.width);
        let group = packed.heads / packed.kv_heads;
        let mut shares = Vec::new();
        let rows = self.rows.clone().zip(out.chunks_exact_mut(packed.heads * width));
        for (offset, (row, out)) in rows.enumerate() {
            for (head, out) in out.chunks_exact_mut(width).enumerate() {
                let from = row * packed.heads * width + head * width;
                let seen = self.shared + offset + 1;
                self.shares(&queries[from..from + width], keys, head / group, seen, &mut shares);
                out.fill(0.0);
                for (index, share) in shares.iter().enumerate() {
                    let at = self.row(index) * kv + head / group * width;
                    add_times(out, *share, &values[at..at + width]);
                }
            }
        }
    }

    /// `given`: queries, keys, values, and the gradient of the result. The pairs are for shared and own rows.
    fn backward(&self, given: [&[f32]; 4], d_queries: &mut [f32], d_keys: [&mut [f32]; 2], d_values: [&mut [f32]; 2]) {
        let [queries, keys, values, gradient] = given;
        let packed = self.packed;
        let (width, kv) = (packed.width, packed.kv_heads * packed.width);
        let all = packed.heads * width;
        let group = packed.heads / packed.kv_heads;
        let scale = 1.0 / (width as f32).sqrt();
        let ([shared_keys, own_keys], [shared_values, own_values]) = (d_keys, d_values);
        let (mut shares, mut slopes) = (Vec::new(), Vec::new());
        for (offset, row) in self.rows.clone().enumerate() {
            for head in 0..packed.heads {
                let (from, kv_head) = (head * width, head / group * width);
                let query = &queries[row * all + from..][..width];
                let gradient = &gradient[row * all + from..][..width];
                let seen = self.shared + offset + 1;
                self.shares(query, keys, head / group, seen, &mut shares);
                slopes.clear();
                slopes.extend((0..seen).map(|index| {
                    let at = self.row(index) * kv + kv_head;
                    dot(gradient, &values[at..at + width])
                }));
                let mean = dot(&shares, &slopes);
                let d_query = &mut d_queries[offset * all + from..][..width];
                for (index, (share, slope)) in shares.iter().zip(&slopes).enumerate() {
                    let at = self.row(index) * kv + kv_head;
                    let slope = share * (slope - mean) * scale;
                    add_times(d_query, slope, &keys[at..at + width]);
                    let (d_keys, d_values, index) = if index < self.shared {
                        (&mut *shared_keys, &mut *shared_values, index)
                    } else {
                        (&mut *own_keys, &mut *own_values, index - self.shared)
                    };
                    let at = index * kv + kv_head;
                    add_times(&mut d_keys[at..at + width], slope, query);
                    add_times(&mut d_values[at..at + width], *share, gradient);
                }
            }
        }
    }
}

/// Replaces logits by probabilities; gives the logarithm of what they were divided by (the largest logit included).
fn probabilities(logits: &mut [f32]) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0f32; 8];
    let (chunks, rest) = logits.as_chunks_mut::<8>();
    for chunk in chunks {
        for (logit, sum) in chunk.iter_mut().zip(&mut sums) {
            *logit = exp(*logit - most);
            *sum += *logit;
        }
    }
    for (logit, sum) in rest.iter_mut().zip(&mut sums) {
        *logit = exp(*logit - most);
        *sum += *logit;
    }
    let sum: f32 = sums.iter().sum();
    let factor = 1.0 / sum;
    logits.iter_mut().for_each(|logit| *logit *= factor);
    most + sum.ln()
}

/// The negative log-likelihood of each row's token, times its weight; the logits become their gradient.
pub fn surprise(logits: &mut [f32], wanted: &[(u32, f32)]) -> Vec<f32> {
    let vocabulary = logits.len() / wanted.len().max(1);
    let each = logits.par_chunks_mut(vocabulary.max(1)).zip(wanted);
    each.map(|(logits, (token, weight))| {
        let token = *token as usize;
        let own = logits[token];
        let whole = probabilities(logits);
        logits[token] -= 1.0;
        logits.iter_mut().for_each(|slope| *slope *= weight);
        weight * (whole - own)
    })
    .collect()
}

/// How far each row's distribution is from the one that it should have (Kullback-Leibler, of the former from the
/// latter), times `weight`; the logits become their gradient, and `base`, the logits of the latter, is used up.
pub fn distance(logits: &mut [f32], base: &mut [f32], vocabulary: usize, weight: f32) -> Vec<f32> {
    let each = logits.par_chunks_mut(vocabulary).zip(base.par_chunks_mut(vocabulary));
    each.map(|(logits, base)| {
        // sum p_base (log p_base - log p) = sum p_base (base - logits) - log Z_base + log Z.
        let apart: Vec<f32> = base.iter().zip(&*logits).map(|(base, logit)| base - logit).collect();
        let (base_whole, whole) = (probabilities(base), probabilities(logits));
        let sum = dot(base, &apart) - base_whole + whole;
        for (slope, base) in logits.iter_mut().zip(base) {
            *slope = (*slope - *base) * weight;
        }
        weight * sum
    })
    .collect()
}

/// One step of AdamW over a variable: `x` is changed, and the two running means. `rate` has the correction for the
/// first steps in it; `decay` is what is taken of `x` itself.
pub fn adam(x: &mut [f32], means: [&mut [f32]; 2], gradient: &[f32], step: &Adam) {
    let [first, second] = means;
    let means = first.iter_mut().zip(second);
    for ((x, (first, second)), gradient) in x.iter_mut().zip(means).zip(gradient) {
        let gradient = gradient * step.clip;
        *first = step.betas.0.mul_add(*first - gradient, gradient);
        *second = step.betas.1.mul_add(*second - gradient * gradient, gradient * gradient);
        let size = (*second * step.corrections.1).sqrt() + step.epsilon;
        *x = *x * (1.0 - step.rate * step.decay) - step.rate * (*first * step.corrections.0) / size;
    }
}

/// The numbers of one step of [`adam`].
#[derive(Debug, Clone, Copy)]
pub struct Adam {
    /// The learning rate.
    pub rate: f32,
    /// How much of the running means stays.
    pub betas: (f32, f32),
    /// 1 / (1 - beta^step), for both.
    pub corrections: (f32, f32),
    /// What keeps a division from zero.
    pub epsilon: f32,
    /// Share of a variable that is taken off it, times the rate.
    pub decay: f32,
    /// What gradients are multiplied with, so that all together are no longer than wanted.
    pub clip: f32,
}
