//! Prompts that are no conversations: text as it is, with what the model's tokenizer puts before every text, and text
//! with a gap to fill, for models that were taught that.

use tokenizers::Tokenizer;

use super::{options::rejected, vocabulary::Vocabulary};
use crate::{EngineError, RawPrompt};

/// How a family of models is asked to fill a gap: the texts of its tokens, in the order in which they stand.
struct Gap {
    before: &'static str,
    between: &'static str,
    after: &'static str,
    /// The part after the gap comes first.
    suffix_first: bool,
}

/// The families that are known. Qwen-Coder and CodeGemma; StarCoder 2 and its kin; CodeLlama as its two spellings;
/// DeepSeek-Coder; Codestral.
const GAPS: [Gap; 6] = [
    Gap {
        before: "<|fim_prefix|>",
        between: "<|fim_suffix|>",
        after: "<|fim_middle|>",
        suffix_first: false,
    },
    Gap {
        before: "<fim_prefix>",
        between: "<fim_suffix>",
        after: "<fim_middle>",
        suffix_first: false,
    },
    Gap {
        before: "▁<PRE>",
        between: "▁<SUF>",
        after: "▁<MID>",
        suffix_first: false,
    },
    Gap {
        before: "<PRE>",
        between: "<SUF>",
        after: "<MID>",
        suffix_first: false,
    },
    Gap {
        before: "<｜fim▁begin｜>",
        between: "<｜fim▁hole｜>",
        after: "<｜fim▁end｜>",
        suffix_first: false,
    },
    Gap {
        before: "[SUFFIX]",
        between: "[PREFIX]",
        after: "",
        suffix_first: true,
    },
];

/// Tokens with which models end what fills a gap, besides their usual ends.
const GAP_ENDS: [&str; 10] = [
    "<|endoftext|>",
    "<|fim_pad|>",
    "<|file_sep|>",
    "<|repo_name|>",
    "<fim_pad>",
    "<file_sep>",
    "<repo_name>",
    "▁<EOT>",
    "<EOT>",
    "<|file_separator|>",
];

/// What begins every text of a model, as its files say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// The token that begins a text.
    pub(crate) bos: Option<u32>,
    /// Whether it does; where the files say nothing the tokenizer itself knows.
    pub(crate) adds_bos: Option<bool>,
    /// What stands before an empty prompt: a model can't go on from nothing.
    pub(crate) nothing: Option<u32>,
}

impl Beginning {
    /// A raw prompt's tokens, and those that end its reply besides the model's own ends.
    pub(crate) fn read(
        self,
        prompt: &RawPrompt,
        tokenizer: &Tokenizer,
        vocabulary: &Vocabulary,
    ) -> Result<(Vec<u32>, Vec<u32>), EngineError> {
        let (ids, ends) = match prompt {
            RawPrompt::Tokens(ids) => {
                let most = vocabulary.len();
                if let Some(id) = ids.iter().find(|id| **id as usize >= most) {
                    let message = format!("{id} is not a token of this model; ids are below {most}");
                    return Err(rejected("prompt", message));
                }
                (ids.clone(), Vec::new())
            }
            RawPrompt::Text { prompt, suffix } => {
                let gap = GAPS.iter().find_map(|gap| gap.ids(vocabulary));
                match (suffix.as_deref(), gap) {
                    (None, _) | (Some(""), None) => (self.text(prompt, tokenizer)?, Vec::new()),
                    (Some(suffix), Some(gap)) => {
                        let ids = self.gap(gap, prompt, suffix, tokenizer)?;
                        let ends = GAP_ENDS.iter().filter_map(|end| vocabulary.id(end));
                        (ids, ends.collect())
                    }
                    (Some(_), None) => {
                        let message = "this model was not taught to fill a gap, so it takes no suffix; use a code model \
                                       that was, such as Qwen2.5-Coder, or leave suffix out";
                        return Err(rejected("suffix", message));
                    }
                }
            }
        };
        if !ids.is_empty() {
            return Ok((ids, ends));
        }
        match self.bos.or(self.nothing) {
            Some(id) => Ok((vec![id], ends)),
            None => Err(rejected("prompt", "the prompt is empty")),
        }
    }

    fn text(self, text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>, EngineError> {
        let mut ids = encode(text, true, tokenizer)?;
        // Tokenizers may also end a text, but here the model is to go on with it.
        let plain = encode(text, false, tokenizer)?;
        if ids.len() > plain.len() && !ids.ends_with(&plain) {
            ids.pop();
        }
        match (self.adds_bos, self.bos) {
            (Some(true), Some(bos)) if ids.first() != Some(&bos) => ids.insert(0, bos),
            (Some(false), Some(bos)) if ids.first() == Some(&bos) && plain.first() != Some(&bos) => {
                ids.remove(0);
            }
            _ => {}
        }
        Ok(ids)
    }

    fn gap(self, gap: GapIds, prompt: &str, suffix: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>, EngineError> {
        let (first, second) = if gap.suffix_first {
            (suffix, prompt)
        } else {
            (prompt, suffix)
        };
        // What begins a text also begins this one.
        let mut ids = self.text("", tokenizer)?;
        ids.push(gap.before);
        ids.extend(encode(first, false, tokenizer)?);
        ids.push(gap.between);
        ids.extend(encode(second, false, tokenizer)?);
        ids.extend(gap.after);
        Ok(ids)
    }
}

/// The tokens of a [`Gap`].
struct GapIds {
    before: u32,
    between: u32,
    after: Option<u32>,
    suffix_first: bool,
}

impl Gap {
    fn ids(&self, vocabulary: &Vocabulary) -> Option<GapIds> {
        let after = if self.after.is_empty() {
            None
        } else {
            Some(vocabulary.id(self.after)?)
        };
        Some(GapIds {
            before: vocabulary.id(self.before)?,
            between: vocabulary.id(self.between)?,
            after,
            suffix_first: self.suffix_first,
        })
    }
}

/// A text's tokens, with or without those that the tokenizer adds.
pub(crate) fn encode(text: &str, with_added: bool, tokenizer: &Tokenizer) -> Result<Vec<u32>, EngineError> {
    let encoding = tokenizer
        .encode_fast(text, with_added)
        .map_err(|error| EngineError::Rejected {
            message: format!("the text can't be turned into this model's tokens: {error}"),
            param: Some("messages".to_owned()),
        })?;
    Ok(encoding.get_ids().to_vec())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Beginning;
    use crate::{
        EngineError, RawPrompt,
        generate::{tokens::tests::tokenizer, vocabulary::Vocabulary},
    };

    fn text(prompt: &str, suffix: Option<&str>) -> RawPrompt {
        RawPrompt::Text {
            prompt: prompt.to_owned(),
            suffix: suffix.map(str::to_owned),
        }
    }

    fn read(prompt: &RawPrompt, beginning: Beginning, fills: bool) -> Result<(Vec<u32>, Vec<u32>), EngineError> {
        let mut words = json!({"<unk>": 0, "hello": 4, "world": 5});
        if fills {
            for (id, token) in (10..).zip(["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>"]) {
                words[token] = json!(id);
            }
        }
        let tokenizer = tokenizer(&words);
        beginning.read(prompt, &tokenizer, &Vocabulary::new(tokenizer.clone(), None))
    }

    #[test]
    fn texts_begin_as_the_model_wants() {
        let plain = Beginning::default();
        let begins = Beginning {
            bos: Some(2),
            adds_bos: Some(true),
            nothing: None,
        };
        let hello = text("hello", None);
        assert_eq!(read(&hello, plain, false).expect("ids").0, [4]);
        assert_eq!(read(&hello, begins, false).expect("ids").0, [2, 4]);
        assert_eq!(read(&text("", None), begins, false).expect("ids").0, [2]);
        assert!(read(&text("", None), plain, false).is_err());
        assert_eq!(
            read(&RawPrompt::Tokens(vec![5, 4]), begins, false).expect("ids").0,
            [5, 4]
        );
        assert!(read(&RawPrompt::Tokens(vec![99]), begins, false).is_err());
    }

    #[test]
    fn gaps_are_filled_by_models_that_can() {
        let gap = text("hello", Some("world"));
        let (ids, ends) = read(&gap, Beginning::default(), true).expect("ids");
        assert_eq!((ids, ends), (vec![10, 4, 11, 5, 12], vec![13]));
        let refused = read(&gap, Beginning::default(), false);
        assert!(matches!(refused, Err(EngineError::Rejected { param: Some(param), .. }) if param == "suffix"));
        assert_eq!(
            read(&text("hello", Some("")), Beginning::default(), false)
                .expect("ids")
                .0,
            [4]
        );
    }
}
