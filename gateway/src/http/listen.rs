//! Accepts connections until it is asked to stop, then lets running replies finish.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use crate::lifecycle::Lifecycle;

/// A client has so long to send its headers: slow ones must not hold connections for nothing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// A pause after the system refused a connection (usually: too many open files), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes an address.
///
/// # Errors
/// With what to do about it.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{address} is in use by another program; stop it, or choose another port with --bind {}:PORT (0 takes a free one)",
            address.ip()
        ),
        io::ErrorKind::AddrNotAvailable => {
            anyhow::anyhow!("{address} is not an address of this machine; choose another with --bind ADDR:PORT")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("this user may not listen on {address}; choose a port above 1023 with --bind")
        }
        _ => anyhow::anyhow!("can't listen on {address}: {error}"),
    })
}

/// Serves until the lifecycle's soft token is cancelled. Connections are tasks of the lifecycle: they finish what they
/// have begun, and are dropped at its hard token.
pub async fn serve(listener: TcpListener, router: Router, lifecycle: Lifecycle) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = lifecycle.soft().cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, router.clone(), lifecycle.clone());
                drop(lifecycle.spawn(connection));
            }
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, lifecycle: Lifecycle) {
    // Tokens are small packets: without this each waits up to 40 ms for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("TCP_NODELAY could not be set: {error}");
    }
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let service = TowerToHyperService::new(router);
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!("a connection ended early: {error}");
                }
                return;
            }
            () = lifecycle.soft().cancelled(), if !draining => {
                draining = true;
                GracefulConnection::graceful_shutdown(connection.as_mut());
            }
            // Dropping it drops the replies under way, which then record what they had sent.
            () = lifecycle.hard().cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::routing::get;
    use tokio::sync::Semaphore;

    use super::*;

    /// A server whose one route answers when the gate is open; and a client that has asked it.
    struct Asked {
        address: SocketAddr,
        gate: Arc<Semaphore>,
        lifecycle: Lifecycle,
        serving: tokio::task::JoinHandle<()>,
        reply: tokio::task::JoinHandle<reqwest::Result<String>>,
    }

    async fn asked() -> Asked {
        let (gate, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (handlers_gate, handlers_arrived) = (Arc::clone(&gate), Arc::clone(&arrived));
        let handler = move || async move {
            handlers_arrived.add_permits(1);
            let _ = handlers_gate.acquire().await;
            "done"
        };
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let lifecycle = Lifecycle::new(Duration::from_hours(1));
        let serving = tokio::spawn(serve(
            listener,
            Router::new().route("/", get(handler)),
            lifecycle.clone(),
        ));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.get(format!("http://{address}/"));
        let reply = tokio::spawn(async move { request.send().await?.text().await });
        arrived.acquire().await.unwrap().forget();
        Asked {
            address,
            gate,
            lifecycle,
            serving,
            reply,
        }
    }

    #[tokio::test]
    async fn running_replies_finish_and_nothing_new_is_taken() {
        let asked = asked().await;
        asked.lifecycle.soft().cancel();
        asked.serving.await.unwrap();
        assert!(TcpStream::connect(asked.address).await.is_err(), "it still listens");
        asked.gate.add_permits(1);
        assert!(asked.lifecycle.shut_down(std::future::pending()).await);
        assert_eq!(asked.reply.await.unwrap().unwrap(), "done");
    }

    #[tokio::test]
    async fn whoever_insists_does_not_wait() {
        let asked = asked().await;
        assert!(!asked.lifecycle.shut_down(std::future::ready(())).await);
        assert!(
            asked.reply.await.unwrap().is_err(),
            "the reply can't have been finished"
        );
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_with_a_way_out() {
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = bind(first.local_addr().unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains("--bind"), "{error}");
    }
}
