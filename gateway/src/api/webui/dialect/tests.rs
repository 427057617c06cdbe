use futures::executor::block_on_stream;
use habit_engine::{FinishReason, Usage};

use super::*;

fn translate(body: Value) -> Result<(ChatCompletionRequest, Shape), ApiError> {
    let mut body: ChatCompletionRequest = serde_json::from_value(body).unwrap();
    let shape = apply(&mut body, &Library::default())?;
    Ok((body, shape))
}

fn texts(body: &ChatCompletionRequest) -> Vec<(WireRole, String)> {
    let messages = body.messages.as_ref().unwrap().iter();
    let text = |content: &Option<WireContent>| match content {
        Some(WireContent::Text(text)) => text.clone(),
        other => panic!("{other:?}"),
    };
    messages.map(|message| (message.role, text(&message.content))).collect()
}

#[test]
fn a_plain_request_is_left_alone() {
    let plain = json!({"messages": [{"role": "user", "content": "hi"}], "stop": ["x"], "made_up": "u"});
    let (body, shape) = translate(plain).unwrap();
    assert_eq!(shape, Shape::default());
    assert_eq!(texts(&body), [(WireRole::User, "hi".to_owned())]);
    assert_eq!(Value::from(body.extra), json!({"made_up": "u"}));
}

#[test]
fn chat_is_a_dialogue_of_two_names() {
    let (body, shape) = translate(json!({
        "mode": "chat", "name1": "Ada", "bot_name": "Bob", "context": "{{char}} knows {{user}}.", "greeting": "Hi <USER>!",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}],
    }))
    .unwrap();
    let expected = [
        (WireRole::System, "Bob knows Ada.\n\nBe brief.".to_owned()),
        (WireRole::Assistant, "Hi Ada!".to_owned()),
        (WireRole::User, "Who are you?".to_owned()),
    ];
    assert_eq!(texts(&body), expected);
    assert_eq!(
        body.stop,
        Some(Stop::Many(vec!["\nAda:".to_owned(), "\nBob:".to_owned()]))
    );
    assert_eq!(body.extra["chat_template"], DIALOGUE);
    assert_eq!(
        body.extra["chat_template_kwargs"],
        json!({"name1": "Ada", "name2": "Bob"})
    );
    assert!(!body.extra.contains_key("chat_instruct_command") && !body.extra.contains_key("name1"));
    assert!(shape.trim);
}

#[test]
fn chat_instruct_adds_the_command() {
    let (body, _) = translate(
        json!({"mode": "chat-instruct", "messages": [{"role": "user", "content": "x"}],
        "chat_instruct_command": "As <|character|>:\n<|prompt|>"}),
    )
    .unwrap();
    assert_eq!(body.extra["chat_instruct_command"], "As Assistant:\n<|prompt|>");
}

#[test]
fn a_preset_gives_what_the_request_leaves_open() {
    let body = json!({"messages": [], "preset": "Balanced", "top_p": 0.5, "max_new_tokens": 7});
    let (body, _) = translate(body).unwrap();
    assert_eq!(
        (body.temperature, body.top_p, body.max_tokens),
        (Some(0.7), Some(0.5), Some(7))
    );
}

#[test]
fn continuing_gives_the_old_text_and_the_new() {
    let messages = json!([{"role": "user", "content": "count"}, {"role": "assistant", "content": "1, 2"}]);
    let (body, shape) = translate(json!({"messages": messages, "continue_": true})).unwrap();
    assert_eq!(body.extra["continue_final_message"], true);
    let finish = Delta::Finish {
        reason: FinishReason::Stop,
        usage: Usage::default(),
    };
    let deltas = futures::stream::iter([Ok(Delta::Text(", 3".to_owned())), Ok(finish.clone())]).boxed();
    let got: Vec<_> = block_on_stream(shape.of(deltas)).map(Result::unwrap).collect();
    assert_eq!(
        got,
        [Delta::Text("1, 2".to_owned()), Delta::Text(", 3".to_owned()), finish]
    );
}

#[test]
fn the_first_words_of_a_speaker_have_no_space_before_them() {
    let shape = Shape {
        before: None,
        trim: true,
    };
    let deltas = [" ", "\n Hello", " you"].map(|text| Ok(Delta::Text(text.to_owned())));
    let got: Vec<_> = block_on_stream(shape.of(futures::stream::iter(deltas).boxed()))
        .map(Result::unwrap)
        .collect();
    assert_eq!(got, [Delta::Text("Hello".to_owned()), Delta::Text(" you".to_owned())]);
}

#[test]
fn what_is_wrong_is_named() {
    let user = json!([{"role": "user", "content": "x"}]);
    for (field, value) in [
        ("mode", json!("story")),
        ("mode", json!(3)),
        ("preset", json!("none such")),
        ("instruction_template", json!("../x")),
        ("continue_", json!(true)),
        ("continue_", json!("yes")),
        ("max_new_tokens", json!("many")),
    ] {
        let error = translate(json!({"messages": user, field: value})).unwrap_err();
        assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(field)));
    }
    let error = translate(json!({"messages": user, "mode": "chat", "character": "Nobody"})).unwrap_err();
    assert!(error.message.contains("Assistant"), "{}", error.message);
}
