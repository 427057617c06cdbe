//! Bodies as clients really send them.

use serde_json::json;

use super::*;
use crate::api::error;

fn read(body: &Value) -> Result<Parsed, ApiError> {
    error::parse::<CompletionRequest>(body.to_string().as_bytes())?.parse(&Library::default())
}

fn text(prompt: &str) -> RawPrompt {
    RawPrompt::Text {
        prompt: prompt.to_owned(),
        suffix: None,
    }
}

#[test]
fn prompts_come_in_every_shape() {
    let prompts = |prompt: Value| read(&json!({"prompt": prompt})).unwrap().prompts;
    assert_eq!(prompts(json!("a")), [text("a")]);
    assert_eq!(prompts(json!("")), [text("")]);
    assert_eq!(prompts(json!(["a", "b"])), [text("a"), text("b")]);
    assert_eq!(prompts(json!([1, 2])), [RawPrompt::Tokens(vec![1, 2])]);
    let lists = [RawPrompt::Tokens(vec![1]), RawPrompt::Tokens(vec![2, 3])];
    assert_eq!(prompts(json!([[1], [2, 3]])), lists);
}

#[test]
fn what_is_wrong_is_named() {
    for (fields, param) in [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [[]]}), "prompt"),
        (json!({"prompt": [1, "a"]}), "prompt"),
        (json!({"prompt": [-1]}), "prompt"),
        (json!({"prompt": {"a": 1}}), "prompt"),
        (json!({"prompt": vec!["a"; 1025]}), "prompt"),
        (json!({"prompt": [1], "suffix": "b"}), "suffix"),
        (json!({"prompt": "a", "max_tokens": 0}), "max_tokens"),
        (json!({"prompt": "a", "max_tokens": -1, "echo": true}), "max_tokens"),
        (json!({"prompt": "a", "n": 0}), "n"),
        (json!({"prompt": "a", "n": 3, "best_of": 2}), "best_of"),
        (json!({"prompt": "a", "best_of": 2, "stream": true}), "best_of"),
        (json!({"prompt": "a", "logprobs": 21}), "logprobs"),
        (json!({"prompt": "a", "logprobs": true}), "logprobs"),
        (json!({"prompt": "a", "temperature": 3}), "temperature"),
        (json!({"prompt": "a", "logit_bias": {"x": 1}}), "logit_bias"),
        (json!({"prompt": "a", "stop": 1}), "stop"),
        (json!({"prompt": "a", "preset": "none such"}), "preset"),
        (json!({"prompt": "a", "max_new_tokens": "many"}), "max_new_tokens"),
        (json!({"prompt": "a", "stream_options": {}}), "stream_options"),
    ] {
        let error = read(&fields).expect_err(&fields.to_string());
        assert_eq!(error.status.as_u16(), 400, "{fields}");
        assert_eq!(error.param.as_deref(), Some(param), "{fields}");
    }
}

#[test]
fn defaults_are_openais() {
    let parsed = read(&json!({"prompt": "a", "suffix": "", "echo": null, "logprobs": null, "best_of": null})).unwrap();
    assert_eq!(parsed.request.max_tokens, Some(16));
    assert_eq!((parsed.n, parsed.best_of), (1, 1));
    assert!(!parsed.store && !parsed.logprobs && !parsed.echo);
    assert!(parsed.request.extra.is_empty() && parsed.request.messages.is_empty());
}

#[test]
fn what_the_engine_must_know_is_told_in_the_shape_of_chat() {
    let body = json!({"prompt": "a", "echo": true, "logprobs": 0, "max_tokens": 0, "min_tokens": 3, "suffix": null});
    let parsed = read(&body).unwrap();
    assert_eq!(parsed.request.max_tokens, Some(0));
    let extra = Value::Object(parsed.request.extra);
    assert_eq!(extra, json!({"min_tokens": 3, "echo": true, "logprobs": true}));
    let parsed = read(&json!({"prompt": "a", "best_of": 3, "logprobs": null})).unwrap();
    assert_eq!((parsed.best_of, parsed.logprobs), (3, false));
    assert_eq!(Value::Object(parsed.request.extra), json!({"logprobs": true}));
    let parsed = read(&json!({"prompt": "a", "suffix": "z"})).unwrap();
    assert!(matches!(&parsed.prompts[0], RawPrompt::Text { suffix: Some(suffix), .. } if suffix == "z"));
}

#[test]
fn the_webuis_fields_are_taken() {
    let body = json!({"prompt": "a", "preset": "Balanced", "top_p": 0.5, "max_new_tokens": 7});
    let request = read(&body).unwrap().request;
    assert_eq!(
        (request.sampling.temperature, request.sampling.top_p, request.max_tokens),
        (Some(0.7), Some(0.5), Some(7))
    );
    assert!(request.extra.is_empty(), "{:?}", request.extra);
    let both = read(&json!({"prompt": "a", "max_tokens": 5, "max_new_tokens": 7})).unwrap();
    assert_eq!(both.request.max_tokens, Some(5));
}
