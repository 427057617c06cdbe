//! Vectors of length 1 as bytes, and how near they are: a quarter of the memory of `f32`, and eight products at a time.

/// The value that stands for 1.
const ONE: f32 = 127.0;

/// A vector's values as bytes, scaled so that its largest is ±127; and what one step is worth.
#[must_use]
pub fn pack(vector: &[f32]) -> (Vec<i8>, f32) {
    let most = vector.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    if most <= 0.0 || !most.is_finite() {
        return (vec![0; vector.len()], 0.0);
    }
    let bytes = vector.iter().map(|value| (value / most * ONE).round() as i8).collect();
    (bytes, most / ONE)
}

/// The product of two packed vectors, in steps of both. Exact: 127 * 127 * 65,536 values are within `i32`.
#[must_use]
pub fn dot(a: &[i8], b: &[i8]) -> i32 {
    // Sixteen products of 16 bits are one instruction, and their sums in pairs another.
    let (heads, rest) = a.as_chunks::<32>();
    let (others, other_rest) = b.as_chunks::<32>();
    let mut sums = [0_i32; 32];
    for (x, y) in heads.iter().zip(others) {
        for place in 0..32 {
            sums[place] += i32::from(x[place]) * i32::from(y[place]);
        }
    }
    let rest: i32 = rest
        .iter()
        .zip(other_rest)
        .map(|(x, y)| i32::from(*x) * i32::from(*y))
        .sum();
    sums.iter().sum::<i32>() + rest
}

/// The product of one packed vector with each of many, which lie end to end, in steps of both; as many as `out` has room for.
pub fn dots(many: &[i8], one: &[i8], out: &mut [f32]) {
    if one.is_empty() {
        return;
    }
    for (out, vector) in out.iter_mut().zip(many.chunks_exact(one.len())) {
        *out = dot(vector, one) as f32;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packed_products_are_near_the_true_ones(pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 1..400)) {
            let length = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-3);
            let (mut a, mut b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            for side in [&mut a, &mut b] {
                let length = length(side);
                side.iter_mut().for_each(|value| *value /= length);
            }
            let exact: f32 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
            let ((a, step_a), (b, step_b)) = (pack(&a), pack(&b));
            let near = dot(&a, &b) as f32 * step_a * step_b;
            prop_assert!((near - exact).abs() < 0.02, "{near} for {exact}");
        }
    }

    #[test]
    fn nothing_is_near_nothing() {
        assert_eq!(pack(&[0.0; 8]), (vec![0; 8], 0.0));
        assert_eq!(dot(&[], &[]), 0);
    }
}
