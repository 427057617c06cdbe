//! A [`Reader`]: an engine that is no model. It answers with the line of its prompt that has most of the question's words,
//! and with "I don't know." where none has any: what memory shows is all that it can know.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use habit_engine::{
    ChatRequest, Delta, DeltaStream, Engine, EngineError, FinishReason, Health, Message, ModelInfo, Role, TokenCounter,
    Usage,
};
use habit_memory::rank::overlap;

/// Its only model.
const NAME: &str = "reader";

/// Bytes that it takes for a token.
const BYTES_A_TOKEN: usize = 4;

/// Its window, in tokens: that of a small model.
const WINDOW: usize = 2048;

/// See the module.
pub struct Reader;

/// Counts its tokens.
struct Counter;

impl TokenCounter for Counter {
    fn count(&self, text: &str) -> usize {
        text.len().div_ceil(BYTES_A_TOKEN)
    }

    fn count_chat(&self, messages: &[Message]) -> Result<usize, EngineError> {
        Ok(messages.iter().map(|message| self.count(&message.text())).sum())
    }

    fn context_window(&self) -> usize {
        WINDOW
    }

    fn is_exact(&self) -> bool {
        true
    }
}

#[async_trait]
impl Engine for Reader {
    async fn chat(&self, request: ChatRequest) -> Result<DeltaStream, EngineError> {
        let last = request.messages.iter().rfind(|message| message.role == Role::User);
        let prompt = last.map(Message::text).unwrap_or_default();
        let usage = Usage {
            prompt_tokens: Counter.count_request(&request)?,
            ..Usage::default()
        };
        let reason = FinishReason::Stop;
        let deltas = [Delta::Text(answer(&prompt)), Delta::Finish { reason, usage }];
        Ok(stream::iter(deltas.map(Ok)).boxed())
    }

    fn models(&self) -> Vec<ModelInfo> {
        vec![ModelInfo {
            id: NAME.to_owned(),
            context_window: Some(WINDOW),
            owned_by: "habit".to_owned(),
            created: 0,
        }]
    }

    fn token_counter(&self, _model: &str) -> Option<Arc<dyn TokenCounter>> {
        Some(Arc::new(Counter))
    }

    async fn health(&self) -> Health {
        Health::Ready
    }
}

/// The line before the question that has most of its words.
fn answer(prompt: &str) -> String {
    const UNKNOWN: &str = "I don't know.";
    // Notes end with an empty line; what follows is what is asked.
    let Some((notes, question)) = prompt.split_once("\n\n") else {
        return UNKNOWN.to_owned();
    };
    let lines: Vec<&str> = notes.lines().collect();
    let shares = overlap::shares(question, &lines);
    let best = shares.iter().zip(&lines).max_by(|a, b| a.0.total_cmp(b.0));
    match best {
        Some((share, line)) if *share > 0.0 => (*line).to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_what_it_reads() {
        let notes = "Context:\n- [a] My dog is called Biscuit.\n- [b] I work at the harbour.\n\n";
        assert!(answer(&format!("{notes}Question: What is my dog called?")).contains("Biscuit"));
        assert!(answer(&format!("{notes}Where do I work?")).contains("harbour"));
        assert_eq!(answer("What is my dog called?"), "I don't know.");
    }
}
