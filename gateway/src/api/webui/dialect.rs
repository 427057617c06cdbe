//! What text-generation-webui's clients put into a chat completion (and some of it into a completion) besides OpenAI's fields: modes, characters, presets,
//! templates, `continue_`. Translated here to what every engine is asked: messages, a template, stop strings.
//!
//! - `instruct`, the default: the model's own template, or the one that the request names.
//! - `chat`: a dialogue between two names, without an instruction template.
//! - `chat-instruct`: that dialogue, put before the model as one instruction.

use futures::StreamExt;
use habit_engine::{Delta, DeltaStream};
use serde_json::{Map, Value, json};

use super::super::chat_wire::{ChatCompletionRequest, WireContent, WireMessage, WireRole};
use super::super::error::ApiError;
use super::super::generation::{SamplingFields, Stop};
use crate::library::{DEFAULT_CHARACTER, Library, LibraryError};

/// How a dialogue is written down.
const DIALOGUE: &str = include_str!("../../library/builtin/chat.jinja");

/// What `chat-instruct` asks of the model where the request has no command of its own. `<|character|>` and `<|prompt|>`
/// are replaced.
const COMMAND: &str = "Below is a dialogue. Write the next line of <|character|>, and only that.\n\n<|prompt|>";

/// The name of who asks, where none is given.
const USER: &str = "You";

/// What must be done to the reply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Put before the reply: the text that it continues.
    before: Option<String>,
    /// White space at the reply's beginning is the dialogue's, not the speaker's.
    trim: bool,
}

/// The mode of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Instruct,
    Chat,
    ChatInstruct,
}

/// Translates the dialect's fields of a body, if there are any.
///
/// # Errors
/// 400 that names the field; a character, preset or template that is not there, or broken.
pub fn apply(body: &mut ChatCompletionRequest, library: &Library) -> Result<Shape, ApiError> {
    let mut fields = Fields(&mut body.extra);
    let mode = match fields.text("mode")?.as_deref() {
        None | Some("" | "instruct") => Mode::Instruct,
        Some("chat") => Mode::Chat,
        Some("chat-instruct") => Mode::ChatInstruct,
        Some(other) => {
            let message = format!("`mode` must be instruct, chat or chat-instruct, not `{other}`");
            return Err(ApiError::invalid(message, Some("mode")));
        }
    };
    let continues = fields.flag("continue_")?;
    let thinking = fields.take("enable_thinking");
    let template = fields.either("instruction_template_str", None)?;
    let named_template = fields.text("instruction_template")?;

    if let Some(thinking) = thinking {
        tell_template(&mut body.extra, "enable_thinking", thinking);
    }
    let new_tokens = max_new_tokens(&mut body.extra)?;
    if body.max_completion_tokens.is_none() {
        body.max_tokens = body.max_tokens.or(new_tokens);
    }
    let sampling = preset(body.sampling(), &mut body.extra, library)?;
    body.set_sampling(sampling);
    let mut shape = Shape::default();
    if mode == Mode::Instruct {
        let template = match (template, named_template.filter(|name| !name.is_empty())) {
            (Some(text), _) => Some(text),
            (None, Some(name)) => {
                let found = library.template(&name);
                Some(found.map_err(|error| failed(&error, "instruction_template"))?)
            }
            (None, None) => None,
        };
        if let Some(template) = template {
            body.extra.insert("chat_template".to_owned(), json!(template));
        }
    } else {
        converse(body, library, mode)?;
        shape.trim = true;
    }
    if continues {
        let last = body.messages.as_ref().and_then(|messages| messages.last());
        let last = last
            .filter(|message| message.role == WireRole::Assistant)
            .ok_or_else(|| {
                let message = "`continue_` goes on with the last message, which must be the assistant's";
                ApiError::invalid(message, Some("continue_"))
            })?;
        shape.before = Some(match &last.content {
            Some(WireContent::Text(text)) => text.clone(),
            _ => String::new(),
        });
        shape.trim = false;
        body.extra.insert("continue_final_message".to_owned(), json!(true));
        body.extra.insert("add_generation_prompt".to_owned(), json!(false));
    }
    Ok(shape)
}

/// The modes `chat` and `chat-instruct`: who speaks to whom.
fn converse(body: &mut ChatCompletionRequest, library: &Library, mode: Mode) -> Result<(), ApiError> {
    let mut fields = Fields(&mut body.extra);
    let character = fields.text("character")?.filter(|name| !name.is_empty());
    let user = fields.either("user_name", Some("name1"))?;
    let bot = fields.either("bot_name", Some("name2"))?;
    let (context, greeting) = (fields.text("context")?, fields.text("greeting")?);
    let bio = fields.text("user_bio")?;
    let template = fields.text("chat_template_str")?.filter(|text| !text.is_empty());
    let command = fields.text("chat_instruct_command")?.filter(|text| !text.is_empty());

    let name = character.as_deref().unwrap_or(DEFAULT_CHARACTER);
    let character = library.character(name).map_err(|error| failed(&error, "character"))?;
    let user = user.filter(|name| !name.is_empty()).unwrap_or_else(|| USER.to_owned());
    let bot = bot.filter(|name| !name.is_empty());
    let bot = bot.or_else(|| Some(character.name).filter(|name| !name.is_empty()));
    let bot = bot.unwrap_or_else(|| name.to_owned());
    let named = |text: String| {
        let text = text.replace("{{user}}", &user).replace("<USER>", &user);
        text.replace("{{char}}", &bot).replace("<BOT>", &bot)
    };

    let messages = body.messages.take().unwrap_or_default();
    let (system, mut dialogue): (Vec<_>, Vec<_>) = messages
        .into_iter()
        .partition(|message| matches!(message.role, WireRole::System | WireRole::Developer));
    let mut about = vec![named(context.unwrap_or(character.context))];
    about.extend(bio.map(named));
    about.extend(system.into_iter().filter_map(|message| match message.content {
        Some(WireContent::Text(text)) => Some(text),
        _ => None,
    }));
    about.retain(|text| !text.trim().is_empty());
    let greeting = named(greeting.unwrap_or(character.greeting));
    let begins = dialogue.first().is_none_or(|message| message.role == WireRole::User);
    if begins && !greeting.is_empty() {
        dialogue.insert(0, says(WireRole::Assistant, greeting));
    }
    if !about.is_empty() {
        dialogue.insert(0, says(WireRole::System, about.join("\n\n")));
    }
    body.messages = Some(dialogue);

    let mut stops = match body.stop.take() {
        None => Vec::new(),
        Some(Stop::One(stop)) => vec![stop],
        Some(Stop::Many(stops)) => stops,
    };
    stops.extend([format!("\n{user}:"), format!("\n{bot}:")]);
    body.stop = Some(Stop::Many(stops));

    body.extra.insert(
        "chat_template".to_owned(),
        json!(template.as_deref().unwrap_or(DIALOGUE)),
    );
    if mode == Mode::ChatInstruct {
        let command = command.as_deref().unwrap_or(COMMAND).replace("<|character|>", &bot);
        body.extra.insert("chat_instruct_command".to_owned(), json!(command));
    }
    tell_template(&mut body.extra, "name1", json!(user));
    tell_template(&mut body.extra, "name2", json!(bot));
    Ok(())
}

fn says(role: WireRole, text: String) -> WireMessage {
    WireMessage {
        role,
        content: Some(WireContent::Text(text)),
        name: None,
        tool_calls: None,
        function_call: None,
        tool_call_id: None,
    }
}

/// Gives the template a value besides the messages.
fn tell_template(extra: &mut Map<String, Value>, name: &str, value: Value) {
    let known = extra.entry("chat_template_kwargs").or_insert_with(|| json!({}));
    match known {
        Value::Object(known) => drop(known.insert(name.to_owned(), value)),
        wrong => *wrong = json!({ name: value }),
    }
}

/// What chooses tokens: what the request gives, and where it leaves something open, what its `preset` says.
///
/// # Errors
/// 400 if there is no such preset, or it is broken.
pub fn preset(
    given: SamplingFields,
    extra: &mut Map<String, Value>,
    library: &Library,
) -> Result<SamplingFields, ApiError> {
    let Some(name) = Fields(extra).text("preset")?.filter(|name| !name.is_empty()) else {
        return Ok(given);
    };
    let preset = library.preset(&name).map_err(|error| failed(&error, "preset"))?;
    let number = |name: &str| preset.get(name).and_then(Value::as_f64);
    let whole = |name: &str| preset.get(name).and_then(Value::as_i64);
    Ok(SamplingFields {
        temperature: given.temperature.or_else(|| number("temperature")),
        top_p: given.top_p.or_else(|| number("top_p")),
        top_k: given.top_k.or_else(|| whole("top_k")),
        min_p: given.min_p.or_else(|| number("min_p")),
        repetition_penalty: given.repetition_penalty.or_else(|| number("repetition_penalty")),
        frequency_penalty: given.frequency_penalty.or_else(|| number("frequency_penalty")),
        presence_penalty: given.presence_penalty.or_else(|| number("presence_penalty")),
        seed: given.seed.or_else(|| whole("seed")),
    })
}

/// The dialect's name of `max_tokens`.
///
/// # Errors
/// 400 if it is no whole number.
pub fn max_new_tokens(extra: &mut Map<String, Value>) -> Result<Option<i64>, ApiError> {
    let wrong = || ApiError::invalid("`max_new_tokens` must be a number", Some("max_new_tokens"));
    let tokens = Fields(extra).take("max_new_tokens");
    tokens.map(|tokens| tokens.as_i64().ok_or_else(wrong)).transpose()
}

fn failed(error: &LibraryError, param: &str) -> ApiError {
    ApiError::invalid(error.to_string(), Some(param))
}

/// The dialect's fields; taken out, so that they don't reach upstreams twice.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::invalid(format!("`{name}` must be a string"), Some(name))),
        }
    }

    fn either(&mut self, name: &str, older: Option<&str>) -> Result<Option<String>, ApiError> {
        let newer = self.text(name)?;
        let older = older.map(|older| self.text(older)).transpose()?.flatten();
        Ok(newer.or(older))
    }

    fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(ApiError::invalid(format!("`{name}` must be true or false"), Some(name))),
        }
    }
}

impl Shape {
    /// The reply as the dialect's clients expect it.
    #[must_use]
    pub fn of(self, deltas: DeltaStream) -> DeltaStream {
        if self == Self::default() {
            return deltas;
        }
        let Self { before, mut trim } = self;
        let before = before.filter(|text| !text.is_empty()).map(|text| Ok(Delta::Text(text)));
        let deltas = deltas.filter_map(move |item| {
            let item = match item {
                Ok(Delta::Text(text)) if trim => {
                    let rest = text.trim_start();
                    trim = rest.is_empty();
                    (!rest.is_empty()).then(|| Ok(Delta::Text(rest.to_owned())))
                }
                item => Some(item),
            };
            std::future::ready(item)
        });
        futures::stream::iter(before).chain(deltas).boxed()
    }
}

#[cfg(test)]
mod tests;
