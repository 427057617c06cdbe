//! What a process left unread of a store is read on by the next one, also when nobody looks at the file.

use habit_gateway::config;
use habit_memory::Scope;
use habit_memory::files::{Bytes, Files};
use habit_memory::vector_stores::{NewFile, Parts, Status, VectorStores};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;

#[tokio::test]
async fn a_search_reads_on() {
    let test = TestApp::start().await;
    let key = test.key("acme", "ann").await;
    let file = keep(&test, &key, "handbook.md", HANDBOOK).await;
    let store = store(&test, &key, &[]).await;
    // Another process, which is stopped before it has read anything.
    let memory = test.app.memory.clone().unwrap();
    let (objects, clock) = (memory.objects, Arc::clone(&test.app.clock));
    let folder = config::files_path(&test.app.config.data_dir().unwrap());
    let bytes = Bytes::open(folder).await.unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = VectorStores::new(Parts {
        files: Arc::new(Files::new(Arc::clone(&objects), Arc::clone(&clock), bytes, u64::MAX)),
        objects,
        journal: memory.journal,
        index: memory.index,
        indexer: memory.indexer,
        embedder: memory.embedder,
        clock,
        tasks: TaskTracker::new(),
        stop,
    });
    let new = NewFile {
        file,
        attributes: serde_json::Map::new(),
        cut: None,
    };
    let scope = Scope::new("acme", "ann").unwrap();
    let attached = stopped.attach(&scope, &store, vec![new]).await.unwrap();
    assert_eq!(attached[0].status, Status::InProgress);

    let deadline = Instant::now() + Duration::from_secs(20);
    while texts(&test, &key, &store, json!({"query": "notice period"}))
        .await
        .is_empty()
    {
        assert!(Instant::now() < deadline, "it is not read");
        tokio::task::yield_now().await;
    }
}
