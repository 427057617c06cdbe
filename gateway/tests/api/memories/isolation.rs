//! No route shows, changes or deletes a memory of another team, or of another user of the same team. One case a route.

use super::*;

const SECRET: &str = "The vault of acme opens with the word Heron.";

#[tokio::test]
async fn every_route_is_its_callers_alone() {
    let test = TestApp::start().await;
    let ann = test.admin_key("acme", "ann").await;
    let strangers = [
        test.admin_key("other", "ann").await,
        test.admin_key("acme", "bob").await,
    ];
    let id = add(&test, &ann, SECRET).await;
    let shared = json!({"text": "The garage opens at seven.", "team_wide": true});
    test.post(MEMORIES, &ann, &shared).await;
    say(&test, &ann, "My dog is called Biscuit.", &[]).await;
    let preview = test
        .post(
            "/v1/memories/forget",
            &ann,
            &json!({"query": "Which word opens the vault?"}),
        )
        .await
        .json();
    assert!(
        preview.to_string().contains("Heron"),
        "the test proves nothing: {preview}"
    );
    let path = format!("{MEMORIES}/{id}");
    for (number, stranger) in strangers.iter().enumerate() {
        let same_team = number == 1;
        for (method, path, body) in [
            (Method::GET, path.clone(), Value::Null),
            (Method::PUT, path.clone(), json!({"text": "taken"})),
            (Method::PATCH, path.clone(), json!({"status": "quarantined"})),
            (Method::DELETE, path.clone(), Value::Null),
            (Method::GET, format!("{path}/history"), Value::Null),
            (
                Method::POST,
                "/v1/memories/forget".to_owned(),
                json!({"token": preview["token"]}),
            ),
        ] {
            let reply = send(&test, method.clone(), &path, stranger, &body, &[]).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{method} {path}: {}", reply.text());
            assert!(!reply.text().contains("Heron"));
        }
        let query = json!({"query": "Which word opens the vault of acme?", "threshold": 0.0, "user_id": "*"});
        let everything = [
            test.get("/v1/memories?status=all", stranger).await,
            test.get("/v1/memories?as_of=2099-01-01", stranger).await,
            test.post(
                "/v1/memories/search",
                stranger,
                &json!({"query": query["query"], "threshold": 0.0}),
            )
            .await,
            test.post(
                "/v1/memories/search",
                stranger,
                &json!({"query": query["query"], "filters": {"user_id": "*"}}),
            )
            .await,
            test.post("/v1/memories/forget", stranger, &json!({"query": query["query"]}))
                .await,
            test.post("/v1/memories/list", stranger, &json!({"filters": {"status": "all"}}))
                .await,
            test.get("/v1/memories/export", stranger).await,
            test.get("/v1/memories/rules", stranger).await,
        ];
        for reply in &everything {
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
            assert!(
                !reply.text().contains("Heron") && !reply.text().contains("Biscuit"),
                "{}",
                reply.text()
            );
        }
        assert_eq!(everything[0].text().contains("garage"), same_team);
        // Adding the same supersedes and reveals nothing.
        let added = test.post(MEMORIES, stranger, &json!({"text": SECRET})).await.json();
        assert_eq!(added["results"][0]["event"], "ADD");
        test.indexed().await;
        let asked = say(&test, stranger, "What is my dog called?", &[]).await;
        assert!(!asked["injected"].to_string().contains("Biscuit"), "{asked}");
        let own = test.delete("/v1/memories?all=true", stranger).await.json();
        assert_eq!(own["deleted"], 1);
        let name = if same_team { "bob" } else { "ann" };
        let erased = test
            .post(
                "/v1/memories/erase",
                stranger,
                &json!({"confirm": name, "team_wide": true}),
            )
            .await;
        assert_eq!(erased.status, StatusCode::OK, "{}", erased.text());
    }
    assert_eq!(known(&test, &ann, "").await.len(), 3);
    let asked = say(&test, &ann, "Which word opens the vault of acme?", &[]).await;
    assert!(asked["injected"].to_string().contains("Heron"), "{asked}");
}
