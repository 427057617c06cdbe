//! Tokens to learn from, exactly as they would be served: the prompt by the model's own template and tokenizer, the answer
//! as the model would write it, and the token that ends it.

use std::path::Path;
use std::sync::Arc;

use tokenizers::Tokenizer;

use super::load::ends;
use super::shape::Shape;
use crate::generate::options::Extras;
use crate::generate::template::TemplateSource;
use crate::generate::tokens::ChatTokens;
use crate::generate::vocabulary::Vocabulary;
use crate::models::gguf;
use crate::{ChatRequest, EngineError, Message, RawPrompt, TokenCounter};

/// A prompt and the answer to it, as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    /// What the model reads.
    pub prompt: Vec<u32>,
    /// What it should write, the token that ends its turn included.
    pub answer: Vec<u32>,
}

/// Makes lessons for one model.
pub struct Lessons {
    tokens: ChatTokens,
    end: u32,
}

impl Lessons {
    /// Reads a GGUF file's header, and tokenizer and template from the directory beside it.
    ///
    /// # Errors
    /// What is damaged or missing.
    pub fn open(weights: &Path, dir: &Path) -> Result<Self, String> {
        let file = gguf::inspect(weights).map_err(|error| error.to_string())?;
        let window = Shape::read(&file)?.window;
        let path = dir.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(&path)
            .map_err(|error| format!("the tokenizer {} can't be read: {error}", path.display()))?;
        let source = TemplateSource::from_dir(dir)?;
        let eos = source.eos.as_deref().and_then(|eos| tokenizer.token_to_id(eos));
        // The template's own end, where it names one: it is what a turn was ended with when the model was made.
        let end = match eos {
            Some(end) => end,
            None => ends(weights, dir, None, &tokenizer)?.into_iter().min().unwrap_or(0),
        };
        let tokenizer = Arc::new(tokenizer);
        let vocabulary = Vocabulary::new(Arc::clone(&tokenizer), None);
        Ok(Self {
            tokens: ChatTokens::new(tokenizer, vocabulary, source, window)?,
            end,
        })
    }

    /// The tokens of a conversation and of the answer to it.
    ///
    /// # Errors
    /// [`EngineError::Rejected`] for messages that the template can't express.
    pub fn lesson(&self, messages: &[Message], answer: &str) -> Result<Lesson, EngineError> {
        let request = ChatRequest {
            messages: messages.to_vec(),
            ..ChatRequest::default()
        };
        let prompt = self.tokens.prompt(&request, &Extras::default())?.ids;
        let mut answer = self.tokens.answer(answer)?;
        answer.push(self.end);
        Ok(Lesson { prompt, answer })
    }

    /// The tokens of a text that is no conversation.
    ///
    /// # Errors
    /// [`EngineError::Rejected`] for one that can't be tokenised.
    pub fn text(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let request = ChatRequest {
            raw: Some(RawPrompt::Text {
                prompt: text.to_owned(),
                suffix: None,
            }),
            ..ChatRequest::default()
        };
        Ok(self.tokens.prompt(&request, &Extras::default())?.ids)
    }

    /// Tokens that prompt and answer may have together.
    #[must_use]
    pub fn window(&self) -> usize {
        self.tokens.context_window()
    }
}
