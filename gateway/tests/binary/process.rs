//! Starts and stops `habit`, and talks to it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a start may take: a real model is loaded, on a machine that other tests use too.
const START: Duration = Duration::from_mins(2);

/// A setting of the test run that `make test` makes.
pub fn setting(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run the tests by `make test`")))
}

/// How often a test kills: `HABIT_ROUNDS`, or else so many times.
pub fn rounds(usual: usize) -> usize {
    let rounds = std::env::var("HABIT_ROUNDS").ok();
    rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// The binary, with the shared model store and nothing of this user's configuration.
pub fn habit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_habit"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HABIT_")) {
        command.env_remove(name);
    }
    command
        .env("HABIT_DATA_MODELS", setting("HABIT_TEST_MODELS"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run(data: &Path, args: &[&str]) -> Output {
    habit().arg("--data-dir").arg(data).args(args).output().unwrap()
}

/// A running server. Killed when dropped.
pub struct Server {
    child: Child,
    /// The base URL, without `/v1`.
    pub url: String,
    /// A key of team `t`, user `u`.
    pub key: String,
    http: reqwest::Client,
}

impl Server {
    /// Starts `habit serve` on a free port and waits until it answers.
    pub async fn start(data: &Path, args: &[&str]) -> Self {
        let mut command = habit();
        command
            .arg("--data-dir")
            .arg(data)
            .arg("serve")
            .args(["--bind", "127.0.0.1:0"])
            .args(args);
        Self::start_command(data, command).await
    }

    /// The same, by a command that the caller made.
    pub async fn start_command(data: &Path, mut command: Command) -> Self {
        // A file of an earlier process must not be taken for this one's.
        let _ = std::fs::remove_file(data.join("server.json"));
        let log = std::fs::File::create(data.with_extension("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        drain(child.stdout.take().unwrap());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let deadline = Instant::now() + START;
        let url = loop {
            let file = std::fs::read(data.join("server.json")).ok();
            let url =
                file.and_then(|file| Some(serde_json::from_slice::<Value>(&file).ok()?["url"].as_str()?.to_owned()));
            if let Some(url) = url
                && http
                    .get(format!("{url}/health"))
                    .send()
                    .await
                    .is_ok_and(|reply| reply.status().is_success())
            {
                break url;
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("habit ended at its start ({status}):\n{}", log_of(data));
            }
            assert!(Instant::now() < deadline, "habit did not start:\n{}", log_of(data));
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let key = new_key(data, "t", "u");
        Self { child, url, key, http }
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A request with the server's own key.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.key)
    }

    /// GET, parsed; panics unless it is 200.
    pub async fn get(&self, path: &str) -> Value {
        let reply = self.request(reqwest::Method::GET, path).send().await.unwrap();
        let status = reply.status();
        let body = reply.text().await.unwrap();
        assert!(status.is_success(), "GET {path}: {status} {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// A chat request as it is sent.
    pub async fn chat(&self, body: &Value, headers: &[(&str, &str)]) -> reqwest::Response {
        let mut request = self.request(reqwest::Method::POST, "/v1/chat/completions").json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// One greedy question in a new conversation: the turn's id and the reply's text.
    pub async fn ask(&self, question: &str, headers: &[(&str, &str)]) -> (String, String) {
        let body = json!({
            "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 48
        });
        let reply = self.chat(&body, headers).await;
        let turn = reply
            .headers()
            .get("x-habit-turn")
            .map(|id| id.to_str().unwrap().to_owned())
            .unwrap_or_default();
        let status = reply.status();
        let reply: Value = reply.json().await.unwrap();
        assert!(status.is_success(), "{status}: {reply}");
        (
            turn,
            reply["choices"][0]["message"]["content"].as_str().unwrap().to_owned(),
        )
    }

    /// As the kernel's OOM killer or a power cut would: no time to do anything.
    pub fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; waits for the end and gives the exit status.
    pub async fn terminate(mut self) -> std::process::ExitStatus {
        self.signal("TERM");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "habit did not end within 30 s of SIGTERM");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A fresh key, made on the command line.
pub fn new_key(data: &Path, team: &str, user: &str) -> String {
    let output = run(data, &["keys", "create", "--team", team, "--user", user]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace()
        .find(|word| word.starts_with("hb-"))
        .unwrap_or_else(|| panic!("no key in `{text}`: {}", String::from_utf8_lossy(&output.stderr)))
        .to_owned()
}

/// What the server in this data directory wrote to stderr.
pub fn log_of(data: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = std::fs::File::open(data.with_extension("log")) {
        let _ = file.read_to_string(&mut text);
    }
    text
}

/// Reads a pipe to its end, so that the process never blocks on it.
fn drain(stdout: std::process::ChildStdout) {
    std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).for_each(drop));
}
