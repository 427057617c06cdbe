//! `/v1/conversations`: items that several responses build upon. A conversation's turns also make one conversation in
//! memory, of the same name.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use habit_memory::Scope;
use habit_memory::objects::{Object, Objects};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::error::{self, ApiError, ErrorBody};
use super::listing::{ListQuery, Listing};
use super::responses::DeletedObject;
use super::responses::items::{new_id, normalise};
use super::responses::kept::{CONVERSATION, ITEM, items_of, unknown_conversation, within};
use super::responses::wire::check_metadata;
use crate::app::App;
use crate::auth::Caller;

/// Items that may be added at a time.
const MOST_ITEMS: usize = 20;

/// The body of `POST /v1/conversations`.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct CreateConversation {
    /// What is in it from the begin: at most 20 items, as in a response's input.
    #[schema(value_type = Option<Vec<Object>>)]
    pub items: Option<Vec<Value>>,
    /// Up to 16 pairs of texts.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
}

/// The body of `POST /v1/conversations/{id}`.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct UpdateConversation {
    /// Up to 16 pairs of texts, in place of those that there are.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
}

/// The body of `POST /v1/conversations/{id}/items`.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct CreateItems {
    /// At most 20, as in a response's input.
    #[schema(value_type = Vec<Object>, required)]
    pub items: Option<Vec<Value>>,
}

/// A conversation, without its items.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ConversationBody {
    /// `conv_…`.
    #[schema(example = "conv_0199f3c2a7e07b4c9d1e2f3a4b5c6d7e")]
    pub id: String,
    /// `conversation`.
    pub object: &'static str,
    /// Unix seconds.
    pub created_at: i64,
    /// As it was given.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
}

impl From<Object> for ConversationBody {
    fn from(object: Object) -> Self {
        Self {
            id: object.id,
            object: "conversation",
            created_at: object.created_at.div_euclid(1000),
            metadata: object.body["metadata"].as_object().cloned().unwrap_or_default(),
        }
    }
}

/// Begins a conversation.
#[utoipa::path(
    post, path = "/v1/conversations", tag = "responses", operation_id = "createConversation",
    request_body = CreateConversation,
    responses((status = 200, body = ConversationBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    error::Json(body): error::Json<CreateConversation>,
) -> Result<Json<ConversationBody>, ApiError> {
    let now = app.clock.now_ms();
    let id = new_id("conv");
    let made = conversation(&id, now, check_metadata(body.metadata)?);
    let mut objects = vec![made.clone()];
    objects.extend(items(&id, now, body.items.unwrap_or_default())?);
    app.memory()?.objects.put(&caller.scope, objects).await?;
    Ok(Json(made.into()))
}

/// One conversation.
#[utoipa::path(
    get, path = "/v1/conversations/{id}", tag = "responses", operation_id = "getConversation",
    params(("id" = String, Path, description = "The conversation's id.")),
    responses((status = 200, body = ConversationBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ConversationBody>, ApiError> {
    let shelf = Shelf::new(&app, &caller)?;
    Ok(Json(shelf.conversation(&id).await?.into()))
}

/// Gives a conversation other metadata.
#[utoipa::path(
    post, path = "/v1/conversations/{id}", tag = "responses", operation_id = "updateConversation",
    params(("id" = String, Path, description = "The conversation's id.")), request_body = UpdateConversation,
    responses((status = 200, body = ConversationBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    error::Json(body): error::Json<UpdateConversation>,
) -> Result<Json<ConversationBody>, ApiError> {
    let shelf = Shelf::new(&app, &caller)?;
    let mut found = shelf.conversation(&id).await?;
    if body.metadata.is_some() {
        found.body = json!({"metadata": check_metadata(body.metadata)?});
        shelf.objects.put(&shelf.scope, vec![found.clone()]).await?;
    }
    Ok(Json(found.into()))
}

/// Deletes a conversation with its items. What was recorded of its turns is deleted with `/v1/turns`.
#[utoipa::path(
    delete, path = "/v1/conversations/{id}", tag = "responses", operation_id = "deleteConversation",
    params(("id" = String, Path, description = "The conversation's id.")),
    responses((status = 200, body = DeletedObject), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<DeletedObject>, ApiError> {
    let shelf = Shelf::new(&app, &caller)?;
    if !shelf.objects.delete(&shelf.scope, CONVERSATION, &id).await? {
        return Err(unknown_conversation(&id));
    }
    shelf.objects.delete_children(&shelf.scope, ITEM, &id).await?;
    Ok(Json(DeletedObject {
        id,
        object: "conversation.deleted",
        deleted: true,
    }))
}

/// Adds items to a conversation.
#[utoipa::path(
    post, path = "/v1/conversations/{id}/items", tag = "responses", operation_id = "createConversationItems",
    params(("id" = String, Path, description = "The conversation's id.")), request_body = CreateItems,
    responses((status = 200, body = Listing<Object>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn add_items(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    error::Json(body): error::Json<CreateItems>,
) -> Result<Json<Listing<Value>>, ApiError> {
    let shelf = Shelf::new(&app, &caller)?;
    shelf.conversation(&id).await?;
    let added = items(&id, app.clock.now_ms(), body.items.unwrap_or_default())?;
    if added.is_empty() {
        return Err(ApiError::invalid(
            "`items` is missing or empty; send at least one item",
            Some("items"),
        ));
    }
    shelf.objects.put(&shelf.scope, added.clone()).await?;
    Ok(Json(Listing::whole(added, |object| object.body)))
}

/// The items of a conversation.
#[utoipa::path(
    get, path = "/v1/conversations/{id}/items", tag = "responses", operation_id = "listConversationItems",
    params(("id" = String, Path, description = "The conversation's id."), ListQuery),
    responses((status = 200, body = Listing<Object>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)),
)]
pub async fn list_items(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Listing<Value>>, ApiError> {
    let shelf = Shelf::new(&app, &caller)?;
    shelf.conversation(&id).await?;
    let slice = items_of(&id, query.slice()?);
    let items = shelf.objects.list(&shelf.scope, ITEM, Some(&id), &slice).await?;
    Ok(Json(Listing::of(items, &slice, |object| object.body)))
}

/// One item of a conversation.
#[utoipa::path(
    get, path = "/v1/conversations/{id}/items/{item}", tag = "responses", operation_id = "getConversationItem",
    params(("id" = String, Path, description = "The conversation's id."),
        ("item" = String, Path, description = "The item's id.")),
    responses((status = 200, body = Object), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get_item(
    State(app): State<App>,
    caller: Caller,
    Path((id, item)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let shelf = Shelf::new(&app, &caller)?;
    shelf.conversation(&id).await?;
    let found = shelf.objects.get(&shelf.scope, ITEM, &within(&id, &item)).await?;
    found.map(|object| Json(object.body)).ok_or_else(|| unknown_item(&item))
}

/// Takes an item out of a conversation.
#[utoipa::path(
    delete, path = "/v1/conversations/{id}/items/{item}", tag = "responses", operation_id = "deleteConversationItem",
    params(("id" = String, Path, description = "The conversation's id."),
        ("item" = String, Path, description = "The item's id.")),
    responses((status = 200, body = ConversationBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn delete_item(
    State(app): State<App>,
    caller: Caller,
    Path((id, item)): Path<(String, String)>,
) -> Result<Json<ConversationBody>, ApiError> {
    let shelf = Shelf::new(&app, &caller)?;
    let conversation = shelf.conversation(&id).await?;
    if !shelf.objects.delete(&shelf.scope, ITEM, &within(&id, &item)).await? {
        return Err(unknown_item(&item));
    }
    Ok(Json(conversation.into()))
}

/// One user's conversations.
struct Shelf {
    objects: Arc<dyn Objects>,
    scope: Scope,
}

impl Shelf {
    fn new(app: &App, caller: &Caller) -> Result<Self, ApiError> {
        Ok(Self {
            objects: Arc::clone(&app.memory()?.objects),
            scope: caller.scope.clone(),
        })
    }

    async fn conversation(&self, id: &str) -> Result<Object, ApiError> {
        let found = self.objects.get(&self.scope, CONVERSATION, id).await?;
        found.ok_or_else(|| unknown_conversation(id))
    }
}

fn conversation(id: &str, now: i64, metadata: Map<String, Value>) -> Object {
    Object {
        kind: CONVERSATION.to_owned(),
        id: id.to_owned(),
        parent: None,
        created_at: now,
        expires_at: None,
        body: json!({"metadata": metadata}),
    }
}

fn items(conversation: &str, now: i64, items: Vec<Value>) -> Result<Vec<Object>, ApiError> {
    if items.len() > MOST_ITEMS {
        let message = format!("`items` has {} items; add at most {MOST_ITEMS} at a time", items.len());
        return Err(ApiError::invalid(message, Some("items")));
    }
    let items = normalise(items, "items")?;
    if let Some(at) = items.iter().position(|item| item["type"] == "item_reference") {
        let param = format!("items[{at}]");
        return Err(ApiError::invalid(
            format!("`{param}` is a reference; send the item itself"),
            Some(&param),
        ));
    }
    let object = |item: Value| Object {
        kind: ITEM.to_owned(),
        id: within(conversation, item["id"].as_str().unwrap_or_default()),
        parent: Some(conversation.to_owned()),
        created_at: now,
        expires_at: None,
        body: item,
    };
    Ok(items.into_iter().map(object).collect())
}

fn unknown_item(id: &str) -> ApiError {
    ApiError::not_found(format!("Item with id '{id}' not found."))
}
