//! Which embedder a name means, and how it is asked: the server's own by its tokens, so that they are counted and
//! nothing is cut unseen; an upstream's as it came.

use std::sync::Arc;
use std::time::Instant;

use habit_engine::{EmbedInput, EmbedRequest, Embedder, Embeddings, EngineError, ModelInfo, TokenEmbedder};

use crate::api::error::ApiError;
use crate::app::App;
use crate::auth::Caller;
use crate::turn::route::DEFAULT_MODEL;

/// Texts that go to the embedder at once: memory's own questions come in between.
const BATCH: usize = 32;

/// The server's own embedder as a model that can be asked for.
#[must_use]
pub fn info(app: &App) -> Option<ModelInfo> {
    let embedder = &app.memory.as_ref()?.embedder;
    Some(ModelInfo {
        id: embedder.name().to_owned(),
        context_window: embedder.tokens().map(TokenEmbedder::window),
        owned_by: "habit".to_owned(),
        created: 0,
    })
}

/// The model that a name means here, by its own name.
#[must_use]
pub fn meant(app: &App, name: &str) -> String {
    let own = app.memory.as_ref().map(|memory| &memory.embedder);
    match own {
        Some(own) if name.is_empty() || name == DEFAULT_MODEL || name == own.id() => own.name().to_owned(),
        _ => app.engine.resolve(name),
    }
}

/// The vectors, and the name of the model that made them. The caller's key is charged for them.
///
/// # Errors
/// 403 if the key may not use the model, 429 if it has used enough; 400 if a text is too long (unless it may be cut), a token is not the model's, or the vectors are shorter than asked
/// for; 404 for an unknown model.
pub async fn embed(
    app: &App,
    caller: &Caller,
    request: EmbedRequest,
    truncate: bool,
) -> Result<(String, Embeddings), ApiError> {
    if caller.is_limited_to_models() {
        caller.check_model(&meant(app, &request.model))?;
    }
    let reserved = caller.meter.as_ref().map(|meter| meter.reserve(1, Instant::now()));
    let reserved = reserved.transpose()?;
    let (model, embeddings) = made(app, request, truncate).await?;
    if let Some(mut reserved) = reserved {
        reserved.used(u32::try_from(embeddings.tokens).unwrap_or(u32::MAX));
    }
    Ok((model, embeddings))
}

async fn made(app: &App, request: EmbedRequest, truncate: bool) -> Result<(String, Embeddings), ApiError> {
    let own = app.memory.as_ref().map(|memory| Arc::clone(&memory.embedder));
    let asked = request.model.as_str();
    match own {
        Some(own) if asked.is_empty() || asked == DEFAULT_MODEL || asked == own.name() || asked == own.id() => {
            let embeddings = by_own(&own, request, truncate).await?;
            Ok((own.name().to_owned(), embeddings))
        }
        own => {
            if let Some(own) = own
                && !app.engine.models().iter().any(|info| info.id == asked)
            {
                let available = vec![own.name().to_owned()];
                let model = request.model;
                return Err(EngineError::UnknownModel { model, available }.into());
            }
            let model = request.model.clone();
            Ok((model, app.engine.embed(request).await?))
        }
    }
}

async fn by_own(own: &Arc<dyn Embedder>, request: EmbedRequest, truncate: bool) -> Result<Embeddings, ApiError> {
    let whole = own.dimensions();
    let dimensions = request.dimensions.unwrap_or(whole);
    if dimensions > whole {
        let message = format!("`dimensions` must be at most {whole}, as many as this model makes, not {dimensions}");
        return Err(ApiError::invalid(message, Some("dimensions")));
    }
    // Texts become tokens off the runtime's threads: there may be megabytes of them.
    let reader = Arc::clone(own);
    let read = tokio::task::spawn_blocking(move || tokens(&*reader, request.inputs, truncate)).await;
    let texts = read.map_err(|error| ApiError::internal(error.to_string()))??;
    let by_tokens = own.tokens().ok_or_else(uncounted)?;
    let tokens = texts.iter().map(Vec::len).sum();
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        vectors.extend(by_tokens.embed_tokens(batch.to_vec()).await?);
    }
    if dimensions < whole {
        vectors.iter_mut().for_each(|vector| shorten(vector, dimensions));
    }
    Ok(Embeddings { vectors, tokens })
}

fn tokens(own: &dyn Embedder, inputs: Vec<EmbedInput>, truncate: bool) -> Result<Vec<Vec<u32>>, ApiError> {
    let own = own.tokens().ok_or_else(uncounted)?;
    let window = own.window();
    let read = |(place, input): (usize, EmbedInput)| {
        let mut tokens = match &input {
            EmbedInput::Text(text) => own.encode(text),
            EmbedInput::Tokens(tokens) => own.surround(tokens).ok_or_else(|| foreign(place))?,
        };
        if tokens.len() > window {
            if !truncate {
                return Err(too_long(place, tokens.len(), window));
            }
            // What ends a text stays at its end.
            let end = tokens.last().copied();
            tokens.truncate(window.saturating_sub(1));
            tokens.extend(end);
        }
        Ok(tokens)
    };
    inputs.into_iter().enumerate().map(read).collect()
}

fn uncounted() -> ApiError {
    ApiError::invalid(
        "this server's embedder can't be asked from outside; name another model",
        Some("model"),
    )
}

fn foreign(place: usize) -> ApiError {
    let message = format!(
        "`input[{place}]` has a token that is not one of this model's; send text, so that the server makes the tokens \
         (langchain-openai: check_embedding_ctx_length=False)"
    );
    ApiError::invalid(message, Some("input"))
}

fn too_long(place: usize, tokens: usize, window: usize) -> ApiError {
    let message = format!(
        "this model's maximum context length is {window} tokens, but `input[{place}]` has {tokens}; shorten it, or send \
         `truncate: true`"
    );
    let error = ApiError::invalid(message, Some("input"));
    ApiError {
        code: "context_length_exceeded".into(),
        ..error
    }
}

/// A vector's beginning, of length 1 again.
fn shorten(vector: &mut Vec<f32>, dimensions: usize) {
    vector.truncate(dimensions);
    let length = vector.iter().map(|float| float * float).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|float| *float /= length);
    }
}
