//! `POST /v1/chat/completions`: parses, asks, renders. What a turn does is in [`crate::turn`].

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::HeaderMap;

use super::ask::replies::Replies;
use super::ask::{Asker, Question};
use super::chat_wire::{ChatChunks, ChatCompletion, ChatCompletionRequest, Parsed};
use super::error::{ApiError, ErrorBody, Written};
use super::feedback;
use super::file_search::FileSearch;
use super::generation::reply::{Envelope, Tally};
use super::webui::dialect;
use super::{relay, sse};
use crate::app::App;
use crate::auth::Caller;
use crate::library::Library;
use crate::turn::MemoryMode;

/// Answers a conversation.
///
/// With memory on, what was said in earlier conversations and what stands in documents is put before the model where
/// it bears on the last message; `GET /v1/turns/{id}` shows what that was. A tool of the type `file_search` searches the
/// vector stores that it names, and the reply's `annotations` say which files were read. A client that leaves stops the
/// reply.
///
/// # Errors
/// In OpenAI's shape, as documented below.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "chat",
    operation_id = "createChatCompletion",
    params(
        ("X-Habit-Memory" = Option<String>, Header, description =
            "What memory may do in this turn: `off`, `read` (not remembered), `write` (nothing recalled) or `on`, the default"),
        ("X-Habit-Conversation" = Option<String>, Header, description =
            "Names the conversation, 1 to 128 letters, digits or `._:@/-`. Without it, a conversation is known by the history that is sent"),
    ),
    request_body = ChatCompletionRequest,
    responses(
        (status = 200, description = "The reply; with `stream`, as server-sent events that end with `[DONE]`", content(
            (ChatCompletion = "application/json"),
            (super::chat_wire::ChatCompletionChunk = "text/event-stream"),
        ), headers(
            ("X-Habit-Turn" = String, description = "The turn's id"),
            ("X-Habit-Conversation" = String, description = "The conversation's id"),
        )),
        (status = 400, description = "A field is wrong, or the messages are over the model's window", body = ErrorBody),
        (status = 401, description = "The key is missing or wrong", body = ErrorBody),
        (status = 404, description = "No such model or vector store", body = ErrorBody),
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
    Written(mut body, bytes): Written<ChatCompletionRequest>,
) -> Result<Response, ApiError> {
    let fields: Vec<String> = body.extra.keys().cloned().collect();
    let shape = dialect::apply(&mut body, &library)?;
    // What the dialect translated, an upstream would not understand.
    let plain = body.extra.keys().eq(&fields);
    let verbatim = body.verbatim(bytes).filter(|_| plain);
    let Parsed {
        mut request,
        stream,
        include_usage,
        store,
        conversation,
        feedback: said,
        n,
        tier,
        calls,
    } = body.parse()?;
    // Several replies are drafts of one turn, each asked for on its own, unless the upstream makes them itself.
    let n = match &verbatim {
        Some(_) if n > 1 && asker.relays(&request.model, &headers) => 1,
        _ => n,
    };
    request.verbatim = verbatim.filter(|_| n == 1);
    let search = FileSearch::taken(&app, &caller, &mut request.extra).await?;
    let logprobs = request.extra.contains_key("logprobs");
    let question = Question {
        request,
        store,
        conversation,
        memory: MemoryMode::On,
        sources: search.sources(),
    };
    if let Some(given) = said {
        feedback::of_the_reply_before(&app, &asker, &caller, &headers, &question, given).await?;
    }
    let render = async |mut replies: Replies| {
        let envelope = Envelope::chat(replies.turn, replies.asked_at, replies.trace.model.clone()).tier(tier);
        let mut tally = Tally::new(1, n);
        let cited = search.cited(&replies.trace.injected);
        if stream {
            if replies.trace.relayed && replies.are_written().await {
                return Ok(relay::events(replies.pieces, sse::PING_EVERY));
            }
            let chunks = ChatChunks::new(envelope.chunk(), n, include_usage);
            let chunks = chunks.citing(cited).calling(calls);
            let events = sse::events(replies.pieces, tally, include_usage, chunks);
            return Ok(sse::response(events, sse::PING_EVERY));
        }
        let mut finished = replies.whole().await?;
        if let [only] = finished.as_mut_slice()
            && !only.reply.written.is_empty()
        {
            return Ok(relay::json(std::mem::take(&mut only.reply.written)));
        }
        for (place, reply) in finished.iter().enumerate() {
            tally.add(place, reply.usage);
        }
        let whole = ChatCompletion::new(envelope, finished, tally.usage(), logprobs, &cited, calls);
        Ok(axum::Json(whole).into_response())
    };
    let shape = move |deltas| shape.clone().of(deltas);
    asker.answer(caller, &headers, question.times(n), shape, render).await
}
