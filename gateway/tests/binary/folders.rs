//! Folders on the command line: all that is in them goes in, an interrupted run goes on, and a watched one is followed.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Server, habit, run};

/// Names of all documents, sorted.
async fn names(server: &Server) -> Vec<String> {
    let documents = server.get("/v1/documents").await;
    let listed = documents["data"].as_array().unwrap().iter();
    let mut names: Vec<_> = listed.map(|d| d["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn ingest<'a>(folder: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["ingest", "--team", "t", "--user", "u"];
    args.extend(more);
    args.push(folder.to_str().unwrap());
    args
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_goes_in_once_and_again_only_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (data, folder) = (dir.path().join("data"), dir.path().join("docs"));
    write(&folder.join("readme.md"), "# Top\n\nThe tide turns at six.");
    write(&folder.join("guide/readme.md"), "# Guide\n\nThe gate closes at nine.");
    write(&folder.join(".git/config"), "hidden");
    let server = Server::start(&data, &[]).await;
    let output = run(&data, &ingest(&folder, &[]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(names(&server).await, ["docs/guide/readme.md", "docs/readme.md"]);
    let before = server.get("/v1/documents").await;

    write(&folder.join("guide/readme.md"), "# Guide\n\nThe gate closes at ten.");
    let output = run(&data, &ingest(&folder, &[]));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("1 of 2 files were there already"), "{told}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("docs/readme.md"));
    let after = server.get("/v1/documents").await;
    let id = |documents: &Value, name: &str| {
        let listed = documents["data"].as_array().unwrap().iter();
        let found = listed.clone().find(|document| document["name"] == name).unwrap();
        found["id"].clone()
    };
    assert_eq!(id(&before, "docs/readme.md"), id(&after, "docs/readme.md"));
    assert_ne!(id(&before, "docs/guide/readme.md"), id(&after, "docs/guide/readme.md"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (data, folder) = (dir.path().join("data"), dir.path().join("docs"));
    let many: Vec<_> = (0..60).map(|n| format!("docs/part/file{n:02}.txt")).collect();
    for name in &many {
        let n = name.len() * 7919 % 1000;
        write(&dir.path().join(name), &format!("{name} holds the number {n}.\n"));
    }
    let server = Server::start(&data, &[]).await;
    let mut child = habit()
        .arg("--data-dir")
        .arg(&data)
        .args(ingest(&folder, &[]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while names(&server).await.len() < 5 {
        assert!(Instant::now() < deadline, "nothing goes in");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let output = run(&data, &ingest(&folder, &[]));
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("were there already"));
    // All of them, and none twice.
    assert_eq!(names(&server).await, many);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_folder_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (data, folder) = (dir.path().join("data"), dir.path().join("docs"));
    write(&folder.join("a.txt"), "The first file.");
    let server = Server::start(&data, &[]).await;
    // A path that is told from where the command runs.
    let mut child = habit()
        .current_dir(dir.path())
        .arg("--data-dir")
        .arg(&data)
        .args(ingest(Path::new("docs"), &["--watch"]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = async |wanted: &[&str]| {
        let deadline = Instant::now() + Duration::from_mins(1);
        while names(&server).await != wanted {
            assert!(
                Instant::now() < deadline,
                "{:?} instead of {wanted:?}",
                names(&server).await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    until(&["docs/a.txt"]).await;
    // It watches since before the first file went in: what is written once is not lost.
    write(&folder.join("sub/b.txt"), "The second file.");
    until(&["docs/a.txt", "docs/sub/b.txt"]).await;
    std::fs::remove_file(folder.join("a.txt")).unwrap();
    until(&["docs/sub/b.txt"]).await;
    child.kill().unwrap();
    child.wait().unwrap();
}
