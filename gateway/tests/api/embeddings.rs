//! Embeddings, rerank, tokens and models: what there is besides replies.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use habit_engine::scripted::Scripted;
use habit_gateway::testing::TestApp;
use serde_json::{Value, json};

const URL: &str = "/v1/embeddings";

/// The name of the double, which has vectors of 256 floats and a token for each character, 512 at most.
const MODEL: &str = "hash";

async fn start() -> (TestApp, String) {
    let test = TestApp::start().await;
    let key = test.key("team", "me").await;
    (test, key)
}

fn floats(vector: &Value) -> Vec<f64> {
    vector
        .as_array()
        .unwrap_or_else(|| panic!("{vector}"))
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[tokio::test]
async fn texts_become_vectors_in_order() {
    let (test, key) = start().await;
    let reply = test
        .post(
            URL,
            &key,
            &json!({"model": MODEL, "input": ["a dog", "a cat", "a dog"]}),
        )
        .await;
    let answer = reply.json();
    assert_eq!(
        (&answer["object"], &answer["model"]),
        (&json!("list"), &json!(MODEL)),
        "{answer}"
    );
    assert_eq!(answer["usage"], json!({"prompt_tokens": 15, "total_tokens": 15}));
    let data = answer["data"].as_array().unwrap();
    for (place, item) in data.iter().enumerate() {
        assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(place)));
        let vector = floats(&item["embedding"]);
        assert_eq!(vector.len(), 256);
        assert!((length(&vector) - 1.0).abs() < 1e-3);
    }
    assert_eq!(data[0]["embedding"], data[2]["embedding"]);
    assert_ne!(data[0]["embedding"], data[1]["embedding"]);
    // Any way to name the default will do, and one text is a list of one.
    for model in [Value::Null, json!(""), json!("default"), json!("hash@256")] {
        let one = test
            .post(URL, &key, &json!({"model": model, "input": "a dog"}))
            .await
            .json();
        assert_eq!(one["data"][0]["embedding"], data[0]["embedding"], "{model}");
    }
}

#[tokio::test]
async fn base64_and_tokens_are_the_same_vectors() {
    let (test, key) = start().await;
    let first = async |body: Value| test.post(URL, &key, &body).await.json()["data"][0]["embedding"].clone();
    let plain = floats(&first(json!({"input": "a dog"})).await);
    let packed = first(json!({"input": "a dog", "encoding_format": "base64", "user": "me"})).await;
    let bytes = STANDARD.decode(packed.as_str().unwrap()).unwrap();
    let unpacked: Vec<f64> = bytes
        .chunks(4)
        .map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap())))
        .collect();
    assert_eq!(unpacked.len(), 256);
    assert!(
        plain
            .iter()
            .zip(&unpacked)
            .all(|(one, other)| (one - other).abs() < 1e-6)
    );
    let tokens: Vec<u32> = "a dog".chars().map(u32::from).collect();
    assert_eq!(floats(&first(json!({"input": tokens})).await), plain);
    assert_eq!(floats(&first(json!({"input": [tokens]})).await), plain);
}

#[tokio::test]
async fn fewer_dimensions_are_the_beginning_at_length_one() {
    let (test, key) = start().await;
    let first = async |body: Value| floats(&test.post(URL, &key, &body).await.json()["data"][0]["embedding"]);
    let text = "many different words so that the beginning is not empty at all";
    let whole = first(json!({"input": text})).await;
    let short = first(json!({"input": text, "dimensions": 100})).await;
    assert_eq!(short.len(), 100);
    assert!((length(&short) - 1.0).abs() < 1e-3);
    let scale = length(&whole[..100]);
    assert!(
        whole
            .iter()
            .zip(&short)
            .all(|(one, other)| (one / scale - other).abs() < 1e-5)
    );
}

#[tokio::test]
async fn what_cannot_be_embedded_is_refused_by_name() {
    let (test, key) = start().await;
    let long = "x".repeat(513);
    for (body, status, code, param) in [
        (json!({}), 400, "invalid_value", "input"),
        (json!({"input": ""}), 400, "invalid_value", "input"),
        (json!({"input": []}), 400, "invalid_value", "input"),
        (json!({"input": ["a", ""]}), 400, "invalid_value", "input"),
        (json!({"input": [[]]}), 400, "invalid_value", "input"),
        (json!({"input": 3}), 400, "invalid_type", "input"),
        (json!({"input": ["a", 3]}), 400, "invalid_type", "input"),
        (json!({"input": vec!["a"; 2049]}), 400, "invalid_value", "input"),
        (json!({"input": [0x11_0000]}), 400, "invalid_value", "input"),
        (json!({"input": long}), 400, "context_length_exceeded", "input"),
        (
            json!({"input": "a", "encoding_format": "hex"}),
            400,
            "invalid_value",
            "encoding_format",
        ),
        (
            json!({"input": "a", "dimensions": 0}),
            400,
            "invalid_value",
            "dimensions",
        ),
        (
            json!({"input": "a", "dimensions": 257}),
            400,
            "invalid_value",
            "dimensions",
        ),
        (json!({"input": "a", "model": "other"}), 404, "model_not_found", "model"),
        (
            json!({"input": "a", "model": "scripted"}),
            400,
            "invalid_value",
            "model",
        ),
    ] {
        let reply = test.post(URL, &key, &body).await;
        let shown: String = body.to_string().chars().take(60).collect();
        assert_eq!(reply.status.as_u16(), status, "{shown}: {}", reply.text());
        let error = reply.json()["error"].clone();
        assert_eq!(
            (error["code"].as_str(), error["param"].as_str()),
            (Some(code), Some(param)),
            "{shown}"
        );
    }
    let cut = test
        .post(URL, &key, &json!({"input": long, "truncate": true}))
        .await
        .json();
    assert_eq!(cut["usage"]["prompt_tokens"], 512, "{cut}");
    assert_eq!(
        test.post(URL, &key, &json!({"input": vec!["a"; 2048]})).await.status,
        200
    );
    assert_eq!(test.post(URL, "", &json!({"input": "a"})).await.status, 401);
}

#[tokio::test]
async fn documents_are_put_in_order() {
    let (test, key) = start().await;
    let body = json!({
        "model": MODEL, "query": "where is the dog", "return_documents": true,
        "documents": ["a cat sleeps", {"text": "the dog is here"}, "dog"],
    });
    for url in ["/v1/rerank", "/rerank", "/v2/rerank"] {
        let answer = test.post(url, &key, &body).await.json();
        let results = answer["results"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let order: Vec<_> = results.iter().map(|result| result["index"].as_u64().unwrap()).collect();
        assert_eq!(order, [1, 2, 0]);
        let scores: Vec<_> = results
            .iter()
            .map(|result| result["relevance_score"].as_f64().unwrap())
            .collect();
        assert!(scores.is_sorted_by(|one, other| one >= other) && scores[0] <= 1.0 && scores[2] >= 0.0);
        assert_eq!(results[0]["document"], json!({"text": "the dog is here"}));
    }
    let few = json!({"query": "dog", "documents": ["a", "dog", "b"], "top_n": 1});
    let answer = test.post("/v1/rerank", &key, &few).await.json();
    assert_eq!(
        (
            answer["results"].as_array().unwrap().len(),
            &answer["results"][0]["index"]
        ),
        (1, &json!(1))
    );
    assert_eq!(answer["results"][0].get("document"), None);
    for (body, param) in [
        (json!({"documents": ["a"]}), "query"),
        (json!({"query": " ", "documents": ["a"]}), "query"),
        (json!({"query": "a"}), "documents"),
        (json!({"query": "a", "documents": []}), "documents"),
        (json!({"query": "a", "documents": [3]}), "documents[0]"),
        (json!({"query": "a", "documents": ["b"], "top_n": 0}), "top_n"),
    ] {
        let reply = test.post("/v1/rerank", &key, &body).await;
        assert_eq!(reply.status, 400, "{body}");
        assert_eq!(reply.json()["error"]["param"], param, "{body}");
    }
}

#[tokio::test]
async fn text_becomes_tokens_and_comes_back() {
    let (test, key) = start().await;
    let made = test
        .post(
            "/tokenize",
            &key,
            &json!({"prompt": "Wüff 🐕!", "return_token_strs": true}),
        )
        .await
        .json();
    assert_eq!(
        (&made["count"], &made["max_model_len"]),
        (&json!(3), &json!(4096)),
        "{made}"
    );
    assert_eq!(made["token_strs"].as_array().unwrap().len(), 3);
    let back = test
        .post("/detokenize", &key, &json!({"tokens": made["tokens"]}))
        .await
        .json();
    assert_eq!(
        (&back["prompt"], &back["content"]),
        (&json!("Wüff 🐕!"), &json!("Wüff 🐕!"))
    );
    let llama = test
        .post("/v1/tokenize", &key, &json!({"content": "Wüff 🐕!"}))
        .await
        .json();
    assert_eq!(
        (&llama["tokens"], &llama["token_strs"]),
        (&made["tokens"], &Value::Null)
    );
    let chat = test
        .post(
            "/tokenize",
            &key,
            &json!({"messages": [{"role": "user", "content": "hi"}]}),
        )
        .await
        .json();
    let text = test
        .post("/detokenize", &key, &json!({"tokens": chat["tokens"]}))
        .await
        .json();
    assert_eq!(text["prompt"], "user: hi\n");
    for (url, body, status, param) in [
        ("/tokenize", json!({}), 400, "prompt"),
        ("/tokenize", json!({"messages": []}), 400, "messages"),
        ("/tokenize", json!({"prompt": "a", "model": "other"}), 404, "model"),
        ("/detokenize", json!({}), 400, "tokens"),
        ("/detokenize", json!({"tokens": [-1]}), 400, "tokens[0]"),
        ("/detokenize", json!({"tokens": [0xFFFF_FFFF_u32]}), 400, "tokens"),
    ] {
        let reply = test.post(url, &key, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{url} {body}: {}", reply.text());
        assert_eq!(reply.json()["error"]["param"], param, "{body}");
    }
}

#[tokio::test]
async fn models_may_have_slashes_and_the_embedder_is_one_of_them() {
    let engine = Scripted::new("org/name");
    let test = TestApp::builder().engine(Arc::new(engine)).build().await;
    let key = test.key("team", "me").await;
    let list = test.get("/v1/models", &key).await.json();
    let ids: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["org/name", MODEL]);
    for path in ["/v1/models/org/name", "/v1/models/org%2Fname", "/models/org%2fname/"] {
        let model = test.get(path, &key).await.json();
        assert_eq!(
            (&model["id"], &model["object"]),
            (&json!("org/name"), &json!("model")),
            "{path}"
        );
    }
    assert_eq!(test.get("/v1/models/hash", &key).await.json()["context_window"], 512);
    let reply = test.get("/v1/models/other", &key).await;
    assert_eq!(
        (reply.status.as_u16(), reply.error_code().as_str()),
        (404, "model_not_found")
    );
}
