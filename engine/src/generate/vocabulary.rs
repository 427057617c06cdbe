//! A model's tokens one by one: the bytes of each, and the ids of those that mark something.

use std::sync::Arc;

use llguidance::ParserFactory;
use tokenizers::Tokenizer;
use toktrie::TokTrie;

/// See the module.
#[derive(Clone)]
pub(crate) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    /// Has the bytes of every token, where the tokenizer's kind is known.
    grammars: Option<Arc<ParserFactory>>,
    /// Ids are below this.
    len: usize,
}

impl Vocabulary {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, grammars: Option<Arc<ParserFactory>>) -> Self {
        let last = tokenizer.get_vocab(true).into_values().max();
        Self {
            tokenizer,
            grammars,
            len: last.map_or(0, |last| last as usize + 1),
        }
    }

    /// The bytes that a token adds to a text; of a special token, its name's. Empty for an id that is no token.
    pub(crate) fn bytes(&self, token: u32) -> Vec<u8> {
        let known = self
            .grammars
            .as_ref()
            .map(|grammars| grammars.tok_env().tok_trie().token(token).to_vec());
        match known {
            Some(bytes) if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) => bytes[1..].to_vec(),
            Some(bytes) => bytes,
            None => self.tokenizer.decode(&[token], false).unwrap_or_default().into_bytes(),
        }
    }

    /// The id of the one token that this text is.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.tokenizer.token_to_id(text)
    }

    /// Whether the token's text is left out of what people read.
    pub(crate) fn is_hidden(&self, token: u32) -> bool {
        let added = self.tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        added.get(&token).is_some_and(|token| token.special)
    }

    /// The id of a text that a grammar must name as a token, because its letters alone would not match it.
    pub(crate) fn grammar_token(&self, text: &str) -> Option<u32> {
        let grammars = self.grammars.as_ref()?;
        let id = self.id(text)?;
        let environment = grammars.tok_env();
        environment.tok_trie().is_special_token(id).then_some(id)
    }

    /// Ids are below this.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}
