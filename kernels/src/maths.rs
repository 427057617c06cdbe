//! The two functions that an embedder calls hundreds of thousands of times a text, without branches, so that they are
//! computed eight at a time.

use wide::{CmpLt, f32x8};

/// Adding it moves a number's whole part into the lowest bits of the mantissa: 1.5 * 2^23.
const TO_WHOLE: f32 = 12_582_912.0;

/// e^x, within 2e-7 of it, for x of -87 to 87 (and the value at the nearer end beyond).
#[inline]
#[must_use]
pub fn exp(x: f32) -> f32 {
    // ln 2 in two parts: the first has few digits, so that its multiples are exact.
    const LN2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    let x = x.clamp(-87.0, 87.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, TO_WHOLE);
    let whole = shifted - TO_WHOLE;
    let rest = whole.mul_add(-LN2.1, whole.mul_add(-LN2.0, x));
    // The series of e^x up to x^7 / 7!; |rest| is at most ln 2 / 2.
    let mut sum = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = rest.mul_add(sum, term);
    }
    // 2^whole: the whole part, shifted to where the exponent is.
    sum * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// x * Phi(x), with the error function's rational approximation of Abramowitz and Stegun, 7.1.26 (error below 1.5e-7).
#[inline]
#[must_use]
pub fn gelu(x: f32x8) -> f32x8 {
    let z = x.abs() * f32x8::splat(std::f32::consts::FRAC_1_SQRT_2);
    let one = f32x8::splat(1.0);
    let t = one / z.mul_add(f32x8::splat(0.327_591_1), one);
    let mut sum = f32x8::splat(1.061_405_4);
    for term in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        sum = sum.mul_add(t, f32x8::splat(term));
    }
    let tail = sum * t * f32x8::splat(0.5) * (-(z * z)).exp();
    x * x.cmp_lt(f32x8::ZERO).blend(tail, one - tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_near_the_true_one() {
        for step in -8700..8700 {
            let x = step as f32 / 100.0;
            let true_one = f64::from(x).exp();
            assert!((f64::from(exp(x)) / true_one - 1.0).abs() < 1e-6, "{x}");
        }
        assert!(exp(-1000.0) < 1e-37 && exp(1000.0).is_finite());
    }

    #[test]
    fn gelu_is_near_known_values() {
        for (x, expected) in [
            (0.0, 0.0),
            (1.0, 0.841_344_8),
            (-1.0, -0.158_655_25),
            (3.0, 2.995_950_3),
            (-3.0, -0.004_049_694),
            (30.0, 30.0),
            (-30.0, 0.0),
        ] {
            let found = gelu(f32x8::splat(x)).to_array()[3];
            assert!((found - expected).abs() < 1e-6, "{x}: {found}");
        }
    }
}
