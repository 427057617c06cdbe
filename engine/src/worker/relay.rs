//! Passes a response on as it came, for a client that speaks the upstream's language. Only its end is read: why it
//! ended and what it took. Events are relayed whole, so that an error can follow any of them.
//!
//! The usage is always asked for, because turns are recorded and limited by it; a client that didn't ask doesn't get
//! the chunk that holds it.

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use reqwest::Response;

use super::reply::Assembly;
use super::sse::{LARGEST, Parser, TooLarge};
use crate::{Delta, EngineError};

/// The items of a response to a request for a whole reply.
pub(super) fn whole(
    response: Response,
    name: String,
    prompt_guess: usize,
) -> impl Stream<Item = Result<Delta, EngineError>> + Send + 'static {
    async_stream::stream! {
        let mut reply = Relayed::new(name, prompt_guess, false);
        match response.bytes().await {
            Ok(body) => {
                reply.assembly.whole(&body);
                reply.forget_read();
                if let Some(Ok(_)) = reply.assembly.ready.front() {
                    yield Ok(Delta::Written(body));
                }
            }
            Err(error) => reply.assembly.fail(&format!("the connection was lost: {error}")),
        }
        for item in reply.assembly.ready {
            yield item;
        }
    }
}

/// The items of a response that is a stream of events.
pub(super) fn events(
    response: Response,
    name: String,
    prompt_guess: usize,
    hide_usage: bool,
) -> impl Stream<Item = Result<Delta, EngineError>> + Send + 'static {
    async_stream::stream! {
        // Whoever renders the reply knows from this that there is nothing to render, before the first token is made.
        yield Ok(Delta::Written(Bytes::new()));
        let mut reply = Relayed::new(name, prompt_guess, hide_usage);
        let mut bytes = response.bytes_stream();
        let mut cutter = Cutter::default();
        while !reply.assembly.ended {
            let events = match bytes.next().await {
                Some(Ok(piece)) => cutter.push(piece),
                // Some servers hang up as soon as they have said why they end.
                Some(Err(_)) if reply.assembly.reason.is_some() => {
                    reply.assembly.end();
                    break;
                }
                Some(Err(error)) => {
                    reply.assembly.fail(&format!("the connection was lost: {error}"));
                    break;
                }
                None => {
                    if let Some(written) = reply.take(cutter.finish()) {
                        yield Ok(Delta::Written(written));
                    }
                    reply.assembly.end();
                    break;
                }
            };
            match events {
                Ok(events) => if let Some(written) = reply.take(events) {
                    yield Ok(Delta::Written(written));
                },
                Err(error) => reply.assembly.fail(&error.to_string()),
            }
        }
        for item in reply.assembly.ready {
            yield item;
        }
    }
}

/// What is known of a reply that is relayed.
struct Relayed {
    assembly: Assembly,
    hide_usage: bool,
}

impl Relayed {
    fn new(name: String, prompt_guess: usize, hide_usage: bool) -> Self {
        let assembly = Assembly {
            name,
            prompt_guess,
            ..Assembly::default()
        };
        Self { assembly, hide_usage }
    }

    /// Takes whole events and gives what of them is to be passed on. Text is not looked at: only events that may say
    /// something of the end are read.
    fn take(&mut self, events: Bytes) -> Option<Bytes> {
        let mut kept = BytesMut::new();
        let Some(mark) = first_mark(&events) else {
            self.assembly.estimated += 1;
            self.assembly.begun |= !events.is_empty();
            return Some(events).filter(|events| !events.is_empty());
        };
        let plain = last_end(&events[..mark]).unwrap_or(0);
        self.assembly.begun |= plain > 0;
        let (mut at, mut end) = (plain, plain);
        while at < events.len() && !self.assembly.ended {
            let event = first_end(&events[at..]).map_or(events.len(), |end| at + end);
            self.assembly.bare = false;
            self.read(&events[at..event]);
            let dropped = self.assembly.ended || (self.assembly.bare && self.hide_usage);
            if !dropped {
                self.assembly.begun = true;
                if kept.is_empty() && end == at {
                    // Still the beginning of the piece: nothing needs to be copied.
                    end = event;
                } else {
                    kept.extend_from_slice(&events[at..event]);
                }
            }
            at = event;
        }
        let whole = events.slice(..end);
        if kept.is_empty() {
            return Some(whole).filter(|events| !events.is_empty());
        }
        let mut joined = BytesMut::from(&whole[..]);
        joined.unsplit(kept);
        Some(joined.freeze())
    }

    fn read(&mut self, event: &[u8]) {
        let mut parser = Parser::default();
        // As large as a piece may be, so it can't be too large.
        let mut read = parser.push(event).unwrap_or_default();
        read.extend(parser.finish());
        read.iter().for_each(|event| self.assembly.event(event));
        self.forget_read();
    }

    /// The text that was read on the way to the end is in the bytes.
    fn forget_read(&mut self) {
        self.assembly
            .ready
            .retain(|item| matches!(item, Err(_) | Ok(Delta::Finish { .. })));
    }
}

/// Cuts what arrives into whole events.
#[derive(Default)]
struct Cutter {
    rest: BytesMut,
}

impl Cutter {
    /// The whole events that there are with this piece. Pieces mostly are whole events: nothing is copied then.
    fn push(&mut self, mut piece: Bytes) -> Result<Bytes, TooLarge> {
        if self.rest.is_empty() {
            let end = last_end(&piece).unwrap_or(0);
            let whole = piece.split_to(end);
            self.rest.extend_from_slice(&piece);
            return Ok(whole);
        }
        // An end may lie across the pieces; what was there before it was searched already.
        let from = self.rest.len().saturating_sub(3);
        self.rest.extend_from_slice(&piece);
        if self.rest.len() > LARGEST {
            return Err(TooLarge);
        }
        let end = last_end(&self.rest[from..]).map_or(0, |end| from + end);
        Ok(self.rest.split_to(end).freeze())
    }

    /// What is left: an event that lacks only its empty line, as careless servers leave it.
    fn finish(mut self) -> Bytes {
        if self.rest.is_empty() {
            return Bytes::new();
        }
        self.rest.extend_from_slice(b"\n\n");
        self.rest.freeze()
    }
}

/// Behind the first empty line.
fn first_end(bytes: &[u8]) -> Option<usize> {
    let breaks = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| matches!(byte, b'\n' | b'\r'));
    breaks.into_iter().find_map(|(at, _)| end_at(bytes, at))
}

/// Behind the last empty line.
fn last_end(bytes: &[u8]) -> Option<usize> {
    let breaks = bytes
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| matches!(byte, b'\n' | b'\r'));
    breaks.into_iter().find_map(|(at, _)| end_at(bytes, at))
}

/// Behind the empty line whose line before ends at `at`, if there is one.
fn end_at(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    [&b"\n\n"[..], b"\r\n\r\n", b"\n\r\n", b"\r\r"]
        .iter()
        .find(|end| rest.starts_with(end))
        .map(|end| at + end.len())
}

/// Where the first thing is that may say something of the end: why it ended, its usage, an error, `[DONE]`. Inside a
/// string the quotes would be escaped, and so not be taken for a field's; what is, is read and found to be nothing.
fn first_mark(bytes: &[u8]) -> Option<usize> {
    let candidates = bytes.iter().enumerate().filter(|(_, byte)| matches!(byte, b'"' | b'['));
    candidates
        .into_iter()
        .map(|(at, _)| at)
        .find(|at| is_mark(&bytes[*at..]))
}

fn is_mark(rest: &[u8]) -> bool {
    let not_null = |field: &[u8]| {
        let value = rest.strip_prefix(field)?;
        Some(!value.trim_ascii_start().starts_with(b"null"))
    };
    match rest.get(..2) {
        Some(b"[D") => rest.starts_with(b"[DONE]"),
        Some(b"\"f") => not_null(b"\"finish_reason\":").unwrap_or(false),
        Some(b"\"u") => not_null(b"\"usage\":").unwrap_or(false),
        Some(b"\"e") => not_null(b"\"error\":").unwrap_or(false),
        Some(b"\"d") => not_null(b"\"detail\":").unwrap_or(false),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes that are passed on of a stream that comes in these pieces, and how it ends.
    fn relayed(pieces: &[&[u8]], hide_usage: bool) -> (String, Vec<Result<Delta, EngineError>>) {
        let mut reply = Relayed::new("up".to_owned(), 0, hide_usage);
        let mut cutter = Cutter::default();
        let mut out = Vec::new();
        for piece in pieces {
            let events = cutter.push(Bytes::copy_from_slice(piece)).unwrap();
            out.extend(reply.take(events));
            if reply.assembly.ended {
                break;
            }
        }
        out.extend(reply.take(cutter.finish()));
        reply.assembly.end();
        (String::from_utf8(out.concat()).unwrap(), reply.assembly.ready.into())
    }

    const TEXT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a \\\"error\\\": [x]\"},\"finish_reason\":null}],\"usage\":null,\"x\":1}\n\n";
    const REASON: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    #[test]
    fn everything_but_the_end_mark_is_passed_on() {
        let stream = [": ping\n\n", TEXT, TEXT, REASON, USAGE, DONE].concat();
        let (out, ready) = relayed(&[stream.as_bytes()], false);
        assert_eq!(out, [": ping\n\n", TEXT, TEXT, REASON, USAGE].concat());
        assert!(
            matches!(ready.as_slice(), [Ok(Delta::Finish { reason: crate::FinishReason::Length, usage })]
                if (usage.prompt_tokens, usage.completion_tokens) == (3, 4)),
            "{ready:?}"
        );
        let (out, _) = relayed(&[stream.as_bytes()], true);
        assert_eq!(out, [": ping\n\n", TEXT, TEXT, REASON].concat());
    }

    #[test]
    fn an_error_ends_it() {
        let stream = [TEXT, "data: {\"error\":{\"message\":\"no memory\"}}\n\n", TEXT].concat();
        let (out, ready) = relayed(&[stream.as_bytes()], true);
        assert_eq!(out, TEXT);
        assert!(
            matches!(ready.as_slice(), [Err(EngineError::Interrupted(why))] if why.contains("no memory")),
            "{ready:?}"
        );
        let (out, ready) = relayed(&[b"data: {\"error\":\"no\"}\n\n"], true);
        assert_eq!(out, "");
        assert!(
            matches!(ready.as_slice(), [Err(EngineError::Unavailable(_))]),
            "{ready:?}"
        );
    }

    #[test]
    fn half_an_event_is_kept_back() {
        let (out, ready) = relayed(&[TEXT.as_bytes(), b"data: {\"choices\":[{\"delta\":"], true);
        assert!(out.starts_with(TEXT), "{out}");
        assert!(
            matches!(ready.as_slice(), [Err(EngineError::Interrupted(_))]),
            "{ready:?}"
        );
        let (out, ready) = relayed(&[TEXT.as_bytes(), REASON.trim_end().as_bytes()], true);
        assert_eq!(out, [TEXT, REASON].concat());
        assert!(matches!(ready.as_slice(), [Ok(Delta::Finish { .. })]), "{ready:?}");
    }

    proptest! {
        #[test]
        fn where_the_pieces_are_cut_does_not_matter(
            order in prop::collection::vec(prop::sample::select(vec![TEXT, ": ping\n\n", USAGE]), 0..6),
            ends in prop::sample::select(vec!["\n", "\r\n", "\r"]),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            hide in any::<bool>(),
        ) {
            let stream = [&order.concat(), REASON, USAGE, DONE].concat().replace('\n', ends);
            let bytes = stream.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let (out, ready) = relayed(&pieces, hide);
            let mut expected = [&order.concat(), REASON, USAGE].concat();
            if hide {
                expected = expected.replace(USAGE, "");
            }
            prop_assert_eq!(out, expected.replace('\n', ends));
            prop_assert!(matches!(ready.as_slice(), [Ok(Delta::Finish { .. })]), "{:?}", ready);
        }
    }
}
