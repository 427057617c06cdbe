//! All of a model that is not arithmetic: its tokens, its chat template, the tokens that end a turn, the machine that
//! follows schemas. Makes an [`Ask`] of a request, and of that the [`Reply`] that an engine feeds with logits.

use std::{collections::HashSet, sync::Arc};

use llguidance::{Matcher, ParserFactory, api::TopLevelGrammar};
use tokenizers::Tokenizer;
use tokio::sync::mpsc;

use super::{
    detokenize::Detokenizer,
    options::{Extras, rejected},
    reply::Reply,
    sampling::Sampler,
    stop::StopMatcher,
    tokens::{ChatTokens, TemplateSource},
};
use crate::{ChatRequest, Delta, EngineError, Sampling, TokenCounter};

/// See the module.
pub(crate) struct Language {
    pub(crate) tokens: Arc<ChatTokens>,
    tokenizer: Arc<Tokenizer>,
    ends: Arc<HashSet<u32>>,
    grammars: Option<Arc<ParserFactory>>,
}

/// A request that has been checked and tokenised.
pub(crate) struct Ask {
    pub(crate) prompt: Vec<u32>,
    /// The most tokens that the reply may have.
    pub(crate) limit: usize,
    sampling: Sampling,
    stop: Vec<String>,
    extras: Extras,
    grammar: Option<Matcher>,
}

/// Where a reply's pieces arrive.
pub(crate) type Pieces = mpsc::UnboundedReceiver<Result<Delta, EngineError>>;

impl Language {
    /// `window` is the tokens that prompt and reply may have together; without `grammars` schemas are refused.
    pub(crate) fn new(
        tokenizer: Arc<Tokenizer>,
        source: TemplateSource,
        ends: Arc<HashSet<u32>>,
        grammars: Option<Arc<ParserFactory>>,
        window: usize,
    ) -> Result<Self, String> {
        let tokens = Arc::new(ChatTokens::new(Arc::clone(&tokenizer), source, window)?);
        Ok(Self {
            tokens,
            tokenizer,
            ends,
            grammars,
        })
    }

    /// Checks and tokenises a request. Takes milliseconds for a long prompt or a large schema.
    ///
    /// # Errors
    /// What is wrong with the request, or that it is over the window.
    pub(crate) fn prepare(&self, request: ChatRequest) -> Result<Ask, EngineError> {
        let mut extras = Extras::read(&request)?;
        let prompt = self.tokens.encode(&request.messages)?;
        let window = self.tokens.context_window();
        if prompt.len() >= window {
            let (prompt, asked) = (prompt.len(), request.max_tokens);
            return Err(EngineError::ContextLengthExceeded {
                limit: window,
                prompt,
                asked,
            });
        }
        let left = window - prompt.len();
        let grammar = extras.schema.take().map(|schema| self.grammar(schema)).transpose()?;
        Ok(Ask {
            prompt,
            sampling: request.sampling,
            stop: request.stop,
            extras,
            grammar,
            limit: request.max_tokens.map_or(left, |most| most.min(left)),
        })
    }

    /// The prompt to read, the reply to feed with logits, and where its pieces arrive.
    pub(crate) fn begin(&self, ask: Ask) -> (Vec<u32>, Reply, Pieces) {
        let (sender, pieces) = mpsc::unbounded_channel();
        let random = uuid::Uuid::new_v4().as_u64_pair().1;
        let reply = Reply {
            pieces: sender,
            sampler: Sampler::new(&ask.sampling, ask.extras.bias, &ask.prompt, random),
            detokenizer: Detokenizer::new(Arc::clone(&self.tokenizer)),
            stop: StopMatcher::new(&ask.stop),
            grammar: ask.grammar,
            ends: Arc::clone(&self.ends),
            prompt_tokens: ask.prompt.len(),
            cached_tokens: 0,
            max_tokens: ask.limit,
            completion_tokens: 0,
            over: false,
        };
        (ask.prompt, reply, pieces)
    }

    /// What follows a schema token by token.
    fn grammar(&self, schema: serde_json::Value) -> Result<Matcher, EngineError> {
        let refused = |reason: String| rejected("response_format", format!("this schema can't be enforced: {reason}"));
        let grammars = self
            .grammars
            .as_ref()
            .ok_or_else(|| refused("the model's tokenizer does not allow it".into()))?;
        let parser = grammars.create_parser(TopLevelGrammar::from_json_schema(schema));
        Ok(Matcher::new(Ok(parser.map_err(|error| refused(error.to_string()))?)))
    }
}
