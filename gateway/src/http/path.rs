//! One spelling of each path. Clients are configured with base URLs of every kind: with and without `/v1`, with a
//! slash too many. And model ids have slashes of their own.

use axum::extract::Request;
use http::Uri;
use http::uri::PathAndQuery;

/// Routes that are not under `/v1`.
pub const ROOT_ROUTES: [&str; 2] = ["/health", "/openapi.yaml"];

/// What mem0's clients call, once `/v1` is in front, and what that is here.
const MEM0: [(&str, &str); 5] = [
    ("/v1/v3/memories/add", "/v1/memories"),
    ("/v1/v3/memories", "/v1/memories/list"),
    ("/v1/v3/memories/search", "/v1/memories/search"),
    ("/v1/v2/memories", "/v1/memories/list"),
    ("/v1/v2/memories/search", "/v1/memories/search"),
];

const MODELS: &str = "/v1/models/";

/// Rewrites the request's path to the spelling that the routes have.
pub fn normalise(mut request: Request) -> Request {
    let path = canonical(request.uri().path());
    if path != request.uri().path() {
        let whole = match request.uri().query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let mut parts = request.uri().clone().into_parts();
        // A path made of parts of a valid path is valid; if it were not, the request would stay as it came.
        if let Ok(path_and_query) = PathAndQuery::try_from(whole) {
            parts.path_and_query = Some(path_and_query);
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }
    request
}

/// The canonical spelling: single slashes, none at the end, `/v1` in front, a model's id as one segment.
fn canonical(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut path = segments
        .iter()
        .fold(String::new(), |path, segment| path + "/" + segment);
    if path.is_empty() {
        return "/".to_owned();
    }
    if ROOT_ROUTES.contains(&path.as_str()) {
        return path;
    }
    if segments.first() != Some(&"v1") {
        path.insert_str(0, "/v1");
    }
    // Cohere's clients ask for their second version, whose body is the same.
    if path == "/v1/v2/rerank" {
        return "/v1/rerank".to_owned();
    }
    // And mem0's ask for several of theirs, with bodies that are read alike.
    let memories = MEM0.iter().find(|(theirs, _)| *theirs == path);
    if let Some((_, ours)) = memories {
        return (*ours).to_owned();
    }
    match path.strip_prefix(MODELS) {
        Some(id) if id.contains('/') => format!("{MODELS}{}", id.replace('/', "%2F")),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings() {
        for (given, wanted) in [
            ("/v1/chat/completions", "/v1/chat/completions"),
            ("/chat/completions", "/v1/chat/completions"),
            ("//v1//chat/completions/", "/v1/chat/completions"),
            ("/v1/models/", "/v1/models"),
            ("/v1/models/org/name", "/v1/models/org%2Fname"),
            ("/models/org%2Fname", "/v1/models/org%2Fname"),
            ("/health/", "/health"),
            ("/v2/rerank", "/v1/rerank"),
            ("/tokenize", "/v1/tokenize"),
            ("/v3/memories/add/", "/v1/memories"),
            ("/v2/memories/search/", "/v1/memories/search"),
            ("/openapi.yaml", "/openapi.yaml"),
            ("/", "/"),
            ("/v1health", "/v1/v1health"),
        ] {
            assert_eq!(canonical(given), wanted, "{given}");
        }
    }

    proptest! {
        #[test]
        fn is_stable(path in "(/[a-z0-9.%]{0,6}){0,6}/?") {
            let once = canonical(&path);
            prop_assert_eq!(canonical(&once), once.clone());
            prop_assert!(once.starts_with('/') && !once.contains("//"));
        }
    }
}
