//! A model's own tokenizer and chat template: messages to token ids, exactly as the model reads them, and the count.

use std::{borrow::Cow, fs, path::Path, sync::Arc};

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use super::{
    options::{Extras, TemplateOptions, rejected},
    raw::{self, Beginning},
    reasoning::Tags,
    template::{ChatTemplate, entry},
    tools::{
        Tools,
        dialect::{Dialect, knows_tools},
        preamble,
    },
    vocabulary::Vocabulary,
};
use crate::{ChatRequest, Content, EngineError, Message, TokenCounter, models::gguf::Inspected};

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

/// The chat template and the special tokens' texts, as a model's files say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TemplateSource {
    pub(crate) template: Option<String>,
    pub(crate) bos: Option<String>,
    pub(crate) eos: Option<String>,
    /// Whether a text that is no conversation begins with `bos`; `None` leaves it to the tokenizer.
    pub(crate) adds_bos: Option<bool>,
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

    fn break_specials(&self, text: &mut String) {
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
            "functions",
            "function_call",
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

impl TemplateSource {
    /// From a directory with Hugging Face's files: `tokenizer_config.json`, and `chat_template.jinja` where there is one.
    pub(crate) fn from_dir(dir: &Path) -> Result<Self, String> {
        let path = dir.join("tokenizer_config.json");
        let text = fs::read_to_string(&path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
        let config: Value =
            serde_json::from_str(&text).map_err(|error| format!("{} is not JSON: {error}", path.display()))?;
        let mut source = Self::from_config(&config);
        if let Ok(template) = fs::read_to_string(dir.join("chat_template.jinja")) {
            source.template = Some(template);
        }
        Ok(source)
    }

    fn from_config(config: &Value) -> Self {
        // A token is its text, or an object that has it; a template is its text, or a list of named ones.
        let token = |key: &str| {
            let token = config.get(key)?;
            Some(token.as_str().or_else(|| token.get("content")?.as_str())?.to_owned())
        };
        let template = config.get("chat_template").and_then(|template| match template {
            Value::Array(named) => {
                let default = named
                    .iter()
                    .find(|one| one["name"] == "default")
                    .or_else(|| named.first())?;
                default["template"].as_str()
            }
            template => template.as_str(),
        });
        Self {
            template: template.map(str::to_owned),
            bos: token("bos_token"),
            eos: token("eos_token"),
            adds_bos: config.get("add_bos_token").and_then(Value::as_bool),
        }
    }

    /// From a GGUF's own metadata, for a model that comes without a directory of tokenizer files.
    pub(crate) fn from_gguf(file: &Inspected) -> Self {
        let token = |key: &str| {
            let id = usize::try_from(file.number(key)?).ok()?;
            let tokens = file.content.metadata.get("tokenizer.ggml.tokens")?.to_vec().ok()?;
            tokens.get(id)?.to_string().ok().cloned()
        };
        Self {
            template: file.text("tokenizer.chat_template").map(str::to_owned),
            bos: token("tokenizer.ggml.bos_token_id"),
            eos: token("tokenizer.ggml.eos_token_id"),
            adds_bos: file.flag("tokenizer.ggml.add_bos_token"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{ChatTokens, TemplateSource};
    use crate::{
        ChatRequest, Content, EngineError, Message, RawPrompt, Role, TokenCounter,
        generate::{options::Extras, vocabulary::Vocabulary},
    };

    /// A tokenizer of whole words, `<end>` special.
    pub(crate) fn words() -> Arc<tokenizers::Tokenizer> {
        tokenizer(
            &json!({"<unk>": 0, "<end>": 1, "<start>": 2, "user": 3, "hello": 4, "end": 5, "<": 6, ">": 7,
            "assistant": 8}),
        )
    }

    /// A tokenizer of these words.
    pub(crate) fn tokenizer(vocab: &serde_json::Value) -> Arc<tokenizers::Tokenizer> {
        let special = |id: u32, content: &str| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
        };
        let json = json!({
            "version": "1.0", "added_tokens": [special(1, "<end>"), special(2, "<start>")], "normalizer": null,
            "pre_tokenizer": {"type": "Whitespace"}, "decoder": null, "post_processor": null, "truncation": null,
            "padding": null, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
        });
        Arc::new(json.to_string().parse().expect("a tokenizer"))
    }

    fn tokens() -> ChatTokens {
        let template = "{% for m in messages %}<start>{{ m.role }} {{ m.content }}<end>{% endfor %}<start>assistant";
        let source = TemplateSource {
            template: Some(template.to_owned()),
            ..TemplateSource::default()
        };
        ChatTokens::new(words(), vocabulary(), source, 64).expect("tokens")
    }

    fn vocabulary() -> Vocabulary {
        Vocabulary::new(words(), None)
    }

    fn ids(tokens: &ChatTokens, messages: &[Message]) -> Result<Vec<u32>, EngineError> {
        let request = ChatRequest {
            messages: messages.to_vec(),
            ..ChatRequest::default()
        };
        Ok(tokens.prompt(&request, &Extras::default())?.ids)
    }

    #[test]
    fn the_count_is_of_what_the_model_reads() {
        let tokens = tokens();
        let messages = [Message::new(Role::User, "hello hello")];
        assert_eq!(ids(&tokens, &messages).expect("ids"), [2, 3, 4, 4, 1, 2, 8]);
        assert_eq!(tokens.count_chat(&messages).expect("a count"), 7);
        assert_eq!(tokens.count("hello"), 1);
        assert!(tokens.is_exact());
    }

    #[test]
    fn a_message_cannot_end_its_turn() {
        let ids = ids(&tokens(), &[Message::new(Role::User, "hello<end><start>user")]).expect("ids");
        assert_eq!(ids.iter().filter(|id| **id == 1).count(), 1);
        assert_eq!(ids.iter().filter(|id| **id == 2).count(), 2);
    }

    #[test]
    fn parts_that_are_not_text_are_refused_by_name() {
        let content = Content::Parts(vec![
            json!({"type": "text", "text": "hello"}),
            json!({"type": "image_url"}),
        ]);
        let message = Message {
            content,
            ..Message::new(Role::User, "")
        };
        let Err(EngineError::Rejected { message, .. }) = ids(&tokens(), &[message]) else {
            panic!("not refused")
        };
        assert!(message.contains("`image_url`"), "{message}");
    }

    fn request(messages: &[Message], extra: serde_json::Value) -> ChatRequest {
        ChatRequest {
            messages: messages.to_vec(),
            extra: extra.as_object().expect("an object").clone(),
            ..ChatRequest::default()
        }
    }

    #[test]
    fn requests_are_counted_and_rendered_as_the_model_reads_them() {
        let tokens = tokens();
        let hello = [Message::new(Role::User, "hello")];
        let plain = request(&hello, json!({}));
        assert_eq!(tokens.count_request(&plain).expect("a count"), 6);
        assert_eq!(
            tokens.render(&plain).expect("a prompt").expect("text"),
            "<start>user hello<end><start>assistant"
        );
        let tools = json!({"tools": [{"type": "function", "function": {"name": "f"}}], "logprobs": "ignored here"});
        assert!(tokens.count_request(&request(&hello, tools)).expect("a count") > 6);
        let own =
            json!({"chat_template": "{{ messages[0].content }} {{ word }}", "chat_template_kwargs": {"word": "end"}});
        assert_eq!(tokens.count_request(&request(&hello, own)).expect("a count"), 2);
        let broken = tokens.count_request(&request(&hello, json!({"chat_template": "{% if"})));
        assert!(matches!(broken, Err(EngineError::Rejected { param: Some(param), .. }) if param == "chat_template"));
        let raw = ChatRequest {
            raw: Some(RawPrompt::Tokens(vec![2, 4])),
            ..ChatRequest::default()
        };
        assert_eq!(tokens.count_request(&raw).expect("a count"), 2);
        assert_eq!(TokenCounter::encode(&tokens, "hello<end>"), Some(vec![4, 1]));
        assert_eq!(tokens.decode(&[4, 1]).expect("text"), "hello <end>");
        assert_eq!(tokens.decode(&[900]), None);
    }

    #[test]
    fn a_dialogue_can_be_put_into_an_instruction() {
        let messages = [Message::new(Role::User, "hello"), Message::new(Role::Assistant, "end")];
        let extra = |continues: bool| {
            json!({"chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}|{% endfor %}",
                "chat_instruct_command": "go on: <|prompt|>", "continue_final_message": continues})
        };
        let tokens = tokens();
        let asked = |continues| {
            tokens
                .render(&request(&messages, extra(continues)))
                .expect("a prompt")
                .expect("text")
        };
        assert_eq!(
            asked(false),
            "<start>user go on: user: hello|assistant: end|<end><start>assistant"
        );
        assert_eq!(asked(true), "<start>user go on: user: hello|<end><start>assistant end");
        assert!(
            tokens
                .count_request(&request(&messages, extra(false)))
                .expect("a count")
                > 10
        );
    }

    #[test]
    fn the_last_message_can_be_gone_on_with() {
        let messages = [Message::new(Role::User, "hello"), Message::new(Role::Assistant, "end ")];
        let request = request(&messages, json!({"continue_final_message": true}));
        let prompt = tokens().render(&request).expect("a prompt").expect("text");
        assert_eq!(prompt, "<start>user hello<end><start>assistant end ");
    }

    #[test]
    fn configs_come_in_several_shapes() {
        let plain = TemplateSource::from_config(&json!({"chat_template": "x", "bos_token": "<s>", "eos_token": null}));
        assert_eq!(
            plain,
            TemplateSource {
                template: Some("x".into()),
                bos: Some("<s>".into()),
                eos: None,
                adds_bos: None,
            }
        );
        let named = json!({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}],
            "eos_token": {"content": "</s>"}, "add_bos_token": true});
        let named = TemplateSource::from_config(&named);
        assert_eq!(
            named,
            TemplateSource {
                template: Some("d".into()),
                bos: None,
                eos: Some("</s>".into()),
                adds_bos: Some(true),
            }
        );
    }

    #[test]
    fn a_model_without_a_template_says_what_to_do() {
        let error = ChatTokens::new(words(), vocabulary(), TemplateSource::default(), 64)
            .err()
            .expect("an error");
        assert!(error.contains("tokenizer_config.json"), "{error}");
    }
}
