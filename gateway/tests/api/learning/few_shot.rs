//! Past answers that were put right are shown to the model when the like is asked again, and to nobody else's.

use std::sync::Arc;

use habit_engine::scripted::Scripted;

use super::*;

/// What the engine was asked last: who said what.
fn asked(engine: &Scripted) -> Vec<(String, String)> {
    let request = engine.requests().pop().unwrap();
    let messages = request.messages.iter();
    messages
        .map(|message| (message.role.as_str().to_owned(), message.text()))
        .collect()
}

fn pairs(words: &[(&str, &str)]) -> Vec<(String, String)> {
    words
        .iter()
        .map(|(role, text)| ((*role).to_owned(), (*text).to_owned()))
        .collect()
}

async fn world(tokens: usize) -> (Arc<Scripted>, TestApp) {
    let engine = Arc::new(Scripted::default());
    let test = TestApp::builder().engine(Arc::clone(&engine) as _).config(|config| {
        // What is recalled has tests of its own.
        config.memory.recalled = 0;
        config.memory.facts = 0;
        config.learning.few_shot = 2;
        config.learning.few_shot_tokens = tokens;
        config.memory.deadline_ms = 20_000;
    });
    (engine, test.build().await)
}

#[tokio::test]
async fn a_corrected_answer_is_shown_when_the_like_is_asked() {
    let (engine, test) = world(500).await;
    let key = test.key("acme", "ann").await;
    correct(&test, &key, "please freeze my card", "freeze_account").await;
    let id = correct(&test, &key, "please freeze my card now", "freeze_now").await;
    correct(&test, &key, "tell me the weather in Paris", "weather").await;
    let body = json!({"messages": [
        {"role": "system", "content": "Name the intent."},
        {"role": "user", "content": "please freeze my card now, thanks"},
    ]});
    let reply = ask(&test, &key, &body).await;
    assert_eq!(
        asked(&engine),
        pairs(&[
            ("system", "Name the intent."),
            ("user", "please freeze my card"),
            ("assistant", "freeze_account"),
            ("user", "please freeze my card now"),
            ("assistant", "freeze_now"),
            ("user", "please freeze my card now, thanks"),
        ]),
        "nearest last, and what is far not at all"
    );
    let record = test.get(&format!("/v1/turns/{}", turn(&reply)), &key).await.json();
    assert_eq!(record["injected"][0]["source"], "example", "{record}");
    assert!(record["usage"]["memory_tokens"].as_u64().unwrap() > 0, "{record}");
    assert_eq!(
        record["messages"].as_array().unwrap().len(),
        2,
        "the record holds what was asked: {record}"
    );

    // Forgotten, it is shown no more; switched off, nothing is; and nobody else sees it.
    assert_eq!(
        test.delete(&format!("{FEEDBACK}/{id}"), &key).await.status,
        StatusCode::OK
    );
    ask(&test, &key, &body).await;
    assert!(
        !asked(&engine).iter().any(|(_, text)| text == "freeze_now"),
        "{:?}",
        asked(&engine)
    );
    let off = habit_gateway::testing::request(http::Method::POST, CHAT, &key)
        .header("content-type", "application/json")
        .header("x-habit-memory", "off");
    let off = test
        .call(off.body(axum::body::Body::from(body.to_string())).unwrap())
        .await;
    assert_eq!(off.status, StatusCode::OK);
    assert_eq!(asked(&engine).len(), 2);
    for stranger in [test.key("acme", "bob").await, test.key("other", "ann").await] {
        ask(&test, &stranger, &body).await;
        assert_eq!(asked(&engine).len(), 2, "{:?}", asked(&engine));
    }
}

#[tokio::test]
async fn examples_keep_to_their_budget_and_a_bad_reply_is_not_recalled() {
    let (engine, test) = world(3).await;
    let key = test.key("acme", "ann").await;
    correct(&test, &key, "please freeze my card", "freeze_account").await;
    say(&test, &key, "please freeze my card").await;
    assert_eq!(asked(&engine).len(), 1, "no room: {:?}", asked(&engine));

    let engine = Arc::new(Scripted::default());
    let test = TestApp::builder()
        .engine(Arc::clone(&engine) as _)
        .config(|config| config.learning.few_shot = 0)
        .build()
        .await;
    let key = test.key("acme", "ann").await;
    let first = say(&test, &key, "Which word opens the vault of acme?").await;
    test.indexed().await;
    let again = "Which word opens the vault of acme, again?";
    let recalled = say(&test, &key, again).await;
    let record = test.get(&format!("/v1/turns/{recalled}"), &key).await.json();
    assert!(record["injected"].to_string().contains(&first), "{record}");
    give(&test, &key, &json!({"turn": first, "thumb": "down"})).await;
    give(&test, &key, &json!({"turn": recalled, "thumb": "down"})).await;
    let later = say(&test, &key, again).await;
    let record = test.get(&format!("/v1/turns/{later}"), &key).await.json();
    assert_eq!(record["injected"], json!([]), "{record}");
}

#[tokio::test]
async fn how_many_examples_help_is_found_out_while_serving() {
    let engine = Arc::new(Scripted::default());
    let test = TestApp::builder()
        .engine(Arc::clone(&engine) as _)
        .config(|config| {
            config.memory.recalled = 0;
            config.memory.facts = 0;
            config.memory.deadline_ms = 20_000;
            config.learning.few_shot = 4;
            config.learning.few_shot_explore = true;
        })
        .build()
        .await;
    let key = test.key("acme", "ann").await;
    let far = say(&test, &key, "tell me the weather in Paris").await;
    let record = test.get(&format!("/v1/turns/{far}"), &key).await.json();
    assert!(
        record["lookup"]["shots"].is_null(),
        "nothing was left to chance: {record}"
    );
    for card in ["red", "blue", "green", "grey"] {
        correct(&test, &key, &format!("please freeze my {card} card"), "freeze_account").await;
    }
    let mut counts = Vec::new();
    for _ in 0..120 {
        let turn = say(&test, &key, "please freeze my old card").await;
        let record = test.get(&format!("/v1/turns/{turn}"), &key).await.json();
        let (count, chance) = (
            record["lookup"]["shots"]["count"].as_u64().unwrap(),
            record["lookup"]["shots"]["propensity"].as_f64().unwrap(),
        );
        assert!([0, 2, 4].contains(&count) && (0.05..=1.0).contains(&chance), "{record}");
        let shown = record["injected"].as_array().unwrap().len() as u64;
        assert!(shown <= count && (count == 0 || shown > 0), "{record}");
        // A score that is neither good nor bad enough to become an example.
        let score = if count == 2 { 0.65 } else { 0.35 };
        give(&test, &key, &json!({"turn": turn, "score": score})).await;
        counts.push(count);
    }
    let late = counts[60..].iter().filter(|count| **count == 2).count();
    assert!(late > 30, "{counts:?}");
    assert!(counts.iter().any(|count| *count != 2), "{counts:?}");
}
