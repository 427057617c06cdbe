//! Whether a model fits in memory, before it is loaded: weights, keys and values at the asked context, headroom, held
//! against what is free. Also what it would take at other precisions, so that the best that fits can be named.

use std::path::Path;

use serde_json::Value;

use super::error::ModelError;
use super::{LocalModel, Weights, gguf, safetensors};

/// The dimensions of a model that decide what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimensions {
    /// Numbers in its weights.
    pub parameters: u64,
    /// Bytes of its weights, as its files have them.
    pub weights: u64,
    /// Numbers that the keys and values of one token have, over all layers.
    pub kv_per_token: u64,
    /// Tokens that prompt and reply may have together, as its files say.
    pub window: u64,
}

/// How finely weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// About 4 bits a weight: `Q4_0`, 18 bytes for 32 weights.
    Four,
    /// About 8 bits a weight: `Q8_0`, 34 bytes for 32 weights.
    Eight,
    /// 16 bits a weight.
    Sixteen,
}

impl Precision {
    /// All, finest first.
    pub const ALL: [Self; 3] = [Self::Sixteen, Self::Eight, Self::Four];

    /// The precision of so many bits.
    #[must_use]
    pub fn of_bits(bits: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.bits() == bits)
    }

    /// Bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::Sixteen => 16,
            Self::Eight => 8,
            Self::Four => 4,
        }
    }

    /// Bytes of so many weights, the scales of their blocks included (llama.cpp's block layouts).
    #[must_use]
    pub fn bytes(self, parameters: u64) -> u64 {
        match self {
            Self::Sixteen => parameters * 2,
            Self::Eight => parameters.div_ceil(32) * 34,
            Self::Four => parameters.div_ceil(32) * 18,
        }
    }
}

/// Bytes that a model takes when it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The weights.
    pub weights: u64,
    /// Keys and values of a full context.
    pub kv: u64,
    /// What is needed besides: activations, the embedding table, the allocator's slack.
    pub headroom: u64,
}

impl Needs {
    /// All of it.
    #[must_use]
    pub fn total(self) -> u64 {
        self.weights + self.kv + self.headroom
    }
}

/// A line of [`Dimensions::table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// How finely the weights would be kept.
    pub precision: Precision,
    /// What that takes.
    pub needs: Needs,
    /// Whether that is free.
    pub fits: bool,
}

/// Bytes of a key or value: kept as 32-bit floats on CPUs, which is the most.
const KV_BYTES: u64 = 4;

/// Room besides weights and keys: this much, and a twentieth of the weights.
const HEADROOM: u64 = 256 << 20;

impl Dimensions {
    /// Reads them from a model's files.
    ///
    /// # Errors
    /// [`ModelError`] if the files can't be read.
    pub fn of(model: &LocalModel) -> Result<Self, ModelError> {
        match &model.weights {
            Weights::Gguf(path) => of_gguf(path),
            Weights::Safetensors(dir) => of_safetensors(dir),
        }
    }

    /// What it takes as its files have it, for a context of so many tokens.
    #[must_use]
    pub fn needs(&self, context: u64) -> Needs {
        self.with_weights(self.weights, context)
    }

    /// What it would take at each precision, finest first, with `free` bytes to hold it in.
    #[must_use]
    pub fn table(&self, context: u64, free: u64) -> [Row; 3] {
        Precision::ALL.map(|precision| {
            let needs = self.with_weights(precision.bytes(self.parameters), context);
            Row {
                precision,
                needs,
                fits: needs.total() <= free,
            }
        })
    }

    fn with_weights(&self, weights: u64, context: u64) -> Needs {
        Needs {
            weights,
            kv: self.kv_per_token.saturating_mul(context).saturating_mul(KV_BYTES),
            headroom: HEADROOM + weights / 20,
        }
    }

    /// Checks that it fits.
    ///
    /// # Errors
    /// What it needs, what is free, and what would fit instead.
    pub fn check(&self, model: &LocalModel, context: u64, free: u64) -> Result<(), ModelError> {
        let needs = self.needs(context);
        if needs.total() <= free {
            return Ok(());
        }
        let (Weights::Gguf(path) | Weights::Safetensors(path)) = &model.weights;
        let Needs { weights, kv, headroom } = needs;
        let mut reason = format!(
            "the model `{}` needs {} ({} weights, {} for {context} tokens of context, {} headroom), and {} are free. ",
            model.id,
            gigabytes(needs.total()),
            gigabytes(weights),
            gigabytes(kv),
            gigabytes(headroom),
            gigabytes(free),
        );
        reason.push_str(&self.instead(context, free));
        Err(ModelError::invalid(path, reason))
    }

    /// What to do about a model that does not fit.
    fn instead(&self, context: u64, free: u64) -> String {
        let smaller = self
            .table(context, free)
            .into_iter()
            .find(|row| row.fits && row.needs.weights < self.weights);
        if let Some(row) = smaller {
            let (bits, total) = (row.precision.bits(), gigabytes(row.needs.total()));
            return format!("Quantised to {bits} bits it would need {total} and fit");
        }
        let without_kv = Needs {
            kv: 0,
            ..self.needs(context)
        };
        let left = free.saturating_sub(without_kv.total());
        let tokens = left / self.kv_per_token.saturating_mul(KV_BYTES).max(1) / 512 * 512;
        if tokens >= 512 {
            return format!("With a context of {tokens} tokens (--context-window {tokens}) it would fit");
        }
        "It fits at no precision here; take a smaller model, or a machine with more memory".to_owned()
    }
}

/// Bytes as people read them.
#[must_use]
pub fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

/// Memory that a new model could take, in bytes: what the system has available, or what is left of the limit of the
/// container or job that this process is in.
#[must_use]
pub fn available_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let limited = system.cgroup_limits().map(|limits| limits.free_memory);
    // A limit of 0 is how the library says that there is none.
    let limited = limited.filter(|free| *free > 0).unwrap_or(u64::MAX);
    system.available_memory().min(limited)
}

/// The header names everything. Keys: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
fn of_gguf(path: &Path) -> Result<Dimensions, ModelError> {
    let file = gguf::inspect(path)?;
    let number = |key: &str| file.number(&format!("{}.{key}", file.architecture));
    let layers = number("block_count").unwrap_or(0);
    let heads = number("attention.head_count").unwrap_or(0);
    let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
    let width = number("embedding_length").unwrap_or(0);
    let head = width / heads.max(1);
    let key = number("attention.key_length").unwrap_or(head);
    let value = number("attention.value_length").unwrap_or(head);
    let (mut parameters, mut weights) = (0, 0);
    for tensor in file.content.tensor_infos.values() {
        let numbers = tensor.shape.elem_count() as u64;
        let (block, bytes) = (
            tensor.ggml_dtype.block_size() as u64,
            tensor.ggml_dtype.type_size() as u64,
        );
        parameters += numbers;
        weights += numbers.div_ceil(block.max(1)) * bytes;
    }
    Ok(Dimensions {
        parameters,
        weights,
        kv_per_token: layers * kv_heads * (key + value),
        window: file.context_window.unwrap_or(0) as u64,
    })
}

/// `config.json` in the names of Hugging Face's `transformers`.
fn of_safetensors(dir: &Path) -> Result<Dimensions, ModelError> {
    let inspected = safetensors::inspect(dir)?;
    let path = dir.join("config.json");
    let text = std::fs::read(&path).map_err(ModelError::io("read", &path))?;
    let config: Value = serde_json::from_slice(&text)
        .map_err(|error| ModelError::invalid(&path, format!("it is not JSON: {error}")))?;
    let number = |key: &str| config[key].as_u64();
    let layers = number("num_hidden_layers").unwrap_or(0);
    let heads = number("num_attention_heads").unwrap_or(0);
    let kv_heads = number("num_key_value_heads").unwrap_or(heads);
    let head = number("head_dim").unwrap_or(number("hidden_size").unwrap_or(0) / heads.max(1));
    let mut bytes = 0;
    for file in &inspected.files {
        bytes += std::fs::metadata(file).map_err(ModelError::io("read", file))?.len();
    }
    let wide = inspected.types.get("F32").copied().unwrap_or(0) * 2 > inspected.types.values().sum();
    let parameters = bytes / if wide { 4 } else { 2 };
    Ok(Dimensions {
        parameters,
        // Loaded as 32-bit floats on CPUs, whatever the file has.
        weights: parameters * 4,
        kv_per_token: layers * kv_heads * head * 2,
        window: inspected.context_window.unwrap_or(0) as u64,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The dimensions of Llama 3.1 8B.
    const LLAMA: Dimensions = Dimensions {
        parameters: 8_030_261_248,
        weights: 16_060_522_496,
        kv_per_token: 32 * 8 * 256,
        window: 131_072,
    };

    fn model() -> LocalModel {
        LocalModel {
            id: "llama".to_owned(),
            weights: Weights::Gguf("llama.gguf".into()),
            tokenizer_dir: None,
            context_window: None,
            created: 0,
        }
    }

    #[test]
    fn sizes_are_those_of_published_files() {
        // Published files of this model: 16.07 GB at 16 bits, 8.54 GB at Q8_0, 4.66 GB at Q4_0 (some tensors finer).
        let close = |bytes: u64, published: f64| (bytes as f64 / 1e9 / published - 1.0).abs() < 0.05;
        assert!(close(Precision::Sixteen.bytes(LLAMA.parameters), 16.07));
        assert!(close(Precision::Eight.bytes(LLAMA.parameters), 8.54));
        assert!(close(Precision::Four.bytes(LLAMA.parameters), 4.66));
    }

    #[test]
    fn what_does_not_fit_says_what_would() {
        let check = |context, free| LLAMA.check(&model(), context, free).map_err(|error| error.to_string());
        assert_eq!(check(4096, 24_000_000_000), Ok(()));
        let eight = check(4096, 12_000_000_000).unwrap_err();
        assert!(eight.contains("Quantised to 8 bits"), "{eight}");
        let four = check(4096, 7_000_000_000).unwrap_err();
        assert!(four.contains("Quantised to 4 bits"), "{four}");
        let none = check(4096, 2_000_000_000).unwrap_err();
        assert!(none.contains("smaller model"), "{none}");
        // At the whole window, keys and values are 34 GB: less context helps.
        let shorter = check(131_072, 20_000_000_000).unwrap_err();
        assert!(shorter.contains("--context-window"), "{shorter}");
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(available_memory() > 1 << 20);
    }

    proptest! {
        #[test]
        fn finer_weights_and_longer_contexts_never_take_less(parameters in 1u64..1 << 40, context in 0u64..1 << 20) {
            let model = Dimensions { parameters, ..LLAMA };
            let rows = model.table(context, 0);
            prop_assert!(rows.windows(2).all(|pair| pair[0].needs.total() >= pair[1].needs.total()));
            prop_assert!(model.needs(context + 1).total() >= model.needs(context).total());
        }
    }
}
