//! A double of an embedder: texts that share words are near, without a model.

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use crate::{Embedder, EngineError, TokenEmbedder};

/// Characters a text, at most, for those who count them.
const WINDOW: usize = 512;

/// Hashes each word to a dimension. The id and the vectors depend on nothing but the dimensions.
#[derive(Debug, Clone)]
pub struct HashEmbedder {
    dimensions: usize,
    id: String,
}

impl HashEmbedder {
    /// Vectors of so many floats (at least two).
    #[must_use]
    pub fn new(dimensions: usize) -> Self {
        let dimensions = dimensions.max(2);
        Self {
            dimensions,
            id: format!("hash@{dimensions}"),
        }
    }

    fn vector(&self, text: &str) -> Vec<f32> {
        let mut vector = vec![0.0; self.dimensions];
        let lower = text.to_lowercase();
        for word in lower
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
        {
            let hash = Sha256::digest(word.as_bytes());
            // The last dimension is for texts without words.
            let place = u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]) as usize % (self.dimensions - 1);
            vector[place] += 1.0;
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length == 0.0 {
            vector[self.dimensions - 1] = 1.0;
        } else {
            for x in &mut vector {
                *x /= length;
            }
        }
        vector
    }
}

impl Default for HashEmbedder {
    fn default() -> Self {
        Self::new(384)
    }
}

#[async_trait]
impl Embedder for HashEmbedder {
    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(texts.iter().map(|text| self.vector(text)).collect())
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn tokens(&self) -> Option<&dyn TokenEmbedder> {
        Some(self)
    }
}

/// A token is a character.
#[async_trait]
impl TokenEmbedder for HashEmbedder {
    fn encode(&self, text: &str) -> Vec<u32> {
        text.chars().map(u32::from).collect()
    }

    fn surround(&self, tokens: &[u32]) -> Option<Vec<u32>> {
        let known = tokens.iter().all(|token| char::from_u32(*token).is_some());
        known.then(|| tokens.to_vec())
    }

    fn window(&self) -> usize {
        WINDOW
    }

    async fn embed_tokens(&self, texts: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, EngineError> {
        let text = |tokens: &Vec<u32>| tokens.iter().copied().filter_map(char::from_u32).collect::<String>();
        Ok(texts.iter().map(|tokens| self.vector(&text(tokens))).collect())
    }
}
