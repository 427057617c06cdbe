//! An application that serves in this process: how `serve`, `worker` and the commands that need one start and stop it.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use habit_engine::models::Progress;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::auth::Caller;
use crate::config::Config;
use crate::http::auth::{DEFAULT_TEAM, DEFAULT_USER};
use crate::http::listen;
use crate::keys::KeyStore;
use crate::lifecycle::Lifecycle;
use crate::routes;
use crate::server_file::{DataLock, ServerFile};
use crate::wiring::{self, Purpose};

/// Serving, until [`Running::stop`].
pub struct Running {
    /// The application.
    pub app: App,
    /// Where it listens.
    pub address: SocketAddr,
    serving: JoinHandle<()>,
    lock: Option<DataLock>,
}

impl Running {
    /// Takes the data directory and the address, builds the application, and serves. `worker_key` is the one key of a
    /// worker.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn start(
        config: Config,
        purpose: Purpose,
        worker_key: Option<&str>,
        progress: Arc<dyn Progress>,
    ) -> anyhow::Result<Self> {
        // What fails quickly goes first: a second server on this data, a port in use.
        let lock = match purpose {
            Purpose::Worker => None,
            _ => Some(DataLock::take(&config.data_dir()?)?),
        };
        let listener = listen::bind(config.server.bind).await?;
        let address = listener.local_addr()?;
        let lifecycle = Lifecycle::new(Duration::from_secs(config.server.grace_s));
        let mut app = wiring::build(config, purpose, lifecycle.clone(), progress).await?;
        if let Some(key) = worker_key {
            let scope = habit_memory::Scope::new(DEFAULT_TEAM, DEFAULT_USER)?;
            let caller = Caller {
                key_id: "worker".to_owned(),
                scope,
                admin: false,
                meter: None,
            };
            app.keys = Some(KeyStore::fixed(key, caller, Arc::clone(&app.clock)));
        }
        if let Some(lock) = &lock {
            let server = ServerFile {
                url: base_url(address),
                pid: std::process::id(),
                auth: app.keys.is_some(),
            };
            lock.announce(&server)?;
        }
        let router = routes::router(app.clone());
        let serving = tokio::spawn(listen::serve(listener, router, lifecycle));
        Ok(Self {
            app,
            address,
            serving,
            lock,
        })
    }

    /// The base URL for clients on this machine, without `/v1`.
    #[must_use]
    pub fn url(&self) -> String {
        base_url(self.address)
    }

    /// Takes nothing new, lets running replies finish within the grace period (or until `insist`), writes what is
    /// still to be written, and lets go of the data directory. Returns whether everything finished by itself.
    pub async fn stop(self, insist: impl Future<Output = ()>) -> bool {
        let finished = self.app.lifecycle.shut_down(insist).await;
        // It ends at the soft token; an error could only be a panic, and the process is ending anyway.
        let _ = self.serving.await;
        if let Some(memory) = &self.app.memory {
            memory.journal.close().await;
        }
        drop(self.lock);
        finished
    }
}

/// How a client on this machine reaches an address: one that means all interfaces is reached by loopback.
fn base_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_clients_write_them() {
        assert_eq!(base_url("0.0.0.0:80".parse().unwrap()), "http://127.0.0.1:80");
        assert_eq!(base_url("[::]:80".parse().unwrap()), "http://[::1]:80");
        assert_eq!(base_url("192.0.2.1:80".parse().unwrap()), "http://192.0.2.1:80");
    }
}
