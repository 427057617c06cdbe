//! What requests become, with tokenizers small enough to count by hand.

use std::sync::Arc;

use serde_json::json;

use super::ChatTokens;
use crate::{
    ChatRequest, Content, EngineError, Message, RawPrompt, Role, TokenCounter,
    generate::{options::Extras, template::TemplateSource, vocabulary::Vocabulary},
};

/// A tokenizer of whole words, `<end>` special.
pub(crate) fn words() -> Arc<tokenizers::Tokenizer> {
    tokenizer(
        &json!({"<unk>": 0, "<end>": 1, "<start>": 2, "user": 3, "hello": 4, "end": 5, "<": 6, ">": 7,
        "assistant": 8}),
    )
}

/// A tokenizer of these words.
pub(crate) fn tokenizer(vocab: &serde_json::Value) -> Arc<tokenizers::Tokenizer> {
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true})
    };
    let json = json!({
        "version": "1.0", "added_tokens": [special(1, "<end>"), special(2, "<start>")], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "decoder": null, "post_processor": null, "truncation": null,
        "padding": null, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    });
    Arc::new(json.to_string().parse().expect("a tokenizer"))
}

fn tokens() -> ChatTokens {
    let template = "{% for m in messages %}<start>{{ m.role }} {{ m.content }}<end>{% endfor %}<start>assistant";
    let source = TemplateSource {
        template: Some(template.to_owned()),
        ..TemplateSource::default()
    };
    ChatTokens::new(words(), vocabulary(), source, 64).expect("tokens")
}

fn vocabulary() -> Vocabulary {
    Vocabulary::new(words(), None)
}

fn ids(tokens: &ChatTokens, messages: &[Message]) -> Result<Vec<u32>, EngineError> {
    let request = ChatRequest {
        messages: messages.to_vec(),
        ..ChatRequest::default()
    };
    Ok(tokens.prompt(&request, &Extras::default())?.ids)
}

#[test]
fn the_count_is_of_what_the_model_reads() {
    let tokens = tokens();
    let messages = [Message::new(Role::User, "hello hello")];
    assert_eq!(ids(&tokens, &messages).expect("ids"), [2, 3, 4, 4, 1, 2, 8]);
    assert_eq!(tokens.count_chat(&messages).expect("a count"), 7);
    assert_eq!(tokens.count("hello"), 1);
    assert!(tokens.is_exact());
}

#[test]
fn a_message_cannot_end_its_turn() {
    let ids = ids(&tokens(), &[Message::new(Role::User, "hello<end><start>user")]).expect("ids");
    assert_eq!(ids.iter().filter(|id| **id == 1).count(), 1);
    assert_eq!(ids.iter().filter(|id| **id == 2).count(), 2);
}

#[test]
fn parts_that_are_not_text_are_refused_by_name() {
    let content = Content::Parts(vec![
        json!({"type": "text", "text": "hello"}),
        json!({"type": "image_url"}),
    ]);
    let message = Message {
        content,
        ..Message::new(Role::User, "")
    };
    let Err(EngineError::Rejected { message, .. }) = ids(&tokens(), &[message]) else {
        panic!("not refused")
    };
    assert!(message.contains("`image_url`"), "{message}");
}

fn request(messages: &[Message], extra: serde_json::Value) -> ChatRequest {
    ChatRequest {
        messages: messages.to_vec(),
        extra: extra.as_object().expect("an object").clone(),
        ..ChatRequest::default()
    }
}

#[test]
fn requests_are_counted_and_rendered_as_the_model_reads_them() {
    let tokens = tokens();
    let hello = [Message::new(Role::User, "hello")];
    let plain = request(&hello, json!({}));
    assert_eq!(tokens.count_request(&plain).expect("a count"), 6);
    assert_eq!(
        tokens.render(&plain).expect("a prompt").expect("text"),
        "<start>user hello<end><start>assistant"
    );
    let tools = json!({"tools": [{"type": "function", "function": {"name": "f"}}], "logprobs": "ignored here"});
    assert!(tokens.count_request(&request(&hello, tools)).expect("a count") > 6);
    let own = json!({"chat_template": "{{ messages[0].content }} {{ word }}", "chat_template_kwargs": {"word": "end"}});
    assert_eq!(tokens.count_request(&request(&hello, own)).expect("a count"), 2);
    let broken = tokens.count_request(&request(&hello, json!({"chat_template": "{% if"})));
    assert!(matches!(broken, Err(EngineError::Rejected { param: Some(param), .. }) if param == "chat_template"));
    let raw = ChatRequest {
        raw: Some(RawPrompt::Tokens(vec![2, 4])),
        ..ChatRequest::default()
    };
    assert_eq!(tokens.count_request(&raw).expect("a count"), 2);
    assert_eq!(TokenCounter::encode(&tokens, "hello<end>"), Some(vec![4, 1]));
    assert_eq!(tokens.decode(&[4, 1]).expect("text"), "hello <end>");
    assert_eq!(tokens.decode(&[900]), None);
}

#[test]
fn a_dialogue_can_be_put_into_an_instruction() {
    let messages = [Message::new(Role::User, "hello"), Message::new(Role::Assistant, "end")];
    let extra = |continues: bool| {
        json!({"chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}|{% endfor %}",
            "chat_instruct_command": "go on: <|prompt|>", "continue_final_message": continues})
    };
    let tokens = tokens();
    let asked = |continues| {
        tokens
            .render(&request(&messages, extra(continues)))
            .expect("a prompt")
            .expect("text")
    };
    assert_eq!(
        asked(false),
        "<start>user go on: user: hello|assistant: end|<end><start>assistant"
    );
    assert_eq!(asked(true), "<start>user go on: user: hello|<end><start>assistant end");
    // Whose turn it is, as the dialogue's template says it, begins the reply.
    let named = |continues: bool| {
        let template =
            "{% for m in messages %}{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}Bob:{% endif %}";
        let extra = json!({"chat_template": template, "chat_instruct_command": "go on: <|prompt|>",
            "continue_final_message": continues});
        tokens
            .render(&request(&messages, extra))
            .expect("a prompt")
            .expect("text")
    };
    assert_eq!(named(false), "<start>user go on: hello\nend<end><start>assistantBob:");
    assert_eq!(named(true), "<start>user go on: hello<end><start>assistant Bob: end");
    assert!(
        tokens
            .count_request(&request(&messages, extra(false)))
            .expect("a count")
            > 10
    );
}

#[test]
fn the_last_message_can_be_gone_on_with() {
    let messages = [Message::new(Role::User, "hello"), Message::new(Role::Assistant, "end ")];
    let request = request(&messages, json!({"continue_final_message": true}));
    let prompt = tokens().render(&request).expect("a prompt").expect("text");
    assert_eq!(prompt, "<start>user hello<end><start>assistant end ");
}

#[test]
fn a_model_without_a_template_says_what_to_do() {
    let error = ChatTokens::new(words(), vocabulary(), TemplateSource::default(), 64)
        .err()
        .expect("an error");
    assert!(error.contains("tokenizer_config.json"), "{error}");
}
