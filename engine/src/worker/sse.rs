//! Reads server-sent events from bytes that arrive in any pieces. Pure: no I/O, no time.
//! The format: <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>.

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event` field; empty where there is none.
    pub name: String,
    /// The `data` lines, joined by newlines.
    pub data: String,
}

/// An event larger than this is refused: no chunk of a reply is, and memory is finite.
pub const LARGEST: usize = 16 << 20;

/// An event grew over [`LARGEST`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {LARGEST} bytes")]
pub struct TooLarge;

/// The state between pieces.
#[derive(Debug, Default)]
pub struct Parser {
    /// The line that is not whole yet.
    line: Vec<u8>,
    /// The last byte was a CR: a LF right after it belongs to it.
    after_cr: bool,
    event: Event,
    /// Whether the event has a data line: an event without one is none.
    has_data: bool,
}

impl Parser {
    /// Takes a piece; gives the events that it completes, in order.
    ///
    /// # Errors
    /// [`TooLarge`]; the parser is of no more use then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
            if self.line.len() + self.event.data.len() + line.len() > LARGEST {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(line);
            rest = after;
            if end.is_some() {
                events.extend(self.end_line());
                self.after_cr = rest.first() == Some(&b'\r');
                rest = &rest[1..];
            }
        }
        Ok(events)
    }

    /// The stream has ended: gives the event that lacked only its empty line, as careless servers leave it.
    pub fn finish(&mut self) -> Option<Event> {
        let last_line = (!self.line.is_empty()).then(|| self.end_line()).flatten();
        last_line.or_else(|| self.end_event())
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.end_event();
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event.name),
            // A comment (its field is empty), `id`, `retry`, or what a later version adds.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<Event> {
        let event = std::mem::take(&mut self.event);
        std::mem::take(&mut self.has_data).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut events: Vec<Event> = pieces.iter().flat_map(|piece| parser.push(piece).unwrap()).collect();
        events.extend(parser.finish());
        events
    }

    fn data(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.data.as_str()).collect()
    }

    #[test]
    fn reads_what_servers_send() {
        let text =
            b": ping\n\ndata: {\"a\":1}\r\n\r\nevent: error\ndata:x\ndata: y\nid: 3\n\n\n\ndata\n\ndata: [DONE]\n\n";
        let events = all(&[text]);
        assert_eq!(data(&events), ["{\"a\":1}", "x\ny", "", "[DONE]"]);
        assert_eq!(events[1].name, "error");
        assert_eq!(events[3].name, "");
    }

    #[test]
    fn an_end_without_an_empty_line_is_forgiven() {
        assert_eq!(data(&all(&[b"data: a\n\ndata: [DONE]"])), ["a", "[DONE]"]);
        assert_eq!(data(&all(&[b"data: a\n"])), ["a"]);
        assert!(all(&[b"event: nothing\n"]).is_empty());
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        assert!(parser.push(&vec![b'a'; LARGEST]).is_ok());
        assert_eq!(parser.push(b"a"), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn where_the_pieces_are_cut_does_not_matter(
            texts in prop::collection::vec("[^\r\n]{0,12}", 0..6),
            breaks in prop::collection::vec(prop::sample::select(vec!["\n", "\r\n", "\r"]), 12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut stream = String::new();
            for (n, text) in texts.iter().enumerate() {
                stream.extend(["data: ", text, breaks[2 * n], breaks[2 * n]]);
            }
            let bytes = stream.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let events = all(&pieces);
            prop_assert_eq!(data(&events), texts.iter().map(String::as_str).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut parser = Parser::default();
            prop_assert!(parser.push(&bytes).is_ok());
            parser.finish();
        }
    }
}
