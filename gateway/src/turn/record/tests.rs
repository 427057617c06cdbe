//! What is written, when, and what is not.

#![expect(clippy::unnecessary_wraps, reason = "they make items of a stream")]

use std::time::{Duration, Instant};

use futures::stream;
use habit_engine::{ChatRequest, Message, Role};
use habit_memory::Scope;
use habit_memory::interaction::{Interaction, Outcome};
use habit_memory::journal::Page;
use habit_memory::passage::{Citation, Passage, SourceKind};
use http_body_util::BodyExt;
use serde_json::json;
use tower::{ServiceExt, service_fn};
use uuid::Uuid;

use self::held::Held;
use super::*;
use crate::api::chat_wire::ChatChunks;
use crate::api::generation::reply::{Envelope, Tally};
use crate::api::sse;
use crate::turn::{MemoryMode, Trace, TurnService};

mod held;

const USAGE: Usage = Usage {
    prompt_tokens: 3,
    completion_tokens: 2,
    cached_tokens: 0,
    reasoning_tokens: 0,
};

struct Bench {
    journal: Arc<Held>,
    lifecycle: Lifecycle,
}

impl Bench {
    fn new() -> Self {
        Self::letting(1000)
    }

    /// Lets so many writes through.
    fn letting(writes: usize) -> Self {
        Self {
            journal: Arc::new(Held::new(writes)),
            lifecycle: Lifecycle::new(Duration::from_secs(30)),
        }
    }

    /// The layer over something that answers with these deltas.
    fn over<F>(&self, deltas: F) -> TurnService
    where
        F: Fn(&Turn) -> Result<DeltaStream, EngineError> + Clone + Send + Sync + 'static,
    {
        let inner = service_fn(move |turn: Turn| {
            let trace = Trace {
                model: "real-model".into(),
                conversation: turn.scope.conversation().map(str::to_owned),
                injected: vec![passage()],
                context_ms: 1,
                ..Trace::default()
            };
            let reply = deltas(&turn)
                .map(|deltas| Reply { deltas, trace })
                .map_err(TurnError::Engine);
            async move { reply }
        });
        let journal: Arc<dyn Journal> = Arc::clone(&self.journal) as _;
        let parts = RecordParts {
            journal,
            indexer: None,
            consents: None,
            lifecycle: self.lifecycle.clone(),
        };
        TurnService::new(layer(parts).layer(inner))
    }

    /// All that is recorded once no write is under way any more, newest first.
    async fn recorded(&self) -> Vec<Interaction> {
        assert!(self.lifecycle.shut_down(std::future::pending()).await);
        self.now().await
    }

    async fn now(&self) -> Vec<Interaction> {
        self.journal
            .inner
            .turns(
                &me(),
                Page {
                    limit: 100,
                    before: None,
                },
            )
            .await
            .unwrap()
    }
}

fn me() -> Scope {
    Scope::new("team", "me").unwrap()
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
        tokens: 2,
        citation,
        returned: false,
    }
}

fn ask(messages: Vec<Message>) -> Turn {
    Turn {
        id: Uuid::now_v7(),
        scope: me(),
        request: ChatRequest {
            model: "asked".into(),
            messages,
            ..ChatRequest::default()
        },
        memory: MemoryMode::On,
        store: true,
        asked_at: 1000,
        overflow: crate::turn::overflow::Overflow::Configured,
        gone: habit_memory::overflow::Gone::default(),
        arrived: Instant::now(),
        sources: Vec::new(),
        passages: Vec::new(),
        meter: None,
    }
}

fn hello() -> Turn {
    ask(vec![Message::new(Role::User, "hello")])
}

fn finish() -> Result<Delta, EngineError> {
    Ok(Delta::Finish {
        reason: FinishReason::Stop,
        usage: USAGE,
    })
}

fn text(text: &str) -> Result<Delta, EngineError> {
    Ok(Delta::Text(text.to_owned()))
}

fn says(reply: &'static str) -> impl Fn(&Turn) -> Result<DeltaStream, EngineError> + Clone + Send + Sync {
    move |_| Ok(stream::iter([text(reply), finish()]).boxed())
}

/// `Wo`, and then nothing more.
fn hangs() -> impl Fn(&Turn) -> Result<DeltaStream, EngineError> + Clone + Send + Sync {
    |_| Ok(stream::iter([text("Wo")]).chain(stream::pending()).boxed())
}

async fn run(service: &TurnService, turn: Turn) -> Vec<Result<Delta, EngineError>> {
    service.clone().oneshot(turn).await.unwrap().deltas.collect().await
}

/// Lets everything else run as far as it can.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_finished_turn_is_written_whole() {
    let bench = Bench::new();
    let turn = hello();
    let id = turn.id;
    let deltas = run(&bench.over(says("Woof 🐕")), turn).await;
    assert_eq!(deltas.len(), 2);
    let recorded = bench.now().await;
    let [turn] = recorded.as_slice() else {
        panic!("{recorded:?}")
    };
    assert_eq!((turn.id, turn.asked_at, turn.parent), (id, 1000, None));
    assert_eq!((turn.prompt.as_str(), turn.reply.as_str()), ("hello", "Woof 🐕"));
    assert_eq!(turn.messages, [Message::new(Role::User, "hello")]);
    assert_eq!(turn.model, "real-model");
    assert_eq!(
        (turn.outcome, turn.finish_reason),
        (Outcome::Completed, Some(FinishReason::Stop))
    );
    assert_eq!(
        (turn.usage, &turn.injected, &turn.error),
        (USAGE, &vec![passage()], &None)
    );
    assert!(turn.remember && turn.scope.conversation().is_some());
    assert_eq!(turn.timing.context_ms, 1);
    assert!(turn.timing.first_token_ms.is_some());
}

#[tokio::test]
async fn the_end_is_not_sent_before_it_is_written() {
    let bench = Bench::letting(0);
    let reply = bench.over(says("Woof")).oneshot(hello()).await.unwrap();
    let chunks = ChatChunks::new(Envelope::chat(Uuid::nil(), 0, "m".into()), 1, false);
    let pieces = reply.deltas.map(|item| (0, item.map_err(Into::into))).boxed();
    let events = sse::events(pieces, Tally::new(1, 1), false, chunks);
    let mut body = sse::response(events, sse::PING_EVERY).into_body();
    let mut seen = String::new();
    for _ in 0..2 {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        seen.push_str(str::from_utf8(&frame).unwrap());
    }
    assert!(seen.contains("Woof"), "{seen}");
    for _ in 0..5 {
        assert!(futures::poll!(std::pin::pin!(body.frame())).is_pending());
        settle().await;
    }
    assert!(bench.now().await.is_empty());
    bench.journal.writes.add_permits(1);
    let rest = body.collect().await.unwrap().to_bytes();
    let rest = String::from_utf8(rest.to_vec()).unwrap();
    assert!(
        rest.contains(r#""finish_reason":"stop""#) && rest.ends_with("data: [DONE]\n\n"),
        "{rest}"
    );
    assert_eq!(bench.now().await.len(), 1);
}

#[tokio::test]
async fn a_turn_that_cannot_be_written_has_no_end() {
    let bench = Bench::letting(0);
    let reply = bench.over(says("Woof")).oneshot(hello()).await.unwrap();
    bench.journal.break_down();
    bench.journal.writes.add_permits(10);
    let deltas: Vec<_> = reply.deltas.collect().await;
    assert_eq!(deltas.len(), 2);
    let Err(EngineError::Unavailable(why)) = &deltas[1] else {
        panic!("{deltas:?}")
    };
    assert!(
        why.contains("could not be recorded") && why.contains("free some space"),
        "{why}"
    );
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_answers_nothing() {
    let bench = Bench::new();
    bench.journal.break_down();
    let mut turn = hello();
    turn.scope = turn.scope.in_conversation("c");
    assert!(matches!(
        bench.over(says("x")).oneshot(turn).await,
        Err(TurnError::Record(_))
    ));
}

#[tokio::test]
async fn a_dropped_reply_is_written_with_what_was_sent() {
    let bench = Bench::new();
    let mut reply = bench.over(hangs()).oneshot(hello()).await.unwrap();
    assert_eq!(reply.deltas.next().await.unwrap().unwrap(), Delta::Text("Wo".into()));
    drop(reply);
    let recorded = bench.recorded().await;
    assert_eq!(recorded.len(), 1);
    let turn = &recorded[0];
    assert_eq!(
        (turn.outcome, turn.reply.as_str(), turn.finish_reason),
        (Outcome::Interrupted, "Wo", None)
    );
    assert_eq!((&turn.error, turn.injected.len()), (&None, 1));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_reply_began_is_written_too() {
    let bench = Bench::new();
    let parts = RecordParts {
        journal: Arc::clone(&bench.journal) as _,
        indexer: None,
        consents: None,
        lifecycle: bench.lifecycle.clone(),
    };
    let never = service_fn(|_: Turn| std::future::pending::<Result<Reply, TurnError>>());
    let mut call = Box::pin(layer(parts).layer(never).oneshot(hello()));
    for _ in 0..5 {
        assert!(futures::poll!(&mut call).is_pending());
    }
    drop(call);
    let recorded = bench.recorded().await;
    assert_eq!(
        (recorded[0].outcome, recorded[0].reply.as_str()),
        (Outcome::Interrupted, "")
    );
}

#[tokio::test]
async fn leaving_during_the_write_does_not_stop_it() {
    let bench = Bench::letting(0);
    let mut reply = bench.over(says("Woof")).oneshot(hello()).await.unwrap();
    reply.deltas.next().await.unwrap().unwrap();
    assert!(futures::poll!(reply.deltas.next()).is_pending());
    drop(reply);
    bench.journal.writes.add_permits(10);
    let recorded = bench.recorded().await;
    assert_eq!((recorded.len(), recorded[0].outcome), (1, Outcome::Completed));
}

#[tokio::test]
async fn dropped_outside_of_the_runtime_it_is_still_written() {
    let bench = Bench::new();
    let mut reply = bench.over(hangs()).oneshot(hello()).await.unwrap();
    reply.deltas.next().await.unwrap().unwrap();
    std::thread::spawn(move || drop(reply)).join().unwrap();
    assert_eq!(bench.recorded().await[0].outcome, Outcome::Interrupted);
}

#[tokio::test]
async fn an_error_before_the_reply_is_a_failed_turn() {
    let bench = Bench::new();
    let error = EngineError::Unavailable("the engine is starting".into());
    let given = error.clone();
    let service = bench.over(move |_| Err(given.clone()));
    assert!(matches!(
        service.oneshot(hello()).await,
        Err(TurnError::Engine(EngineError::Unavailable(_)))
    ));
    let recorded = bench.now().await;
    assert_eq!(
        (recorded[0].outcome, recorded[0].error.clone()),
        (Outcome::Failed, Some(error.to_string()))
    );
    assert_eq!(recorded[0].model, "asked");
}

#[tokio::test]
async fn a_turn_for_which_there_was_no_place_is_not_written() {
    let bench = Bench::new();
    let service = bench.over(|_| {
        Err(EngineError::Overloaded {
            running: 1,
            waiting: 1,
            retry_after_s: 1,
        })
    });
    assert!(service.oneshot(hello()).await.is_err());
    assert!(bench.recorded().await.is_empty());
}

#[tokio::test]
async fn an_error_in_mid_reply_keeps_what_was_sent() {
    let bench = Bench::new();
    let broken = || stream::iter([text("Wo"), Err(EngineError::Interrupted("the engine died".into()))]).boxed();
    let deltas = run(&bench.over(move |_| Ok(broken())), hello()).await;
    assert!(
        matches!(deltas.as_slice(), [Ok(_), Err(EngineError::Interrupted(_))]),
        "{deltas:?}"
    );
    let turn = &bench.now().await[0];
    assert_eq!((turn.outcome, turn.reply.as_str()), (Outcome::Interrupted, "Wo"));
    assert!(turn.error.as_ref().unwrap().contains("the engine died"));
}

#[tokio::test]
async fn a_reply_without_an_end_is_an_error() {
    let bench = Bench::new();
    let deltas = run(&bench.over(|_| Ok(stream::empty().boxed())), hello()).await;
    assert!(
        matches!(deltas.as_slice(), [Err(EngineError::Interrupted(_))]),
        "{deltas:?}"
    );
    assert_eq!(bench.now().await[0].outcome, Outcome::Failed);
}

#[tokio::test]
async fn what_is_not_to_be_stored_leaves_nothing() {
    let bench = Bench::new();
    let turn = || Turn {
        store: false,
        ..hello()
    };
    assert_eq!(run(&bench.over(says("Woof")), turn()).await.len(), 2);
    let mut reply = bench.over(hangs()).oneshot(turn()).await.unwrap();
    reply.deltas.next().await.unwrap().unwrap();
    assert_eq!(reply.trace.conversation, None);
    drop(reply);
    assert!(
        bench
            .over(|_| Err(EngineError::Unavailable("x".into())))
            .oneshot(turn())
            .await
            .is_err()
    );
    // Not even a journal that fails is in its way.
    bench.journal.break_down();
    assert_eq!(run(&bench.over(says("Woof")), turn()).await.len(), 2);
    assert!(bench.recorded().await.is_empty());
}

#[tokio::test]
async fn memory_that_may_not_write_is_noted() {
    for (memory, remember) in [
        (MemoryMode::On, true),
        (MemoryMode::Write, true),
        (MemoryMode::Read, false),
        (MemoryMode::Off, false),
    ] {
        let bench = Bench::new();
        run(&bench.over(says("Woof")), Turn { memory, ..hello() }).await;
        assert_eq!(bench.now().await[0].remember, remember, "{memory:?}");
    }
}

#[tokio::test]
async fn a_conversation_is_known_by_the_history_that_is_sent() {
    let bench = Bench::new();
    let service = bench.over(says("Woof "));
    let mut history = vec![Message::new(Role::System, "Be a dog."), Message::new(Role::User, "one")];
    for next in ["two", "three", "four"] {
        run(&service, ask(history.clone())).await;
        // Clients trim replies and change system messages.
        history[0] = Message::new(Role::System, format!("Be a dog; {next} is next."));
        history.extend([Message::new(Role::Assistant, "Woof"), Message::new(Role::User, next)]);
    }
    // Something else begins in between.
    run(&service, hello()).await;
    let mut turns = bench.now().await;
    turns.reverse();
    let conversations: Vec<_> = turns.iter().map(|turn| turn.scope.conversation().unwrap()).collect();
    assert_eq!(conversations[0], conversations[1]);
    assert_eq!(conversations[0], conversations[2]);
    assert_ne!(conversations[0], conversations[3]);
    let parents: Vec<_> = turns.iter().map(|turn| turn.parent).collect();
    assert_eq!(parents, [None, Some(turns[0].id), Some(turns[1].id), None]);
    assert_eq!(turns[0].messages.len(), 2);
    assert_eq!(turns[2].messages, [Message::new(Role::User, "three")]);
}

#[tokio::test]
async fn an_interrupted_turn_can_be_continued() {
    let bench = Bench::new();
    let mut reply = bench.over(hangs()).oneshot(hello()).await.unwrap();
    reply.deltas.next().await.unwrap().unwrap();
    drop(reply);
    settle().await;
    let first = bench.now().await.remove(0);
    let history = [(Role::User, "hello"), (Role::Assistant, "Wo"), (Role::User, "go on")];
    let turn = ask(history.map(|(role, text)| Message::new(role, text)).to_vec());
    let reply = bench.over(says("of")).oneshot(turn).await.unwrap();
    assert_eq!(reply.trace.conversation.as_deref(), first.scope.conversation());
}

#[tokio::test]
async fn a_named_conversation_is_that_one() {
    let bench = Bench::new();
    let service = bench.over(says("Woof"));
    let named = |id: &str, turn: Turn| Turn {
        scope: turn.scope.in_conversation(id),
        ..turn
    };
    run(&service, named("a", hello())).await;
    // The same history in another conversation: the name decides.
    let history = [(Role::User, "hello"), (Role::Assistant, "Woof"), (Role::User, "again")];
    let again = || ask(history.map(|(role, text)| Message::new(role, text)).to_vec());
    run(&service, named("b", again())).await;
    run(&service, named("a", again())).await;
    // Without any history, it continues the newest turn.
    run(&service, named("a", hello())).await;
    let mut turns = bench.now().await;
    turns.reverse();
    let conversations: Vec<_> = turns.iter().map(|turn| turn.scope.conversation().unwrap()).collect();
    assert_eq!(conversations, ["a", "b", "a", "a"]);
    let parents: Vec<_> = turns.iter().map(|turn| turn.parent).collect();
    assert_eq!(parents, [None, None, Some(turns[0].id), Some(turns[2].id)]);
    assert_eq!((turns[1].messages.len(), turns[2].messages.len()), (3, 1));
}

#[tokio::test]
async fn other_users_conversations_are_never_continued() {
    let bench = Bench::new();
    let service = bench.over(says("Woof"));
    run(&service, hello()).await;
    let history = [(Role::User, "hello"), (Role::Assistant, "Woof"), (Role::User, "again")];
    for (team, user) in [("team", "you"), ("other", "me")] {
        let mut turn = ask(history.map(|(role, text)| Message::new(role, text)).to_vec());
        turn.scope = Scope::new(team, user).unwrap();
        let reply = service.clone().oneshot(turn).await.unwrap();
        assert_ne!(
            reply.trace.conversation.as_deref(),
            bench.now().await[0].scope.conversation()
        );
    }
}

#[tokio::test]
async fn a_tools_result_continues_its_call() {
    let bench = Bench::new();
    let call = json!({"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}});
    let mut piece = call.clone();
    piece["index"] = json!(0);
    let calls = bench.over(move |_| Ok(stream::iter([Ok(Delta::ToolCall(piece.clone())), finish()]).boxed()));
    run(&calls, hello()).await;
    let mut calling = Message::new(Role::Assistant, "");
    calling.tool_calls = vec![call];
    let result = Message {
        tool_call_id: Some("c".into()),
        ..Message::new(Role::Tool, "a bone")
    };
    run(
        &bench.over(says("A bone!")),
        ask(vec![Message::new(Role::User, "hello"), calling, result.clone()]),
    )
    .await;
    let turns = bench.now().await;
    assert_eq!(turns[0].parent, Some(turns[1].id));
    assert_eq!(
        (turns[0].messages.as_slice(), turns[0].prompt.as_str()),
        ([result].as_slice(), "hello")
    );
}
