//! What a model writes, told apart as it comes: its reasoning, its tool calls, and the text for the reader.

use serde_json::Value;

use super::{reasoning::Reasoner, tools::calls::Calls};

/// A piece of what the model wrote, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Segment {
    /// For the reader, as it was written.
    Text(String),
    /// Reasoning, as it was written.
    Reasoning(String),
    /// A piece of a tool call, in the shape of OpenAI's `delta.tool_calls[i]`. What it was written with is in the
    /// [`Segment::Marks`] before it.
    Call(Value),
    /// So many bytes that are none of this by themselves: tags, white space around them, calls as they were written.
    Marks(usize),
}

/// Tells apart what one reply is made of.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    pub(crate) reasoner: Option<Reasoner>,
    pub(crate) calls: Option<Calls>,
}

impl Channels {
    /// Takes the next text and gives what is certain by now.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Segment> {
        let mut segments = Vec::new();
        match &mut self.reasoner {
            Some(reasoner) => {
                let first = reasoner.push(text);
                self.find_calls(first, &mut segments);
            }
            None => match &mut self.calls {
                Some(calls) => calls.push(text, &mut segments),
                None => push_text(&mut segments, text),
            },
        }
        segments
    }

    /// What waited in vain.
    pub(crate) fn finish(&mut self) -> Vec<Segment> {
        let mut segments = Vec::new();
        if let Some(reasoner) = &mut self.reasoner {
            let first = reasoner.finish();
            self.find_calls(first, &mut segments);
        }
        if let Some(calls) = &mut self.calls {
            calls.finish(&mut segments);
        }
        segments
    }

    /// Whether the model is thinking.
    pub(crate) fn is_reasoning(&self) -> bool {
        self.reasoner.as_ref().is_some_and(Reasoner::is_inside)
    }

    /// Whether a tool was called.
    pub(crate) fn called(&self) -> bool {
        self.calls.as_ref().is_some_and(|calls| calls.count() > 0)
    }

    fn find_calls(&mut self, first: Vec<Segment>, segments: &mut Vec<Segment>) {
        for segment in first {
            match (segment, &mut self.calls) {
                (Segment::Text(text), Some(calls)) => calls.push(&text, segments),
                (segment, _) => segments.push(segment),
            }
        }
    }
}

/// Adds text where there is some.
pub(crate) fn push_text(segments: &mut Vec<Segment>, text: &str) {
    if !text.is_empty() {
        segments.push(Segment::Text(text.to_owned()));
    }
}

/// Adds marks where there are some.
pub(crate) fn push_marks(segments: &mut Vec<Segment>, bytes: usize) {
    if bytes > 0 {
        segments.push(Segment::Marks(bytes));
    }
}

/// Bytes at the end of `text` that begin `mark`, but aren't all of it.
pub(crate) fn overlap(text: &str, mark: &str) -> usize {
    let starts = text.char_indices().map(|(start, _)| &text[start..]);
    starts
        .filter(|tail| tail.len() < mark.len())
        .find(|tail| mark.starts_with(tail))
        .map_or(0, str::len)
}
