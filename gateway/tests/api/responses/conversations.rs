//! `/v1/conversations`.

use super::*;

const CONVERSATIONS: &str = "/v1/conversations";

#[tokio::test]
async fn a_conversation_keeps_items_and_metadata() {
    let (test, key) = with(&Scripted::default()).await;
    let body = json!({"metadata": {"topic": "a"}, "items": [{"type": "message", "role": "user", "content": "one"}]});
    let made = test.post(CONVERSATIONS, &key, &body).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    let made = made.json();
    assert_eq!(
        (&made["object"], &made["metadata"]),
        (&json!("conversation"), &json!({"topic": "a"}))
    );
    let path = format!("{CONVERSATIONS}/{}", made["id"].as_str().unwrap());
    assert_eq!(test.get(&path, &key).await.json(), made);
    let updated = test
        .post(&path, &key, &json!({"metadata": {"topic": "b"}}))
        .await
        .json();
    assert_eq!(updated["metadata"], json!({"topic": "b"}));
    let more = json!({"items": [{"role": "user", "content": "two"}, {"role": "assistant", "content": "three"}]});
    let added = test.post(&format!("{path}/items"), &key, &more).await.json();
    assert_eq!(
        (added["data"].as_array().unwrap().len(), &added["object"]),
        (2, &json!("list"))
    );

    let texts = async |query: &str| {
        let list = test.get(&format!("{path}/items?{query}"), &key).await.json();
        let texts = list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["content"][0]["text"].as_str().unwrap());
        (
            texts.collect::<Vec<_>>().join(" "),
            list["has_more"].as_bool().unwrap(),
            list["last_id"].clone(),
        )
    };
    assert_eq!(texts("order=asc").await.0, "one two three");
    let (newest, has_more, last) = texts("limit=2").await;
    assert_eq!((newest.as_str(), has_more), ("three two", true));
    let rest = texts(&format!("limit=2&after={}", last.as_str().unwrap())).await;
    assert_eq!((rest.0.as_str(), rest.1), ("one", false));

    let item = format!("{path}/items/{}", last.as_str().unwrap());
    assert_eq!(test.get(&item, &key).await.json()["content"][0]["text"], "two");
    assert_eq!(test.delete(&item, &key).await.json()["id"], made["id"]);
    assert_eq!(test.get(&item, &key).await.status, StatusCode::NOT_FOUND);
    assert_eq!(texts("order=asc").await.0, "one three");

    let deleted = test.delete(&path, &key).await.json();
    assert_eq!(
        deleted,
        json!({"id": made["id"], "object": "conversation.deleted", "deleted": true})
    );
    for gone in [path.clone(), format!("{path}/items")] {
        assert_eq!(test.get(&gone, &key).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn responses_build_upon_it() {
    let engine = Scripted::default().replies(["one", "two"]);
    let (test, key) = with(&engine).await;
    let made = test.post(CONVERSATIONS, &key, &json!({})).await.json();
    let id = made["id"].as_str().unwrap();
    let first = test
        .post(RESPONSES, &key, &json!({"input": "a", "conversation": id}))
        .await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    assert_eq!(first.json()["conversation"], json!({"id": id}));
    assert_eq!(first.headers["x-habit-conversation"], id);
    let second = json!({"input": "b", "conversation": {"id": id}, "stream": true});
    assert_eq!(
        events(&test.post(RESPONSES, &key, &second).await).last().unwrap().0,
        "response.completed"
    );
    let asked = engine.requests().pop().unwrap();
    let texts: Vec<String> = asked.messages.iter().map(habit_engine::Message::text).collect();
    assert_eq!(texts, ["a", "one", "b"]);
    let items = test
        .get(&format!("{CONVERSATIONS}/{id}/items?order=asc"), &key)
        .await
        .json();
    let roles: Vec<&str> = items["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
}

#[tokio::test]
async fn mistakes_and_strangers_are_refused() {
    let (test, key) = with(&Scripted::default()).await;
    let items = vec![json!({"role": "user", "content": "x"}); 21];
    for body in [
        json!({"items": items}),
        json!({"items": [{"type": "item_reference", "id": "x"}]}),
        json!({"items": [7]}),
        json!({"metadata": {"a": 1}}),
        json!({"metadata": {"a": "x".repeat(513)}}),
        json!([]),
    ] {
        let reply = test.post(CONVERSATIONS, &key, &body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}");
    }
    let body = json!({"items": [{"role": "user", "content": "secret"}]});
    let made = test.post(CONVERSATIONS, &key, &body).await.json();
    let id = made["id"].as_str().unwrap();
    let path = format!("{CONVERSATIONS}/{id}");
    assert_eq!(
        test.post(&format!("{path}/items"), &key, &json!({"items": []}))
            .await
            .status,
        StatusCode::BAD_REQUEST
    );
    let item = test.get(&format!("{path}/items"), &key).await.json()["data"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for stranger in [test.key("other", "me").await, test.key("team", "bob").await] {
        for gone in [path.clone(), format!("{path}/items"), format!("{path}/items/{item}")] {
            assert_eq!(test.get(&gone, &stranger).await.status, StatusCode::NOT_FOUND, "{gone}");
        }
        assert_eq!(test.delete(&path, &stranger).await.status, StatusCode::NOT_FOUND);
        assert_eq!(
            test.delete(&format!("{path}/items/{item}"), &stranger).await.status,
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            test.post(&path, &stranger, &json!({"metadata": {}})).await.status,
            StatusCode::NOT_FOUND
        );
        let more = json!({"items": [{"role": "user", "content": "x"}]});
        assert_eq!(
            test.post(&format!("{path}/items"), &stranger, &more).await.status,
            StatusCode::NOT_FOUND
        );
        let asks = json!({"input": "x", "conversation": id});
        assert_eq!(
            test.post(RESPONSES, &stranger, &asks).await.status,
            StatusCode::NOT_FOUND
        );
    }
    assert_eq!(
        test.get(&format!("{path}/items/{item}"), &key).await.status,
        StatusCode::OK
    );
}
