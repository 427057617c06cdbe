//! Writes very small GGUF models, whole but for sense.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

/// What can be varied.
pub struct Model {
    pub architecture: &'static str,
    pub pre: &'static str,
    pub window: u32,
    /// Whether some tensors have types without fast kernels.
    pub slow: bool,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            architecture: "llama",
            pre: "smollm",
            window: 128,
            slow: false,
        }
    }
}

impl Model {
    pub fn write(&self, path: &Path) {
        let tokens = vocabulary();
        let metadata = metadata(self.architecture, self.pre, self.window);
        let slow = |kind: GgmlDType| if self.slow { kind } else { GgmlDType::Q8_0 };
        let tensors = [
            ("token_embd.weight", tensor(tokens.len(), 64, GgmlDType::Q8_0)),
            ("blk.0.attn_norm.weight", tensor(1, 64, GgmlDType::F32)),
            ("blk.0.attn_q.weight", tensor(64, 64, slow(GgmlDType::Q4_1))),
            ("blk.0.attn_k.weight", tensor(64, 64, slow(GgmlDType::Q5_0))),
            ("blk.0.attn_v.weight", tensor(64, 64, slow(GgmlDType::Q5_1))),
            ("blk.0.ffn_up.weight", tensor(64, 256, GgmlDType::Q4K)),
        ];
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
        gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
    }
}

/// What a file says of its model's language, and of the window.
pub fn metadata(architecture: &str, pre: &str, window: u32) -> Vec<(String, Value)> {
    let tokens = vocabulary();
    let mut types = vec![Value::I32(1); tokens.len()];
    types[0] = Value::I32(3);
    let text = |text: &str| Value::String(text.into());
    vec![
        ("general.architecture".to_owned(), text(architecture)),
        ("general.file_type".to_owned(), Value::U32(3)),
        (format!("{architecture}.context_length"), Value::U32(window)),
        ("tokenizer.ggml.model".to_owned(), text("gpt2")),
        ("tokenizer.ggml.pre".to_owned(), text(pre)),
        (
            "tokenizer.ggml.tokens".to_owned(),
            Value::Array(tokens.iter().map(|token| text(token)).collect()),
        ),
        ("tokenizer.ggml.token_type".to_owned(), Value::Array(types)),
        ("tokenizer.ggml.merges".to_owned(), Value::Array(vec![text("h e")])),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(0)),
        ("tokenizer.chat_template".to_owned(), text("{{ messages }}")),
    ]
}

fn tensor(rows: usize, columns: usize, kind: GgmlDType) -> QTensor {
    let values: Vec<f32> = (0..rows * columns).map(|n| (n as f32 * 0.37).sin()).collect();
    let tensor = Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, kind).unwrap()
}

/// One control token, the 256 byte characters of byte-level BPE, and one merge.
pub fn vocabulary() -> Vec<String> {
    let mut tokens = vec!["<|end|>".to_owned()];
    let plain = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let shifted = (0..256)
        .filter(|byte| !plain(*byte))
        .enumerate()
        .map(|(n, _)| 256 + n as u32);
    tokens.extend(
        (0..256)
            .filter(|byte| plain(*byte))
            .chain(shifted)
            .map(|code| char::from_u32(code).unwrap().to_string()),
    );
    tokens.push("he".into());
    tokens
}

/// The tensors of a file: type and values.
pub fn read(path: &Path) -> BTreeMap<String, (GgmlDType, Vec<f32>)> {
    let mut file = File::open(path).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let names: Vec<&String> = content.tensor_infos.keys().collect();
    let tensors = names.into_iter().map(|name| {
        let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
        let values = tensor
            .dequantize(&Device::Cpu)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        (name.clone(), (tensor.dtype(), values))
    });
    tensors.collect()
}
