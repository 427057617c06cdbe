//! What holds of the index on LanceDB beyond the laws: many small files, housekeeping, what is left of another index.

use super::*;

#[tokio::test]
async fn it_keeps_the_laws() {
    let dir = tempfile::tempdir().unwrap();
    laws(&LanceIndex::open(dir.path(), DIMENSIONS, "test@1").await.unwrap()).await;
}

#[tokio::test]
async fn it_keeps_the_laws_with_many_small_files_and_after_tidying() {
    let dir = tempfile::tempdir().unwrap();
    let index = LanceIndex::open(dir.path(), DIMENSIONS, "test@1").await.unwrap();
    let me = scope("red", "ann");
    let mut written = Vec::new();
    for n in 0..12 {
        let entry = entry(of(&me), &format!("buoy number{n}"), towards(n, 0.1));
        written.push(entry.id);
        index.upsert(vec![entry]).await.unwrap();
        if n == 6 {
            // From here on, one part is in the full-text index and one is not.
            index.optimize().await.unwrap();
        }
    }
    for round in 0..2 {
        for (n, id) in written.iter().enumerate() {
            let ids = found(&index, &me, ask(&format!("number{n}"), None, 3)).await;
            assert_eq!(ids, HashSet::from([*id]), "round {round}, number {n}");
        }
        assert_eq!(found(&index, &me, ask("buoy", None, 100)).await.len(), 12);
        index.optimize().await.unwrap();
    }
    // The same after a restart.
    drop(index);
    let index = LanceIndex::open(dir.path(), DIMENSIONS, "test@1").await.unwrap();
    assert_eq!(
        found(&index, &me, ask("number3", None, 3)).await,
        HashSet::from([written[3]])
    );
    assert_eq!(index.len().await.unwrap(), 12);
}

/// Whoever searches does not notice that what was removed is being erased from the disk.
#[tokio::test(flavor = "multi_thread")]
async fn it_answers_while_it_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let index = LanceIndex::open(dir.path(), DIMENSIONS, "test@1").await.unwrap();
    let me = scope("red", "ann");
    let kept = entry(of(&me), "a harbour crane", towards(0, 0.0));
    let ids = HashSet::from([kept.id]);
    index.upsert(vec![kept]).await.unwrap();
    let done = AtomicBool::new(false);
    let searches = async {
        while !done.load(Ordering::Relaxed) {
            let query = ask("crane", Some(&towards(0, 0.0)), 10);
            assert_eq!(found(&index, &me, query).await, ids);
        }
    };
    let changes = async {
        for n in 0..20 {
            let passing = entry(of(&scope("red", "bob")), &format!("buoy number{n}"), towards(n, 0.1));
            let (team, parents) = ("red".to_owned(), vec![passing.parent]);
            index.upsert(vec![passing]).await.unwrap();
            index.remove(Removal::Parents { team, parents }).await.unwrap();
            index.purge().await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(searches, changes);
}

/// Made anew it is a new table: where the removal of the old one ended half way, nothing of that serves.
#[tokio::test]
async fn made_anew_it_is_not_what_is_left_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let me = scope("red", "ann");
    let index = LanceIndex::open(dir.path(), DIMENSIONS, "test@1").await.unwrap();
    index
        .upsert(vec![entry(of(&me), "text", towards(0, 0.0))])
        .await
        .unwrap();
    drop(index);
    let old = dir.path().join("entries.lance");
    drop(LanceIndex::rebuild(dir.path(), DIMENSIONS, "test@1").await.unwrap());
    assert!(!old.exists());
    // As if the process had ended before it was all gone.
    std::fs::create_dir_all(old.join("_indices")).unwrap();
    for _ in 0..2 {
        let index = LanceIndex::open(dir.path(), DIMENSIONS, "test@1").await.unwrap();
        assert!(found(&index, &me, ask("text", None, 10)).await.is_empty());
        drop(index);
        drop(LanceIndex::rebuild(dir.path(), DIMENSIONS, "test@1").await.unwrap());
        assert!(!old.exists());
    }
}

#[tokio::test]
async fn vectors_of_another_embedder_are_refused_until_it_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let index = LanceIndex::open(dir.path(), DIMENSIONS, "old@1").await.unwrap();
    index
        .upsert(vec![entry(of(&scope("red", "ann")), "text", towards(0, 0.0))])
        .await
        .unwrap();
    drop(index);
    for (dimensions, id) in [(DIMENSIONS, "new@1"), (16, "old@1")] {
        let refused = LanceIndex::open(dir.path(), dimensions, id)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            refused.contains("habit reindex") && refused.contains("old@1"),
            "{refused}"
        );
    }
    let index = LanceIndex::rebuild(dir.path(), 16, "new@1").await.unwrap();
    assert_eq!(index.len().await.unwrap(), 0);
    LanceIndex::open(dir.path(), 16, "new@1").await.unwrap();
}

/// Files that housekeeping removed are closed: a server that runs for long would otherwise run out of them.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_from_the_disk_does_not_stay_open() {
    let dir = tempfile::tempdir().unwrap();
    let index = LanceIndex::open(dir.path(), DIMENSIONS, "test@1").await.unwrap();
    let me = scope("red", "ann");
    // Many words: small files are read whole and closed at once.
    let words = |from: usize| {
        (from..from + 40)
            .map(|word| format!("w{:x}", word * 7919))
            .collect::<Vec<_>>()
    };
    for n in 0..4 {
        let new = (0..300).map(|m| {
            let text = format!("buoy {}", words((n * 300 + m) * 40).join(" "));
            entry(of(&me), &text, towards(m, 0.1))
        });
        index.upsert(new.collect()).await.unwrap();
        index.optimize().await.unwrap();
        assert_eq!(found(&index, &me, ask("buoy", None, 10)).await.len(), 10);
    }
    index.purge().await.unwrap();
    assert_eq!(found(&index, &me, ask("buoy", None, 10)).await.len(), 10);
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = open.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    let gone: Vec<_> = open
        .filter(|file| file.starts_with(dir.path()) && file.to_string_lossy().ends_with(" (deleted)"))
        .collect();
    assert!(gone.is_empty(), "{gone:?}");
}
