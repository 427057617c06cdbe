//! What must hold of every assembled prompt.

use habit_engine::scripted::Counter;
use habit_engine::{Content, EngineError, Message, Role, TokenCounter};
use habit_memory::assembly::{Budget, MEMORY_TOKENS, assemble};
use habit_memory::passage::{Citation, Passage, SourceKind};
use proptest::prelude::*;
use serde_json::json;

mod overflow;

const WINDOW: usize = 2_048;

fn budget() -> Budget {
    Budget {
        context_window: WINDOW,
        reply_tokens: 256,
        memory_tokens: MEMORY_TOKENS,
    }
}

fn note(id: &str, text: &str, score: f32, at: i64) -> Passage {
    let citation = Citation {
        id: id.to_owned(),
        label: "2026-11-21".to_owned(),
        at,
        ordinal: 0,
    };
    Passage {
        text: text.to_owned(),
        source: SourceKind::Recalled,
        score,
        tokens: 0,
        citation,
        returned: false,
    }
}

fn talk() -> Vec<Message> {
    vec![
        Message::new(Role::System, "Be brief."),
        Message::new(Role::User, "Hello"),
        Message::new(Role::Assistant, "Hello!"),
        Message::new(Role::User, "What is my dog called?"),
    ]
}

prop_compose! {
    fn some_notes()(parts in prop::collection::vec(
        ("[a-zA-Z<>/|\\[\\] \n]{0,400}", 0.0_f32..1.0, 0_i64..50, 0_usize..3), 0..20,
    )) -> Vec<Passage> {
        parts.into_iter().enumerate().map(|(n, (text, score, at, source))| {
            let source = [SourceKind::Recalled, SourceKind::Persistent, SourceKind::Inference][source];
            Passage { source, ..note(&format!("id{n}"), &text, score, at) }
        }).collect()
    }
}

proptest! {
    #[test]
    fn every_prompt_keeps_the_rules(notes in some_notes(), window in 40_usize..3_000, memory in 0_usize..2_500) {
        let (counter, messages) = (Counter::new(window), talk());
        let budget = Budget { context_window: window, reply_tokens: 64, memory_tokens: memory };
        let base = counter.count_chat(&messages).unwrap();
        let assembled = assemble(&messages, notes.clone(), &budget, &counter).unwrap();
        let total = counter.count_chat(&assembled.messages).unwrap();

        // It fits, and memory takes no more than it may.
        prop_assert!(total <= window);
        prop_assert!(total - base <= memory.min(window / 3));
        prop_assert!(assembled.injected.is_empty() || total + budget.reply_tokens <= window);
        // Every passage is either in it or dropped, and none is made up.
        prop_assert_eq!(assembled.injected.len() + assembled.dropped.len(), notes.len());
        for passage in assembled.injected.iter().chain(&assembled.dropped) {
            prop_assert!(passage.tokens > 0);
            let given = Passage { tokens: 0, ..passage.clone() };
            prop_assert!(notes.contains(&given));
        }
        // Oldest first.
        prop_assert!(assembled.injected.windows(2).all(|pair| pair[0].citation.at <= pair[1].citation.at));
        // The client's own messages are as they were, the last one at the end of what is sent for it.
        prop_assert_eq!(&assembled.messages[..3], &messages[..3]);
        prop_assert_eq!(assembled.messages.len(), messages.len());
        let last = assembled.messages[3].text();
        prop_assert!(last.contains("What is my dog called?"));
        prop_assert_eq!(last == "What is my dog called?", assembled.injected.is_empty());
        // No note ends the fence: what follows the first empty line is the question.
        if let Some((_, after)) = last.split_once("\n\n") {
            prop_assert!(after.starts_with("Question: What is my dog called?"));
        }
        // The same again, whatever the order of the notes.
        let mut turned = notes;
        turned.reverse();
        prop_assert_eq!(assemble(&messages, turned, &budget, &counter).unwrap().messages, assembled.messages);
    }
}

#[test]
fn notes_stand_before_the_question_with_their_date() {
    let notes = vec![
        note("b", "User said: I moved to Ghent.", 0.4, 20),
        note("a", "User said: My dog is called Biscuit.", 0.9, 10),
    ];
    let assembled = assemble(&talk(), notes, &budget(), &Counter::new(WINDOW)).unwrap();
    let text = assembled.messages[3].text();
    let (dog, moved) = (
        text.find("- [2026-11-21] User said: My dog").unwrap(),
        text.find("I moved").unwrap(),
    );
    assert!(
        dog < moved && moved < text.find("What is my dog called?").unwrap(),
        "{text}"
    );
    assert_eq!(
        assembled
            .injected
            .iter()
            .map(|note| note.citation.id.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
}

#[test]
fn the_worst_go_first_and_each_source_keeps_its_best() {
    let long = "word ".repeat(200);
    let mut notes: Vec<Passage> = (0_u8..8)
        .map(|n| note(&n.to_string(), &long, 0.9 - f32::from(n) / 100.0, 0))
        .collect();
    notes.push(Passage {
        source: SourceKind::Persistent,
        ..note("document", &long, 0.2, 0)
    });
    let assembled = assemble(&talk(), notes, &budget(), &Counter::new(WINDOW)).unwrap();
    let mut ids: Vec<&str> = assembled
        .injected
        .iter()
        .map(|note| note.citation.id.as_str())
        .collect();
    ids.sort_unstable();
    // A third of the window is 682 tokens; a note has some 255.
    assert_eq!(ids, ["0", "document"]);
}

#[test]
fn parts_get_a_text_part_in_front() {
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}});
    let question = json!({"type": "text", "text": "Is this Biscuit?"});
    let mut message = Message::new(Role::User, "");
    message.content = Content::Parts(vec![question.clone(), picture.clone()]);
    let notes = vec![note("a", "User said: My dog is called Biscuit.", 0.9, 10)];
    let assembled = assemble(&[message], notes, &budget(), &Counter::new(WINDOW)).unwrap();
    let Content::Parts(parts) = &assembled.messages[0].content else {
        panic!("parts stay parts")
    };
    assert_eq!(parts[1..], [question, picture]);
    assert!(parts[0]["text"].as_str().unwrap().contains("Biscuit"));
}

#[test]
fn messages_that_do_not_fit_alone_are_an_error_and_never_cut() {
    let messages = vec![Message::new(Role::User, "word ".repeat(2_000))];
    let error = assemble(&messages, Vec::new(), &budget(), &Counter::new(WINDOW)).unwrap_err();
    assert!(
        matches!(error, EngineError::ContextLengthExceeded { limit: WINDOW, asked: None, prompt } if prompt > WINDOW)
    );
}

#[test]
fn without_a_user_message_nothing_is_added() {
    let messages = vec![Message::new(Role::System, "Say something.")];
    let notes = vec![note("a", "User said: My dog is called Biscuit.", 0.9, 10)];
    let assembled = assemble(&messages, notes, &budget(), &Counter::new(WINDOW)).unwrap();
    assert_eq!((assembled.messages, assembled.dropped.len()), (messages, 1));
}
