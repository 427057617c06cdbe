//! The least that anything between a client and an upstream can cost: bytes read from one socket and written to the
//! other, with nothing known of them.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};

/// Serves until it is killed; its first line of output is its URL. `upstream` is a URL of a host and a port.
///
/// # Errors
/// If the upstream's address can't be read, or the own one can't be taken.
pub async fn run(bind: SocketAddr, upstream: &str) -> anyhow::Result<()> {
    let host = upstream.trim_start_matches("http://").trim_end_matches('/');
    let upstream: SocketAddr = host
        .parse()
        .with_context(|| format!("{upstream} is not http://IP:PORT"))?;
    let listener = TcpListener::bind(bind).await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(async move {
            // Whoever leaves first has ended it.
            let _ = pass(client, upstream).await;
        });
    }
}

async fn pass(mut client: TcpStream, upstream: SocketAddr) -> std::io::Result<()> {
    let mut upstream = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}
