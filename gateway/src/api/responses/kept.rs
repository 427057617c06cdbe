//! What is kept of responses and conversations, and how a request's history is put together from it.

use std::sync::Arc;

use habit_memory::Scope;
use habit_memory::objects::{Object, Objects, Slice};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::{ResponseBody, Status};
use super::wire::Asked;
use crate::api::error::ApiError;

/// Kinds of objects.
pub const RESPONSE: &str = "response";
/// An item of a response's input; its parent is the response.
pub const INPUT: &str = "response_input";
/// An item of a response's output; its parent is the response.
pub const OUTPUT: &str = "response_output";
/// A conversation.
pub const CONVERSATION: &str = "conversation";
/// An item of a conversation, which is its parent.
pub const ITEM: &str = "conversation_item";

/// How long a response is kept, in milliseconds: 30 days, as OpenAI does.
const KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// Responses that a response may go on from, one after the other.
const LONGEST_CHAIN: usize = 1000;

/// A response as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The response.
    pub response: ResponseBody,
    /// The conversation in memory that its turn belongs to: the next response's turn does too.
    pub thread: Option<String>,
}

/// What comes before a request's own input.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Past {
    /// Items, oldest first.
    pub items: Vec<Value>,
    /// The conversation in memory.
    pub thread: Option<String>,
}

/// One user's responses and conversations.
#[derive(Clone)]
pub struct Cabinet {
    objects: Arc<dyn Objects>,
    scope: Scope,
}

impl Cabinet {
    /// Of this user.
    #[must_use]
    pub fn new(objects: Arc<dyn Objects>, scope: Scope) -> Self {
        Self { objects, scope }
    }

    /// A response.
    ///
    /// # Errors
    /// 404 without one; 503 if it can't be read.
    pub async fn response(&self, id: &str) -> Result<Kept, ApiError> {
        let kept = self.find(id).await?;
        kept.ok_or_else(|| ApiError::not_found(format!("Response with id '{id}' not found.")))
    }

    async fn find(&self, id: &str) -> Result<Option<Kept>, ApiError> {
        let found = self.objects.get(&self.scope, RESPONSE, id).await?;
        found.map(|object| parse(object.body)).transpose()
    }

    /// Keeps a response with its items; those also become items of its conversation once it has ended.
    ///
    /// # Errors
    /// 503 if they can't be written.
    pub async fn keep(&self, kept: &Kept, input: &[Value], now: i64) -> Result<(), ApiError> {
        let response = &kept.response;
        let expires_at = Some(now.saturating_add(KEPT_MS));
        let body = serde_json::to_value(kept).map_err(|error| ApiError::internal(error.to_string()))?;
        let object = |kind: &str, id: &str, parent: Option<&str>, expires_at, body: Value| Object {
            kind: kind.to_owned(),
            id: id.to_owned(),
            parent: parent.map(str::to_owned),
            created_at: now,
            expires_at,
            body,
        };
        let id = response.id.as_str();
        let name = |item: &Value| item["id"].as_str().unwrap_or_default().to_owned();
        let mut objects = vec![object(RESPONSE, id, None, expires_at, body)];
        objects.extend(
            input
                .iter()
                .map(|item| object(INPUT, &within(id, &name(item)), Some(id), expires_at, item.clone())),
        );
        let output = response.output.iter();
        objects.extend(output.map(|item| object(OUTPUT, &name(item), Some(id), expires_at, item.clone())));
        let ended = matches!(response.status, Status::Completed | Status::Incomplete);
        if let Some(conversation) = response.conversation.as_ref().filter(|_| ended) {
            let items = input.iter().chain(&response.output);
            let at = conversation.id.as_str();
            objects.extend(items.map(|item| object(ITEM, &within(at, &name(item)), Some(at), None, item.clone())));
        }
        Ok(self.objects.put(&self.scope, objects).await?)
    }

    /// Deletes a response with its items; false if there is none.
    ///
    /// # Errors
    /// 503 if it can't be deleted.
    pub async fn delete(&self, id: &str) -> Result<bool, ApiError> {
        let found = self.objects.delete(&self.scope, RESPONSE, id).await?;
        for kind in [INPUT, OUTPUT] {
            self.objects.delete_children(&self.scope, kind, id).await?;
        }
        Ok(found)
    }

    /// The items of a response's input.
    ///
    /// # Errors
    /// 503 if they can't be read; 400 if the slice goes on from an item that is not there.
    pub async fn inputs(&self, id: &str, slice: &Slice) -> Result<Vec<Object>, ApiError> {
        Ok(self.objects.list(&self.scope, INPUT, Some(id), slice).await?)
    }

    /// What a request goes on from. References to items in the request become the items.
    ///
    /// # Errors
    /// 404 for what is not there; 400 if it is still being made.
    pub async fn past(&self, asked: &mut Asked) -> Result<Past, ApiError> {
        let past = match (&asked.previous, &asked.conversation) {
            (Some(id), _) => self.chain(id).await?,
            (None, Some(id)) => self.conversation(id).await?,
            (None, None) => Past::default(),
        };
        for item in &mut asked.items {
            if item["type"] == "item_reference" {
                let id = item["id"].as_str().unwrap_or_default();
                *item = self.referenced(id, asked.conversation.as_deref()).await?;
            }
        }
        Ok(past)
    }

    async fn chain(&self, id: &str) -> Result<Past, ApiError> {
        let mut past = Past::default();
        let mut rounds: Vec<Vec<Value>> = Vec::new();
        let mut next = Some(id.to_owned());
        while let Some(id) = next.take().filter(|_| rounds.len() < LONGEST_CHAIN) {
            let Some(kept) = self.find(&id).await? else {
                // What came before a deleted response is gone with it; the client may still go on from what is left.
                if !rounds.is_empty() {
                    break;
                }
                return Err(unknown_previous(&id));
            };
            if rounds.is_empty() && !kept.response.status.is_final() {
                let message = format!("the response `{id}` is still being made; wait until it is completed");
                return Err(ApiError::invalid(message, Some("previous_response_id")));
            }
            past.thread = past.thread.or(kept.thread);
            let inputs = self.inputs(&id, &Slice::all()).await?;
            let mut round: Vec<Value> = match &kept.response.conversation {
                Some(conversation) if kept.response.previous_response_id.is_none() => {
                    // The conversation holds this response's own items as well.
                    rounds.push(self.conversation(&conversation.id).await?.items);
                    break;
                }
                _ => inputs.into_iter().map(|object| object.body).collect(),
            };
            round.extend(kept.response.output);
            rounds.push(round);
            next = kept.response.previous_response_id;
        }
        past.items = rounds.into_iter().rev().flatten().collect();
        Ok(past)
    }

    async fn conversation(&self, id: &str) -> Result<Past, ApiError> {
        if self.objects.get(&self.scope, CONVERSATION, id).await?.is_none() {
            return Err(unknown_conversation(id));
        }
        let items = self.objects.list(&self.scope, ITEM, Some(id), &Slice::all()).await?;
        Ok(Past {
            items: items.into_iter().map(|object| object.body).collect(),
            thread: Some(id.to_owned()),
        })
    }

    async fn referenced(&self, id: &str, conversation: Option<&str>) -> Result<Value, ApiError> {
        if let Some(object) = self.objects.get(&self.scope, OUTPUT, id).await? {
            return Ok(object.body);
        }
        if let Some(conversation) = conversation
            && let Some(object) = self.objects.get(&self.scope, ITEM, &within(conversation, id)).await?
        {
            return Ok(object.body);
        }
        let message = format!("Item with id '{id}' not found. Items are kept with responses that are stored.");
        Err(ApiError::not_found(message).with_param("input"))
    }
}

/// The object of an item that came from a client: it may have given the same item to several responses.
#[must_use]
pub fn within(parent: &str, item: &str) -> String {
    format!("{parent}/{item}")
}

/// A listing of items as clients see it: with the items' own ids.
#[must_use]
pub fn items_of(parent: &str, mut slice: Slice) -> Slice {
    for edge in [&mut slice.after, &mut slice.before] {
        *edge = edge.take().map(|id| within(parent, &id));
    }
    slice
}

/// A kept thing, read again.
///
/// # Errors
/// 503 if it is damaged.
pub fn parse<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, ApiError> {
    serde_json::from_value(body).map_err(|error| ApiError::unavailable(format!("what is kept is damaged: {error}")))
}

/// 400 for a response that can't be gone on from, as OpenAI has it.
#[must_use]
pub fn unknown_previous(id: &str) -> ApiError {
    let message = format!(
        "Previous response with id '{id}' not found. Responses with `store` set to false are not kept; send the whole \
         conversation as `input` instead."
    );
    ApiError {
        code: "previous_response_not_found".into(),
        ..ApiError::invalid(message, Some("previous_response_id"))
    }
}

/// 404 for a conversation.
#[must_use]
pub fn unknown_conversation(id: &str) -> ApiError {
    ApiError::not_found(format!("Conversation with id '{id}' not found.")).with_param("conversation")
}
