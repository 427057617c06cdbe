//! Documents over HTTP: in, found, listed, replaced, and really gone.

use habit_gateway::testing::TestApp;
use http::StatusCode;
use serde_json::json;

const HANDBOOK: &[u8] = b"# Handbook\n\nThe notice period is six weeks.\n\n# Parking\n\nThe garage opens at seven.\n";

async fn found(test: &TestApp, key: &str, query: &str, conversation: Option<&str>) -> Vec<String> {
    let body = json!({"query": query, "conversation": conversation});
    let reply = test.post("/v1/documents/search", key, &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let passages = reply.json()["data"].as_array().unwrap().clone();
    passages
        .iter()
        .map(|passage| passage["text"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_document_goes_in_is_found_and_is_gone_after_deletion() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let reply = test.upload(&key, &[("docs/handbook.md", HANDBOOK)], &[]).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let body = reply.json();
    assert_eq!(body["indexed"], true);
    let document = &body["data"][0];
    assert_eq!(document["name"], "handbook.md", "folders are left out");
    assert_eq!(document["place"], "user");
    assert!(document["chunks"].as_u64().unwrap() >= 1);
    let id = document["id"].as_str().unwrap();

    let texts = found(&test, &key, "How long is the notice period?", None).await;
    assert!(texts.iter().any(|text| text.contains("six weeks")), "{texts:?}");
    assert_eq!(
        test.get("/v1/documents", &key).await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let one = test.get(&format!("/v1/documents/{id}"), &key).await;
    assert_eq!(one.json()["sha256"], document["sha256"]);

    assert_eq!(
        test.delete(&format!("/v1/documents/{id}"), &key).await.status,
        StatusCode::OK
    );
    assert!(
        found(&test, &key, "How long is the notice period?", None)
            .await
            .is_empty()
    );
    assert_eq!(
        test.get(&format!("/v1/documents/{id}"), &key).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        test.delete(&format!("/v1/documents/{id}"), &key).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        test.app.memory.as_ref().unwrap().index.len().await.unwrap(),
        0,
        "the index still has its passages"
    );
}

#[tokio::test]
async fn a_new_version_replaces_the_old_one() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    test.upload(&key, &[("rules.txt", b"The notice period is six weeks.")], &[])
        .await;
    test.upload(&key, &[("rules.txt", b"The notice period is eight weeks.")], &[])
        .await;
    assert_eq!(
        test.get("/v1/documents", &key).await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let texts = found(&test, &key, "How long is the notice period?", None).await;
    assert!(
        texts.iter().any(|text| text.contains("eight")) && !texts.iter().any(|text| text.contains("six")),
        "{texts:?}"
    );
}

#[tokio::test]
async fn a_conversations_documents_stay_in_it_and_go_with_it() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let reply = test
        .upload(
            &key,
            &[("plan.txt", b"The launch code name is Heron.")],
            &[("conversation", "c1")],
        )
        .await;
    assert_eq!(reply.json()["data"][0]["place"], "conversation");
    let question = "What is the launch code name?";
    assert_eq!(found(&test, &key, question, Some("c1")).await.len(), 1);
    assert!(found(&test, &key, question, Some("c2")).await.is_empty());
    assert!(found(&test, &key, question, None).await.is_empty());
    assert!(
        test.get("/v1/documents", &key).await.json()["data"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        test.get("/v1/documents?conversation=c1", &key).await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    test.upload(&key, &[("stays.txt", b"The garage opens at seven.")], &[])
        .await;
    let cleared = test.delete("/v1/documents?conversation=c1", &key).await;
    assert_eq!(
        cleared.json()["deleted"].as_array().unwrap().len(),
        1,
        "{}",
        cleared.text()
    );
    assert!(found(&test, &key, question, Some("c1")).await.is_empty());
    assert_eq!(
        test.get("/v1/documents", &key).await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(test.delete("/v1/documents", &key).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn one_unreadable_file_does_not_keep_the_others_out() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let broken: &[u8] = b"%PDF-1.7 and then nothing";
    let reply = test
        .upload(
            &key,
            &[("broken.pdf", broken), ("good.txt", b"The garage opens at seven.")],
            &[],
        )
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let body = reply.json();
    assert_eq!(body["data"][0]["name"], "good.txt");
    assert_eq!(body["errors"][0]["name"], "broken.pdf");
    assert!(body["errors"][0]["message"].as_str().unwrap().contains("broken.pdf"));
    let reply = test.upload(&key, &[("broken.pdf", broken)], &[]).await;
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (StatusCode::BAD_REQUEST, "unreadable_document")
    );
    assert!(reply.text().contains("broken.pdf"));
    let reply = test.upload(&key, &[("empty.txt", b"  \n")], &[]).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
}

/// Files and fields of a form.
type Case<'a> = (&'a [(&'a str, &'a [u8])], &'a [(&'a str, &'a str)]);

#[tokio::test]
async fn forms_that_make_no_sense_are_refused() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let file: &[(&str, &[u8])] = &[("a.txt", b"text")];
    let cases: [Case; 4] = [
        (&[], &[]),
        (file, &[("conversation", "c1"), ("team_wide", "true")]),
        (file, &[("team_wide", "perhaps")]),
        (file, &[("tema_wide", "true")]),
    ];
    for (files, fields) in cases {
        let reply = test.upload(&key, files, fields).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{fields:?}: {}", reply.text());
    }
    for body in [
        json!({"query": ""}),
        json!({"query": "x", "limit": 0}),
        json!({"query": "x", "limit": 51}),
        json!({}),
    ] {
        assert_eq!(
            test.post("/v1/documents/search", &key, &body).await.status,
            StatusCode::BAD_REQUEST,
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_worker_keeps_nothing() {
    let test = TestApp::builder().without_memory().build().await;
    let key = test.key("acme", "ann").await;
    for path in ["/v1/documents", "/v1/turns"] {
        assert_eq!(test.get(path, &key).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let health = test.get("/health", "").await.json();
    assert!(health.get("journal").is_none(), "{health}");
}

#[tokio::test]
async fn reindexing_finds_everything_again() {
    let test = TestApp::start().await;
    let admin = test.admin_key("acme", "ann").await;
    test.upload(&admin, &[("handbook.md", HANDBOOK)], &[]).await;
    let reply = test.call(
        habit_gateway::testing::request(http::Method::POST, "/v1/reindex", &admin)
            .body(axum::body::Body::empty())
            .unwrap(),
    );
    assert!(reply.await.json()["pending"].as_u64().unwrap() >= 1);
    test.indexed().await;
    let texts = found(&test, &admin, "How long is the notice period?", None).await;
    assert!(texts.iter().any(|text| text.contains("six weeks")), "{texts:?}");
    assert_eq!(test.get("/health", "").await.json()["index"]["pending"], 0);
}

#[tokio::test]
async fn files_of_one_name_in_different_folders_are_different_documents() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let up = async |folder: &str| {
        test.upload(&key, &[("a/b/notes.txt", b"Some words.")], &[("folder", folder)])
            .await
    };
    assert_eq!(
        up("docs/guide/").await.json()["data"][0]["name"],
        "docs/guide/notes.txt"
    );
    assert_eq!(up("docs\\old").await.json()["data"][0]["name"], "docs/old/notes.txt");
    // The same place again: replaced.
    up("docs/guide").await;
    let listed = test.get("/v1/documents", &key).await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2, "{listed}");
    for (name, found) in [
        ("docs%2Fguide%2Fnotes.txt", 1),
        ("docs/guide/notes.txt", 1),
        ("notes.txt", 0),
        ("docs", 0),
    ] {
        let listed = test.get(&format!("/v1/documents?name={name}"), &key).await.json();
        assert_eq!(listed["data"].as_array().unwrap().len(), found, "{name}: {listed}");
    }
    for folder in ["../etc", "a/../b", ".", "a\tb"] {
        let refused = up(folder).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{folder}: {}", refused.text());
        assert_eq!(refused.json()["error"]["param"], "folder");
    }
}

#[tokio::test]
async fn an_upload_need_not_wait_for_the_index() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let upload = async |wait: &str| test.upload(&key, &[("handbook.md", HANDBOOK)], &[("wait", wait)]).await;
    assert_eq!(upload("true").await.json()["indexed"], true);
    let at_once = upload("false").await;
    assert_eq!(at_once.status, StatusCode::OK, "{}", at_once.text());
    let refused = upload("perhaps").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["error"]["param"], "wait");
}

#[tokio::test]
async fn a_document_that_is_replaced_again_and_again_is_still_found() {
    let test = TestApp::builder().on_disk().build().await;
    let key = test.key("acme", "ann").await;
    for time in 0..12 {
        test.upload(&key, &[("handbook.md", HANDBOOK)], &[]).await;
        let texts = found(&test, &key, "How long is the notice period?", None).await;
        assert!(
            texts.iter().any(|text| text.contains("six weeks")),
            "after {time}: {texts:?}"
        );
    }
}
