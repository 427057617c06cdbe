//! Overflow: which turns leave the prompt when a conversation outgrows the model's window. Pure: the same messages and
//! room always give the same prompt. What becomes of those that left is recall's business ([`crate::context`]).
//!
//! Turns leave whole and oldest first; a tool's results leave with the call. Instructions stay, wherever they stand, and
//! so do the last user message and what was said last. Where turns are cut moves in steps, so that the prompt's begin is
//! the same for some turns and an engine can keep what it computed for it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use habit_engine::{ChatRequest, EngineError, Message, Role, TokenCounter};
use serde::{Deserialize, Serialize};

/// Tokens around a message, roughly, until the whole prompt is counted.
const AROUND: usize = 8;

/// Tokens that a template may put into a prompt beside the messages, where there are no tools.
const BESIDE: usize = 256;

/// What a prompt may take, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// A prompt of so many is left as it is.
    pub most: usize,
    /// One of more is brought down to this, so that there is room for what is recalled.
    pub aim: usize,
    /// Where the last turn alone takes more than `aim`, it may still take this.
    pub limit: usize,
}

/// What left a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Turns; of the last one, a step (a call with its results) counts as one.
    pub turns: usize,
    /// Messages.
    pub messages: usize,
    /// Where they stood among the client's messages, counted from 0, without the end; instructions in between stayed.
    pub places: Vec<(usize, usize)>,
}

/// A turn that left, as recall looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Where it began among the client's messages, counted from 0.
    pub place: usize,
    /// The user's words.
    pub prompt: String,
    /// The model's.
    pub reply: String,
    /// Who the user is, where the client says so.
    pub name: Option<String>,
}

/// The turns that left a prompt, for recall.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gone {
    /// Oldest first.
    pub turns: Arc<Vec<Earlier>>,
    /// Messages at the conversation's begin that were never turns here: those of them that left are found in no index.
    pub brought: usize,
}

/// A prompt that was shortened.
#[derive(Debug, Clone, PartialEq)]
pub struct Shortened {
    /// What stays.
    pub messages: Vec<Message>,
    /// What left.
    pub left: Left,
    /// The turns that left, oldest first.
    pub earlier: Vec<Earlier>,
}

/// The request's messages without those that must leave; `None` where nothing must, or where that would not help: then
/// the engine says what is wrong.
///
/// # Errors
/// What the counter says of messages that its template can't express.
pub fn shorten(
    request: &ChatRequest,
    room: Room,
    counter: &dyn TokenCounter,
) -> Result<Option<Shortened>, EngineError> {
    if !overflows(request, room.most, counter)? {
        return Ok(None);
    }
    let units = Units::of(&request.messages);
    let mut probe = ChatRequest {
        messages: Vec::new(),
        verbatim: None,
        ..request.clone()
    };
    let mut tokens = |leaving: usize| {
        probe.messages = units.without(leaving);
        counter.count_request(&probe)
    };
    let most = units.movable.len();
    if most == 0 {
        return Ok(None);
    }
    let mut leaving = units.guess(room.aim, counter);
    while leaving < most && tokens(leaving)? > room.aim {
        leaving += 1;
    }
    if leaving == most && tokens(most)? > room.limit {
        return Ok(None);
    }
    let leaving = units.stepped(leaving, room.aim);
    Ok(Some(units.shortened(leaving)))
}

/// Whether the prompt takes more than `most` tokens. A short one is not counted, and of a long one no more than it takes
/// to know.
fn overflows(request: &ChatRequest, most: usize, counter: &dyn TokenCounter) -> Result<bool, EngineError> {
    let messages = &request.messages;
    let bytes: usize = messages.iter().map(bytes).sum();
    // No tokenizer makes more tokens of a text than it has bytes.
    if !request.extra.contains_key("tools") && bytes + 2 * AROUND * messages.len() + BESIDE <= most {
        return Ok(false);
    }
    let mut tokens = 0;
    for message in messages.iter().rev() {
        tokens += counter.count(&message.text());
        if tokens > most {
            return Ok(true);
        }
    }
    Ok(counter.count_request(request)? > most)
}

/// Bytes of what a message says.
fn bytes(message: &Message) -> usize {
    let calls = message.tool_calls.iter().map(|call| call.to_string().len());
    message.text().len() + calls.sum::<usize>()
}

/// A conversation as what leaves together: turns, and of the last turn its steps.
struct Units<'a> {
    messages: &'a [Message],
    /// Those that may leave, oldest first. Instructions within stay.
    movable: Vec<Range<usize>>,
}

impl<'a> Units<'a> {
    fn of(messages: &'a [Message]) -> Self {
        let asked = messages.iter().rposition(|message| message.role == Role::User);
        let mut begins: Vec<usize> = Vec::new();
        // Where a call was made, for its results.
        let mut calls: HashMap<&str, usize> = HashMap::new();
        for (place, message) in messages.iter().enumerate() {
            let begins_one = match message.role {
                Role::User => true,
                // After what is asked now, each of the model's steps stands for itself.
                Role::Assistant => asked.is_none_or(|asked| place > asked),
                Role::System | Role::Tool => false,
            };
            if message.role != Role::System && (begins_one || begins.is_empty()) {
                begins.push(place);
            }
            for id in message.tool_calls.iter().filter_map(|call| call.get("id")?.as_str()) {
                calls.insert(id, place);
            }
            let made = message.tool_call_id.as_deref().and_then(|id| calls.get(id));
            if let Some(made) = made {
                // All that was begun after the call belongs to it.
                begins.retain(|begin| begin <= made);
            }
        }
        let ends = begins.iter().skip(1).copied().chain([messages.len()]);
        let mut movable: Vec<Range<usize>> = begins.iter().zip(ends).map(|(begin, end)| *begin..end).collect();
        movable.pop();
        movable.retain(|unit| asked.is_none_or(|asked| !unit.contains(&asked)));
        Self { messages, movable }
    }

    /// Messages of a unit that leave with it, with their places.
    fn of_unit(&self, unit: &Range<usize>) -> impl Iterator<Item = (usize, &'a Message)> {
        let messages = self.messages.iter().enumerate();
        let within = messages.skip(unit.start).take(unit.len());
        within.filter(|(_, message)| message.role != Role::System)
    }

    /// How many must leave, by a count of each message alone, newest first; the whole prompt is counted afterwards.
    fn guess(&self, aim: usize, counter: &dyn TokenCounter) -> usize {
        let tokens = |message: &Message| counter.count(&message.text()) + AROUND / 2;
        let stay = |place: &usize| !self.movable.iter().any(|unit| unit.contains(place));
        let fixed = (self.movable.last().map_or(0, |unit| unit.end)..self.messages.len()).filter(stay);
        let mut sum: usize = fixed.map(|place| tokens(&self.messages[place])).sum();
        for (place, unit) in self.movable.iter().enumerate().rev() {
            sum += self.of_unit(unit).map(|(_, message)| tokens(message)).sum::<usize>();
            if sum > aim {
                return place + 1;
            }
        }
        0
    }

    /// As many more as it takes to come to the next step, each of about a quarter of the prompt; steps are counted from the
    /// conversation's begin, and in bytes, so that they stay where they are from turn to turn.
    fn stepped(&self, leaving: usize, aim: usize) -> usize {
        // Four bytes a token, a quarter of the tokens.
        let step = aim.max(1);
        let size = |unit: &Range<usize>| self.of_unit(unit).map(|(_, message)| bytes(message)).sum::<usize>();
        let sizes: Vec<usize> = self.movable.iter().map(size).collect();
        let gone: usize = sizes.iter().take(leaving).sum();
        let rest: usize = sizes.iter().skip(leaving).sum();
        let mark = gone.div_ceil(step) * step;
        // Where a step is most of what is left, the language has more tokens a byte than thought.
        if mark - gone > rest / 2 {
            return leaving;
        }
        let (mut gone, mut leaving) = (gone, leaving);
        while gone < mark && leaving < sizes.len() {
            gone += sizes[leaving];
            leaving += 1;
        }
        leaving
    }

    fn left_places(&self, leaving: usize) -> impl Iterator<Item = (usize, &'a Message)> {
        self.movable.iter().take(leaving).flat_map(|unit| self.of_unit(unit))
    }

    fn without(&self, leaving: usize) -> Vec<Message> {
        let mut gone = vec![false; self.messages.len()];
        for (place, _) in self.left_places(leaving) {
            gone[place] = true;
        }
        let stay = self.messages.iter().zip(gone).filter(|(_, gone)| !gone);
        stay.map(|(message, _)| message.clone()).collect()
    }

    fn shortened(&self, leaving: usize) -> Shortened {
        let mut left = Left {
            turns: leaving,
            ..Left::default()
        };
        for (place, _) in self.left_places(leaving) {
            left.messages += 1;
            match left.places.last_mut() {
                Some((_, end)) if *end == place => *end = place + 1,
                _ => left.places.push((place, place + 1)),
            }
        }
        Shortened {
            messages: self.without(leaving),
            left,
            earlier: self
                .movable
                .iter()
                .take(leaving)
                .map(|unit| self.earlier(unit))
                .collect(),
        }
    }

    fn earlier(&self, unit: &Range<usize>) -> Earlier {
        let said = |role: Role| -> Vec<String> {
            let messages = self.of_unit(unit).filter(|(_, message)| message.role == role);
            messages.map(|(_, message)| message.text()).collect()
        };
        let mut names = self.of_unit(unit).filter(|(_, message)| message.role == Role::User);
        Earlier {
            place: unit.start,
            prompt: said(Role::User).join("\n"),
            reply: said(Role::Assistant).join("\n"),
            name: names.find_map(|(_, message)| message.name.clone()),
        }
    }
}
