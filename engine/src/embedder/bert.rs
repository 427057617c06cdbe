//! A BERT-class sentence embedder: its files, its tokens, and which texts go through the model together. The layers
//! are in `habit-kernels`: ours, because a question of a dozen tokens is mostly overhead in a tensor library.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use habit_kernels::encoder::{Encoder, Shape};
use rayon::ThreadPool;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::{Tokenizer, TruncationParams};

use crate::models::manifest;
use crate::{EmbedInput, EngineError};

/// The window of sentence-transformers' MiniLM models, for a directory that doesn't say.
const MAX_TOKENS: usize = 256;
/// What is read of `config.json`.
#[derive(Debug, Clone, Deserialize)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    layer_norm_eps: Option<f32>,
}

impl Config {
    fn shape(&self) -> Result<Shape, String> {
        let act = self.hidden_act.as_deref().unwrap_or("gelu");
        let positions = self.position_embedding_type.as_deref().unwrap_or("absolute");
        if act != "gelu" || positions != "absolute" {
            return Err(format!(
                "{act} with {positions} positions is not supported, only gelu with absolute ones"
            ));
        }
        Ok(Shape {
            hidden: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            inner: self.intermediate_size,
            positions: self.max_position_embeddings,
            epsilon: self.layer_norm_eps.unwrap_or(1e-12),
        })
    }
}

/// A loaded model; embedding blocks.
pub struct Bert {
    id: String,
    dimensions: usize,
    model: Encoder,
    /// Cuts texts that are too long.
    tokenizer: Tokenizer,
    words: Arc<Words>,
}

/// The model's tokens, uncut.
pub struct Words {
    tokenizer: Tokenizer,
    /// What the model's tokenizer puts before and after a text.
    before: Vec<u32>,
    after: Vec<u32>,
    /// The most tokens a text.
    pub(super) window: usize,
}

impl Words {
    fn new(tokenizer: Tokenizer, window: usize) -> Self {
        // Of an empty text there is only what is put around it: BERT's [CLS] and [SEP].
        let around = tokenizer.encode_fast("", true).map(|text| text.get_ids().to_vec());
        let mut before = around.unwrap_or_default();
        let after = before.split_off(before.len().div_ceil(2));
        Self {
            tokenizer,
            before,
            after,
            window,
        }
    }

    /// The tokens that the model reads for a text.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let encoding = self.tokenizer.encode_fast(text, true);
        encoding.map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default()
    }

    /// These tokens with what belongs around them; `None` if one is not the model's.
    pub(super) fn surround(&self, tokens: &[u32]) -> Option<Vec<u32>> {
        let known = tokens.iter().all(|token| self.tokenizer.id_to_token(*token).is_some());
        if !known {
            return None;
        }
        if tokens.starts_with(&self.before) && tokens.ends_with(&self.after) && !self.before.is_empty() {
            return Some(tokens.to_vec());
        }
        Some([&self.before, tokens, &self.after].concat())
    }
}

impl Bert {
    /// Loads the model of a directory.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] if it doesn't hold a BERT-class model with mean pooling.
    pub fn load(dir: &Path) -> Result<Self, EngineError> {
        let config_path = dir.join("config.json");
        let config: Config = serde_json::from_slice(&read(&config_path)?)
            .map_err(|error| broken(&config_path, &format!("this is no BERT-class model: {error}")))?;
        let pooling = json(dir, "1_Pooling/config.json");
        if pooling["pooling_mode_mean_tokens"] == Value::Bool(false) {
            return Err(broken(
                dir,
                "it pools otherwise than by the mean of tokens, which is not supported",
            ));
        }
        let max_tokens = json(dir, "sentence_bert_config.json")["max_seq_length"].as_u64();
        let max_tokens = max_tokens.and_then(|n| usize::try_from(n).ok()).unwrap_or(MAX_TOKENS);

        let tokenizer_path = dir.join("tokenizer.json");
        let wrong_tokenizer = |error: tokenizers::Error| broken(&tokenizer_path, &error.to_string());
        let mut tokenizer = Tokenizer::from_bytes(read(&tokenizer_path)?).map_err(wrong_tokenizer)?;
        let words = Words::new(
            uncut(tokenizer.clone()).map_err(wrong_tokenizer)?,
            config.max_position_embeddings,
        );
        let max_length = max_tokens.min(config.max_position_embeddings);
        let truncation = TruncationParams {
            max_length,
            ..TruncationParams::default()
        };
        tokenizer.with_truncation(Some(truncation)).map_err(wrong_tokenizer)?;
        // Padding is to the longest of a batch, done below.
        tokenizer.with_padding(None);

        let weights_path = dir.join("model.safetensors");
        let weights = read(&weights_path)?;
        let hash = hex::encode(Sha256::digest(&weights));
        let tensors = candle_core::safetensors::load_buffer(&weights, &Device::Cpu)
            .map_err(|error| broken(&weights_path, &error.to_string()))?;
        let model = config
            .shape()
            .and_then(|shape| Encoder::new(shape, &|name, sizes| tensor(&tensors, name, sizes)))
            .map_err(|error| broken(dir, &error))?;
        Ok(Self {
            id: format!("{}@{}", name(dir), &hash[..12]),
            dimensions: config.hidden_size,
            model,
            tokenizer,
            words: Arc::new(words),
        })
    }

    /// The model's name and the beginning of its weights' hash.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Floats a vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The model's tokens.
    #[must_use]
    pub fn words(&self) -> Arc<Words> {
        Arc::clone(&self.words)
    }

    /// The vectors of the texts, in order, worked out by the pool's threads, but for a question by the caller's: to wake
    /// another thread for one is not worth it. Text is cut to what the model was made for, tokens to what it can read.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] if the model can't run.
    pub fn embed(&self, texts: &[&EmbedInput], pool: &ThreadPool) -> Result<Vec<Vec<f32>>, EngineError> {
        let ids = match texts {
            [one] => self.ids(one).map(|ids| vec![ids]),
            _ => pool.install(|| texts.par_iter().map(|text| self.ids(text)).collect()),
        };
        let ids = ids.map_err(|error| EngineError::Unavailable(format!("the embedder failed: {error}")))?;
        let ids: Vec<&[u32]> = ids.iter().map(AsRef::as_ref).collect();
        Ok(if Encoder::is_alone(&ids) {
            self.model.embed(&ids)
        } else {
            pool.install(|| self.model.embed(&ids))
        })
    }

    fn ids<'a>(&self, text: &'a EmbedInput) -> tokenizers::Result<Cow<'a, [u32]>> {
        Ok(match text {
            EmbedInput::Text(text) => Cow::Owned(self.tokenizer.encode_fast(text.as_str(), true)?.get_ids().to_vec()),
            EmbedInput::Tokens(ids) => Cow::Borrowed(ids.get(..self.words.window).unwrap_or(ids)),
        })
    }
}

/// The tokenizer without a limit or padding of its own.
fn uncut(mut tokenizer: Tokenizer) -> tokenizers::Result<Tokenizer> {
    tokenizer.with_truncation(None)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// A tensor's values, by its name with or without `bert.` before it; a size of 0 may be any.
fn tensor(tensors: &HashMap<String, Tensor>, name: &str, sizes: &[usize]) -> Result<Vec<f32>, String> {
    let tensor = tensors
        .get(name)
        .or_else(|| tensors.get(&format!("bert.{name}")))
        .ok_or_else(|| format!("it has no tensor {name}"))?;
    let found = tensor.dims();
    if found.len() != sizes.len() || found.iter().zip(sizes).any(|(is, want)| *want != 0 && is != want) {
        return Err(format!("its tensor {name} has the sizes {found:?}, not {sizes:?}"));
    }
    let values = tensor
        .to_dtype(DType::F32)
        .and_then(|tensor| tensor.flatten_all()?.to_vec1());
    values.map_err(|error| format!("its tensor {name} can't be read: {error}"))
}

/// The model's name: as the store knows it, or the directory's.
fn name(dir: &Path) -> String {
    let stored = json(dir, manifest::FILE)["id"].as_str().map(str::to_owned);
    stored
        .or_else(|| Some(dir.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "embedder".into())
}

/// A side file's JSON; null where there is none.
fn json(dir: &Path, file: &str) -> Value {
    std::fs::read(dir.join(file))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

fn read(path: &Path) -> Result<Vec<u8>, EngineError> {
    std::fs::read(path).map_err(|error| broken(path, &error.to_string()))
}

fn broken(path: &Path, reason: &str) -> EngineError {
    EngineError::Unavailable(format!(
        "the embedder can't be loaded from {}: {reason}",
        path.display()
    ))
}
