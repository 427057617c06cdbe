//! Embeddings of an upstream, in OpenAI's JSON.

use serde_json::{Value, json};

use crate::{EmbedInput, EmbedRequest, Embeddings, EngineError};

/// The body of a request. Floats, because not every server knows base64.
pub(super) fn body(request: &EmbedRequest) -> Value {
    let input = |input: &EmbedInput| match input {
        EmbedInput::Text(text) => json!(text),
        EmbedInput::Tokens(tokens) => json!(tokens),
    };
    let inputs: Vec<Value> = request.inputs.iter().map(input).collect();
    let mut body = json!({"model": request.model, "input": inputs, "encoding_format": "float"});
    if let (Some(dimensions), Some(fields)) = (request.dimensions, body.as_object_mut()) {
        fields.insert("dimensions".to_owned(), json!(dimensions));
    }
    body
}

/// The vectors of an answer, in the order of their `index`; `None` if they are not as many as were asked for.
pub(super) fn vectors(answer: &Value, asked: usize) -> Option<Embeddings> {
    let mut vectors = vec![Vec::new(); asked];
    for (place, item) in answer["data"].as_array()?.iter().enumerate() {
        let place = item["index"]
            .as_u64()
            .and_then(|at| usize::try_from(at).ok())
            .unwrap_or(place);
        let floats = item["embedding"].as_array()?.iter();
        *vectors.get_mut(place)? = floats
            .map(|float| Some(float.as_f64()? as f32))
            .collect::<Option<_>>()?;
    }
    if vectors.iter().any(Vec::is_empty) {
        return None;
    }
    let tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap_or_default();
    Some(Embeddings {
        vectors,
        tokens: usize::try_from(tokens).ok()?,
    })
}

/// What a refusal of the upstream means to who asked for embeddings.
pub(super) fn refusal(error: EngineError, name: &str) -> EngineError {
    match error {
        EngineError::Unavailable(said) if said.contains("(4") => EngineError::Rejected {
            message: format!("{name} gives no embeddings for this request: {said}"),
            param: None,
        },
        error => error,
    }
}
