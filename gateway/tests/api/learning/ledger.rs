//! Feedback in, examples and exports out, and what forgetting does to them.

use super::*;

#[tokio::test]
async fn a_reply_is_judged_by_any_of_its_ids() {
    let (test, key) = start().await;
    let reply = ask(
        &test,
        &key,
        &json!({"messages": [{"role": "user", "content": "hello"}]}),
    )
    .await;
    let (turn, completion) = (turn(&reply), reply.json()["id"].as_str().unwrap().to_owned());
    for (name, id) in [("turn", &turn), ("turn", &completion), ("completion_id", &completion)] {
        let said = test
            .post(FEEDBACK, &key, &json!({name: id, "thumb": "up", "comment": "nice"}))
            .await;
        assert_eq!(said.status, StatusCode::OK, "{}", said.text());
        assert_eq!(said.json()["turn"], turn.as_str());
    }
    let response = test
        .post("/v1/responses", &key, &json!({"input": "hello"}))
        .await
        .json();
    let id = response["id"].as_str().unwrap();
    let said = test
        .post(FEEDBACK, &key, &json!({"response_id": id, "score": 0.9}))
        .await;
    assert_eq!(said.status, StatusCode::OK, "{}", said.text());
    let all = test.get(FEEDBACK, &key).await.json();
    assert_eq!(all["data"].as_array().unwrap().len(), 4, "{all}");
    let one = test
        .get(&format!("{FEEDBACK}?turn={completion}&limit=2"), &key)
        .await
        .json();
    assert_eq!(
        (one["data"].as_array().unwrap().len(), &one["has_more"]),
        (2, &json!(true)),
        "{one}"
    );
}

#[tokio::test]
async fn nonsense_is_refused_and_says_why() {
    let (test, key) = start().await;
    let turn = say(&test, &key, "hello").await;
    for (body, status, hint) in [
        (json!({"thumb": "up"}), 400, "completion_id"),
        (
            json!({"turn": turn, "completion_id": turn, "thumb": "up"}),
            400,
            "one of",
        ),
        (json!({"turn": "chatcmpl-x", "thumb": "up"}), 400, "X-Habit-Turn"),
        (json!({"turn": turn}), 400, "at least one"),
        (json!({"turn": turn, "score": 7}), 400, "0 to 1"),
        (json!({"turn": turn, "thumb": "sideways"}), 400, "thumb"),
        (json!({"turn": turn, "correction": " "}), 400, "empty"),
        (json!({"turn": turn, "stars": 5}), 400, "stars"),
        (
            json!({"turn": "0199f3c2-a7e0-7b4c-9d1e-2f3a4b5c6d7e", "thumb": "up"}),
            404,
            "no turn",
        ),
    ] {
        let reply = test.post(FEEDBACK, &key, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", reply.text());
        assert!(reply.text().contains(hint), "{body}: {}", reply.text());
    }
    for path in [
        "/v1/learning/export?format=parquet",
        "/v1/learning/examples?limit=0",
        "/v1/feedback?limit=9999",
    ] {
        let reply = test.get(path, &key).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path}: {}", reply.text());
    }
    let metadata = json!({"messages": [{"role": "user", "content": "x"}], "metadata": {"habit_feedback": "meh"}});
    assert_eq!(test.post(CHAT, &key, &metadata).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_day_has_its_limit() {
    let test = TestApp::builder()
        .config(|config| config.learning.feedback_a_day = 2)
        .build()
        .await;
    let key = test.key("acme", "ann").await;
    let turn = say(&test, &key, "hello").await;
    for _ in 0..2 {
        give(&test, &key, &json!({"turn": turn, "thumb": "up"})).await;
    }
    let reply = test.post(FEEDBACK, &key, &json!({"turn": turn, "thumb": "up"})).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS, "{}", reply.text());
    assert_eq!(reply.error_code(), "feedback_limit_exceeded");
    let bob = test.key("acme", "bob").await;
    let turn = say(&test, &bob, "hello").await;
    give(&test, &bob, &json!({"turn": turn, "thumb": "up"})).await;
}

#[tokio::test]
async fn what_did_my_thumb_do() {
    let (test, key) = start().await;
    let up = say(&test, &key, "Say one").await;
    let up = give(&test, &key, &json!({"turn": up, "thumb": "up"})).await;
    let fixed = correct(&test, &key, "Where do I write? To ann@acme.org?", "Yes, ann@acme.org.").await;
    let comment = say(&test, &key, "Say two").await;
    let comment = give(&test, &key, &json!({"turn": comment, "comment": "hm"})).await;

    let lineage = async |id: String| test.get(&format!("/v1/learning/lineage/{id}"), &key).await.json();
    let made = lineage(up.clone()).await;
    assert_eq!(made["example"]["answer"], "Say one", "{made}");
    assert_eq!(made["example"]["from"], json!([up]), "{made}");
    let made = lineage(fixed.clone()).await;
    assert_eq!(made["example"]["answer"], "Yes, [email].", "{made}");
    assert_eq!(made["example"]["weight"], 1.0);
    let made = lineage(comment).await;
    assert!(made["example"].is_null() && made["left_out"].is_string(), "{made}");

    let examples = test.get("/v1/learning/examples", &key).await.json();
    assert_eq!(
        (&examples["total"], &examples["pairs"], &examples["scrubbed"]),
        (&json!(2), &json!(1), &json!(3)),
        "{examples}"
    );
    let chat = test.get("/v1/learning/export", &key).await;
    assert_eq!(chat.headers["content-type"], "application/x-ndjson");
    let lines: Vec<Value> = chat
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        lines[1]["messages"][1],
        json!({"role": "assistant", "content": "Yes, [email]."})
    );
    for (format, lines) in [("preference", 1), ("dpo", 1), ("kto", 3), ("sharegpt", 2)] {
        let text = test
            .get(&format!("/v1/learning/export?format={format}"), &key)
            .await
            .text();
        assert_eq!(text.lines().count(), lines, "{format}: {text}");
        assert!(!text.contains("acme.org"), "{text}");
    }

    assert_eq!(
        test.delete(&format!("{FEEDBACK}/{fixed}"), &key).await.status,
        StatusCode::OK
    );
    assert_eq!(
        test.delete(&format!("{FEEDBACK}/{fixed}"), &key).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        test.get(&format!("/v1/learning/lineage/{fixed}"), &key).await.status,
        StatusCode::NOT_FOUND
    );
    assert!(
        !test
            .get("/v1/learning/export", &key)
            .await
            .text()
            .contains("Where do I write")
    );
}

#[tokio::test]
async fn lineage_tells_which_word_took_the_place_of_another() {
    let (test, key) = start().await;
    let turn = say(&test, &key, "Say one").await;
    let mut said = Vec::new();
    for word in [
        json!({"thumb": "up"}),
        json!({"correction": "uno"}),
        json!({"correction": "eins"}),
    ] {
        let mut body = word;
        body["turn"] = json!(turn);
        said.push(give(&test, &key, &body).await);
    }
    let lineage = async |id: &String| test.get(&format!("/v1/learning/lineage/{id}"), &key).await.json();
    for earlier in &said[..2] {
        let told = lineage(earlier).await;
        assert_eq!(
            (&told["example"], &told["judged"]),
            (&Value::Null, &json!(false)),
            "{told}"
        );
        let summary = told["summary"].as_str().unwrap();
        assert!(
            summary.contains(&format!("superseded by the correction {}", said[2])),
            "{told}"
        );
    }
    let told = lineage(&said[2]).await;
    assert_eq!(told["example"]["from"], json!([said[2]]), "{told}");
    assert_eq!(told["example"]["answer"], "eins", "{told}");
}

#[tokio::test]
async fn an_example_holds_the_prompt_as_it_was_asked() {
    let (test, key) = start().await;
    let first = json!({"role": "user", "content": "one"});
    let answer = json!({"role": "assistant", "content": "one"});
    ask(&test, &key, &json!({"messages": [first]})).await;
    let history = json!({"messages": [first, answer, {"role": "user", "content": "two"}]});
    let turn = turn(&ask(&test, &key, &history).await);
    give(&test, &key, &json!({"turn": turn, "correction": "zwei"})).await;
    let examples = test.get("/v1/learning/examples", &key).await.json();
    assert_eq!(examples["data"][0]["messages"], history["messages"], "{examples}");
    // A named conversation that is asked without its history: nothing stood before.
    let named =
        |text: &str| json!({"messages": [{"role": "user", "content": text}], "metadata": {"conversation_id": "c"}});
    ask(&test, &key, &named("three")).await;
    let alone = super::turn(&ask(&test, &key, &named("four")).await);
    give(&test, &key, &json!({"turn": alone, "correction": "vier"})).await;
    let examples = test.get("/v1/learning/examples", &key).await.json();
    assert_eq!(examples["data"][0]["messages"], named("four")["messages"], "{examples}");
}

#[tokio::test]
async fn metadata_judges_the_reply_before() {
    let (test, key) = start().await;
    let ask_in = |text: &str, said: Value| json!({"messages": [{"role": "user", "content": text}], "metadata": {"conversation_id": "c", "habit_feedback": said}});
    let first = turn(&ask(&test, &key, &ask_in("one", Value::Null)).await);
    let second = turn(&ask(&test, &key, &ask_in("two", json!("good"))).await);
    ask(&test, &key, &ask_in("three", json!("0.2"))).await;
    let all = test.get(FEEDBACK, &key).await.json();
    assert_eq!(
        (&all["data"][1]["turn"], &all["data"][1]["thumb"]),
        (&json!(first), &json!("up")),
        "{all}"
    );
    assert_eq!(all["data"][0]["turn"], json!(second), "{all}");
    assert!((all["data"][0]["score"].as_f64().unwrap() - 0.2).abs() < 1e-6, "{all}");
    let alone = json!({"messages": [{"role": "user", "content": "x"}], "metadata": {"habit_feedback": "good"}});
    let reply = test.post(CHAT, &key, &alone).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
}

#[tokio::test]
async fn metadata_judges_the_response_before() {
    const RESPONSES: &str = "/v1/responses";
    let (test, key) = start().await;
    let respond = async |mut body: Value, said: Option<&str>| {
        body["metadata"] = said.map_or_else(|| json!({"a": "b"}), |said| json!({"a": "b", "habit_feedback": said}));
        let reply = test.post(RESPONSES, &key, &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert_eq!(reply.json()["metadata"], body["metadata"], "as it was sent");
        // What comes after the prefix is the turn's id.
        let id = reply.json()["id"].as_str().unwrap().to_owned();
        let turn = uuid::Uuid::parse_str(id.strip_prefix("resp_").unwrap()).unwrap();
        (id, turn.to_string())
    };
    let latest = async || test.get(&format!("{FEEDBACK}?limit=1"), &key).await.json()["data"][0].clone();
    let (first, judged) = respond(json!({"input": "one"}), None).await;
    respond(json!({"input": "two", "previous_response_id": first}), None).await;
    // Another branch from the first: that one is the reply before, not the newest.
    for (said, background) in [("good", false), ("0.2", true)] {
        let body = json!({"input": "three", "previous_response_id": first, "background": background});
        respond(body, Some(said)).await;
        assert_eq!(latest().await["turn"], json!(judged), "{said}");
    }
    assert!((latest().await["score"].as_f64().unwrap() - 0.2).abs() < 1e-6);

    let conversation = test.post("/v1/conversations", &key, &json!({})).await.json()["id"].clone();
    let (_, judged) = respond(json!({"input": "four", "conversation": conversation}), None).await;
    respond(json!({"input": "five", "conversation": conversation}), Some("bad")).await;
    let said = latest().await;
    assert_eq!(
        (&said["turn"], &said["thumb"]),
        (&json!(judged), &json!("down")),
        "{said}"
    );

    for (mut body, said) in [
        (json!({"input": "x", "previous_response_id": first}), "meh"),
        (json!({"input": "x"}), "good"),
    ] {
        body["metadata"] = json!({"habit_feedback": said});
        let reply = test.post(RESPONSES, &key, &body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        assert_eq!(
            reply.json()["error"]["param"],
            "metadata.habit_feedback",
            "{}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn a_deleted_turn_takes_what_was_said_of_it_along() {
    let (test, key) = start().await;
    let turn = say(&test, &key, "My locker opens with Heron").await;
    let id = give(&test, &key, &json!({"turn": turn, "correction": "Heron it is"})).await;
    assert_eq!(
        test.delete(&format!("/v1/turns/{turn}"), &key).await.status,
        StatusCode::OK
    );
    assert_eq!(
        test.get(&format!("/v1/learning/lineage/{id}"), &key).await.status,
        StatusCode::NOT_FOUND
    );
    for path in [FEEDBACK, "/v1/learning/examples", "/v1/learning/export"] {
        assert!(!test.get(path, &key).await.text().contains("Heron"), "{path}");
    }
}

#[tokio::test]
async fn an_erased_user_leaves_no_byte_of_feedback() {
    let test = TestApp::builder().on_disk().build().await;
    let key = test.key("acme", "ann").await;
    let turn = say(&test, &key, "My locker opens with Heron").await;
    give(
        &test,
        &key,
        &json!({"turn": turn, "correction": "Kingfisher", "comment": "Sandpiper"}),
    )
    .await;
    let erased = test.post("/v1/memories/erase", &key, &json!({"confirm": "ann"})).await;
    assert_eq!(
        (erased.status, &erased.json()["feedback"]),
        (StatusCode::OK, &json!(1)),
        "{}",
        erased.text()
    );
    let mut folders = vec![test.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            for word in ["Heron", "Kingfisher", "Sandpiper"] {
                let found = bytes.windows(word.len()).any(|part| part == word.as_bytes());
                assert!(!found, "{word} in {}", path.display());
            }
        }
    }
}
