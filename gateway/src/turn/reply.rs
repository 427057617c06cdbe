//! A reply put together again from its deltas: for the record, for non-streaming clients, and for the hash by which
//! the next request is known to continue it.

use bytes::Bytes;
use habit_engine::{Content, Delta, Message, Role, TokenLogprob, worker};
use serde_json::{Map, Value, json};

/// What has come of a reply so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collected {
    /// The text.
    pub text: String,
    /// The reasoning, where it is told apart.
    pub reasoning: String,
    /// Tool calls, in OpenAI's shape.
    pub tool_calls: Vec<Value>,
    /// The tokens' probabilities, where they were asked for. Not part of the record.
    pub logprobs: Vec<TokenLogprob>,
    /// The reply as the upstream wrote it, in the place of all of the above until [`Collected::read`].
    pub written: Vec<Bytes>,
}

impl Collected {
    /// Adds a delta.
    pub fn push(&mut self, delta: Delta) {
        match delta {
            Delta::Logprobs(tokens) => self.logprobs.extend(tokens),
            delta => self.observe(&delta),
        }
    }

    /// Adds what the record keeps of a delta that goes on to someone else.
    pub fn observe(&mut self, delta: &Delta) {
        match delta {
            Delta::Text(text) => self.text.push_str(text),
            Delta::Reasoning(text) => self.reasoning.push_str(text),
            Delta::ToolCall(piece) => self.push_tool_call(piece),
            delta if delta.is_mark() => {}
            Delta::Written(piece) => self.written.push(piece.clone()),
            Delta::Logprobs(_) | Delta::StopString(_) | Delta::Finish { .. } => {}
        }
    }

    /// Whether nothing has come yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.reasoning.is_empty() && self.tool_calls.is_empty() && self.written.is_empty()
    }

    /// Reads what the upstream wrote. Left to the end, so that it costs a reply under way nothing.
    pub fn read(&mut self) {
        for delta in worker::read(&std::mem::take(&mut self.written)) {
            self.push(delta);
        }
    }

    /// How likely the tokens were on average, as a logarithm; a reply without tokens is the least likely.
    #[must_use]
    pub fn mean_logprob(&self) -> f64 {
        let known = self.logprobs.iter().map(|token| token.logprob);
        let known: Vec<f64> = known.filter(|logprob| !logprob.is_nan()).collect();
        if known.is_empty() {
            return f64::NEG_INFINITY;
        }
        known.iter().sum::<f64>() / known.len() as f64
    }

    /// The assistant message that a client will send back in its history.
    #[must_use]
    pub fn message(&self) -> Message {
        Message {
            role: Role::Assistant,
            content: Content::Text(self.text.clone()),
            name: None,
            tool_calls: self.tool_calls.clone(),
            tool_call_id: None,
        }
    }

    /// The first piece of a call has its id and name, later ones add to the arguments. An upstream that numbers
    /// nothing sends whole calls: one with an id is then a new one.
    fn push_tool_call(&mut self, piece: &Value) {
        let last = self.tool_calls.len().saturating_sub(1);
        let at = match piece
            .get("index")
            .and_then(Value::as_u64)
            .and_then(|index| usize::try_from(index).ok())
        {
            // A number far ahead is an upstream's mistake, and not worth that many empty calls.
            Some(index) => index.min(self.tool_calls.len()),
            None if text_of(piece, "id").is_empty() => last,
            None => self.tool_calls.len(),
        };
        if at == self.tool_calls.len() {
            self.tool_calls
                .push(json!({"id": "", "type": "function", "function": {"name": "", "arguments": ""}}));
        }
        let Some(call) = self.tool_calls.get_mut(at).and_then(Value::as_object_mut) else {
            return;
        };
        for field in ["id", "type"] {
            let text = text_of(piece, field);
            if !text.is_empty() {
                call.insert(field.to_owned(), json!(text));
            }
        }
        let (Some(function), Some(more)) = (
            call.get_mut("function").and_then(Value::as_object_mut),
            piece.get("function"),
        ) else {
            return;
        };
        for field in ["name", "arguments"] {
            append(function, field, text_of(more, field));
        }
    }
}

fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn append(fields: &mut Map<String, Value>, field: &str, text: &str) {
    if let Some(Value::String(so_far)) = fields.get_mut(field) {
        so_far.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(deltas: impl IntoIterator<Item = Delta>) -> Collected {
        let mut collected = Collected::default();
        deltas.into_iter().for_each(|delta| collected.push(delta));
        collected
    }

    #[test]
    fn joins_text_and_reasoning() {
        let collected = collect([
            Delta::Reasoning("a ".into()),
            Delta::Reasoning("dog".into()),
            Delta::Text("Bis".into()),
            Delta::Text("cuit 🐕".into()),
        ]);
        assert_eq!(
            (collected.text.as_str(), collected.reasoning.as_str()),
            ("Biscuit 🐕", "a dog")
        );
        assert_eq!(collected.message(), Message::new(Role::Assistant, "Biscuit 🐕"));
        assert!(!collected.is_empty() && Collected::default().is_empty());
    }

    #[test]
    fn puts_tool_calls_together_by_their_index() {
        let piece = |index: u32, id: Value, name: Value, arguments: &str| {
            Delta::ToolCall(json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}}))
        };
        let collected = collect([
            piece(0, json!("call_a"), json!("look"), ""),
            piece(0, Value::Null, Value::Null, "{\"at\":"),
            piece(1, json!("call_b"), json!("go"), "{}"),
            piece(0, Value::Null, Value::Null, "1}"),
        ]);
        let expected = [
            json!({"id": "call_a", "type": "function", "function": {"name": "look", "arguments": "{\"at\":1}"}}),
            json!({"id": "call_b", "type": "function", "function": {"name": "go", "arguments": "{}"}}),
        ];
        assert_eq!(collected.tool_calls, expected);
    }

    #[test]
    fn takes_unnumbered_whole_calls_as_several() {
        let whole = |id: &str| Delta::ToolCall(json!({"id": id, "function": {"name": "f", "arguments": "{}"}}));
        assert_eq!(collect([whole("a"), whole("b")]).tool_calls.len(), 2);
    }

    #[test]
    fn survives_nonsense() {
        let odd = [
            json!(null),
            json!({"index": u64::MAX}),
            json!({"index": -1, "function": 7}),
            json!([1]),
        ];
        collect(odd.into_iter().map(Delta::ToolCall));
    }
}
