//! `habit mcp`: memory as tools on standard input and output, for programs that start their tools themselves.

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use rmcp::ServiceExt;
use serde_json::Value;

use super::client::Connection;
use crate::auth::Caller;
use crate::cli::{Common, Target};
use crate::mcp::Tools;
use crate::mcp::door::Door;
use crate::wiring::Purpose;

/// Answers until the input ends. Nothing but the protocol goes to standard output.
///
/// # Errors
/// If no server can be had, or the other side breaks the protocol.
pub async fn run(common: &Common, target: &Target) -> anyhow::Result<()> {
    let connection = Arc::new(Connection::open(common, target, Purpose::Memory).await?);
    let tools = Tools::new(Arc::clone(&connection) as Arc<dyn Door>);
    let served = tools.serve(rmcp::transport::stdio()).await;
    let ended = match served {
        Ok(running) => running.waiting().await.map(drop).map_err(anyhow::Error::from),
        Err(error) => Err(anyhow::Error::from(error)),
    };
    if let Some(connection) = Arc::into_inner(connection) {
        connection.close().await;
    }
    ended
}

#[async_trait]
impl Door for Connection {
    async fn call(&self, _: Option<&Caller>, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        let request = self.request(method, path);
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        self.json(request).await.map_err(|error| format!("{error:#}"))
    }
}
