//! `habit chat` at a pipe instead of a terminal: the same commands, no colours.

use std::io::Write;
use std::process::Stdio;

use crate::process::habit;

#[test]
fn chat_answers_and_clears() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = habit();
    command
        .arg("--data-dir")
        .arg(&data)
        .args(["chat", "--temperature", "0", "--max-tokens", "48"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = "My dog is called Biscuit, I work at the harbour.\n/clear\nWhat is my dog called?\n/quit\n";
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer = text.rsplit_once("/clear").map_or(&*text, |(_, after)| after);
    assert!(answer.contains("Biscuit"), "{text}");
}
