//! The attack: strangers who know every id of ann's ask every route for them. What they get is in `data/routes.txt`; that
//! nothing of ann's has changed is seen at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use axum::body::Body;
use habit_gateway::testing::{Reply, TestApp, request};
use habit_learning::testing::things;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::school;

const CASES: &str = include_str!("../../data/routes.txt");

/// What a stranger gets; see the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gets {
    Unknown,
    Nothing,
    Team,
    Forbidden,
    Refused,
}

/// A line of the table.
struct Case {
    method: &'static str,
    route: &'static str,
    path: &'static str,
    body: &'static str,
    other: Gets,
    bob: Gets,
}

fn cases() -> Vec<Case> {
    let lines = CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(case).collect()
}

fn case(line: &'static str) -> Case {
    let columns: Vec<&str> = line.split('|').map(str::trim).collect();
    let [route, path, body, other, bob] = columns[..] else {
        panic!("{line}");
    };
    let (method, route) = route.split_once(' ').unwrap();
    let gets = |what: &str| match what {
        "unknown" => Gets::Unknown,
        "nothing" => Gets::Nothing,
        "team" => Gets::Team,
        "forbidden" => Gets::Forbidden,
        "refused" => Gets::Refused,
        other => panic!("{other}: {line}"),
    };
    let route = route.trim();
    Case {
        method,
        route,
        path: if path.is_empty() { route } else { path },
        body,
        other: gets(other),
        bob: gets(bob),
    }
}

/// The only words that are secret, beside the corrections.
const WORD: &str = "Heron";

/// What ann looks at to see that all is as it was.
const OWN: &[&str] = &[
    "/v1/turns?limit=1000",
    "/v1/turns/{turn}",
    "/v1/documents?conversation=c1",
    "/v1/memories?status=all",
    "/v1/memories/{memory}/history",
    "/v1/memories/rules",
    "/v1/memories/export",
    "/v1/files",
    "/v1/files/{file}/content",
    "/v1/vector_stores/{store}",
    "/v1/vector_stores/{store}/files",
    "/v1/vector_stores/{store}/file_batches/{batch}",
    "/v1/responses/{response}",
    "/v1/responses/{response}/input_items",
    "/v1/conversations/{conversation}",
    "/v1/conversations/{conversation}/items",
    "/v1/feedback?limit=1000",
    "/v1/learning/lineage/{feedback}",
    "/v1/learning/export",
    "/v1/learning/runs",
    "/v1/learning/status",
    "/v1/fine_tuning/jobs",
    "/v1/fine_tuning/jobs/{job}/events",
    "/v1/downtime/runs",
    "/v1/keys",
];

type Ids = BTreeMap<&'static str, String>;

/// Asks with whatever body there is.
async fn send(test: &TestApp, method: &str, path: &str, key: &str, body: &str) -> Reply {
    let method: Method = method.to_uppercase().parse().unwrap();
    if body == "upload" {
        let file = [("own.txt", &b"Something of mine."[..])];
        let fields: &[(&str, &str)] = if path == "/v1/files" {
            &[("purpose", "assistants")]
        } else {
            &[]
        };
        return test.upload_to(path, key, &file, fields).await;
    }
    let body = if body.is_empty() && method == Method::POST {
        "{}"
    } else {
        body
    };
    let request = request(method, path, key).header("content-type", "application/json");
    test.call(request.body(Body::from(body.to_owned())).unwrap()).await
}

async fn done(test: &TestApp, path: &str, key: &str, body: &Value) -> Value {
    let reply = test.post(path, key, body).await;
    assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
    reply.json()
}

fn id(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no id: {value}")).to_owned()
}

/// Looks until what is there is as it should be.
async fn until(test: &TestApp, key: &str, path: &str, ready: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let seen = test.get(path, key).await.json();
        if ready(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{path}: {seen}");
        tokio::task::yield_now().await;
    }
}

async fn say(test: &TestApp, key: &str, words: &str, conversation: Option<&str>) -> String {
    let mut body = json!({"messages": [{"role": "user", "content": words}]});
    if let Some(conversation) = conversation {
        body["metadata"] = json!({"conversation_id": conversation});
    }
    let reply = test.post("/v1/chat/completions", key, &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.headers["x-habit-turn"].to_str().unwrap().to_owned()
}

async fn keep(test: &TestApp, key: &str, name: &str, purpose: &str, text: &str) -> String {
    let file = [(name, text.as_bytes())];
    let reply = test.upload_to("/v1/files", key, &file, &[("purpose", purpose)]).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    id(&reply.json()["id"])
}

/// Gives ann one of everything, while nobody else is in the team.
async fn live(test: &TestApp, ann: &str) -> Ids {
    let mut ids = Ids::new();
    let secret = format!("The vault of acme opens with the word {WORD}.");
    for thing in things(160) {
        let turn = say(test, ann, &thing.question(), None).await;
        done(
            test,
            "/v1/feedback",
            ann,
            &json!({"turn": turn, "correction": thing.answer}),
        )
        .await;
    }
    let run = done(test, "/v1/learning/runs", ann, &json!({})).await;
    ids.insert("run", id(&run["id"]));
    until(test, ann, &format!("/v1/learning/runs/{}", ids["run"]), |run| {
        run["status"] == "passed"
    })
    .await;
    let lesson = |number: usize| json!({"messages": [{"role": "user", "content": format!("{WORD} {number}")}, {"role": "assistant", "content": "yes"}]});
    let lessons: Vec<String> = (0..40).map(|number| lesson(number).to_string()).collect();
    ids.insert(
        "lessons",
        keep(test, ann, "lessons.jsonl", "fine-tune", &lessons.join("\n")).await,
    );
    let job = json!({"model": "pupil", "training_file": ids["lessons"]});
    ids.insert("job", id(&done(test, "/v1/fine_tuning/jobs", ann, &job).await["id"]));
    until(test, ann, &format!("/v1/fine_tuning/jobs/{}", ids["job"]), |job| {
        job["finished_at"].is_i64()
    })
    .await;

    ids.insert("turn", say(test, ann, &secret, Some("c1")).await);
    let better = json!({"turn": ids["turn"], "correction": format!("{WORD} it is."), "comment": WORD});
    ids.insert("feedback", id(&done(test, "/v1/feedback", ann, &better).await["id"]));
    for (name, conversation) in [("document", &[][..]), ("here", &[("conversation", "c1")])] {
        let reply = test.upload(ann, &[("own.txt", secret.as_bytes())], conversation).await;
        ids.insert(name, id(&reply.json()["data"][0]["id"]));
    }
    ids.insert(
        "memory",
        id(&done(test, "/v1/memories", ann, &json!({"text": secret})).await["results"][0]["id"]),
    );
    ids.insert("file", keep(test, ann, "notes.txt", "assistants", &secret).await);
    ids.insert(
        "store",
        id(&done(test, "/v1/vector_stores", ann, &json!({"name": "s"})).await["id"]),
    );
    let batches = format!("/v1/vector_stores/{}/file_batches", ids["store"]);
    ids.insert(
        "batch",
        id(&done(test, &batches, ann, &json!({"file_ids": [ids["file"]]})).await["id"]),
    );
    until(test, ann, &format!("{batches}/{}", ids["batch"]), |batch| {
        batch["status"] == "completed"
    })
    .await;
    let response = done(test, "/v1/responses", ann, &json!({"input": format!("{WORD}!")})).await;
    ids.insert("response", id(&response["id"]));
    let conversation = json!({"items": [{"role": "user", "content": format!("{WORD}?")}]});
    ids.insert(
        "conversation",
        id(&done(test, "/v1/conversations", ann, &conversation).await["id"]),
    );
    let items = test
        .get(&format!("/v1/conversations/{}/items", ids["conversation"]), ann)
        .await
        .json();
    ids.insert("item", id(&items["data"][0]["id"]));
    test.indexed().await;
    let routine = done(test, "/v1/downtime/run", ann, &json!({"routine": "audit"})).await;
    ids.insert("routine", id(&routine["data"][0]["id"]));
    until(test, ann, &format!("/v1/downtime/runs/{}", ids["routine"]), |run| {
        run["status"] == "finished"
    })
    .await;
    let preview = done(
        test,
        "/v1/memories/forget",
        ann,
        &json!({"query": "Which word opens the vault of acme?"}),
    )
    .await;
    assert!(preview.to_string().contains(WORD), "the test proves nothing: {preview}");
    ids.insert("token", id(&preview["token"]));
    ids.insert("key", id(&test.get("/v1/keys", ann).await.json()["data"][0]["id"]));
    ids
}

/// With the ids in their places; `change` makes others of them.
fn filled(text: &str, ids: &Ids, change: impl Fn(&str) -> String) -> String {
    let fill = |text: String, (name, id): (&&str, &String)| text.replace(&format!("{{{name}}}"), &change(id));
    ids.iter().fold(text.to_owned(), fill)
}

/// An id of the same sort that nobody has.
fn made_up(id: &str) -> String {
    let last = if id.ends_with('0') { '1' } else { '0' };
    format!("{}{last}", &id[..id.len() - 1])
}

/// Says what is wrong with what a stranger got.
async fn attack(test: &TestApp, key: &str, ids: &Ids, case: &Case, gets: Gets) -> Option<String> {
    let Case { method, path, body, .. } = case;
    let ask = async |change: &dyn Fn(&str) -> String| {
        let (path, body) = (filled(path, ids, change), filled(body, ids, change));
        send(test, method, &path, key, &body).await
    };
    let reply = ask(&str::to_owned).await;
    let text = reply.text();
    let wrong = |why: &str| Some(format!("{method} {path} {body}: {why}: {} {text}", reply.status));
    let words = text.contains(WORD) || things(160).iter().any(|thing| text.contains(&thing.question()));
    if words {
        return wrong("ann's words");
    }
    match gets {
        Gets::Unknown => {
            let other = ask(&made_up).await;
            let known: Vec<_> = ids.values().map(|id| (made_up(id), id)).collect();
            let alike = known
                .iter()
                .fold(other.text(), |text, (made_up, id)| text.replace(made_up, id));
            // A response to go on from that is not there is a mistake in the body, as at OpenAI.
            let is_unknown = reply.status == StatusCode::NOT_FOUND
                || reply.status == StatusCode::BAD_REQUEST && text.contains("previous_response_not_found");
            if !is_unknown {
                return wrong("is not unknown");
            }
            (other.status != reply.status || alike != text).then(|| wrong(&format!("tells it from {alike}")))?
        }
        Gets::Nothing if !reply.status.is_success() => wrong("is refused"),
        Gets::Nothing => {
            let named = |id: &&String| text.contains(id.as_str()) && !path.contains("turn=");
            ids.values().find(named).and_then(|id| wrong(&format!("names {id}")))
        }
        Gets::Team if reply.status.is_success() => None,
        Gets::Team => wrong("is refused"),
        Gets::Forbidden if reply.status == StatusCode::FORBIDDEN => None,
        Gets::Forbidden => wrong("is not forbidden"),
        Gets::Refused if matches!(reply.status.as_u16(), 400 | 403 | 404 | 422) => None,
        Gets::Refused => wrong("is not refused"),
    }
}

#[tokio::test]
async fn strangers_who_know_every_id_get_nothing_and_change_nothing() {
    let test = TestApp::builder()
        .workshop(school::workshop())
        .config(|config| config.learning.feedback_a_day = 2_000)
        .build()
        .await;
    let ann = test.admin_key("acme", "ann").await;
    let ids = live(&test, &ann).await;
    let other = test.admin_key("other", "ann").await;
    let bob = test.key("acme", "bob").await;
    let seen = async || {
        let mut seen = Vec::new();
        for path in OWN {
            let path = filled(path, &ids, str::to_owned);
            let reply = test.get(&path, &ann).await;
            assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
            seen.push((path, reply.text()));
        }
        seen
    };
    let before = seen().await;
    let mut wrong = Vec::new();
    for case in cases() {
        for (name, key, gets) in [("other", &other, case.other), ("bob", &bob, case.bob)] {
            let found = attack(&test, key, &ids, &case, gets).await;
            wrong.extend(found.map(|why| format!("{name}: {why}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    test.indexed().await;
    let after = seen().await;
    for ((path, before), (_, after)) in before.iter().zip(&after) {
        assert_eq!(before, after, "{path}");
    }
}

#[test]
fn every_route_has_a_case() {
    let document = serde_json::to_value(habit_gateway::routes::documented()).unwrap();
    let methods = ["get", "post", "put", "patch", "delete"];
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let has = methods.into_iter().filter(|method| item.get(method).is_some());
            has.map(|method| (method.to_owned(), path.clone())).collect::<Vec<_>>()
        })
        .collect();
    let covered: BTreeSet<(String, String)> = cases()
        .iter()
        .map(|case| (case.method.to_owned(), case.route.to_owned()))
        .collect();
    let missing: Vec<_> = documented.difference(&covered).collect();
    assert!(missing.is_empty(), "these need a case in data/routes.txt: {missing:?}");
    let gone: Vec<_> = covered.difference(&documented).collect();
    assert!(gone.is_empty(), "there is no such route: {gone:?}");
}
