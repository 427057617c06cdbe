//! How commands reach memory: always over HTTP. A server that was named, or the one that runs on this data directory,
//! or else one that this process starts for itself, on a free loopback port. Without a key of its own a command makes
//! a short-lived one: who may write the database may do so.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use habit_memory::clock::{Clock, SystemClock};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use super::progress::Bars;
use super::running::Running;
use crate::cli::{Common, Target};
use crate::keys::{KeyStore, NewKey, OF_A_COMMAND};
use crate::server_file;
use crate::wiring::{self, Purpose};

/// How long a command's own key works, should the command die before it erases it: longer than any sitting.
const KEY_LIFE: Duration = Duration::from_hours(12);

/// A server to talk to, and a key for it.
pub struct Connection {
    /// The base URL, without `/v1`.
    pub url: String,
    /// The key; `None` where none is asked for.
    pub key: Option<String>,
    client: Client,
    minted: Option<(KeyStore, String)>,
    own: Option<Running>,
}

impl Connection {
    /// Finds or starts a server; `purpose` says what one that is started must be able to do.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn open(common: &Common, target: &Target, purpose: Purpose) -> anyhow::Result<Self> {
        let client = Client::builder().connect_timeout(Duration::from_secs(10));
        if let Some(url) = &target.url {
            let url = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
            let key = target.key.clone().filter(|key| !key.is_empty());
            return Ok(Self {
                url,
                key,
                client: client.build()?,
                minted: None,
                own: None,
            });
        }
        // This machine: a proxy has no business in between.
        let client = client.no_proxy().build()?;
        let mut config = common.load(Vec::new())?;
        let data_dir = config.data_dir()?;
        if let Some(server) = server_file::running(&data_dir) {
            let url = server.url;
            return match (&target.key, server.auth) {
                (Some(key), _) => Ok(Self {
                    url,
                    key: Some(key.clone()),
                    client,
                    minted: None,
                    own: None,
                }),
                (None, false) => Ok(Self {
                    url,
                    key: None,
                    client,
                    minted: None,
                    own: None,
                }),
                (None, true) => {
                    let keys = wiring::open_keys(&config).await?;
                    let minted = mint(&keys, target).await?;
                    Ok(Self {
                        url,
                        key: Some(minted.1),
                        client,
                        minted: Some((keys, minted.0)),
                        own: None,
                    })
                }
            };
        }
        config.server.bind = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        // A key says as whom: also where the configuration asks for none.
        config.auth.required = true;
        let own = Running::start(config, purpose, None, Arc::new(Bars::default())).await?;
        let keys = own.app.keys.clone().context("the server of this command has no keys")?;
        let minted = mint(&keys, target).await?;
        let url = own.url();
        Ok(Self {
            url,
            key: Some(minted.1),
            client,
            minted: Some((keys, minted.0)),
            own: Some(own),
        })
    }

    /// Erases the key, and stops what was started.
    pub async fn close(self) {
        if let Some((keys, id)) = self.minted
            && let Err(error) = keys.erase(&id).await
        {
            tracing::warn!("a short-lived key could not be erased: {error}; it ends by itself");
        }
        if let Some(own) = self.own {
            own.stop(std::future::pending()).await;
        }
    }

    /// A request to a path such as `/v1/documents`.
    pub fn request(&self, method: http::Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends a request, and gives the reply once its head is there.
    ///
    /// # Errors
    /// With the server's own words, if it refused.
    pub async fn response(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        refused(response).await
    }

    /// Sends a request and reads the JSON that comes back.
    ///
    /// # Errors
    /// With the server's own words, if it refused.
    pub async fn json(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        self.response(request)
            .await?
            .json()
            .await
            .context("the server's reply is not JSON; is it a Habit server?")
    }

    /// The server's report on itself, whatever its state: one that was started for memory alone has no engine and says
    /// that it is unavailable, which does not concern what memory is asked here.
    ///
    /// # Errors
    /// If nothing answers, or not with a report.
    pub async fn health(&self) -> anyhow::Result<Value> {
        let request = self.request(http::Method::GET, "/health");
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        response
            .json()
            .await
            .context("the server's report on itself is not JSON; is it a Habit server?")
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            return anyhow::anyhow!("nothing answers at {}; is the server running there?", self.url);
        }
        anyhow::anyhow!("{} broke off: {error}", self.url)
    }
}

/// The response, or what the server said against it.
async fn refused(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    let said: Option<Value> = serde_json::from_str(&body).ok();
    let message = said
        .as_ref()
        .and_then(|body| body["error"]["message"].as_str())
        .unwrap_or(body.trim());
    anyhow::bail!("{message} ({status})")
}

/// A short-lived key: its id, and the key. Those that earlier commands left behind go.
async fn mint(keys: &KeyStore, target: &Target) -> anyhow::Result<(String, String)> {
    let now = SystemClock.now_ms();
    for old in keys.list(None).await? {
        if old.label == OF_A_COMMAND && !old.is_live(now) {
            keys.erase(&old.id).await?;
        }
    }
    let life = i64::try_from(KEY_LIFE.as_millis()).unwrap_or(i64::MAX);
    let new = NewKey {
        team: target.team.clone(),
        user: target.user.clone(),
        admin: true,
        label: OF_A_COMMAND.to_owned(),
        expires_at: Some(now.saturating_add(life)),
        ..NewKey::default()
    };
    let created = keys.create(new).await?;
    Ok((created.info.id, created.key))
}
