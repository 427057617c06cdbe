//! A model's weights in memory, read from a GGUF file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor};

use super::matrix::{Format, Matrix};
use super::shape::Shape;
use crate::models::gguf::{self, Inspected};

/// All weights.
#[derive(Debug)]
pub struct Weights {
    /// Hyperparameters.
    pub shape: Shape,
    /// The layers, from the first.
    pub layers: Vec<Layer>,
    /// A row a token; also the output, where the file has no other.
    pub embedding: Matrix,
    /// What makes logits, where the file has it.
    pub output: Option<Matrix>,
    /// The last norm.
    pub norm: Vec<f32>,
    /// Radians a position, for each turned pair.
    pub frequencies: Vec<f32>,
}

/// One layer's weights.
#[derive(Debug)]
pub struct Layer {
    /// The norm before attention.
    pub attention_norm: Vec<f32>,
    /// Rows of query heads.
    pub query: Matrix,
    /// Rows of key heads.
    pub key: Matrix,
    /// Rows of value heads.
    pub value: Matrix,
    /// Added to query, key and value, one after the other (Qwen 2).
    pub bias: Option<Vec<f32>>,
    /// Norms of each head's query and key (Qwen 3).
    pub head_norms: Option<(Vec<f32>, Vec<f32>)>,
    /// From the heads back to the width.
    pub attention_output: Matrix,
    /// The norm before the feed-forward part.
    pub feed_norm: Vec<f32>,
    /// What decides how much of `up` passes.
    pub gate: Matrix,
    /// From the width to the hidden numbers.
    pub up: Matrix,
    /// And back.
    pub down: Matrix,
}

impl Weights {
    /// Reads a file.
    ///
    /// # Errors
    /// What is damaged, missing, or not supported here.
    pub fn read(path: &Path) -> Result<Self, String> {
        let file = gguf::inspect(path).map_err(|error| error.to_string())?;
        let shape = Shape::read(&file)?;
        let reader = File::open(path).map_err(|error| format!("it can't be opened: {error}"))?;
        let mut source = Source { file, reader };

        let (width, hidden) = (shape.width, shape.hidden);
        let queries = shape.heads * shape.kv.width;
        let keys = shape.kv.heads * shape.kv.width;
        let vocabulary = source.rows("token_embd.weight")?;
        let embedding = source.matrix("token_embd.weight", vocabulary, width)?;
        let output = if source.has("output.weight") {
            Some(source.matrix("output.weight", vocabulary, width)?)
        } else {
            None
        };
        let mut layers = Vec::with_capacity(shape.kv.layers);
        for layer in 0..shape.kv.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            for extra in ["attn_output.bias", "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"] {
                if source.has(&name(extra)) {
                    return Err(format!("it has `{}`, which is not computed here", name(extra)));
                }
            }
            layers.push(Layer {
                attention_norm: source.vector(&name("attn_norm.weight"), width)?,
                query: source.matrix(&name("attn_q.weight"), queries, width)?,
                key: source.matrix(&name("attn_k.weight"), keys, width)?,
                value: source.matrix(&name("attn_v.weight"), keys, width)?,
                bias: if source.has(&name("attn_q.bias")) {
                    let mut bias = source.vector(&name("attn_q.bias"), queries)?;
                    bias.extend(source.vector(&name("attn_k.bias"), keys)?);
                    bias.extend(source.vector(&name("attn_v.bias"), keys)?);
                    Some(bias)
                } else {
                    None
                },
                head_norms: if source.has(&name("attn_q_norm.weight")) {
                    let query = source.vector(&name("attn_q_norm.weight"), shape.kv.width)?;
                    Some((query, source.vector(&name("attn_k_norm.weight"), shape.kv.width)?))
                } else {
                    None
                },
                attention_output: source.matrix(&name("attn_output.weight"), width, queries)?,
                feed_norm: source.vector(&name("ffn_norm.weight"), width)?,
                gate: source.matrix(&name("ffn_gate.weight"), hidden, width)?,
                up: source.matrix(&name("ffn_up.weight"), hidden, width)?,
                down: source.matrix(&name("ffn_down.weight"), width, hidden)?,
            });
        }
        let divisors = if source.has("rope_freqs.weight") {
            Some(source.vector("rope_freqs.weight", shape.rope.turned / 2)?)
        } else {
            None
        };
        Ok(Self {
            frequencies: shape.rope.frequencies(divisors.as_deref()),
            norm: source.vector("output_norm.weight", width)?,
            shape,
            layers,
            embedding,
            output,
        })
    }

    /// Tokens of the vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.embedding.rows
    }
}

/// An open file.
struct Source {
    file: Inspected,
    reader: File,
}

impl Source {
    fn has(&self, name: &str) -> bool {
        self.file.content.tensor_infos.contains_key(name)
    }

    /// The rows of a matrix whose number only its own shape tells.
    fn rows(&self, name: &str) -> Result<usize, String> {
        let info = self.file.content.tensor_infos.get(name);
        let rows = info.and_then(|info| info.shape.dims().first().copied());
        rows.ok_or_else(|| format!("it has no `{name}`"))
    }

    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, String> {
        let Some(info) = self.file.content.tensor_infos.get(name) else {
            return Err(format!("it has no `{name}`"));
        };
        let dimensions = info.shape.dims();
        if dimensions != [rows, columns] {
            return Err(format!("`{name}` is {dimensions:?} and should be [{rows}, {columns}]"));
        }
        let format = match info.ggml_dtype {
            GgmlDType::Q8_0 => Format::Q8,
            GgmlDType::Q4_0 => Format::Q4,
            GgmlDType::F16 => Format::Half,
            GgmlDType::BF16 => Format::Brain,
            GgmlDType::F32 => Format::Single,
            _ => return self.repacked(name, rows, columns),
        };
        let bytes = rows * columns / info.ggml_dtype.block_size() * info.ggml_dtype.type_size();
        // The whole tensor lies within the file: it was inspected.
        let mut packed = vec![0; bytes];
        self.reader
            .seek(SeekFrom::Start(self.file.content.tensor_data_offset + info.offset))
            .and_then(|_| self.reader.read_exact(&mut packed))
            .map_err(|error| format!("`{name}` can't be read: {error}"))?;
        Matrix::read(format, rows, columns, &packed).ok_or_else(|| format!("`{name}` is not of whole blocks"))
    }

    /// A type without a kernel of its own, as 8 bits: no smaller type loses anything by it that can be measured.
    fn repacked(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, String> {
        let failed = |error: candle_core::Error| format!("`{name}` can't be read: {error}");
        let tensor = self
            .file
            .content
            .tensor(&mut self.reader, name, &Device::Cpu)
            .map_err(failed)?;
        let floats = tensor.dequantize(&Device::Cpu).map_err(failed)?;
        let packed = QTensor::quantize(&floats, GgmlDType::Q8_0).map_err(failed)?;
        let packed = packed.data().map_err(failed)?;
        Matrix::read(Format::Q8, rows, columns, &packed).ok_or_else(|| format!("`{name}` is not of whole blocks"))
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, String> {
        if !self.has(name) {
            return Err(format!("it has no `{name}`"));
        }
        let failed = |error: candle_core::Error| format!("`{name}` can't be read: {error}");
        let tensor = self
            .file
            .content
            .tensor(&mut self.reader, name, &Device::Cpu)
            .map_err(failed)?;
        let floats = tensor.dequantize(&Device::Cpu).and_then(|floats| floats.flatten_all());
        let floats = floats.and_then(|floats| floats.to_vec1::<f32>()).map_err(failed)?;
        if floats.len() == length {
            Ok(floats)
        } else {
            Err(format!(
                "`{name}` has {} numbers and should have {length}",
                floats.len()
            ))
        }
    }
}
