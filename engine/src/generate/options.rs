//! The optional fields of OpenAI's API (and of vLLM's, where OpenAI has none) that change how a reply is made here:
//! read and checked. What is not named here is ignored.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{schema, tools::Tools};
use crate::{ChatRequest, EngineError, Sampling};

/// The largest bias that OpenAI's API allows; it bans or forces a token.
const LARGEST_BIAS: f64 = 100.0;

/// The most `top_logprobs`. OpenAI's API allows 20, which its endpoints see to; text-generation-webui's `logits` 100.
const MOST_TOP_LOGPROBS: u64 = 100;

/// The longest template that a request may bring, in bytes: the longest known of models have some 10 KB.
const LONGEST_TEMPLATE: usize = 64 << 10;

/// The fields of [`ChatRequest::extra`] that change how a reply is made.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Extras {
    /// The JSON schema that the reply must fit.
    pub(crate) schema: Option<Value>,
    /// What the model may call.
    pub(crate) tools: Tools,
    /// Added to the tokens' logits (`logit_bias`).
    pub(crate) bias: HashMap<u32, f32>,
    /// Give each token's probability, and those of so many of the likeliest.
    pub(crate) logprobs: Option<usize>,
    /// How messages become a prompt.
    pub(crate) template: TemplateOptions,
    /// Where the reply ends.
    pub(crate) ending: Ending,
    /// A raw prompt's tokens get probabilities as well.
    pub(crate) echo: bool,
}

/// How messages become a prompt.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct TemplateOptions {
    /// Instead of the model's own.
    pub(crate) source: Option<String>,
    /// The instruction that the dialogue is put into (`chat_instruct_command`); `<|prompt|>` is the dialogue.
    pub(crate) command: Option<String>,
    /// What the template may ask for besides messages and tools, such as `enable_thinking`.
    pub(crate) arguments: Map<String, Value>,
    /// The prompt ends within the last message, which the reply goes on with.
    pub(crate) continues: bool,
    /// The prompt does not say that it is the model's turn.
    pub(crate) bare: bool,
}

/// Where a reply ends besides the model's own ends and the stop strings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) stop_tokens: Vec<u32>,
    /// The model's own ends are never chosen.
    pub(crate) ignore_ends: bool,
    /// No end is chosen before there are so many tokens.
    pub(crate) min_tokens: usize,
}

impl Extras {
    /// Reads a request's extra fields; unknown ones are ignored, nulls are absent. Token ids must be below `tokens`.
    pub(crate) fn read(request: &ChatRequest, tokens: usize) -> Result<Self, EngineError> {
        let get = |key: &str| request.extra.get(key).filter(|value| !value.is_null());
        let flag = |key: &str| -> Result<Option<bool>, EngineError> {
            let wrong = || rejected(key, format!("{key} must be true or false"));
            get(key).map(|value| value.as_bool().ok_or_else(wrong)).transpose()
        };
        if get("n").is_some_and(|n| n.as_u64() != Some(1)) {
            return Err(rejected(
                "n",
                "this model gives one reply a request; ask again for another",
            ));
        }
        let echo = flag("echo")?.unwrap_or(false) && request.raw.is_some();
        if request.max_tokens == Some(0) && !echo {
            return Err(rejected("max_tokens", "max_tokens must be at least 1"));
        }
        sampling(&request.sampling)?;
        let conversation = request.raw.is_none();
        Ok(Self {
            schema: get("response_format").map(schema::of_format).transpose()?.flatten(),
            tools: if conversation {
                Tools::read(&request.extra)?
            } else {
                Tools::default()
            },
            bias: get("logit_bias")
                .map(|bias| read_bias(bias, tokens))
                .transpose()?
                .unwrap_or_default(),
            logprobs: logprobs(flag("logprobs")?.unwrap_or(false), get("top_logprobs"))?,
            template: template(&request.extra)?,
            ending: ending(&request.extra, tokens)?,
            echo,
        })
    }
}

pub(crate) fn rejected(param: &str, message: impl Into<String>) -> EngineError {
    EngineError::Rejected {
        message: message.into(),
        param: Some(param.to_owned()),
    }
}

/// Numbers with which nothing can be chosen. What sensible ranges are is for the endpoints to say.
fn sampling(sampling: &Sampling) -> Result<(), EngineError> {
    let check = |param: &str, value: Option<f64>, fits: fn(f64) -> bool, what: &str| match value {
        Some(value) if !(value.is_finite() && fits(value)) => {
            Err(rejected(param, format!("{param} must be {what}, not {value}")))
        }
        _ => Ok(()),
    };
    let share = "a number from 0 to 1";
    check("temperature", sampling.temperature, |t| t >= 0.0, "a number from 0")?;
    check("top_p", sampling.top_p, |p| (0.0..=1.0).contains(&p), share)?;
    check("min_p", sampling.min_p, |p| (0.0..=1.0).contains(&p), share)?;
    let penalty = "a number from -2 to 2";
    let within = |p: f64| p.abs() <= 2.0;
    check(
        "frequency_penalty",
        sampling.frequency_penalty.map(f64::from),
        within,
        penalty,
    )?;
    check(
        "presence_penalty",
        sampling.presence_penalty.map(f64::from),
        within,
        penalty,
    )?;
    let repetition = sampling.repetition_penalty.map(f64::from);
    check("repetition_penalty", repetition, |p| p > 0.0, "a number above 0")
}

fn logprobs(on: bool, top: Option<&Value>) -> Result<Option<usize>, EngineError> {
    let top = match top.map(|top| top.as_u64().filter(|top| *top <= MOST_TOP_LOGPROBS)) {
        None => 0,
        Some(Some(top)) => top as usize,
        Some(None) => {
            let message = format!("top_logprobs must be a whole number from 0 to {MOST_TOP_LOGPROBS}");
            return Err(rejected("top_logprobs", message));
        }
    };
    if top > 0 && !on {
        return Err(rejected("top_logprobs", "top_logprobs needs logprobs to be true"));
    }
    Ok(on.then_some(top))
}

fn template(extra: &Map<String, Value>) -> Result<TemplateOptions, EngineError> {
    let get = |key: &str| extra.get(key).filter(|value| !value.is_null());
    let source = match get("chat_template") {
        None => None,
        Some(Value::String(source)) if source.len() <= LONGEST_TEMPLATE => Some(source.clone()),
        Some(_) => {
            let message = format!("chat_template must be a string of at most {LONGEST_TEMPLATE} bytes");
            return Err(rejected("chat_template", message));
        }
    };
    let command = match get("chat_instruct_command") {
        None => None,
        Some(Value::String(command)) => Some(command.clone()),
        Some(_) => {
            return Err(rejected(
                "chat_instruct_command",
                "chat_instruct_command must be a string",
            ));
        }
    };
    let mut arguments = match get("chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(arguments)) => arguments.clone(),
        Some(_) => {
            return Err(rejected(
                "chat_template_kwargs",
                "chat_template_kwargs must be an object",
            ));
        }
    };
    let flag = |key: &str| -> Result<Option<bool>, EngineError> {
        let wrong = || rejected(key, format!("{key} must be true or false"));
        get(key).map(|value| value.as_bool().ok_or_else(wrong)).transpose()
    };
    if let Some(think) = flag("enable_thinking")? {
        arguments.entry("enable_thinking").or_insert(json!(think));
    }
    if let Some(effort) = get("reasoning_effort") {
        let Some(effort) = effort.as_str() else {
            return Err(rejected("reasoning_effort", "reasoning_effort must be a string"));
        };
        arguments.entry("reasoning_effort").or_insert(json!(effort));
        if effort == "none" {
            arguments.entry("enable_thinking").or_insert(json!(false));
        }
    }
    let continues = flag("continue_final_message")?.unwrap_or(false);
    let prompt = flag("add_generation_prompt")?;
    if continues && prompt == Some(true) {
        let message = "continue_final_message and add_generation_prompt can't both be true; leave one out";
        return Err(rejected("continue_final_message", message));
    }
    Ok(TemplateOptions {
        command,
        source,
        arguments,
        continues,
        bare: prompt == Some(false),
    })
}

fn ending(extra: &Map<String, Value>, tokens: usize) -> Result<Ending, EngineError> {
    let get = |key: &str| extra.get(key).filter(|value| !value.is_null());
    let stop_tokens = match get("stop_token_ids") {
        None => Vec::new(),
        Some(ids) => {
            let id = |id: &Value| Some(id.as_u64().filter(|id| (*id as usize) < tokens)? as u32);
            let ids = ids.as_array().and_then(|ids| ids.iter().map(id).collect());
            let message = format!("stop_token_ids must be a list of token ids, numbers below {tokens}");
            ids.ok_or_else(|| rejected("stop_token_ids", message))?
        }
    };
    let ignore_ends = match get("ignore_eos") {
        None => false,
        Some(Value::Bool(ignore)) => *ignore,
        Some(_) => return Err(rejected("ignore_eos", "ignore_eos must be true or false")),
    };
    let min_tokens = match get("min_tokens").map(Value::as_u64) {
        None => 0,
        Some(Some(tokens)) => usize::try_from(tokens).unwrap_or(usize::MAX),
        Some(None) => return Err(rejected("min_tokens", "min_tokens must be a whole number from 0")),
    };
    Ok(Ending {
        stop_tokens,
        ignore_ends,
        min_tokens,
    })
}

fn read_bias(bias: &Value, tokens: usize) -> Result<HashMap<u32, f32>, EngineError> {
    let wrong = || {
        rejected(
            "logit_bias",
            format!("logit_bias maps token ids below {tokens} to numbers from -{LARGEST_BIAS} to {LARGEST_BIAS}"),
        )
    };
    let entries = bias.as_object().ok_or_else(wrong)?;
    let entry = |(token, value): (&String, &Value)| {
        let value = value.as_f64().filter(|value| value.abs() <= LARGEST_BIAS)?;
        let token: u32 = token.parse().ok().filter(|token| (*token as usize) < tokens)?;
        Some((token, value as f32))
    };
    entries.iter().map(entry).collect::<Option<_>>().ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Extras;
    use crate::{ChatRequest, EngineError, Message, RawPrompt, Role, Sampling};

    const TOKENS: usize = 100;

    fn request(extra: Value) -> ChatRequest {
        let Value::Object(extra) = extra else {
            panic!("an object")
        };
        ChatRequest {
            messages: vec![Message::new(Role::User, "hello")],
            extra,
            ..ChatRequest::default()
        }
    }

    fn read(extra: Value) -> Result<Extras, EngineError> {
        Extras::read(&request(extra), TOKENS)
    }

    fn refusal(result: Result<Extras, EngineError>) -> String {
        match result {
            Err(EngineError::Rejected { param: Some(param), .. }) => param,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_it_cannot_honour_is_refused_by_name() {
        for (param, value) in [
            ("n", json!(2)),
            ("response_format", json!({"type": "xml"})),
            ("logit_bias", json!({"5": 101})),
            ("logit_bias", json!({"100": 1})),
            ("logit_bias", json!({"x": 1})),
            ("logit_bias", json!([1])),
            ("top_logprobs", json!(101)),
            ("top_logprobs", json!(-1)),
            ("top_logprobs", json!(2)),
            ("logprobs", json!(3)),
            ("chat_template", json!(7)),
            ("chat_template_kwargs", json!([])),
            ("enable_thinking", json!("no")),
            ("reasoning_effort", json!(1)),
            ("stop_token_ids", json!([100])),
            ("stop_token_ids", json!(5)),
            ("ignore_eos", json!(1)),
            ("min_tokens", json!(-1)),
            ("add_generation_prompt", json!("yes")),
        ] {
            assert_eq!(refusal(read(json!({param: value}))), param, "{value}");
        }
        let both = json!({"continue_final_message": true, "add_generation_prompt": true});
        assert_eq!(refusal(read(both)), "continue_final_message");
    }

    #[test]
    fn numbers_with_which_nothing_can_be_chosen_are_refused() {
        let with = |sampling: Sampling| {
            let request = ChatRequest {
                sampling,
                ..request(json!({}))
            };
            refusal(Extras::read(&request, TOKENS))
        };
        let temperature = |value| Sampling {
            temperature: Some(value),
            ..Sampling::default()
        };
        assert_eq!(with(temperature(f64::NAN)), "temperature");
        assert_eq!(with(temperature(-1.0)), "temperature");
        assert_eq!(with(temperature(f64::INFINITY)), "temperature");
        let top_p = Sampling {
            top_p: Some(1.5),
            ..Sampling::default()
        };
        assert_eq!(with(top_p), "top_p");
        let repetition = Sampling {
            repetition_penalty: Some(0.0),
            ..Sampling::default()
        };
        assert_eq!(with(repetition), "repetition_penalty");
    }

    #[test]
    fn no_tokens_are_only_for_an_echo() {
        let mut none = request(json!({"echo": true}));
        none.max_tokens = Some(0);
        assert_eq!(refusal(Extras::read(&none, TOKENS)), "max_tokens");
        none.raw = Some(RawPrompt::Tokens(vec![1]));
        assert!(Extras::read(&none, TOKENS).expect("extras").echo);
    }

    #[test]
    fn what_changes_nothing_is_ignored() {
        let extra = json!({"tools": [], "functions": null, "n": 1, "response_format": {"type": "text"}, "user": "u",
            "logit_bias": null, "stream_options": {"include_usage": true}, "logprobs": false, "top_logprobs": 0});
        assert_eq!(read(extra).expect("extras"), Extras::default());
    }

    #[test]
    fn fields_are_read() {
        let extras = read(
            json!({"logit_bias": {"5": -100, "7": 1.5}, "logprobs": true, "top_logprobs": 100,
            "stop_token_ids": [4], "ignore_eos": true, "min_tokens": 2, "reasoning_effort": "none",
            "chat_template_kwargs": {"a": 1}, "continue_final_message": true}),
        )
        .expect("extras");
        assert_eq!((extras.bias[&5], extras.bias[&7]), (-100.0, 1.5));
        assert_eq!(extras.logprobs, Some(100));
        assert_eq!(extras.ending.stop_tokens, [4]);
        assert_eq!((extras.ending.ignore_ends, extras.ending.min_tokens), (true, 2));
        assert_eq!(extras.template.arguments["enable_thinking"], false);
        assert_eq!(extras.template.arguments["a"], 1);
        assert!(extras.template.continues);
    }
}
