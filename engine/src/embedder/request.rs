//! What is asked of a model that embeds, and what comes back: the vocabulary of `/v1/embeddings`, as
//! [`crate::chat`] is that of a conversation.

/// A text to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbedInput {
    /// As text.
    Text(String),
    /// As the model's own tokens.
    Tokens(Vec<u32>),
}

/// Texts to embed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmbedRequest {
    /// The model's name as the engine knows it.
    pub model: String,
    /// The texts.
    pub inputs: Vec<EmbedInput>,
    /// Floats a vector, where the model's own number is not wanted.
    pub dimensions: Option<usize>,
}

/// Vectors, in the texts' order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embeddings {
    /// One a text.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts together.
    pub tokens: usize,
}
