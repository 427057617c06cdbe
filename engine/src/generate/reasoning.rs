//! Reasoning between think tags, told apart from the answer.

use super::channel::{Segment, overlap, push_marks, push_text};

/// The tags that are known, the opening and the closing one.
const TAGS: [Tags; 2] = [
    Tags {
        open: "<think>",
        close: "</think>",
    },
    Tags {
        open: "[THINK]",
        close: "[/THINK]",
    },
];

/// What encloses reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tags {
    pub(crate) open: &'static str,
    pub(crate) close: &'static str,
}

impl Tags {
    /// The tags that a chat template shows that its model writes.
    pub(crate) fn of(template: &str) -> Option<Self> {
        let known = |tags: &&Tags| template.contains(tags.open) || template.contains(tags.close);
        TAGS.iter().find(known).copied()
    }

    /// Whether a prompt ends with the opening tag, so that the reply begins within the reasoning.
    pub(crate) fn opened_by(self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open)
    }
}

/// Tells reasoning from the answer. Reasoning comes first if at all; a tag in the answer is text.
#[derive(Debug)]
pub(crate) struct Reasoner {
    tags: Tags,
    place: Place,
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// An opening tag may come.
    Start,
    /// White space after the opening tag is no reasoning.
    Opened,
    Inside,
    /// White space after the closing tag is no answer.
    Closed,
    Answer,
}

impl Reasoner {
    /// `opened` says that the prompt had the opening tag.
    pub(crate) fn new(tags: Tags, opened: bool) -> Self {
        Self {
            tags,
            place: if opened { Place::Opened } else { Place::Start },
            held: String::new(),
        }
    }

    pub(crate) fn is_inside(&self) -> bool {
        matches!(self.place, Place::Opened | Place::Inside)
    }

    pub(crate) fn push(&mut self, text: &str) -> Vec<Segment> {
        let mut segments = Vec::new();
        if self.place == Place::Answer {
            push_text(&mut segments, text);
            return segments;
        }
        self.held.push_str(text);
        while self.step(&mut segments) {}
        segments
    }

    /// What waited in vain.
    pub(crate) fn finish(&mut self) -> Vec<Segment> {
        let rest = std::mem::take(&mut self.held);
        let mut segments = Vec::new();
        match self.place {
            Place::Opened | Place::Inside if !rest.is_empty() => segments.push(Segment::Reasoning(rest)),
            Place::Closed => push_marks(&mut segments, rest.len()),
            _ => push_text(&mut segments, &rest),
        }
        segments
    }

    /// Goes on with what is held; false when it must wait for more.
    fn step(&mut self, segments: &mut Vec<Segment>) -> bool {
        let trimmed = self.held.trim_start();
        let space = self.held.len() - trimmed.len();
        match self.place {
            Place::Start => {
                if trimmed.starts_with(self.tags.open) {
                    self.drop(space + self.tags.open.len(), segments);
                    self.place = Place::Opened;
                } else if self.tags.open.starts_with(trimmed) {
                    return false;
                } else {
                    self.place = Place::Answer;
                }
            }
            Place::Opened | Place::Closed => {
                let done = !trimmed.is_empty();
                self.drop(space, segments);
                if !done {
                    return false;
                }
                self.place = if self.place == Place::Opened {
                    Place::Inside
                } else {
                    Place::Answer
                };
            }
            Place::Inside => {
                let end = self.held.find(self.tags.close);
                let out = end.unwrap_or_else(|| self.held.len() - overlap(&self.held, self.tags.close));
                let rest = self.held.split_off(out);
                let text = std::mem::replace(&mut self.held, rest);
                if !text.is_empty() {
                    segments.push(Segment::Reasoning(text));
                }
                if end.is_none() {
                    return false;
                }
                self.drop(self.tags.close.len(), segments);
                self.place = Place::Closed;
            }
            Place::Answer => {
                push_text(segments, &std::mem::take(&mut self.held));
                return false;
            }
        }
        true
    }

    fn drop(&mut self, bytes: usize, segments: &mut Vec<Segment>) {
        self.held.drain(..bytes);
        push_marks(segments, bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Reasoner, Segment, Tags};

    /// Reasoning and answer, and the bytes of all segments.
    fn run(opened: bool, pieces: &[&str]) -> (String, String, usize) {
        let tags = Tags::of("{{ '<think>' }}").expect("tags");
        let mut reasoner = Reasoner::new(tags, opened);
        let mut segments: Vec<Segment> = pieces.iter().flat_map(|piece| reasoner.push(piece)).collect();
        segments.extend(reasoner.finish());
        let (mut reasoning, mut text, mut bytes) = (String::new(), String::new(), 0);
        for segment in segments {
            match segment {
                Segment::Reasoning(piece) => reasoning.push_str(&piece),
                Segment::Text(piece) => text.push_str(&piece),
                Segment::Marks(marks) => bytes += marks,
                Segment::Call(call) => panic!("{call}"),
            }
        }
        bytes += reasoning.len() + text.len();
        (reasoning, text, bytes)
    }

    #[test]
    fn reasoning_comes_first_if_at_all() {
        let whole = |opened, text| {
            let (reasoning, answer, _) = run(opened, &[text]);
            (reasoning, answer)
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(whole(false, "<think>\nhm\n</think>\n\nYes."), pair("hm\n", "Yes."));
        assert_eq!(whole(true, "hm</think>Yes."), pair("hm", "Yes."));
        assert_eq!(whole(true, "hm, cut"), pair("hm, cut", ""));
        assert_eq!(whole(false, "Yes, a <think> tag."), pair("", "Yes, a <think> tag."));
        assert_eq!(whole(false, "<thin"), pair("", "<thin"));
        assert_eq!(whole(false, "<think></think>Yes."), pair("", "Yes."));
        assert_eq!(Tags::of("plain"), None);
        let tags = Tags::of("<think>").expect("tags");
        assert!(tags.opened_by("assistant\n<think>\n") && !tags.opened_by("<think>\n\n</think>\n\n"));
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(text in "(<think>|</think>|<|th|k>|a|\n| ){0,12}", opened: bool, cuts in prop::collection::vec(0usize..60, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let cut = run(opened, &pieces);
            prop_assert_eq!(cut.2, text.len());
            prop_assert_eq!(cut, run(opened, &[&text]));
        }
    }
}
