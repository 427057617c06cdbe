//! The inner loops, in safe Rust that the compiler turns into vector code (8 floats an instruction with AVX2).
//!
//! The law of this file: **the order in which a number is summed up depends on nothing but its own inputs**, not on how
//! many other rows or tokens are computed beside it. So a token's result is the same to the last bit alone, in a batch,
//! in a long prompt's chunk, or from kept keys and values, and the same seed gives the same text in all of them.
//!
//! A dot product has eight partial sums, number `i` in the sum `i mod 8`, each summed in order with fused
//! multiply-adds; [`fold`] adds the eight. Kernels leave the eight in memory: a horizontal sum inside a kernel leads
//! the compiler to narrower vectors.

#![expect(
    clippy::needless_range_loop,
    reason = "plain counted loops over arrays are what the compiler vectorises best"
)]

use super::block::{BLOCK, Block};

/// Partial sums of a dot product: one vector register.
pub(super) const LANES: usize = 8;

/// See [`LANES`].
pub(super) type Lanes = [f32; LANES];

/// Adds the partial sums.
#[inline(never)]
pub(super) fn fold(sums: &Lanes) -> f32 {
    let pairs = [
        sums[0] + sums[4],
        sums[1] + sums[5],
        sums[2] + sums[6],
        sums[3] + sums[7],
    ];
    (pairs[0] + pairs[2]) + (pairs[1] + pairs[3])
}

/// A packed row times one vector, unpacked on the way: for a single token, where a weight is used once and what counts
/// is to read memory in one straight line. One row at a time, because the compiler gathers numbers across several.
#[inline(never)]
pub(super) fn dot<B: Block>(row: &[B], x: &[[f32; BLOCK]], out: &mut Lanes) {
    let mut sums = [0.0; LANES];
    for (row, x) in row.iter().zip(x) {
        let weights = row.unpack();
        for part in 0..BLOCK / LANES {
            for lane in 0..LANES {
                let at = part * LANES + lane;
                sums[lane] = weights[at].mul_add(x[at], sums[lane]);
            }
        }
    }
    *out = sums;
}

/// Unpacks rows, for [`tile`].
#[inline(never)]
pub(super) fn unpack<B: Block>(packed: &[B], out: &mut [[f32; BLOCK]]) {
    for (packed, out) in packed.iter().zip(out) {
        *out = packed.unpack();
    }
}

/// `R` unpacked rows times `T` vectors: every number that is loaded is used several times.
#[inline(never)]
pub(super) fn tile<const R: usize, const T: usize>(rows: [&[Lanes]; R], x: [&[Lanes]; T], out: &mut [[Lanes; T]; R]) {
    let mut sums = [[[0.0; LANES]; T]; R];
    let length = rows[0].len();
    let rows = rows.map(|row| &row[..length]);
    let x = x.map(|x| &x[..length]);
    for k in 0..length {
        for row in 0..R {
            for token in 0..T {
                for lane in 0..LANES {
                    sums[row][token][lane] = rows[row][k][lane].mul_add(x[token][k][lane], sums[row][token][lane]);
                }
            }
        }
    }
    *out = sums;
}

/// Adds to each of `G` vectors of 32 the rows of `rows`, each times its factor. Attention is this twice: queries over
/// transposed keys, and shares over values.
#[inline(never)]
pub(super) fn mix<const G: usize>(factors: [&[f32]; G], rows: &[[f32; BLOCK]], out: &mut [[f32; BLOCK]; G]) {
    let mut sums = *out;
    let length = rows.len();
    let factors = factors.map(|factors| &factors[..length]);
    for row in 0..length {
        for group in 0..G {
            for lane in 0..BLOCK {
                sums[group][lane] = factors[group][row].mul_add(rows[row][lane], sums[group][lane]);
            }
        }
    }
    *out = sums;
}

/// e to the power of x, to about 1e-7 of its size, between -87 and 88; vectorises where the library's does not.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding it rounds to a whole number, which then lies in the lower bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two pieces, so that the multiple of it is subtracted without loss.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let rest = whole.mul_add(-LN2_LOW, whole.mul_add(-LN2_HIGH, x));
    // The series of e^rest up to the seventh power: |rest| is at most ln 2 / 2.
    let mut sum = 1.0 / 5040.0;
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = rest.mul_add(sum, factor);
    }
    sum * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

/// Replaces numbers by e to the power of what they are over the largest; gives the sum.
#[inline(never)]
pub(super) fn exp_all(numbers: &mut [f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = numbers.as_chunks_mut::<LANES>();
    for chunk in &*chunks {
        for lane in 0..LANES {
            most[lane] = most[lane].max(chunk[lane]);
        }
    }
    let most = most
        .iter()
        .chain(rest.iter())
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane] - most);
            sums[lane] += chunk[lane];
        }
    }
    for (number, sum) in rest.iter_mut().zip(&mut sums) {
        *number = exp(*number - most);
        *sum += *number;
    }
    fold(&sums)
}

/// `gate` becomes silu(gate) * up.
#[inline(never)]
pub(super) fn swiglu(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// The vector over its root mean square, times the weights.
#[inline(never)]
pub(super) fn rms_norm(x: &[f32], weights: &[f32], epsilon: f32, out: &mut [f32]) {
    let mut sums = [0.0f32; LANES];
    for chunk in x.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            sums[lane] = chunk[lane].mul_add(chunk[lane], sums[lane]);
        }
    }
    let factor = 1.0 / (fold(&sums) / x.len() as f32 + epsilon).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weights) {
        *out = x * factor * weight;
    }
}

/// Adds a vector.
#[inline(never)]
pub(super) fn add(to: &mut [f32], what: &[f32]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += what;
    }
}

#[cfg(test)]
mod tests {
    use super::{exp, exp_all, rms_norm, swiglu};

    #[test]
    fn exp_is_near_the_librarys() {
        for step in -8700..=8800i16 {
            let x = f32::from(step) / 100.0;
            let (got, want) = (exp(x), x.exp());
            assert!((got - want).abs() <= want * 3e-7, "e^{x}: {got} for {want}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn shares_are_over_the_largest() {
        let mut numbers: Vec<f32> = (0..11u8).map(f32::from).collect();
        let sum = exp_all(&mut numbers);
        let want: f32 = (0..11u8).map(|n| (f32::from(n) - 10.0).exp()).sum();
        assert!((sum - want).abs() < 1e-6);
        assert!((numbers[10] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn norms_and_gates() {
        let mut out = [0.0; 8];
        rms_norm(&[2.0; 8], &[3.0; 8], 0.0, &mut out);
        assert!(out.iter().all(|x| (x - 3.0).abs() < 1e-6));
        let mut gate = [1.0f32, -1.0];
        swiglu(&mut gate, &[2.0, 2.0]);
        assert!((gate[0] - 2.0 * 0.731_058_6).abs() < 1e-6 && (gate[1] + 2.0 * 0.268_941_4).abs() < 1e-6);
    }
}
