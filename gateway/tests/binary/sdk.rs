//! The official Python SDK against the real binary and the real model. `make sdk` runs the other clients of `tests/sdk`.

use std::process::Command;

use crate::process::{Server, setting};

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_python_sdk_works() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]).await;
    // Where it runs, not where it was built: build caches outlive clones.
    let script = setting("CARGO_MANIFEST_DIR").join("../tests/sdk/openai_python.py");
    let output = Command::new(setting("HABIT_TEST_VENV").join("bin/python"))
        .arg(script)
        .env("OPENAI_BASE_URL", format!("{}/v1", server.url))
        .env("OPENAI_API_KEY", &server.key)
        .env("NO_PROXY", "127.0.0.1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("passed, 0 failed"), "{out}");
}
