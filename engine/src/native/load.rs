//! From a model's files to what the engine needs of them: weights, and the language that they speak.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use llguidance::ParserFactory;
use serde_json::Value;
use tokenizers::Tokenizer;
use toktrie_hf_tokenizers::ByteTokenizer;

use super::weights::Weights;
use crate::generate::language::Language;
use crate::generate::template::TemplateSource;
use crate::models::{LocalModel, Weights as Files, gguf};

/// A model, read.
pub(super) struct Loaded {
    pub(super) weights: Weights,
    pub(super) language: Language,
}

/// Reads a model's files. Blocks while gigabytes are read.
///
/// # Errors
/// What is damaged, missing, or not supported here.
pub(super) fn load(model: &LocalModel, window: Option<usize>) -> Result<Loaded, String> {
    let Files::Gguf(path) = &model.weights else {
        return Err("it is not a GGUF file".to_owned());
    };
    let Some(dir) = &model.tokenizer_dir else {
        return Err("its tokenizer can't be rebuilt exactly from the GGUF file".to_owned());
    };
    let weights = Weights::read(path)?;
    let tokenizer = dir.join("tokenizer.json");
    let tokenizer = Tokenizer::from_file(&tokenizer)
        .map_err(|error| format!("the tokenizer {} can't be read: {error}", tokenizer.display()))?;
    if tokenizer.get_vocab_size(true) > weights.vocabulary() {
        let (tokens, rows) = (tokenizer.get_vocab_size(true), weights.vocabulary());
        return Err(format!("its tokenizer has {tokens} tokens, its weights only {rows}"));
    }
    let source = TemplateSource::from_dir(dir)?;
    let ends = ends(path, dir, source.eos.as_deref(), &tokenizer)?;
    let limits = [model.context_window, window].into_iter().flatten();
    let window = limits.fold(weights.shape.window, usize::min);
    let grammars = match grammars(&tokenizer, weights.vocabulary()) {
        Ok(grammars) => Some(Arc::new(grammars)),
        Err(reason) => {
            tracing::warn!(
                model = model.id,
                reason,
                "schemas can't be enforced with this model's tokenizer"
            );
            None
        }
    };
    let language = Language::new(Arc::new(tokenizer), source, Arc::new(ends), grammars, window)?;
    Ok(Loaded { weights, language })
}

/// The tokens that end a turn: all that the model's files name as such.
///
/// # Errors
/// That they name none.
pub(super) fn ends(path: &Path, dir: &Path, eos: Option<&str>, tokenizer: &Tokenizer) -> Result<HashSet<u32>, String> {
    let file = gguf::inspect(path).map_err(|error| error.to_string())?;
    let keys = ["eos_token_id", "eot_token_id", "eom_token_id"];
    let numbers = keys
        .iter()
        .filter_map(|key| file.number(&format!("tokenizer.ggml.{key}")));
    let mut ends: HashSet<u32> = numbers.filter_map(|number| u32::try_from(number).ok()).collect();
    ends.extend(eos.and_then(|eos| tokenizer.token_to_id(eos)));
    // Optional, as its fields are.
    let generation = std::fs::read(dir.join("generation_config.json")).unwrap_or_default();
    let generation: Value = serde_json::from_slice(&generation).unwrap_or_default();
    let named = match &generation["eos_token_id"] {
        Value::Array(several) => several.clone(),
        one => vec![one.clone()],
    };
    ends.extend(named.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()));
    if ends.is_empty() {
        return Err("it names no token that ends a turn; add `eos_token` to its tokenizer_config.json".to_owned());
    }
    Ok(ends)
}

/// What follows schemas with this tokenizer's tokens.
fn grammars(tokenizer: &Tokenizer, vocabulary: usize) -> Result<ParserFactory, String> {
    let tokens = ByteTokenizer::from_tokenizer(tokenizer.clone()).map_err(|error| error.to_string())?;
    let environment = tokens
        .into_tok_env(Some(vocabulary))
        .map_err(|error| error.to_string())?;
    ParserFactory::new_simple(&environment).map_err(|error| error.to_string())
}
