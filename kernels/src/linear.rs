//! A layer `x -> W x + b`, in whole numbers: what nearly all of an embedder's time goes to. Sixteen products of 16 bits and
//! their sums in pairs are one instruction, twice as much as with `f32`, and weights of 8 bits are a quarter of the memory
//! that a question must wait for: together with an index that is searched they do not stay in any cache.
//!
//! Weights are bytes with one step for each [`GROUP`] inputs of an output; a row of activations has 16 bits with one step.
//! Sums of a group are exact, and groups are summed in `f32`. What all-MiniLM-L6-v2 gives is at a cosine of 0.9996 to 0.9999
//! from what it gives in `f32` (300 sentences of LoCoMo), which the tests of the engine hold to.
//!
//! The registers are named (`wide`): plain loops over the same numbers were turned into full registers in one build and into
//! single values in the next, at a quarter of the speed.

use rayon::prelude::*;
use wide::{f32x8, i8x16, i16x8, i16x16, i32x8};

use crate::maths;
use crate::panels::{Panels, WIDTH};

/// Rows that are multiplied at once: 6 x 16 sums fill 12 of the 16 registers.
const BLOCK: usize = 6;

/// Inputs that share a step: fewer lose less, and cost more. Their products are summed in 32 bits, of which
/// 64 * 127 * 32,767 is an eighth.
const GROUP: usize = 64;

/// The value that stands for the largest of a group's weights.
const WEIGHT: f32 = 127.0;

/// The value that stands for the largest of a row.
const VALUE: f32 = 32_767.0;

/// What is done to a product before it is written.
#[derive(Debug, Clone, Copy)]
pub enum Then {
    /// Nothing.
    Keep,
    /// GELU, by the error function.
    Gelu,
}

/// A matrix of activations in the order in which products read it: blocks of six rows (the last may have fewer); in each,
/// two columns after two columns.
#[derive(Debug, Default)]
pub struct Rows {
    values: Vec<[i16; 2]>,
    /// What one step of each row is worth.
    steps: Vec<f32>,
}

impl Rows {
    /// Takes over these values; the memory is used again.
    pub fn take(&mut self, x: &Panels) {
        self.steps.clear();
        self.steps.resize(x.rows, 0.0);
        let mut most = vec![0_u32; x.rows];
        for panel in x.panels() {
            for (most, values) in most.iter_mut().zip(panel) {
                // Of numbers without a sign, the greater one has the greater bits.
                let largest = values.iter().map(|value| value.abs().to_bits()).max();
                *most = (*most).max(largest.unwrap_or_default());
            }
        }
        for (step, most) in self.steps.iter_mut().zip(&most) {
            *step = f32::from_bits(*most).max(f32::MIN_POSITIVE) / VALUE;
        }
        let pairs = x.columns() / 2;
        self.values.clear();
        self.values.resize(x.rows * pairs, [0; 2]);
        for (number, panel) in x.panels().enumerate() {
            let blocks = panel.chunks(BLOCK).zip(self.steps.chunks(BLOCK));
            for ((block, steps), out) in blocks.zip(self.values.chunks_mut(BLOCK * pairs)) {
                let size = block.len();
                let out = &mut out[number * WIDTH / 2 * size..][..WIDTH / 2 * size];
                for (row, (values, step)) in block.iter().zip(steps).enumerate() {
                    let factor = f32x8::splat(1.0 / step);
                    for (half, values) in halves(values).into_iter().enumerate() {
                        let whole = i16x8::from_i32x8_saturate((values * factor).round_int()).to_array();
                        for (pair, two) in whole.as_chunks().0.iter().enumerate() {
                            out[(half * WIDTH / 4 + pair) * size + row] = *two;
                        }
                    }
                }
            }
        }
    }
}

/// See the module.
pub struct Linear {
    inputs: usize,
    /// Panels of 16 outputs; in each, for two inputs after two, those of 8 outputs, and of the other 8.
    weights: Vec<i8>,
    /// For each panel and group, what one step of each of the 16 outputs is worth.
    steps: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    /// From weights in rows of `inputs`, an output each. Both numbers must be multiples of [`WIDTH`].
    #[must_use]
    pub fn new(inputs: usize, rows: &[f32], bias: Vec<f32>) -> Self {
        let mut weights = Vec::with_capacity(rows.len());
        let mut steps = Vec::new();
        for outputs in rows.chunks_exact(inputs * WIDTH) {
            for start in (0..inputs).step_by(GROUP) {
                let group = start..inputs.min(start + GROUP);
                let row = |output: usize| &outputs[output * inputs..][group.clone()];
                let most = |output: usize| row(output).iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
                let own: Vec<f32> = (0..WIDTH)
                    .map(|output| most(output).max(f32::MIN_POSITIVE) / WEIGHT)
                    .collect();
                for pair in 0..group.len() / 2 {
                    for (output, step) in own.iter().enumerate() {
                        let two = &row(output)[2 * pair..][..2];
                        weights.extend(two.iter().map(|weight| (weight / step).round() as i8));
                    }
                }
                steps.extend(own);
            }
        }
        Self {
            inputs,
            weights,
            steps,
            bias,
        }
    }

    /// The product for every row, on all threads of the present pool if it is to be `shared`.
    pub fn apply(&self, x: &Rows, then: Then, shared: bool, out: &mut Panels) {
        let rows = x.steps.len();
        out.resize(rows, self.bias.len());
        if rows == 0 {
            return;
        }
        let groups = self.inputs.div_ceil(GROUP) * WIDTH;
        let one = |(((out, weights), steps), bias): (((&mut [f32], &[i8]), &[f32]), &[f32])| {
            let panel = Panel {
                weights: weights.as_chunks().0.as_chunks().0,
                steps: steps.as_chunks().0,
                bias: halves(bias),
            };
            let out = out.as_chunks_mut().0;
            let blocks = x.values.chunks(BLOCK * self.inputs / 2).zip(x.steps.chunks(BLOCK));
            for ((values, steps), out) in blocks.zip(out.chunks_mut(BLOCK)) {
                panel.product(values, steps, out);
            }
            if matches!(then, Then::Gelu) {
                for values in out.as_flattened_mut().as_chunks_mut().0 {
                    *values = maths::gelu(f32x8::new(*values)).to_array();
                }
            }
        };
        if shared {
            // A few pieces a thread: fewer would wait for the slowest, more would cost more than they bring.
            let least = (self.bias.len() / WIDTH).div_ceil(rayon::current_num_threads() * 2);
            out.data
                .par_chunks_exact_mut(rows * WIDTH)
                .zip(self.weights.par_chunks_exact(self.inputs * WIDTH))
                .zip(self.steps.par_chunks_exact(groups))
                .zip(self.bias.par_chunks_exact(WIDTH))
                .with_min_len(least)
                .for_each(one);
        } else {
            out.data
                .chunks_exact_mut(rows * WIDTH)
                .zip(self.weights.chunks_exact(self.inputs * WIDTH))
                .zip(self.steps.chunks_exact(groups))
                .zip(self.bias.chunks_exact(WIDTH))
                .for_each(one);
        }
    }
}

/// The weights of 16 outputs.
struct Panel<'a> {
    weights: &'a [[[i8; WIDTH]; 2]],
    steps: &'a [[f32; WIDTH]],
    bias: [f32x8; 2],
}

impl Panel<'_> {
    /// The product with a block of up to six rows.
    fn product(&self, values: &[[i16; 2]], steps: &[f32], out: &mut [[f32; WIDTH]]) {
        match out.len() {
            6 => self.block::<6>(values, steps, out),
            5 => self.block::<5>(values, steps, out),
            4 => self.block::<4>(values, steps, out),
            3 => self.block::<3>(values, steps, out),
            2 => self.block::<2>(values, steps, out),
            _ => self.block::<1>(values, steps, out),
        }
    }

    fn block<const ROWS: usize>(&self, values: &[[i16; 2]], steps: &[f32], out: &mut [[f32; WIDTH]]) {
        let mut totals = [[f32x8::ZERO; 2]; ROWS];
        let groups = self.weights.chunks(GROUP / 2).zip(values.chunks(GROUP / 2 * ROWS));
        for ((weights, values), steps) in groups.zip(self.steps) {
            let steps = halves(steps);
            for (total, sums) in totals.iter_mut().zip(group::<ROWS>(weights, values)) {
                for half in 0..2 {
                    total[half] = f32x8::from_i32x8(sums[half]).mul_add(steps[half], total[half]);
                }
            }
        }
        for ((out, total), step) in out.iter_mut().zip(totals).zip(steps) {
            for ((out, total), bias) in out.as_chunks_mut().0.iter_mut().zip(total).zip(self.bias) {
                *out = total.mul_add(f32x8::splat(*step), bias).to_array();
            }
        }
    }
}

/// The sums of a group, exact.
#[inline]
fn group<const ROWS: usize>(weights: &[[[i8; WIDTH]; 2]], values: &[[i16; 2]]) -> [[i32x8; 2]; ROWS] {
    let mut sums = [[i32x8::ZERO; 2]; ROWS];
    for (weights, values) in weights.iter().zip(values.as_chunks::<ROWS>().0) {
        let [left, right] = weights.map(|half| i16x16::from_i8x16(i8x16::new(half)));
        for (sums, [one, other]) in sums.iter_mut().zip(*values) {
            // One instruction: a broadcast of 32 bits.
            let two = i16x16::new([
                one, other, one, other, one, other, one, other, one, other, one, other, one, other, one, other,
            ]);
            *sums = [sums[0] + two.dot(left), sums[1] + two.dot(right)];
        }
    }
    sums
}

/// Sixteen values as two registers.
#[inline]
fn halves(row: &[f32]) -> [f32x8; 2] {
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
        /// Against the definition, for every number of rows that a block can end with, and for a group that is not whole.
        #[test]
        fn the_product_is_the_product(
            rows in 1_usize..15, inputs in 1_usize..7, outputs in 1_usize..4, seed in 1_u32..99, shared: bool,
        ) {
            let (inputs, outputs) = (inputs * WIDTH, outputs * WIDTH);
            let noise = |n: usize| ((n as u32).wrapping_mul(seed.wrapping_mul(2_654_435_761)) >> 20) as f32 / 4096.0 - 0.5;
            let weights: Vec<f32> = (0..inputs * outputs).map(noise).collect();
            let bias: Vec<f32> = (0..outputs).map(|n| noise(n + 7)).collect();
            // One row is a thousand times the others: each has a step of its own.
            let x = |row: usize, column: usize| {
                noise(row * 31 + column * 3 + 1) * if row == 1 { 1000.0 } else { 1.0 }
            };
            let (mut given, mut made) = (Rows::default(), Panels::default());
            given.take(&panels(rows, inputs, x));
            Linear::new(inputs, &weights, bias.clone()).apply(&given, Then::Keep, shared, &mut made);
            for (number, panel) in made.panels().enumerate() {
                for (row, values) in panel.iter().enumerate() {
                    for (column, value) in values.iter().enumerate() {
                        let output = number * WIDTH + column;
                        let products = (0..inputs).map(|n| x(row, n) * weights[output * inputs + n]);
                        let exact: f32 = products.sum::<f32>() + bias[output];
                        // Half a step of a weight, of the largest input, were all of them off by it.
                        let size: f32 = (0..inputs).map(|n| x(row, n).abs()).sum();
                        prop_assert!((value - exact).abs() < size * 0.5 / 127.0 * 0.52 + 1e-3, "{value} for {exact}");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_gives_the_bias() {
        let (mut given, mut made) = (Rows::default(), Panels::default());
        given.take(&Panels::zeros(2, WIDTH));
        let linear = Linear::new(WIDTH, &[0.0; WIDTH * WIDTH], vec![0.25; WIDTH]);
        linear.apply(&given, Then::Keep, false, &mut made);
        assert_eq!(made.data, [0.25; 2 * WIDTH]);
        given.take(&Panels::zeros(0, WIDTH));
        linear.apply(&given, Then::Gelu, false, &mut made);
        assert!(made.data.is_empty());
    }
}
