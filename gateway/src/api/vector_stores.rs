//! `/v1/vector_stores`: stores themselves, and searching one. Their files and batches are in [`files`], the shapes on
//! the wire in [`wire`]; what a store does is in [`habit_memory::vector_stores`].

use axum::extract::{Path, Query, State};
use habit_memory::Scope;
use habit_memory::vector_stores::{NewFile, Store, VectorStores};
use serde_json::Map;

use super::error::{ApiError, ErrorBody, Json};
use super::listing::{ListQuery, Listing};
use super::turns::Deleted;
use crate::app::App;
use crate::auth::Caller;

pub mod files;
pub mod wire;

use wire::{CreateStore, FoundView, ResultsPage, SearchStore, StoreView, UpdateStore};

/// Items in a listing where no number is asked for, and at most.
const LIMITS: (u64, u64) = (20, 100);

/// Makes a vector store, of files if any are named.
#[utoipa::path(
    post, path = "/v1/vector_stores", tag = "vector stores", operation_id = "createVectorStore",
    request_body = CreateStore,
    responses(
        (status = 200, body = StoreView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, description = "No such file", body = ErrorBody),
    ),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<CreateStore>,
) -> Result<axum::Json<StoreView>, ApiError> {
    let stores = &app.memory()?.stores;
    let (changes, ids, cut) = body.read()?;
    // Before the store is made, or a store would be left over.
    for id in &ids {
        stores.files().get(&caller.scope, id).await?;
    }
    let store = stores.create(&caller.scope, changes).await?;
    if !ids.is_empty() {
        let files = ids.into_iter().map(|file| NewFile {
            file,
            attributes: Map::new(),
            cut,
        });
        stores.attach(&caller.scope, &store.id, files.collect()).await?;
    }
    Ok(axum::Json(view(stores, &caller.scope, store).await?))
}

async fn view(stores: &VectorStores, scope: &Scope, store: Store) -> Result<StoreView, ApiError> {
    let counts = stores.counts(scope, &store.id, None).await?;
    Ok(StoreView::new(store, counts))
}

/// The caller's vector stores.
#[utoipa::path(
    get, path = "/v1/vector_stores", tag = "vector stores", operation_id = "listVectorStores", params(ListQuery),
    responses((status = 200, body = Listing<StoreView>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Listing<StoreView>>, ApiError> {
    let stores = &app.memory()?.stores;
    let slice = query.part(LIMITS.0, LIMITS.1)?;
    let (found, more) = stores.stores(&caller.scope, &slice).await?;
    let mut views = Vec::with_capacity(found.len());
    for store in found {
        views.push(view(stores, &caller.scope, store).await?);
    }
    Ok(axum::Json(Listing::new(views, more, |store: &StoreView| &store.id)))
}

/// A vector store. One that has expired is not found.
#[utoipa::path(
    get, path = "/v1/vector_stores/{vector_store_id}", tag = "vector stores", operation_id = "getVectorStore",
    params(("vector_store_id" = String, Path, description = "The store's id.")),
    responses((status = 200, body = StoreView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<axum::Json<StoreView>, ApiError> {
    let stores = &app.memory()?.stores;
    let store = stores.store(&caller.scope, &id).await?;
    Ok(axum::Json(view(stores, &caller.scope, store).await?))
}

/// Changes a vector store's name, metadata or lifetime.
#[utoipa::path(
    post, path = "/v1/vector_stores/{vector_store_id}", tag = "vector stores", operation_id = "modifyVectorStore",
    params(("vector_store_id" = String, Path, description = "The store's id.")), request_body = UpdateStore,
    responses(
        (status = 200, body = StoreView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<UpdateStore>,
) -> Result<axum::Json<StoreView>, ApiError> {
    let stores = &app.memory()?.stores;
    let store = stores.update(&caller.scope, &id, body.read()?).await?;
    Ok(axum::Json(view(stores, &caller.scope, store).await?))
}

/// Deletes a vector store with all that can be found in it. The files themselves stay.
#[utoipa::path(
    delete, path = "/v1/vector_stores/{vector_store_id}", tag = "vector stores", operation_id = "deleteVectorStore",
    params(("vector_store_id" = String, Path, description = "The store's id.")),
    responses((status = 200, body = Deleted), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<axum::Json<Deleted>, ApiError> {
    app.memory()?.stores.delete(&caller.scope, &id).await?;
    Ok(axum::Json(Deleted {
        id,
        object: "vector_store.deleted",
        deleted: true,
    }))
}

/// The chunks of a vector store that fit a question best.
#[utoipa::path(
    post, path = "/v1/vector_stores/{vector_store_id}/search", tag = "vector stores",
    operation_id = "searchVectorStore",
    params(("vector_store_id" = String, Path, description = "The store's id.")), request_body = SearchStore,
    responses(
        (status = 200, body = ResultsPage), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn search(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<SearchStore>,
) -> Result<axum::Json<ResultsPage>, ApiError> {
    let search = body.read()?;
    let found = app.memory()?.stores.search(&caller.scope, &[id], &search).await?;
    Ok(axum::Json(ResultsPage {
        object: "vector_store.search_results.page",
        search_query: search.queries,
        data: found.into_iter().map(FoundView::from).collect(),
        has_more: false,
        next_page: None,
    }))
}
