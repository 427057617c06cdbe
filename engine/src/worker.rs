//! An engine that is elsewhere: any server that speaks OpenAI's chat completions, another Habit among them.
//!
//! [`sse`] reads event streams, [`wire`] turns requests and chunks from and to OpenAI's JSON, [`failure`] says what an
//! upstream's error means here, [`reply`] turns a response into deltas. Where the client speaks the upstream's language
//! itself, its request goes on with its own bytes ([`edit`]), and the reply's come back as they are ([`relay`]).

mod edit;
mod embed;
mod estimate;
mod failure;
mod logprobs;
mod relay;
mod reply;
pub mod sse;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use futures::StreamExt;
use reqwest::header::{self, HeaderValue};
use reqwest::{Body, Client, RequestBuilder, Response, Url};

use self::estimate::Estimate;
use self::failure::Failure;
pub use self::reply::read;
use crate::{
    ChatRequest, DeltaStream, EmbedRequest, Embeddings, Engine, EngineError, Health, ModelInfo, TokenCounter, Verbatim,
};

/// Lists and health checks are quick; replies have no limit of their own (a long prompt may take minutes to read).
const SHORT_CALL: Duration = Duration::from_secs(10);
/// The wait before the first of them; doubled for the next.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Where the server is.
#[derive(Clone)]
pub struct WorkerOptions {
    /// `http://HOST:PORT`, with or without the `/v1`.
    pub base_url: String,
    /// The key that it wants, if it wants one.
    pub api_key: Option<String>,
    /// What messages to people call it.
    pub name: String,
    /// Models that it serves whether it lists them or not, under its own names.
    pub models: Vec<String>,
    /// Whether it is text-generation-webui: that lists what it could load, but serves what is loaded.
    pub webui: bool,
    /// A server that doesn't take a connection within this is not there.
    pub connect: Duration,
    /// Tries after the first, before any of a reply has come.
    pub retries: usize,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            api_key: None,
            name: "upstream".to_owned(),
            models: Vec::new(),
            webui: false,
            connect: Duration::from_secs(5),
            retries: 2,
        }
    }
}

impl std::fmt::Debug for WorkerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is left out: this may be logged.
        f.debug_struct("WorkerOptions")
            .field("base_url", &self.base_url)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// An OpenAI-compatible server as an [`Engine`].
pub struct Worker {
    client: Client,
    base: Url,
    /// Where chats go, parsed once.
    completions: Url,
    api_key: Option<String>,
    name: String,
    models: ArcSwap<Vec<ModelInfo>>,
    /// See [`WorkerOptions::models`].
    assumed: Vec<String>,
    webui: bool,
    retries: usize,
}

impl Worker {
    /// Prepares to talk to a server; nothing is sent yet.
    ///
    /// # Errors
    /// [`EngineError::Rejected`] if the URL is not one.
    pub fn new(options: WorkerOptions) -> Result<Self, EngineError> {
        let base = base(&options.base_url)?;
        let mut client = Client::builder()
            .connect_timeout(options.connect)
            .tcp_nodelay(true)
            // A redirected POST would arrive without its body.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("habit/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            client = client.no_proxy();
        }
        let client = client
            .build()
            .map_err(|error| EngineError::Unavailable(format!("no HTTP client can be made: {error}")))?;
        let completions = below(&base, "chat/completions")?;
        Ok(Self {
            client,
            base,
            completions,
            api_key: options.api_key,
            name: options.name,
            models: ArcSwap::default(),
            assumed: options.models,
            webui: options.webui,
            retries: options.retries,
        })
    }

    /// Asks the server which models it serves. Needed before [`Engine::models`] knows any; may be repeated.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] with what to do, if it can't be reached or refuses.
    pub async fn connect(&self) -> Result<(), EngineError> {
        let path = if self.webui { "internal/model/info" } else { "models" };
        let call = async {
            let url = below(&self.base, path).map_err(Failure::from)?;
            let response = self.sent(self.request(self.client.get(url)), None).await?;
            response
                .json::<serde_json::Value>()
                .await
                .map_err(|error| Failure::broken(&self.name, &error.to_string()))
        };
        let late = |_| {
            EngineError::Unavailable(format!(
                "{} did not answer within {} s",
                self.name,
                SHORT_CALL.as_secs()
            ))
        };
        let list = tokio::time::timeout(SHORT_CALL, call)
            .await
            .map_err(late)?
            .map_err(|failure| failure.error)?;
        let models = if self.webui {
            wire::loaded_in_webui(&list)
        } else {
            wire::models(&list)
        };
        if models.is_empty() && self.assumed.is_empty() {
            return Err(EngineError::Unavailable(format!(
                "{} serves no models; load one there",
                self.name
            )));
        }
        self.models.store(Arc::new(models));
        Ok(())
    }

    /// The model of this name, after a second look if it isn't known.
    async fn model(&self, id: &str) -> Result<ModelInfo, EngineError> {
        let known = |models: &[ModelInfo]| models.iter().find(|info| info.id == id).cloned();
        if let Some(info) = known(&self.models.load()) {
            return Ok(info);
        }
        if self.assumed.iter().any(|assumed| assumed == id) {
            return Ok(ModelInfo {
                id: id.to_owned(),
                context_window: None,
                owned_by: self.name.clone(),
                created: 0,
            });
        }
        self.connect().await?;
        let models = self.models.load();
        known(&models).ok_or_else(|| EngineError::UnknownModel {
            model: id.to_owned(),
            available: models.iter().map(|info| info.id.clone()).collect(),
        })
    }

    /// The pieces of the body that asks this, and whether they are the client's own.
    fn body(request: &ChatRequest) -> Result<(Vec<Bytes>, Option<&Verbatim>), EngineError> {
        if let Some(asked) = &request.verbatim
            && let Some(pieces) = edit::pieces(asked, &request.model)
        {
            return Ok((pieces, Some(asked)));
        }
        let body = wire::body(request)?.to_string();
        Ok((vec![Bytes::from(body)], None))
    }

    async fn post(&self, pieces: &[Bytes], request: &ChatRequest, info: &ModelInfo) -> Result<Response, Failure> {
        let url = match request.raw {
            Some(_) => below(&self.base, "completions").map_err(Failure::from)?,
            None => self.completions.clone(),
        };
        let call = self
            .request(self.client.post(url))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(
                header::ACCEPT,
                HeaderValue::from_static("text/event-stream, application/json"),
            );
        let call = match pieces {
            [whole] => call.body(whole.clone()),
            pieces => {
                let length: usize = pieces.iter().map(Bytes::len).sum();
                let pieces: Vec<_> = pieces.iter().cloned().map(Ok::<_, std::convert::Infallible>).collect();
                // The length is known, whatever the stream says: some servers take no chunked bodies.
                call.header(header::CONTENT_LENGTH, length)
                    .body(Body::wrap_stream(futures::stream::iter(pieces)))
            }
        };
        self.sent(call, Some((request, info))).await
    }

    /// Sends, and turns an answer that isn't a success into what it means.
    async fn sent(&self, call: RequestBuilder, asked: Option<(&ChatRequest, &ModelInfo)>) -> Result<Response, Failure> {
        let response = call
            .send()
            .await
            .map_err(|error| Failure::unreachable(&self.name, &self.base, &error))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(Failure::read(&self.name, response, asked).await)
        }
    }

    fn request(&self, call: RequestBuilder) -> RequestBuilder {
        match &self.api_key {
            Some(key) => call.bearer_auth(key),
            None => call,
        }
    }
}

#[async_trait]
impl Engine for Worker {
    async fn chat(&self, request: ChatRequest) -> Result<DeltaStream, EngineError> {
        let info = self.model(&request.model).await?;
        let (pieces, verbatim) = Self::body(&request)?;
        // Only before the reply has begun: nothing can have been seen of a try that failed here.
        let response = (|| self.post(&pieces, &request, &info))
            .retry(
                ExponentialBuilder::default()
                    .with_min_delay(FIRST_WAIT)
                    .with_max_times(self.retries)
                    .with_jitter(),
            )
            .when(|failure: &Failure| failure.may_retry)
            .await
            .map_err(|failure| failure.error)?;
        let prompt_guess = match verbatim {
            Some(asked) => estimate::estimate_bytes(asked.body.len()),
            None => Estimate::of(&info).count_request(&request)?,
        };
        let name = self.name.clone();
        // An upstream that answers in another way than it was asked is read: the endpoint then renders what was asked.
        Ok(match verbatim {
            Some(asked) if asked.stream && !reply::is_json(&response) => {
                let hide_usage = asked.include_usage != Some(true);
                relay::events(response, name, prompt_guess, hide_usage).boxed()
            }
            Some(asked) if !asked.stream && reply::is_json(&response) => {
                relay::whole(response, name, prompt_guess).boxed()
            }
            _ => reply::deltas(response, name, prompt_guess).boxed(),
        })
    }

    async fn embed(&self, request: EmbedRequest) -> Result<Embeddings, EngineError> {
        self.model(&request.model).await?;
        let call = self.request(self.client.post(below(&self.base, "embeddings")?));
        let sent = self.sent(call.json(&embed::body(&request)), None).await;
        let response = sent.map_err(|failure| embed::refusal(failure.error, &self.name))?;
        let broken = |error: reqwest::Error| Failure::broken(&self.name, &error.to_string()).error;
        let answer = response.json().await.map_err(broken)?;
        embed::vectors(&answer, request.inputs.len())
            .ok_or_else(|| Failure::broken(&self.name, "its embeddings can't be read").error)
    }

    fn models(&self) -> Vec<ModelInfo> {
        self.models.load().as_ref().clone()
    }

    fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>> {
        let info = self
            .models
            .load()
            .iter()
            .find(|info| info.id == model)
            .map(Estimate::of)?;
        Some(Arc::new(info))
    }

    fn serves(&self, model: &str) -> bool {
        self.models.load().iter().any(|info| info.id == model)
    }

    fn relays(&self, _model: &str) -> bool {
        true
    }

    async fn health(&self) -> Health {
        match self.connect().await {
            Ok(()) => Health::Ready,
            Err(error) => Health::Unavailable(error.to_string()),
        }
    }
}

/// The URL that `/chat/completions` is put behind: what was given, or its `/v1` where no path was given.
fn base(url: &str) -> Result<Url, EngineError> {
    let rejected = |reason: &str| EngineError::Rejected {
        message: format!(
            "`{url}` is not the address of a server ({reason}); give one such as http://127.0.0.1:8000/v1"
        ),
        param: None,
    };
    let mut parsed = Url::parse(url.trim()).map_err(|error| rejected(&error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
        return Err(rejected("it must begin with http:// or https://"));
    }
    parsed.set_query(None);
    parsed.set_fragment(None);
    let path = parsed.path().trim_end_matches('/').to_owned();
    let path = path.strip_suffix("/chat/completions").unwrap_or(&path);
    parsed.set_path(if path.is_empty() { "/v1" } else { path });
    Ok(parsed)
}

/// A URL under the base.
fn below(base: &Url, path: &str) -> Result<Url, EngineError> {
    let url = format!("{}/{path}", base.as_str().trim_end_matches('/'));
    Url::parse(&url).map_err(|error| EngineError::Unavailable(format!("`{url}` is no URL: {error}")))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_work_with_and_without_v1() {
        for (given, used) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
            ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
            (" http://h/v1/ ", "http://h/v1"),
            ("https://h/gateway/v1?x=1", "https://h/gateway/v1"),
            ("https://h/v1beta/openai", "https://h/v1beta/openai"),
            ("http://h/v1/chat/completions", "http://h/v1"),
        ] {
            assert_eq!(base(given).map(String::from).unwrap(), used, "{given}");
        }
        for bad in ["", "localhost:8000", "ftp://h", "/v1"] {
            assert!(base(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for (url, expected) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
