//! `[server]`: where and how to listen.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Where and how to listen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address and port. Loopback, so that nothing is open to the network before someone decides that it should be;
    /// port 0 takes a free one.
    pub bind: SocketAddr,
    /// Bytes that a request may have, unpacked. Uploaded documents count too: raise it for large ones.
    pub body_limit: usize,
    /// Seconds that running replies have to finish when the server is asked to stop.
    pub grace_s: u64,
    /// Web pages that may call the API from a browser, as `https://host[:port]`. None by default: any page that a user
    /// of this machine visits could call it otherwise. `"*"` allows all.
    pub cors_origins: Vec<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8420)),
            // Room for long conversations with pictures, and for most documents.
            body_limit: 32 * 1024 * 1024,
            grace_s: 30,
            cors_origins: Vec::new(),
        }
    }
}

impl Server {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.body_limit < 1024 {
            return Err(ConfigError::bad(
                "server.body_limit",
                "is in bytes and must be at least 1024",
            ));
        }
        for origin in &self.cors_origins {
            let scheme = origin.starts_with("http://") || origin.starts_with("https://");
            if origin != "*" && (!scheme || origin.ends_with('/') || origin.parse::<http::HeaderValue>().is_err()) {
                return Err(ConfigError::bad(
                    "server.cors_origins",
                    format!("`{origin}` is not an origin; write https://host or http://host:port, without a path"),
                ));
            }
        }
        Ok(())
    }
}
