//! `/v1/vector_stores/{id}/files` and `/file_batches`: files come into a store alone or together.

use axum::extract::{Path, Query, State};
use habit_memory::Scope;
use habit_memory::vector_stores::{Batch, VectorStores};

use super::LIMITS;
use super::wire::{
    AttachFile, AttachFiles, AttachedQuery, AttachedView, BatchView, ContentPage, SetAttributes, TextPart,
};
use crate::api::error::{ApiError, ErrorBody, Json};
use crate::api::listing::Listing;
use crate::api::turns::Deleted;
use crate::app::App;
use crate::auth::Caller;

/// Puts a file into a vector store. It is read in the background: ask for it until its status is no longer `in_progress`.
#[utoipa::path(
    post, path = "/v1/vector_stores/{vector_store_id}/files", tag = "vector stores",
    operation_id = "createVectorStoreFile",
    params(("vector_store_id" = String, Path, description = "The store's id.")), request_body = AttachFile,
    responses(
        (status = 200, body = AttachedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, description = "The store is full", body = ErrorBody),
    ),
)]
pub async fn attach(
    State(app): State<App>,
    caller: Caller,
    Path(store): Path<String>,
    Json(body): Json<AttachFile>,
) -> Result<axum::Json<AttachedView>, ApiError> {
    let file = body.read("")?;
    let come = app.memory()?.stores.attach(&caller.scope, &store, vec![file]).await?;
    let none = || ApiError::internal("the file was not put into the store");
    come.into_iter()
        .next()
        .map(|attached| axum::Json(attached.into()))
        .ok_or_else(none)
}

/// The files of a vector store.
#[utoipa::path(
    get, path = "/v1/vector_stores/{vector_store_id}/files", tag = "vector stores",
    operation_id = "listVectorStoreFiles",
    params(("vector_store_id" = String, Path, description = "The store's id."), AttachedQuery),
    responses(
        (status = 200, body = Listing<AttachedView>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(store): Path<String>,
    Query(query): Query<AttachedQuery>,
) -> Result<axum::Json<Listing<AttachedView>>, ApiError> {
    listing(&app.memory()?.stores, &caller.scope, &store, None, query).await
}

async fn listing(
    stores: &VectorStores,
    scope: &Scope,
    store: &str,
    batch: Option<&str>,
    query: AttachedQuery,
) -> Result<axum::Json<Listing<AttachedView>>, ApiError> {
    let (status, part) = query.read();
    let slice = part.part(LIMITS.0, LIMITS.1)?;
    let (found, more) = stores.attached_files(scope, store, batch, status, &slice).await?;
    let views = found.into_iter().map(AttachedView::from).collect();
    Ok(axum::Json(Listing::new(views, more, |file: &AttachedView| &file.id)))
}

/// A file of a vector store.
#[utoipa::path(
    get, path = "/v1/vector_stores/{vector_store_id}/files/{file_id}", tag = "vector stores",
    operation_id = "getVectorStoreFile",
    params(
        ("vector_store_id" = String, Path, description = "The store's id."),
        ("file_id" = String, Path, description = "The file's id."),
    ),
    responses((status = 200, body = AttachedView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path((store, file)): Path<(String, String)>,
) -> Result<axum::Json<AttachedView>, ApiError> {
    let attached = app.memory()?.stores.attached(&caller.scope, &store, &file).await?;
    Ok(axum::Json(attached.into()))
}

/// Changes what filters go by.
#[utoipa::path(
    post, path = "/v1/vector_stores/{vector_store_id}/files/{file_id}", tag = "vector stores",
    operation_id = "updateVectorStoreFileAttributes",
    params(
        ("vector_store_id" = String, Path, description = "The store's id."),
        ("file_id" = String, Path, description = "The file's id."),
    ),
    request_body = SetAttributes,
    responses(
        (status = 200, body = AttachedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn update(
    State(app): State<App>,
    caller: Caller,
    Path((store, file)): Path<(String, String)>,
    Json(body): Json<SetAttributes>,
) -> Result<axum::Json<AttachedView>, ApiError> {
    let attributes = body.read()?;
    let stores = &app.memory()?.stores;
    let attached = stores.set_attributes(&caller.scope, &store, &file, attributes).await?;
    Ok(axum::Json(attached.into()))
}

/// Takes a file out of a vector store. The file itself stays.
#[utoipa::path(
    delete, path = "/v1/vector_stores/{vector_store_id}/files/{file_id}", tag = "vector stores",
    operation_id = "deleteVectorStoreFile",
    params(
        ("vector_store_id" = String, Path, description = "The store's id."),
        ("file_id" = String, Path, description = "The file's id."),
    ),
    responses((status = 200, body = Deleted), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn detach(
    State(app): State<App>,
    caller: Caller,
    Path((store, file)): Path<(String, String)>,
) -> Result<axum::Json<Deleted>, ApiError> {
    app.memory()?.stores.detach(&caller.scope, &store, &file).await?;
    Ok(axum::Json(Deleted {
        id: file,
        object: "vector_store.file.deleted",
        deleted: true,
    }))
}

/// The text that was read out of a file, in its sections.
#[utoipa::path(
    get, path = "/v1/vector_stores/{vector_store_id}/files/{file_id}/content", tag = "vector stores",
    operation_id = "retrieveVectorStoreFileContent",
    params(
        ("vector_store_id" = String, Path, description = "The store's id."),
        ("file_id" = String, Path, description = "The file's id."),
    ),
    responses(
        (status = 200, body = ContentPage), (status = 400, description = "It can't be read", body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub async fn content(
    State(app): State<App>,
    caller: Caller,
    Path((store, file)): Path<(String, String)>,
) -> Result<axum::Json<ContentPage>, ApiError> {
    let (attached, sections) = app.memory()?.stores.content(&caller.scope, &store, &file).await?;
    Ok(axum::Json(ContentPage {
        object: "vector_store.file_content.page",
        file_id: attached.file,
        filename: attached.name,
        attributes: attached.attributes,
        data: sections
            .into_iter()
            .map(|section| TextPart::new(section.text))
            .collect(),
        has_more: false,
        next_page: None,
    }))
}

/// Puts several files into a vector store. One that can't be read does not keep the others out.
#[utoipa::path(
    post, path = "/v1/vector_stores/{vector_store_id}/file_batches", tag = "vector stores",
    operation_id = "createVectorStoreFileBatch",
    params(("vector_store_id" = String, Path, description = "The store's id.")), request_body = AttachFiles,
    responses(
        (status = 200, body = BatchView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, description = "The store is full", body = ErrorBody),
    ),
)]
pub async fn create_batch(
    State(app): State<App>,
    caller: Caller,
    Path(store): Path<String>,
    Json(body): Json<AttachFiles>,
) -> Result<axum::Json<BatchView>, ApiError> {
    let stores = &app.memory()?.stores;
    let batch = stores.create_batch(&caller.scope, &store, body.read()?).await?;
    batch_view(stores, &caller.scope, batch).await
}

async fn batch_view(stores: &VectorStores, scope: &Scope, batch: Batch) -> Result<axum::Json<BatchView>, ApiError> {
    let counts = stores.counts(scope, &batch.store, Some(&batch.id)).await?;
    Ok(axum::Json(BatchView::new(batch, counts)))
}

/// A batch of files.
#[utoipa::path(
    get, path = "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}", tag = "vector stores",
    operation_id = "getVectorStoreFileBatch",
    params(
        ("vector_store_id" = String, Path, description = "The store's id."),
        ("batch_id" = String, Path, description = "The batch's id."),
    ),
    responses((status = 200, body = BatchView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get_batch(
    State(app): State<App>,
    caller: Caller,
    Path((store, batch)): Path<(String, String)>,
) -> Result<axum::Json<BatchView>, ApiError> {
    let stores = &app.memory()?.stores;
    let batch = stores.batch(&caller.scope, &store, &batch).await?;
    batch_view(stores, &caller.scope, batch).await
}

/// Stops what is still to be read of a batch; what was read stays.
#[utoipa::path(
    post, path = "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel", tag = "vector stores",
    operation_id = "cancelVectorStoreFileBatch",
    params(
        ("vector_store_id" = String, Path, description = "The store's id."),
        ("batch_id" = String, Path, description = "The batch's id."),
    ),
    responses((status = 200, body = BatchView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn cancel_batch(
    State(app): State<App>,
    caller: Caller,
    Path((store, batch)): Path<(String, String)>,
) -> Result<axum::Json<BatchView>, ApiError> {
    let stores = &app.memory()?.stores;
    let batch = stores.cancel_batch(&caller.scope, &store, &batch).await?;
    batch_view(stores, &caller.scope, batch).await
}

/// The files of a batch.
#[utoipa::path(
    get, path = "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files", tag = "vector stores",
    operation_id = "listFilesInVectorStoreBatch",
    params(
        ("vector_store_id" = String, Path, description = "The store's id."),
        ("batch_id" = String, Path, description = "The batch's id."),
        AttachedQuery,
    ),
    responses(
        (status = 200, body = Listing<AttachedView>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn batch_files(
    State(app): State<App>,
    caller: Caller,
    Path((store, batch)): Path<(String, String)>,
    Query(query): Query<AttachedQuery>,
) -> Result<axum::Json<Listing<AttachedView>>, ApiError> {
    let stores = &app.memory()?.stores;
    let batch = stores.batch(&caller.scope, &store, &batch).await?;
    listing(stores, &caller.scope, &store, Some(&batch.id), query).await
}
