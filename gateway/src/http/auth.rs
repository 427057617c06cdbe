//! The one place where a request gets its [`Caller`]. Everything is refused that has no valid key, but for the two
//! routes that say nothing about anyone.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use habit_memory::Scope;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;

use super::path::ROOT_ROUTES;
use crate::api::error::ApiError;
use crate::app::App;
use crate::auth::Caller;

/// The team of the first key, and of everyone on this machine with `--no-auth`.
pub const DEFAULT_TEAM: &str = "default";

/// The user of the first key, and of everyone on this machine with `--no-auth`.
pub const DEFAULT_USER: &str = "me";

/// Puts a [`Caller`] in the request, or refuses it.
pub async fn authenticate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let local = match &app.keys {
        None => match check_local(request.headers(), &app.config.server.cors_origins) {
            Ok(()) => Some(()),
            Err(refusal) => return refusal.into_response(),
        },
        Some(_) => None,
    };
    if ROOT_ROUTES.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let caller = match (&app.keys, local) {
        (Some(keys), _) => match presented(request.headers()) {
            None => Err(ApiError::unauthorized(
                "there is none; send the header `Authorization: Bearer hb-…` (`habit keys create` makes a key)",
            )),
            Some(key) => match keys.verify(&key).await {
                Ok(Some(caller)) => Ok(caller),
                Ok(None) => Err(ApiError::unauthorized(format!(
                    "{} is unknown, expired or revoked; `habit keys create` makes a new one",
                    shown(&key)
                ))),
                Err(error) => Err(ApiError::unavailable(error.to_string())),
            },
        },
        (None, _) => local_caller(),
    };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::unauthorized("this route needs one"))
    }
}

impl Caller {
    /// Refuses callers without administrative rights.
    ///
    /// # Errors
    /// 403.
    pub fn require_admin(&self) -> Result<(), ApiError> {
        if self.admin {
            return Ok(());
        }
        Err(ApiError::forbidden(
            "this route needs an admin key; `habit keys create --admin` makes one",
        ))
    }
}

impl Caller {
    /// Refuses a model, by its own name, that the key may not ask.
    ///
    /// # Errors
    /// 403.
    pub fn check_model(&self, model: &str) -> Result<(), ApiError> {
        if self.may_ask(model) {
            return Ok(());
        }
        let message = format!("this key may not use the model `{model}`; GET /v1/models lists those that it may");
        Err(ApiError::forbidden(message).with_param("model"))
    }
}

/// Everyone on this machine, with `--no-auth`.
fn local_caller() -> Result<Caller, ApiError> {
    let scope = Scope::new(DEFAULT_TEAM, DEFAULT_USER).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(Caller {
        key_id: "local".to_owned(),
        scope,
        admin: true,
        meter: None,
    })
}

/// The key that a request carries, in whichever header its client uses. An empty one is none.
fn presented(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(AUTHORIZATION.as_str()).and_then(|value| {
        let (scheme, key) = value.trim().split_once(' ')?;
        // mem0's clients say `Token`.
        let known = ["bearer", "token"].iter().any(|name| scheme.eq_ignore_ascii_case(name));
        known.then_some(key)
    });
    let keys = [bearer, text("x-api-key"), text("api-key")];
    keys.into_iter()
        .flatten()
        .map(str::trim)
        .find(|key| !key.is_empty())
        .map(ToOwned::to_owned)
}

/// A key as messages may show it: never a secret, nor anything that might be a part of one.
fn shown(key: &str) -> String {
    let public = key
        .strip_prefix("hb-")
        .and_then(|rest| rest.split_once('-'))
        .map(|(public, _)| public);
    match public {
        Some(public) if public.len() == 16 && public.bytes().all(|b| b.is_ascii_hexdigit()) => {
            format!("the key hb-{public}-…")
        }
        _ => "it".to_owned(),
    }
}

/// Without keys, only this machine's own programs may ask: not a web page that resolved its own name to this machine
/// (DNS rebinding: the `Host` is then that name), nor one that posts across origins (the `Origin` is then its own).
fn check_local(headers: &HeaderMap, origins: &[String]) -> Result<(), ApiError> {
    let refuse = |what: &str| {
        Err(ApiError::forbidden(format!(
            "without keys (--no-auth) only this machine may ask, but {what}; use http://127.0.0.1, or start with keys"
        )))
    };
    if let Some(host) = headers.get(HOST)
        && !host.to_str().is_ok_and(is_loopback_authority)
    {
        return refuse("the Host header names another");
    }
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let allowed = origins.iter().any(|known| known == "*" || known == origin);
        let own = origin
            .split_once("://")
            .is_some_and(|(_, authority)| is_loopback_authority(authority));
        if !allowed && !own {
            return refuse("a web page of another origin sent this");
        }
    }
    Ok(())
}

fn is_loopback_authority(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<http::uri::Authority>() else {
        return false;
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn every_clients_header_carries_the_key() {
        assert_eq!(
            presented(&headers(&[("authorization", "Bearer k")])).as_deref(),
            Some("k")
        );
        assert_eq!(
            presented(&headers(&[("authorization", "bearer  k ")])).as_deref(),
            Some("k")
        );
        assert_eq!(
            presented(&headers(&[("authorization", "Token k")])).as_deref(),
            Some("k")
        );
        assert_eq!(presented(&headers(&[("x-api-key", "k")])).as_deref(), Some("k"));
        assert_eq!(presented(&headers(&[("api-key", "k")])).as_deref(), Some("k"));
        assert_eq!(
            presented(&headers(&[("authorization", "Bearer "), ("x-api-key", "")])),
            None
        );
        assert_eq!(
            presented(&headers(&[("authorization", "Bearer "), ("x-api-key", "k")])).as_deref(),
            Some("k")
        );
        assert_eq!(presented(&headers(&[("authorization", "Basic abc")])), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let key = format!("hb-0123456789abcdef-{}", "a".repeat(64));
        assert_eq!(shown(&key), "the key hb-0123456789abcdef-…");
        assert_eq!(shown("sk-proj-secret"), "it");
    }

    #[test]
    fn without_keys_other_hosts_and_origins_are_refused() {
        for host in ["127.0.0.1:8420", "localhost", "LOCALHOST:1", "[::1]:8420"] {
            assert!(check_local(&headers(&[("host", host)]), &[]).is_ok(), "{host}");
        }
        for host in ["evil.example:8420", "127.0.0.1.evil.example", "10.0.0.1", ""] {
            assert!(check_local(&headers(&[("host", host)]), &[]).is_err(), "{host}");
        }
        let page = headers(&[("host", "127.0.0.1"), ("origin", "https://evil.example")]);
        assert!(check_local(&page, &[]).is_err());
        assert!(check_local(&page, &["https://evil.example".to_owned()]).is_ok());
        assert!(check_local(&headers(&[("origin", "http://localhost:3000")]), &[]).is_ok());
        assert!(check_local(&headers(&[("origin", "null")]), &[]).is_err());
    }
}
