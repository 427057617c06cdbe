//! text-generation-webui's own endpoints below `/v1/internal/`, so that tools written for it work unchanged. Its fields
//! on chat completions are in [`dialect`].

use axum::extract::State;
use habit_engine::{ChatRequest, RawPrompt, Sampling, TokenCounter, TokenLogprob};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use utoipa::ToSchema;

use super::ask::{Asker, Question, whole};
use super::chat_wire::ChatCompletionRequest;
use super::error::{ApiError, ErrorBody, Json};
use crate::app::App;
use crate::auth::Caller;
use crate::turn::MemoryMode;

pub mod dialect;

/// The most tokens that `logits` gives.
const MOST_LOGITS: usize = 100;

/// A text.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TextRequest {
    /// The text.
    pub text: String,
}

/// Tokens.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TokensRequest {
    /// The model's token ids.
    pub tokens: Vec<u32>,
}

/// A text's tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct Encoded {
    /// The model's token ids.
    pub tokens: Vec<u32>,
    /// How many there are.
    pub length: usize,
}

/// A text.
#[derive(Debug, Serialize, ToSchema)]
pub struct Decoded {
    /// The text.
    pub text: String,
}

/// A number of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenCount {
    /// How many there are.
    pub length: usize,
}

/// What comes after a prompt.
#[derive(Debug, Deserialize, ToSchema)]
pub struct LogitsRequest {
    /// The prompt, read as it is.
    pub prompt: String,
    /// How many of the likeliest tokens to give; 50 if absent, at most 100.
    pub top_logits: Option<usize>,
    /// Accepted; the probabilities are always those before sampling.
    pub use_samplers: Option<bool>,
}

/// The likeliest next tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct Logits {
    /// Token text to probability, 0 to 1, the likeliest first.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    pub logits: Map<String, Value>,
}

/// The prompt of a conversation.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatPrompt {
    /// As the model reads it.
    pub prompt: String,
}

/// The default model.
#[derive(Debug, Serialize, ToSchema)]
pub struct LoadedModel {
    /// Its name.
    pub model_name: String,
    /// Adapters on it: none; a trained adapter is a model of its own here.
    pub lora_names: Vec<String>,
}

/// Adapters.
#[derive(Debug, Serialize, ToSchema)]
pub struct Loras {
    /// None: a trained adapter is a model of its own here.
    pub lora_names: Vec<String>,
}

/// All is well.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebuiHealth {
    /// `ok`.
    pub status: &'static str,
}

/// A text's tokens.
#[utoipa::path(
    post, path = "/v1/internal/encode", tag = "webui", operation_id = "webuiEncode", request_body = TextRequest,
    responses((status = 200, body = Encoded), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn encode(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<TextRequest>,
) -> Result<axum::Json<Encoded>, ApiError> {
    let tokens = counter(&app, &caller)?.encode(&body.text).ok_or_else(elsewhere)?;
    let length = tokens.len();
    Ok(axum::Json(Encoded { tokens, length }))
}

/// Tokens' text.
#[utoipa::path(
    post, path = "/v1/internal/decode", tag = "webui", operation_id = "webuiDecode", request_body = TokensRequest,
    responses((status = 200, body = Decoded), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn decode(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<TokensRequest>,
) -> Result<axum::Json<Decoded>, ApiError> {
    let text = super::tokenize::text_of(&*counter(&app, &caller)?, &body.tokens)?;
    Ok(axum::Json(Decoded { text }))
}

/// How many tokens a text has; of a model that is elsewhere, an estimate.
#[utoipa::path(
    post, path = "/v1/internal/token-count", tag = "webui", operation_id = "webuiTokenCount", request_body = TextRequest,
    responses((status = 200, body = TokenCount), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn token_count(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<TextRequest>,
) -> Result<axum::Json<TokenCount>, ApiError> {
    let length = counter(&app, &caller)?.count(&body.text);
    Ok(axum::Json(TokenCount { length }))
}

/// The likeliest tokens after a prompt, with their probabilities.
#[utoipa::path(
    post, path = "/v1/internal/logits", tag = "webui", operation_id = "webuiLogits", request_body = LogitsRequest,
    responses((status = 200, body = Logits), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)),
)]
pub async fn logits(
    State(asker): State<Asker>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<LogitsRequest>,
) -> Result<axum::Json<Logits>, ApiError> {
    let top = body.top_logits.unwrap_or(50).clamp(1, MOST_LOGITS);
    let extra = json!({"logprobs": true, "top_logprobs": top});
    let request = ChatRequest {
        raw: Some(RawPrompt::Text {
            prompt: body.prompt,
            suffix: None,
        }),
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        max_tokens: Some(1),
        extra: extra.as_object().cloned().unwrap_or_default(),
        ..ChatRequest::default()
    };
    let question = Question {
        request,
        store: false,
        conversation: None,
        memory: MemoryMode::Off,
        sources: Vec::new(),
    };
    let turn = asker.turn(caller, &headers, question)?;
    let (reply, ..) = whole(asker.over("prompt").ask(turn).await?.deltas).await?;
    let first = reply.logprobs.into_iter().next().map(|TokenLogprob { top, .. }| top);
    let mut logits = Map::new();
    for top in first.into_iter().flatten() {
        // Of several tokens that are shown alike, such as halves of characters, the likeliest.
        logits.entry(top.token).or_insert_with(|| json!(top.logprob.exp()));
    }
    Ok(axum::Json(Logits { logits }))
}

/// The prompt that a chat completion with this body would make, without what memory adds.
#[utoipa::path(
    post, path = "/v1/internal/chat-prompt", tag = "webui", operation_id = "webuiChatPrompt",
    request_body = ChatCompletionRequest,
    responses((status = 200, body = ChatPrompt), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn chat_prompt(
    State(app): State<App>,
    caller: Caller,
    Json(mut body): Json<ChatCompletionRequest>,
) -> Result<axum::Json<ChatPrompt>, ApiError> {
    dialect::apply(&mut body, &app.library)?;
    // What a search would find is not known before it is made.
    super::file_search::set_aside(&mut body.extra);
    let request = body.parse()?.request;
    let counter = super::tokenize::counter(&app, &caller, &request.model)?;
    let prompt = counter.render(&request)?.ok_or_else(elsewhere)?;
    Ok(axum::Json(ChatPrompt { prompt }))
}

/// Stops the caller's own replies; what there is of them is kept.
#[utoipa::path(
    post, path = "/v1/internal/stop-generation", tag = "webui", operation_id = "webuiStopGeneration",
    responses((status = 200, description = "Done", body = String, content_type = "application/json"),
        (status = 401, body = ErrorBody)),
)]
pub async fn stop_generation(State(app): State<App>, caller: Caller) -> axum::Json<&'static str> {
    let stopped = app.running.stop(&caller.scope);
    tracing::info!(stopped, "replies were stopped by their user");
    axum::Json("OK")
}

/// The default model.
#[utoipa::path(
    get, path = "/v1/internal/model/info", tag = "webui", operation_id = "webuiModelInfo",
    responses((status = 200, body = LoadedModel), (status = 401, body = ErrorBody)),
)]
pub async fn model_info(State(app): State<App>, _: Caller) -> axum::Json<LoadedModel> {
    let first = app.engine.models().into_iter().next();
    axum::Json(LoadedModel {
        model_name: first.map_or_else(|| "None".to_owned(), |info| info.id),
        lora_names: Vec::new(),
    })
}

/// Adapters.
#[utoipa::path(
    get, path = "/v1/internal/lora/list", tag = "webui", operation_id = "webuiLoraList",
    responses((status = 200, body = Loras), (status = 401, body = ErrorBody)),
)]
pub async fn lora_list(_: Caller) -> axum::Json<Loras> {
    axum::Json(Loras { lora_names: Vec::new() })
}

/// That the server answers.
#[utoipa::path(
    get, path = "/v1/internal/health", tag = "webui", operation_id = "webuiHealth",
    responses((status = 200, body = WebuiHealth), (status = 401, body = ErrorBody)),
)]
pub async fn health(_: Caller) -> axum::Json<WebuiHealth> {
    axum::Json(WebuiHealth { status: "ok" })
}

/// Counts for the default model.
fn counter(app: &App, caller: &Caller) -> Result<Arc<dyn TokenCounter>, ApiError> {
    let model = app.engine.resolve("");
    caller.check_model(&model)?;
    let none = || ApiError::unavailable("no model is loaded; load one and try again");
    app.engine.token_counter(&model).ok_or_else(none)
}

fn elsewhere() -> ApiError {
    ApiError::invalid(
        "the default model runs on another server, so its tokens and its template are not known here",
        None,
    )
}
