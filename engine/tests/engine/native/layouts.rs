//! The native engine over made-up models: small ones with random weights, of each layout and in each type, held against
//! candle's own models; and those that it leaves to mistral.rs.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};
use habit_engine::EngineError;
use habit_engine::native::{Native, NativeOptions};

use crate::layout::{Layout, local};

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
