//! Weight matrices, and their product with the vectors of several tokens on all threads.

use rayon::prelude::*;

use super::block::{BLOCK, Block, Brain, Half, Q4, Q8, Single};
use super::kernels::{LANES, Lanes, dot, fold, tile, unpack};

/// Rows that are computed together for several tokens: what fits in the registers.
const ROWS: usize = 4;

/// Tasks a thread in one product: enough that a thread which is held up does not hold up all.
const TASKS: usize = 4;

/// A task has at least so many rows: fewer cost more to hand over than to compute.
const FEWEST_ROWS: usize = 16;

/// Rows of weights; a row makes one number of the output.
#[derive(Debug)]
pub struct Matrix {
    /// Numbers of an output.
    pub rows: usize,
    /// Numbers of an input.
    pub columns: usize,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Q8(Vec<Q8>),
    Q4(Vec<Q4>),
    Half(Vec<Half>),
    Brain(Vec<Brain>),
    Single(Vec<Single>),
}

/// How a matrix is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Q8,
    Q4,
    Half,
    Brain,
    Single,
}

/// Does `$body` with `$blocks` as the blocks, whatever they are.
macro_rules! with {
    ($data:expr, $blocks:ident => $body:expr) => {
        match $data {
            Data::Q8($blocks) => $body,
            Data::Q4($blocks) => $body,
            Data::Half($blocks) => $body,
            Data::Brain($blocks) => $body,
            Data::Single($blocks) => $body,
        }
    };
}

impl Matrix {
    /// Reads packed rows. `None` if the columns are not whole blocks or the bytes are not of this shape.
    pub(super) fn read(format: Format, rows: usize, columns: usize, bytes: &[u8]) -> Option<Self> {
        fn blocks<B: Block>(bytes: &[u8]) -> Vec<B> {
            bytes.chunks_exact(B::BYTES).map(B::read).collect()
        }
        let data = match format {
            Format::Q8 => Data::Q8(blocks(bytes)),
            Format::Q4 => Data::Q4(blocks(bytes)),
            Format::Half => Data::Half(blocks(bytes)),
            Format::Brain => Data::Brain(blocks(bytes)),
            Format::Single => Data::Single(blocks(bytes)),
        };
        let read = with!(&data, blocks => blocks.len());
        let fits = columns > 0 && columns.is_multiple_of(BLOCK) && read == rows * (columns / BLOCK);
        fits.then_some(Self { rows, columns, data })
    }

    /// One row, as floats. Nothing for a row that is not there.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        fn copy<B: Block>(blocks: &[B], row: usize, out: &mut [f32]) {
            let (out, _) = out.as_chunks_mut::<BLOCK>();
            if let Some(blocks) = blocks.chunks_exact(out.len()).nth(row) {
                unpack(blocks, out);
            }
        }
        with!(&self.data, blocks => copy(blocks, row, out));
    }
}

/// The product of the matrices' rows, one below the other, with each vector of `x`. All matrices have the columns of
/// the first. To be called on a thread of the pool that shall do the work.
pub(super) fn multiply(matrices: &[&Matrix], x: &[f32], out: &mut [f32]) {
    let Some(columns) = matrices.first().map(|matrix| matrix.columns) else {
        return;
    };
    let tokens = x.len() / columns;
    let rows: usize = matrices.iter().map(|matrix| matrix.rows).sum();
    let share = rows.div_ceil(rayon::current_num_threads() * TASKS).max(FEWEST_ROWS);
    let share = share.next_multiple_of(ROWS);
    let mut tasks: Vec<Task> = Vec::with_capacity(rows / share + matrices.len());
    for matrix in matrices {
        for first in (0..matrix.rows).step_by(share) {
            tasks.push(Task {
                matrix,
                first,
                rows: share.min(matrix.rows - first),
                outs: Vec::with_capacity(tokens),
            });
        }
    }
    for mut rest in out.chunks_exact_mut(rows) {
        for task in &mut tasks {
            let (own, others) = rest.split_at_mut(task.rows);
            task.outs.push(own);
            rest = others;
        }
    }
    tasks.into_par_iter().with_max_len(1).for_each(|mut task| task.run(x));
}

/// Some rows of a product, for all tokens.
struct Task<'a> {
    matrix: &'a Matrix,
    first: usize,
    rows: usize,
    /// Where the results go: for each token, these rows' part of its output.
    outs: Vec<&'a mut [f32]>,
}

impl Task<'_> {
    fn run(&mut self, x: &[f32]) {
        let columns = self.matrix.columns;
        let per_row = columns / BLOCK;
        let range = self.first * per_row..(self.first + self.rows) * per_row;
        with!(&self.matrix.data, blocks => product(&blocks[range], columns, x, &mut self.outs));
    }
}

/// Packed rows times all vectors.
fn product<B: Block>(rows: &[B], columns: usize, x: &[f32], outs: &mut [&mut [f32]]) {
    let per_row = columns / BLOCK;
    match outs {
        [out] => single(rows, per_row, x, out),
        outs => {
            let mut floats = vec![[0.0; BLOCK]; ROWS * per_row];
            for (index, rows) in rows.chunks(ROWS * per_row).enumerate() {
                unpack(rows, &mut floats);
                let floats = floats[..rows.len()].as_flattened().as_chunks::<LANES>().0;
                several(floats, columns / LANES, x, outs, index * ROWS);
            }
        }
    }
}

/// Packed rows times one vector.
fn single<B: Block>(rows: &[B], per_row: usize, x: &[f32], out: &mut [f32]) {
    let (x, _) = x.as_chunks::<BLOCK>();
    for (row, out) in rows.chunks_exact(per_row).zip(out) {
        let mut sums = [0.0; LANES];
        dot(row, x, &mut sums);
        *out = fold(&sums);
    }
}

/// At most [`ROWS`] unpacked rows times all vectors; `at` is the first row's place in the outputs.
fn several(rows: &[Lanes], per_row: usize, x: &[f32], outs: &mut [&mut [f32]], at: usize) {
    let (x, _) = x.as_chunks::<LANES>();
    let mut vectors = x;
    let mut outs = outs;
    if rows.len() < ROWS * per_row {
        for (x, out) in x.chunks_exact(per_row).zip(outs) {
            for (row, out) in rows.chunks_exact(per_row).zip(&mut out[at..]) {
                let mut sums = [[[0.0; LANES]]];
                tile::<1, 1>([row], [x], &mut sums);
                *out = fold(&sums[0][0]);
            }
        }
        return;
    }
    let rows = split(rows, per_row);
    while !outs.is_empty() {
        // Three tokens a tile fill the registers; four are better as two and two.
        let take = match outs.len() {
            1 => 1,
            2 | 4 => 2,
            _ => 3,
        };
        let (now, later) = outs.split_at_mut(take);
        let (x, after) = vectors.split_at(take * per_row);
        match take {
            1 => tiled::<1>(rows, split(x, per_row), now, at),
            2 => tiled::<2>(rows, split(x, per_row), now, at),
            _ => tiled::<3>(rows, split(x, per_row), now, at),
        }
        (outs, vectors) = (later, after);
    }
}

fn tiled<const T: usize>(rows: [&[Lanes]; ROWS], x: [&[Lanes]; T], outs: &mut [&mut [f32]], at: usize) {
    let mut sums = [[[0.0; LANES]; T]; ROWS];
    tile(rows, x, &mut sums);
    for (token, out) in outs.iter_mut().enumerate() {
        for (out, row) in out[at..at + ROWS].iter_mut().zip(&sums) {
            *out = fold(&row[token]);
        }
    }
}

/// `N` pieces of equal length.
fn split<T, const N: usize>(all: &[T], each: usize) -> [&[T]; N] {
    std::array::from_fn(|index| &all[index * each..(index + 1) * each])
}

#[cfg(test)]
mod tests {
    use super::{Format, Matrix, multiply};

    fn bytes(n: usize) -> Vec<u8> {
        (0..n).map(|n| (n * 37 % 251) as u8).collect()
    }

    /// Floats of ordinary size from arbitrary bytes: scales are halves, and a random one may be no number.
    fn matrix(format: Format, rows: usize, columns: usize) -> Matrix {
        let blocks = rows * columns / 32;
        let packed: Vec<u8> = match format {
            Format::Q8 => (0..blocks)
                .flat_map(|n| [vec![n as u8, 0x2c], bytes(32)].concat())
                .collect(),
            Format::Q4 => (0..blocks)
                .flat_map(|n| [vec![n as u8, 0xac], bytes(16)].concat())
                .collect(),
            Format::Half | Format::Brain => (0..blocks * 32).flat_map(|n| [(n % 255) as u8, 0x3c]).collect(),
            Format::Single => (0..blocks * 32)
                .flat_map(|n| ((n % 19) as f32 - 9.0).to_le_bytes())
                .collect(),
        };
        Matrix::read(format, rows, columns, &packed).expect("a matrix")
    }

    #[test]
    fn a_product_is_right_and_the_same_alone_and_among_others() {
        for format in [Format::Q8, Format::Q4, Format::Half, Format::Brain, Format::Single] {
            let parts = [matrix(format, 70, 96), matrix(format, 9, 96)];
            let parts: Vec<&Matrix> = parts.iter().collect();
            for tokens in [1usize, 2, 3, 4, 5, 8, 13] {
                let x: Vec<f32> = (0..tokens * 96).map(|n| ((n * 7 % 23) as f32 - 11.0) / 8.0).collect();
                let mut all = vec![0.0; tokens * 79];
                multiply(&parts, &x, &mut all);
                for (x, together) in x.chunks(96).zip(all.chunks(79)) {
                    let mut alone = vec![0.0; 79];
                    multiply(&parts, x, &mut alone);
                    assert_eq!(alone, together);
                    let mut row = vec![0.0; 96];
                    parts[1].row(8, &mut row);
                    let exact: f64 = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    assert!((f64::from(alone[78]) - exact).abs() < 1e-3 * exact.abs().max(1.0));
                }
            }
        }
    }

    #[test]
    fn what_is_not_of_this_shape_is_refused() {
        assert!(Matrix::read(Format::Q8, 2, 64, &bytes(34 * 3)).is_none());
        assert!(Matrix::read(Format::Q8, 2, 48, &bytes(34 * 3)).is_none());
        assert!(Matrix::read(Format::Q8, 2, 64, &bytes(34 * 4)).is_some());
    }
}
