//! Every error's shape and headers.

use axum::body::Body;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

async fn answer(error: ApiError) -> (StatusCode, HeaderMap, Value) {
    let response = error.into_response();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, headers, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn has_openai_shape() {
    let (status, headers, body) = answer(ApiError::invalid("`temperature` is too high", Some("temperature"))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(headers[CONTENT_TYPE], "application/json");
    let expected = json!({"error": {
        "message": "`temperature` is too high",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "invalid_value",
    }});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_wrong_key_says_the_words_that_clients_look_for() {
    let (status, _, body) = answer(ApiError::unauthorized("add one")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(body["error"]["code"], "invalid_api_key");
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("Incorrect API key provided")
    );
}

#[tokio::test]
async fn engine_errors_have_their_statuses_and_codes() {
    let cases = [
        (
            EngineError::Overloaded {
                running: 1,
                waiting: 2,
                retry_after_s: 7,
            },
            429,
            "overloaded",
        ),
        (
            EngineError::UnknownModel {
                model: "x".into(),
                available: vec!["y".into()],
            },
            404,
            "model_not_found",
        ),
        (
            EngineError::ContextLengthExceeded {
                limit: 10,
                prompt: 12,
                asked: None,
            },
            400,
            "context_length_exceeded",
        ),
        (
            EngineError::Rejected {
                message: "no".into(),
                param: Some("tools".into()),
            },
            400,
            "invalid_value",
        ),
        (EngineError::Unavailable("down".into()), 503, "engine_unavailable"),
        (EngineError::Interrupted("gone".into()), 503, "reply_interrupted"),
    ];
    for (error, status, code) in cases {
        let (got, headers, body) = answer(error.clone().into()).await;
        assert_eq!(got.as_u16(), status, "{error}");
        assert_eq!(body["error"]["code"], code, "{error}");
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        assert_eq!(
            headers.contains_key(RETRY_AFTER),
            status == 429 || status == 503,
            "{error}"
        );
    }
}

#[tokio::test]
async fn says_when_to_try_again() {
    let error = EngineError::Overloaded {
        running: 1,
        waiting: 2,
        retry_after_s: 7,
    };
    let (_, headers, _) = answer(error.into()).await;
    assert_eq!(headers[RETRY_AFTER], "7");
    assert_eq!(headers[RETRY_AFTER_MS], "7000");

    let short = ApiError::unavailable("soon").with_retry_after(Duration::from_millis(250));
    let (_, headers, _) = answer(short).await;
    assert_eq!(
        (headers[RETRY_AFTER].clone(), headers[RETRY_AFTER_MS].clone()),
        ("1".parse().unwrap(), "250".parse().unwrap())
    );
}

#[tokio::test]
async fn memory_errors_have_their_statuses() {
    let unreadable = MemoryError::UnreadableDocument {
        name: "a.bin".into(),
        reason: "binary".into(),
    };
    for (error, status, code) in [
        (
            MemoryError::Storage("the disk is full".into()),
            503,
            "storage_unavailable",
        ),
        (MemoryError::BadRequest("a bad id".into()), 400, "invalid_value"),
        (unreadable, 400, "unreadable_document"),
    ] {
        let (got, _, body) = answer(error.into()).await;
        assert_eq!((got.as_u16(), &body["error"]["code"]), (status, &json!(code)));
    }
    let (status, _, _) = answer(TurnError::Record("the disk is full".into()).into()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[derive(Debug, Deserialize)]
struct Inner {
    #[serde(rename = "role")]
    _role: u8,
}

#[derive(Debug, Deserialize)]
struct Outer {
    #[serde(rename = "messages")]
    _messages: Vec<Inner>,
}

#[test]
fn names_the_field_by_its_path() {
    let error = parse::<Outer>(br#"{"messages":[{"role":1},{"role":"x"}]}"#).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("messages[1].role"));
    assert_eq!(error.code, "invalid_type");
    assert!(
        error.message.starts_with("`messages[1].role`: invalid type"),
        "{}",
        error.message
    );
}

#[test]
fn names_the_field_that_is_missing() {
    for (body, param) in [
        ("{}", "messages"),
        (r#"{"messages":[{"role":1},{}]}"#, "messages[1].role"),
    ] {
        let error = parse::<Outer>(body.as_bytes()).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param));
        assert_eq!(error.code, "missing_required_parameter");
        assert_eq!(error.message, format!("`{param}` is missing"));
    }
    assert_eq!(parse::<Outer>(b"[]").unwrap_err().code, "invalid_json");
}

#[test]
fn bodies_that_are_not_json_are_told_apart() {
    for body in ["", "{", "{]", "hello", "{\"messages\":[]} x", "\u{feff}{}"] {
        let error = parse::<Outer>(body.as_bytes()).unwrap_err();
        assert_eq!(
            (error.status, &*error.code),
            (StatusCode::BAD_REQUEST, "invalid_json"),
            "{body}"
        );
        assert!(error.message.contains("not valid JSON"), "{}", error.message);
    }
    let error = parse::<Outer>(b"[1]").unwrap_err();
    assert_eq!(error.status, StatusCode::BAD_REQUEST);
}

async fn extract(content_type: Option<&str>, body: &'static str) -> Result<Json<Value>, ApiError> {
    let mut request = Request::builder().method(Method::POST);
    if let Some(content_type) = content_type {
        request = request.header(CONTENT_TYPE, content_type);
    }
    Json::<Value>::from_request(request.body(Body::from(body)).unwrap(), &()).await
}

#[tokio::test]
async fn reads_json_only() {
    for content_type in [
        None,
        Some("application/json"),
        Some("application/json; charset=utf-8"),
        Some("application/x+json"),
    ] {
        assert_eq!(
            extract(content_type, "{}").await.unwrap().0,
            json!({}),
            "{content_type:?}"
        );
    }
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        let error = extract(Some(content_type), "{}").await.unwrap_err();
        assert_eq!(error.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}");
    }
}
