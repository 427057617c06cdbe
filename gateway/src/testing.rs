//! A whole application from doubles, for tests: a scripted engine, memory in RAM, keys in a temporary SQLite file, and
//! the real router.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "test code, though not in a test module: what can't go wrong in a test is unwrapped"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use habit_engine::embedder::HashEmbedder;
use habit_engine::fleet::Fleet;
use habit_engine::scripted::Scripted;
use habit_engine::{Embedder, Engine};
use habit_learning::feedback::sea::SeaLedger;
use habit_learning::rollout::Rollouts;
use habit_memory::clock::{Clock, SystemClock};
use habit_memory::files;
use habit_memory::generations::{Generation, Generations};
use habit_memory::index::Index;
use habit_memory::journal::Journal;
use habit_memory::objects::Objects;
use habit_memory::store::lance::LanceIndex;
use habit_memory::store::ram::RamJournal;
use habit_memory::store::ram_index::RamIndex;
use habit_memory::store::ram_objects::RamObjects;
use habit_memory::store::sea::SeaJournal;
use habit_memory::store::shelves::Shelves;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use uuid::Uuid;

use crate::app::App;
use crate::config::{self, Config};
use crate::engines::Engines;
use crate::keys::{KeyStore, NewKey};
use crate::learner::Workshop;
use crate::lifecycle::Lifecycle;
use crate::loader::Loader;
use crate::routes;
use crate::wiring::upstream::member;
use crate::wiring::{Backends, Remembering, assemble};

/// What a [`TestApp`] is made of; each part may be replaced before [`TestAppBuilder::build`].
pub struct TestAppBuilder {
    config: Config,
    fleet: Arc<Fleet>,
    loader: Option<Arc<Loader>>,
    journal: Arc<dyn Journal>,
    index: Option<Arc<dyn Index>>,
    embedder: Arc<dyn Embedder>,
    clock: Arc<dyn Clock>,
    workshop: Option<Arc<dyn Workshop>>,
    memory: bool,
    auth: bool,
    on_disk: bool,
}

/// An application over doubles.
pub struct TestApp {
    /// The application.
    pub app: App,
    /// Its router, with the whole HTTP stack.
    pub router: Router,
    /// Its keys, also with `without_auth`.
    pub keys: KeyStore,
    dir: TempDir,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// OpenAI's error code.
    #[must_use]
    pub fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Default for TestAppBuilder {
    fn default() -> Self {
        let mut config = Config::default();
        // Clocks of tests jump, and nothing is to be done of itself in the middle of one.
        config.downtime.on = false;
        Self {
            config,
            fleet: Arc::new(Fleet::new(vec![Arc::new(Scripted::default())])),
            loader: None,
            journal: Arc::new(RamJournal::default()),
            index: None,
            embedder: Arc::new(HashEmbedder::new(256)),
            clock: Arc::new(SystemClock),
            workshop: None,
            memory: true,
            auth: true,
            on_disk: false,
        }
    }
}

impl TestAppBuilder {
    /// Changes the configuration.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// A loader over the engine.
    #[must_use]
    pub fn loader(self, loader: Loader) -> Self {
        let loader = Some(Arc::new(loader));
        Self { loader, ..self }
    }

    /// Another engine.
    #[must_use]
    pub fn engine(self, engine: Arc<dyn Engine>) -> Self {
        self.fleet(Arc::new(Fleet::new(vec![engine])))
    }

    /// Several engines. The upstreams of the configuration come to them.
    #[must_use]
    pub fn fleet(self, fleet: Arc<Fleet>) -> Self {
        Self { fleet, ..self }
    }

    /// Another journal.
    #[must_use]
    pub fn journal(self, journal: Arc<dyn Journal>) -> Self {
        Self { journal, ..self }
    }

    /// Another index.
    #[must_use]
    pub fn index(self, index: Arc<dyn Index>) -> Self {
        Self {
            index: Some(index),
            ..self
        }
    }

    /// Another embedder.
    #[must_use]
    pub fn embedder(self, embedder: Arc<dyn Embedder>) -> Self {
        Self { embedder, ..self }
    }

    /// Another clock; keys go by the machine's.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// What learning works with.
    #[must_use]
    pub fn workshop(self, workshop: Arc<dyn Workshop>) -> Self {
        let workshop = Some(workshop);
        Self { workshop, ..self }
    }

    /// As `habit worker`.
    #[must_use]
    pub fn without_memory(self) -> Self {
        Self { memory: false, ..self }
    }

    /// As `--no-auth`.
    #[must_use]
    pub fn without_auth(self) -> Self {
        Self { auth: false, ..self }
    }

    /// Memory in a folder, on the stores that are used outside of tests.
    #[must_use]
    pub fn on_disk(self) -> Self {
        Self { on_disk: true, ..self }
    }

    /// Puts it together.
    pub async fn build(self) -> TestApp {
        let dir = TempDir::new();
        let database = SeaJournal::open(&dir.0.join("habit.db")).await.unwrap();
        let keys = KeyStore::new(database.database(), Arc::new(SystemClock));
        let embedder = &self.embedder;
        let index = match self.index {
            Some(index) => index,
            None if self.on_disk => {
                let folder = config::index_path(&dir.0);
                let index = LanceIndex::open(folder, embedder.dimensions(), embedder.id())
                    .await
                    .unwrap();
                Arc::new(Shelves::new(Arc::new(index), embedder.dimensions(), 1 << 24))
            }
            None => Arc::new(RamIndex::new(embedder.dimensions())),
        };
        let objects: Arc<dyn Objects> = if self.on_disk {
            Arc::new(database.objects(Arc::clone(&self.clock)))
        } else {
            Arc::new(RamObjects::new(Arc::clone(&self.clock)))
        };
        let rollouts = Rollouts::new(database.database(), Arc::clone(&self.clock));
        rollouts.refresh().await.unwrap();
        let memory = Remembering {
            files: files::Bytes::open(config::files_path(self.config.data.dir.as_deref().unwrap_or(&dir.0)))
                .await
                .unwrap(),
            facts: Arc::new(database.facts(Arc::clone(&self.clock))),
            consents: Arc::new(database.consents()),
            ledger: Arc::new(SeaLedger::new(database.guest())),
            rollouts,
            runs: database.runs(),
            removed_elsewhere: Arc::default(),
            journal: if self.on_disk { Arc::new(database) } else { self.journal },
            index: Arc::new(Generations::new(Generation {
                embedder: Arc::clone(embedder),
                index,
            })),
            objects,
            embedder: self.embedder,
        };
        let backends = Backends {
            engines: Arc::new(Engines::new(self.fleet, member)),
            loader: self.loader,
            memory: self.memory.then_some(memory),
            keys: self.auth.then(|| keys.clone()),
            clock: self.clock,
            workshop: self.workshop,
            lifecycle: Lifecycle::new(Duration::from_secs(5)),
        };
        let mut config = self.config;
        config.data.dir.get_or_insert_with(|| dir.0.clone());
        if !config.upstreams.is_empty() {
            backends.engines.apply(&config).await.unwrap();
        }
        let app = assemble(config, backends);
        TestApp {
            router: routes::router(app.clone()),
            app,
            keys,
            dir,
        }
    }
}

impl TestApp {
    /// The folder of its data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.dir.0
    }

    /// What may be changed before it is built.
    #[must_use]
    pub fn builder() -> TestAppBuilder {
        TestAppBuilder::default()
    }

    /// Doubles all over.
    pub async fn start() -> Self {
        Self::builder().build().await
    }

    /// A new key.
    pub async fn key(&self, team: &str, user: &str) -> String {
        self.make_key(team, user, false).await
    }

    /// A new admin key.
    pub async fn admin_key(&self, team: &str, user: &str) -> String {
        self.make_key(team, user, true).await
    }

    async fn make_key(&self, team: &str, user: &str, admin: bool) -> String {
        let new = NewKey {
            team: team.to_owned(),
            user: user.to_owned(),
            admin,
            ..NewKey::default()
        };
        self.keys.create(new).await.unwrap().key
    }

    /// Sends a request through the router; the reply's body is still a stream.
    pub async fn send(&self, request: Request<Body>) -> Response {
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Sends a request and reads all of the reply.
    pub async fn call(&self, request: Request<Body>) -> Reply {
        let (parts, body) = self.send(request).await.into_parts();
        let body = body
            .collect()
            .await
            .map(|body| body.to_bytes().to_vec())
            .unwrap_or_default();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// A request without a body.
    pub async fn get(&self, path: &str, key: &str) -> Reply {
        self.call(request(Method::GET, path, key).body(Body::empty()).unwrap())
            .await
    }

    /// A deletion.
    pub async fn delete(&self, path: &str, key: &str) -> Reply {
        self.call(request(Method::DELETE, path, key).body(Body::empty()).unwrap())
            .await
    }

    /// A request with JSON.
    pub async fn post(&self, path: &str, key: &str, body: &Value) -> Reply {
        let request = request(Method::POST, path, key).header("content-type", "application/json");
        self.call(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// An upload of files, with form fields.
    pub async fn upload(&self, key: &str, files: &[(&str, &[u8])], fields: &[(&str, &str)]) -> Reply {
        self.upload_to("/v1/documents", key, files, fields).await
    }

    /// An upload to this path.
    pub async fn upload_to(&self, path: &str, key: &str, files: &[(&str, &[u8])], fields: &[(&str, &str)]) -> Reply {
        const BOUNDARY: &str = "habit-test-boundary";
        let mut body = Vec::new();
        for (name, content) in files {
            let head = format!(
                "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
                 content-type: application/octet-stream\r\n\r\n"
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        for (name, value) in fields {
            let part = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(part.as_bytes());
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = request(Method::POST, path, key).header("content-type", kind);
        self.call(request.body(Body::from(body)).unwrap()).await
    }

    /// Waits until everything recorded is indexed.
    pub async fn indexed(&self) {
        let memory = self.app.memory.as_ref().unwrap();
        memory.indexer.wake();
        assert!(
            memory.indexer.caught_up(Duration::from_secs(20)).await,
            "the indexer did not catch up"
        );
    }
}

/// A request that is still to get its body; an empty key sends none.
#[must_use]
pub fn request(method: Method, path: &str, key: &str) -> http::request::Builder {
    let request = Request::builder().method(method).uri(path);
    if key.is_empty() {
        request
    } else {
        request.header("authorization", format!("Bearer {key}"))
    }
}

/// A directory that goes with the test.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("habit-test-{}", Uuid::now_v7()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
