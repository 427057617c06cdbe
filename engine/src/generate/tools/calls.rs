//! Tool calls in what a model writes, found as it comes: in every dialect, because models do not keep to their own.
//!
//! What begins like a call but isn't one stays text. From a call's arguments on nothing is taken back, so they can go
//! out as they are made.

use serde_json::json;
use uuid::Uuid;

use super::dialect::{HERMES, HERMES_END, LLAMA, MISTRAL};
use crate::generate::channel::{Segment, overlap, push_marks, push_text};

/// What begins calls, besides a bare object at the reply's beginning.
const BEGINS: [(&str, Frame); 3] = [(HERMES, Frame::Hermes), (MISTRAL, Frame::Mistral), (LLAMA, Frame::Bare)];

/// Finds the calls in one reply.
#[derive(Debug)]
pub(crate) struct Calls {
    /// The names that may be called.
    names: Vec<String>,
    count: usize,
    place: Place,
    /// Not sorted yet.
    held: String,
    /// Nothing but white space has come.
    fresh: bool,
    /// Calls are all that there may be.
    forced: bool,
}

/// What encloses a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Hermes,
    Mistral,
    Bare,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    /// A call has begun; what is held begins with `mark` bytes that mark it, to be given back if it isn't one. After
    /// the first call of several nothing is given back: those bytes belong to a list of calls.
    Head {
        frame: Frame,
        mark: usize,
    },
    /// Within the arguments.
    Arguments {
        frame: Frame,
        scan: Scan,
    },
    /// After the arguments, before the end of the call's object.
    Tail {
        frame: Frame,
        scan: Scan,
    },
    /// After a call.
    Between {
        frame: Frame,
    },
}

/// Where one is in a JSON value.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

/// The beginning of a call's object up to its arguments.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    /// The name, and where the arguments begin.
    Whole(String, usize),
    Incomplete,
    None,
}

impl Calls {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self {
            names,
            count: 0,
            place: Place::Text,
            held: String::new(),
            fresh: true,
            forced: false,
        }
    }

    /// For a reply that is kept to calls: what was cut before it became one is no text.
    pub(crate) fn forced(mut self, forced: bool) -> Self {
        self.forced = forced;
        self
    }

    /// Calls so far.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Takes the next text and adds what is certain by now.
    pub(crate) fn push(&mut self, text: &str, segments: &mut Vec<Segment>) {
        self.held.push_str(text);
        while self.step(segments) {}
    }

    /// What waited in vain.
    pub(crate) fn finish(&mut self, segments: &mut Vec<Segment>) {
        let rest = std::mem::take(&mut self.held);
        let after_calls = self.count > 0 && rest.trim().is_empty();
        match self.place {
            Place::Text | Place::Head { .. } if !after_calls && !self.forced => push_text(segments, &rest),
            _ => push_marks(segments, rest.len()),
        }
    }

    /// Goes on with what is held; false when it must wait for more.
    fn step(&mut self, segments: &mut Vec<Segment>) -> bool {
        match self.place {
            Place::Text => self.text(segments),
            Place::Head { frame, mark } => self.head(frame, mark, segments),
            Place::Arguments { frame, scan } => self.arguments(frame, scan, segments),
            Place::Tail { frame, scan } => self.tail(frame, scan, segments),
            Place::Between { frame } => self.between(frame, segments),
        }
    }

    fn text(&mut self, segments: &mut Vec<Segment>) -> bool {
        if self.fresh {
            let trimmed = self.held.trim_start();
            if trimmed.is_empty() {
                return false;
            }
            if trimmed.starts_with('{') {
                let mark = self.held.len() - trimmed.len();
                self.place = Place::Head {
                    frame: Frame::Bare,
                    mark,
                };
                return true;
            }
            self.fresh = false;
        }
        let begins = BEGINS
            .iter()
            .filter_map(|(mark, frame)| Some((self.held.find(mark)?, mark.len(), *frame)));
        if let Some((at, mark, frame)) = begins.min_by_key(|(at, ..)| *at) {
            let text = self.take(at);
            let spoken = text.trim_end();
            push_text(segments, spoken);
            push_marks(segments, text.len() - spoken.len());
            self.place = Place::Head { frame, mark };
            return true;
        }
        // White space may stand before a call, and is no text then.
        let waits = BEGINS
            .iter()
            .map(|(mark, _)| overlap(&self.held, mark))
            .max()
            .unwrap_or(0);
        let certain = &self.held[..self.held.len() - waits];
        let out = certain.trim_end().len();
        push_text(segments, &self.take(out));
        false
    }

    fn head(&mut self, frame: Frame, mark: usize, segments: &mut Vec<Segment>) -> bool {
        match head(&self.held[mark..], frame, &self.names) {
            Head::Whole(name, arguments) => {
                let begin = self.take(mark + arguments);
                push_marks(segments, begin.len());
                let id = format!("call_{}", Uuid::now_v7().simple());
                segments.push(Segment::Call(json!({"index": self.count, "id": id, "type": "function",
                    "function": {"name": name, "arguments": ""}})));
                self.count += 1;
                self.fresh = false;
                let scan = Scan::default();
                self.place = Place::Arguments { frame, scan };
                true
            }
            Head::Incomplete => false,
            Head::None => {
                self.fresh = false;
                self.place = Place::Text;
                // The mark itself must not begin a call again.
                let first = self.held.chars().next().map_or(0, char::len_utf8);
                let out = self.take(mark.max(first));
                push_text(segments, &out);
                true
            }
        }
    }

    fn arguments(&mut self, frame: Frame, mut scan: Scan, segments: &mut Vec<Segment>) -> bool {
        let end = scan.end(&self.held);
        let piece = self.take(end.unwrap_or(self.held.len()));
        if !piece.is_empty() {
            push_marks(segments, piece.len());
            let index = self.count - 1;
            segments.push(Segment::Call(json!({"index": index, "function": {"arguments": piece}})));
        }
        self.place = match end {
            Some(_) => Place::Tail {
                frame,
                // Within the call's own object.
                scan: Scan {
                    depth: 1,
                    ..Scan::default()
                },
            },
            None => Place::Arguments { frame, scan },
        };
        end.is_some()
    }

    fn tail(&mut self, frame: Frame, mut scan: Scan, segments: &mut Vec<Segment>) -> bool {
        let end = scan.end(&self.held);
        let rest = self.take(end.unwrap_or(self.held.len()));
        push_marks(segments, rest.len());
        self.place = match end {
            Some(_) => Place::Between { frame },
            None => Place::Tail { frame, scan },
        };
        end.is_some()
    }

    fn between(&mut self, frame: Frame, segments: &mut Vec<Segment>) -> bool {
        let space = self.held.len() - self.held.trim_start().len();
        push_marks(segments, space);
        self.held.drain(..space);
        let Some(first) = self.held.chars().next() else {
            return false;
        };
        let (ends, mark, next) = match frame {
            Frame::Hermes if HERMES_END.starts_with(self.held.as_str()) && self.held != HERMES_END => return false,
            Frame::Hermes => (self.held.starts_with(HERMES_END), HERMES_END.len(), Place::Text),
            Frame::Mistral if first == ',' => (true, 1, Place::Head { frame, mark: 0 }),
            Frame::Mistral => (first == ']', 1, Place::Text),
            Frame::Bare => (first == ';' || first == ',', 1, Place::Head { frame, mark: 0 }),
        };
        if ends {
            self.held.drain(..mark);
            push_marks(segments, mark);
        }
        self.place = if ends { next } else { Place::Text };
        true
    }

    fn take(&mut self, bytes: usize) -> String {
        let rest = self.held.split_off(bytes);
        std::mem::replace(&mut self.held, rest)
    }
}

impl Scan {
    /// Reads on; where the value ends, if it does: after the bracket that closes it.
    fn end(&mut self, text: &str) -> Option<usize> {
        for (at, letter) in text.char_indices() {
            match letter {
                _ if self.escaped => self.escaped = false,
                '\\' if self.in_string => self.escaped = true,
                '"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                '{' | '[' => self.depth += 1,
                '}' | ']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// Reads the beginning of a call: `{"name": "…", "arguments": {`, other members with texts between allowed.
fn head(text: &str, frame: Frame, names: &[String]) -> Head {
    let mut rest = text.trim_start();
    // The list around Mistral's calls; the first call is behind its bracket.
    if frame == Frame::Mistral {
        rest = rest.strip_prefix('[').unwrap_or(rest).trim_start();
    }
    let Some(inside) = rest.strip_prefix('{') else {
        return if rest.is_empty() { Head::Incomplete } else { Head::None };
    };
    let mut name = None;
    rest = inside;
    loop {
        let (key, after) = match string(rest.trim_start()) {
            Ok(Some(read)) => read,
            Ok(None) => return Head::Incomplete,
            Err(()) => return Head::None,
        };
        let after = after.trim_start();
        let Some(value) = after.strip_prefix(':').map(str::trim_start) else {
            return if after.is_empty() { Head::Incomplete } else { Head::None };
        };
        if key == "arguments" || key == "parameters" {
            return match (name, value.chars().next()) {
                (_, None) => Head::Incomplete,
                (Some(name), Some('{')) => Head::Whole(name, text.len() - value.len()),
                _ => Head::None,
            };
        }
        let (value, after) = match string(value) {
            Ok(Some(read)) => read,
            Ok(None) => return Head::Incomplete,
            Err(()) => return Head::None,
        };
        if key == "name" {
            if !names.contains(&value) {
                return Head::None;
            }
            name = Some(value);
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(rest) => rest,
            None if after.is_empty() => return Head::Incomplete,
            None => return Head::None,
        };
    }
}

/// A JSON string at the beginning of a text and what follows it; none if it isn't complete.
fn string(text: &str) -> Result<Option<(String, &str)>, ()> {
    let Some(inside) = text.strip_prefix('"') else {
        return if text.is_empty() { Ok(None) } else { Err(()) };
    };
    let mut escaped = false;
    for (at, letter) in inside.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                let whole = &text[..at + 2];
                let value = serde_json::from_str(whole).map_err(|_| ())?;
                return Ok(Some((value, &inside[at + 1..])));
            }
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Calls, Segment};

    /// Text, calls as (name, arguments), and the bytes of all segments.
    fn run(pieces: &[&str]) -> (String, Vec<(String, String)>, usize) {
        let mut calls = Calls::new(vec!["look".to_owned(), "wait".to_owned()]);
        let mut segments = Vec::new();
        for piece in pieces {
            calls.push(piece, &mut segments);
        }
        calls.finish(&mut segments);
        let (mut text, mut found, mut bytes) = (String::new(), Vec::<(String, String)>::new(), 0);
        for segment in segments {
            match segment {
                Segment::Text(piece) => {
                    bytes += piece.len();
                    text.push_str(&piece);
                }
                Segment::Marks(marks) => bytes += marks,
                Segment::Call(call) => {
                    let index = call["index"].as_u64().expect("an index") as usize;
                    let function = &call["function"];
                    if let Some(name) = function["name"].as_str() {
                        assert_eq!(index, found.len());
                        assert!(call["id"].as_str().expect("an id").starts_with("call_"));
                        found.push((name.to_owned(), String::new()));
                    }
                    found[index]
                        .1
                        .push_str(function["arguments"].as_str().expect("arguments"));
                }
                Segment::Reasoning(text) => panic!("{text}"),
            }
        }
        (text, found, bytes)
    }

    fn found(text: &str) -> (String, Vec<(String, Value)>) {
        let (text, calls, _) = run(&[text]);
        let parsed = calls
            .into_iter()
            .map(|(name, arguments)| (name, serde_json::from_str(&arguments).expect("JSON")));
        (text, parsed.collect())
    }

    fn calls(list: &[(&str, Value)]) -> Vec<(String, Value)> {
        list.iter()
            .map(|(name, arguments)| ((*name).to_owned(), arguments.clone()))
            .collect()
    }

    #[test]
    fn every_dialect_is_understood() {
        let rome = json!({"city": "Ro}me"});
        let one = |text: &str| {
            let (rest, found) = found(text);
            assert_eq!(rest, "", "{text}");
            assert_eq!(found, calls(&[("look", rome.clone())]), "{text}");
        };
        one("<tool_call>\n{\"name\": \"look\", \"arguments\": {\"city\": \"Ro}me\"}}\n</tool_call>");
        one("<tool_call>{\"name\":\"look\",\"arguments\":{\"city\":\"Ro}me\"}}");
        one("[TOOL_CALLS][{\"name\": \"look\", \"arguments\": {\"city\": \"Ro}me\"}, \"id\": \"x\"}]");
        one("{\"name\": \"look\", \"parameters\": {\"city\": \"Ro}me\"}}");
        one("<|python_tag|>{\"type\": \"function\", \"name\": \"look\", \"parameters\": {\"city\": \"Ro}me\"}}");
    }

    #[test]
    fn several_calls_and_text_before_them() {
        let hermes = "Let me see.\n\n<tool_call>{\"name\": \"look\", \"arguments\": {}}</tool_call>\n<tool_call>\n\
            {\"name\": \"wait\", \"arguments\": {\"s\": [1, {}]}}\n</tool_call>\n";
        let two = calls(&[("look", json!({})), ("wait", json!({"s": [1, {}]}))]);
        assert_eq!(found(hermes), ("Let me see.".to_owned(), two.clone()));
        let mistral = "[TOOL_CALLS] [{\"name\": \"look\", \"arguments\": {}}, {\"name\": \"wait\", \"arguments\": {\"s\": [1, {}]}}]";
        assert_eq!(found(mistral), (String::new(), two.clone()));
        let llama = "{\"name\": \"look\", \"parameters\": {}}; {\"name\": \"wait\", \"parameters\": {\"s\": [1, {}]}}";
        assert_eq!(found(llama), (String::new(), two));
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for text in [
            "Just text with a < and a <tool and {\"name\": 1}.",
            "<tool_call>nothing</tool_call>",
            "<tool_call>{\"name\": \"unknown\", \"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"look\", \"arguments\": \"no object\"}",
            "<tool_call>{\"name\": \"look\"",
            "{\"city\": \"Rome\"}",
            "  {\"name\": \"Ada\", \"age\": 3}",
            "<|python_tag|>print(1)",
            "[TOOL_CALLS] none",
            "",
            "\n ",
        ] {
            assert_eq!(found(text), (text.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn half_of_a_forced_call_is_no_text() {
        for cut in [
            "<tool",
            "<tool_call>\n{\"name\": \"lo",
            "{\"name\": \"look\", \"param",
            "[TOOL_CALLS]",
        ] {
            for (forced, wanted) in [(true, ""), (false, cut)] {
                let mut calls = Calls::new(vec!["look".to_owned()]).forced(forced);
                let mut segments = Vec::new();
                calls.push(cut, &mut segments);
                calls.finish(&mut segments);
                let text = |segment: &Segment| match segment {
                    Segment::Text(text) => Some(text.clone()),
                    _ => None,
                };
                assert_eq!(segments.iter().filter_map(text).collect::<String>(), wanted, "{cut}");
            }
        }
    }

    #[test]
    fn arguments_go_out_as_they_come() {
        let mut calls = Calls::new(vec!["look".to_owned()]);
        let mut segments = Vec::new();
        calls.push("<tool_call>\n{\"name\": \"look\", \"arguments\": {\"ci", &mut segments);
        let last = segments.last().expect("a segment");
        assert_eq!(
            *last,
            Segment::Call(json!({"index": 0, "function": {"arguments": "{\"ci"}}))
        );
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(
            text in "(<tool_call>|</tool_call>|\\{\"name\": \"look\", \"arguments\": \\{\"a\": \"\\}\"\\}\\}|\\[TOOL_CALLS\\]|,|;|\\[|\\]|<|a|\n| |\\{|\\}){0,10}",
            cuts in prop::collection::vec(0usize..200, 0..12),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let cut = run(&pieces);
            prop_assert_eq!(cut.2, text.len(), "every byte is accounted for");
            prop_assert_eq!(cut, run(&[&text]));
        }
    }
}
