//! Assembly: fits passages into the model's window, before the text of the last user message. Pure: the same
//! messages, passages and budget always give the same prompt.
//!
//! The client's own messages are never dropped or changed otherwise. Passages stand after the conversation so far, so
//! that its tokens stay the same from turn to turn and an engine can keep what it computed for them; and inside the
//! user's message, because every chat template has one. How they are fenced is in `fence`.

use std::cmp::Ordering;

use habit_engine::{Content, EngineError, Message, Role, TokenCounter};

use crate::passage::Passage;

mod fence;

/// Tokens that memory may take unless configured otherwise. Models of up to 8B answer worse with more than about 3,000
/// tokens of notes before the question.
pub const MEMORY_TOKENS: usize = 2_000;

/// The share of the window that memory never exceeds is one part in so many.
const SHARE_OF_WINDOW: usize = 3;

/// What a prompt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Tokens of prompt and reply together.
    pub context_window: usize,
    /// Tokens kept free for the reply.
    pub reply_tokens: usize,
    /// Tokens that memory may take; never more than a third of the window.
    pub memory_tokens: usize,
}

/// A prompt with memory in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Assembled {
    /// What the model is to read.
    pub messages: Vec<Message>,
    /// The passages in it, in the order in which they are shown, with their size in tokens.
    pub injected: Vec<Passage>,
    /// Those that did not fit, with their size in tokens.
    pub dropped: Vec<Passage>,
}

/// Puts as many passages before the last user message's text as the budget allows, the best of each source first;
/// they are shown from the oldest to the newest.
///
/// # Errors
/// [`EngineError::ContextLengthExceeded`] if the messages alone leave no token for a reply; what the counter says of
/// messages that its template can't express.
pub fn assemble(
    messages: &[Message],
    passages: Vec<Passage>,
    budget: &Budget,
    counter: &dyn TokenCounter,
) -> Result<Assembled, EngineError> {
    let base = counter.count_chat(messages)?;
    if base >= budget.context_window {
        return Err(EngineError::ContextLengthExceeded {
            limit: budget.context_window,
            prompt: base,
            asked: None,
        });
    }
    let free = budget
        .context_window
        .saturating_sub(base)
        .saturating_sub(budget.reply_tokens);
    let allowed = budget
        .memory_tokens
        .min(budget.context_window / SHARE_OF_WINDOW)
        .min(free);
    let last_user = messages.iter().rposition(|message| message.role == Role::User);

    let mut ranked = by_preference(passages);
    for passage in &mut ranked {
        passage.tokens = counter.count(&fence::item(passage));
    }
    let Some(last_user) = last_user else {
        return Ok(Assembled {
            messages: messages.to_vec(),
            injected: Vec::new(),
            dropped: ranked,
        });
    };
    let (mut chosen, mut dropped) = greedily(ranked, allowed);
    // Sizes add up only roughly: the whole prompt is what counts. At most one round a passage.
    loop {
        let Some(assembled) = with_passages(messages, last_user, &chosen) else {
            dropped.append(&mut chosen);
            return Ok(Assembled {
                messages: messages.to_vec(),
                injected: Vec::new(),
                dropped,
            });
        };
        if counter.count_chat(&assembled)? <= base + allowed {
            chosen.sort_by(as_shown);
            return Ok(Assembled {
                messages: assembled,
                injected: chosen,
                dropped,
            });
        }
        dropped.extend(chosen.pop());
    }
}

/// The best of each source, then the second of each, and so on: scores of different sources can't be compared.
fn by_preference(mut passages: Vec<Passage>) -> Vec<Passage> {
    passages.sort_by(|a, b| {
        a.source
            .cmp(&b.source)
            .then(b.score.total_cmp(&a.score))
            .then_with(|| as_shown(a, b))
    });
    let mut rank = 0;
    let mut previous = None;
    let mut ranked: Vec<(usize, Passage)> = Vec::with_capacity(passages.len());
    for passage in passages {
        rank = if previous == Some(passage.source) { rank + 1 } else { 0 };
        previous = Some(passage.source);
        ranked.push((rank, passage));
    }
    ranked.sort_by(|(a, x), (b, y)| a.cmp(b).then(y.score.total_cmp(&x.score)).then(x.source.cmp(&y.source)));
    ranked.into_iter().map(|(_, passage)| passage).collect()
}

/// Oldest first; chunks of one document in its order.
fn as_shown(a: &Passage, b: &Passage) -> Ordering {
    let (x, y) = (&a.citation, &b.citation);
    x.at.cmp(&y.at)
        .then_with(|| x.id.cmp(&y.id))
        .then(x.ordinal.cmp(&y.ordinal))
        .then(a.source.cmp(&b.source))
        .then_with(|| a.text.cmp(&b.text))
}

/// Takes passages in this order as long as they fit; a small one may still fit where a large one did not.
fn greedily(ranked: Vec<Passage>, allowed: usize) -> (Vec<Passage>, Vec<Passage>) {
    let mut left = allowed;
    let (mut chosen, mut dropped) = (Vec::new(), Vec::new());
    for passage in ranked {
        if passage.tokens <= left {
            left -= passage.tokens;
            chosen.push(passage);
        } else {
            dropped.push(passage);
        }
    }
    (chosen, dropped)
}

/// The messages with these passages in the last user message; `None` if there are none.
fn with_passages(messages: &[Message], last_user: usize, chosen: &[Passage]) -> Option<Vec<Message>> {
    if chosen.is_empty() {
        return None;
    }
    let mut shown: Vec<&Passage> = chosen.iter().collect();
    shown.sort_by(|a, b| as_shown(a, b));
    let mut messages = messages.to_vec();
    let message = &mut messages[last_user];
    message.content = match std::mem::replace(&mut message.content, Content::Text(String::new())) {
        Content::Text(text) => Content::Text(fence::wrap(&shown, &text)),
        Content::Parts(mut parts) => {
            parts.insert(0, serde_json::json!({"type": "text", "text": fence::notes(&shown)}));
            Content::Parts(parts)
        }
    };
    Some(messages)
}
