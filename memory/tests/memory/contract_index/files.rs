//! The bytes of files that users keep: the same in a folder and in an object store.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use habit_memory::files::Bytes;
use habit_memory::store::depot::Bucket;
use habit_memory::testing::s3;

use super::scope;

/// More than is sent at a time.
const LARGE: usize = 20 * 1024 * 1024;

/// The names of what is kept.
async fn kept(place: &Place) -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push(path.display().to_string());
            }
        }
    }
    match place {
        Place::Folder(folder) => {
            let mut found = Vec::new();
            walk(folder.path(), &mut found);
            found
        }
        Place::Bucket(url) => s3::contents(url).await.into_iter().map(|(name, _)| name).collect(),
    }
}

enum Place {
    Folder(tempfile::TempDir),
    Bucket(String),
}

/// Waits until nothing is kept: what is dropped is cleared away in the background.
async fn empty(place: &Place) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let kept = kept(place).await;
        if kept.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{kept:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn laws(bytes: &Bytes, place: &Place) {
    // Names that mean something in a path are only names.
    let (ann, dots, anna) = (scope("red", "ann"), scope("..", ".."), scope("red", "anna"));
    for (id, content) in [
        ("small", b"some text".to_vec()),
        ("large", (0..LARGE).map(|n| n as u8).collect()),
    ] {
        let mut writing = bytes.write(&ann, id);
        for piece in content.chunks(1_000_000) {
            writing.add(piece).await.unwrap();
        }
        assert!(bytes.read(&ann, id).await.is_err(), "nothing is there before all is");
        writing.finish().await.unwrap();
        assert_eq!(bytes.read(&ann, id).await.unwrap(), content);
        let mut whole = Vec::new();
        let mut pieces = bytes.pieces(&ann, id).await.unwrap();
        while let Some(piece) = pieces.next().await {
            whole.extend(piece.unwrap());
        }
        assert_eq!(whole, content);
        for other in [&dots, &anna] {
            assert!(bytes.read(other, id).await.is_err(), "each has their own");
        }
        bytes.remove(&ann, id).await.unwrap();
        bytes.remove(&ann, id).await.unwrap();
        assert!(bytes.read(&ann, id).await.is_err());
        empty(place).await;
        // One that is not finished.
        let mut writing = bytes.write(&ann, id);
        writing.add(&content).await.unwrap();
        drop(writing);
        empty(place).await;
    }
    for scope in [&ann, &dots, &anna] {
        let mut writing = bytes.write(scope, "file-1");
        writing.add(b"some text").await.unwrap();
        writing.finish().await.unwrap();
    }
    assert_eq!(kept(place).await.len(), 3);
    bytes.erase(&ann).await.unwrap();
    assert!(bytes.read(&ann, "file-1").await.is_err());
    assert_eq!(kept(place).await.len(), 2);
    for scope in [&dots, &anna] {
        assert_eq!(bytes.read(scope, "file-1").await.unwrap(), b"some text");
        bytes.erase(scope).await.unwrap();
    }
    bytes.erase(&ann).await.unwrap();
    empty(place).await;
}

#[tokio::test]
async fn files_are_kept_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = Bytes::open(folder.path()).await.unwrap();
    laws(&bytes, &Place::Folder(folder)).await;
}

#[tokio::test]
async fn files_are_kept_in_an_object_store() {
    let url = s3::bucket_url().await;
    let bucket = Bucket::new(&url, s3::options(&s3::server())).unwrap();
    let bytes = Bytes::open(bucket.within("files")).await.unwrap();
    laws(&bytes, &Place::Bucket(url)).await;
}
