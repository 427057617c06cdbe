//! Another embedder: the old index answers until the new one has everything, whatever happens meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use habit_engine::embedder::HashEmbedder;
use habit_engine::{Embedder, EngineError, Message, Role};
use habit_memory::MemoryError;
use habit_memory::clock::SystemClock;
use habit_memory::facts::Facts;
use habit_memory::generations::{Everything, Founder, Generation, Generations, Next, Storage};
use habit_memory::index::{Index, Removal};
use habit_memory::indexer::Indexer;
use habit_memory::interaction::Interaction;
use habit_memory::journal::Journal;
use habit_memory::store::lance::{LanceIndex, Made};
use habit_memory::store::ram_index::RamIndex;
use habit_memory::store::sea::SeaJournal;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::context::world::{World, user};

/// An embedder that waits for a permit a batch.
struct Gated {
    inner: HashEmbedder,
    gate: Semaphore,
}

#[async_trait]
impl Embedder for Gated {
    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EngineError> {
        self.gate.acquire().await.unwrap().forget();
        self.inner.embed(texts).await
    }

    fn dimensions(&self) -> usize {
        self.inner.dimensions()
    }

    fn id(&self) -> &str {
        self.inner.id()
    }
}

struct Folder {
    folder: PathBuf,
    embedder: Arc<Gated>,
}

#[async_trait]
impl Founder for Folder {
    async fn found(&self) -> Result<Next, MemoryError> {
        let index = LanceIndex::beside(self.folder.clone(), self.embedder.dimensions(), self.embedder.id()).await?;
        Ok(next(index, &self.embedder))
    }
}

fn next(index: LanceIndex, embedder: &Arc<Gated>) -> Next {
    let index = Arc::new(index);
    Next {
        generation: Arc::new(Generation {
            embedder: Arc::clone(embedder) as Arc<dyn Embedder>,
            index: Arc::clone(&index) as Arc<dyn Index>,
        }),
        storage: index,
    }
}

/// What a move is made of: an index of one embedder in a folder, with another embedder whose batches are let through.
struct Move {
    world: World,
    generations: Arc<Generations>,
    new: Arc<Gated>,
    everything: Everything,
    folder: PathBuf,
    _data: TempDir,
}

impl Move {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("index");
        let old = Arc::new(HashEmbedder::new(256));
        let new = Arc::new(Gated {
            inner: HashEmbedder::new(128),
            gate: Semaphore::new(0),
        });
        let index = LanceIndex::open(folder.clone(), 256, old.id()).await.unwrap();
        let serving = Generation {
            embedder: old,
            index: Arc::new(index),
        };
        let founder = Folder {
            folder: folder.clone(),
            embedder: Arc::clone(&new),
        };
        let configured = Arc::clone(&new) as Arc<dyn Embedder>;
        let generations = Arc::new(Generations::new(serving).with_founder(configured, Arc::new(founder)));
        let mut world = World::over(Arc::clone(&generations), None);
        // While the gate is shut nothing is caught up with.
        world.options.catch_up = Duration::from_millis(50);
        let database = SeaJournal::open(&data.path().join("facts.db")).await.unwrap();
        let everything = Everything {
            journal: Arc::clone(&world.journal),
            facts: Arc::new(database.facts(Arc::new(habit_memory::clock::SystemClock))),
        };
        Self {
            world,
            generations,
            new,
            everything,
            folder,
            _data: data,
        }
    }

    async fn indexed(&self) {
        assert!(self.world.indexer.caught_up(Duration::from_mins(1)).await);
    }

    async fn until_served(&self) {
        until(
            || self.generations.being_made().is_none(),
            "the new index does not serve",
        )
        .await;
    }

    /// The tables that there are.
    fn tables(&self) -> Vec<String> {
        tables(&self.folder)
    }
}

fn tables(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".lance")).collect();
    names.sort();
    names
}

async fn finds(world: &World, question: &str, turn: Uuid) -> bool {
    let found = world.recall(question).await;
    found.iter().any(|passage| passage.citation.id == turn.to_string())
}

async fn until_found(world: &World, question: &str, turn: Uuid) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !finds(world, question, turn).await {
        assert!(Instant::now() < deadline, "what is new is not found");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_old_index_answers_until_the_new_one_has_everything() {
    let all = Move::new().await;
    let mut said = Vec::new();
    for n in 0..200 {
        let text = format!("The key number {n} opens the shed called {}.", name(n));
        said.push(all.world.say("a talk", &text, "Noted.").await);
    }
    all.indexed().await;
    let marked = all.generations.renew(&all.everything).await.unwrap();
    assert_eq!(marked, 200);
    all.world.indexer.wake();
    assert_eq!(all.generations.being_made().as_deref(), Some("hash@128"));

    // Nothing of the new one is there yet, and nobody notices.
    for n in [0, 77, 199] {
        assert!(
            finds(&all.world, &format!("Which key opens {}?", name(n)), said[n]).await,
            "{n}"
        );
    }
    // What is said meanwhile is found before all that was said before is indexed anew, …
    let late = all
        .world
        .say("a talk", "The lighthouse is painted violet.", "Noted.")
        .await;
    all.new.gate.add_permits(2);
    until_found(&all.world, "Which colour is the lighthouse painted?", late).await;
    assert!(all.generations.being_made().is_some());
    // … and what is deleted is gone from both.
    let scope = &all.world.scope;
    assert!(all.everything.journal.delete_turn(scope, said[199]).await.unwrap());
    let removal = Removal::Parents {
        team: scope.team().to_owned(),
        parents: vec![said[199]],
    };
    all.generations.remove(removal).await.unwrap();

    all.new.gate.add_permits(10_000);
    all.until_served().await;
    assert_eq!(all.generations.len().await.unwrap(), 200);
    for n in [0, 77, 198] {
        assert!(
            finds(&all.world, &format!("Which key opens {}?", name(n)), said[n]).await,
            "{n}"
        );
    }
    assert!(finds(&all.world, "Which colour is the lighthouse painted?", late).await);
    assert!(!finds(&all.world, &format!("Which key opens {}?", name(199)), said[199]).await);
    let after = all
        .world
        .say("a talk", "The harbour master is called Ines.", "Noted.")
        .await;
    until_found(&all.world, "What is the harbour master called?", after).await;

    // The next start opens the new one, and the old one's files are gone.
    let deadline = Instant::now() + Duration::from_mins(1);
    while all.tables() != ["entries-1.lance"] {
        assert!(Instant::now() < deadline, "{:?}", all.tables());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let made = LanceIndex::made(all.folder.clone()).await.unwrap();
    let (embedder, dimensions) = ("hash@128".to_owned(), 128);
    assert_eq!(made, Some(Made { embedder, dimensions }));
    assert!(
        LanceIndex::next(all.folder.clone(), 128, "hash@128")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn what_was_begun_goes_on_and_what_was_given_up_leaves_nothing() {
    let all = Move::new().await;
    for n in 0..10 {
        all.world
            .say("a talk", &format!("Shed {n} is {}.", name(n)), "Noted.")
            .await;
    }
    all.indexed().await;
    all.generations.renew(&all.everything).await.unwrap();
    // As the process ends here.
    all.world.stop.cancel();
    assert_eq!(all.tables(), ["entries-1.lance", "entries.lance"]);
    let next = async |id: &str| LanceIndex::next(all.folder.clone(), 128, id).await.unwrap();
    assert!(next("hash@128").await.is_some());
    assert!(next("another@1").await.is_none(), "it is for another embedder");

    // The next start is configured as the first one.
    let old = LanceIndex::open(all.folder.clone(), 256, "hash@256").await.unwrap();
    assert_eq!(old.len().await.unwrap(), 10);
    old.serve().await.unwrap();
    old.remove_others().await.unwrap();
    assert_eq!(all.tables(), ["entries.lance"]);
    assert!(next("hash@128").await.is_none());
}

#[tokio::test]
async fn one_that_was_not_begun_is_not_relied_on() {
    let all = Move::new().await;
    all.world.say("a talk", "The shed is blue.", "Noted.").await;
    all.indexed().await;
    // Made, but nothing was marked yet: as if the process had ended between the two.
    let made = LanceIndex::beside(all.folder.clone(), 128, "hash@128").await.unwrap();
    assert_eq!(made.len().await.unwrap(), 0);
    assert!(
        LanceIndex::next(all.folder.clone(), 128, "hash@128")
            .await
            .unwrap()
            .is_none()
    );
    drop(made);
    // Another one takes its place.
    let again = LanceIndex::beside(all.folder.clone(), 64, "hash@64").await.unwrap();
    again.begun().await.unwrap();
    assert_eq!(all.tables(), ["entries-1.lance", "entries.lance"]);
    assert!(
        LanceIndex::next(all.folder.clone(), 64, "hash@64")
            .await
            .unwrap()
            .is_some()
    );
}

/// Makes indexes in memory.
struct InMemory(Arc<Gated>);

struct Nowhere;

#[async_trait]
impl Storage for Nowhere {
    async fn begun(&self) -> Result<(), MemoryError> {
        Ok(())
    }

    async fn serve(&self) -> Result<(), MemoryError> {
        Ok(())
    }

    async fn remove_others(&self) -> Result<(), MemoryError> {
        Ok(())
    }
}

#[async_trait]
impl Founder for InMemory {
    async fn found(&self) -> Result<Next, MemoryError> {
        let embedder = Arc::clone(&self.0);
        let index = Arc::new(RamIndex::new(embedder.dimensions()));
        Ok(Next {
            generation: Arc::new(Generation { embedder, index }),
            storage: Arc::new(Nowhere),
        })
    }
}

/// Whenever it is begun, also in the moment in which the indexer saw that nothing is left to do, an index does not serve
/// before it has everything.
#[tokio::test]
async fn one_that_was_just_begun_is_not_taken_for_a_whole_one() {
    const TURNS: u64 = 3;
    let embedder = Arc::new(Gated {
        inner: HashEmbedder::new(64),
        gate: Semaphore::new(100),
    });
    let founder = InMemory(Arc::clone(&embedder));
    let Next { generation, .. } = founder.found().await.unwrap();
    let serving = Generation {
        embedder: Arc::clone(&generation.embedder),
        index: Arc::clone(&generation.index),
    };
    let generations = Generations::new(serving).with_founder(Arc::clone(&embedder) as _, Arc::new(founder));
    let generations = Arc::new(generations);
    let data = tempfile::tempdir().unwrap();
    let journal = Arc::new(SeaJournal::open(&data.path().join("habit.db")).await.unwrap());
    let facts: Arc<dyn Facts> = Arc::new(journal.facts(Arc::new(SystemClock)));
    let everything = Everything {
        journal: Arc::clone(&journal) as Arc<dyn Journal>,
        facts: Arc::clone(&facts),
    };
    let (journal, stop) = (journal as Arc<dyn Journal>, CancellationToken::new());
    let known = (facts, false);
    let (indexer, _) = Indexer::spawn_with_facts(Arc::clone(&journal), Arc::clone(&generations), known, stop.clone());
    for number in 0..TURNS {
        journal.record(turn(&format!("Shed {number} is blue."))).await.unwrap();
    }
    indexer.wake();
    assert!(indexer.caught_up(Duration::from_mins(1)).await);
    for round in 0..60 {
        let spare = embedder.gate.available_permits();
        embedder.gate.forget_permits(spare);
        indexer.wake();
        // The indexer looks again, and gets a little further in each round.
        for _ in 0..round * 4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(generations.renew(&everything).await.unwrap(), TURNS, "round {round}");
        indexer.wake();
        // Nothing can be embedded now: it must not serve.
        until(|| indexer.lag() == TURNS, "the indexer does not look").await;
        assert!(
            generations.being_made().is_some(),
            "an empty index serves, round {round}"
        );
        embedder.gate.add_permits(100);
        until(|| generations.being_made().is_none(), "the new index does not serve").await;
        assert_eq!(generations.len().await.unwrap(), TURNS, "round {round}");
        assert!(indexer.caught_up(Duration::from_mins(1)).await);
    }
    stop.cancel();
}

async fn until(done: impl Fn() -> bool, otherwise: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !done() {
        assert!(Instant::now() < deadline, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn turn(prompt: &str) -> Interaction {
    let scope = user("red", "ann").in_conversation("a talk");
    let messages = vec![Message::new(Role::User, prompt)];
    Interaction::completed(&scope, 1_795_219_200_000, messages, "Noted.")
}

/// A name that shares no word with the others'.
fn name(n: usize) -> String {
    let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap());
    format!("{}{}zum{}", letter(n / 26), letter(n), letter(n * 7))
}
