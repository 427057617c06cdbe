//! What reaches the layer below. How passages are fitted is tested where it is done, in `habit_memory::assembly`.

use std::sync::Mutex;
use std::time::Instant;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use habit_engine::{ChatRequest, DeltaStream, EngineError, Health, Message, ModelInfo, Role, TokenCounter};
use habit_memory::Scope;
use habit_memory::passage::{Citation, SourceKind};
use tower::{Layer, ServiceExt, service_fn};
use uuid::Uuid;

use super::*;
use crate::turn::{MemoryMode, Reply, TurnService};

/// Counts four bytes as a token, in a window of so many tokens.
#[derive(Clone)]
struct Window(usize);

impl TokenCounter for Window {
    fn count(&self, text: &str) -> usize {
        text.len().div_ceil(4)
    }
    fn count_chat(&self, messages: &[Message]) -> Result<usize, EngineError> {
        Ok(messages.iter().map(|message| self.count(&message.text()) + 1).sum())
    }
    fn context_window(&self) -> usize {
        self.0
    }
    fn is_exact(&self) -> bool {
        true
    }
}

#[async_trait]
impl Engine for Window {
    async fn chat(&self, _: ChatRequest) -> Result<DeltaStream, EngineError> {
        Err(EngineError::Unavailable("only counts".into()))
    }
    fn models(&self) -> Vec<ModelInfo> {
        vec![ModelInfo {
            id: "m".into(),
            context_window: Some(self.0),
            owned_by: "habit".into(),
            created: 0,
        }]
    }
    fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>> {
        (model == "m").then(|| Arc::new(self.clone()) as _)
    }
    async fn health(&self) -> Health {
        Health::Ready
    }
}

fn passage(text: &str) -> Passage {
    let citation = Citation {
        id: "x".into(),
        label: "2026-11-21".into(),
        at: 0,
        ordinal: 0,
    };
    Passage {
        text: text.into(),
        source: SourceKind::Recalled,
        score: 0.5,
        tokens: 0,
        citation,
        returned: false,
    }
}

fn ask(model: &str, passages: Vec<Passage>) -> Turn {
    let messages = vec![
        Message::new(Role::System, "Be kind."),
        Message::new(Role::User, "What is my dog called?"),
    ];
    Turn {
        id: Uuid::now_v7(),
        scope: Scope::new("team", "me").unwrap(),
        request: ChatRequest {
            model: model.into(),
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
        passages,
        meter: None,
    }
}

/// The messages that the layer below saw, and the trace.
async fn run(window: usize, turn: Turn) -> (Vec<Message>, Trace) {
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let inner = service_fn(move |turn: Turn| {
        *keep.lock().unwrap() = Some(turn.request.messages);
        std::future::ready(Ok(Reply {
            deltas: stream::empty().boxed(),
            trace: Trace::default(),
        }))
    });
    let parts = AssembleParts {
        engine: Arc::new(Window(window)),
        memory_tokens: 500,
        knobs: None,
    };
    let reply = TurnService::new(layer(parts).layer(inner)).oneshot(turn).await.unwrap();
    let messages = seen.lock().unwrap().take().unwrap();
    (messages, reply.trace)
}

#[tokio::test]
async fn passages_reach_the_prompt_and_the_trace() {
    for model in ["m", "", "default"] {
        let turn = ask(model, vec![passage("My dog is called Biscuit.")]);
        let (messages, trace) = run(4096, turn).await;
        assert_eq!((messages.len(), messages[0].text().as_str()), (2, "Be kind."));
        let prompt = messages[1].text();
        assert!(
            prompt.contains("Biscuit") && prompt.contains("What is my dog called?"),
            "{prompt}"
        );
        assert_eq!(trace.injected.len(), 1);
        assert!(trace.injected[0].tokens > 0);
    }
}

#[tokio::test]
async fn without_passages_messages_are_untouched() {
    let turn = ask("m", Vec::new());
    let before = turn.request.messages.clone();
    let (messages, trace) = run(4096, turn).await;
    assert_eq!((messages, trace.injected), (before, Vec::new()));
}

#[tokio::test]
async fn memory_gives_way_to_what_the_client_sent() {
    let before = ask("m", Vec::new()).request.messages;
    // A window that the client's own messages fill, a reply that fills it, and a model that is not known here.
    let tight = ask("m", vec![passage("My dog is called Biscuit.")]);
    let mut long = ask("m", vec![passage("My dog is called Biscuit.")]);
    long.request.max_tokens = Some(4096);
    let unknown = ask("other", vec![passage("My dog is called Biscuit.")]);
    for (window, turn) in [(8, tight), (4096, long), (4096, unknown)] {
        let (messages, trace) = run(window, turn).await;
        assert_eq!((messages, trace.injected), (before.clone(), Vec::new()));
    }
}
