//! `/v1/documents`: give documents to memory, for all conversations of a user or a team or for one conversation only;
//! list them, search them, and really delete them. Reading a file is in [`ingest`].

use std::time::Duration;

use axum::Json;
use axum::extract::{Multipart, Path, Query, State};
use habit_memory::context::{Request, gather};
use habit_memory::documents::{Document, Place};
use habit_memory::index::Removal;
use habit_memory::overflow::Gone;
use habit_memory::passage::SourceKind;
use habit_memory::scope::Scope;
use uuid::Uuid;

use crate::api::error::{self, ApiError, ErrorBody};
use crate::api::turns::{Deleted, PassageView};
use crate::app::{App, MemoryParts};
use crate::auth::Caller;

pub mod ingest;
pub mod wire;

use ingest::Upload;
use wire::{
    Cleared, ConversationQuery, DocumentList, DocumentView, FileError, Ingested, ListQuery, Search, SearchResults,
    UploadForm,
};

/// How long an upload waits until its passages can be found. They are safe in the journal before that; a large
/// document that takes longer is found a little later.
const INDEX_WAIT: Duration = Duration::from_secs(20);

/// Passages that a search gives, unless the request says otherwise, and at most.
const SEARCH: (usize, usize) = (5, 50);

/// A search may take longer than a source of a turn: someone is waiting for just this.
const SEARCH_DEADLINE: Duration = Duration::from_secs(10);

/// Gives documents to memory. A document of the same name and place is replaced.
#[utoipa::path(
    post, path = "/v1/documents", tag = "documents", operation_id = "createDocuments",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "At least one file is in memory.", body = Ingested),
        (status = 400, description = "No file could be read.", body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 413, body = ErrorBody),
    ),
)]
pub async fn upload(
    State(app): State<App>,
    caller: Caller,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Result<Json<Ingested>, ApiError> {
    let memory = app.memory()?;
    let form = form.map_err(|rejection| {
        let why = rejection.body_text();
        ApiError::unsupported_media_type(format!(
            "{why}; send the files as multipart/form-data (curl -F file=@FILE)"
        ))
    })?;
    let Upload {
        place,
        conversation,
        wait,
        files,
    } = ingest::read_form(form).await?;
    let scope = match conversation {
        Some(conversation) => caller.scope.in_conversation(conversation),
        None => caller.scope,
    };
    let (mut data, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.name.clone();
        match ingest::ingest(memory, &scope, place, file, app.clock.now_ms()).await {
            Ok(document) => data.push(DocumentView::from(document)),
            Err(error) if ingest::is_about_the_file(&error) => errors.push(FileError {
                name,
                message: error.to_string(),
            }),
            Err(error) => return Err(error.into()),
        }
    }
    if data.is_empty() {
        let messages: Vec<String> = errors.into_iter().map(|error| error.message).collect();
        let error = ApiError::new(
            http::StatusCode::BAD_REQUEST,
            "unreadable_document",
            messages.join("; "),
        );
        return Err(error.with_param("file"));
    }
    memory.indexer.wake();
    let patience = if wait { INDEX_WAIT } else { Duration::ZERO };
    let indexed = memory.indexer.caught_up(patience).await;
    Ok(Json(Ingested {
        object: "list",
        data,
        errors,
        indexed,
    }))
}

/// The documents that the caller's questions can reach: the user's, the team's, and a conversation's if one is named; with
/// `name` those of that name.
#[utoipa::path(
    get, path = "/v1/documents", tag = "documents", operation_id = "listDocuments", params(ListQuery),
    responses((status = 200, body = DocumentList), (status = 401, body = ErrorBody)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<DocumentList>, ApiError> {
    let scope = in_conversation(caller.scope, query.conversation);
    let documents = app.memory()?.journal.documents(&scope).await?;
    let wanted = |document: &Document| query.name.as_ref().is_none_or(|name| document.name == *name);
    Ok(Json(DocumentList {
        object: "list",
        data: documents.into_iter().filter(wanted).map(DocumentView::from).collect(),
    }))
}

/// One document. A conversation's document is found only with its conversation.
#[utoipa::path(
    get, path = "/v1/documents/{id}", tag = "documents", operation_id = "getDocument",
    params(("id" = String, Path, description = "The document's id."), ConversationQuery),
    responses((status = 200, body = DocumentView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<ConversationQuery>,
) -> Result<Json<DocumentView>, ApiError> {
    let scope = in_conversation(caller.scope, query.conversation);
    let document = app.memory()?.journal.document(&scope, id).await?;
    document
        .map(|document| Json(document.into()))
        .ok_or_else(|| unknown(id))
}

/// Deletes a document with all its passages. A team's document may be deleted by any of its users.
#[utoipa::path(
    delete, path = "/v1/documents/{id}", tag = "documents", operation_id = "deleteDocument",
    params(("id" = String, Path, description = "The document's id."), ConversationQuery),
    responses((status = 200, body = Deleted), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<ConversationQuery>,
) -> Result<Json<Deleted>, ApiError> {
    let scope = in_conversation(caller.scope, query.conversation);
    if !remove(app.memory()?, &scope, &[id]).await?.contains(&id) {
        return Err(unknown(id));
    }
    Ok(Json(Deleted {
        id: id.to_string(),
        object: "document.deleted",
        deleted: true,
    }))
}

/// Deletes all documents that were given for one conversation.
#[utoipa::path(
    delete, path = "/v1/documents", tag = "documents", operation_id = "clearConversationDocuments",
    params(("conversation" = String, Query, description = "The conversation's id.")),
    responses((status = 200, body = Cleared), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn clear(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ConversationQuery>,
) -> Result<Json<Cleared>, ApiError> {
    let Some(conversation) = query.conversation.filter(|conversation| !conversation.is_empty()) else {
        let message = "name the conversation whose documents are to be deleted: ?conversation=ID";
        return Err(ApiError::invalid(message, Some("conversation")));
    };
    let memory = app.memory()?;
    let scope = caller.scope.in_conversation(&conversation);
    let documents = memory.journal.documents(&scope).await?;
    let own = |document: &&Document| {
        document.place == Place::Conversation && document.scope.conversation() == Some(conversation.as_str())
    };
    let ids: Vec<Uuid> = documents.iter().filter(own).map(|document| document.id).collect();
    let deleted = remove(memory, &scope, &ids).await?;
    Ok(Json(Cleared { conversation, deleted }))
}

/// The passages of documents that a question would find.
#[utoipa::path(
    post, path = "/v1/documents/search", tag = "documents", operation_id = "searchDocuments", request_body = Search,
    responses((status = 200, body = SearchResults), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn search(
    State(app): State<App>,
    caller: Caller,
    error::Json(search): error::Json<Search>,
) -> Result<Json<SearchResults>, ApiError> {
    let memory = app.memory()?;
    let limit = search.limit.unwrap_or(SEARCH.0);
    if !(1..=SEARCH.1).contains(&limit) {
        return Err(ApiError::invalid(
            format!("`limit` must be 1 to {}", SEARCH.1),
            Some("limit"),
        ));
    }
    if search.query.trim().is_empty() {
        return Err(ApiError::invalid("`query` is empty", Some("query")));
    }
    let vectors = memory.asking.embed(vec![search.query.clone()]).await?;
    let mut slots: Vec<_> = memory
        .slots
        .iter()
        .filter(|slot| matches!(slot.source.kind(), SourceKind::Persistent | SourceKind::Inference))
        .cloned()
        .collect();
    for slot in &mut slots {
        (slot.chunks, slot.deadline) = (limit, SEARCH_DEADLINE);
    }
    let request = Request {
        scope: in_conversation(caller.scope, search.conversation),
        messages: Vec::new().into(),
        query: search.query,
        asked_at: app.clock.now_ms(),
        vector: vectors.into_iter().next().into(),
        limit,
        gone: Gone::default(),
    };
    let mut found = gather(&slots, &request).await;
    if let Some(problem) = found.reports.into_iter().find_map(|report| report.problem) {
        return Err(ApiError::unavailable(format!(
            "the documents could not be searched: {problem}"
        )));
    }
    found.passages.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.passages.truncate(limit);
    Ok(Json(SearchResults {
        object: "list",
        data: found.passages.into_iter().map(PassageView::from).collect(),
    }))
}

fn in_conversation(scope: Scope, conversation: Option<String>) -> Scope {
    match conversation {
        Some(conversation) => scope.in_conversation(conversation),
        None => scope,
    }
}

/// Deletes documents, the journal first: what it no longer has is never shown, whatever the index may still find.
/// Returns those that were there.
async fn remove(memory: &MemoryParts, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Uuid>, ApiError> {
    let mut removed = Vec::new();
    for id in ids {
        if memory.journal.delete_document(scope, *id).await? {
            removed.push(*id);
        }
    }
    if !removed.is_empty() {
        let removal = Removal::Parents {
            team: scope.team().to_owned(),
            parents: removed.clone(),
        };
        memory.index.remove(removal).await?;
    }
    Ok(removed)
}

fn unknown(id: Uuid) -> ApiError {
    ApiError::not_found(format!(
        "there is no document {id} that you can see; GET /v1/documents lists them"
    ))
}
