//! What goes wrong before and around a request: each a clear error with the next step, and nothing lost.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::process::{Server, habit, new_key, run, setting};
use crate::upstream::Upstream;

fn serve(data: &Path, args: &[&str]) -> Output {
    let mut command = habit();
    command
        .arg("--data-dir")
        .arg(data)
        .arg("serve")
        .args(["--bind", "127.0.0.1:0"])
        .args(args);
    command.output().unwrap()
}

/// The command failed, and its error says each of these.
fn assert_says(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it should have failed: {text}");
    for word in words {
        assert!(
            text.to_lowercase().contains(&word.to_lowercase()),
            "no `{word}` in: {text}"
        );
    }
    assert!(!text.contains("panicked"), "{text}");
}

/// A model file of the store that the tests use.
fn prepared_gguf() -> PathBuf {
    let mut folders = vec![setting("HABIT_TEST_MODELS")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "gguf") {
                return path;
            }
        }
    }
    panic!("no GGUF in HABIT_TEST_MODELS");
}

#[test]
fn an_evaluation_of_learning_says_what_it_needs_before_it_loads_anything() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let eval = |args: &[&str]| {
        let folder = dir.path().to_str().unwrap();
        run(&data, &[&["eval", "learning", "--data", folder], args].concat())
    };
    assert_says(
        &eval(&["--domain", "home"]),
        &["CLINC150 has data_small.json", "banking77 has"],
    );
    std::fs::write(
        dir.path().join("domains.json"),
        r#"{"home": ["lights_on"], "work": ["pto"]}"#,
    )
    .unwrap();
    let items = r#"{"train": [["on please", "lights_on"]], "test": [["light", "lights_on"]]}"#;
    std::fs::write(dir.path().join("data_small.json"), items).unwrap();
    assert_says(&eval(&["--domain", "travel"]), &["`travel`", "it has: home, work"]);
    assert_says(
        &eval(&["--domain", "home"]),
        &["`home` has 1 questions, and 160 were asked for"],
    );
    assert_says(
        &eval(&["--domain", "home", "--arms", "magic"]),
        &["magic", "nearest", "shuffled"],
    );
    assert_says(
        &eval(&["--domain", "home", "--settings", "{\"speed\": 1}"]),
        &["--settings", "speed"],
    );
    assert!(!data.join("models").exists(), "nothing was fetched");
    let help = run(&data, &["eval", "learning", "--help"]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for word in ["--corrections", "--drift", "crowd-written", "banking77", "--every"] {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
}

#[test]
fn a_truncated_model_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(prepared_gguf()).unwrap();
    let short = dir.path().join("short.gguf");
    for length in [0, 3, 1000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&short, &whole[..length]).unwrap();
        let output = serve(&dir.path().join("data"), &["--model", short.to_str().unwrap()]);
        assert_says(&output, &["short.gguf"]);
    }
}

#[test]
fn an_unknown_architecture_is_named_with_those_that_work() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(prepared_gguf()).unwrap();
    let key = b"general.architecture";
    let place = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    // Behind the key: a value type (4 bytes), a length (8 bytes), the text.
    let text = place + 12;
    assert_eq!(&bytes[text..text + 5], b"llama");
    bytes[text..text + 5].copy_from_slice(b"zebra");
    let file = dir.path().join("zebra.gguf");
    std::fs::write(&file, bytes).unwrap();
    let output = serve(&dir.path().join("data"), &["--model", file.to_str().unwrap()]);
    assert_says(&output, &["zebra", "qwen3", "llama"]);
}

#[test]
fn a_missing_model_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert_says(
        &serve(&data, &["--model", "/nowhere/model.gguf"]),
        &["/nowhere/model.gguf"],
    );
    assert_says(
        &serve(&data, &["--model", "smollm2-135m-instrukt"]),
        &["smollm2-135m-instruct"],
    );
}

#[test]
fn bad_configuration_names_the_field_and_the_nearest_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("habit.toml");
    std::fs::write(&file, "[server]\nbindd = \"127.0.0.1:0\"\n").unwrap();
    let output = habit().args(["serve", "--config"]).arg(&file).output().unwrap();
    assert_says(&output, &["bindd", "bind", "habit.toml"]);
    std::fs::write(&file, "[server]\nbind = 17\n").unwrap();
    let output = habit().args(["serve", "--config"]).arg(&file).output().unwrap();
    assert_says(&output, &["server.bind", "habit.toml"]);
    assert_says(&habit().args(["serve", "--bindd", "x"]).output().unwrap(), &["--bind"]);
}

#[test]
fn without_keys_only_on_loopback() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = habit();
    command
        .arg("--data-dir")
        .arg(dir.path())
        .args(["serve", "--no-auth", "--bind", "0.0.0.0:0"]);
    assert_says(&command.output().unwrap(), &["no-auth", "loopback"]);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("not-a-directory");
    std::fs::write(&file, "").unwrap();
    assert_says(
        &serve(&file.join("data"), &["--upstream", "http://127.0.0.1:9"]),
        &["not-a-directory", "--data-dir"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_a_port_and_a_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let upstream = Upstream::start().await;
    let server = Server::start(&data, &["--upstream", &upstream.url]).await;
    let second = serve(&data, &["--upstream", &upstream.url]);
    assert_says(&second, &["already", "--data-dir"]);

    let address = server.url.trim_start_matches("http://").to_owned();
    let mut command = habit();
    command.arg("--data-dir").arg(dir.path().join("other")).args([
        "serve",
        "--upstream",
        &upstream.url,
        "--bind",
        &address,
    ]);
    assert_says(&command.output().unwrap(), &[&address, "--bind"]);
    // The first one still answers.
    server.ask("Still there?", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_openai_shaped_errors() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]).await;
    let chat = |body: &str| {
        let body = body.to_owned();
        server
            .request(reqwest::Method::POST, "/v1/chat/completions")
            .header("content-type", "application/json")
            .body(body)
    };
    let long = json!({"messages": [{"role": "user", "content": "word ".repeat(20_000)}]}).to_string();
    for (request, status, code, word) in [
        (chat("{\"messages\": ["), 400, None, "JSON"),
        (chat("{\"messages\": 7}"), 400, None, "messages"),
        (
            chat("{\"model\": \"gpt-9\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}"),
            404,
            Some("model_not_found"),
            "gpt-9",
        ),
        (
            chat("{\"temperature\": 9, \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}"),
            400,
            None,
            "temperature",
        ),
        (chat(&long), 400, Some("context_length_exceeded"), "tokens"),
        (
            server.request(reqwest::Method::GET, "/v1/nowhere"),
            404,
            None,
            "/v1/nowhere",
        ),
        (
            server.request(reqwest::Method::PUT, "/v1/chat/completions"),
            405,
            None,
            "PUT",
        ),
        (
            reqwest::Client::new()
                .get(format!("{}/v1/models", server.url))
                .bearer_auth("hb-wrong-key"),
            401,
            Some("invalid_api_key"),
            "Incorrect API key provided",
        ),
    ] {
        let reply = request.send().await.unwrap();
        let shown = reply.status().as_u16();
        assert!(reply.headers().contains_key("x-request-id"));
        let body: Value = reply.json().await.unwrap();
        assert_eq!(shown, status, "{body}");
        let error = &body["error"];
        assert!(
            error["message"].as_str().unwrap().contains(word),
            "no `{word}` in {body}"
        );
        assert!(error["type"].is_string() && error["code"].is_string(), "{body}");
        assert!(error.as_object().unwrap().contains_key("param"), "{body}");
        if let Some(code) = code {
            assert_eq!(error["code"], code);
        }
    }
    // And the server goes on.
    server.ask("Hello", &[]).await;
}

/// A full disk, as a limit on the size of files: the signal is ignored, so that writes fail as on a full disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_turn_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let upstream = Upstream::start().await;
    let server = Server::start(&data, &["--upstream", &upstream.url]).await;
    let (kept, _) = server.ask("This was said while there was room.", &[]).await;
    assert!(server.terminate().await.success());

    let mut command = std::process::Command::new("bash");
    let plain = habit();
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // Room for 2 MiB a file (`ulimit -f` counts in KiB): the database fills up soon.
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$@\"", "bash"])
        .arg(plain.get_program());
    command
        .arg("--data-dir")
        .arg(&data)
        .args(["serve", "--bind", "127.0.0.1:0", "--upstream", &upstream.url]);
    command.stdin(Stdio::null());
    let server = Server::start_command(&data, command).await;
    let big = "All work and no play. ".repeat(500);
    let mut failed = None;
    let mut recorded = Vec::new();
    for number in 0..400 {
        let body = json!({"messages": [{"role": "user", "content": format!("{number} {big}")}]});
        let reply = server.chat(&body, &[]).await;
        let status = reply.status();
        let turn = reply
            .headers()
            .get("x-habit-turn")
            .map(|turn| turn.to_str().unwrap().to_owned());
        let body: Value = reply.json().await.unwrap();
        if status.is_success() {
            recorded.push(turn.unwrap());
        } else {
            failed = Some((status, body));
            break;
        }
    }
    let (status, body) = failed.expect("the disk should have been full");
    assert!(status.is_server_error(), "{status}");
    assert!(body["error"]["message"].as_str().unwrap().contains("record"), "{body}");
    server.kill_9();

    let server = Server::start(&data, &["--upstream", &upstream.url]).await;
    for turn in recorded.iter().chain([&kept]) {
        assert_eq!(server.get(&format!("/v1/turns/{turn}")).await["outcome"], "completed");
    }
    server.ask("There is room again.", &[]).await;
}

#[test]
fn a_revoked_key_is_listed_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let key = new_key(dir.path(), "team", "someone");
    let public = key.split('-').nth(1).unwrap().to_owned();
    let list = run(dir.path(), &["keys", "list"]);
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(text.contains(&public) && text.contains("someone"), "{text}");
    assert!(
        !text.contains(key.rsplit('-').next().unwrap()),
        "the secret is never shown again"
    );
    assert!(run(dir.path(), &["keys", "revoke", &public]).status.success());
    assert_says(&run(dir.path(), &["keys", "revoke", "nosuchkey"]), &["nosuchkey"]);
    assert_says(
        &run(dir.path(), &["keys", "create", "--team", "no spaces", "--user", "u"]),
        &["no spaces"],
    );
}
