//! Matrices in panels, and their product with weights: what nearly all of an embedder's time goes to. The registers are
//! named (`wide`): plain loops over the same numbers were turned into full registers in one build and into single values
//! in the next, at a quarter of the speed.
//!
//! A panel is 16 columns of a matrix, row after row. Weights are kept in panels of 16 outputs, so that they are read
//! once, in order, and each value meets six rows at a time.

use rayon::prelude::*;
use wide::f32x8;

/// Columns a panel: two AVX2 registers of `f32`.
pub const WIDTH: usize = 16;

/// Rows that are multiplied at once: 6 x 16 sums fill 12 of the 16 registers.
const BLOCK: usize = 6;

/// Rows from which on a product is shared out among threads. A question has fewer: on one thread it takes 2 to 3 ms whatever
/// else the machine does, while two threads that meet at each of two dozen products wait for each other where cores are busy.
pub const SHARED: usize = 48;

/// A matrix of activations: one row a token.
#[derive(Debug, Clone)]
pub struct Panels {
    /// Tokens.
    pub rows: usize,
    /// Panel after panel; in each, row after row.
    pub data: Vec<f32>,
}

impl Panels {
    /// Zeros; `columns` is a multiple of [`WIDTH`].
    #[must_use]
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            data: vec![0.0; rows * columns],
        }
    }

    /// The panels, each a list of rows of 16.
    pub fn panels(&self) -> impl Iterator<Item = &[[f32; WIDTH]]> {
        self.data
            .chunks_exact(self.rows * WIDTH)
            .map(|panel| panel.as_chunks().0)
    }

    /// The same, to be changed.
    pub fn panels_mut(&mut self) -> impl Iterator<Item = &mut [[f32; WIDTH]]> {
        self.data
            .chunks_exact_mut(self.rows * WIDTH)
            .map(|panel| panel.as_chunks_mut().0)
    }

    /// Blocks of six rows (the last may have fewer); in each, column after column: the order in which a product reads them.
    fn by_blocks(&self) -> Vec<f32> {
        let columns = self.data.len() / self.rows.max(1);
        let mut packed = vec![0.0; self.data.len()];
        for (number, panel) in self.panels().enumerate() {
            for (block, out) in panel.chunks(BLOCK).zip(packed.chunks_mut(BLOCK * columns)) {
                let size = block.len();
                let out = &mut out[number * WIDTH * size..][..WIDTH * size];
                for (row, values) in block.iter().enumerate() {
                    for (column, value) in values.iter().enumerate() {
                        out[column * size + row] = *value;
                    }
                }
            }
        }
        packed
    }
}

/// What is done to a product before it is written.
#[derive(Debug, Clone, Copy)]
pub enum Then {
    /// Nothing.
    Keep,
    /// GELU, by the error function.
    Gelu,
}

/// A layer `x -> W x + b`.
pub struct Linear {
    inputs: usize,
    /// Panels of 16 outputs; in each, the 16 weights of input after input.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    /// From weights in rows of `inputs`, an output each. Both numbers must be multiples of [`WIDTH`].
    #[must_use]
    pub fn new(inputs: usize, rows: &[f32], bias: Vec<f32>) -> Self {
        let mut weights = Vec::with_capacity(rows.len());
        for outputs in rows.chunks_exact(inputs * WIDTH) {
            for input in 0..inputs {
                weights.extend(outputs.iter().skip(input).step_by(inputs));
            }
        }
        Self { inputs, weights, bias }
    }

    /// The product for every row, on all threads of the present pool.
    #[must_use]
    pub fn apply(&self, x: &Panels, then: Then) -> Panels {
        let mut out = Panels::zeros(x.rows, self.bias.len());
        if x.rows == 0 {
            return out;
        }
        let packed = x.by_blocks();
        let panels = self.bias.len() / WIDTH;
        let least = if x.rows < SHARED {
            panels
        } else {
            // A few pieces a thread: fewer would wait for the slowest, more would cost more than they bring.
            panels.div_ceil(rayon::current_num_threads() * 2)
        };
        out.data
            .par_chunks_exact_mut(x.rows * WIDTH)
            .zip(self.weights.par_chunks_exact(self.inputs * WIDTH))
            .zip(self.bias.par_chunks_exact(WIDTH))
            .with_min_len(least)
            .for_each(|((out, weights), bias)| {
                let (out, weights) = (out.as_chunks_mut().0, weights.as_chunks().0);
                let mut start = [0.0; WIDTH];
                start.copy_from_slice(bias);
                for (rows, out) in packed.chunks(BLOCK * self.inputs).zip(out.chunks_mut(BLOCK)) {
                    product(rows, weights, start, out);
                }
                if matches!(then, Then::Gelu) {
                    out.as_flattened_mut()
                        .iter_mut()
                        .for_each(|value| *value = crate::maths::gelu(*value));
                }
            });
        out
    }
}

/// A block of up to six rows times one panel of weights.
fn product(rows: &[f32], weights: &[[f32; WIDTH]], start: [f32; WIDTH], out: &mut [[f32; WIDTH]]) {
    match out.len() {
        6 => block::<6>(rows, weights, start, out),
        5 => block::<5>(rows, weights, start, out),
        4 => block::<4>(rows, weights, start, out),
        3 => block::<3>(rows, weights, start, out),
        2 => block::<2>(rows, weights, start, out),
        _ => block::<1>(rows, weights, start, out),
    }
}

fn block<const ROWS: usize>(rows: &[f32], weights: &[[f32; WIDTH]], start: [f32; WIDTH], out: &mut [[f32; WIDTH]]) {
    let mut sums = [halves(&start); ROWS];
    for (values, weights) in rows.as_chunks::<ROWS>().0.iter().zip(weights) {
        let [left, right] = halves(weights);
        for (sums, value) in sums.iter_mut().zip(values) {
            let value = f32x8::splat(*value);
            *sums = [value.mul_add(left, sums[0]), value.mul_add(right, sums[1])];
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        for (out, half) in out.as_chunks_mut().0.iter_mut().zip(sums) {
            *out = half.to_array();
        }
    }
}

/// A row of a panel as two registers.
#[inline]
fn halves(row: &[f32; WIDTH]) -> [f32x8; 2] {
    let mut halves = [f32x8::ZERO; 2];
    for (half, values) in halves.iter_mut().zip(row.as_chunks().0) {
        *half = f32x8::new(*values);
    }
    halves
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn panels(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f32) -> Panels {
        let mut made = Panels::zeros(rows, columns);
        for (number, panel) in made.panels_mut().enumerate() {
            for (row, values) in panel.iter_mut().enumerate() {
                for (column, out) in values.iter_mut().enumerate() {
                    *out = value(row, number * WIDTH + column);
                }
            }
        }
        made
    }

    proptest! {
        /// Against the definition, for every number of rows that a block can end with.
        #[test]
        fn the_product_is_the_product(rows in 1_usize..15, inputs in 1_usize..4, outputs in 1_usize..4, seed in 1_u32..99) {
            let (inputs, outputs) = (inputs * WIDTH, outputs * WIDTH);
            let noise = |n: usize| ((n as u32).wrapping_mul(seed.wrapping_mul(2_654_435_761)) >> 20) as f32 / 4096.0 - 0.5;
            let weights: Vec<f32> = (0..inputs * outputs).map(noise).collect();
            let bias: Vec<f32> = (0..outputs).map(|n| noise(n + 7)).collect();
            let x = |row: usize, column: usize| noise(row * 31 + column * 3 + 1);
            let made = Linear::new(inputs, &weights, bias.clone()).apply(&panels(rows, inputs, x), Then::Keep);
            for (number, panel) in made.panels().enumerate() {
                for (row, values) in panel.iter().enumerate() {
                    for (column, value) in values.iter().enumerate() {
                        let output = number * WIDTH + column;
                        let sum: f32 = (0..inputs).map(|n| x(row, n) * weights[output * inputs + n]).sum();
                        prop_assert!((value - sum - bias[output]).abs() < 1e-4);
                    }
                }
            }
        }
    }
}
