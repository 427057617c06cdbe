//! Probabilities in an upstream's JSON: a chat's, and the older shape of raw prompts.

use serde_json::Value;

use crate::{TokenLogprob, TopLogprob};

/// The probabilities of a choice's tokens, from its `logprobs`.
pub(super) fn of(given: &Value) -> Vec<TokenLogprob> {
    if let Some(tokens) = given["content"].as_array() {
        return tokens.iter().filter_map(token).collect();
    }
    let tokens = given["tokens"].as_array().into_iter().flatten().enumerate();
    let older = |(at, text): (usize, &Value)| {
        let text = text.as_str()?;
        // A prompt's first token has none.
        let logprob = given["token_logprobs"][at].as_f64().unwrap_or(f64::NAN);
        let top = given["top_logprobs"][at].as_object().into_iter().flatten();
        let mut top: Vec<TopLogprob> = top
            .filter_map(|(text, logprob)| Some(named(text, None, logprob.as_f64()?)))
            .collect();
        top.sort_by(|one, other| other.logprob.total_cmp(&one.logprob));
        let TopLogprob { token, bytes, logprob } = named(text, None, logprob);
        Some(TokenLogprob {
            token,
            bytes,
            logprob,
            top,
        })
    };
    tokens.filter_map(older).collect()
}

fn token(value: &Value) -> Option<TokenLogprob> {
    let alternatives = value["top_logprobs"].as_array().into_iter().flatten();
    let TopLogprob { token, bytes, logprob } = alternative(value)?;
    Some(TokenLogprob {
        token,
        bytes,
        logprob,
        top: alternatives.filter_map(alternative).collect(),
    })
}

fn alternative(value: &Value) -> Option<TopLogprob> {
    let bytes = value["bytes"].as_array().map(|bytes| {
        let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
        bytes.iter().filter_map(byte).collect()
    });
    Some(named(value["token"].as_str()?, bytes, value["logprob"].as_f64()?))
}

fn named(token: &str, bytes: Option<Vec<u8>>, logprob: f64) -> TopLogprob {
    TopLogprob {
        token: token.to_owned(),
        bytes: bytes.unwrap_or_else(|| token.as_bytes().to_vec()),
        logprob,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_shapes_say_the_same() {
        let chat = json!({"content": [
            {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "a", "logprob": -0.5, "bytes": null}]},
        ]});
        let older = json!({
            "tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5}], "text_offset": [0],
        });
        assert_eq!(of(&chat), of(&older));
        assert_eq!((of(&chat)[0].logprob, of(&chat)[0].top.len()), (-0.5, 1));
        assert!(of(&json!(null)).is_empty() && of(&json!({})).is_empty());
    }
}
