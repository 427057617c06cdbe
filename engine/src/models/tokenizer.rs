//! Rebuilds the exact tokenizer that a GGUF file's metadata describes, as `tokenizer.json`, `tokenizer_config.json`
//! and `generation_config.json`.
//!
//! Only byte-level BPE (`tokenizer.ggml.model` = `gpt2`) can be rebuilt: its vocabulary and merges are all there, and
//! `tokenizer.ggml.pre` names how text is cut before. A name that isn't known here is an error: a tokenizer that is
//! nearly right makes a model quietly worse. SentencePiece models are left to the loader.

use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use serde_json::{Map, Value as Json, json};

use super::error::ModelError;
use super::gguf::Inspected;

/// ggml's token types (`llama_token_type`).
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// GPT-2's contractions, words, numbers, and the rest; byte-level BPE's built-in pattern.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As LLAMA3, but each digit alone.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's Tekken: words are also cut where the case changes.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a family of models cuts text before BPE.
struct Pre {
    normaliser: Json,
    cutter: Json,
    /// Whole words of the vocabulary are taken without looking at the merges.
    ignore_merges: bool,
    /// What holds where `tokenizer.ggml.add_bos_token` is absent.
    adds_bos: bool,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuilt {
    /// The exact tokenizer lies in the directory.
    Exact,
    /// The file's kind of tokenizer can't be rebuilt; the loader's own reading of it is used.
    LeftToLoader,
}

/// Writes the tokenizer's files into `dir`.
///
/// # Errors
/// [`ModelError::Invalid`] if the metadata contradicts itself or names an unknown pre-tokenizer.
pub fn rebuild(source: &Path, inspected: &Inspected, dir: &Path) -> Result<Rebuilt, ModelError> {
    match inspected.text("tokenizer.ggml.model") {
        Some("gpt2") => {}
        Some(_) => return Ok(Rebuilt::LeftToLoader),
        None => {
            return Err(ModelError::invalid(
                source,
                "it holds no tokenizer (`tokenizer.ggml.model` is absent)",
            ));
        }
    }
    let invalid = |reason: String| ModelError::invalid(source, reason);
    let tokens = strings(inspected, "tokenizer.ggml.tokens").map_err(invalid)?;
    let merges = strings(inspected, "tokenizer.ggml.merges").map_err(invalid)?;
    let types = token_types(inspected, tokens.len()).map_err(invalid)?;
    let pre = pre_tokenizer(inspected, tokens.len()).map_err(invalid)?;

    let tokenizer = tokenizer_json(inspected, &pre, &tokens, &merges, &types).map_err(invalid)?;
    let text = tokenizer.to_string();
    tokenizers::Tokenizer::from_bytes(text.as_bytes())
        .map_err(|error| ModelError::invalid(source, format!("its tokenizer does not hold together: {error}")))?;
    write(dir, "tokenizer.json", &text)?;
    write(
        dir,
        "tokenizer_config.json",
        &config_json(inspected, &pre, &tokens).to_string(),
    )?;
    write(dir, "generation_config.json", &generation_json(inspected).to_string())?;
    Ok(Rebuilt::Exact)
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), ModelError> {
    let path = dir.join(name);
    std::fs::write(&path, text).map_err(ModelError::io("write", &path))
}

/// The rule that `tokenizer.ggml.pre` names; the names are llama.cpp's.
fn pre_tokenizer(inspected: &Inspected, vocabulary: usize) -> Result<Pre, String> {
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let split = |pattern: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            byte_level(false),
        ]})
    };
    let plain = |cutter: Json| Pre {
        normaliser: Json::Null,
        cutter,
        ignore_merges: false,
        adds_bos: false,
    };

    let named = inspected.text("tokenizer.ggml.pre").unwrap_or("default");
    // Files from before the key existed: the architecture says it where only one family uses it.
    let named = match (named, inspected.architecture.as_str(), vocabulary) {
        ("default", "qwen2" | "qwen3" | "qwen3moe", _) => "qwen2",
        ("default", "starcoder2", _) => "starcoder",
        ("default", "phi2", _) => "gpt-2",
        ("default", "llama", 128_256) => "llama-bpe",
        (named, _, _) => named,
    };
    Ok(match named {
        "smollm" | "starcoder" | "refact" => plain(json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            byte_level(true),
        ]})),
        "gpt-2" | "phi-2" | "mpt" | "olmo" => plain(byte_level(true)),
        "llama-bpe" | "llama3" | "llama-v3" => Pre {
            ignore_merges: true,
            adds_bos: true,
            ..plain(split(LLAMA3))
        },
        "dbrx" | "smaug-bpe" => plain(split(LLAMA3)),
        "qwen2" => Pre {
            normaliser: json!({"type": "NFC"}),
            ..plain(split(QWEN2))
        },
        "deepseek-r1-qwen" => Pre {
            adds_bos: true,
            ..plain(split(QWEN2))
        },
        "tekken" => Pre {
            ignore_merges: true,
            adds_bos: true,
            ..plain(split(TEKKEN))
        },
        other => {
            return Err(format!(
                "its tokenizer cuts text by the rule `{other}` (tokenizer.ggml.pre), which is not known here; take the model as \
                 safetensors with its tokenizer.json, or run it in another server and use --upstream"
            ));
        }
    })
}

fn tokenizer_json(
    inspected: &Inspected,
    pre: &Pre,
    tokens: &[&str],
    merges: &[&str],
    types: &[i64],
) -> Result<Json, String> {
    let vocabulary: Map<String, Json> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| ((*token).to_owned(), Json::from(id)))
        .collect();
    let added: Vec<Json> = tokens
        .iter()
        .zip(types)
        .enumerate()
        .filter(|(_, (_, kind))| matches!(**kind, UNKNOWN | CONTROL | USER_DEFINED))
        .map(|(id, (token, kind))| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": *kind != USER_DEFINED})
        })
        .collect();

    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    let post_processor = match bos(inspected, pre, tokens) {
        Some((id, token)) => json!({"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}}}),
        None => byte_level.clone(),
    };
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added,
        "normalizer": pre.normaliser,
        "pre_tokenizer": pre.cutter,
        "post_processor": post_processor,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "ignore_merges": pre.ignore_merges, "vocab": vocabulary, "merges": pairs(merges)?},
    }))
}

/// Merges as pairs: `"a b"` is cut at the first space that isn't its first character.
fn pairs(merges: &[&str]) -> Result<Vec<Json>, String> {
    let cut = |merge: &str| {
        let (first, rest) = merge.split_at(merge.char_indices().nth(1)?.0);
        let (left, right) = rest.split_once(' ')?;
        Some(json!([format!("{first}{left}"), right]))
    };
    merges
        .iter()
        .map(|merge| cut(merge).ok_or_else(|| format!("its tokenizer has a broken merge `{merge}`")))
        .collect()
}

fn config_json(inspected: &Inspected, pre: &Pre, tokens: &[&str]) -> Json {
    let token = |key: &str| {
        let id = usize::try_from(inspected.number(&format!("tokenizer.ggml.{key}_token_id"))?).ok()?;
        tokens.get(id).copied()
    };
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": false,
        "clean_up_tokenization_spaces": false,
        "add_bos_token": bos(inspected, pre, tokens).is_some(),
        "add_eos_token": false,
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "pad_token": token("padding").or_else(|| token("eos")),
        "unk_token": token("unknown"),
        "model_max_length": inspected.context_window,
    });
    if let Some(template) = inspected.text("tokenizer.chat_template") {
        config["chat_template"] = json!(template);
    }
    config
}

/// The tokens at which a reply ends: end of text, and end of turn where it is another one.
fn generation_json(inspected: &Inspected) -> Json {
    let mut ends: Vec<u64> = ["eos", "eot"]
        .iter()
        .filter_map(|key| inspected.number(&format!("tokenizer.ggml.{key}_token_id")))
        .collect();
    ends.dedup();
    json!({"eos_token_id": ends, "bos_token_id": inspected.number("tokenizer.ggml.bos_token_id")})
}

/// The token that begins every text, if one does.
fn bos<'a>(inspected: &Inspected, pre: &Pre, tokens: &[&'a str]) -> Option<(u64, &'a str)> {
    let adds = inspected.flag("tokenizer.ggml.add_bos_token").unwrap_or(pre.adds_bos);
    let id = inspected.number("tokenizer.ggml.bos_token_id").filter(|_| adds)?;
    Some((id, tokens.get(usize::try_from(id).ok()?)?))
}

fn strings<'a>(inspected: &'a Inspected, key: &str) -> Result<Vec<&'a str>, String> {
    let Some(Value::Array(items)) = inspected.content.metadata.get(key) else {
        return Err(format!("its tokenizer is incomplete: `{key}` is absent"));
    };
    items
        .iter()
        .map(|item| {
            item.to_string()
                .map(String::as_str)
                .map_err(|_| format!("`{key}` holds something that is not text"))
        })
        .collect()
}

/// The type of each token; all are normal where the file doesn't say.
fn token_types(inspected: &Inspected, tokens: usize) -> Result<Vec<i64>, String> {
    let Some(Value::Array(items)) = inspected.content.metadata.get("tokenizer.ggml.token_type") else {
        return Ok(vec![1; tokens]);
    };
    if items.len() != tokens {
        return Err(format!(
            "its tokenizer has {tokens} tokens but {} token types",
            items.len()
        ));
    }
    let number = |item: &Value| match item {
        Value::I32(n) => Ok(i64::from(*n)),
        Value::U32(n) => Ok(i64::from(*n)),
        other => Err(format!("a token type is not a number: {other:?}")),
    };
    items.iter().map(number).collect()
}
