//! What is asked of memory, and what becomes of the answer.

use std::sync::Mutex;
use std::time::Instant;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use habit_engine::{ChatRequest, EngineError, Message};
use habit_memory::context::ContextSource;
use habit_memory::passage::{Citation, Passage, SourceKind};
use habit_memory::{MemoryError, Scope};
use tower::{Layer, ServiceExt, service_fn};
use uuid::Uuid;

use super::*;
use crate::turn::{MemoryMode, Reply, TurnService};

/// Answers with one passage and keeps what it was asked.
struct Source {
    answer: Answer,
    asked: Mutex<Vec<Request>>,
}

#[derive(Clone, Copy)]
enum Answer {
    Passage,
    Error,
    Never,
}

#[async_trait]
impl ContextSource for Source {
    fn kind(&self) -> SourceKind {
        SourceKind::Recalled
    }

    async fn passages(&self, request: &Request) -> Result<Vec<Passage>, MemoryError> {
        self.asked.lock().unwrap().push(request.clone());
        match self.answer {
            Answer::Passage => Ok(vec![passage()]),
            Answer::Error => Err(MemoryError::Storage("the index is gone".into())),
            Answer::Never => std::future::pending().await,
        }
    }
}

fn passage() -> Passage {
    let citation = Citation {
        id: "x".into(),
        label: "2026-11-21".into(),
        at: 0,
        ordinal: 0,
    };
    Passage {
        text: "a dog".into(),
        source: SourceKind::Recalled,
        score: 0.5,
        tokens: 0,
        citation,
        returned: false,
    }
}

/// Gives a vector, an error, or nothing ever.
struct Vectors(Answer);

#[async_trait]
impl Embedder for Vectors {
    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EngineError> {
        match self.0 {
            Answer::Passage => Ok(texts.iter().map(|_| vec![1.0]).collect()),
            Answer::Error => Err(EngineError::Unavailable("no embedder".into())),
            Answer::Never => std::future::pending().await,
        }
    }
    fn dimensions(&self) -> usize {
        1
    }
    fn id(&self) -> &'static str {
        "vectors"
    }
}

struct Bench {
    source: Arc<Source>,
    parts: ContextParts,
}

fn bench(source: Answer, embedder: Answer) -> Bench {
    let source = Arc::new(Source {
        answer: source,
        asked: Mutex::default(),
    });
    let slot = Slot {
        source: Arc::clone(&source) as _,
        chunks: 3,
        deadline: Duration::from_millis(20),
    };
    let off = Slot {
        chunks: 0,
        ..slot.clone()
    };
    let parts = ContextParts {
        slots: vec![slot, off].into(),
        embedder: Arc::new(Vectors(embedder)),
        vector_deadline: Duration::from_millis(20),
        patience: Duration::from_millis(20),
        may_leave: Arc::new(|_| true),
        knobs: None,
    };
    Bench { source, parts }
}

impl Bench {
    /// Runs a turn; gives the passages that the layer below saw, and the trace.
    async fn run(&self, turn: Turn) -> (Vec<Passage>, Trace) {
        let seen = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&seen);
        let inner = service_fn(move |turn: Turn| {
            *keep.lock().unwrap() = Some(turn.passages);
            std::future::ready(Ok(Reply {
                deltas: stream::empty().boxed(),
                trace: Trace::default(),
            }))
        });
        let reply = TurnService::new(layer(self.parts.clone()).layer(inner))
            .oneshot(turn)
            .await
            .unwrap();
        let passages = seen.lock().unwrap().take().unwrap();
        (passages, reply.trace)
    }

    fn asked(&self) -> Vec<Request> {
        self.source.asked.lock().unwrap().clone()
    }
}

fn ask(text: &str) -> Turn {
    let messages = vec![Message::new(Role::User, text), Message::new(Role::Assistant, "hm")];
    Turn {
        id: Uuid::now_v7(),
        scope: Scope::new("team", "me").unwrap().in_conversation("c"),
        request: ChatRequest {
            messages,
            ..ChatRequest::default()
        },
        memory: MemoryMode::On,
        store: true,
        asked_at: 0,
        overflow: crate::turn::overflow::Overflow::Configured,
        gone: habit_memory::overflow::Gone::default(),
        arrived: Instant::now(),
        sources: Vec::new(),
        passages: Vec::new(),
        meter: None,
    }
}

#[tokio::test]
async fn finds_passages_and_reports_them() {
    let bench = bench(Answer::Passage, Answer::Passage);
    let (passages, trace) = bench.run(ask(" What is my dog called? ")).await;
    assert_eq!(passages, [passage()]);
    let [report] = trace.sources.as_slice() else {
        panic!("{:?}", trace.sources)
    };
    assert_eq!((report.found, &report.problem), (1, &None));
    let asked = bench.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].query.as_str(), asked[0].limit), ("What is my dog called?", 3));
    assert_eq!(asked[0].vector.get().await.as_deref(), Some(&vec![1.0]));
    assert_eq!((asked[0].scope.conversation(), asked[0].messages.len()), (Some("c"), 2));
}

#[tokio::test]
async fn asks_nothing_when_it_may_not_read() {
    for memory in [MemoryMode::Off, MemoryMode::Write] {
        let bench = bench(Answer::Passage, Answer::Passage);
        let (passages, trace) = bench.run(Turn { memory, ..ask("x") }).await;
        assert!(
            passages.is_empty() && trace.sources.is_empty() && bench.asked().is_empty(),
            "{memory:?}"
        );
    }
}

#[tokio::test]
async fn asks_nothing_when_nothing_is_asked() {
    let bench = bench(Answer::Passage, Answer::Passage);
    bench.run(ask("  ")).await;
    let mut silent = ask("x");
    silent.request.messages = vec![Message::new(Role::System, "be kind")];
    bench.run(silent).await;
    assert!(bench.asked().is_empty());
}

#[tokio::test]
async fn trouble_with_a_source_is_reported_and_never_fails_the_turn() {
    for (answer, problem) in [
        (Answer::Error, "the index is gone"),
        (Answer::Never, "no answer within"),
    ] {
        let (passages, trace) = bench(answer, Answer::Passage).run(ask("x")).await;
        assert!(passages.is_empty());
        assert!(trace.sources[0].problem.as_ref().unwrap().contains(problem));
    }
}

#[tokio::test]
async fn without_a_vector_words_are_enough() {
    for embedder in [Answer::Error, Answer::Never] {
        let bench = bench(Answer::Passage, embedder);
        let (passages, _) = bench.run(ask("x")).await;
        assert_eq!((passages.len(), bench.asked()[0].vector.get().await), (1, None));
    }
}

#[tokio::test]
async fn memory_stays_at_home_unless_it_may_leave() {
    let mut bench = bench(Answer::Passage, Answer::Passage);
    bench.parts.may_leave = Arc::new(|_| false);
    let (passages, trace) = bench.run(ask("x")).await;
    assert!(passages.is_empty() && bench.asked().is_empty());
    assert_eq!(trace.sources.len(), 1);
    assert!(trace.sources[0].problem.as_ref().unwrap().contains("memory = true"));
}

#[test]
fn long_questions_are_cut_between_characters() {
    assert_eq!(cut("é"), "é");
    let long: String = "é".repeat(QUERY_CHARS) + &"🐕".repeat(QUERY_CHARS);
    let expected = format!("{} {}", "é".repeat(QUERY_CHARS / 2), "🐕".repeat(QUERY_CHARS / 2));
    assert_eq!(cut(&long), expected);
}
