//! `/v1/files`: files that a user keeps here, byte for byte, in OpenAI's shape. What is made of them is elsewhere:
//! [`super::vector_stores`] makes them searchable.

use axum::Json;
use axum::body::Body;
use axum::extract::{Multipart, Path, Query, State};
use axum::response::{IntoResponse, Response};
use habit_memory::Scope;
use habit_memory::files::{About, Card, Incoming};
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::documents::ingest::{base_name, refused};
use super::error::{ApiError, ErrorBody};
use super::listing::{ListOrder, ListQuery, Listing};
use super::turns::Deleted;
use crate::app::{App, MemoryParts};
use crate::auth::Caller;

/// What files may be for, as OpenAI has it.
const PURPOSES: [&str; 6] = ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"];

/// The longest listing, which is also the usual one.
const MOST: u64 = 9_999;

/// Seconds after which a file may expire: an hour to thirty days, as OpenAI has it.
const KEPT: std::ops::RangeInclusive<i64> = 3_600..=2_592_000;

/// The longest value of a form field that is not a file, in bytes.
const FIELD_BYTES: usize = 1_024;

/// A file.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileView {
    /// `file-…`.
    #[schema(example = "file-0199f3c2a7e07b4c9d1e2f3a4b5c6d7e")]
    pub id: String,
    /// Always `file`.
    #[schema(example = "file")]
    pub object: &'static str,
    /// Its size.
    pub bytes: u64,
    /// Unix seconds.
    pub created_at: i64,
    /// When it is deleted, in Unix seconds; absent if never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Its name.
    #[schema(example = "handbook.pdf")]
    pub filename: String,
    /// What it is for.
    #[schema(example = "assistants")]
    pub purpose: String,
    /// Always `processed`.
    #[schema(example = "processed")]
    pub status: &'static str,
}

impl From<Card> for FileView {
    fn from(card: Card) -> Self {
        Self {
            id: card.id,
            object: "file",
            bytes: card.bytes,
            created_at: card.created_at.div_euclid(1000),
            expires_at: card.expires_at.map(|at| at.div_euclid(1000)),
            filename: card.name,
            purpose: card.purpose,
            status: "processed",
        }
    }
}

/// The form of an upload.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only describes the form; the parts are read as they arrive")]
pub struct FileForm {
    /// The file.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// `assistants`, `batch`, `fine-tune`, `vision`, `user_data` or `evals`.
    #[schema(example = "assistants")]
    purpose: String,
    /// `created_at`, the only anchor there is.
    #[schema(rename = "expires_after[anchor]")]
    expires_after_anchor: Option<String>,
    /// Seconds after which it is deleted, 3600 to 2592000.
    #[schema(rename = "expires_after[seconds]")]
    expires_after_seconds: Option<i64>,
}

/// Which files.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FilesQuery {
    /// Only those for this.
    pub purpose: Option<String>,
    /// At most so many, 1 to 10000; as many as there are if absent.
    #[param(minimum = 1, maximum = 10_000)]
    pub limit: Option<u64>,
    /// By when they were made: newest first unless it says so.
    #[param(inline)]
    pub order: Option<ListOrder>,
    /// Only what comes after the file with this id.
    pub after: Option<String>,
}

/// Keeps a file.
#[utoipa::path(
    post, path = "/v1/files", tag = "files", operation_id = "createFile",
    request_body(content = FileForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = FileView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 413, description = "The file is too large, or the user's files together are", body = ErrorBody),
        (status = 415, body = ErrorBody),
    ),
)]
pub async fn upload(
    State(app): State<App>,
    caller: Caller,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Result<Json<FileView>, ApiError> {
    let memory = app.memory()?;
    let form = form.map_err(|rejection| {
        let why = rejection.body_text();
        ApiError::unsupported_media_type(format!(
            "{why}; send the file as multipart/form-data (curl -F purpose=assistants -F file=@FILE)"
        ))
    })?;
    let (incoming, about) = receive(memory, &caller.scope, form).await?;
    let card = memory.stores.files().keep(&caller.scope, incoming, about).await;
    Ok(Json(card.map_err(about_the_file)?.into()))
}

/// Reads the form; the file goes to the disk as it arrives.
async fn receive(memory: &MemoryParts, scope: &Scope, mut form: Multipart) -> Result<(Incoming, About), ApiError> {
    let (mut file, mut purpose, mut anchor, mut seconds) = (None, None, None, None);
    while let Some(mut part) = form.next_field().await.map_err(|error| refused(&error))? {
        let field = part.name().unwrap_or_default().to_owned();
        if field == "file" {
            let name = base_name(part.file_name().unwrap_or("unnamed"));
            let mut incoming = memory.stores.files().receive(scope).await.map_err(about_the_file)?;
            while let Some(bytes) = part.chunk().await.map_err(|error| refused(&error))? {
                incoming.write(&bytes).await.map_err(about_the_file)?;
            }
            file = Some((incoming, name));
            continue;
        }
        let text = part.text().await.map_err(|error| refused(&error))?;
        if text.len() > FIELD_BYTES {
            return Err(ApiError::invalid(format!("`{field}` is too long"), Some(&field)));
        }
        match field.as_str() {
            "purpose" => purpose = Some(text),
            "expires_after[anchor]" => anchor = Some(text),
            "expires_after[seconds]" => seconds = Some(text),
            // What newer clients send beside these changes nothing here.
            _ => {}
        }
    }
    let Some((incoming, name)) = file else {
        let message = "the form has no file; with curl write -F file=@PATH";
        return Err(ApiError::invalid(message, Some("file")));
    };
    let purpose = purpose.unwrap_or_default();
    if !PURPOSES.contains(&purpose.as_str()) {
        let message = format!("`purpose` must be one of {}, not `{purpose}`", PURPOSES.join(", "));
        return Err(ApiError::invalid(message, Some("purpose")));
    }
    let keep_ms = keep_ms(anchor.as_deref(), seconds.as_deref())?;
    let about = About { name, purpose, keep_ms };
    Ok((incoming, about))
}

fn keep_ms(anchor: Option<&str>, seconds: Option<&str>) -> Result<Option<i64>, ApiError> {
    let (None, None) = (anchor, seconds) else {
        if anchor != Some("created_at") {
            let param = "expires_after[anchor]";
            return Err(ApiError::invalid(format!("`{param}` must be created_at"), Some(param)));
        }
        let given = seconds.and_then(|seconds| seconds.trim().parse().ok());
        let Some(seconds) = given.filter(|seconds| KEPT.contains(seconds)) else {
            let param = "expires_after[seconds]";
            let message = format!("`{param}` must be {} to {}", KEPT.start(), KEPT.end());
            return Err(ApiError::invalid(message, Some(param)));
        };
        return Ok(Some(seconds * 1000));
    };
    Ok(None)
}

fn about_the_file(error: habit_memory::MemoryError) -> ApiError {
    let error = ApiError::from(error);
    if error.status.is_client_error() {
        error.with_param("file")
    } else {
        error
    }
}

/// The caller's files.
#[utoipa::path(
    get, path = "/v1/files", tag = "files", operation_id = "listFiles", params(FilesQuery),
    responses((status = 200, body = Listing<FileView>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<FilesQuery>,
) -> Result<Json<Listing<FileView>>, ApiError> {
    let part = ListQuery {
        // OpenAI's own limit is one more than a user may have files.
        limit: query.limit.map(|limit| if limit == MOST + 1 { MOST } else { limit }),
        order: query.order,
        after: query.after,
        before: None,
    };
    let slice = part.part(MOST, MOST)?;
    let purpose = query.purpose.filter(|purpose| !purpose.is_empty());
    let files = app.memory()?.stores.files();
    let (cards, more) = files.list(&caller.scope, purpose.as_deref(), &slice).await?;
    let views = cards.into_iter().map(FileView::from).collect();
    Ok(Json(Listing::new(views, more, |file: &FileView| &file.id)))
}

/// What is known of a file.
#[utoipa::path(
    get, path = "/v1/files/{file_id}", tag = "files", operation_id = "retrieveFile",
    params(("file_id" = String, Path, description = "The file's id.")),
    responses((status = 200, body = FileView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<FileView>, ApiError> {
    let card = app.memory()?.stores.files().get(&caller.scope, &id).await?;
    Ok(Json(card.into()))
}

/// Deletes a file, and takes it out of all vector stores.
#[utoipa::path(
    delete, path = "/v1/files/{file_id}", tag = "files", operation_id = "deleteFile",
    params(("file_id" = String, Path, description = "The file's id.")),
    responses((status = 200, body = Deleted), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
)]
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Deleted>, ApiError> {
    app.memory()?.stores.delete_file(&caller.scope, &id).await?;
    Ok(Json(Deleted {
        id,
        object: "file",
        deleted: true,
    }))
}

/// A file's bytes, as they came.
#[utoipa::path(
    get, path = "/v1/files/{file_id}/content", tag = "files", operation_id = "downloadFile",
    params(("file_id" = String, Path, description = "The file's id.")),
    responses(
        (status = 200, description = "The bytes", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub async fn content(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Response, ApiError> {
    let (card, pieces) = app.memory()?.stores.files().open(&caller.scope, &id).await?;
    // Whatever it is, a browser is to keep it, not to run it.
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (CONTENT_LENGTH, HeaderValue::from(card.bytes)),
        (CONTENT_DISPOSITION, attachment(&card.name)),
        (
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        ),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Names the file to save as; letters that a header can't hold are left out.
fn attachment(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() && !matches!(c, '"' | '\\') || c == ' ' {
                c
            } else {
                '_'
            }
        })
        .collect();
    HeaderValue::try_from(format!("attachment; filename=\"{plain}\""))
        .unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}
