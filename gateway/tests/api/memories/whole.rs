//! Forgetting, export and erasure.

use std::path::{Path, PathBuf};

use base64::Engine as _;

use super::*;

#[tokio::test]
async fn a_concept_is_shown_first_and_then_forgotten() {
    let (test, key) = start().await;
    let turn = say(&test, &key, "The wedding in Ghent costs a fortune, you know.", &[]).await;
    let fact = add(&test, &key, "The wedding in Ghent is in May.").await;
    let kept = add(&test, &key, "The wedding in Ghent is outside.").await;
    add(&test, &key, "My dog is called Biscuit.").await;
    test.indexed().await;
    let preview = test
        .post("/v1/memories/forget", &key, &json!({"query": "the wedding in Ghent"}))
        .await
        .json();
    let found: Vec<&str> = preview["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap())
        .collect();
    for id in [turn["id"].as_str().unwrap(), &fact, &kept] {
        assert!(found.contains(&id), "{preview}");
    }
    assert_eq!(found.len(), 3, "{preview}");
    assert_eq!(known(&test, &key, "").await.len(), 3, "a preview deletes nothing");
    let confirm = json!({"token": preview["token"], "keep": [kept]});
    let gone = test.post("/v1/memories/forget", &key, &confirm).await.json();
    assert_eq!(gone["results"].as_array().unwrap().len(), 2, "{gone}");
    let mut left = known(&test, &key, "").await;
    left.sort();
    assert_eq!(left, ["My dog is called Biscuit.", "The wedding in Ghent is outside."]);
    let path = format!("/v1/turns/{}", turn["id"].as_str().unwrap());
    assert_eq!(test.get(&path, &key).await.status, StatusCode::NOT_FOUND);
    // A token is good once.
    assert_eq!(
        test.post("/v1/memories/forget", &key, &confirm).await.status,
        StatusCode::NOT_FOUND
    );
    for wrong in [
        json!({}),
        json!({"query": ""}),
        json!({"query": "x", "token": "y"}),
        json!({"query": "x", "limit": 0}),
        json!({"query": "x", "what": ["planet"]}),
    ] {
        let reply = test.post("/v1/memories/forget", &key, &wrong).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{wrong}: {}", reply.text());
    }
    let nothing = test
        .post("/v1/memories/forget", &key, &json!({"query": "quantum chromodynamics"}))
        .await
        .json();
    assert_eq!(nothing["results"], json!([]));
}

#[tokio::test]
async fn a_preview_tells_that_there_are_more() {
    let (test, key) = start().await;
    for number in 0..24 {
        add(
            &test,
            &key,
            &format!("Lab rat number {number} sleeps in cage {number}."),
        )
        .await;
    }
    test.indexed().await;
    let preview = async |limit: Option<usize>| {
        let body = json!({"query": "lab rat cage", "what": ["memory"], "limit": limit});
        test.post("/v1/memories/forget", &key, &body).await.json()
    };
    let all = preview(Some(100)).await;
    let found = all["results"].as_array().unwrap().len();
    assert!(found > 20, "{all}");
    assert_eq!(all["has_more"], false, "{all}");
    assert_eq!(preview(Some(found)).await["has_more"], false);
    let some = preview(None).await;
    assert_eq!(some["results"].as_array().unwrap().len(), 20, "{some}");
    assert_eq!(some["has_more"], true, "{some}");
    let gone = test
        .post("/v1/memories/forget", &key, &json!({"token": some["token"]}))
        .await
        .json();
    assert_eq!(
        gone["results"].as_array().unwrap().len(),
        20,
        "just what was shown: {gone}"
    );
    assert_eq!(gone["has_more"], Value::Null);
    assert_eq!(preview(None).await["results"].as_array().unwrap().len(), found - 20);
}

/// Words that stand nowhere else.
const WORDS: [&str; 7] = [
    "Zwirbelquark",
    "Nebelkrummhorn",
    "Pfingstochsenmond",
    "Quittenschnapper",
    "Vogelfelsgrotte",
    "Xanthippenhain",
    "Bratkartoffeldunst",
];

/// Gives this key's user something of everything, each with a word of its own.
async fn live(test: &TestApp, key: &str, words: &[&str; 7]) {
    let turn = say(test, key, &format!("My dog is called {}.", words[0]), &[]).await;
    let better = json!({"turn": turn["id"], "correction": format!("A fine name, it smells of {}.", words[6])});
    let given = test.post("/v1/feedback", key, &better).await;
    assert_eq!(given.status, StatusCode::OK, "{}", given.text());
    // Superseded, so that it stands in a history.
    say(test, key, "My dog is called Rex.", &[]).await;
    add(test, key, &format!("The vault opens with the word {}.", words[1])).await;
    let gone = add(test, key, &format!("The garage opens with {}.", words[2])).await;
    test.delete(&format!("{MEMORIES}/{gone}"), key).await;
    let text = format!("The cellar holds {}.", words[3]);
    assert!(
        test.upload(key, &[("cellar.md", text.as_bytes())], &[])
            .await
            .status
            .is_success()
    );
    let here = format!("The attic holds {}.", words[3]);
    test.upload(key, &[("attic.md", here.as_bytes())], &[("conversation", "c1")])
        .await;
    let file = test
        .upload_to(
            "/v1/files",
            key,
            &[("notes.txt", words[4].as_bytes())],
            &[("purpose", "user_data")],
        )
        .await;
    assert_eq!(file.status, StatusCode::OK, "{}", file.text());
    let asked = json!({"input": format!("Good morning, {}!", words[5]), "model": "scripted"});
    let reply = test.post("/v1/responses", key, &asked).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    test.indexed().await;
}

#[tokio::test]
async fn an_export_holds_everything_and_nothing_of_others() {
    let (test, key) = start().await;
    let bob = test.key("acme", "bob").await;
    live(&test, &key, &WORDS).await;
    add(&test, &bob, "Of Bob.").await;
    let rule = json!({"subject": "conversation", "id": "c9", "mode": "off"});
    send(&test, Method::PUT, "/v1/memories/rules", &key, &rule, &[]).await;
    let reply = test.get("/v1/memories/export", &key).await;
    assert_eq!(reply.headers["content-type"], "application/jsonl");
    let lines: Vec<Value> = reply
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!(
        (of("turn"), of("memory"), of("document"), of("file"), of("rule")),
        (3, 3, 2, 1, 1),
        "{}",
        reply.text()
    );
    assert!(of("object") >= 1);
    // What was said of a reply, and what is learnt from it.
    assert_eq!((of("feedback"), of("example")), (1, 1), "{}", reply.text());
    let text = reply.text();
    for (number, word) in WORDS.iter().enumerate() {
        // Deleted is deleted; the file's bytes are in base64.
        assert_eq!(text.contains(word), !matches!(number, 2 | 4), "{word}");
    }
    let file = lines.iter().find(|line| line["type"] == "file").unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(file["content_base64"].as_str().unwrap());
    assert_eq!(bytes.unwrap(), WORDS[4].as_bytes());
    assert!(!text.contains("Of Bob."));
    let without = test.get("/v1/memories/export?files=false", &key).await;
    assert!(!without.text().contains("content_base64"));
}

/// Every file below this folder in which the word stands, in whatever case.
fn holding(folder: &Path, word: &str) -> Vec<PathBuf> {
    let word = word.to_lowercase();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, &word));
        } else {
            let bytes = std::fs::read(&path).unwrap().to_ascii_lowercase();
            if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erasure_leaves_no_byte_of_a_user_and_all_of_others() {
    let test = TestApp::builder().on_disk().build().await;
    let key = test.key("acme", "ann").await;
    let bob = test.key("acme", "bob").await;
    live(&test, &key, &WORDS).await;
    let mirrored = WORDS.map(|word| word.chars().rev().collect::<String>());
    let theirs = [0, 1, 2, 3, 4, 5, 6].map(|at| mirrored[at].as_str());
    live(&test, &bob, &theirs).await;
    let folder = test.folder().to_path_buf();
    for word in [WORDS[0], WORDS[1], WORDS[3], WORDS[4], WORDS[5], WORDS[6]] {
        assert!(!holding(&folder, word).is_empty(), "the test proves nothing for {word}");
    }
    assert!(
        holding(&folder.join("index"), WORDS[0]).len() + holding(&folder.join("index"), WORDS[3]).len() > 0,
        "the test proves nothing for the index"
    );
    for wrong in [json!({}), json!({"confirm": "bob"}), json!({"confirm": "yes"})] {
        assert_eq!(
            test.post("/v1/memories/erase", &key, &wrong).await.status,
            StatusCode::BAD_REQUEST
        );
    }
    let erased = test.post("/v1/memories/erase", &key, &json!({"confirm": "ann"})).await;
    assert_eq!(erased.status, StatusCode::OK, "{}", erased.text());
    let told = erased.json();
    assert_eq!((&told["turns"], &told["documents"]), (&json!(3), &json!(2)), "{told}");
    for word in WORDS {
        assert_eq!(holding(&folder, word), Vec::<PathBuf>::new(), "{word}");
    }
    let left = test.get("/v1/memories/export", &key).await.text();
    assert!(left.is_empty(), "{left}");
    // The user goes on, and others have lost nothing.
    say(&test, &key, "I live in Ghent.", &[]).await;
    assert_eq!(known(&test, &key, "?status=all").await, ["I live in Ghent."]);
    let asked = say(&test, &bob, "Which word opens the vault?", &[]).await;
    assert!(asked["injected"].to_string().contains(theirs[1]), "{asked}");
    let found = test
        .post(
            "/v1/documents/search",
            &bob,
            &json!({"query": "What does the cellar hold?"}),
        )
        .await;
    assert!(found.text().contains(theirs[3]), "{}", found.text());
    let kept = test.get("/v1/memories/export", &bob).await.text();
    assert!(kept.contains(theirs[5]) && kept.contains(theirs[6]), "{kept}");
}
