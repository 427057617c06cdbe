//! `habit mcp`: the protocol on standard input and output, and nothing else there.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::process::habit;

#[test]
fn memory_is_offered_as_tools_on_standard_input_and_output() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = habit()
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .arg("mcp")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut send = |message: Value| {
        writeln!(input, "{message}").unwrap();
        input.flush().unwrap();
    };
    let mut line = || {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "it ended early");
        serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    send(json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}));
    assert_eq!(line()["result"]["serverInfo"]["name"], "habit");
    send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let call = |id: u64, name: &str, arguments: Value| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": arguments}});
    send(call(
        2,
        "add_memory",
        json!({"text": "The spare key is under the blue pot."}),
    ));
    assert_eq!(line()["result"]["isError"], false);
    send(call(3, "search_memory", json!({"query": "Where is the spare key?"})));
    let found = line();
    let memory = &found["result"]["structuredContent"]["results"][0]["memory"];
    assert_eq!(memory, "The spare key is under the blue pot.", "{found}");
    drop(input);
    assert!(child.wait().unwrap().success());
}
