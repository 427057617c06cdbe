//! Token ids back to text, one token at a time, in whole characters.

use std::sync::Arc;

use tokenizers::Tokenizer;

/// Tokens that may wait for the rest of a character. A character has at most four bytes, so at most four byte tokens;
/// what waits longer is not a character and is shown as the replacement character.
const LONGEST_WAIT: usize = 8;

/// Decodes a growing list of tokens. A tokenizer's text for a token depends on the tokens before it (spaces, bytes of
/// one character), so a few of them are kept and decoded again with the new one.
#[derive(Clone)]
pub(crate) struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    /// The tokens whose text is still needed: `ids[..known]` are out already, the rest waits.
    ids: Vec<u32>,
    known: usize,
}

impl Detokenizer {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self {
            tokenizer,
            ids: Vec::new(),
            known: 0,
        }
    }

    /// Takes a token and gives the text that is now whole; empty while a character is incomplete.
    pub(crate) fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let (new, whole) = self.pending();
        if !whole && self.ids.len() - self.known <= LONGEST_WAIT {
            return String::new();
        }
        if !new.is_empty() {
            self.ids.drain(..self.known);
            self.known = self.ids.len();
        }
        new
    }

    /// The text that is left when no token follows; half a character is dropped.
    pub(crate) fn finish(&mut self) -> String {
        let (new, _) = self.pending();
        self.ids.clear();
        self.known = 0;
        new.trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned()
    }

    /// The text of the tokens that wait, and whether it ends with a whole character.
    fn pending(&self) -> (String, bool) {
        let known = self.decode(&self.ids[..self.known]);
        let all = self.decode(&self.ids);
        let new = all.get(known.len()..).unwrap_or_default().to_owned();
        let whole = !new.ends_with(char::REPLACEMENT_CHARACTER);
        (new, whole)
    }

    /// Special tokens have no text. An id that the tokenizer does not know has none either: models may have more
    /// rows than their tokenizer has tokens.
    fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true).unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use tokenizers::Tokenizer;

    use super::Detokenizer;

    /// A byte-level tokenizer without merges: a token a byte, like GPT-2's alphabet.
    fn bytes() -> Arc<Tokenizer> {
        bytes_and(&[])
    }

    /// The same with these texts as tokens of their own.
    pub(crate) fn bytes_and(added: &[&str]) -> Arc<Tokenizer> {
        let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
            .into_iter()
            .collect();
        alphabet.sort_unstable();
        let vocab: serde_json::Map<String, serde_json::Value> = alphabet
            .iter()
            .enumerate()
            .map(|(id, letter)| (letter.to_string(), id.into()))
            .collect();
        let added: Vec<serde_json::Value> = (alphabet.len()..)
            .zip(added)
            .map(|(id, text)| {
                serde_json::json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": false})
            })
            .collect();
        let level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let json = serde_json::json!({
            "version": "1.0", "added_tokens": added, "normalizer": null, "pre_tokenizer": level, "decoder": level,
            "post_processor": null, "truncation": null, "padding": null,
            "model": {"type": "BPE", "vocab": vocab, "merges": [], "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": false},
        });
        Arc::new(json.to_string().parse().expect("a tokenizer"))
    }

    #[test]
    fn characters_are_never_split() {
        let tokenizer = bytes();
        let text = "a ä 🦀 end";
        let ids = tokenizer.encode_fast(text, false).expect("ids").get_ids().to_vec();
        assert_eq!(ids.len(), text.len());
        let mut decoder = Detokenizer::new(tokenizer);
        let pieces: Vec<String> = ids
            .iter()
            .map(|id| decoder.push(*id))
            .filter(|piece| !piece.is_empty())
            .collect();
        assert_eq!(pieces.concat(), text);
        assert_eq!(pieces.len(), text.chars().count());
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn half_a_character_is_dropped_at_the_end() {
        let tokenizer = bytes();
        let ids = tokenizer.encode_fast("ok🦀", false).expect("ids").get_ids().to_vec();
        let mut decoder = Detokenizer::new(tokenizer);
        let text: String = ids[..4].iter().map(|id| decoder.push(*id)).collect();
        assert_eq!(text + &decoder.finish(), "ok");
    }

    #[test]
    fn bytes_that_are_no_character_do_not_wait_for_ever() {
        let tokenizer = bytes();
        let ids = tokenizer.encode_fast("é", false).expect("ids").get_ids().to_vec();
        let mut decoder = Detokenizer::new(tokenizer);
        let text: String = (0..12).map(|_| decoder.push(ids[0])).collect();
        assert!(text.contains(char::REPLACEMENT_CHARACTER));
    }

    #[test]
    fn unknown_ids_have_no_text() {
        let mut decoder = Detokenizer::new(bytes());
        assert_eq!(decoder.push(90_000), "");
        assert_eq!(decoder.finish(), "");
    }
}
