//! The one error that endpoints answer with: OpenAI's shape, `{"error":{"message","type","param","code"}}`, whatever
//! went wrong and wherever. Also [`Json`], the body extractor whose rejections have that shape.

use std::borrow::Cow;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use habit_engine::EngineError;
use habit_memory::MemoryError;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::turn::TurnError;

/// The header in which OpenAI's SDKs look first for how long to wait.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// How long a client should wait when a part is down and nobody knows for how long: short enough that a rebuilt
/// engine is met soon, long enough not to hammer it.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(2);

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// OpenAI's `type`: a family of errors.
    pub kind: &'static str,
    /// OpenAI's `code`: which error, for programs. Never null.
    pub code: Cow<'static, str>,
    /// What is wrong and what to do, for people.
    pub message: String,
    /// The field at fault, where there is one.
    pub param: Option<String>,
    /// When to try again, where waiting helps.
    pub retry_after: Option<Duration>,
}

/// The body of every error reply.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What an error reply says.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// What is wrong and what to do, for people.
    #[schema(example = "`temperature` must be between 0 and 2")]
    pub message: String,
    /// A family of errors.
    #[serde(rename = "type")]
    #[schema(example = "invalid_request_error")]
    pub kind: String,
    /// The field at fault, or null.
    pub param: Option<String>,
    /// Which error, for programs.
    #[schema(example = "invalid_value")]
    pub code: String,
}

impl ApiError {
    /// An error of any kind; the `type` follows from the status.
    #[must_use]
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::FORBIDDEN => "permission_error",
            _ if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        Self {
            status,
            kind,
            code: code.into(),
            message: message.into(),
            param: None,
            retry_after: None,
        }
    }

    /// The same error about a field.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same error where the body holds what is asked in this field: engines know no field of it but `messages`.
    #[must_use]
    pub fn of_input(self, input: &str) -> Self {
        if self.code == "context_length_exceeded" {
            return self.with_param(input);
        }
        self
    }

    /// The same error, worth trying again after this time.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// 400: a field, or the request as a whole, is not as it must be.
    #[must_use]
    pub fn invalid(message: impl Into<String>, param: Option<&str>) -> Self {
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_value", message);
        Self {
            param: param.map(str::to_owned),
            ..error
        }
    }

    /// 401: the key is missing, wrong, expired or revoked. `why` ends the message, such as `add the header …`.
    /// The words "Incorrect API key provided" are always there: litellm classifies by them.
    #[must_use]
    pub fn unauthorized(why: impl AsRef<str>) -> Self {
        let message = format!("Incorrect API key provided: {}", why.as_ref());
        Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    /// 403: known, but not allowed.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_denied", message)
    }

    /// 404: no such thing, or not one that the caller may see.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 404: no such route.
    #[must_use]
    pub fn unknown_route(method: &Method, path: &str) -> Self {
        let message = format!("there is no {method} {path} here; GET /openapi.yaml lists the routes");
        Self::new(StatusCode::NOT_FOUND, "unknown_url", message)
    }

    /// 404: no such model.
    #[must_use]
    pub fn model_not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "model_not_found", message).with_param("model")
    }

    /// 405: the route exists, with other methods.
    #[must_use]
    pub fn method_not_allowed(method: &Method, path: &str) -> Self {
        let message = format!("{path} does not answer {method}; GET /openapi.yaml lists the routes");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// 413: the body is larger than the server takes (`limit` in bytes, where it is known).
    #[must_use]
    pub fn too_large(limit: Option<usize>) -> Self {
        let limit = limit.map(|bytes| format!(" ({bytes} bytes)")).unwrap_or_default();
        let message =
            format!("the request is larger than this server takes{limit}; send less, or raise server.body_limit");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    }

    /// 415: the body is not of a kind that the route reads.
    #[must_use]
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    /// 503: a part is not there now.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", message);
        error.with_retry_after(RETRY_UNAVAILABLE)
    }

    /// 500: a fault of ours. The message goes to the client: log the details where they are known.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// The JSON body.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                message: self.message.clone(),
                kind: self.kind.to_owned(),
                param: self.param.clone(),
                code: self.code.clone().into_owned(),
            },
        }
    }

    /// The error as an SSE `error` event, for a stream that has already begun: the status can't change any more.
    pub fn event(&self) -> Event {
        let event = Event::default().event("error");
        // Strings and an option always serialise; the fallback only spares a panic.
        event
            .json_data(self.body())
            .unwrap_or_else(|_| Event::default().event("error").data("{}"))
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.message)
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // Once, where it leaves: faults of ours are worth a line in the log, those of clients only when debugging.
        if self.status.is_server_error() {
            tracing::warn!(http.status = self.status.as_u16(), error.code = %self.code, "a request failed: {}", self.message);
        } else {
            tracing::debug!(http.status = self.status.as_u16(), error.code = %self.code, "a request was refused: {}", self.message);
        }
        let mut response = (self.status, axum::Json(self.body())).into_response();
        if let Some(wait) = self.retry_after {
            let headers = response.headers_mut();
            // Whole seconds, rounded up: an early retry is a wasted one.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            insert(headers, RETRY_AFTER, seconds);
            insert(headers, RETRY_AFTER_MS, wait.as_millis().max(1));
        }
        response
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, number: u128) {
    if let Ok(value) = HeaderValue::try_from(number.to_string()) {
        headers.insert(name, value);
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::Overloaded { retry_after_s, .. } => {
                let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", message);
                error.with_retry_after(Duration::from_secs(retry_after_s.max(1)))
            }
            EngineError::UnknownModel { .. } => Self::model_not_found(message),
            EngineError::ContextLengthExceeded { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message).with_param("messages")
            }
            EngineError::Rejected { param, .. } => Self::invalid(message, param.as_deref()),
            EngineError::Unavailable(_) => {
                let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "engine_unavailable", message);
                error.with_retry_after(RETRY_UNAVAILABLE)
            }
            EngineError::Interrupted(_) => {
                let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "reply_interrupted", message);
                error.with_retry_after(RETRY_UNAVAILABLE)
            }
        }
    }
}

impl From<TurnError> for ApiError {
    fn from(error: TurnError) -> Self {
        match error {
            TurnError::Engine(error) => error.into(),
            TurnError::Record(_) => Self::storage(error.to_string()),
        }
    }
}

impl From<MemoryError> for ApiError {
    fn from(error: MemoryError) -> Self {
        let message = error.to_string();
        match error {
            MemoryError::Storage(_) => Self::storage(message),
            MemoryError::BadRequest(_) => Self::invalid(message, None),
            MemoryError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message),
            MemoryError::NotFound(_) => Self::not_found(message),
            MemoryError::UnreadableDocument { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "unreadable_document", message).with_param("file")
            }
            MemoryError::Embedding(_) => Self::unavailable(message),
        }
    }
}

impl ApiError {
    /// 503: the data can't be read or written now (a full disk, a read-only directory).
    fn storage(message: String) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", message);
        error.with_retry_after(RETRY_UNAVAILABLE)
    }
}

/// A JSON body. Unlike axum's own, a rejection has OpenAI's shape and names the field at fault by its path.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Written(value, _) = Written::from_request(request, state).await?;
        Ok(Self(value))
    }
}

/// A JSON body as [`Json`], and its bytes.
#[derive(Debug, Clone, Default)]
pub struct Written<T>(pub T, pub Bytes);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Written<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                return ApiError::too_large(None);
            }
            let message = format!("the body could not be read ({}); send it again", rejection.body_text());
            ApiError::new(StatusCode::BAD_REQUEST, "unreadable_body", message)
        })?;
        parse(&body).map(|value| Self(value, body))
    }
}

/// Only JSON is read. A missing content type is taken for it: small scripts leave it out.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let given = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let essence = given.split(';').next().unwrap_or_default().trim();
    let json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if json {
        return Ok(());
    }
    let message =
        format!("the content type is `{essence}`; send JSON with the header `content-type: application/json`");
    Err(ApiError::unsupported_media_type(message))
}

/// Reads a JSON body.
///
/// # Errors
/// 400: `invalid_json` with line and column where it is not JSON, `invalid_type` or `missing_required_parameter` with the
/// field's path where it is.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // Keeping track of where it is costs as much as reading: that is for bodies with something wrong in them.
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        if let Some(field) = missing(inner) {
            let param = if path == "." { field } else { format!("{path}.{field}") };
            let message = format!("`{param}` is missing");
            let error = ApiError::new(StatusCode::BAD_REQUEST, "missing_required_parameter", message);
            return error.with_param(param);
        }
        if inner.is_data() && path != "." {
            let error = ApiError::new(StatusCode::BAD_REQUEST, "invalid_type", format!("`{path}`: {inner}"));
            return error.with_param(path);
        }
        not_json(inner)
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

/// The field that is not there. Nothing but its message tells that error from others.
fn missing(error: &serde_json::Error) -> Option<String> {
    let message = error.to_string();
    let (field, _) = message.strip_prefix("missing field `")?.split_once('`')?;
    Some(field.to_owned())
}

fn not_json(error: &serde_json::Error) -> ApiError {
    let message = match error.classify() {
        serde_json::error::Category::Data => format!("the body must be a JSON object: {error}"),
        _ => format!("the body is not valid JSON: {error}"),
    };
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message)
}

#[cfg(test)]
mod tests;
