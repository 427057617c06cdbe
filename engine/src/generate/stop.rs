//! Stop strings over a stream of text: what may go out at once, and what must wait because it may yet become one.

use super::channel::overlap;

/// Finds stop strings in text that arrives in pieces.
///
/// How the text is cut into pieces never changes what comes out: the reply ends before the stop string that is
/// complete first (of two that end together, the longer).
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    /// The stop string that was met, by its place in `stops`.
    met: Option<usize>,
}

impl StopMatcher {
    /// A matcher for these strings; empty ones stop nothing and are left out.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self {
            stops,
            held: String::new(),
            met: None,
        }
    }

    /// Takes the next piece and gives the text that can go out. After a stop string nothing more comes.
    pub fn push(&mut self, piece: &str) -> String {
        if self.is_stopped() {
            return String::new();
        }
        if self.stops.is_empty() {
            return piece.to_owned();
        }
        self.held.push_str(piece);
        if let Some((start, stop)) = self.first_stop() {
            self.met = Some(stop);
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return text;
        }
        let keep = self.held_back();
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// The text that waited in vain: the reply is over and it did not become a stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string was met.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.met.is_some()
    }

    /// The stop string that was met.
    #[must_use]
    pub fn met(&self) -> Option<&str> {
        self.met.and_then(|at| self.stops.get(at)).map(String::as_str)
    }

    /// Where the stop string that is complete first begins, and which one it is.
    fn first_stop(&self) -> Option<(usize, usize)> {
        let ends = self.stops.iter().enumerate().filter_map(|(at, stop)| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, at))
        });
        ends.min().map(|(_, start, at)| (start, at))
    }

    /// Whether there is anything to look for.
    pub(crate) fn is_idle(&self) -> bool {
        self.stops.is_empty()
    }

    /// Bytes at the end of what is held that begin a stop string.
    fn held_back(&self) -> usize {
        self.stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::StopMatcher;

    fn run(stops: &[String], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops);
        let mut out: String = pieces.iter().map(|piece| matcher.push(piece)).collect();
        let stopped = matcher.is_stopped();
        out.push_str(&matcher.finish());
        (out, stopped)
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_stop_across_pieces_never_leaks() {
        let mut matcher = StopMatcher::new(&strings(&["\n\nUser:"]));
        assert_eq!(matcher.push("Hello\n"), "Hello");
        assert_eq!(matcher.push("\nUs"), "");
        assert_eq!(matcher.push("er: more"), "");
        assert!(matcher.is_stopped());
        assert_eq!(matcher.met(), Some("\n\nUser:"));
        assert_eq!(matcher.push("after"), "");
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn what_was_held_in_vain_comes_out() {
        assert_eq!(
            run(&strings(&["END"]), &["an E", "N", "d"]),
            ("an ENd".to_owned(), false)
        );
        assert_eq!(run(&strings(&["END"]), &["an EN"]), ("an EN".to_owned(), false));
    }

    #[test]
    fn the_stop_that_is_complete_first_wins() {
        assert_eq!(run(&strings(&["abc", "b"]), &["xabc"]), ("xa".to_owned(), true));
        assert_eq!(run(&strings(&["bc", "abc"]), &["xabc"]), ("x".to_owned(), true));
    }

    #[test]
    fn empty_stops_stop_nothing() {
        assert_eq!(run(&strings(&["", ""]), &["text"]), ("text".to_owned(), false));
    }

    proptest! {
        /// Against the plain definition over the whole text, however it is cut.
        #[test]
        fn cutting_changes_nothing(
            text in "[abä]{0,24}",
            stops in prop::collection::vec("[abä]{0,4}", 0..4),
            cuts in prop::collection::vec(0usize..24, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| text.is_char_boundary(*cut)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let (out, stopped) = run(&stops, &pieces);

            let ends = stops.iter().filter(|stop| !stop.is_empty());
            let first = ends.filter_map(|stop| text.find(stop.as_str()).map(|at| (at + stop.len(), at))).min();
            prop_assert_eq!(stopped, first.is_some());
            prop_assert_eq!(out.as_str(), first.map_or(text.as_str(), |(_, start)| &text[..start]));
            prop_assert!(stops.iter().all(|stop| stop.is_empty() || !out.contains(stop.as_str())));
        }

        /// Nothing that could still be cut away is let out early.
        #[test]
        fn nothing_goes_out_too_early(text in "[ab]{0,16}", stop in "[ab]{1,4}") {
            let stops = vec![stop];
            let (whole, _) = run(&stops, &[&text]);
            let mut matcher = StopMatcher::new(&stops);
            let mut out = String::new();
            for letter in text.chars() {
                out.push_str(&matcher.push(letter.encode_utf8(&mut [0; 4])));
                prop_assert!(whole.starts_with(&out));
            }
        }
    }
}
