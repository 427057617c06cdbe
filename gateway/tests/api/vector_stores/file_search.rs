//! The tool `file_search` on chat completions and responses: what is found is before the model, and only that is cited.

use super::*;

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const QUESTION: &str = "How long is the notice period?";

async fn start(engine: &Scripted) -> (TestApp, String, String, String) {
    let test = TestApp::builder().engine(Arc::new(engine.clone())).build().await;
    let key = test.key("acme", "ann").await;
    let file = keep(&test, &key, "handbook.md", HANDBOOK).await;
    let id = store(&test, &key, &[&file]).await;
    (test, key, file, id)
}

fn tool(store: &str) -> Value {
    json!({"type": "file_search", "vector_store_ids": [store], "max_num_results": 1})
}

fn chat(tools: &Value) -> Value {
    json!({"messages": [{"role": "user", "content": QUESTION}], "tools": tools})
}

fn response(tools: &Value) -> Value {
    json!({"input": QUESTION, "tools": tools})
}

/// With memory off.
async fn ask(test: &TestApp, key: &str, path: &str, body: &Value) -> Reply {
    let request = request(Method::POST, path, key)
        .header("content-type", "application/json")
        .header("x-habit-memory", "off");
    test.call(request.body(body.to_string().into()).unwrap()).await
}

/// The data of a stream's events.
fn events(reply: &Reply) -> Vec<Value> {
    let text = reply.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

#[tokio::test]
async fn what_is_found_is_before_the_model_and_cited() {
    let engine = Scripted::default().reply("Six wéeks.");
    let (test, key, file, id) = start(&engine).await;
    let function = json!({"type": "function", "function": {"name": "f"}});
    let flat = json!({"type": "function", "name": "f"});
    let citation = json!({"type": "file_citation", "file_id": file, "filename": "handbook.md", "index": 10});

    let reply = ask(&test, &key, CHAT, &chat(&json!([tool(&id), function]))).await;
    let message = &reply.json()["choices"][0]["message"];
    let mut note = message["annotations"][0].clone();
    let nested = note.as_object_mut().unwrap().remove("file_citation").unwrap();
    assert_eq!(note, citation, "{message}");
    assert_eq!(nested, json!({"file_id": file, "filename": "handbook.md"}));

    let mut asked = response(&json!([tool(&id), flat]));
    asked["include"] = json!(["file_search_call.results"]);
    let made = ask(&test, &key, RESPONSES, &asked).await.json();
    let (search, said) = (&made["output"][0], &made["output"][1]);
    assert_eq!(
        (&search["type"], &search["status"], &search["queries"]),
        (&json!("file_search_call"), &json!("completed"), &json!([QUESTION])),
        "{made}"
    );
    assert_eq!(search["results"][0]["file_id"], json!(file));
    assert_eq!(said["content"][0]["annotations"], json!([citation]));

    for request in engine.requests() {
        let prompt = request.messages.last().unwrap().text();
        assert!(prompt.contains("six weeks") && !prompt.contains("garage"), "{prompt}");
        assert_eq!(request.extra["tools"].as_array().unwrap().len(), 1);
    }
    let turn = header(&reply, "x-habit-turn");
    let turn = test.get(&format!("/v1/turns/{turn}"), &key).await.json();
    assert_eq!(turn["injected"][0]["source"], "stored", "{turn}");
    // The record has the client's own words.
    assert_eq!(turn["prompt"], QUESTION);
}

#[tokio::test]
async fn streams_tell_of_the_search_and_of_what_is_cited() {
    let engine = Scripted::default().reply("Six weeks.");
    let (test, key, file, id) = start(&engine).await;
    let mut body = chat(&json!([tool(&id)]));
    body["stream"] = json!(true);
    let chunks = events(&ask(&test, &key, CHAT, &body).await);
    let [.., noted, last] = chunks.as_slice() else {
        panic!("{chunks:?}")
    };
    assert_eq!(noted["choices"][0]["delta"]["annotations"][0]["file_id"], json!(file));
    assert_eq!(last["choices"][0]["finish_reason"], "stop");

    let mut body = response(&json!([tool(&id)]));
    body["stream"] = json!(true);
    let told = events(&ask(&test, &key, RESPONSES, &body).await);
    let wanted = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
    ];
    let kinds: Vec<&str> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..9], wanted);
    let tail = [
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds[kinds.len() - 5..], tail);
    let numbers: Vec<u64> = told
        .iter()
        .map(|event| event["sequence_number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..told.len() as u64).collect::<Vec<_>>());
    let call = &told[3];
    assert_eq!(
        (&call["output_index"], &call["item_id"]),
        (&json!(0), &told[2]["item"]["id"])
    );
    assert_eq!(told[2]["item"]["status"], "in_progress");
    let whole = &told.last().unwrap()["response"];
    assert_eq!(
        whole["output"][0]["results"],
        Value::Null,
        "nobody asked for the results"
    );
    // Told again, it is the same but for the pieces of its text.
    let id = whole["id"].as_str().unwrap();
    let again = events(&test.get(&format!("/v1/responses/{id}?stream=true"), &key).await);
    let again: Vec<&str> = again.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let mut once = kinds.clone();
    once.dedup();
    assert_eq!(again, once);
}

#[tokio::test]
async fn whatever_memory_may_do() {
    for on in [true, false] {
        let engine = Scripted::default().reply("Six weeks.");
        let builder = TestApp::builder().engine(Arc::new(engine.clone()));
        let test = builder.config(|config| config.memory.on = on).build().await;
        let key = test.key("acme", "ann").await;
        let file = keep(&test, &key, "handbook.md", HANDBOOK).await;
        let id = store(&test, &key, &[&file]).await;
        let said = json!({"messages": [{"role": "user", "content": "The notice period is what I asked about."}]});
        test.post(CHAT, &key, &said).await;
        test.indexed().await;
        let reply = test.post(CHAT, &key, &chat(&json!([tool(&id)]))).await;
        let note = &reply.json()["choices"][0]["message"]["annotations"][0];
        assert_eq!(note["file_id"], json!(file), "{}", reply.text());
        let prompt = engine.requests().pop().unwrap().messages.pop().unwrap().text();
        assert!(prompt.contains("six weeks"), "{prompt}");
        assert_eq!(prompt.contains("what I asked about"), on, "{prompt}");
    }
}

#[tokio::test]
async fn in_the_background_too() {
    let engine = Scripted::default().reply("Six weeks.");
    let (test, key, file, id) = start(&engine).await;
    let mut body = response(&json!([tool(&id)]));
    body["background"] = json!(true);
    let made = ask(&test, &key, RESPONSES, &body).await.json();
    let path = format!("/v1/responses/{}", made["id"].as_str().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    let done = loop {
        let now = test.get(&path, &key).await.json();
        if now["status"] == "completed" {
            break now;
        }
        assert!(Instant::now() < deadline, "{now}");
        tokio::task::yield_now().await;
    };
    assert_eq!(done["output"][0]["type"], "file_search_call");
    assert_eq!(
        done["output"][1]["content"][0]["annotations"][0]["file_id"],
        json!(file)
    );
}

#[tokio::test]
async fn only_what_the_model_was_shown_is_cited() {
    // No room for anything but the question.
    let engine = Scripted::default().reply("I can't say.").window(24);
    let (test, key, _, id) = start(&engine).await;
    let reply = ask(&test, &key, CHAT, &chat(&json!([tool(&id)]))).await.json();
    assert_eq!(reply["choices"][0]["message"].get("annotations"), None, "{reply}");
    let made = ask(&test, &key, RESPONSES, &response(&json!([tool(&id)]))).await.json();
    assert_eq!(made["output"][1]["content"][0]["annotations"], json!([]), "{made}");
    // What was not found is not cited either, nor is what says nothing.
    let engine = Scripted::default().reply("");
    let (test, key, _, id) = start(&engine).await;
    let mut narrow = tool(&id);
    narrow["filters"] = json!({"type": "eq", "key": "year", "value": 1999});
    for tool in [narrow, tool(&id)] {
        let reply = ask(&test, &key, CHAT, &chat(&json!([tool]))).await.json();
        assert_eq!(reply["choices"][0]["message"].get("annotations"), None, "{reply}");
    }
}

#[tokio::test]
async fn a_choice_of_tools_counts() {
    let engine = Scripted::default().reply("Six weeks.");
    let (test, key, _, id) = start(&engine).await;
    for (choice, searched) in [
        (json!("none"), false),
        (json!("auto"), true),
        (json!("required"), true),
        (json!({"type": "file_search"}), true),
    ] {
        for (path, mut body) in [
            (CHAT, chat(&json!([tool(&id)]))),
            (RESPONSES, response(&json!([tool(&id)]))),
        ] {
            body["tool_choice"] = choice.clone();
            let reply = ask(&test, &key, path, &body).await;
            assert_eq!(reply.status, StatusCode::OK, "{choice}: {}", reply.text());
            let request = engine.requests().pop().unwrap();
            assert_eq!(
                request.messages.last().unwrap().text().contains("six weeks"),
                searched,
                "{choice}"
            );
            assert!(!request.extra.contains_key("tools") && !request.extra.contains_key("tool_choice"));
        }
    }
}

#[tokio::test]
async fn stores_of_others_are_as_unknown_as_those_that_are_not_there() {
    let engine = Scripted::default().reply("x");
    let (test, _, _, id) = start(&engine).await;
    for (team, user) in [("other", "ann"), ("acme", "bob")] {
        let key = test.key(team, user).await;
        for id in [id.as_str(), "vs_none"] {
            for (path, body) in [
                (CHAT, chat(&json!([tool(id)]))),
                (RESPONSES, response(&json!([tool(id)]))),
            ] {
                let reply = ask(&test, &key, path, &body).await;
                assert_eq!(reply.status, StatusCode::NOT_FOUND, "{}", reply.text());
                let message = reply.json()["error"]["message"].as_str().unwrap().replace(id, "…");
                assert!(
                    message.starts_with("there is no vector store `…`, or it has expired"),
                    "{message}"
                );
            }
        }
    }
    assert!(engine.requests().is_empty());
}

#[tokio::test]
async fn mistakes_are_named() {
    let engine = Scripted::default().reply("x");
    let (test, key, _, id) = start(&engine).await;
    let with = |field: &str, value: Value| {
        let mut tool = tool(&id);
        tool[field] = value;
        tool
    };
    let many: Vec<String> = (0..17).map(|n| format!("vs_{n}")).collect();
    for (tool, param) in [
        (json!({"type": "file_search"}), "tools[0].vector_store_ids"),
        (with("vector_store_ids", json!([])), "tools[0].vector_store_ids"),
        (with("vector_store_ids", json!(["", "x"])), "tools[0].vector_store_ids"),
        (with("vector_store_ids", json!("x")), "tools[0]"),
        (with("vector_store_ids", json!(many)), "tools"),
        (with("max_num_results", json!(0)), "tools[0].max_num_results"),
        (
            with("ranking_options", json!({"score_threshold": 2})),
            "tools[0].ranking_options.score_threshold",
        ),
        (with("filters", json!({"type": "like"})), "tools[0].filters.type"),
    ] {
        for (path, body) in [(CHAT, chat(&json!([tool]))), (RESPONSES, response(&json!([tool])))] {
            let reply = ask(&test, &key, path, &body).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{tool}: {}", reply.text());
            assert_eq!(reply.json()["error"]["param"], param, "{tool}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn files_are_not_sent_where_memory_may_not_go() {
    let engine = Scripted::default().reply("x");
    let member = Member::remote(Arc::new(engine.clone()), MemberOptions::default());
    let fleet = Fleet::of(vec![Arc::new(member)]);
    fleet.first_look(Duration::from_secs(5)).await;
    let test = TestApp::builder().fleet(Arc::new(fleet)).build().await;
    let key = test.key("acme", "ann").await;
    let file = keep(&test, &key, "handbook.md", HANDBOOK).await;
    let id = store(&test, &key, &[&file]).await;
    let reply = ask(&test, &key, CHAT, &chat(&json!([tool(&id)]))).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
    assert_eq!(reply.json()["error"]["param"], "tools");
    assert!(engine.requests().is_empty());
}

fn header(reply: &Reply, name: &str) -> String {
    reply.headers[name].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn tokens_are_counted_without_the_search() {
    let (test, key, _, id) = start(&Scripted::default()).await;
    let messages = json!([{"role": "user", "content": QUESTION}]);
    for (path, field) in [("/v1/tokenize", "count"), ("/v1/internal/chat-prompt", "prompt")] {
        let plain = test.post(path, &key, &json!({"messages": messages})).await;
        let body = json!({"messages": messages, "tools": [tool(&id)], "tool_choice": "required"});
        let with = test.post(path, &key, &body).await;
        assert_eq!(with.status, plain.status, "{}", with.text());
        assert_eq!(with.json()[field], plain.json()[field]);
    }
}
