//! The laws of [`Journal`], checked on every journal that there is; then what only a journal on disk promises.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use habit_engine::{FinishReason, Message, Role, Usage};
use habit_memory::documents::{Chunk, Document, Place};
use habit_memory::interaction::{Interaction, Lookup, Outcome, Timing};
use habit_memory::journal::{First, Journal, Page, Pending, Totals};
use habit_memory::overflow::Left;
use habit_memory::passage::{Citation, Passage, SourceKind};
use habit_memory::store::ram::RamJournal;
use habit_memory::store::sea::SeaJournal;
use habit_memory::testing::Postgres;
use habit_memory::{MemoryError, Scope};
use tempfile::TempDir;
use uuid::Uuid;

mod facts;
mod laws;
mod objects;
mod postgres_only;
mod runs;

/// Every law as a test of this journal.
macro_rules! contract {
    ($journal:ident, $open:expr) => {
        mod $journal {
            use super::*;

            contract!(@laws $open;
                a_turn_comes_back_as_it_was_written,
                a_nul_costs_no_turn,
                a_second_write_of_a_turn_replaces_the_first,
                a_turn_needs_a_conversation,
                files_of_a_store_are_seen_in_that_store,
                an_id_of_someone_else_is_not_overwritten,
                turns_are_their_users_alone,
                turns_are_listed_newest_first_in_pages,
                a_listing_goes_on_after_its_last_turn_was_deleted,
                the_newest_turn_of_a_chain_is_found,
                a_deleted_turn_is_gone,
                documents_are_seen_by_those_they_are_for,
                chunks_are_seen_with_their_documents,
                a_document_replaces_its_namesake,
                a_document_is_written_whole_or_not_at_all,
                a_document_for_a_conversation_names_it,
                documents_are_deleted_by_those_who_see_them,
                pending_is_oldest_first_and_ends_when_indexed,
                pending_leaves_out_what_is_never_recalled,
                pending_shows_the_turn_before,
                everything_can_be_made_pending_again,
                totals_count,
                many_at_once_are_all_there,
                a_closed_journal_takes_no_writes_and_can_be_read,
            );
        }
    };
    (@laws $open:expr; $($law:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                let (journal, _home) = $open().await;
                laws::$law(journal as Arc<dyn Journal>).await;
            }
        )*
    };
}

contract!(ram, in_the_process);
contract!(sqlite, on_sqlite);
contract!(postgres, on_postgres);

fn in_the_process() -> std::future::Ready<(Arc<RamJournal>, Home)> {
    std::future::ready((Arc::default(), Home::Process))
}

/// What a database lies in; it goes with this.
enum Home {
    Process,
    #[allow(dead_code, reason = "kept for its end")]
    Folder(TempDir),
    Server(Postgres),
}

async fn on_sqlite() -> (Arc<SeaJournal>, Home) {
    let folder = TempDir::new().unwrap();
    (open(&folder.path().join("habit.db")).await, Home::Folder(folder))
}

async fn on_postgres() -> (Arc<SeaJournal>, Home) {
    let server = Postgres::start().await;
    (Arc::new(server.open().await), Home::Server(server))
}

/// Every database that there is.
async fn databases() -> [(Arc<SeaJournal>, Home); 2] {
    [on_sqlite().await, on_postgres().await]
}

async fn open(path: &Path) -> Arc<SeaJournal> {
    Arc::new(SeaJournal::open(path).await.unwrap())
}

fn scope(team: &str, user: &str) -> Scope {
    Scope::new(team, user).unwrap()
}

fn alice() -> Scope {
    scope("red", "alice").in_conversation("one")
}

fn turn(scope: &Scope, prompt: &str) -> Interaction {
    Interaction {
        id: Uuid::now_v7(),
        scope: scope.clone(),
        parent: None,
        asked_at: 1_760_000_000_000,
        model: "tiny".into(),
        messages: vec![
            Message::new(Role::System, "Be brief."),
            Message::new(Role::User, prompt),
        ],
        prompt: prompt.into(),
        reply: format!("You said: {prompt}"),
        outcome: Outcome::Completed,
        remember: true,
        finish_reason: Some(FinishReason::Stop),
        usage: Usage {
            prompt_tokens: 12,
            completion_tokens: 34,
            cached_tokens: 0,
            reasoning_tokens: 0,
        },
        injected: vec![Passage {
            text: "a note\nwith two lines".into(),
            source: SourceKind::Recalled,
            score: 0.1,
            tokens: 5,
            citation: Citation {
                id: "x".into(),
                label: "2026-11-21".into(),
                at: 7,
                ordinal: 0,
            },
            returned: true,
        }],
        lookup: Lookup {
            words_alone: Some("the embedder was late".into()),
            left: Some(Left {
                turns: 2,
                messages: 4,
                places: vec![(1, 5)],
            }),
            brought: 3,
            ..Lookup::default()
        },
        chain: format!("chain of {prompt}"),
        timing: Timing {
            first_token_ms: Some(3),
            total_ms: 9,
            context_ms: 1,
        },
        error: None,
    }
}

fn document(scope: &Scope, place: Place, name: &str, chunks: usize) -> (Document, Vec<Chunk>) {
    let chunks: Vec<Chunk> = (0..chunks)
        .map(|ordinal| Chunk {
            id: Uuid::now_v7(),
            ordinal: u32::try_from(ordinal).unwrap(),
            text: format!("{name}, part {ordinal}"),
            locator: format!("page {ordinal}"),
        })
        .collect();
    let document = Document {
        id: Uuid::now_v7(),
        scope: scope.clone(),
        place,
        name: name.into(),
        media_type: "text/plain".into(),
        bytes: 4321,
        sha256: "00".repeat(32),
        chunks: u32::try_from(chunks.len()).unwrap(),
        ingested_at: 1_760_000_000_000,
    };
    (document, chunks)
}

/// Writes it, and gives it back.
async fn add(journal: &dyn Journal, scope: &Scope, place: Place, name: &str, chunks: usize) -> (Document, Vec<Chunk>) {
    let (document, chunks) = document(scope, place, name, chunks);
    journal.add_document(document.clone(), chunks.clone()).await.unwrap();
    (document, chunks)
}

fn page(limit: u64) -> Page {
    Page { limit, before: None }
}

fn pending_id(pending: &Pending) -> Uuid {
    match pending {
        Pending::Turn { turn, .. } => turn.id,
        Pending::Chunk { chunk, .. } => chunk.id,
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_death() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("new folder/habit.db");
    let first = open(&path).await;
    let said = turn(&alice(), "My dog is called Biscuit");
    first.record(said.clone()).await.unwrap();
    let (document, chunks) = add(&*first, &alice(), Place::Conversation, "notes.md", 3).await;
    first.mark_indexed(&[said.id]).await.unwrap();
    // As if the process died: the first journal is neither closed nor dropped.
    let second = open(&path).await;
    assert_eq!(second.turn(&alice(), said.id).await.unwrap(), Some(said));
    assert_eq!(second.document(&alice(), document.id).await.unwrap(), Some(document));
    let pending: Vec<Uuid> = second
        .pending(10, First::Oldest)
        .await
        .unwrap()
        .iter()
        .map(pending_id)
        .collect();
    assert_eq!(pending, chunks.iter().map(|chunk| chunk.id).collect::<Vec<_>>());
    first.close().await;
    second.close().await;
    let totals = open(&path).await.totals().await.unwrap();
    assert_eq!(
        totals,
        Totals {
            turns: 1,
            documents: 1,
            chunks: 3,
            pending: 3
        }
    );
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("habit.db");
    let journal = open(&path).await;
    journal.record(turn(&alice(), "a secret")).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{}",
            file.path().display()
        );
    }
}

#[tokio::test]
async fn a_write_that_fails_fails_alone() {
    for (journal, _home) in databases().await {
        fails_alone(&journal).await;
    }
}

async fn fails_alone(journal: &Arc<SeaJournal>) {
    let taken = turn(&scope("blue", "bob").in_conversation("one"), "mine");
    journal.record(taken.clone()).await.unwrap();
    // All are queued before the writer looks again, so that good and bad ones are in one group.
    let writes = (0..100).map(|n| {
        let bad = n % 10 == 0;
        let mut turn = turn(&alice(), &n.to_string());
        turn.id = if bad { taken.id } else { turn.id };
        let journal = journal.clone();
        async move { (bad, journal.record(turn).await) }
    });
    for (bad, result) in futures::future::join_all(writes).await {
        assert_eq!(matches!(result, Err(MemoryError::BadRequest(_))), bad);
        assert_eq!(result.is_ok(), !bad);
    }
    assert_eq!(journal.totals().await.unwrap().turns, 91);
    assert_eq!(journal.turn(&taken.scope, taken.id).await.unwrap(), Some(taken));
}

/// The error of opening this path.
async fn refusal(path: &Path) -> String {
    match SeaJournal::open(path).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("habit.db");
    let content = "This is a letter, and not a database at all. ".repeat(200);
    std::fs::write(&path, &content).unwrap();
    let error = refusal(&path).await;
    assert!(
        error.contains("habit.db") && error.contains("restore a backup"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
}

#[tokio::test]
async fn a_truncated_database_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("habit.db");
    let journal = open(&path).await;
    for n in 0..50 {
        journal
            .record(turn(&alice(), &format!("{n} ").repeat(500)))
            .await
            .unwrap();
    }
    journal.close().await;
    drop(journal);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = refusal(&path).await;
    assert!(error.contains("damaged") && error.contains("backup"), "{error}");
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = refusal(&file.join("habit.db")).await;
    assert!(
        error.contains("file") && error.contains("another data directory"),
        "{error}"
    );
    let error = refusal(folder.path()).await;
    assert!(error.contains("can't be written"), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    use sea_orm::ConnectionTrait;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("habit.db");
    let journal = open(&path).await;
    let later = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m30000101_000001_later', 0)";
    journal.database().execute_unprepared(later).await.unwrap();
    let error = refusal(&path).await;
    assert!(error.contains("newer version"), "{error}");
}
