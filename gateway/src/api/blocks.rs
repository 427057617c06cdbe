//! A reply as a row of blocks: reasoning, text, tool calls, each opened, added to and closed before the next begins.
//! OpenAI's Responses call them items and Anthropic's Messages content blocks; both are rendered from this.

use habit_engine::{Delta, FinishReason, TokenLogprob, Usage};
use serde_json::Value;
use uuid::Uuid;

/// What a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The model's reasoning.
    Reasoning,
    /// What it says.
    Text,
    /// A call of a tool.
    Call {
        /// Names the call.
        id: String,
        /// Names the tool.
        name: String,
    },
}

/// A block as far as it has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// What it is.
    pub kind: Kind,
    /// Its text; of a call, the arguments.
    pub text: String,
    /// The probabilities of its tokens, where they were asked for.
    pub logprobs: Vec<TokenLogprob>,
}

/// How a reply goes on. Blocks are known by their place.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A block begins.
    Open(usize, Kind),
    /// Text is added to the open block, with the probabilities of its tokens.
    Add(usize, String, Vec<TokenLogprob>),
    /// The block is complete.
    Close(usize, Block),
    /// The reply is.
    End(End),
}

/// How a reply ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: FinishReason,
    /// The stop string that it met, where that is known.
    pub stop: Option<String>,
    /// What it took.
    pub usage: Usage,
}

/// Makes steps of deltas.
#[derive(Debug, Default)]
pub struct Blocks {
    /// How many were closed.
    closed: usize,
    open: Option<Block>,
    /// The number that the engine gave the call that is open, or to be opened.
    call: Option<u64>,
    /// A call whose name is still to come.
    waiting: Option<Block>,
    /// Probabilities of tokens whose text is still to come.
    logprobs: Vec<TokenLogprob>,
    stop: Option<String>,
    /// Whether there was anything but reasoning.
    answered: bool,
}

impl Blocks {
    /// Takes the next delta.
    pub fn push(&mut self, delta: Delta) -> Vec<Step> {
        let mut steps = Vec::new();
        match delta {
            Delta::Reasoning(text) => self.say(Kind::Reasoning, text, &mut steps),
            Delta::Text(text) => self.say(Kind::Text, text, &mut steps),
            Delta::Logprobs(tokens) => self.logprobs.extend(tokens),
            Delta::ToolCall(piece) => self.call(&piece, &mut steps),
            Delta::StopString(stop) => self.stop = Some(stop),
            // Only what was asked for as an upstream writes it comes so, which nothing here does.
            Delta::Written(_) => {}
            Delta::Finish { reason, usage } => {
                self.finish(&mut steps);
                let stop = self.stop.take();
                steps.push(Step::End(End { reason, stop, usage }));
            }
        }
        steps
    }

    /// Closes what is open, for a reply that broke off.
    pub fn break_off(&mut self) -> Option<Step> {
        let block = self.open.take()?;
        let at = self.closed;
        self.closed += 1;
        Some(Step::Close(at, block))
    }

    fn say(&mut self, kind: Kind, text: String, steps: &mut Vec<Step>) {
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.open(kind, steps);
        }
        self.add(text, steps);
    }

    fn open(&mut self, kind: Kind, steps: &mut Vec<Step>) {
        steps.extend(self.break_off());
        self.answered |= kind != Kind::Reasoning;
        steps.push(Step::Open(self.closed, kind.clone()));
        self.open = Some(Block {
            kind,
            text: String::new(),
            logprobs: Vec::new(),
        });
    }

    fn add(&mut self, text: String, steps: &mut Vec<Step>) {
        let Some(open) = &mut self.open else { return };
        // Tokens of calls and of reasoning are not reported: neither wire format has a place for them.
        let tokens = std::mem::take(&mut self.logprobs);
        let tokens = if open.kind == Kind::Text { tokens } else { Vec::new() };
        if text.is_empty() && tokens.is_empty() {
            return;
        }
        open.text.push_str(&text);
        open.logprobs.extend(tokens.iter().cloned());
        steps.push(Step::Add(self.closed, text, tokens));
    }

    /// The first piece of a call has its id and name, later ones add to the arguments. An upstream that numbers nothing
    /// sends whole calls: one with an id is then a new one.
    fn call(&mut self, piece: &Value, steps: &mut Vec<Step>) {
        let number = piece.get("index").and_then(Value::as_u64);
        let id = piece.get("id").and_then(Value::as_str).unwrap_or_default();
        let function = |field: &str| {
            let function = piece.get("function")?;
            function.get(field)?.as_str()
        };
        let running = self.waiting.is_some()
            || matches!(
                self.open,
                Some(Block {
                    kind: Kind::Call { .. },
                    ..
                })
            );
        let goes_on = running
            && match number {
                Some(number) => self.call == Some(number),
                None => id.is_empty(),
            };
        let (name, arguments) = (
            function("name").unwrap_or_default(),
            function("arguments").unwrap_or_default(),
        );
        if goes_on && self.waiting.is_none() {
            return self.add(arguments.to_owned(), steps);
        }
        if !goes_on {
            self.call = number;
            self.waiting = Some(Block {
                kind: Kind::Call {
                    id: String::new(),
                    name: String::new(),
                },
                text: String::new(),
                logprobs: Vec::new(),
            });
        }
        let Some(mut waiting) = self.waiting.take() else { return };
        waiting.text.push_str(arguments);
        if let Kind::Call {
            id: so_far,
            name: called,
        } = &mut waiting.kind
        {
            so_far.push_str(id);
            called.push_str(name);
            if called.is_empty() {
                self.waiting = Some(waiting);
                return;
            }
            if so_far.is_empty() {
                *so_far = format!("call_{}", Uuid::now_v7().simple());
            }
        }
        self.open(waiting.kind, steps);
        self.add(waiting.text, steps);
    }

    /// A reply of nothing but reasoning has an empty text: clients take for granted that there is one.
    fn finish(&mut self, steps: &mut Vec<Step>) {
        self.waiting = None;
        if !self.answered {
            self.open(Kind::Text, steps);
        }
        // Tokens that gave no text, such as the model's own end.
        self.add(String::new(), steps);
        steps.extend(self.break_off());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(deltas: impl IntoIterator<Item = Delta>) -> Vec<Step> {
        let mut blocks = Blocks::default();
        deltas.into_iter().flat_map(|delta| blocks.push(delta)).collect()
    }

    fn finish() -> Delta {
        Delta::Finish {
            reason: FinishReason::Stop,
            usage: Usage::default(),
        }
    }

    fn closed(steps: &[Step]) -> Vec<(usize, &Kind, &str)> {
        let closed = |step| match step {
            &Step::Close(at, ref block) => Some((at, &block.kind, block.text.as_str())),
            _ => None,
        };
        steps.iter().filter_map(closed).collect()
    }

    fn call(id: &str, name: &str) -> Kind {
        Kind::Call {
            id: id.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Whatever comes, blocks are opened and closed one after the other, and hold what was added.
    fn is_well_formed(steps: &[Step]) {
        let (mut next, mut open) = (0, None::<(Kind, String)>);
        for step in steps {
            match step {
                Step::Open(at, kind) => {
                    assert!(open.is_none() && *at == next, "{steps:?}");
                    open = Some((kind.clone(), String::new()));
                }
                Step::Add(at, text, _) => {
                    assert_eq!(*at, next);
                    open.as_mut().unwrap().1.push_str(text);
                }
                Step::Close(at, block) => {
                    assert_eq!(*at, next);
                    assert_eq!(open.take(), Some((block.kind.clone(), block.text.clone())));
                    next += 1;
                }
                Step::End(_) => assert!(open.is_none()),
            }
        }
        assert!(matches!(steps.last(), Some(Step::End(_))) && next > 0);
    }

    #[test]
    fn kinds_follow_each_other() {
        let steps = run([
            Delta::Reasoning("hm".into()),
            Delta::Text("It ".into()),
            Delta::Text("is".into()),
            Delta::ToolCall(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}})),
            Delta::ToolCall(json!({"index": 0, "function": {"arguments": "{}"}})),
            Delta::ToolCall(json!({"index": 1, "id": "b", "function": {"name": "g", "arguments": "[1"}})),
            Delta::ToolCall(json!({"index": 1, "function": {"arguments": "]"}})),
            Delta::StopString("END".into()),
            finish(),
        ]);
        is_well_formed(&steps);
        let wanted = [
            (0, &Kind::Reasoning, "hm"),
            (1, &Kind::Text, "It is"),
            (2, &call("a", "f"), "{}"),
            (3, &call("b", "g"), "[1]"),
        ];
        assert_eq!(closed(&steps), wanted);
        assert!(matches!(steps.last(), Some(Step::End(End { stop: Some(stop), .. })) if stop == "END"));
    }

    #[test]
    fn calls_without_numbers_or_ids_are_told_apart() {
        let whole =
            |id: &str, name: &str| Delta::ToolCall(json!({"id": id, "function": {"name": name, "arguments": "{}"}}));
        let steps = run([whole("a", "f"), whole("b", "f"), finish()]);
        is_well_formed(&steps);
        assert_eq!(closed(&steps), [(0, &call("a", "f"), "{}"), (1, &call("b", "f"), "{}")]);
        let steps = run([
            Delta::ToolCall(json!({"index": 0, "function": {"arguments": "{"}})),
            Delta::ToolCall(json!({"index": 0, "function": {"name": "f"}})),
            Delta::ToolCall(json!({"index": 0, "function": {"arguments": "}"}})),
            finish(),
        ]);
        is_well_formed(&steps);
        let closed = closed(&steps);
        assert!(
            matches!(closed.as_slice(), [(0, Kind::Call { id, name }, "{}")] if id.starts_with("call_") && name == "f"),
            "{closed:?}"
        );
    }

    #[test]
    fn there_is_always_an_answer() {
        for deltas in [
            vec![],
            vec![Delta::Reasoning("hm".into())],
            vec![Delta::ToolCall(json!({"index": 0, "id": "nameless"}))],
        ] {
            let steps = run(deltas.into_iter().chain([finish()]));
            is_well_formed(&steps);
            assert!(matches!(closed(&steps).last(), Some((_, Kind::Text, ""))));
        }
    }

    #[test]
    fn probabilities_stay_with_their_text() {
        let token = |text: &str| TokenLogprob {
            token: text.to_owned(),
            bytes: text.as_bytes().to_vec(),
            logprob: -1.0,
            top: Vec::new(),
        };
        let steps = run([
            Delta::Logprobs(vec![token("a")]),
            Delta::Text("a".into()),
            Delta::Logprobs(vec![token("<end>")]),
            finish(),
        ]);
        is_well_formed(&steps);
        assert_eq!(steps[1], Step::Add(0, "a".into(), vec![token("a")]));
        assert!(matches!(&steps[3], Step::Close(0, block) if block.logprobs == [token("a"), token("<end>")]));
    }
}
