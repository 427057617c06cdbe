//! `POST /v1/rerank`: documents in the order in which they bear on a query, by the likeness of their vectors. The shape
//! is the one that Cohere's and Jina's clients share.

use axum::extract::State;
use habit_engine::{EmbedInput, EmbedRequest};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::embeddings::{EmbeddingUsage, source};
use super::error::{ApiError, ErrorBody, Json};
use super::generation::count;
use crate::app::App;
use crate::auth::Caller;

/// The most documents a request.
const MOST_DOCUMENTS: usize = 1000;

/// What to put in order.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct RerankRequest {
    /// The embedder; absent, empty or `default` is the server's.
    pub model: Option<String>,
    /// What is looked for.
    #[schema(required)]
    pub query: Option<String>,
    /// Where: at most 1000. What is over the model's window is cut.
    #[schema(required)]
    pub documents: Option<Vec<RerankDocument>>,
    /// Give only so many, the best.
    #[schema(minimum = 1)]
    pub top_n: Option<i64>,
    /// Send the documents back with their scores.
    pub return_documents: Option<bool>,
}

/// A document.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string, or an object with a `text`")]
pub enum RerankDocument {
    /// Its text.
    Text(String),
    /// Its text in an object.
    Object(TextDocument),
}

/// A document as an object.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TextDocument {
    /// Its text.
    pub text: String,
}

/// The documents in order.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Reranked {
    /// `rerank-…`.
    pub id: String,
    /// The model that compared them.
    pub model: String,
    /// The best first.
    pub results: Vec<RerankResult>,
    /// Tokens.
    pub usage: EmbeddingUsage,
}

/// A document's place.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RerankResult {
    /// Which document of the request it is.
    pub index: usize,
    /// How well it fits, 0 to 1.
    pub relevance_score: f32,
    /// The document, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<TextDocument>,
}

/// Puts documents in the order in which they bear on a query.
#[utoipa::path(
    post, path = "/v1/rerank", tag = "embeddings", operation_id = "rerank", request_body = RerankRequest,
    responses(
        (status = 200, body = Reranked), (status = 400, description = "A field is wrong", body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, description = "No such model", body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody), (status = 429, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn rerank(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<RerankRequest>,
) -> Result<axum::Json<Reranked>, ApiError> {
    let wrong = |param: &str, must: &str| ApiError::invalid(format!("`{param}` must be {must}"), Some(param));
    let query = body.query.filter(|query| !query.trim().is_empty());
    let query = query.ok_or_else(|| wrong("query", "a text"))?;
    let documents = body.documents.unwrap_or_default();
    if documents.is_empty() || documents.len() > MOST_DOCUMENTS {
        return Err(wrong("documents", &format!("a list of 1 to {MOST_DOCUMENTS} texts")));
    }
    let top = count("top_n", body.top_n, 1..=i64::MAX, documents.len())?;
    let texts: Vec<String> = documents.into_iter().map(RerankDocument::text).collect();
    let inputs = std::iter::once(&query).chain(&texts).cloned().map(EmbedInput::Text);
    let request = EmbedRequest {
        model: body.model.unwrap_or_default(),
        inputs: inputs.collect(),
        dimensions: None,
    };
    let (model, embeddings) = source::embed(&app, &caller, request, true).await?;
    let mut vectors = embeddings.vectors.into_iter();
    let query = vectors.next().unwrap_or_default();
    let mut scored: Vec<(usize, f32)> = vectors.map(|vector| dot(&query, &vector)).enumerate().collect();
    // Stable: of equals the earlier one comes first.
    scored.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    scored.truncate(top);
    let wanted = body.return_documents.unwrap_or(false);
    let results = scored.into_iter().map(|(index, score)| RerankResult {
        index,
        relevance_score: score.clamp(0.0, 1.0),
        document: texts
            .get(index)
            .filter(|_| wanted)
            .map(|text| TextDocument { text: text.clone() }),
    });
    Ok(axum::Json(Reranked {
        id: format!("rerank-{}", Uuid::now_v7().simple()),
        model,
        results: results.collect(),
        usage: EmbeddingUsage {
            prompt_tokens: embeddings.tokens,
            total_tokens: embeddings.tokens,
        },
    }))
}

impl RerankDocument {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Object(TextDocument { text }) => text,
        }
    }
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}
