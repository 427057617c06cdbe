//! The arithmetic of a BERT-class sentence embedder: tokens, the model, mean pooling under the mask, length 1.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::{Tokenizer, TruncationParams};

use crate::EngineError;
use crate::models::manifest;

/// The window of sentence-transformers' MiniLM models, for a directory that doesn't say.
const MAX_TOKENS: usize = 256;
/// Texts a forward pass: on CPU more gains nothing and takes more memory.
const BATCH: usize = 32;

/// A loaded model; embedding blocks.
pub struct Bert {
    id: String,
    dimensions: usize,
    model: BertModel,
    tokenizer: Tokenizer,
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
        let load = || {
            let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
            BertModel::load(weights, &config)
        };
        let model = load().map_err(|error| broken(&weights_path, &error.to_string()))?;
        Ok(Self {
            id: format!("{}@{}", name(dir), &hash[..12]),
            dimensions: config.hidden_size,
            model,
            tokenizer,
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

    /// The vectors of the texts, in order.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] if the model can't run.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EngineError> {
        let failed = |error: &dyn std::fmt::Display| EngineError::Unavailable(format!("the embedder failed: {error}"));
        let encodings = self
            .tokenizer
            .encode_batch(texts.to_vec(), true)
            .map_err(|error| failed(&error))?;

        // Texts of like length go together: padding is work for nothing.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&text| encodings[text].get_ids().len());
        let mut vectors = vec![Vec::new(); texts.len()];
        for batch in order.chunks(BATCH) {
            let ids: Vec<&[u32]> = batch.iter().map(|&text| encodings[text].get_ids()).collect();
            let made = self.forward(&ids).map_err(|error| failed(&error))?;
            for (&text, vector) in batch.iter().zip(made) {
                vectors[text] = vector;
            }
        }
        Ok(vectors)
    }

    fn forward(&self, batch: &[&[u32]]) -> candle_core::Result<Vec<Vec<f32>>> {
        let longest = batch.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let mut ids = vec![0u32; batch.len() * longest];
        let mut mask = vec![0f32; ids.len()];
        for (row, tokens) in batch.iter().enumerate() {
            let place = row * longest..row * longest + tokens.len();
            ids[place.clone()].copy_from_slice(tokens);
            mask[place].fill(1.0);
        }
        let ids = Tensor::from_vec(ids, (batch.len(), longest), &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, (batch.len(), longest), &Device::Cpu)?;
        let hidden = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;

        let weights = mask.unsqueeze(2)?;
        let sum = hidden.broadcast_mul(&weights)?.sum(1)?;
        let mean = sum.broadcast_div(&weights.sum(1)?)?;
        let length = mean.sqr()?.sum_keepdim(1)?.sqrt()?;
        mean.broadcast_div(&length)?.to_vec2()
    }
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
