//! Small models with random weights, of each layout that the native engine computes.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use habit_engine::models::{LocalModel, Silent, Store, Weights};

use crate::gguf;

/// What can be varied.
#[derive(Clone)]
pub struct Layout {
    pub architecture: &'static str,
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
    pub hidden: usize,
    /// Whether the output is a matrix of its own.
    pub output: bool,
    pub kind: GgmlDType,
    /// More metadata, below the architecture's name.
    pub more: Vec<(&'static str, Value)>,
    /// More tensors, of so many numbers, in the first layer.
    pub extra: Vec<(&'static str, usize)>,
}

pub const LAYERS: usize = 2;

impl Layout {
    pub fn of(architecture: &'static str) -> Self {
        // Qwen 3's heads are wider than their share of the width.
        let head = if architecture == "qwen3" { 64 } else { 32 };
        Self {
            architecture,
            width: 256,
            heads: 8,
            kv_heads: 2,
            head,
            hidden: 512,
            output: architecture != "qwen2",
            kind: GgmlDType::F32,
            more: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// Name and shape of all tensors; vectors have one row.
    pub fn tensors(&self) -> Vec<(String, usize, usize)> {
        let (queries, keys) = (self.heads * self.head, self.kv_heads * self.head);
        let words = gguf::vocabulary().len();
        let mut all = vec![
            ("token_embd.weight".to_owned(), words, self.width),
            ("output_norm.weight".to_owned(), 1, self.width),
        ];
        if self.output {
            all.push(("output.weight".to_owned(), words, self.width));
        }
        for layer in 0..LAYERS {
            let mut parts = vec![
                ("attn_norm.weight", 1, self.width),
                ("attn_q.weight", queries, self.width),
                ("attn_k.weight", keys, self.width),
                ("attn_v.weight", keys, self.width),
                ("attn_output.weight", self.width, queries),
                ("ffn_norm.weight", 1, self.width),
                ("ffn_gate.weight", self.hidden, self.width),
                ("ffn_up.weight", self.hidden, self.width),
                ("ffn_down.weight", self.width, self.hidden),
            ];
            match self.architecture {
                "qwen2" => parts.extend([
                    ("attn_q.bias", 1, queries),
                    ("attn_k.bias", 1, keys),
                    ("attn_v.bias", 1, keys),
                ]),
                "qwen3" => parts.extend([
                    ("attn_q_norm.weight", 1, self.head),
                    ("attn_k_norm.weight", 1, self.head),
                ]),
                _ => {}
            }
            if layer == 0 {
                parts.extend(self.extra.iter().map(|(name, length)| (*name, 1, *length)));
            }
            all.extend(
                parts
                    .iter()
                    .map(|(name, rows, columns)| (format!("blk.{layer}.{name}"), *rows, *columns)),
            );
        }
        all
    }

    /// Random numbers of the size that keeps a token's numbers near one.
    pub fn write(&self, path: &Path) {
        let mut noise = 0x2545_f491_u32;
        let mut tensors = Vec::new();
        for (name, rows, columns) in self.tensors() {
            let (middle, size) = match (rows, name.ends_with("bias")) {
                (1, false) => (1.0, 0.2),
                (1, true) => (0.0, 0.5),
                _ => (0.0, (3.0 / columns as f32).sqrt()),
            };
            let mut next = || {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                middle + size * ((noise >> 8) as f32 / f32::from(1u16 << 12) / 2048.0 - 1.0)
            };
            let values: Vec<f32> = (0..rows * columns).map(|_| next()).collect();
            let shape = if rows == 1 { vec![columns] } else { vec![rows, columns] };
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            let kind = if rows == 1 { GgmlDType::F32 } else { self.kind };
            tensors.push((name, QTensor::quantize(&tensor, kind).unwrap()));
        }
        self.finish(path, &tensors);
    }

    fn finish(&self, path: &Path, tensors: &[(String, QTensor)]) {
        let count = |n: usize| Value::U32(n as u32);
        let mut metadata = gguf::metadata(self.architecture, "smollm", 128);
        // For candle's Qwen 3, which otherwise computes in half precision.
        metadata.push(("general.dtype".to_owned(), count(0)));
        let own = [
            ("block_count", count(LAYERS)),
            ("embedding_length", count(self.width)),
            ("feed_forward_length", count(self.hidden)),
            ("attention.head_count", count(self.heads)),
            ("attention.head_count_kv", count(self.kv_heads)),
            ("attention.key_length", count(self.head)),
            ("attention.value_length", count(self.head)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("rope.dimension_count", count(self.head)),
            ("rope.freq_base", Value::F32(10_000.0)),
        ];
        let more = own.into_iter().chain(self.more.iter().cloned());
        metadata.extend(more.map(|(key, value)| (format!("{}.{key}", self.architecture), value)));
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
    }

    /// The model with the very numbers that a file of this layout has, its matrices in another type.
    pub fn write_again(&self, packed: &Path, kind: GgmlDType, path: &Path) {
        let values = gguf::read(packed);
        let plain = |(name, rows, columns): (String, usize, usize)| {
            let shape = if rows == 1 { vec![columns] } else { vec![rows, columns] };
            let tensor = Tensor::from_vec(values[&name].1.clone(), shape, &Device::Cpu).unwrap();
            let kind = if rows == 1 { GgmlDType::F32 } else { kind };
            (name, QTensor::quantize(&tensor, kind).unwrap())
        };
        let tensors: Vec<(String, QTensor)> = self.tensors().into_iter().map(plain).collect();
        self.finish(path, &tensors);
    }
}

/// A model of this file, with the tokenizer that the store makes for such files.
pub async fn local(dir: &Path, path: &Path) -> LocalModel {
    let tokens = dir.join("tokens.gguf");
    if !tokens.exists() {
        Layout::of("llama").write(&tokens);
    }
    let store = Store::open(dir.join("store")).unwrap();
    let spec = tokens.to_str().unwrap();
    LocalModel {
        weights: Weights::Gguf(path.to_owned()),
        ..store.resolve(spec, Arc::new(Silent)).await.unwrap()
    }
}
