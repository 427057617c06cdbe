//! What the endpoints that generate text have in common on the wire: the fields that choose tokens, stop strings and
//! limits, with their ranges; and, in [`reply`], what every reply says of itself. What only one endpoint has is in its
//! own file.

use std::ops::RangeInclusive;

use habit_engine::Sampling;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::error::ApiError;

pub mod reply;

/// The most replies to one prompt, as OpenAI has it.
pub const MOST_CHOICES: i64 = 128;

/// The largest bias of a token that OpenAI's API knows.
const LARGEST_BIAS: f64 = 100.0;

/// One stop string or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Stop {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Stop {
    /// The strings. An empty one would end every reply at once; clients send them from empty form fields.
    #[must_use]
    pub fn strings(stop: Option<Self>) -> Vec<String> {
        let strings = match stop {
            None => Vec::new(),
            Some(Self::One(stop)) => vec![stop],
            Some(Self::Many(stops)) => stops,
        };
        strings.into_iter().filter(|stop| !stop.is_empty()).collect()
    }
}

/// Settings of a stream. What else clients send here (`include_obfuscation`) asks for nothing that is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// Send a last chunk that holds the usage.
    pub include_usage: Option<bool>,
}

impl StreamOptions {
    /// Whether the usage is asked for at the end of a stream.
    ///
    /// # Errors
    /// 400 if there are settings and no stream.
    pub fn usage(options: Option<Self>, stream: bool) -> Result<bool, ApiError> {
        match options {
            Some(_) if !stream => {
                let message = "`stream_options` needs `stream` to be true";
                Err(ApiError::invalid(message, Some("stream_options")))
            }
            options => Ok(options.and_then(|options| options.include_usage).unwrap_or(false)),
        }
    }
}

/// The fields that choose tokens, as a body has them; [`SamplingFields::check`] makes the engine's of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct SamplingFields {
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// -1 and 0 are off.
    pub top_k: Option<i64>,
    /// 0 to 1.
    pub min_p: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// Above 0, at most 2.
    pub repetition_penalty: Option<f64>,
    /// -1 is random.
    pub seed: Option<i64>,
}

impl SamplingFields {
    /// Checks the ranges: what is out of them is refused, not clamped.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn check(self) -> Result<Sampling, ApiError> {
        let temperature = within("temperature", self.temperature, 0.0, 2.0)?;
        let mut top_p = within("top_p", self.top_p, 0.0, 1.0)?;
        let min_p = within("min_p", self.min_p, 0.0, 1.0)?;
        let frequency_penalty = within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        let presence_penalty = within("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        let repetition_penalty = within("repetition_penalty", self.repetition_penalty, 0.0, 2.0)?;
        if repetition_penalty == Some(0.0) {
            let param = "repetition_penalty";
            return Err(ApiError::invalid(format!("`{param}` must be above 0"), Some(param)));
        }
        let mut top_k = match self.top_k {
            None | Some(-1 | 0) => None,
            Some(k) => Some(
                usize::try_from(k)
                    .map_err(|_| ApiError::invalid(format!("`top_k` must be -1 or more, not {k}"), Some("top_k")))?,
            ),
        };
        // OpenAI allows 0, and an empty nucleus still holds the likeliest token.
        if top_p == Some(0.0) {
            (top_p, top_k) = (None, Some(1));
        }
        // -1 is what the webui and llama.cpp send for "random"; any other number is a seed, bit for bit.
        let seed = self.seed.filter(|seed| *seed != -1).map(i64::cast_unsigned);
        Ok(Sampling {
            temperature,
            top_p,
            top_k,
            min_p,
            frequency_penalty: frequency_penalty.map(narrow),
            presence_penalty: presence_penalty.map(narrow),
            repetition_penalty: repetition_penalty.map(narrow),
            seed,
        })
    }
}

/// A number in its range, ends included.
///
/// # Errors
/// 400 that names the field.
pub fn within(param: &str, value: Option<f64>, low: f64, high: f64) -> Result<Option<f64>, ApiError> {
    match value {
        Some(number) if !(low..=high).contains(&number) => Err(ApiError::invalid(
            format!("`{param}` must be between {low} and {high}, not {number}"),
            Some(param),
        )),
        value => Ok(value),
    }
}

/// A whole number in its range, or what it is when it is absent.
///
/// # Errors
/// 400 that names the field.
pub fn count(param: &str, value: Option<i64>, range: RangeInclusive<i64>, absent: usize) -> Result<usize, ApiError> {
    let Some(number) = value else { return Ok(absent) };
    let (low, high) = (range.start(), range.end());
    let usable = usize::try_from(number).ok().filter(|_| range.contains(&number));
    usable.ok_or_else(|| {
        let message = format!("`{param}` must be between {low} and {high}, not {number}");
        ApiError::invalid(message, Some(param))
    })
}

/// The most tokens of a reply, at least `least`.
///
/// # Errors
/// 400 that names the field.
pub fn token_limit(param: &str, asked: Option<i64>, least: usize) -> Result<Option<usize>, ApiError> {
    let Some(tokens) = asked else { return Ok(None) };
    let usable = usize::try_from(tokens).ok().filter(|tokens| *tokens >= least);
    let message = format!("`{param}` must be {least} or more, not {tokens}; leave it out for as much as fits");
    usable.map(Some).ok_or_else(|| ApiError::invalid(message, Some(param)))
}

/// Checks `logit_bias`: token ids to numbers from -100 to 100.
///
/// # Errors
/// 400 that names the field.
pub fn check_bias(bias: Option<&Map<String, Value>>) -> Result<(), ApiError> {
    let fits = |(token, bias): (&String, &Value)| {
        token.parse::<u32>().is_ok() && bias.as_f64().is_some_and(|bias| bias.abs() <= LARGEST_BIAS)
    };
    if bias.is_none_or(|bias| bias.iter().all(fits)) {
        return Ok(());
    }
    let message = format!(
        "`logit_bias` must map token ids to numbers from -{LARGEST_BIAS} to {LARGEST_BIAS}, such as {{\"50\": -100}}"
    );
    Err(ApiError::invalid(message, Some("logit_bias")))
}

/// Penalties have few digits: nothing is lost that matters.
fn narrow(number: f64) -> f32 {
    number as f32
}
