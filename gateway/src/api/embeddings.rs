//! `POST /v1/embeddings`: texts to vectors, by the server's own embedder or by an upstream's. How an embedder is found
//! and asked is in [`source`], for `/v1/rerank` as well.

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use habit_engine::{EmbedInput, EmbedRequest, Embeddings};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::error::{ApiError, ErrorBody, Json};
use crate::app::App;
use crate::auth::Caller;

pub mod source;

/// The most texts a request, as OpenAI has it.
const MOST_TEXTS: usize = 2048;

/// What to embed.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct EmbeddingRequest {
    /// The model; absent, empty or `default` is the server's embedder.
    pub model: Option<String>,
    /// A text, the model's tokens, or a list of either: at most 2048.
    #[schema(required)]
    pub input: Option<EmbeddingInput>,
    /// `float` or `base64` (of 32-bit floats, little-endian).
    pub encoding_format: Option<String>,
    /// Floats a vector: its beginning, made of length 1 again.
    #[schema(minimum = 1)]
    pub dimensions: Option<i64>,
    /// True cuts texts that are over the model's window; they are refused otherwise.
    #[schema(value_type = Option<bool>)]
    pub truncate: Option<Value>,
    /// The end user; not used here.
    pub user: Option<String>,
}

/// What to embed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a string, a list of strings, a list of token ids, or a list of lists of token ids"
)]
pub enum EmbeddingInput {
    /// A text.
    Text(String),
    /// Several.
    Texts(Vec<String>),
    /// A text's tokens.
    Tokens(Vec<u32>),
    /// Several.
    TokenLists(Vec<Vec<u32>>),
}

/// Vectors, in OpenAI's shape.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EmbeddingList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// A vector a text, in order.
    pub data: Vec<EmbeddingBody>,
    /// The model that made them.
    pub model: String,
    /// Tokens.
    pub usage: EmbeddingUsage,
}

/// A vector.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EmbeddingBody {
    /// Always `embedding`.
    #[schema(example = "embedding")]
    pub object: &'static str,
    /// The text's place.
    pub index: usize,
    /// The vector.
    pub embedding: Vector,
}

/// A vector, in the form that was asked for.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Vector {
    /// Floats.
    Floats(Vec<f32>),
    /// Base64 of 32-bit floats, little-endian.
    Base64(String),
}

/// Tokens of all texts together.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct EmbeddingUsage {
    /// Those that the model read.
    pub prompt_tokens: usize,
    /// The same.
    pub total_tokens: usize,
}

/// Turns texts into vectors.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "embeddings", operation_id = "createEmbedding",
    request_body = EmbeddingRequest,
    responses(
        (status = 200, body = EmbeddingList),
        (status = 400, description = "A field is wrong, or a text is over the model's window", body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, description = "No such model", body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody), (status = 429, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn embed(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<EmbeddingRequest>,
) -> Result<axum::Json<EmbeddingList>, ApiError> {
    let base64 = match body.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("`encoding_format` must be float or base64, not `{other}`");
            return Err(ApiError::invalid(message, Some("encoding_format")));
        }
    };
    let truncate = match &body.truncate {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(Value::String(word)) => !word.eq_ignore_ascii_case("none"),
        Some(_) => return Err(ApiError::invalid("`truncate` must be true or false", Some("truncate"))),
    };
    let dimensions = body.dimensions.map(|asked| {
        let wrong = || {
            ApiError::invalid(
                format!("`dimensions` must be 1 or more, not {asked}"),
                Some("dimensions"),
            )
        };
        usize::try_from(asked).ok().filter(|asked| *asked > 0).ok_or_else(wrong)
    });
    let request = EmbedRequest {
        model: body.model.unwrap_or_default(),
        inputs: inputs(body.input)?,
        dimensions: dimensions.transpose()?,
    };
    let (model, Embeddings { vectors, tokens }) = source::embed(&app, &caller, request, truncate).await?;
    let data = vectors.into_iter().enumerate().map(|(index, vector)| EmbeddingBody {
        object: "embedding",
        index,
        embedding: if base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|float| float.to_le_bytes()).collect();
            Vector::Base64(STANDARD.encode(bytes))
        } else {
            Vector::Floats(vector)
        },
    });
    Ok(axum::Json(EmbeddingList {
        object: "list",
        data: data.collect(),
        model,
        usage: EmbeddingUsage {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
    }))
}

fn inputs(input: Option<EmbeddingInput>) -> Result<Vec<EmbedInput>, ApiError> {
    let wrong = |message: &str| Err(ApiError::invalid(message, Some("input")));
    let inputs: Vec<EmbedInput> = match input {
        None => return wrong("`input` is missing; send a text or a list of texts"),
        Some(EmbeddingInput::Text(text)) => vec![EmbedInput::Text(text)],
        Some(EmbeddingInput::Texts(texts)) => texts.into_iter().map(EmbedInput::Text).collect(),
        Some(EmbeddingInput::Tokens(tokens)) => vec![EmbedInput::Tokens(tokens)],
        Some(EmbeddingInput::TokenLists(lists)) => lists.into_iter().map(EmbedInput::Tokens).collect(),
    };
    let is_empty = |input: &EmbedInput| match input {
        EmbedInput::Text(text) => text.is_empty(),
        EmbedInput::Tokens(tokens) => tokens.is_empty(),
    };
    if inputs.is_empty() || inputs.iter().any(is_empty) {
        return wrong("`input` has an empty list or text; there is nothing to embed in it");
    }
    if inputs.len() > MOST_TEXTS {
        return wrong(&format!(
            "`input` may have at most {MOST_TEXTS} texts; send several requests"
        ));
    }
    Ok(inputs)
}
