//! A journal, an index, an embedder and an indexer, and short ways to speak to them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use habit_engine::embedder::{HashEmbedder, MiniLm};
use habit_engine::models::{DEFAULT_EMBEDDER, Silent, Store, Weights};
use habit_engine::{Embedder, Message, Role};
use habit_memory::Scope;
use habit_memory::context::{ContextSource, Options, Recalled, Request, inference, persistent};
use habit_memory::documents::{Cut, Document, Place, extract, split};
use habit_memory::generations::{Generation, Generations};
use habit_memory::index::Index;
use habit_memory::indexer::Indexer;
use habit_memory::interaction::Interaction;
use habit_memory::journal::Journal;
use habit_memory::overflow::Gone;
use habit_memory::passage::Passage;
use habit_memory::store::lance::LanceIndex;
use habit_memory::store::ram::RamJournal;
use habit_memory::store::ram_index::RamIndex;
use habit_memory::store::shelves::{Lexicon, Shelves};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub struct World {
    pub scope: Scope,
    pub journal: Arc<dyn Journal>,
    pub index: Arc<dyn Index>,
    pub indexer: Indexer,
    embedder: Arc<dyn Embedder>,
    pub options: Options,
    now: AtomicI64,
    pub stop: CancellationToken,
    _dir: Option<tempfile::TempDir>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn user(team: &str, user: &str) -> Scope {
    Scope::new(team, user).unwrap()
}

/// The embedder's directory: `HABIT_TEST_EMBEDDER`, or else the default embedder of the model store in
/// `HABIT_TEST_MODELS`, which fetches it the first time.
async fn embedder_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("HABIT_TEST_EMBEDDER") {
        return PathBuf::from(dir);
    }
    let models = std::env::var_os("HABIT_TEST_MODELS").map_or_else(
        || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("models"),
        PathBuf::from,
    );
    let model = Store::open(models)
        .unwrap()
        .resolve(DEFAULT_EMBEDDER, Arc::new(Silent))
        .await
        .unwrap();
    match model.weights {
        Weights::Safetensors(dir) => dir,
        Weights::Gguf(file) => panic!("an embedder as GGUF: {}", file.display()),
    }
}

impl World {
    /// Everything in memory; texts that share words are near.
    pub fn doubles() -> Self {
        let embedder = Arc::new(HashEmbedder::new(256));
        let index = Arc::new(RamIndex::new(embedder.dimensions()));
        Self::of(embedder, index, None)
    }

    /// The real embedder over the real index.
    pub async fn real() -> Self {
        let embedder = Arc::new(MiniLm::load(&embedder_dir().await, 0).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let index = LanceIndex::open(dir.path(), embedder.dimensions(), embedder.id())
            .await
            .unwrap();
        Self::of(embedder, Arc::new(index), Some(dir))
    }

    /// The same as it serves: held in memory, with words that are alike.
    pub async fn held() -> Self {
        const ROOM: usize = 1 << 26;
        let embedder: Arc<dyn Embedder> = Arc::new(MiniLm::load(&embedder_dir().await, 0).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let index = LanceIndex::open(dir.path(), embedder.dimensions(), embedder.id())
            .await
            .unwrap();
        let shelves = Shelves::new(Arc::new(index), embedder.dimensions(), ROOM);
        let shelves = shelves.with_lexicon(Lexicon::new(Arc::clone(&embedder)));
        Self::of(embedder, Arc::new(shelves), Some(dir))
    }

    fn of(embedder: Arc<dyn Embedder>, index: Arc<dyn Index>, dir: Option<tempfile::TempDir>) -> Self {
        Self::over(Arc::new(Generations::new(Generation { embedder, index })), dir)
    }

    /// Over these, as they are.
    pub fn over(generations: Arc<Generations>, dir: Option<tempfile::TempDir>) -> Self {
        let journal: Arc<dyn Journal> = Arc::new(RamJournal::default());
        let stop = CancellationToken::new();
        let (indexer, _) = Indexer::spawn(Arc::clone(&journal), Arc::clone(&generations), stop.clone());
        // Slow machines must not fail these tests: what the bound is for is tested elsewhere.
        let options = Options {
            catch_up: std::time::Duration::from_mins(1),
            ..Options::default()
        };
        let now = AtomicI64::new(1_795_219_200_000); // 2026-11-21
        Self {
            scope: user("red", "ann"),
            journal,
            index: Arc::clone(&generations) as Arc<dyn Index>,
            indexer,
            embedder: generations,
            options,
            now,
            stop,
            _dir: dir,
        }
    }

    pub async fn say(&self, conversation: &str, prompt: &str, reply: &str) -> Uuid {
        self.record(conversation, prompt, reply, true).await
    }

    pub async fn say_unremembered(&self, conversation: &str, prompt: &str) -> Uuid {
        self.record(conversation, prompt, "All right.", false).await
    }

    async fn record(&self, conversation: &str, prompt: &str, reply: &str, remember: bool) -> Uuid {
        let scope = self.scope.in_conversation(conversation);
        let asked_at = self.now.fetch_add(1_000, Ordering::Relaxed);
        let turn = Interaction {
            remember,
            ..Interaction::completed(&scope, asked_at, vec![Message::new(Role::User, prompt)], reply)
        };
        let id = turn.id;
        self.journal.record(turn).await.unwrap();
        self.indexer.wake();
        id
    }

    pub async fn ingest(&self, place: Place, conversation: Option<&str>, name: &str, text: &str) -> Uuid {
        let extracted = extract(name, text.as_bytes()).unwrap();
        let chunks = split(&extracted, Cut::of(180), &|text: &str| text.len().div_ceil(4));
        let scope = conversation.map_or(self.scope.clone(), |id| self.scope.in_conversation(id));
        let document = Document {
            id: Uuid::now_v7(),
            scope,
            place,
            name: name.to_owned(),
            media_type: extracted.media_type,
            bytes: text.len() as u64,
            sha256: String::new(),
            chunks: u32::try_from(chunks.len()).unwrap(),
            ingested_at: self.now.load(Ordering::Relaxed),
        };
        let id = document.id;
        self.journal.add_document(document, chunks).await.unwrap();
        self.indexer.wake();
        id
    }

    pub async fn request(&self, scope: &Scope, question: &str) -> Request {
        let vector = self.embedder.embed(vec![question.to_owned()]).await.unwrap().remove(0);
        Request {
            scope: scope.clone(),
            messages: Arc::new(vec![Message::new(Role::User, question)]),
            query: question.to_owned(),
            asked_at: self.now.load(Ordering::Relaxed),
            vector: vector.into(),
            limit: 5,
            gone: Gone::default(),
        }
    }

    pub async fn recall(&self, question: &str) -> Vec<Passage> {
        let request = self.request(&self.scope.in_conversation("a new talk"), question).await;
        self.recalled().passages(&request).await.unwrap()
    }

    pub fn recalled(&self) -> Recalled {
        let (journal, index) = (Arc::clone(&self.journal), Arc::clone(&self.index));
        Recalled::new(journal, index, Some(self.indexer.clone()), self.options.clone())
    }

    pub fn persistent(&self) -> Arc<dyn ContextSource> {
        let (journal, index) = (Arc::clone(&self.journal), Arc::clone(&self.index));
        persistent(journal, index, Some(self.indexer.clone()), self.options.clone())
    }

    pub fn inference(&self) -> Arc<dyn ContextSource> {
        let (journal, index) = (Arc::clone(&self.journal), Arc::clone(&self.index));
        inference(journal, index, Some(self.indexer.clone()), self.options.clone())
    }
}
