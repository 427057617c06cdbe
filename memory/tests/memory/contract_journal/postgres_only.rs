//! What only a database that several gateways share must stand: their writes beside each other, its restart, and what can be
//! wrong with a server.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use habit_memory::clock::SystemClock;
use habit_memory::facts::{Fact, Facts, Filter};
use habit_memory::store::sea::Work;
use sea_orm::{ConnectionTrait, Statement};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Several gateways over one new database; all begin at once.
async fn gateways<const N: usize>() -> (Postgres, [Arc<SeaJournal>; N]) {
    let server = Postgres::start().await;
    let url = server.url();
    let open = (0..N).map(|_| SeaJournal::connect(&url));
    let open = futures::future::join_all(open).await.into_iter();
    let open: Vec<_> = open.map(|journal| Arc::new(journal.unwrap())).collect();
    let Ok(open) = open.try_into() else { panic!("not {N}") };
    (server, open)
}

async fn texts(server: &Postgres, question: &str) -> Vec<String> {
    let connection = server.connection().await;
    let question = Statement::from_string(connection.get_database_backend(), question);
    let rows = connection.query_all_raw(question).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_begin_at_once_make_the_tables_once() {
    let (server, [one, two, _]) = gateways::<3>().await;
    one.record(turn(&alice(), "hello")).await.unwrap();
    assert_eq!(two.totals().await.unwrap().turns, 1);
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
    let mut known: Vec<String> = habit_migrations::TABLES.iter().map(|&table| table.to_owned()).collect();
    known.push("seaql_migrations".to_owned());
    known.sort();
    assert_eq!(
        texts(&server, tables).await,
        known,
        "habit_migrations::TABLES lists all"
    );
    let odd = "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public' AND \
               data_type = 'text' AND collation_name IS DISTINCT FROM 'C'";
    assert!(texts(&server, odd).await.is_empty(), "ordered by bytes");
    let sampled = "SELECT attname::text FROM pg_stats WHERE schemaname = 'public' AND tablename = 'turns' AND attname IN \
                   ('prompt', 'reply', 'messages')";
    one.runs().tidy().await.unwrap();
    assert!(texts(&server, sampled).await.is_empty(), "nobody's words are sampled");
}

/// Each gateway reads before it writes: one of them must see what the other wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_by_what_it_reads_is_right_with_two_writers() {
    let (_server, gateways) = gateways::<2>().await;
    let facts = gateways.each_ref().map(|one| one.facts(Arc::new(SystemClock)));
    let ann = scope("red", "ann");
    for round in 0..10_i64 {
        let add = async |n: usize| {
            let town = Fact {
                attribute: Some("home".into()),
                ..Fact::new(ann.clone(), format!("I live in town {round} {n}"), round)
            };
            let same = Fact::new(ann.clone(), format!("I have {round} dogs"), round);
            facts[n].add(&ann, vec![town, same]).await.unwrap()
        };
        let (one, two) = tokio::join!(add(0), add(1));
        let new = one.iter().chain(&two).filter(|added| added.new).count();
        assert_eq!(new, 3, "two towns, and the same words once");
    }
    let active = facts[0].list(&ann, &Filter::default(), page(100)).await.unwrap();
    let homes = active.iter().filter(|fact| fact.attribute.is_some()).count();
    assert_eq!((homes, active.len()), (1, 11), "one home at a time");
    let notes = gateways.iter().cycle().take(8).map(|one| add_document(one, "notes.md"));
    futures::future::join_all(notes).await;
    let totals = gateways[0].totals().await.unwrap();
    assert_eq!((totals.documents, totals.chunks), (1, 2), "a namesake is replaced");
}

async fn add_document(journal: &SeaJournal, name: &str) {
    add(journal, &alice(), Place::User, name, 2).await;
}

/// The server ends every session again and again, as it does when it stops, while two gateways write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_once_after_lost_connections() {
    let (server, gateways) = gateways::<2>().await;
    let over = AtomicBool::new(false);
    let write = async |journal: &SeaJournal| {
        let mut acknowledged = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let turns: Vec<_> = (0..4).map(|n| turn(&alice(), &format!("{n}"))).collect();
            let writes = turns.iter().map(|turn| journal.record(turn.clone()));
            for result in futures::future::join_all(writes).await {
                result.unwrap();
            }
            // Written twice, this would name itself as what it replaced.
            let (document, chunks) = document(&alice(), Place::User, "one of many", 3);
            let replaced = journal.add_document(document.clone(), chunks).await.unwrap();
            assert!(replaced.len() <= 1 && !replaced.contains(&document.id), "{replaced:?}");
            assert!(journal.turn(&alice(), turns[0].id).await.unwrap().is_some());
            acknowledged.extend(turns.into_iter().map(|turn| turn.id));
        }
        acknowledged
    };
    let stop = async {
        for _ in 0..12 {
            server.end_sessions().await;
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
        over.store(true, Ordering::SeqCst);
    };
    let (one, two, ()) = tokio::join!(write(&gateways[0]), write(&gateways[1]), stop);
    let acknowledged = [one, two].concat();
    assert!(acknowledged.len() > 40, "only {}", acknowledged.len());
    let there = gateways[0].turns_by_id(&alice(), &acknowledged).await.unwrap();
    assert_eq!(there.len(), acknowledged.len());
    let totals = gateways[0].totals().await.unwrap();
    assert_eq!(totals.turns, acknowledged.len() as u64);
    assert_eq!((totals.documents, totals.chunks), (1, 3));
    for gateway in &gateways {
        gateway.close().await;
    }
    let left = texts(&server, "SELECT key FROM meta WHERE key LIKE 'writer %'").await;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_indexes_at_a_time() {
    let (server, [one, two]) = gateways::<2>().await;
    let first = one.index_alone().await.unwrap();
    assert!(first.is_shared());
    // The first key is another matter.
    drop(two.database().alone(Work::FirstKey).await.unwrap());
    let second = two.index_alone();
    tokio::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(300), second.as_mut()).await;
    assert!(early.is_err(), "both at once");
    drop(first);
    let second = tokio::time::timeout(Duration::from_secs(10), second)
        .await
        .unwrap()
        .unwrap();
    // A process that dies, or whose machine is cut off, keeps nobody out.
    server.end_sessions().await;
    let third = tokio::time::timeout(Duration::from_secs(10), one.index_alone()).await;
    drop(third.unwrap().unwrap());
    drop(second);
    for _ in 0..20 {
        drop(two.index_alone().await.unwrap());
    }
    let sessions = "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database()";
    assert!(texts(&server, sessions).await.len() < 15, "sessions are used again");
}

#[tokio::test]
async fn what_postgres_cannot_hold_is_kept_as_far_as_it_can_or_refused() {
    let (_server, [journal]) = gateways::<1>().await;
    let (document, mut chunks) = document(&alice(), Place::User, "a\0.txt", 2);
    chunks[0].text = "x\0".into();
    journal.add_document(document, chunks).await.unwrap();
    let long: String = (0..4000).map(|_| Uuid::now_v7().to_string()).collect();
    let (document, chunks) = super::document(&alice(), Place::User, &long, 1);
    let error = journal.add_document(document, chunks).await.unwrap_err();
    assert!(matches!(error, MemoryError::BadRequest(_)), "{error}");
}

#[tokio::test]
async fn nothing_of_what_was_erased_is_left_in_the_tables() {
    let (server, [journal]) = gateways::<1>().await;
    let secret = "the vault opens with Heron";
    for n in 0..50 {
        journal.record(turn(&alice(), &format!("{secret} {n}"))).await.unwrap();
    }
    let (document, mut chunks) = document(&alice(), Place::User, "vault.md", 1);
    // Large enough to be kept apart, in pieces.
    let pieces = (0..2000).map(|_| Uuid::now_v7().to_string());
    chunks[0].text = format!("{} {secret}", pieces.collect::<String>());
    journal.add_document(document, chunks).await.unwrap();
    let fact = Fact::new(scope("red", "alice"), secret, 1);
    let facts = journal.facts(Arc::new(SystemClock));
    facts.add(&scope("red", "alice"), vec![fact]).await.unwrap();
    journal.runs().tidy().await.unwrap();
    let connection = server.connection().await;
    connection.execute_unprepared("CHECKPOINT").await.unwrap();
    let folder = server.folder().await;
    assert!(holds(&folder, b"Heron"), "the test finds what is there");
    let own = scope("red", "alice");
    journal.erase(&own, true).await.unwrap();
    facts.erase(&own, true).await.unwrap();
    journal.purge().await.unwrap();
    connection.execute_unprepared("CHECKPOINT").await.unwrap();
    assert!(!holds(&folder, b"Heron"));
    // Whoever began to read before keeps what was deleted: that is told.
    let reader = server.connection().await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM meta";
    reader.execute_unprepared(begin).await.unwrap();
    let error = journal.purge().await.unwrap_err().to_string();
    assert!(error.contains("long read") && error.contains("do it again"), "{error}");
    reader.execute_unprepared("COMMIT").await.unwrap();
    journal.purge().await.unwrap();
    journal.record(turn(&alice(), "still here")).await.unwrap();
}

fn holds(folder: &Path, what: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        bytes.windows(what.len()).any(|window| window == what)
    })
}

/// The error of opening this address.
async fn refused(url: &str) -> String {
    match SeaJournal::connect(url).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_server_is_told_without_the_password() {
    let server = Postgres::start().await;
    let url = server.url().replacen("postgres@", "postgres:hunter2@", 1);
    let guarded = server.url().replacen("postgres@", "guarded:hunter2@", 1);
    let begun = Instant::now();
    for (url, advice) in [
        (format!("{url}_not"), "createdb"),
        (guarded, "check user and password"),
        (
            "postgres://habit:hunter2@127.0.0.1:1/habit".to_owned(),
            "check that it runs",
        ),
        (
            "postgres://habit:hunter2@no.such.host.invalid/habit".to_owned(),
            "host and port",
        ),
        (format!("{url}?sslmode=require"), "sslmode"),
    ] {
        let error = refused(&url).await;
        assert!(error.contains(advice), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "it is told at once");
    let connection = server.connection().await;
    let ours = url.rsplit_once('/').unwrap().1;
    let read_only = format!("ALTER DATABASE {ours} SET default_transaction_read_only = on");
    connection.execute_unprepared(&read_only).await.unwrap();
    let error = refused(&url).await;
    assert!(error.contains("primary"), "{error}");
    connection
        .execute_unprepared("SET default_transaction_read_only = off")
        .await
        .unwrap();
    connection
        .execute_unprepared(&read_only.replace("= on", "= off"))
        .await
        .unwrap();
    let journal = SeaJournal::connect(&url).await.unwrap();
    let later = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m30000101_000001_later', 0)";
    journal.database().execute_unprepared(later).await.unwrap();
    let error = refused(&url).await;
    assert!(error.contains("newer version"), "{error}");
}

/// Where a connection is cut, once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// The server hears of the commit, the gateway not of its success.
    AfterCommit,
    /// The server never hears of it.
    BeforeCommit,
}

/// A way to the server of this address that can be cut: its port, and where to say so.
async fn line(server: String) -> (u16, Arc<Mutex<Option<Cut>>>) {
    let cut = Arc::new(Mutex::new(None));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::clone(&cut);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (server, asked) = (server.clone(), Arc::clone(&asked));
            tokio::spawn(async move {
                let mut far = TcpStream::connect(server).await.unwrap();
                let (mut said, mut answered) = (vec![0; 65536], vec![0; 65536]);
                loop {
                    tokio::select! {
                        read = near.read(&mut said) => {
                            let Some(read) = read.ok().filter(|&read| read > 0) else { return };
                            let commits = said[..read].windows(6).any(|six| six == b"COMMIT");
                            let cut = if commits { asked.lock().unwrap().take() } else { None };
                            if cut == Some(Cut::BeforeCommit) {
                                return;
                            }
                            far.write_all(&said[..read]).await.unwrap();
                            if cut == Some(Cut::AfterCommit) {
                                let _unheard = far.read(&mut answered).await.unwrap();
                                return;
                            }
                        }
                        read = far.read(&mut answered) => {
                            let Some(read) = read.ok().filter(|&read| read > 0) else { return };
                            near.write_all(&answered[..read]).await.unwrap();
                        }
                    }
                }
            });
        }
    });
    (port, cut)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_end_is_unknown_is_found_out() {
    let database = Postgres::start().await;
    let url = database.url();
    let server = url.split(['@', '/']).nth(3).unwrap().to_owned();
    let (port, cut) = line(server.clone()).await;
    let journal = SeaJournal::connect(&url.replace(&server, &format!("127.0.0.1:{port}")))
        .await
        .unwrap();
    let (mut old, _) = add(&journal, &alice(), Place::User, "notes.md", 1).await;
    for place in [Cut::AfterCommit, Cut::BeforeCommit, Cut::AfterCommit, Cut::BeforeCommit] {
        *cut.lock().unwrap() = Some(place);
        let (new, chunks) = document(&alice(), Place::User, "notes.md", 3);
        let replaced = journal.add_document(new.clone(), chunks).await.unwrap();
        assert_eq!(*cut.lock().unwrap(), None, "it was cut");
        // Written anew after it was committed, it would have replaced itself, or nothing.
        assert_eq!(replaced, [old.id], "{place:?}");
        *cut.lock().unwrap() = Some(place);
        let said = turn(&alice(), "hello");
        journal.record(said.clone()).await.unwrap();
        *cut.lock().unwrap() = Some(place);
        assert!(
            journal.delete_turn(&alice(), said.id).await.unwrap(),
            "{place:?}: it was there"
        );
        old = new;
    }
    let totals = journal.totals().await.unwrap();
    assert_eq!((totals.turns, totals.documents, totals.chunks), (0, 1, 3));
}
