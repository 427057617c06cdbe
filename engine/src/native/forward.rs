//! The transformer: tokens of several sequences in, keys and values written, logits out.

use std::sync::Arc;

use rayon::prelude::*;

use super::kernels::{add, exp_all, mix, rms_norm, swiglu};
use super::kv::{Kv, Layout, PAGE, Page};
use super::matrix::multiply;
use super::shape::Rope;
use super::weights::{Layer, Weights};

/// A token to be computed. Rows of one sequence follow each other in the order of their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Which of the sequences.
    pub(super) sequence: usize,
    pub(super) token: u32,
    /// Its place in the sequence; all before it have been computed, or are rows before this one.
    pub(super) position: usize,
    /// Whether the logits after it are wanted.
    pub(super) wanted: bool,
}

/// Rows of elementwise work that are handed to another thread at once.
const ROWS_AT_ONCE: usize = 8;

/// Computes rows: their keys and values are added to the sequences, and the logits of the wanted ones are given, one
/// after the other. To be called on a thread of the pool that shall do the work.
pub(super) fn forward(weights: &Weights, rows: &[Row], sequences: &mut [&mut Kv]) -> Vec<f32> {
    let shape = &weights.shape;
    for row in rows {
        sequences[row.sequence].grow(1);
    }
    let mut x = vec![0.0; rows.len() * shape.width];
    for (row, x) in rows.iter().zip(x.chunks_exact_mut(shape.width)) {
        weights.embedding.row(row.token as usize, x);
    }
    let turns: Vec<Turns> = rows
        .iter()
        .map(|row| Turns::new(&weights.frequencies, row.position))
        .collect();
    for (index, layer) in weights.layers.iter().enumerate() {
        attention(weights, layer, index, rows, &turns, sequences, &mut x);
        feed_forward(weights, layer, &mut x);
    }
    let wanted: Vec<f32> = rows
        .iter()
        .zip(x.chunks_exact(shape.width))
        .filter(|(row, _)| row.wanted)
        .flat_map(|(_, x)| x.iter().copied())
        .collect();
    let last = normed(&wanted, &weights.norm, shape.epsilon);
    let mut logits = vec![0.0; wanted.len() / shape.width * weights.vocabulary()];
    multiply(
        &[weights.output.as_ref().unwrap_or(&weights.embedding)],
        &last,
        &mut logits,
    );
    logits
}

fn attention(
    weights: &Weights,
    layer: &Layer,
    index: usize,
    rows: &[Row],
    turns: &[Turns],
    sequences: &mut [&mut Kv],
    x: &mut [f32],
) {
    let shape = &weights.shape;
    let (layout, epsilon) = (shape.kv, shape.epsilon);
    let queries = shape.heads * layout.width;
    let keys = layout.heads * layout.width;
    let normal = normed(x, &layer.attention_norm, epsilon);
    let mut all = vec![0.0; rows.len() * (queries + 2 * keys)];
    multiply(&[&layer.query, &layer.key, &layer.value], &normal, &mut all);

    let each = all
        .par_chunks_exact_mut(queries + 2 * keys)
        .with_min_len(ROWS_AT_ONCE)
        .zip(turns);
    each.for_each(|(all, turns)| {
        if let Some(bias) = &layer.bias {
            add(all, bias);
        }
        let (query, rest) = all.split_at_mut(queries);
        let norms = layer.head_norms.as_ref();
        for (heads, norm) in [
            (query, norms.map(|norms| &norms.0)),
            (&mut rest[..keys], norms.map(|norms| &norms.1)),
        ] {
            for head in heads.chunks_exact_mut(layout.width) {
                if let Some(norm) = norm {
                    let before = head.to_vec();
                    rms_norm(&before, norm, epsilon, head);
                }
                turns.turn(&shape.rope, head);
            }
        }
    });
    for (row, all) in rows.iter().zip(all.chunks_exact(queries + 2 * keys)) {
        let (keys, values) = all[queries..].split_at(keys);
        sequences[row.sequence].write(index, row.position, keys, values);
    }

    let group = queries / layout.heads;
    let mut mixed = vec![0.0; rows.len() * queries];
    let sequences: &[&mut Kv] = sequences;
    mixed
        .par_chunks_exact_mut(group)
        .enumerate()
        .for_each_init(Vec::new, |shares, (task, out)| {
            let (at, head) = (task / layout.heads, task % layout.heads);
            let row = rows[at];
            let from = at * (queries + 2 * keys) + head * group;
            let look = Look {
                pages: sequences[row.sequence].pages(),
                layout,
                layer: index,
                head,
                positions: row.position + 1,
            };
            look.all(&all[from..from + group], out, shares);
        });

    let mut out = vec![0.0; x.len()];
    multiply(&[&layer.attention_output], &mixed, &mut out);
    add(x, &out);
}

fn feed_forward(weights: &Weights, layer: &Layer, x: &mut [f32]) {
    let hidden = weights.shape.hidden;
    let normal = normed(x, &layer.feed_norm, weights.shape.epsilon);
    let rows = x.len() / weights.shape.width;
    let mut both = vec![0.0; rows * 2 * hidden];
    multiply(&[&layer.gate, &layer.up], &normal, &mut both);
    let mut gated = vec![0.0; rows * hidden];
    let each = gated
        .par_chunks_exact_mut(hidden)
        .with_min_len(ROWS_AT_ONCE)
        .zip(both.par_chunks_exact(2 * hidden));
    each.for_each(|(gated, both)| {
        let (gate, up) = both.split_at(hidden);
        gated.copy_from_slice(gate);
        swiglu(gated, up);
    });
    let mut out = vec![0.0; x.len()];
    multiply(&[&layer.down], &gated, &mut out);
    add(x, &out);
}

/// Every vector over its root mean square, times the weights.
fn normed(x: &[f32], weights: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    let width = weights.len();
    let each = out
        .par_chunks_exact_mut(width)
        .with_min_len(ROWS_AT_ONCE)
        .zip(x.par_chunks_exact(width));
    each.for_each(|(out, x)| rms_norm(x, weights, epsilon, out));
    out
}

/// Cosines and sines of one position.
struct Turns(Vec<(f32, f32)>);

impl Turns {
    fn new(frequencies: &[f32], position: usize) -> Self {
        let turn = |frequency: &f32| {
            let (sine, cosine) = (position as f32 * frequency).sin_cos();
            (cosine, sine)
        };
        Self(frequencies.iter().map(turn).collect())
    }

    /// Turns a head's query or key.
    fn turn(&self, rope: &Rope, head: &mut [f32]) {
        let turned = &mut head[..rope.turned];
        let turn = |a: &mut f32, b: &mut f32, (cosine, sine): (f32, f32)| {
            (*a, *b) = (*a * cosine - *b * sine, *a * sine + *b * cosine);
        };
        if rope.neighbours {
            for (pair, by) in turned.as_chunks_mut::<2>().0.iter_mut().zip(&self.0) {
                let [a, b] = pair;
                turn(a, b, *by);
            }
        } else {
            let (first, second) = turned.split_at_mut(rope.turned / 2);
            for ((a, b), by) in first.iter_mut().zip(second).zip(&self.0) {
                turn(a, b, *by);
            }
        }
    }
}

/// One token's look back through one key-value head.
struct Look<'a> {
    pages: &'a [Arc<Page>],
    layout: Layout,
    layer: usize,
    head: usize,
    /// Positions that it sees, its own the last.
    positions: usize,
}

impl Look<'_> {
    /// All query heads that share the key-value head, a few at a time. `shares` is room to work in.
    fn all(&self, queries: &[f32], out: &mut [f32], shares: &mut Vec<f32>) {
        let width = self.layout.width;
        let (mut queries, mut out) = (queries, out);
        while !queries.is_empty() {
            let take = (queries.len() / width).min(3);
            let (now, later) = queries.split_at(take * width);
            let (out_now, out_later) = out.split_at_mut(take * width);
            match take {
                1 => self.some::<1>(now, out_now, shares),
                2 => self.some::<2>(now, out_now, shares),
                _ => self.some::<3>(now, out_now, shares),
            }
            (queries, out) = (later, out_later);
        }
    }

    fn some<const G: usize>(&self, queries: &[f32], out: &mut [f32], shares: &mut Vec<f32>) {
        let (layout, layer, head) = (self.layout, self.layer, self.head);
        let width = layout.width;
        let pages = &self.pages[..self.positions.div_ceil(PAGE)];
        let length = pages.len() * PAGE;
        shares.clear();
        shares.resize(G * length, 0.0);

        let scale = 1.0 / (width as f32).sqrt();
        let heads: [&[f32]; G] = std::array::from_fn(|g| &queries[g * width..(g + 1) * width]);
        for (at, page) in pages.iter().enumerate() {
            let mut scores = [[0.0; PAGE]; G];
            mix(heads, page.keys(layout, layer, head), &mut scores);
            for (scores, shares) in scores.iter().zip(shares.chunks_exact_mut(length)) {
                for (score, share) in scores.iter().zip(&mut shares[at * PAGE..]) {
                    *share = score * scale;
                }
            }
        }
        let mut sums = [0.0; G];
        for (sum, shares) in sums.iter_mut().zip(shares.chunks_exact_mut(length)) {
            *sum = exp_all(&mut shares[..self.positions]);
        }
        for tile in 0..width / PAGE {
            let mut mixed = [[0.0; PAGE]; G];
            for (at, page) in pages.iter().enumerate() {
                let seen = (self.positions - at * PAGE).min(PAGE);
                let shares: [&[f32]; G] = std::array::from_fn(|g| &shares[g * length + at * PAGE..][..seen]);
                mix(shares, &page.values(layout, layer, head, tile)[..seen], &mut mixed);
            }
            for ((mixed, sum), out) in mixed.iter().zip(&sums).zip(out.chunks_exact_mut(width)) {
                for (mixed, out) in mixed.iter().zip(&mut out[tile * PAGE..]) {
                    *out = mixed / sum;
                }
            }
        }
    }
}
