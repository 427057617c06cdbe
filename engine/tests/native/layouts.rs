//! The native engine over made-up models: small ones with random weights, of each layout and in each type, held against
//! candle's own models; and those that it leaves to mistral.rs.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};
use habit_engine::EngineError;
use habit_engine::models::{LocalModel, Silent, Store, Weights};
use habit_engine::native::{Native, NativeOptions};

use crate::gguf;

/// What can be varied.
#[derive(Clone)]
struct Layout {
    architecture: &'static str,
    width: usize,
    heads: usize,
    kv_heads: usize,
    head: usize,
    hidden: usize,
    /// Whether the output is a matrix of its own.
    output: bool,
    kind: GgmlDType,
    /// More metadata, below the architecture's name.
    more: Vec<(&'static str, Value)>,
    /// More tensors, of so many numbers, in the first layer.
    extra: Vec<(&'static str, usize)>,
}

const LAYERS: usize = 2;

/// All types that matrices may have.
const KINDS: [GgmlDType; 12] = [
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q8_0,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

impl Layout {
    fn of(architecture: &'static str) -> Self {
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
    fn tensors(&self) -> Vec<(String, usize, usize)> {
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
    fn write(&self, path: &Path) {
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
    fn write_again(&self, packed: &Path, kind: GgmlDType, path: &Path) {
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
async fn local(dir: &Path, path: &Path) -> LocalModel {
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

async fn native(dir: &Path, path: &Path) -> Result<Native, EngineError> {
    Native::load(local(dir, path).await, NativeOptions::default()).await
}

fn prompt() -> Vec<u32> {
    (0..70).map(|n| 1 + n * 31 % 250).collect()
}

async fn logits(dir: &Path, path: &Path) -> Vec<Vec<f32>> {
    let engine = native(dir, path).await.unwrap();
    engine.prompt_logits(prompt()).await.unwrap()
}

/// The largest difference, as a share of how far the reference's numbers are apart.
fn apart(got: &[Vec<f32>], want: &[Vec<f32>]) -> f32 {
    let pairs = got.iter().flatten().zip(want.iter().flatten());
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let all: Vec<f32> = want.iter().flatten().copied().collect();
    let mean = all.iter().sum::<f32>() / all.len() as f32;
    let spread = (all.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / all.len() as f32).sqrt();
    assert!(spread > 0.1, "a model that says nothing: {spread}");
    worst / spread
}

/// Candle's model of the architecture, a token at a time.
fn reference(architecture: &str, path: &Path) -> Vec<Vec<f32>> {
    let mut file = BufReader::new(File::open(path).unwrap());
    let content = gguf_file::Content::read(&mut file).unwrap();
    let mut forward: Box<dyn FnMut(&Tensor, usize) -> candle_core::Result<Tensor>> = match architecture {
        "llama" => {
            let mut model = quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
            Box::new(move |token, at| model.forward(token, at))
        }
        "qwen2" => {
            let mut model = quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
            Box::new(move |token, at| model.forward(token, at))
        }
        _ => {
            let mut model = quantized_qwen3::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
            Box::new(move |token, at| model.forward(token, at))
        }
    };
    let each = prompt().into_iter().enumerate().map(|(at, token)| {
        let token = Tensor::new(&[[token]], &Device::Cpu).unwrap();
        forward(&token, at).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    });
    each.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_layout_is_computed_as_candle_computes_it() {
    let dir = tempfile::tempdir().unwrap();
    for architecture in ["llama", "qwen2", "qwen3"] {
        let path = dir.path().join(format!("{architecture}.gguf"));
        Layout::of(architecture).write(&path);
        let apart = apart(&logits(dir.path(), &path).await, &reference(architecture, &path));
        assert!(apart < 1e-3, "{architecture}: {apart}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_type_of_weights_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (packed, other) = (dir.path().join("packed.gguf"), dir.path().join("other.gguf"));
    for (n, kind) in KINDS.into_iter().enumerate() {
        let architecture = ["llama", "qwen2", "qwen3"][n % 3];
        let layout = Layout {
            kind,
            ..Layout::of(architecture)
        };
        layout.write(&packed);
        let got = logits(dir.path(), &packed).await;
        let native = matches!(
            kind,
            GgmlDType::F16 | GgmlDType::BF16 | GgmlDType::Q8_0 | GgmlDType::Q4_0
        );
        // Types without a kernel become 8 bits when they are loaded, which loses little.
        let exact = if native { GgmlDType::F32 } else { GgmlDType::Q8_0 };
        layout.write_again(&packed, exact, &other);
        let off = apart(&got, &logits(dir.path(), &other).await);
        assert!(off < 1e-5, "{architecture} in {kind:?}: {off}");
        layout.write_again(&packed, GgmlDType::F32, &other);
        let lost = apart(&got, &logits(dir.path(), &other).await);
        assert!(
            lost < if native { 1e-5 } else { 0.15 },
            "{architecture} in {kind:?}: {lost}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_laid_out_otherwise_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let llama = || Layout::of("llama");
    let cases = [
        (
            Layout {
                architecture: "phi3",
                ..llama()
            },
            "architecture `phi3`",
        ),
        (
            Layout {
                architecture: "qwen3moe",
                ..llama()
            },
            "architecture `qwen3moe`",
        ),
        (
            Layout {
                more: vec![("expert_count", Value::U32(4))],
                ..llama()
            },
            "mixture of experts",
        ),
        (
            Layout {
                more: vec![("attention.sliding_window", Value::U32(64))],
                ..llama()
            },
            "sliding window",
        ),
        (
            Layout {
                more: vec![("rope.scaling.type", Value::String("yarn".into()))],
                ..llama()
            },
            "`yarn`",
        ),
        (Layout { head: 16, ..llama() }, "whole blocks"),
        (Layout { kv_heads: 3, ..llama() }, "3 key-value heads"),
        (
            Layout {
                extra: vec![("attn_output.bias", 256)],
                ..llama()
            },
            "`blk.0.attn_output.bias`",
        ),
    ];
    let path = dir.path().join("other.gguf");
    for (layout, reason) in cases {
        layout.write(&path);
        let error = native(dir.path(), &path).await.err();
        assert!(
            matches!(&error, Some(EngineError::Unavailable(text)) if text.contains(reason)),
            "{reason}: {error:?}"
        );
    }
}

#[cfg(feature = "embedded")]
#[tokio::test(flavor = "multi_thread")]
async fn mistralrs_runs_what_is_left_to_it() {
    use futures::StreamExt;
    use habit_engine::embedded::{Embedded, EmbeddedOptions};
    use habit_engine::{ChatRequest, Delta, Engine, Message, Role};

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("narrow.gguf");
    let narrow = Layout {
        head: 16,
        heads: 16,
        ..Layout::of("llama")
    };
    narrow.write(&path);
    let model = local(dir.path(), &path).await;
    assert!(Native::load(model.clone(), NativeOptions::default()).await.is_err());
    let engine = Embedded::load(model.clone(), EmbeddedOptions::default()).await.unwrap();
    let request = ChatRequest {
        model: model.id,
        messages: vec![Message::new(Role::User, "hi")],
        max_tokens: Some(8),
        ..ChatRequest::default()
    };
    let mut stream = engine.chat(request).await.unwrap();
    let usage = loop {
        if let Delta::Finish { usage, .. } = stream.next().await.unwrap().unwrap() {
            break usage;
        }
    };
    assert!((1..=8).contains(&usage.completion_tokens), "{usage:?}");
}
