//! What an upstream's error means here: which [`EngineError`] it is, and whether trying again can help.

use reqwest::{Response, StatusCode, Url, header};
use serde_json::Value;

use super::estimate::Estimate;
use super::wire;
use crate::{ChatRequest, EngineError, ModelInfo, TokenCounter};

/// Where an upstream that is busy doesn't say when to come back, in seconds.
const RETRY_AFTER_S: u64 = 2;
/// Bytes of an error body that is not JSON that are shown.
const SHOWN: usize = 300;

/// A try that failed before any of the reply came.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: EngineError,
    /// Whether the same request may go again at once. Not when the upstream is busy: how long to wait is the
    /// caller's choice.
    pub(super) may_retry: bool,
}

impl From<EngineError> for Failure {
    /// One that another try would meet again.
    fn from(error: EngineError) -> Self {
        Self {
            error,
            may_retry: false,
        }
    }
}

impl Failure {
    /// No answer at all.
    pub(super) fn unreachable(name: &str, base: &Url, error: &reqwest::Error) -> Self {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            reason = inner.to_string();
            source = inner.source();
        }
        let message = format!("{name} can't be reached at {}: {reason}; is it running?", shown(base));
        Self {
            error: EngineError::Unavailable(message),
            may_retry: true,
        }
    }

    /// An answer that makes no sense.
    pub(super) fn broken(name: &str, reason: &str) -> Self {
        let message = format!("{name} does not answer as an OpenAI-compatible server: {reason}; check its URL");
        Self {
            error: EngineError::Unavailable(message),
            may_retry: false,
        }
    }

    /// An answer that is not a success; `asked` where it answers a chat request.
    pub(super) async fn read(name: &str, response: Response, asked: Option<(&ChatRequest, &ModelInfo)>) -> Self {
        let status = response.status();
        let retry_after = retry_after(&response);
        let location = response
            .headers()
            .get(header::LOCATION)
            .and_then(|to| to.to_str().ok())
            .map(str::to_owned);
        let text = response.text().await.unwrap_or_default();
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let said = wire::error_text(&body).unwrap_or_else(|| text.chars().take(SHOWN).collect());
        if let Some(location) = location.filter(|_| status.is_redirection()) {
            return Self::broken(name, &format!("it redirects to {location}"));
        }
        let error = meaning(name, status, &body, &said, retry_after, asked);
        let may_retry = status.is_server_error() && error.is_retryable();
        Self { error, may_retry }
    }
}

fn meaning(
    name: &str,
    status: StatusCode,
    body: &Value,
    said: &str,
    retry_after: Option<u64>,
    asked: Option<(&ChatRequest, &ModelInfo)>,
) -> EngineError {
    let code = body["error"]["code"].as_str().unwrap_or_default();
    let unavailable = |what: &str| EngineError::Unavailable(format!("{name} {what} ({status}): {said}"));
    match (status, asked) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => unavailable(
            "refuses the key that Habit has for it; set `key` in its [[upstreams]] entry, or HABIT_UPSTREAM_KEY",
        ),
        (StatusCode::TOO_MANY_REQUESTS, _) if code == "insufficient_quota" => unavailable("has no quota left"),
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => EngineError::Overloaded {
            running: 0,
            waiting: 0,
            retry_after_s: retry_after.unwrap_or(RETRY_AFTER_S),
        },
        (StatusCode::NOT_FOUND, Some((request, info))) if code == "model_not_found" || said.contains("model") => {
            EngineError::UnknownModel {
                model: request.model.clone(),
                available: vec![info.id.clone()],
            }
        }
        (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, _) => {
            unavailable("has no such route; its URL usually ends in /v1")
        }
        (status, Some((request, info))) if status.is_client_error() => {
            let lower = said.to_lowercase();
            let too_long = ["context length", "context window", "maximum context", "context size"];
            if code == "context_length_exceeded" || too_long.iter().any(|words| lower.contains(words)) {
                return context_exceeded(said, request, info);
            }
            let param = body["error"]["param"].as_str().map(str::to_owned);
            EngineError::Rejected {
                message: format!("{name} rejects the request: {said}"),
                param,
            }
        }
        _ => unavailable("failed"),
    }
}

/// Servers name the limit first and the prompt second, in many wordings.
fn context_exceeded(said: &str, request: &ChatRequest, info: &ModelInfo) -> EngineError {
    let mut numbers = said
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse::<usize>().ok());
    let guess = || Estimate::of(info).count_chat(&request.messages).unwrap_or(0);
    EngineError::ContextLengthExceeded {
        limit: numbers.next().or(info.context_window).unwrap_or(0),
        prompt: numbers.next().unwrap_or_else(guess),
        asked: request.max_tokens,
    }
}

fn retry_after(response: &Response) -> Option<u64> {
    response
        .headers()
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// A URL without what may be secret in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _unsupported = url.set_password(None).and_then(|()| url.set_username(""));
    url.to_string()
}
