//! `[[upstreams]]`: servers elsewhere that answer, and `[aliases]`: further names of models. Both may be changed while
//! the server runs (`POST /v1/admin/reload`, or SIGHUP).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Memory, Secret};

/// Seconds of a day: a timeout beyond that is a mistake.
const DAY_S: u64 = 24 * 3600;

/// What a server speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// OpenAI's chat completions: OpenAI itself, `habit worker`, vLLM, llama.cpp, Ollama, and most others.
    #[default]
    OpenAi,
    /// text-generation-webui: it serves the model that is loaded there, whatever is asked for.
    Webui,
}

/// An OpenAI-compatible server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// Its base URL, with or without `/v1`.
    pub url: String,
    /// What it is called in logs and reports. Unset, it is the URL's host (and port).
    pub name: Option<String>,
    /// The key that it wants.
    pub key: Option<Secret>,
    /// The environment variable that holds the key, to keep it out of the file.
    pub key_env: Option<String>,
    /// What it speaks.
    pub kind: Kind,
    /// The models that may be asked of it; empty means all that it lists. `"name = its-name"` gives one another name, so
    /// that servers with different names for a model can stand in for each other.
    pub models: Vec<String>,
    /// Its share of the requests for a model that others serve too, against theirs.
    pub weight: u32,
    /// Whether memory may be sent there. Unset, it may to this machine, and elsewhere if `memory.send_to_upstream` says
    /// so.
    pub memory: Option<bool>,
    /// Replies made there at the same time; further requests wait here. 0 takes `engine.max_running`, or 64 where that is
    /// 0 too.
    pub max_running: usize,
    /// Requests that wait before new ones are told to come back later (429). Unset, it is `engine.max_waiting`.
    pub max_waiting: Option<usize>,
    /// Seconds to take a connection.
    pub connect_s: u64,
    /// Seconds until the first word of a reply: reading a long prompt takes its time.
    pub first_token_s: u64,
    /// Seconds of silence in a reply before it counts as broken off.
    pub silence_s: u64,
    /// Further tries when it fails before the first word. Where another upstream serves the model, that is asked
    /// instead.
    pub retries: usize,
    /// Seconds between checks of its health.
    pub check_s: u64,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            url: String::new(),
            name: None,
            key: None,
            key_env: None,
            kind: Kind::OpenAi,
            models: Vec::new(),
            weight: 1,
            memory: None,
            max_running: 0,
            max_waiting: None,
            connect_s: 5,
            first_token_s: 600,
            silence_s: 120,
            retries: 2,
            check_s: 10,
        }
    }
}

impl Upstream {
    /// What the upstream is called (see [`Upstream::name`]).
    #[must_use]
    pub fn display_name(&self) -> String {
        let authority = || {
            let url = url(&self.url)?;
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            Some(format!("{}{port}", url.host_str()?))
        };
        let named = self.name.clone().or_else(authority);
        named.unwrap_or_else(|| "upstream".to_owned())
    }

    /// Whether memory may be sent there.
    #[must_use]
    pub fn sees_memory(&self, memory: &Memory) -> bool {
        self.memory
            .unwrap_or_else(|| memory.send_to_upstream || is_loopback_url(&self.url))
    }

    /// Its key, from the environment or from the file.
    ///
    /// # Errors
    /// If the environment has no such variable.
    pub fn secret(&self) -> Result<Option<Secret>, ConfigError> {
        let Some(variable) = &self.key_env else {
            return Ok(self.key.clone());
        };
        match std::env::var(variable) {
            Ok(key) if !key.trim().is_empty() => Ok(Some(Secret::new(key.trim()))),
            _ => Err(ConfigError::bad(
                "upstreams.key_env",
                format!(
                    "names the environment variable {variable}, which is not set; set it to the key of {}",
                    self.url
                ),
            )),
        }
    }

    /// The models with the server's own names for them.
    #[must_use]
    pub fn named_models(&self) -> Vec<(String, String)> {
        let both = |entry: &String| match entry.split_once('=') {
            Some((name, theirs)) => (name.trim().to_owned(), theirs.trim().to_owned()),
            None => (entry.trim().to_owned(), entry.trim().to_owned()),
        };
        self.models.iter().map(both).collect()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let bad = |field: &str, why: String| Err(ConfigError::bad(&format!("upstreams.{field}"), why));
        if url(&self.url).is_none() {
            let why = format!("`{}` is not a URL; write http://host:port or https://host", self.url);
            return bad("url", why);
        }
        if self.key.is_some() && self.key_env.is_some() {
            return bad("key_env", "and `key` are both set; keep one".to_owned());
        }
        if self.weight == 0 || self.weight > 1000 {
            return bad("weight", format!("must be 1 to 1000, not {}", self.weight));
        }
        let times = [
            ("connect_s", self.connect_s),
            ("first_token_s", self.first_token_s),
            ("silence_s", self.silence_s),
            ("check_s", self.check_s),
        ];
        for (field, seconds) in times {
            if seconds == 0 || seconds > DAY_S {
                return bad(field, format!("is in seconds and must be 1 to {DAY_S}, not {seconds}"));
            }
        }
        if self
            .named_models()
            .iter()
            .any(|(name, theirs)| name.is_empty() || theirs.is_empty())
        {
            return bad(
                "models",
                "has an empty name; write \"name\" or \"name = its-name\"".to_owned(),
            );
        }
        Ok(())
    }
}

fn url(url: &str) -> Option<reqwest::Url> {
    let parsed = reqwest::Url::parse(url).ok()?;
    (matches!(parsed.scheme(), "http" | "https") && parsed.has_host()).then_some(parsed)
}

/// Whether a URL can only mean this machine. A name other than `localhost` is never taken for one, whatever it
/// resolves to at the moment.
fn is_loopback_url(address: &str) -> bool {
    url(address).is_some_and(|url| {
        let bare = url
            .host_str()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']');
        bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_this_machine_from_others() {
        for own in [
            "http://127.0.0.1:8421",
            "http://localhost/v1",
            "http://[::1]:9",
            "http://127.8.8.8",
        ] {
            assert!(is_loopback_url(own), "{own}");
        }
        for other in [
            "http://10.0.0.2:1",
            "https://localhost.example.com",
            "http://127.0.0.1.nip.example",
            "nonsense",
        ] {
            assert!(!is_loopback_url(other), "{other}");
        }
    }
}
