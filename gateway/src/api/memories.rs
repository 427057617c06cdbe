//! `/v1/memories`: what is known of a user or a team, in mem0's names where it has them. Thin: what is done is in
//! [`habit_memory::memories`]. Export and erasure of everything, forgetting of a concept, and opt-outs are in [`whole`].

use axum::Json;
use axum::extract::{Path, Query, State};
use habit_memory::facts::{Added, Fact};
use habit_memory::journal::Page;
use habit_memory::memories::{Memories, Search};
use uuid::Uuid;

use crate::api::error::{self, ApiError, ErrorBody};
use crate::app::App;
use crate::auth::Caller;

pub mod given;
mod times;
pub mod which;
pub mod whole;
pub mod wire;

use given::{AddMemory, Content, UpdateMemory};
use which::{MemoryQuery, Paging, SearchMemories};
use wire::{
    AddedMemories, AddedMemory, DeletedMemories, DeletedMemory, EventView, FoundMemories, MemoryList, MemoryView, Pong,
};

/// Memories on a page, unless the request says otherwise, and at most.
const PAGE: (u64, u64) = (100, Page::MOST);

/// Memories that a search gives, unless the request says otherwise, and at most.
const FOUND: (usize, usize) = (10, 100);

/// Remembers something: `text` as it stands, or what the rules find in what users say in `messages`.
#[utoipa::path(
    post, path = "/v1/memories", tag = "memories", operation_id = "addMemories", request_body = AddMemory,
    responses((status = 200, body = AddedMemories), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody)),
)]
pub async fn add(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<AddMemory>,
) -> Result<Json<AddedMemories>, ApiError> {
    let memories = memories(&app)?;
    body.check(&caller)?;
    let given = body.given(app.clock.now_ms())?;
    let added = match body.content()? {
        Content::Texts(texts) => memories.add(&caller.scope, texts, &given).await?,
        Content::Messages(messages) => memories.add_messages(&caller.scope, &messages, &given).await?,
    };
    Ok(Json(AddedMemories {
        results: added.into_iter().map(added_view).collect(),
    }))
}

fn added_view(added: Added) -> AddedMemory {
    AddedMemory {
        id: added.fact.id,
        memory: added.fact.text,
        event: if added.new { "ADD" } else { "NONE" },
        superseded: added.superseded,
    }
}

/// What is remembered, newest first: the user's own, and what the team shares.
#[utoipa::path(
    get, path = "/v1/memories", tag = "memories", operation_id = "listMemories", params(MemoryQuery),
    responses((status = 200, body = MemoryList), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<MemoryQuery>,
) -> Result<Json<MemoryList>, ApiError> {
    let limit = query.limit.or(query.page_size).unwrap_or(PAGE.0);
    if !(1..=PAGE.1).contains(&limit) {
        return Err(ApiError::invalid(
            format!("`limit` must be 1 to {}", PAGE.1),
            Some("limit"),
        ));
    }
    let filter = query.filter(&caller)?;
    let page = Page {
        limit,
        before: query.before,
    };
    let facts = memories(&app)?.list(&caller.scope, &filter, page).await?;
    let has_more = facts.len() as u64 == limit;
    Ok(Json(MemoryList {
        object: "list",
        has_more,
        results: facts.into_iter().map(MemoryView::from).collect(),
    }))
}

/// Deletes all memories that the query means; without one, `all=true` must say so. What the team shares is deleted only
/// with `team_wide=true`.
#[utoipa::path(
    delete, path = "/v1/memories", tag = "memories", operation_id = "deleteMemories", params(MemoryQuery),
    responses((status = 200, body = DeletedMemories), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody)),
)]
pub async fn delete_all(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<MemoryQuery>,
) -> Result<Json<DeletedMemories>, ApiError> {
    let filter = query.filter(&caller)?;
    // mem0's clients name the user where they mean all that there is.
    if filter.is_empty() && query.user_id.is_none() && query.all != Some(true) {
        let message = "say which memories are to be deleted, such as ?run_id=ID, or ?all=true for all of yours";
        return Err(ApiError::invalid(message, Some("all")));
    }
    let whole = filter.is_empty();
    let filter = habit_memory::facts::Filter {
        // All are all, also those that do not hold any more.
        any_status: filter.any_status || whole,
        ..filter
    };
    let deleted = memories(&app)?.delete_all(&caller.scope, &filter).await?;
    Ok(Json(DeletedMemories {
        message: "Memories deleted successfully!",
        deleted,
    }))
}

/// One memory.
#[utoipa::path(
    get, path = "/v1/memories/{id}", tag = "memories", operation_id = "getMemory",
    params(("id" = String, Path, description = "The memory's id.")),
    responses((status = 200, body = MemoryView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<MemoryView>, ApiError> {
    let fact = memories(&app)?.get(&caller.scope, id).await?;
    Ok(Json(fact.into()))
}

/// Changes a memory: its text, its metadata, when it expires; whether it is pinned (shown in every turn), and with
/// `status` whether it is doubted (`quarantined`: kept, and never shown) or holds (`active`).
#[utoipa::path(
    put, path = "/v1/memories/{id}", tag = "memories", operation_id = "updateMemory",
    params(("id" = String, Path, description = "The memory's id.")), request_body = UpdateMemory,
    responses((status = 200, body = MemoryView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    error::Json(body): error::Json<UpdateMemory>,
) -> Result<Json<MemoryView>, ApiError> {
    let change = body.change(app.clock.now_ms())?;
    let fact = memories(&app)?.update(&caller.scope, id, change).await?;
    Ok(Json(fact.into()))
}

/// The same as PUT: what is not named stays in both.
#[utoipa::path(
    patch, path = "/v1/memories/{id}", tag = "memories", operation_id = "patchMemory",
    params(("id" = String, Path, description = "The memory's id.")), request_body = UpdateMemory,
    responses((status = 200, body = MemoryView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn patch(
    state: State<App>,
    caller: Caller,
    id: Path<Uuid>,
    body: error::Json<UpdateMemory>,
) -> Result<Json<MemoryView>, ApiError> {
    update(state, caller, id, body).await
}

/// Deletes a memory: its text is gone, also from its history.
#[utoipa::path(
    delete, path = "/v1/memories/{id}", tag = "memories", operation_id = "deleteMemory",
    params(("id" = String, Path, description = "The memory's id.")),
    responses((status = 200, body = DeletedMemory), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<DeletedMemory>, ApiError> {
    memories(&app)?.delete(&caller.scope, id).await?;
    Ok(Json(DeletedMemory {
        id,
        object: "memory.deleted",
        deleted: true,
        message: "Memory deleted successfully!",
    }))
}

/// What became of a memory, oldest first: a plain list, as mem0 gives it. Of a deleted one it tells that, and no text.
#[utoipa::path(
    get, path = "/v1/memories/{id}/history", tag = "memories", operation_id = "memoryHistory",
    params(("id" = String, Path, description = "The memory's id.")),
    responses((status = 200, body = Vec<EventView>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn history(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<Vec<EventView>>, ApiError> {
    let events = memories(&app)?.history(&caller.scope, id).await?;
    Ok(Json(events.into_iter().map(EventView::from).collect()))
}

/// The memories that fit a question, best first. Without `threshold`, those that a turn would be given. What counts in one
/// conversation only is among them where `run_id` names it.
#[utoipa::path(
    post, path = "/v1/memories/search", tag = "memories", operation_id = "searchMemories", request_body = SearchMemories,
    responses((status = 200, body = FoundMemories), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody)),
)]
pub async fn search(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<SearchMemories>,
) -> Result<Json<FoundMemories>, ApiError> {
    if body.query.trim().is_empty() {
        return Err(ApiError::invalid("`query` is empty", Some("query")));
    }
    let limit = body.top_k.or(body.limit).unwrap_or(FOUND.0);
    if !(1..=FOUND.1).contains(&limit) {
        return Err(ApiError::invalid(
            format!("`top_k` must be 1 to {}", FOUND.1),
            Some("top_k"),
        ));
    }
    if body.threshold.is_some_and(|least| !(0.0..=1.0).contains(&least)) {
        return Err(ApiError::invalid("`threshold` must be 0 to 1", Some("threshold")));
    }
    let (which, metadata) = body.which()?;
    let search = Search {
        filter: which.filter(&caller)?,
        query: body.query,
        limit,
        metadata,
        threshold: body.threshold,
    };
    let found = memories(&app)?.search(&caller.scope, &search).await?;
    let results = found.into_iter().map(|(fact, score)| MemoryView {
        score: Some(score),
        ..fact.into()
    });
    Ok(Json(FoundMemories {
        object: "list",
        results: results.collect(),
    }))
}

/// As GET, with mem0's `filters` in the body (which may be `{}`); pages are counted from 1.
#[utoipa::path(
    post, path = "/v1/memories/list", tag = "memories", operation_id = "filterMemories", params(Paging),
    request_body = SearchMemories,
    responses((status = 200, body = MemoryList), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody)),
)]
pub async fn filtered(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<Paging>,
    error::Json(body): error::Json<SearchMemories>,
) -> Result<Json<MemoryList>, ApiError> {
    let (first, limit) = paging.window(PAGE.0, PAGE.1)?;
    let (which, metadata) = body.which()?;
    let filter = which.filter(&caller)?;
    let page = Page {
        limit: PAGE.1,
        before: None,
    };
    let facts = memories(&app)?.list(&caller.scope, &filter, page).await?;
    let has = |fact: &Fact| {
        metadata
            .iter()
            .all(|(key, value)| fact.metadata.get(key) == Some(value))
    };
    let mut fitting = facts.into_iter().filter(has).skip(first);
    let results: Vec<MemoryView> = fitting.by_ref().take(limit).map(MemoryView::from).collect();
    Ok(Json(MemoryList {
        object: "list",
        has_more: fitting.next().is_some(),
        results,
    }))
}

/// That the key is good, and whose it is, as mem0's clients ask before anything else.
#[utoipa::path(
    get, path = "/v1/ping", tag = "memories", operation_id = "ping",
    responses((status = 200, body = Pong), (status = 401, body = ErrorBody)),
)]
pub async fn ping(caller: Caller) -> Json<Pong> {
    Json(Pong {
        status: "ok",
        org_id: caller.scope.team().to_owned(),
        project_id: caller.scope.team().to_owned(),
        user_email: caller.scope.user().to_owned(),
    })
}

fn memories(app: &App) -> Result<&Memories, ApiError> {
    Ok(&app.memory()?.memories)
}
