//! The frozen weights: those of the served file as floats, in the order of rows that other tools use.

use std::path::Path;

use candle_core::{Device, Tensor};
use habit_engine::native::{Matrix, Shape, Weights};

use super::TrainError;
use super::lora::Module;

/// A model to be trained on.
#[derive(Debug)]
pub struct Base {
    /// Hyperparameters.
    pub shape: Shape,
    /// The layers, from the first.
    pub layers: Vec<Frozen>,
    /// A row a token.
    pub embedding: Tensor,
    /// What makes logits: the table of words, where the file has no other.
    pub output: Tensor,
    /// The last norm.
    pub norm: Tensor,
    /// Radians a position, for each turned pair.
    pub frequencies: Vec<f32>,
}

/// A layer's frozen weights.
#[derive(Debug)]
pub struct Frozen {
    /// The norm before attention.
    pub attention_norm: Tensor,
    /// The norm before the feed-forward part.
    pub feed_norm: Tensor,
    /// The matrices, in the order of [`Module::ALL`]; rows are outputs.
    pub matrices: Vec<Tensor>,
    /// What is added to query, key and value.
    pub biases: Option<[Tensor; 3]>,
    /// Norms of each head's query and key.
    pub head_norms: Option<[Tensor; 2]>,
}

impl Base {
    /// Reads a GGUF file.
    ///
    /// # Errors
    /// [`TrainError::Unfit`] for what is damaged or not of a layout that is known.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let weights = Weights::read(path).map_err(TrainError::Unfit)?;
        let shape = weights.shape;
        let head = shape.kv.width;
        if shape.rope.neighbours && shape.rope.turned != head {
            let reason = "its heads are turned in part, which is not known how to train in this layout";
            return Err(TrainError::Unfit(reason.to_owned()));
        }
        let permuted = shape.rope.neighbours.then_some(head);
        let (queries, keys) = (shape.heads * head, shape.kv.heads * head);
        let mut layers = Vec::with_capacity(weights.layers.len());
        for layer in weights.layers {
            let matrices = [
                (&layer.query, permuted),
                (&layer.key, permuted),
                (&layer.value, None),
                (&layer.attention_output, None),
                (&layer.gate, None),
                (&layer.up, None),
                (&layer.down, None),
            ];
            let biases = match &layer.bias {
                Some(bias) => Some([
                    rows(&bias[..queries], 1, permuted)?.flatten_all()?,
                    rows(&bias[queries..queries + keys], 1, permuted)?.flatten_all()?,
                    vector(&bias[queries + keys..])?,
                ]),
                None => None,
            };
            let head_norms = match &layer.head_norms {
                Some((query, key)) => Some([vector(query)?, vector(key)?]),
                None => None,
            };
            layers.push(Frozen {
                attention_norm: vector(&layer.attention_norm)?,
                feed_norm: vector(&layer.feed_norm)?,
                matrices: matrices
                    .into_iter()
                    .map(|(matrix, permuted)| floats(matrix, permuted))
                    .collect::<Result<_, _>>()?,
                biases,
                head_norms,
            });
        }
        let embedding = floats(&weights.embedding, None)?;
        Ok(Self {
            output: match &weights.output {
                Some(output) => floats(output, None)?,
                None => embedding.clone(),
            },
            embedding,
            norm: vector(&weights.norm)?,
            frequencies: weights.frequencies,
            shape,
            layers,
        })
    }

    /// Outputs and inputs of a module's matrix.
    #[must_use]
    pub fn dimensions(shape: &Shape, module: Module) -> (usize, usize) {
        let (queries, keys) = (shape.heads * shape.kv.width, shape.kv.heads * shape.kv.width);
        match module {
            Module::Query => (queries, shape.width),
            Module::Key | Module::Value => (keys, shape.width),
            Module::Output => (shape.width, queries),
            Module::Gate | Module::Up => (shape.hidden, shape.width),
            Module::Down => (shape.width, shape.hidden),
        }
    }
}

fn vector(numbers: &[f32]) -> Result<Tensor, TrainError> {
    Ok(Tensor::new(numbers, &Device::Cpu)?)
}

fn floats(matrix: &Matrix, permuted: Option<usize>) -> Result<Tensor, TrainError> {
    let mut all = vec![0.0; matrix.rows * matrix.columns];
    for (row, out) in all.chunks_exact_mut(matrix.columns).enumerate() {
        matrix.row(row, out);
    }
    match permuted {
        None => Ok(Tensor::from_vec(all, (matrix.rows, matrix.columns), &Device::Cpu)?),
        Some(_) => rows(&all, matrix.columns, permuted),
    }
}

/// Rows of `columns` numbers. llama's files have the rows of each head of `permuted` rows in another order: those that
/// are turned together are neighbours, where elsewhere they are half a head apart.
fn rows(all: &[f32], columns: usize, permuted: Option<usize>) -> Result<Tensor, TrainError> {
    let count = all.len() / columns;
    let mut ordered = Vec::with_capacity(all.len());
    for row in 0..count {
        let from = permuted.map_or(row, |head| in_file(row, head));
        ordered.extend_from_slice(&all[from * columns..(from + 1) * columns]);
    }
    Ok(Tensor::from_vec(ordered, (count, columns), &Device::Cpu)?)
}

/// Where a llama file has the row that is elsewhere the `row`-th, with heads of so many rows.
#[must_use]
pub fn in_file(row: usize, head: usize) -> usize {
    let (start, within) = (row / head * head, row % head);
    let (half, pair) = (within / (head / 2), within % (head / 2));
    start + 2 * pair + half
}

#[cfg(test)]
mod tests {
    use super::in_file;

    #[test]
    fn halves_become_neighbours() {
        let order: Vec<usize> = (0..12).map(|row| in_file(row, 6)).collect();
        assert_eq!(order, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}
