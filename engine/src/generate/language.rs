//! All of a model that is not arithmetic: its tokens, its chat template, the tokens that end a turn, the machine that
//! follows schemas. Makes an [`Ask`] of a request, and of that the [`Reply`] that an engine feeds with logits.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use llguidance::ParserFactory;
use tokenizers::Tokenizer;
use tokio::sync::mpsc;

use super::{
    channel::Channels,
    detokenize::Detokenizer,
    grammar::{Guide, Wanted},
    logprobs::Scores,
    options::Extras,
    reasoning::{Reasoner, Tags},
    reply::{Length, Reply},
    sampling::Sampler,
    stop::StopMatcher,
    template::TemplateSource,
    tokens::{ChatTokens, Prompt},
    tools::{Choice, calls::Calls, dialect::MARKS},
    vocabulary::Vocabulary,
};
use crate::{ChatRequest, Delta, EngineError, Sampling, TokenCounter};

/// See the module.
pub(crate) struct Language {
    pub(crate) tokens: Arc<ChatTokens>,
    tokenizer: Arc<Tokenizer>,
    vocabulary: Vocabulary,
    ends: Arc<HashSet<u32>>,
    grammars: Option<Arc<ParserFactory>>,
}

/// A request that has been checked and tokenised.
pub(crate) struct Ask {
    pub(crate) prompt: Vec<u32>,
    /// The most tokens that the reply may have.
    pub(crate) limit: usize,
    /// The reply must be the same whatever was asked before: an engine reads the whole prompt, as it would a first one.
    pub(crate) repeatable: bool,
    sampling: Sampling,
    stop: Vec<String>,
    extras: Extras,
    guide: Option<Guide>,
    more_ends: Vec<u32>,
    thinks: Option<(Tags, bool)>,
}

/// Where a reply's pieces arrive.
pub(crate) type Pieces = mpsc::UnboundedReceiver<Result<Delta, EngineError>>;

impl Ask {
    /// The most logits that the reply asks an engine for.
    pub(crate) fn steps(&self) -> usize {
        let read = if self.extras.echo { self.prompt.len() } else { 0 };
        read + self.limit
    }
}

impl Language {
    /// `window` is the tokens that prompt and reply may have together; without `grammars` schemas are refused.
    pub(crate) fn new(
        tokenizer: Arc<Tokenizer>,
        source: TemplateSource,
        ends: Arc<HashSet<u32>>,
        grammars: Option<Arc<ParserFactory>>,
        window: usize,
    ) -> Result<Self, String> {
        let vocabulary = Vocabulary::new(Arc::clone(&tokenizer), grammars.clone());
        let tokens = ChatTokens::new(Arc::clone(&tokenizer), vocabulary.clone(), source, window)?;
        Ok(Self {
            tokens: Arc::new(tokens),
            tokenizer,
            vocabulary,
            ends,
            grammars,
        })
    }

    /// Checks and tokenises a request. Takes milliseconds for a long prompt or a large schema.
    ///
    /// # Errors
    /// What is wrong with the request, or that it is over the window.
    pub(crate) fn prepare(&self, request: ChatRequest) -> Result<Ask, EngineError> {
        let mut extras = Extras::read(&request, self.vocabulary.len())?;
        let Prompt {
            ids: prompt,
            ends: more_ends,
            dialect,
            thinks,
        } = self.tokens.prompt(&request, &extras)?;
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
        let wanted = Wanted {
            schema: extras.schema.take(),
            tools: &extras.tools,
            dialect,
            thinks,
        };
        let guide = Guide::new(&wanted, self.grammars.as_ref(), &self.vocabulary)?;
        Ok(Ask {
            prompt,
            limit: request.max_tokens.map_or(left, |most| most.min(left)),
            repeatable: request.sampling.seed.is_some(),
            sampling: request.sampling,
            stop: request.stop,
            extras,
            guide,
            more_ends,
            thinks,
        })
    }

    /// The prompt to read, the reply to feed with logits, and where its pieces arrive.
    pub(crate) fn begin(&self, ask: Ask) -> (Vec<u32>, Reply, Pieces) {
        let (sender, pieces) = mpsc::unbounded_channel();
        let random = uuid::Uuid::new_v4().as_u64_pair().1;
        let Ask { mut prompt, extras, .. } = ask;
        let length = Length {
            prompt: prompt.len(),
            most: ask.limit,
        };
        let sampler = Sampler::new(&ask.sampling, extras.bias, &prompt, random);
        let detokenizer = Detokenizer::new(Arc::clone(&self.tokenizer));
        let ends = if extras.ending.ignore_ends {
            Arc::default()
        } else {
            Arc::clone(&self.ends)
        };
        let mut reply = Reply::new(sender, sampler, detokenizer, StopMatcher::new(&ask.stop), ends, length);
        if extras.ending.ignore_ends {
            reply.barred = Arc::clone(&self.ends);
        }
        let more = || ask.more_ends.iter().chain(&extras.ending.stop_tokens).copied();
        if more().next().is_some() {
            reply.ends = Arc::new(reply.ends.iter().copied().chain(more()).collect());
        }
        reply.min_tokens = extras.ending.min_tokens;
        reply.guide = ask.guide;
        let forced = extras.tools.choice != Choice::Auto;
        let names: Vec<String> = extras.tools.list.into_iter().map(|tool| tool.name).collect();
        reply.channels = Channels {
            reasoner: ask.thinks.map(|(tags, opened)| Reasoner::new(tags, opened)),
            calls: (!names.is_empty()).then(|| Calls::new(names).forced(forced)),
        };
        reply.shown = self.shown(&reply.channels, ask.thinks.map(|(tags, _)| tags));
        reply.scores = extras.logprobs.map(|top| Scores::new(top, self.vocabulary.clone()));
        if let (true, Some(scores)) = (extras.echo, &reply.scores) {
            // The engine gives logits for what follows a prompt, so it gets the prompt piece by piece.
            reply
                .read
                .extend(prompt.first().map(|first| scores.named(*first, f64::NAN, Vec::new())));
            reply.unread = VecDeque::from(prompt.split_off(prompt.len().min(1)));
        }
        (prompt, reply, pieces)
    }

    /// The marks that are tokens without text, where marks matter.
    fn shown(&self, channels: &Channels, tags: Option<Tags>) -> HashMap<u32, &'static str> {
        let calls = channels.calls.is_some().then_some(MARKS).into_iter().flatten();
        let tags = tags.into_iter().flat_map(|tags| [tags.open, tags.close]);
        let marks = calls
            .chain(tags)
            .filter_map(|mark| Some((self.vocabulary.id(mark)?, mark)));
        marks.filter(|(id, _)| self.vocabulary.is_hidden(*id)).collect()
    }
}
