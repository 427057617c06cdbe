//! Matrices of activations in panels: 16 columns of a matrix, row after row, as products write them.

/// Columns a panel: two AVX2 registers of `f32`.
pub const WIDTH: usize = 16;

/// A matrix of activations: one row a token.
#[derive(Debug, Clone, Default)]
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

    /// Makes room for this size, in the memory that there is; what values there are is not said.
    pub fn resize(&mut self, rows: usize, columns: usize) {
        self.rows = rows;
        self.data.resize(rows * columns, 0.0);
    }

    /// Columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.data.len() / self.rows.max(1)
    }

    /// The panels, each a list of rows of 16.
    pub fn panels(&self) -> impl Iterator<Item = &[[f32; WIDTH]]> {
        self.data
            .chunks_exact((self.rows * WIDTH).max(1))
            .map(|panel| panel.as_chunks().0)
    }

    /// The same, to be changed.
    pub fn panels_mut(&mut self) -> impl Iterator<Item = &mut [[f32; WIDTH]]> {
        self.data
            .chunks_exact_mut((self.rows * WIDTH).max(1))
            .map(|panel| panel.as_chunks_mut().0)
    }
}
