//! The layers together. Through the router and with the real sources, see `tests/`.

use std::time::Instant;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use habit_engine::{ChatRequest, Delta, DeltaStream, EngineError, FinishReason, Health, Message, ModelInfo, Role};
use habit_engine::{TokenCounter, Usage};
use habit_memory::Scope;
use tower::ServiceExt;
use uuid::Uuid;

use super::*;
use crate::turn::{MemoryMode, Turn, TurnError};

/// Says which model it was asked for.
struct Echo(Vec<&'static str>);

#[async_trait]
impl Engine for Echo {
    async fn chat(&self, request: ChatRequest) -> Result<DeltaStream, EngineError> {
        let available: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        if !available.contains(&request.model) {
            return Err(EngineError::UnknownModel {
                model: request.model,
                available,
            });
        }
        let finish = Delta::Finish {
            reason: FinishReason::Stop,
            usage: Usage::default(),
        };
        Ok(stream::iter([Ok(Delta::Text(request.model)), Ok(finish)]).boxed())
    }
    fn models(&self) -> Vec<ModelInfo> {
        let info = |id: &&str| ModelInfo {
            id: (*id).into(),
            context_window: None,
            owned_by: "x".into(),
            created: 0,
        };
        self.0.iter().map(info).collect()
    }
    fn token_counter(&self, _: &str) -> Option<Arc<dyn TokenCounter>> {
        None
    }
    async fn health(&self) -> Health {
        Health::Ready
    }
}

fn ask(model: &str) -> Turn {
    let messages = vec![Message::new(Role::User, "hello")];
    Turn {
        id: Uuid::now_v7(),
        scope: Scope::new("team", "me").unwrap().in_conversation("c"),
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
        passages: Vec::new(),
        meter: None,
    }
}

#[tokio::test]
async fn a_bare_stack_asks_the_engine() {
    let turns = build(Stack::bare(Arc::new(Echo(vec!["first", "second"]))));
    for (asked, answers) in [("", "first"), ("default", "first"), ("second", "second")] {
        let reply = turns.clone().oneshot(ask(asked)).await.unwrap();
        assert_eq!(
            (reply.trace.model.as_str(), reply.trace.conversation.as_deref()),
            (answers, Some("c"))
        );
        let deltas: Vec<_> = reply.deltas.collect().await;
        assert_eq!(*deltas[0].as_ref().unwrap(), Delta::Text(answers.into()));
    }
}

#[tokio::test]
async fn a_model_that_is_really_called_default_is_meant_by_it() {
    let turns = build(Stack::bare(Arc::new(Echo(vec!["first", "default"]))));
    assert_eq!(
        turns.clone().oneshot(ask("default")).await.unwrap().trace.model,
        "default"
    );
    assert_eq!(turns.oneshot(ask("")).await.unwrap().trace.model, "first");
}

#[tokio::test]
async fn unknown_models_are_the_engines_to_refuse() {
    for (models, asked) in [(vec!["first"], "other"), (vec![], "")] {
        let error = build(Stack::bare(Arc::new(Echo(models))))
            .oneshot(ask(asked))
            .await
            .err();
        assert!(
            matches!(error, Some(TurnError::Engine(EngineError::UnknownModel { .. }))),
            "{error:?}"
        );
    }
}
