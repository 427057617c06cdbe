//! Files and vector stores over HTTP: kept byte for byte, read, searched, filtered, expired, and really gone; and never
//! seen by anyone else.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use habit_engine::fleet::{Fleet, Member, MemberOptions};
use habit_engine::scripted::Scripted;
use habit_gateway::testing::{Reply, TestApp, request};
use habit_memory::clock::Clock;
use http::{Method, StatusCode};
use serde_json::{Value, json};

mod file_search;
mod left_unread;

const HANDBOOK: &[u8] = b"# Handbook\n\nThe notice period is six weeks.\n\n# Parking\n\nThe garage opens at seven.\n";

/// A clock that goes on by itself, and can be put forward.
#[derive(Default)]
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        1_800_000_000_000 + self.0.load(Ordering::SeqCst)
    }
}

async fn keep(test: &TestApp, key: &str, name: &str, bytes: &[u8]) -> String {
    let reply = test
        .upload_to("/v1/files", key, &[(name, bytes)], &[("purpose", "assistants")])
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

async fn ok(test: &TestApp, key: &str, path: &str, body: Value) -> Value {
    let reply = test.post(path, key, &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
    reply.json()
}

/// Asks until nothing is in progress.
async fn settled(test: &TestApp, key: &str, path: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let body = test.get(path, key).await.json();
        if body["status"] != "in_progress" {
            return body;
        }
        assert!(Instant::now() < deadline, "{body}");
        tokio::task::yield_now().await;
    }
}

async fn store(test: &TestApp, key: &str, files: &[&str]) -> String {
    let made = ok(test, key, "/v1/vector_stores", json!({"name": "s", "file_ids": files})).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let done = settled(test, key, &format!("/v1/vector_stores/{id}")).await;
    assert_eq!(done["file_counts"]["total"], files.len(), "{done}");
    id
}

async fn texts(test: &TestApp, key: &str, store: &str, search: Value) -> Vec<String> {
    let found = ok(test, key, &format!("/v1/vector_stores/{store}/search"), search).await;
    let data = found["data"].as_array().unwrap();
    let scores: Vec<f64> = data.iter().map(|item| item["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
    data.iter()
        .map(|item| item["content"][0]["text"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_file_comes_back_byte_for_byte_and_is_gone_after_deletion() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let fields = [
        ("purpose", "user_data"),
        ("expires_after[anchor]", "created_at"),
        ("expires_after[seconds]", "3600"),
    ];
    let reply = test
        .upload_to("/v1/files", &key, &[("../../etc/odd näme.bin", &bytes)], &fields)
        .await;
    let file = reply.json();
    assert_eq!(
        (&file["object"], &file["bytes"], &file["purpose"], &file["filename"]),
        (
            &json!("file"),
            &json!(200_000),
            &json!("user_data"),
            &json!("odd näme.bin")
        ),
        "{file}"
    );
    let lifetime = file["expires_at"].as_i64().unwrap() - file["created_at"].as_i64().unwrap();
    assert_eq!(lifetime, 3600);
    let id = file["id"].as_str().unwrap();
    let other = keep(&test, &key, "b.txt", b"Another.").await;

    let content = test.get(&format!("/v1/files/{id}/content"), &key).await;
    assert_eq!(content.body, bytes);
    assert_eq!(
        content.headers["content-disposition"],
        "attachment; filename=\"odd n_me.bin\""
    );
    let list = test.get("/v1/files", &key).await.json();
    assert_eq!(
        (&list["first_id"], &list["last_id"], &list["has_more"]),
        (&json!(other), &json!(id), &json!(false))
    );
    let one = test.get("/v1/files?limit=1&order=asc", &key).await.json();
    assert_eq!((&one["data"][0]["id"], &one["has_more"]), (&json!(id), &json!(true)));
    let next = test
        .get(&format!("/v1/files?after={id}&order=asc&limit=10000"), &key)
        .await
        .json();
    assert_eq!(
        (&next["data"][0]["id"], &next["has_more"]),
        (&json!(other), &json!(false))
    );
    let some = test.get("/v1/files?purpose=assistants", &key).await.json();
    assert_eq!(some["data"].as_array().unwrap().len(), 1);

    let on_disk = || {
        let folder = test.app.config.data_dir().unwrap().join("files/team-acme/user-ann");
        std::fs::read_dir(folder).unwrap().count()
    };
    assert_eq!(on_disk(), 2);
    let gone = test.delete(&format!("/v1/files/{id}"), &key).await.json();
    assert_eq!(gone, json!({"id": id, "object": "file", "deleted": true}));
    assert_eq!(on_disk(), 1, "the bytes are gone too");
    for path in [format!("/v1/files/{id}"), format!("/v1/files/{id}/content")] {
        assert_eq!(test.get(&path, &key).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn bad_uploads_are_told_and_leave_nothing() {
    let test = TestApp::builder()
        .config(|config| config.memory.file_quota = 100)
        .build()
        .await;
    let key = test.key("acme", "ann").await;
    let long = [b'x'; 101];
    let file: (&str, &[u8]) = ("a.txt", b"Some text.");
    for (files, fields, status, param) in [
        (vec![file], vec![], 400, "purpose"),
        (vec![file], vec![("purpose", "spying")], 400, "purpose"),
        (vec![], vec![("purpose", "assistants")], 400, "file"),
        (vec![("a.txt", &b""[..])], vec![("purpose", "assistants")], 400, "file"),
        (vec![("a.txt", &long[..])], vec![("purpose", "assistants")], 413, "file"),
        (
            vec![file],
            vec![
                ("purpose", "assistants"),
                ("expires_after[anchor]", "created_at"),
                ("expires_after[seconds]", "5"),
            ],
            400,
            "expires_after[seconds]",
        ),
        (
            vec![file],
            vec![("purpose", "assistants"), ("expires_after[seconds]", "3600")],
            400,
            "expires_after[anchor]",
        ),
    ] {
        let reply = test.upload_to("/v1/files", &key, &files, &fields).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert_eq!(reply.json()["error"]["param"], param, "{}", reply.text());
    }
    let reply = test.post("/v1/files", &key, &json!({"purpose": "assistants"})).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let folder = test.app.config.data_dir().unwrap().join("files/team-acme/user-ann");
    let left = std::fs::read_dir(folder).map_or(0, Iterator::count);
    assert_eq!(left, 0, "half-written files are left over");
    let bad = test.get("/v1/files?limit=0", &key).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    // Up to the quota, there is room.
    keep(&test, &key, "a.txt", &long[..60]).await;
    let over = test
        .upload_to(
            "/v1/files",
            &key,
            &[("b.txt", &long[..60])],
            &[("purpose", "assistants")],
        )
        .await;
    assert_eq!(over.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(over.text().contains("100 bytes"), "{}", over.text());
}

#[tokio::test]
async fn a_store_is_searched_and_only_where_it_is_asked() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let file = keep(&test, &key, "handbook.md", HANDBOOK).await;
    let id = store(&test, &key, &[&file]).await;
    let path = format!("/v1/vector_stores/{id}");
    let whole = test.get(&path, &key).await.json();
    assert_eq!(whole["status"], "completed");
    assert!(whole["usage_bytes"].as_u64().unwrap() > 50, "{whole}");

    let question = json!({"query": "How long is the notice period?", "max_num_results": 1});
    assert_eq!(texts(&test, &key, &id, question.clone()).await.len(), 1);
    assert!(texts(&test, &key, &id, question.clone()).await[0].contains("six weeks"));
    let many = json!({"query": ["notice period", "When does the garage open?"]});
    let both = texts(&test, &key, &id, many).await.join(" ");
    assert!(both.contains("six weeks") && both.contains("seven"), "{both}");
    let strict = json!({"query": "Zebras?", "ranking_options": {"score_threshold": 0.99}});
    assert!(texts(&test, &key, &id, strict).await.is_empty());

    // Not by the way: neither among documents, nor in a conversation that is called as the store is.
    let search = json!({"query": "How long is the notice period?", "conversation": id});
    let found = ok(&test, &key, "/v1/documents/search", search).await;
    assert_eq!(found["data"], json!([]));
    let list = test.get(&format!("/v1/documents?conversation={id}"), &key).await.json();
    assert_eq!(list["data"], json!([]));
    let other = store(&test, &key, &[]).await;
    assert!(texts(&test, &key, &other, question.clone()).await.is_empty());

    let content = test.get(&format!("{path}/files/{file}/content"), &key).await.json();
    assert!(content["data"].to_string().contains("garage"), "{content}");
    // The file may go out of the store and come in again.
    let gone = test.delete(&format!("{path}/files/{file}"), &key).await.json();
    assert_eq!(gone["object"], "vector_store.file.deleted");
    assert!(texts(&test, &key, &id, question.clone()).await.is_empty());
    assert_eq!(
        test.get(&format!("/v1/files/{file}"), &key).await.status,
        StatusCode::OK
    );
    for _ in 0..2 {
        ok(&test, &key, &format!("{path}/files"), json!({"file_id": file})).await;
        settled(&test, &key, &format!("{path}/files/{file}")).await;
        assert_eq!(
            texts(&test, &key, &id, json!({"query": "notice period"})).await.len(),
            2
        );
    }
    // A file that is deleted is gone from all stores.
    ok(
        &test,
        &key,
        &format!("/v1/vector_stores/{other}/files"),
        json!({"file_id": file}),
    )
    .await;
    test.delete(&format!("/v1/files/{file}"), &key).await;
    for store in [&id, &other] {
        assert!(texts(&test, &key, store, question.clone()).await.is_empty());
        let files = test.get(&format!("/v1/vector_stores/{store}/files"), &key).await.json();
        assert_eq!(files["data"], json!([]));
    }
    assert_eq!(test.delete(&path, &key).await.json()["object"], "vector_store.deleted");
    assert_eq!(test.get(&path, &key).await.status, StatusCode::NOT_FOUND);
    let memory = test.app.memory.as_ref().unwrap();
    assert_eq!(memory.journal.totals().await.unwrap().chunks, 0);
    assert_eq!(memory.index.len().await.unwrap(), 0);
}

#[tokio::test]
async fn filters_choose_files_before_results_are_counted() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let id = store(&test, &key, &[]).await;
    let mut files = Vec::new();
    for n in 0..30 {
        let text = format!("The harbour crane number {n} lifts forty tonnes.");
        files.push(keep(&test, &key, &format!("{n}.txt"), text.as_bytes()).await);
    }
    let each: Vec<Value> = files
        .iter()
        .enumerate()
        .map(|(n, file)| json!({"file_id": file, "attributes": {"n": n, "odd": n % 2 == 1, "name": format!("crane {n}")}}))
        .collect();
    let batch = ok(
        &test,
        &key,
        &format!("/v1/vector_stores/{id}/file_batches"),
        json!({"files": each}),
    )
    .await;
    let batch = format!("/v1/vector_stores/{id}/file_batches/{}", batch["id"].as_str().unwrap());
    assert_eq!(settled(&test, &key, &batch).await["file_counts"]["completed"], 30);
    let ask = |filters: Value| json!({"query": "harbour crane number 3", "max_num_results": 2, "filters": filters});
    for (filters, wanted) in [
        (json!({"type": "eq", "key": "n", "value": 29}), vec!["number 29"]),
        (
            json!({"type": "in", "key": "name", "value": ["crane 7"]}),
            vec!["number 7"],
        ),
        (
            json!({"type": "and", "filters": [
                {"type": "gte", "key": "n", "value": 26}, {"type": "eq", "key": "odd", "value": true},
            ]}),
            vec!["number 27", "number 29"],
        ),
        (json!({"type": "eq", "key": "colour", "value": "red"}), vec![]),
    ] {
        let mut found = texts(&test, &key, &id, ask(filters.clone())).await;
        found.sort();
        assert_eq!(found.len(), wanted.len(), "{filters}");
        for (text, wanted) in found.iter().zip(wanted) {
            assert!(text.contains(wanted), "{filters}: {found:?}");
        }
    }
    // Changed attributes count at once.
    let path = format!("/v1/vector_stores/{id}/files/{}", files[0]);
    let changed = ok(&test, &key, &path, json!({"attributes": {"colour": "red"}})).await;
    assert_eq!(changed["attributes"], json!({"colour": "red"}));
    let red = texts(
        &test,
        &key,
        &id,
        ask(json!({"type": "eq", "key": "colour", "value": "red"})),
    )
    .await;
    assert_eq!(red.len(), 1);
    // Listings go on where they ended.
    let list = format!("/v1/vector_stores/{id}/files?order=asc&limit=20");
    let first = test.get(&list, &key).await.json();
    assert_eq!(
        (&first["first_id"], &first["has_more"]),
        (&json!(files[0]), &json!(true))
    );
    let after = format!("{batch}/files?order=asc&limit=20&filter=completed&after={}", files[19]);
    let rest = test.get(&after, &key).await.json();
    assert_eq!(
        (rest["data"].as_array().unwrap().len(), &rest["has_more"]),
        (10, &json!(false))
    );
}

#[tokio::test]
async fn what_cannot_be_read_fails_with_a_reason_and_keeps_nothing_else_out() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let good = keep(&test, &key, "good.txt", b"The notice period is six weeks.").await;
    let bad = keep(&test, &key, "broken.pdf", b"%PDF-1.7 and nothing more").await;
    let id = store(&test, &key, &[]).await;
    let batches = format!("/v1/vector_stores/{id}/file_batches");
    let batch = ok(&test, &key, &batches, json!({"file_ids": [good, bad]})).await;
    let done = settled(&test, &key, &format!("{batches}/{}", batch["id"].as_str().unwrap())).await;
    assert_eq!(
        (&done["status"], &done["file_counts"]),
        (
            &json!("completed"),
            &json!({"in_progress": 0, "completed": 1, "failed": 1, "cancelled": 0, "total": 2})
        )
    );
    let failed = test
        .get(&format!("/v1/vector_stores/{id}/files/{bad}"), &key)
        .await
        .json();
    assert_eq!(
        (&failed["status"], &failed["last_error"]["code"]),
        (&json!("failed"), &json!("invalid_file"))
    );
    assert!(
        failed["last_error"]["message"].as_str().unwrap().contains("broken.pdf"),
        "{failed}"
    );
    let list = test
        .get(&format!("/v1/vector_stores/{id}/files?filter=failed"), &key)
        .await
        .json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    let content = test
        .get(&format!("/v1/vector_stores/{id}/files/{bad}/content"), &key)
        .await;
    assert_eq!(content.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        texts(&test, &key, &id, json!({"query": "notice period"})).await.len(),
        1
    );
    // A batch that is done has nothing to stop.
    let batch = format!("{batches}/{}", batch["id"].as_str().unwrap());
    assert_eq!(
        ok(&test, &key, &format!("{batch}/cancel"), json!({})).await["status"],
        "completed"
    );
}

#[tokio::test]
async fn bad_requests_name_the_field() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let file = keep(&test, &key, "a.txt", b"Some text.").await;
    let id = store(&test, &key, &[]).await;
    let (stores, files) = ("/v1/vector_stores".to_owned(), format!("/v1/vector_stores/{id}/files"));
    let search = format!("/v1/vector_stores/{id}/search");
    let wide = |tokens: u64, overlap: u64| json!({"type": "static", "static": {"max_chunk_size_tokens": tokens, "chunk_overlap_tokens": overlap}});
    for (path, body, param) in [
        (
            &stores,
            json!({"expires_after": {"anchor": "created_at", "days": 1}}),
            "expires_after.anchor",
        ),
        (
            &stores,
            json!({"expires_after": {"anchor": "last_active_at", "days": 366}}),
            "expires_after.days",
        ),
        (&stores, json!({"metadata": {"a": 1}}), "metadata"),
        (&stores, json!({"metadata": {"a": "x".repeat(513)}}), "metadata"),
        (
            &stores,
            json!({"chunking_strategy": {"type": "odd"}}),
            "chunking_strategy.type",
        ),
        (&stores, json!({"name": 7}), "name"),
        (&files, json!({}), "file_id"),
        (&files, json!({"file_id": file, "attributes": {"a": []}}), "attributes"),
        (
            &files,
            json!({"file_id": file, "chunking_strategy": wide(99, 0)}),
            "chunking_strategy.static.max_chunk_size_tokens",
        ),
        (
            &files,
            json!({"file_id": file, "chunking_strategy": wide(100, 51)}),
            "chunking_strategy.static.chunk_overlap_tokens",
        ),
        (&search, json!({}), "query"),
        (&search, json!({"query": " "}), "query"),
        (&search, json!({"query": []}), "query"),
        (&search, json!({"query": "a", "max_num_results": 51}), "max_num_results"),
        (
            &search,
            json!({"query": "a", "ranking_options": {"score_threshold": 2}}),
            "ranking_options.score_threshold",
        ),
        (
            &search,
            json!({"query": "a", "filters": {"type": "like"}}),
            "filters.type",
        ),
        (
            &search,
            json!({"query": "a", "filters": {"type": "and", "filters": [{"type": "eq"}]}}),
            "filters.filters[0].key",
        ),
    ] {
        let reply = test.post(path, &key, &body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path} {body}: {}", reply.text());
        let error = &reply.json()["error"];
        let named = error["param"] == param || error["message"].as_str().unwrap().contains(param);
        assert!(named, "{path} {body}: {error}");
    }
    for (path, body) in [
        ("/v1/vector_stores".to_owned(), json!({"file_ids": ["file-none"]})),
        (files.clone(), json!({"file_id": "file-none"})),
        ("/v1/vector_stores/vs_none/files".to_owned(), json!({"file_id": file})),
        ("/v1/vector_stores/vs_none/search".to_owned(), json!({"query": "a"})),
    ] {
        let reply = test.post(&path, &key, &body).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}: {}", reply.text());
    }
    let all = test.get("/v1/vector_stores", &key).await.json();
    assert_eq!(
        all["data"].as_array().unwrap().len(),
        1,
        "a failed creation left a store: {all}"
    );
    let list = test.get(&format!("{files}?limit=101"), &key).await;
    assert_eq!(list.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_store_lives_as_long_as_it_is_used_and_then_goes_with_all_it_had() {
    let clock = Arc::new(Hands::default());
    let test = TestApp::builder()
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .build()
        .await;
    let key = test.key("acme", "ann").await;
    let file = keep(&test, &key, "a.txt", HANDBOOK).await;
    let id = store(&test, &key, &[&file]).await;
    let path = format!("/v1/vector_stores/{id}");
    let changed = ok(
        &test,
        &key,
        &path,
        json!({"expires_after": {"anchor": "last_active_at", "days": 2}, "name": null}),
    )
    .await;
    assert_eq!(
        (&changed["name"], &changed["expires_after"]["days"]),
        (&json!("s"), &json!(2))
    );
    let day = 24 * 60 * 60 * 1000;
    for _ in 0..3 {
        clock.0.fetch_add(day, Ordering::SeqCst);
        assert!(
            !texts(&test, &key, &id, json!({"query": "notice period"}))
                .await
                .is_empty()
        );
    }
    clock.0.fetch_add(2 * day + 1000, Ordering::SeqCst);
    let search = test
        .post(&format!("{path}/search"), &key, &json!({"query": "notice"}))
        .await;
    assert_eq!(search.status, StatusCode::NOT_FOUND);
    assert!(search.text().contains("expired"), "{}", search.text());
    let memory = test.app.memory.as_ref().unwrap();
    habit_memory::objects::sweep_once(&*memory.objects, &memory.stores)
        .await
        .unwrap();
    assert_eq!(memory.journal.totals().await.unwrap().chunks, 0);
    assert_eq!(memory.index.len().await.unwrap(), 0);
    assert_eq!(
        test.get(&format!("/v1/files/{file}"), &key).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn nobody_else_reaches_them() {
    let test = TestApp::start().await;
    let ann = test.key("acme", "ann").await;
    let file = keep(&test, &ann, "handbook.md", HANDBOOK).await;
    let id = store(&test, &ann, &[]).await;
    let batches = format!("/v1/vector_stores/{id}/file_batches");
    let batch = ok(&test, &ann, &batches, json!({"file_ids": [file]})).await;
    let batch = format!("{batches}/{}", batch["id"].as_str().unwrap());
    settled(&test, &ann, &batch).await;
    // The same user name in another team; another user of the same team.
    for (team, user) in [("other", "ann"), ("acme", "bob")] {
        let key = test.key(team, user).await;
        let own = keep(&test, &key, "own.txt", b"Mine.").await;
        for path in [
            format!("/v1/files/{file}"),
            format!("/v1/files/{file}/content"),
            format!("/v1/vector_stores/{id}"),
            format!("/v1/vector_stores/{id}/files"),
            format!("/v1/vector_stores/{id}/files/{file}"),
            format!("/v1/vector_stores/{id}/files/{file}/content"),
            batch.clone(),
            format!("{batch}/files"),
        ] {
            assert_eq!(test.get(&path, &key).await.status, StatusCode::NOT_FOUND, "{path}");
        }
        for (path, body) in [
            (format!("/v1/vector_stores/{id}"), json!({"name": "mine"})),
            (
                format!("/v1/vector_stores/{id}/search"),
                json!({"query": "notice period"}),
            ),
            (format!("/v1/vector_stores/{id}/files"), json!({"file_id": own})),
            (
                format!("/v1/vector_stores/{id}/files/{file}"),
                json!({"attributes": {}}),
            ),
            (batches.clone(), json!({"file_ids": [own]})),
            (format!("{batch}/cancel"), json!({})),
            ("/v1/vector_stores".to_owned(), json!({"file_ids": [file]})),
        ] {
            assert_eq!(
                test.post(&path, &key, &body).await.status,
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
        for path in [
            format!("/v1/files/{file}"),
            format!("/v1/vector_stores/{id}/files/{file}"),
            format!("/v1/vector_stores/{id}"),
        ] {
            assert_eq!(test.delete(&path, &key).await.status, StatusCode::NOT_FOUND, "{path}");
        }
        let files = test.get("/v1/files", &key).await.json();
        assert_eq!(files["data"].as_array().unwrap().len(), 1, "{files}");
        assert_eq!(test.get("/v1/vector_stores", &key).await.json()["data"], json!([]));
        let theirs = store(&test, &key, &[&own]).await;
        assert_eq!(
            texts(&test, &key, &theirs, json!({"query": "notice period"})).await,
            ["Mine."]
        );
    }
    assert_eq!(
        texts(&test, &ann, &id, json!({"query": "notice period"})).await.len(),
        2
    );
}
