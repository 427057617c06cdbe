//! What users of such systems complain about most, each as a test, as far as it is not one elsewhere (foreign users and
//! outside upstreams: above; real deletion and partial ingest: with documents and turns).

use std::time::Duration;

use habit_engine::EngineError;
use habit_engine::scripted::Failure;

use super::*;

#[tokio::test]
async fn the_same_said_many_times_is_shown_once() {
    let (test, engine, key) = start().await;
    for words in [FACT, "my dog is called biscuit", "My dog is called Biscuit!", FACT] {
        say(&test, &key, words, "on").await;
    }
    let asked = say(&test, &key, QUESTION, "on").await;
    assert_eq!(injected(&asked).len(), 1, "{asked}");
    assert_eq!(prompt(&engine).to_lowercase().matches("biscuit").count(), 1);
}

#[tokio::test]
async fn nothing_is_invented() {
    // Whatever the model says of a memory, what is remembered is what was said, word by word.
    let engine = Scripted::default().reply("Your dog is called Rex and you live in Oslo.");
    let test = TestApp::builder().engine(Arc::new(engine.clone())).build().await;
    let key = test.key("team", "me").await;
    say(&test, &key, FACT, "on").await;
    let asked = say(&test, &key, QUESTION, "on").await;
    assert_eq!(injected(&asked), [FACT]);
    assert!(!prompt(&engine).contains("Rex"));
}

#[tokio::test]
async fn a_model_that_fails_loses_no_memory() {
    let (test, engine, key) = start().await;
    say(&test, &key, FACT, "on").await;
    engine.fail_next(Failure::BeforeStream(EngineError::Unavailable("gone".into())));
    let body = json!({"messages": [{"role": "user", "content": QUESTION}]});
    assert!(test.post(URL, &key, &body).await.status.is_server_error());
    let asked = say(&test, &key, QUESTION, "on").await;
    assert_eq!(
        injected(&asked),
        [FACT],
        "the failed turn is neither recalled nor in the way"
    );
}

#[tokio::test]
async fn a_later_word_does_not_wipe_an_earlier_one() {
    let (test, _, key) = start().await;
    say(&test, &key, FACT, "on").await;
    say(&test, &key, "My dog is called Biscuit by everyone but my aunt.", "on").await;
    let asked = say(&test, &key, QUESTION, "on").await;
    assert_eq!(injected(&asked).len(), 2, "both stand, the older first: {asked}");
    assert_eq!(injected(&asked)[0], FACT);
}

#[tokio::test]
async fn what_is_deleted_is_gone_at_once() {
    let (test, engine, key) = start().await;
    let told = say(&test, &key, FACT, "on").await;
    let path = format!("/v1/turns/{}", told["id"].as_str().unwrap());
    assert!(test.delete(&path, &key).await.status.is_success());
    let asked = say(&test, &key, QUESTION, "on").await;
    assert!(
        injected(&asked).is_empty() && !prompt(&engine).contains("Biscuit"),
        "{asked}"
    );
}

#[tokio::test]
async fn what_was_just_said_is_known_in_the_next_turn() {
    // Slow writes: other systems need seconds to minutes until something said is found.
    let (test, engine, key) = start().await;
    for words in [FACT, QUESTION] {
        let body = json!({"messages": [{"role": "user", "content": words}]});
        assert!(test.post(URL, &key, &body).await.status.is_success());
    }
    assert!(prompt(&engine).contains("Biscuit"), "{}", prompt(&engine));
}

#[tokio::test]
async fn an_embedder_that_is_late_leaves_the_words() {
    struct Late(habit_engine::embedder::HashEmbedder, std::sync::atomic::AtomicBool);

    #[async_trait::async_trait]
    impl habit_engine::Embedder for Late {
        async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EngineError> {
            if self.1.load(std::sync::atomic::Ordering::SeqCst) {
                return std::future::pending().await;
            }
            self.0.embed(texts).await
        }
        fn dimensions(&self) -> usize {
            self.0.dimensions()
        }
        fn id(&self) -> &str {
            self.0.id()
        }
    }

    let embedder = Arc::new(Late(habit_engine::embedder::HashEmbedder::new(256), false.into()));
    let engine = Scripted::default().reply("I see.");
    let builder = TestApp::builder().engine(Arc::new(engine.clone()));
    let test = builder.embedder(embedder.clone()).build().await;
    let key = test.key("team", "me").await;
    say(&test, &key, FACT, "on").await;
    embedder.1.store(true, std::sync::atomic::Ordering::SeqCst);
    let body = json!({"messages": [{"role": "user", "content": QUESTION}]});
    let reply = tokio::time::timeout(Duration::from_secs(30), test.post(URL, &key, &body))
        .await
        .unwrap();
    let record = test
        .get(&format!("/v1/turns/{}", header(&reply, "x-habit-turn")), &key)
        .await
        .json();
    assert_eq!(injected(&record), [FACT]);
    let why = record["lookup"]["words_alone"].as_str().unwrap();
    assert!(why.contains("ms"), "{why}");
}
