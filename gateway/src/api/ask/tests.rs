//! Headers. What goes through the router is in `tests/api/chat.rs`.

use super::*;

fn headers(name: HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
}

#[test]
fn reads_what_memory_may_do() {
    assert_eq!(memory_mode(&HeaderMap::new()).unwrap(), None);
    for (value, mode) in [
        ("off", MemoryMode::Off),
        ("read", MemoryMode::Read),
        ("write", MemoryMode::Write),
        ("on", MemoryMode::On),
        (" OFF ", MemoryMode::Off),
    ] {
        assert_eq!(memory_mode(&headers(MEMORY, value)).unwrap(), Some(mode), "{value}");
    }
    for value in ["", "yes", "on,off"] {
        let error = memory_mode(&headers(MEMORY, value)).unwrap_err();
        assert_eq!(
            (error.status.as_u16(), error.param.as_deref()),
            (400, Some("X-Habit-Memory")),
            "{value}"
        );
    }
}

#[test]
fn the_header_names_the_conversation_before_the_metadata() {
    let caller = || Scope::new("t", "u").unwrap();
    let none = HeaderMap::new();
    assert_eq!(scope(caller(), &none, None).unwrap().conversation(), None);
    assert_eq!(
        scope(caller(), &none, Some("meta".into())).unwrap().conversation(),
        Some("meta")
    );
    let named = headers(CONVERSATION, "a/b:c-1@x._");
    assert_eq!(
        scope(caller(), &named, Some("meta".into())).unwrap().conversation(),
        Some("a/b:c-1@x._")
    );
    assert_eq!(
        scope(caller(), &headers(CONVERSATION, ""), Some("meta".into()))
            .unwrap()
            .conversation(),
        Some("meta")
    );
}

#[test]
fn odd_conversation_names_are_refused() {
    let caller = || Scope::new("t", "u").unwrap();
    let long = "x".repeat(CONVERSATION_MAX + 1);
    for id in ["a b", "é", "a'b", long.as_str()] {
        let error = scope(caller(), &HeaderMap::new(), Some(id.to_owned())).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("metadata.conversation_id"), "{id}");
        let Ok(value) = HeaderValue::from_str(id) else { continue };
        let error = scope(caller(), &HeaderMap::from_iter([(CONVERSATION, value)]), None).unwrap_err();
        assert_eq!(
            (error.status.as_u16(), error.param.as_deref()),
            (400, Some("X-Habit-Conversation"))
        );
    }
}
