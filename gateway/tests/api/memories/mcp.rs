//! Memory as tools over streamable HTTP: what a tool may do is what its key may.

use super::*;

/// One JSON-RPC request, as a client sends it that keeps no session.
async fn rpc(test: &TestApp, key: &str, method: &str, params: Value) -> Reply {
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    let headers = [
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2025-06-18"),
        ("host", "habit.test"),
    ];
    send(test, Method::POST, "/mcp", key, &body, &headers).await
}

async fn tool(test: &TestApp, key: &str, name: &str, arguments: Value) -> Value {
    let reply = rpc(test, key, "tools/call", json!({"name": name, "arguments": arguments})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()["result"].clone()
}

fn found(result: &Value) -> Vec<&str> {
    assert_eq!(result["isError"], false, "{result}");
    texts(&result["structuredContent"])
}

#[tokio::test]
async fn tools_add_find_list_and_delete_what_belongs_to_their_key() {
    let (test, ann) = start().await;
    let bob = test.key("acme", "bob").await;
    let hello =
        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let hello = rpc(&test, &ann, "initialize", hello).await.json();
    assert_eq!(hello["result"]["serverInfo"]["name"], "habit", "{hello}");
    let listed = rpc(&test, &ann, "tools/list", json!({})).await.json();
    let tools = listed["result"]["tools"].as_array().unwrap().iter();
    let mut names: Vec<_> = tools.map(|tool| tool["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "add_memory",
            "delete_memory",
            "list_memories",
            "search_documents",
            "search_memory"
        ]
    );

    let added = tool(&test, &ann, "add_memory", json!({"text": "My dog is called Rex."})).await;
    let id = added["structuredContent"]["results"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    test.indexed().await;
    let question = json!({"query": "What is my dog called?"});
    let answer = tool(&test, &ann, "search_memory", question.clone()).await;
    assert_eq!(found(&answer), ["My dog is called Rex."]);
    assert_eq!(
        found(&tool(&test, &ann, "list_memories", json!({})).await),
        ["My dog is called Rex."]
    );
    assert_eq!(known(&test, &ann, "").await, ["My dog is called Rex."]);

    // Another user of the same team, and another team's of the same name: neither finds, lists nor deletes.
    for stranger in [&bob, &test.admin_key("other", "ann").await] {
        assert!(found(&tool(&test, stranger, "search_memory", question.clone()).await).is_empty());
        assert!(found(&tool(&test, stranger, "list_memories", json!({})).await).is_empty());
        let refused = tool(&test, stranger, "delete_memory", json!({"id": id})).await;
        assert_eq!(refused["isError"], true, "{refused}");
    }

    let odd = tool(&test, &ann, "delete_memory", json!({"id": "../keys"})).await;
    assert!(
        odd["content"][0]["text"].as_str().unwrap().contains("no memory's id"),
        "{odd}"
    );
    assert_eq!(
        tool(&test, &ann, "delete_memory", json!({"id": id})).await["isError"],
        false
    );
    assert!(known(&test, &ann, "").await.is_empty());
}

#[tokio::test]
async fn documents_are_searched_by_a_tool() {
    let (test, ann) = start().await;
    let bob = test.key("acme", "bob").await;
    test.upload(
        &ann,
        &[("harbour.md", b"The north gate closes at 21:30 in winter.")],
        &[],
    )
    .await;
    test.indexed().await;
    let question = json!({"query": "When does the north gate close?", "limit": 3});
    let result = tool(&test, &ann, "search_documents", question.clone()).await;
    let passages = result["structuredContent"]["data"].as_array().unwrap();
    assert!(passages[0]["text"].as_str().unwrap().contains("21:30"), "{result}");
    for stranger in [&bob, &test.admin_key("other", "ann").await] {
        let result = tool(&test, stranger, "search_documents", question.clone()).await;
        assert_eq!(result["structuredContent"]["data"], json!([]));
    }
}

#[tokio::test]
async fn without_a_key_or_with_nonsense_nothing_is_done() {
    let (test, ann) = start().await;
    assert_eq!(
        rpc(&test, "", "tools/list", json!({})).await.status,
        StatusCode::UNAUTHORIZED
    );
    let unknown = rpc(
        &test,
        &ann,
        "tools/call",
        json!({"name": "drop_tables", "arguments": {}}),
    )
    .await;
    assert!(unknown.json()["error"]["message"].is_string(), "{}", unknown.text());
    let wrong = rpc(
        &test,
        &ann,
        "tools/call",
        json!({"name": "add_memory", "arguments": {"txt": 1}}),
    )
    .await;
    let said = wrong.json();
    assert!(said["error"].is_object() || said["result"]["isError"] == true, "{said}");
    let body = Body::from("{not json");
    let reply = test
        .call(
            request(Method::POST, "/mcp", &ann)
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream")
                .body(body)
                .unwrap(),
        )
        .await;
    assert!(reply.status.is_client_error(), "{}", reply.status);
    assert!(known(&test, &ann, "").await.is_empty());
}
