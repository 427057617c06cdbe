//! A model's own tokenizer and chat template: messages to token ids, exactly as the model reads them, and the count.

use std::{borrow::Cow, sync::Arc};

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use super::{
    options::{Extras, TemplateOptions, rejected},
    raw::{self, Beginning},
    reasoning::Tags,
    template::{ChatTemplate, TemplateSource, entry},
    tools::{
        Tools,
        dialect::{Dialect, knows_tools},
        preamble,
    },
    vocabulary::Vocabulary,
};
use crate::{ChatRequest, Content, EngineError, Message, TokenCounter};

/// What breaks a special token's text in a message, so that it is read as text: a zero-width space.
const BREAK: char = '\u{200B}';

/// Where a prompt that goes on within the last message is cut: a letter of Unicode's private area, which no template
/// and hardly any text has.
const HERE: char = '\u{F8FF}';

/// Template and tokenizer of one loaded model.
pub(crate) struct ChatTokens {
    tokenizer: Arc<Tokenizer>,
    vocabulary: Vocabulary,
    template: ChatTemplate,
    beginning: Beginning,
    /// Texts of the special tokens, the longest first.
    special: Vec<String>,
    window: usize,
}

/// A request as the model reads it.
#[derive(Debug, PartialEq)]
pub(crate) struct Prompt {
    pub(crate) ids: Vec<u32>,
    /// Tokens that end the reply besides the model's own ends.
    pub(crate) ends: Vec<u32>,
    /// How the model writes calls.
    pub(crate) dialect: Dialect,
    /// How it writes reasoning, if it does, and whether the prompt has the opening tag.
    pub(crate) thinks: Option<(Tags, bool)>,
}

impl ChatTokens {
    pub(crate) fn new(
        tokenizer: Arc<Tokenizer>,
        vocabulary: Vocabulary,
        source: TemplateSource,
        window: usize,
    ) -> Result<Self, String> {
        let text = source.template.ok_or(
            "it has no chat template, so it can't hold a conversation; use an instruction-tuned model, or put a \
             `chat_template` in its tokenizer_config.json",
        )?;
        let id = |text: &Option<String>| vocabulary.id(text.as_deref()?);
        let beginning = Beginning {
            bos: id(&source.bos),
            adds_bos: source.adds_bos,
            nothing: id(&source.eos),
        };
        let template = ChatTemplate::new(&text, source.bos, source.eos)
            .map_err(|reason| format!("its chat template can't be read: {reason}"))?;
        let added = tokenizer.get_added_tokens_decoder();
        // A single letter can't be broken, and no model marks a turn with one.
        let breakable = |text: &String| text.chars().nth(1).is_some();
        let mut special: Vec<String> = added
            .into_values()
            .filter(|token| token.special)
            .map(|token| token.content)
            .filter(breakable)
            .collect();
        special.sort_unstable_by_key(|text| std::cmp::Reverse(text.len()));
        Ok(Self {
            tokenizer,
            vocabulary,
            template,
            beginning,
            special,
            window,
        })
    }

    /// The prompt that a request makes.
    pub(crate) fn prompt(&self, request: &ChatRequest, extras: &Extras) -> Result<Prompt, EngineError> {
        if let Some(raw) = &request.raw {
            let (ids, ends) = self.beginning.read(raw, &self.tokenizer, &self.vocabulary)?;
            return Ok(Prompt {
                ids,
                ends,
                dialect: Dialect::Hermes,
                thinks: None,
            });
        }
        let (template, text) = self.written(&request.messages, &extras.tools, &extras.template)?;
        let source = template.source();
        Ok(Prompt {
            // The template writes the special tokens itself.
            ids: raw::encode(&text, false, &self.tokenizer)?,
            ends: Vec::new(),
            dialect: if knows_tools(source) {
                Dialect::of(source)
            } else {
                Dialect::Hermes
            },
            thinks: Tags::of(source).map(|tags| (tags, tags.opened_by(&text))),
        })
    }

    pub(super) fn template(&self, options: &TemplateOptions) -> Result<Cow<'_, ChatTemplate>, EngineError> {
        let Some(source) = &options.source else {
            return Ok(Cow::Borrowed(&self.template));
        };
        let template = self.template.replaced(source);
        let wrong = |reason| rejected("chat_template", format!("the template can't be read: {reason}"));
        template.map(Cow::Owned).map_err(wrong)
    }

    /// The prompt's text.
    pub(super) fn rendered(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        tools: &Tools,
        options: &TemplateOptions,
    ) -> Result<String, EngineError> {
        if let Some(kind) = messages.iter().find_map(|message| message.content.first_non_text()) {
            return Err(rejected(
                "messages",
                format!("this model reads text only, and a message has a part of type `{kind}`; leave it out"),
            ));
        }
        let native = knows_tools(template.source());
        let told = if native {
            Cow::Borrowed(messages)
        } else {
            Cow::Owned(preamble::told(messages, tools))
        };
        let entries = told
            .iter()
            .map(|message| entry(message, &self.as_text(&message.content)));
        let mut entries: Vec<Value> = entries.collect();
        // Calls of earlier replies can hold what a user said.
        entries
            .iter_mut()
            .filter_map(|entry| entry.get_mut("tool_calls"))
            .for_each(|calls| self.tame(calls));
        if options.continues {
            let Some(Value::String(text)) = entries.last_mut().and_then(|entry| entry.get_mut("content")) else {
                return Err(rejected("messages", "there is no message to go on with"));
            };
            text.push(HERE);
        }
        let mut variables = options.arguments.clone();
        variables.insert("messages".to_owned(), Value::Array(entries));
        variables.insert(
            "add_generation_prompt".to_owned(),
            json!(!options.continues && !options.bare),
        );
        if native && !tools.list.is_empty() {
            let mut list: Value = tools.list.iter().map(|tool| tool.definition.clone()).collect();
            self.tame(&mut list);
            variables.insert("tools".to_owned(), list);
        }
        let mut prompt = template.render(variables)?;
        if options.continues {
            let Some(end) = prompt.rfind(HERE) else {
                let message = "this model's chat template leaves the last message out, so it can't be gone on with";
                return Err(rejected("continue_final_message", message));
            };
            prompt.truncate(end);
        }
        Ok(prompt)
    }

    /// The tokens of a reply's text, without one that ends it.
    pub(crate) fn answer(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let mut text = text.to_owned();
        self.break_specials(&mut text);
        raw::encode(&text, false, &self.tokenizer)
    }

    /// A message's text in which no special token's text is left whole: what a user, a document or a memory says must
    /// not end a turn or begin another speaker's.
    fn as_text(&self, content: &Content) -> String {
        let mut text = content.text();
        self.break_specials(&mut text);
        text
    }

    pub(super) fn break_specials(&self, text: &mut String) {
        for special in &self.special {
            while let Some(at) = text.find(special.as_str()) {
                let first = text[at..].chars().next().map_or(0, char::len_utf8);
                text.insert(at + first, BREAK);
            }
        }
    }

    /// The same in all texts of a value.
    fn tame(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.break_specials(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.tame(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.tame(member)),
            _ => {}
        }
    }

    /// What of a request's fields bears on its prompt.
    fn extras(&self, request: &ChatRequest) -> Result<Extras, EngineError> {
        let relevant = [
            "tools",
            "tool_choice",
            "chat_template",
            "chat_template_kwargs",
            "enable_thinking",
            "reasoning_effort",
            "add_generation_prompt",
            "continue_final_message",
            "chat_instruct_command",
        ];
        let named = request.extra.iter().filter(|(key, _)| relevant.contains(&key.as_str()));
        let extra: Map<String, Value> = named.map(|(key, value)| (key.clone(), value.clone())).collect();
        let fields = ChatRequest {
            raw: request.raw.clone(),
            extra,
            ..ChatRequest::default()
        };
        Extras::read(&fields, self.vocabulary.len())
    }
}

impl TokenCounter for ChatTokens {
    fn count(&self, text: &str) -> usize {
        raw::encode(text, false, &self.tokenizer).map_or(text.len(), |ids| ids.len())
    }

    fn count_chat(&self, messages: &[Message]) -> Result<usize, EngineError> {
        let text = self.rendered(&self.template, messages, &Tools::default(), &TemplateOptions::default())?;
        Ok(raw::encode(&text, false, &self.tokenizer)?.len())
    }

    fn count_request(&self, request: &ChatRequest) -> Result<usize, EngineError> {
        Ok(self.prompt(request, &self.extras(request)?)?.ids.len())
    }

    fn encode(&self, text: &str) -> Option<Vec<u32>> {
        raw::encode(text, false, &self.tokenizer).ok()
    }

    fn decode(&self, tokens: &[u32]) -> Option<String> {
        if tokens.iter().any(|token| *token as usize >= self.vocabulary.len()) {
            return None;
        }
        self.tokenizer.decode(tokens, false).ok()
    }

    fn render(&self, request: &ChatRequest) -> Result<Option<String>, EngineError> {
        let extras = self.extras(request)?;
        if request.raw.is_some() {
            let ids = self.prompt(request, &extras)?.ids;
            return Ok(self.decode(&ids));
        }
        let (_, text) = self.written(&request.messages, &extras.tools, &extras.template)?;
        Ok(Some(text))
    }

    fn context_window(&self) -> usize {
        self.window
    }

    fn is_exact(&self) -> bool {
        true
    }
}

#[cfg(test)]
pub(crate) mod tests;
