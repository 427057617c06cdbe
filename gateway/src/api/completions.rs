//! `POST /v1/completions`: prompts that are no conversations, read as they are. Parses, asks, renders; the wire format
//! is in [`wire`], the pieces of a reply in [`choice`].

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use habit_engine::RawPrompt;
use http::header::HeaderMap;

use self::choice::{TextChoice, TextChunks, TextCompletion};
use self::wire::{CompletionRequest, Parsed};
use super::ask::replies::{Finished, Replies};
use super::ask::{Asker, Question};
use super::error::{ApiError, ErrorBody, Json};
use super::generation::reply::{Envelope, Tally};
use super::sse;
use crate::app::App;
use crate::auth::Caller;
use crate::library::Library;
use crate::turn::{MemoryMode, route};

pub mod choice;
pub mod wire;

/// Goes on with prompts.
///
/// A prompt is read as it is, without the model's chat template; with `suffix`, models that can fill in the middle write
/// what goes between. Memory is off unless `X-Habit-Memory` says otherwise, and nothing is recorded unless `store` is true.
///
/// # Errors
/// In OpenAI's shape, as documented below.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "chat",
    operation_id = "createCompletion",
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The replies; with `stream`, as server-sent events that end with `[DONE]`", content(
            (TextCompletion = "application/json"),
            (TextCompletion = "text/event-stream"),
        )),
        (status = 400, description = "A field is wrong, or a prompt is over the model's window", body = ErrorBody),
        (status = 401, description = "The key is missing or wrong", body = ErrorBody),
        (status = 404, description = "No such model", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 415, description = "The body is not JSON", body = ErrorBody),
        (status = 429, description = "All places are taken; see `Retry-After`", body = ErrorBody),
        (status = 503, description = "The engine or the storage is not there now; see `Retry-After`", body = ErrorBody),
    ),
)]
pub async fn completions(
    State(app): State<App>,
    State(asker): State<Asker>,
    State(library): State<Library>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<CompletionRequest>,
) -> Result<Response, ApiError> {
    let parsed = body.parse(&library)?;
    let echoed = parsed.prompts.iter().filter(|_| parsed.echo);
    let echoes = echoed.map(|prompt| text(&app, &parsed, prompt));
    let echoes = echoes.collect::<Result<Vec<String>, ApiError>>()?;
    let questions = parsed.prompts.iter().map(|prompt| question(&parsed, prompt));
    let questions = questions.flat_map(|question| question.times(parsed.best_of)).collect();
    let render = async |replies: Replies| {
        let envelope = Envelope::text(replies.turn, replies.asked_at, replies.trace.model.clone());
        let mut tally = Tally::new(parsed.prompts.len(), parsed.best_of);
        if parsed.stream {
            let starts = parsed.prompts.iter().map(length).collect();
            let chunks = TextChunks::new(envelope, &parsed, echoes, starts);
            let events = sse::events(replies.pieces, tally, parsed.include_usage, chunks);
            return Ok(sse::response(events, sse::PING_EVERY));
        }
        let finished = replies.whole().await?;
        for (place, reply) in finished.iter().enumerate() {
            tally.add(place, reply.usage);
        }
        let chosen = best(finished, parsed.best_of, parsed.n);
        let choices = chosen.into_iter().enumerate().map(|(index, reply)| {
            let prompt = index / parsed.n;
            let start = parsed.prompts.get(prompt).map_or(0, length);
            TextChoice::whole(index, &parsed, echoes.get(prompt), start, reply)
        });
        let whole = TextCompletion {
            envelope,
            choices: choices.collect(),
            usage: Some(Some(tally.usage().into())),
        };
        Ok(axum::Json(whole).into_response())
    };
    let asker = asker.over("prompt");
    asker.answer(caller, &headers, questions, |deltas| deltas, render).await
}

fn question(parsed: &Parsed, prompt: &RawPrompt) -> Question {
    let mut request = parsed.request.clone();
    request.raw = Some(prompt.clone());
    Question {
        request,
        store: parsed.store,
        conversation: None,
        memory: MemoryMode::Off,
        sources: Vec::new(),
    }
}

/// A prompt's text, to be sent back.
fn text(app: &App, parsed: &Parsed, prompt: &RawPrompt) -> Result<String, ApiError> {
    let tokens = match prompt {
        RawPrompt::Text { prompt, .. } => return Ok(prompt.clone()),
        RawPrompt::Tokens(tokens) => tokens,
    };
    let model = route::resolve(&*app.engine, &parsed.request.model);
    let counter = app.engine.token_counter(&model);
    counter.and_then(|counter| counter.decode(tokens)).ok_or_else(|| {
        let message = "`echo` needs the prompt's text, and these tokens are not the model's, or its tokenizer is not \
                       here; send the prompt as text";
        ApiError::invalid(message, Some("prompt"))
    })
}

/// Characters of a prompt, where they are known: where a reply's text begins.
fn length(prompt: &RawPrompt) -> usize {
    match prompt {
        RawPrompt::Text { prompt, .. } => prompt.chars().count(),
        RawPrompt::Tokens(_) => 0,
    }
}

/// Of `each` replies to a prompt, the `n` with the likeliest tokens.
fn best(replies: Vec<Finished>, each: usize, n: usize) -> Vec<Finished> {
    if each == n {
        return replies;
    }
    let mut chosen = Vec::new();
    let mut replies = replies.into_iter().peekable();
    while replies.peek().is_some() {
        let mut drafts: Vec<Finished> = replies.by_ref().take(each).collect();
        drafts.sort_by(|one, other| other.reply.mean_logprob().total_cmp(&one.reply.mean_logprob()));
        drafts.truncate(n);
        chosen.extend(drafts);
    }
    chosen
}
