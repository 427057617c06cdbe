//! `[engine]`: what answers.

use std::net::IpAddr;

use habit_engine::models::fit::Precision;
use serde::{Deserialize, Serialize};

use super::{ConfigError, Secret};

/// What answers: a model in this process, or a server elsewhere (`[engine.upstream]`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// The model to run here: `default`, a name from `habit models list`, a `.gguf` file, a directory with
    /// safetensors, or a hub id (`org/name`). Not used with an upstream.
    pub model: String,
    /// The profile (`[profiles.NAME]`) to serve: its settings are taken before those of this section.
    pub profile: Option<String>,
    /// Bits a weight, 16, 8 or 4: a finer model is quantised to it once, and takes less memory. Unset, it stays as its
    /// files have it.
    pub bits: Option<u8>,
    /// What computes a model in this process.
    pub backend: Backend,
    /// A server to ask instead of running a model here.
    pub upstream: Upstream,
    /// Processor threads for the model; 0 takes all cores. Fewer leave room for other programs.
    pub threads: usize,
    /// Replies made at the same time; 0 takes what suits: eight for a model that Habit's own engine runs (together they
    /// are several times as fast as one by one), one for mistral.rs (two would each take twice as long), 64 for an
    /// upstream, which has its own limit.
    pub max_running: usize,
    /// Requests that wait for their turn before new ones are told to come back later (429).
    pub max_waiting: usize,
    /// Tokens that prompt and reply may have together, where less than the model's own limit is wanted (to save
    /// memory). Unset, it is the model's.
    pub context_window: Option<usize>,
}

/// What computes a model in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Habit's own engine where it can run the model (GGUF files of llama's and Qwen's dense layouts: it is faster on
    /// processors and runs several replies together), else mistral.rs.
    #[default]
    Auto,
    /// Habit's own engine, or an error.
    Native,
    /// mistral.rs.
    MistralRs,
}

/// An OpenAI-compatible server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// Its base URL, with or without `/v1`: a `habit worker`, or any OpenAI-compatible server.
    pub url: Option<String>,
    /// The key that it wants. Better given as `HABIT_ENGINE_UPSTREAM_KEY` than written in a file.
    pub key: Option<Secret>,
    /// What it is called in logs and in `owned_by`. Unset, it is the URL's host.
    pub name: Option<String>,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            model: "default".to_owned(),
            profile: None,
            bits: None,
            backend: Backend::default(),
            upstream: Upstream::default(),
            threads: 0,
            max_running: 0,
            // Clients send three or four side calls a message; room for a handful of users doing so.
            max_waiting: 32,
            context_window: None,
        }
    }
}

impl Engine {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.context_window.is_some_and(|window| window < 128) {
            return Err(ConfigError::bad(
                "engine.context_window",
                "is in tokens and must be at least 128",
            ));
        }
        if self.bits.is_some_and(|bits| Precision::of_bits(bits).is_none()) {
            return Err(ConfigError::bad("engine.bits", "must be 16, 8 or 4"));
        }
        if self.model.trim().is_empty() {
            return Err(ConfigError::bad(
                "engine.model",
                "is empty; `habit models list` shows what it may be",
            ));
        }
        if let Some(url) = &self.upstream.url
            && host(url).is_none()
        {
            let why = format!("`{url}` is not a URL; write http://host:port or https://host");
            return Err(ConfigError::bad("engine.upstream.url", why));
        }
        Ok(())
    }
}

impl Engine {
    /// How finely weights are kept at most; `None` for as the files have them.
    #[must_use]
    pub fn precision(&self) -> Option<Precision> {
        self.bits.and_then(Precision::of_bits)
    }
}

impl Upstream {
    /// What the upstream is called (see [`Upstream::name`]).
    #[must_use]
    pub fn display_name(&self) -> String {
        let named = self.name.clone().or_else(|| self.url.as_deref().and_then(host));
        named.unwrap_or_else(|| "upstream".to_owned())
    }
}

fn host(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))?;
    url.host_str().map(ToOwned::to_owned)
}

/// Whether a URL can only mean this machine. A name other than `localhost` is never taken for one, whatever it
/// resolves to at the moment.
pub(super) fn is_loopback_url(url: &str) -> bool {
    host(url).is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
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
