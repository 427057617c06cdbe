//! A conversation that outgrows the model's window goes on: its oldest turns leave the prompt and come back where they
//! matter, on every endpoint that takes a conversation.

use habit_engine::{Message, Role};
use habit_gateway::config::memory::Overflow;
use http::StatusCode;

use super::*;

const WINDOW: usize = 2048;

/// Long enough that some twenty turns fill the window.
fn filler(turn: usize) -> String {
    format!(
        "Turn {turn}: today I walked {turn} streets through the old town, looked at houses, bought bread and wrote a long \
         letter about nothing in particular, as one does on a quiet afternoon when it rains outside."
    )
}

/// A chat whose client re-sends all of it, as most do.
struct Talk<'a> {
    test: &'a TestApp,
    key: &'a str,
    messages: Vec<Value>,
}

impl<'a> Talk<'a> {
    fn new(test: &'a TestApp, key: &'a str) -> Self {
        let messages = vec![json!({"role": "system", "content": "Be brief."})];
        Self { test, key, messages }
    }

    async fn try_say(&mut self, words: &str, more: Value) -> Reply {
        self.messages.push(json!({"role": "user", "content": words}));
        let mut body = json!({"messages": self.messages});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.test.post(URL, self.key, &body).await
    }

    /// Says it, and gives the reply's text and the turn's record.
    async fn say(&mut self, words: &str) -> (String, Value) {
        let reply = self.try_say(words, json!({})).await;
        assert!(reply.status.is_success(), "{}", reply.text());
        let text = reply.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned();
        self.messages.push(json!({"role": "assistant", "content": text}));
        self.test.indexed().await;
        let turn = self
            .test
            .get(&format!("/v1/turns/{}", header(&reply, "x-habit-turn")), self.key)
            .await;
        (text, turn.json())
    }

    /// A history that was had elsewhere.
    fn bring(&mut self, turns: impl IntoIterator<Item = String>) {
        for words in turns {
            self.messages.push(json!({"role": "user", "content": words}));
            self.messages.push(json!({"role": "assistant", "content": "I see."}));
        }
    }
}

/// Reads what is before it: names the dog if the prompt does.
fn reader() -> Scripted {
    Scripted::default().window(WINDOW).answering(|request| {
        let last = request.messages.iter().rfind(|message| message.role == Role::User);
        let asked = last.map(Message::text).unwrap_or_default();
        let seen: Vec<String> = request.messages.iter().map(Message::text).collect();
        if !asked.ends_with("If it helps.") && !asked.contains("What is my dog called?") {
            // The same to everything: what left must not be taken for what stays because of it.
            return "I see, and thank you for telling me.".to_owned();
        }
        let knows = seen.iter().any(|text| text.contains("Biscuit"));
        if knows { "Biscuit." } else { "I don't know." }.to_owned()
    })
}

async fn reading(change: impl FnOnce(&mut habit_gateway::config::Config)) -> (TestApp, Scripted, String) {
    let engine = reader();
    let test = TestApp::builder()
        .engine(Arc::new(engine.clone()))
        .config(change)
        .build()
        .await;
    let key = test.key("team", "me").await;
    (test, engine, key)
}

fn tokens(engine: &Scripted) -> usize {
    use habit_engine::Engine;
    let counter = engine.token_counter("scripted").unwrap();
    counter.count_request(engine.requests().last().unwrap()).unwrap()
}

#[tokio::test]
async fn three_hundred_turns_in_a_small_window() {
    let (test, engine, key) = reading(|_| ()).await;
    let mut talk = Talk::new(&test, &key);
    for turn in 0..300 {
        let words = if turn == 5 { FACT.to_owned() } else { filler(turn) };
        let (_, record) = talk.say(&words).await;
        // The room for the reply is there in every turn, and the prompt no longer than it was at the hundredth.
        assert!(tokens(&engine) <= WINDOW * 3 / 4, "turn {turn}: {}", tokens(&engine));
        let left = &record["lookup"]["left"];
        assert!(
            if turn < 15 {
                left.is_null()
            } else {
                turn < 40 || left.is_object()
            },
            "turn {turn}: {left}"
        );
        assert!(prompt(&engine).starts_with("Be brief.") && prompt(&engine).contains(&words));
    }
    let (answer, record) = talk.say(QUESTION).await;
    assert_eq!(answer, "Biscuit.");
    let back: Vec<&Value> = record["injected"].as_array().unwrap().iter().collect();
    let fact = back
        .iter()
        .find(|passage| passage["text"].as_str().unwrap().contains(FACT))
        .unwrap();
    assert_eq!(fact["returned"], true);
    let left = &record["lookup"]["left"];
    assert!(left["turns"].as_u64().unwrap() > 270, "{left}");
    assert_eq!(left["messages"].as_u64().unwrap(), 2 * left["turns"].as_u64().unwrap());
    // The instructions stand at place 0 and stay; all that left stood after them in one row.
    assert_eq!(left["places"].as_array().unwrap().len(), 1);
    assert_eq!(left["places"][0][0], 1);
    // Nothing is there twice: neither what came back, nor what never left.
    let prompt = prompt(&engine);
    assert_eq!(prompt.matches(FACT).count(), 1);
    for turn in 0..300 {
        assert!(prompt.matches(&format!("Turn {turn}: ")).count() <= 1, "turn {turn}");
    }
    // The record keeps what the client sent now, and no copy of all that came before.
    assert_eq!(record["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_history_that_was_had_elsewhere_is_found_as_well() {
    for (mode, stored) in [("on", true), ("read", true), ("on", false)] {
        let (test, engine, key) = reading(|_| ()).await;
        let mut talk = Talk::new(&test, &key);
        talk.bring((0..60).map(|turn| if turn == 5 { FACT.to_owned() } else { filler(turn) }));
        talk.messages.push(json!({"role": "user", "content": QUESTION}));
        let body = json!({"messages": talk.messages, "store": stored});
        let post = request(Method::POST, URL, &key).header("content-type", "application/json");
        let reply = test
            .call(
                post.header("x-habit-memory", mode)
                    .body(Body::from(body.to_string()))
                    .unwrap(),
            )
            .await;
        let answer = reply.json()["choices"][0]["message"]["content"].clone();
        assert_eq!(answer, "Biscuit.", "{mode}, stored {stored}: {}", prompt(&engine));
        // It was not made a memory: it is the client's.
        let elsewhere = say(&test, &key, QUESTION, "on").await;
        assert!(
            injected(&elsewhere).iter().all(|text| !text.contains("Biscuit")),
            "{elsewhere}"
        );
    }
}

#[tokio::test]
async fn what_was_brought_along_stays_findable_as_the_conversation_goes_on() {
    let (test, _, key) = reading(|_| ()).await;
    let mut talk = Talk::new(&test, &key);
    talk.bring((0..20).map(|turn| if turn == 2 { FACT.to_owned() } else { filler(turn) }));
    for turn in 20..40 {
        talk.say(&filler(turn)).await;
    }
    let (answer, record) = talk.say(QUESTION).await;
    assert_eq!(answer, "Biscuit.", "{record}");
    assert!(
        record["injected"][0]["citation"]["id"]
            .as_str()
            .unwrap()
            .starts_with("message-")
    );
    assert_eq!(record["injected"][0]["returned"], true);
}

/// What a test does to the configuration.
type Change<'a> = &'a dyn Fn(&mut habit_gateway::config::Config);

#[tokio::test]
async fn it_is_refused_where_that_is_wanted() {
    let refuse = |config: &mut habit_gateway::config::Config| config.memory.overflow = Overflow::Refuse;
    let off = |config: &mut habit_gateway::config::Config| config.memory.on = false;
    let cases: [(Change<'_>, &str, Value, bool); 7] = [
        (&|_| (), "on", json!({}), true),
        (&|_| (), "on", json!({"truncation": "disabled"}), false),
        (&|_| (), "off", json!({}), false),
        (&|_| (), "write", json!({}), false),
        (&refuse, "on", json!({}), false),
        (&off, "on", json!({}), false),
        (&off, "on", json!({"truncation": "auto"}), true),
    ];
    for (change, mode, more, goes_on) in cases {
        let (test, engine, key) = reading(|config| change(config)).await;
        let mut talk = Talk::new(&test, &key);
        talk.bring((0..60).map(filler));
        talk.messages.push(json!({"role": "user", "content": QUESTION}));
        let mut body = json!({"messages": talk.messages});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let post = request(Method::POST, URL, &key).header("content-type", "application/json");
        let reply = test
            .call(
                post.header("x-habit-memory", mode)
                    .body(Body::from(body.to_string()))
                    .unwrap(),
            )
            .await;
        assert_eq!(reply.status.is_success(), goes_on, "{mode} {more}: {}", reply.text());
        if goes_on {
            // What is Habit's own stays here.
            assert!(!engine.requests().last().unwrap().extra.contains_key("truncation"));
            continue;
        }
        assert_eq!(
            (reply.status, reply.error_code().as_str()),
            (StatusCode::BAD_REQUEST, "context_length_exceeded")
        );
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("2048"), "{message}");
    }
    let (test, _, key) = reading(|_| ()).await;
    let reply = Talk::new(&test, &key)
        .try_say("x", json!({"truncation": "sometimes"}))
        .await;
    assert_eq!(
        (reply.status, reply.json()["error"]["param"].clone()),
        (StatusCode::BAD_REQUEST, json!("truncation"))
    );
}

#[tokio::test]
async fn a_last_message_that_can_not_fit_alone_is_an_error_with_the_numbers() {
    let (test, _, key) = reading(|_| ()).await;
    let mut talk = Talk::new(&test, &key);
    talk.bring((0..3).map(filler));
    let reply = talk.try_say(&"word ".repeat(3_000), json!({})).await;
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (StatusCode::BAD_REQUEST, "context_length_exceeded")
    );
    assert!(
        message.contains("2048") && message.matches(char::is_numeric).count() >= 8,
        "{message}"
    );
    // What is asked of the reply counts as well.
    let mut talk = Talk::new(&test, &key);
    talk.bring((0..60).map(filler));
    let reply = talk.try_say(QUESTION, json!({"max_tokens": 3_000})).await;
    assert_eq!(reply.error_code(), "context_length_exceeded");
    talk.messages.pop();
    let reply = talk.try_say(QUESTION, json!({"max_tokens": 1_500})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
}

#[tokio::test]
async fn a_tool_call_leaves_with_its_results() {
    let (test, engine, key) = reading(|_| ()).await;
    let mut messages = Vec::new();
    for turn in 0..40 {
        let id = format!("call_{turn}");
        messages.push(json!({"role": "user", "content": filler(turn)}));
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": id, "type": "function", "function": {"name": "look", "arguments": "{}"}}]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": filler(turn)}));
        messages.push(json!({"role": "assistant", "content": "I see."}));
    }
    messages.push(json!({"role": "user", "content": QUESTION}));
    let reply = test.post(URL, &key, &json!({"messages": messages})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let sent = engine.requests().pop().unwrap().messages;
    assert_eq!(sent[0].role, Role::User);
    let calls: Vec<&str> = sent
        .iter()
        .flat_map(|m| &m.tool_calls)
        .map(|call| call["id"].as_str().unwrap())
        .collect();
    let results: Vec<&str> = sent.iter().filter_map(|m| m.tool_call_id.as_deref()).collect();
    assert!(
        !calls.is_empty() && calls.len() < 40 && calls == results,
        "{calls:?} {results:?}"
    );
}

#[tokio::test]
async fn every_endpoint_goes_on() {
    let (test, engine, key) = reading(|_| ()).await;
    let history = |role: &str| -> Vec<Value> {
        let says = |turn: usize| if turn == 5 { FACT.to_owned() } else { filler(turn) };
        let turns = (0..60).flat_map(|turn| {
            let answer = json!({"role": "assistant", "content": "I see."});
            [json!({"role": role, "content": says(turn)}), answer]
        });
        turns.chain([json!({"role": role, "content": QUESTION})]).collect()
    };
    let messages = json!({"messages": history("user"), "max_tokens": 100});
    for (path, body) in [
        ("/v1/chat/completions", messages.clone()),
        ("/v1/messages", messages.clone()),
        ("/v1/responses", json!({"input": history("user")})),
        // The webui's dialect, with a character of its own words.
        ("/v1/chat/completions", {
            let mut body = messages.clone();
            body["mode"] = json!("chat");
            body
        }),
    ] {
        let reply = test.post(path, &key, &body).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.text());
        assert!(
            reply.text().contains("Biscuit."),
            "{path}: {}\n{}",
            reply.text(),
            prompt(&engine)
        );
        assert!(tokens(&engine) <= WINDOW, "{path}");
    }
}

#[tokio::test]
async fn responses_that_follow_each_other_go_on() {
    let (test, engine, key) = reading(|_| ()).await;
    let conversation = test.post("/v1/conversations", &key, &json!({})).await.json();
    let mut previous = Value::Null;
    for (how, turns) in [("previous_response_id", 25), ("conversation", 25)] {
        for turn in 0..turns {
            let words = if turn == 2 { FACT.to_owned() } else { filler(turn) };
            let mut body = json!({"input": words});
            match how {
                "conversation" => body["conversation"] = conversation["id"].clone(),
                _ => body["previous_response_id"] = previous.clone(),
            }
            let reply = test.post("/v1/responses", &key, &body).await;
            assert!(reply.status.is_success(), "{how} {turn}: {}", reply.text());
            previous = reply.json()["id"].clone();
            assert!(tokens(&engine) <= WINDOW);
        }
        test.indexed().await;
        let mut body = json!({"input": QUESTION});
        match how {
            "conversation" => body["conversation"] = conversation["id"].clone(),
            _ => body["previous_response_id"] = previous.clone(),
        }
        let reply = test.post("/v1/responses", &key, &body).await;
        assert!(reply.text().contains("Biscuit."), "{how}: {}", reply.text());
    }
}
