//! `POST /tokenize` and `/detokenize`: text and conversations as a model's tokens, and back. The fields are vLLM's, and
//! llama.cpp's (`content`) beside them.

use std::sync::Arc;

use axum::extract::State;
use habit_engine::{EngineError, TokenCounter};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::chat_wire::{ChatCompletionRequest, WireMessage};
use super::error::{ApiError, ErrorBody, Json};
use super::file_search::set_aside;
use crate::app::App;
use crate::auth::Caller;
use crate::turn::route;

/// What to make tokens of: one of `prompt`, `content` and `messages`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct TokenizeRequest {
    /// The model; absent, empty or `default` is the server's default.
    pub model: Option<String>,
    /// A text.
    pub prompt: Option<String>,
    /// A text, by llama.cpp's name.
    pub content: Option<String>,
    /// A conversation, as the model's chat template puts it.
    pub messages: Option<Vec<WireMessage>>,
    /// Give each token's text as well.
    pub return_token_strs: Option<bool>,
    /// With `messages`: what chat completions take (`tools`, `chat_template_kwargs`, …).
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Map<String, Value>,
}

/// A text's tokens.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Tokenized {
    /// How many there are.
    pub count: usize,
    /// Tokens that prompt and reply may have together.
    pub max_model_len: usize,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Their texts, if they were asked for.
    pub token_strs: Option<Vec<String>>,
}

/// What to make text of.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct DetokenizeRequest {
    /// The model; absent, empty or `default` is the server's default.
    pub model: Option<String>,
    /// The model's tokens.
    #[schema(required)]
    pub tokens: Option<Vec<u32>>,
}

/// A text.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Detokenized {
    /// The text.
    pub prompt: String,
    /// The same, by llama.cpp's name.
    pub content: String,
}

/// A text or a conversation as the model's tokens.
#[utoipa::path(
    post, path = "/v1/tokenize", tag = "models", operation_id = "tokenize", request_body = TokenizeRequest,
    responses((status = 200, body = Tokenized), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 415, body = ErrorBody)),
)]
pub async fn tokenize(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<TokenizeRequest>,
) -> Result<axum::Json<Tokenized>, ApiError> {
    let counter = counter(&app, &caller, body.model.as_deref().unwrap_or_default())?;
    let text = match (body.prompt.or(body.content), body.messages) {
        (Some(text), _) => text,
        (None, Some(messages)) => {
            // What a search would find is not known before it is made.
            let mut extra = body.extra;
            set_aside(&mut extra);
            let request = ChatCompletionRequest {
                messages: Some(messages),
                extra,
                ..ChatCompletionRequest::default()
            };
            counter.render(&request.parse()?.request)?.ok_or_else(elsewhere)?
        }
        (None, None) => {
            let message = "there is nothing to tokenize; send `prompt` (or `content`), or `messages`";
            return Err(ApiError::invalid(message, Some("prompt")));
        }
    };
    let tokens = counter.encode(&text).ok_or_else(elsewhere)?;
    let name = |token: &u32| counter.decode(&[*token]).unwrap_or_default();
    let wanted = body.return_token_strs.unwrap_or(false);
    Ok(axum::Json(Tokenized {
        count: tokens.len(),
        max_model_len: counter.context_window(),
        token_strs: wanted.then(|| tokens.iter().map(name).collect()),
        tokens,
    }))
}

/// Tokens as text.
#[utoipa::path(
    post, path = "/v1/detokenize", tag = "models", operation_id = "detokenize", request_body = DetokenizeRequest,
    responses((status = 200, body = Detokenized), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 415, body = ErrorBody)),
)]
pub async fn detokenize(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<DetokenizeRequest>,
) -> Result<axum::Json<Detokenized>, ApiError> {
    let missing = || ApiError::invalid("`tokens` is missing; send a list of token ids", Some("tokens"));
    let tokens = body.tokens.ok_or_else(missing)?;
    let counter = counter(&app, &caller, body.model.as_deref().unwrap_or_default())?;
    let text = text_of(&*counter, &tokens)?;
    Ok(axum::Json(Detokenized {
        prompt: text.clone(),
        content: text,
    }))
}

/// The text of tokens.
///
/// # Errors
/// 400 if one of them is not the model's, or the model runs elsewhere.
pub fn text_of(counter: &dyn TokenCounter, tokens: &[u32]) -> Result<String, ApiError> {
    // One that can make tokens, but no text of these, has not made them.
    if counter.encode("").is_none() {
        return Err(elsewhere());
    }
    let foreign = || ApiError::invalid("`tokens` has a token that is not the model's", Some("tokens"));
    counter.decode(tokens).ok_or_else(foreign)
}

/// Counts for a model, by whatever name it is asked for.
///
/// # Errors
/// 403 if the key may not use the model; 404 if there is no such model.
pub fn counter(app: &App, caller: &Caller, model: &str) -> Result<Arc<dyn TokenCounter>, ApiError> {
    let model = route::resolve(&*app.engine, model);
    caller.check_model(&model)?;
    app.engine.token_counter(&model).ok_or_else(|| {
        let available = app.engine.models().into_iter().map(|info| info.id).collect();
        EngineError::UnknownModel { model, available }.into()
    })
}

fn elsewhere() -> ApiError {
    let message = "this model runs elsewhere and its tokenizer is not here; ask the server that runs it";
    ApiError::invalid(message, Some("model"))
}
