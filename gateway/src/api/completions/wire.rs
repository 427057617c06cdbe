//! OpenAI's JSON of a legacy completion's request, as clients really send it.

use habit_engine::{ChatRequest, RawPrompt};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::generation::{MOST_CHOICES, SamplingFields, Stop, StreamOptions, check_bias, count, token_limit};
use crate::api::webui::dialect;
use crate::library::Library;

/// Tokens of a reply where the request names no number: OpenAI's default.
const MAX_TOKENS: usize = 16;

/// The most alternatives to a token; OpenAI has 5, other servers' clients ask for up to 20.
const MOST_LOGPROBS: i64 = 20;

/// The most replies to one request, all prompts together.
const MOST_REPLIES: usize = 1024;

/// The body of `POST /v1/completions`. A null is the same as an absent field, and fields that are not listed here are
/// passed on to engines that know them.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct CompletionRequest {
    /// The model; absent, empty or `default` is the server's default.
    pub model: Option<String>,
    /// What to go on with: text, the model's tokens, or a list of either.
    #[schema(required)]
    pub prompt: Option<Prompt>,
    /// What comes after the reply, for models that fill in the middle.
    pub suffix: Option<String>,
    /// Put the prompt before the reply.
    pub echo: Option<bool>,
    /// Replies to each prompt.
    #[schema(minimum = 1, maximum = 128)]
    pub n: Option<i64>,
    /// Make so many replies to each prompt and give the `n` likeliest.
    #[schema(minimum = 1, maximum = 128)]
    pub best_of: Option<i64>,
    /// Give the tokens' probabilities, with so many alternatives to each.
    #[schema(minimum = 0, maximum = 20)]
    pub logprobs: Option<i64>,
    /// The most tokens that a reply may have; 16 if absent. 0 with `echo` only reads the prompt.
    #[schema(minimum = 0)]
    pub max_tokens: Option<i64>,
    /// The reply ends before any of these strings.
    pub stop: Option<Stop>,
    /// Send the replies as server-sent events while they are made.
    pub stream: Option<bool>,
    /// Settings of the stream.
    pub stream_options: Option<StreamOptions>,
    /// Randomness, 0 (greedy) to 2.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,
    /// Only the k likeliest tokens; 0 or -1 is off.
    #[schema(minimum = -1)]
    pub top_k: Option<i64>,
    /// Only tokens with at least this share of the likeliest token's probability, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub min_p: Option<f64>,
    /// -2 to 2.
    #[schema(minimum = -2, maximum = 2)]
    pub frequency_penalty: Option<f64>,
    /// -2 to 2.
    #[schema(minimum = -2, maximum = 2)]
    pub presence_penalty: Option<f64>,
    /// Divisor of repeated tokens' logits, above 0, at most 2; 1 is off.
    #[schema(maximum = 2)]
    pub repetition_penalty: Option<f64>,
    /// Same seed and request, same text; -1 is random.
    pub seed: Option<i64>,
    /// Token ids to what is added to their logits, -100 to 100.
    #[schema(value_type = Option<Object>)]
    pub logit_bias: Option<Map<String, Value>>,
    /// True records the turn; there is no conversation that it could belong to.
    pub store: Option<bool>,
    /// The end user; not used here, and passed on.
    pub user: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Map<String, Value>,
}

/// What to go on with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a string, a list of strings, a list of token ids, or a list of lists of token ids"
)]
pub enum Prompt {
    /// Text.
    Text(String),
    /// Several.
    Texts(Vec<String>),
    /// The model's tokens.
    Tokens(Vec<u32>),
    /// Several.
    TokenLists(Vec<Vec<u32>>),
}

/// What the endpoint takes from a body.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// For the engine, all but the prompt.
    pub request: ChatRequest,
    /// The prompts.
    pub prompts: Vec<RawPrompt>,
    /// Replies to give to each.
    pub n: usize,
    /// Replies to make to each.
    pub best_of: usize,
    /// Put the prompts before their replies.
    pub echo: bool,
    /// Give probabilities.
    pub logprobs: bool,
    /// Reply as server-sent events.
    pub stream: bool,
    /// End the stream with the usage.
    pub include_usage: bool,
    /// True leaves a trace.
    pub store: bool,
}

impl CompletionRequest {
    /// Checks the body and translates it; its preset is looked up in the library.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn parse(mut self, library: &Library) -> Result<Parsed, ApiError> {
        let sampling = dialect::preset(self.sampling(), &mut self.extra, library)?.check()?;
        let new_tokens = dialect::max_new_tokens(&mut self.extra)?;
        let echo = self.echo.unwrap_or(false);
        let n = count("n", self.n, 1..=MOST_CHOICES, 1)?;
        let best_of = self.best_of(n)?;
        let top = count("logprobs", self.logprobs, 0..=MOST_LOGPROBS, 0)?;
        let max_tokens = token_limit("max_tokens", self.max_tokens.or(new_tokens), usize::from(!echo))?;
        let stream = self.stream.unwrap_or(false);
        let include_usage = StreamOptions::usage(self.stream_options, stream)?;
        check_bias(self.logit_bias.as_ref())?;
        // The likeliest of several can only be told by their probabilities.
        let logprobs = self.logprobs.is_some() || best_of > n;
        let mut extra = self.extra;
        extra.retain(|_, value| !value.is_null());
        let fields = [
            ("echo", echo.then_some(Value::Bool(true))),
            ("logprobs", logprobs.then_some(Value::Bool(true))),
            ("top_logprobs", (top > 0).then(|| Value::from(top))),
            ("logit_bias", self.logit_bias.map(Value::Object)),
            ("user", self.user.map(Value::String)),
        ];
        let given = fields.into_iter();
        extra.extend(given.filter_map(|(name, value)| Some((name.to_owned(), value?))));
        let prompts = prompts(self.prompt, self.suffix.filter(|suffix| !suffix.is_empty()))?;
        if prompts.len() * best_of > MOST_REPLIES {
            let message = format!("a request may ask for {MOST_REPLIES} replies, all prompts together; send several");
            return Err(ApiError::invalid(message, Some("prompt")));
        }
        Ok(Parsed {
            request: ChatRequest {
                model: self.model.unwrap_or_default(),
                sampling,
                stop: Stop::strings(self.stop),
                max_tokens: Some(max_tokens.unwrap_or(MAX_TOKENS)),
                extra,
                ..ChatRequest::default()
            },
            prompts,
            n,
            best_of,
            echo,
            logprobs: self.logprobs.is_some(),
            stream,
            include_usage,
            store: self.store.unwrap_or(false),
        })
    }

    fn sampling(&self) -> SamplingFields {
        SamplingFields {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        }
    }

    fn best_of(&self, n: usize) -> Result<usize, ApiError> {
        let best_of = count("best_of", self.best_of, 1..=MOST_CHOICES, n)?;
        let wrong = |message: &str| Err(ApiError::invalid(message, Some("best_of")));
        if best_of < n {
            return wrong("`best_of` must be at least `n`");
        }
        if best_of > n && self.stream == Some(true) {
            return wrong(
                "`best_of` over `n` can't be streamed: the best is known only at the end; leave one of them out",
            );
        }
        Ok(best_of)
    }
}

fn prompts(prompt: Option<Prompt>, suffix: Option<String>) -> Result<Vec<RawPrompt>, ApiError> {
    let wrong = |message: &str, param| Err(ApiError::invalid(message, Some(param)));
    let text = |prompt| RawPrompt::Text {
        prompt,
        suffix: suffix.clone(),
    };
    let prompts: Vec<RawPrompt> = match prompt {
        None => {
            return wrong(
                "`prompt` is missing; send a string, tokens, or a list of either",
                "prompt",
            );
        }
        Some(Prompt::Text(prompt)) => vec![text(prompt)],
        Some(Prompt::Texts(prompts)) => prompts.into_iter().map(text).collect(),
        Some(Prompt::Tokens(_) | Prompt::TokenLists(_)) if suffix.is_some() => {
            return wrong("`suffix` needs a prompt that is text", "suffix");
        }
        Some(Prompt::Tokens(tokens)) => vec![RawPrompt::Tokens(tokens)],
        Some(Prompt::TokenLists(lists)) => lists.into_iter().map(RawPrompt::Tokens).collect(),
    };
    let is_empty = |prompt: &RawPrompt| matches!(prompt, RawPrompt::Tokens(tokens) if tokens.is_empty());
    if prompts.is_empty() || prompts.iter().any(is_empty) {
        return wrong(
            "`prompt` has an empty list; send at least one prompt, with at least one token",
            "prompt",
        );
    }
    Ok(prompts)
}

#[cfg(test)]
mod tests;
