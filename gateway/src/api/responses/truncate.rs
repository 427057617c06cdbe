//! `truncation: auto`: leaves out the oldest messages of a conversation that does not fit the model's window.

use habit_engine::{ChatRequest, Role, TokenCounter};

/// The share of the window that is kept for a reply of no stated length: an eighth.
const REPLY_SHARE: usize = 8;

/// Leaves out messages, oldest first, until the rest fits. Instructions at the begin stay, and so does the last message.
pub fn fit(request: &mut ChatRequest, counter: &dyn TokenCounter) {
    let window = counter.context_window();
    let room = window.saturating_sub(request.max_tokens.unwrap_or(window / REPLY_SHARE));
    let fits = |request: &ChatRequest| counter.count_request(request).is_ok_and(|tokens| tokens <= room);
    let kept = request
        .messages
        .iter()
        .take_while(|message| message.role == Role::System)
        .count();
    while request.messages.len() > kept + 1 && !fits(request) {
        request.messages.remove(kept);
        // What answers a call, or a call that nobody made, means nothing without what came before.
        while request.messages.len() > kept + 1 && request.messages[kept].role != Role::User {
            request.messages.remove(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use habit_engine::Message;
    use habit_engine::scripted::Counter;

    use super::*;

    #[test]
    fn the_oldest_go_first_and_whole_rounds_with_them() {
        let long = "x".repeat(400);
        let mut request = ChatRequest {
            messages: vec![
                Message::new(Role::System, "Be brief."),
                Message::new(Role::User, long.clone()),
                Message::new(Role::Assistant, long.clone()),
                Message::new(Role::Tool, long),
                Message::new(Role::User, "short"),
                Message::new(Role::Assistant, "short"),
                Message::new(Role::User, "last"),
            ],
            ..ChatRequest::default()
        };
        let whole = request.clone();
        fit(&mut request, &Counter::new(10_000));
        assert_eq!(request, whole, "what fits is left alone");
        fit(&mut request, &Counter::new(100));
        let texts: Vec<String> = request.messages.iter().map(Message::text).collect();
        assert_eq!(texts, ["Be brief.", "short", "short", "last"]);
        fit(&mut request, &Counter::new(8));
        assert_eq!(request.messages.len(), 2);
    }
}
