//! Chat templates: the Jinja text that comes with a model and turns messages into its prompt.
//!
//! Templates are written for Python's Jinja with a few functions of Hugging Face's `transformers`; what they use of
//! both is supplied here.

use minijinja::{
    Environment, Error, ErrorKind, State, Value,
    value::{Kwargs, ValueKind, from_args},
};
use serde_json::json;

use crate::{EngineError, Message};

mod source;

pub(crate) use source::TemplateSource;

/// The name under which the one template is kept.
const NAME: &str = "chat";

/// A compiled chat template with the texts of its special tokens.
#[derive(Debug, Clone)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: Option<String>,
    eos: Option<String>,
}

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the texts of the tokens that begin a text and end a turn.
    pub(crate) fn new(source: &str, bos: Option<String>, eos: Option<String>) -> Result<Self, String> {
        let mut environment = Environment::new();
        // As `transformers` sets Jinja up.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(python_method);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_json);
        // A slice with a negative step is the filter `reverse`; `generation` blocks only matter in training.
        let source = source.replace("[::-1]", "|reverse");
        let source = ["generation", "endgeneration"].iter().fold(source, |source, tag| {
            source
                .replace(&format!("{{% {tag} %}}"), "")
                .replace(&format!("{{%- {tag} -%}}"), "")
        });
        environment
            .add_template_owned(NAME, source.clone())
            .map_err(|error| reason(&error))?;
        Ok(Self {
            environment,
            source,
            bos,
            eos,
        })
    }

    /// Another template for the same model.
    pub(crate) fn replaced(&self, source: &str) -> Result<Self, String> {
        Self::new(source, self.bos.clone(), self.eos.clone())
    }

    /// The template's text: what it mentions shows what its model was taught.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The prompt that it makes of these variables; those of the special tokens are added.
    pub(crate) fn render(
        &self,
        mut variables: serde_json::Map<String, serde_json::Value>,
    ) -> Result<String, EngineError> {
        for (name, token) in [("bos_token", &self.bos), ("eos_token", &self.eos)] {
            variables.insert(name.to_owned(), json!(token.as_deref().unwrap_or_default()));
        }
        let template = self.environment.get_template(NAME).map_err(|error| refused(&error))?;
        template.render(variables).map_err(|error| refused(&error))
    }
}

/// A message as templates expect it, with this text.
pub(crate) fn entry(message: &Message, text: &str) -> serde_json::Value {
    let mut entry = json!({"role": message.role.as_str(), "content": text});
    if let Some(name) = &message.name {
        entry["name"] = json!(name);
    }
    if !message.tool_calls.is_empty() {
        entry["tool_calls"] = message.tool_calls.iter().map(call).collect();
    }
    if let Some(id) = &message.tool_call_id {
        entry["tool_call_id"] = json!(id);
    }
    entry
}

/// A call as templates expect it: its arguments as an object, where OpenAI has the text of one.
fn call(call: &serde_json::Value) -> serde_json::Value {
    let mut call = call.clone();
    if let Some(arguments) = call.pointer_mut("/function/arguments")
        && let Some(object) = arguments.as_str().and_then(|text| serde_json::from_str(text).ok())
    {
        *arguments = object;
    }
    call
}

fn refused(error: &Error) -> EngineError {
    let message = format!(
        "this model's chat template can't express these messages: {}",
        reason(error)
    );
    EngineError::Rejected {
        message,
        param: Some("messages".to_owned()),
    }
}

/// The readable part of a template error; the template's own message where it raised one.
fn reason(error: &Error) -> String {
    match (error.detail(), error.line()) {
        (Some(detail), _) if error.kind() == ErrorKind::InvalidOperation => detail.to_owned(),
        (_, Some(line)) => format!("{error} (line {line} of the template)"),
        _ => error.to_string(),
    }
}

/// `raise_exception(message)`: how templates refuse messages that they can't express.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// `strftime_now(format)`: today, for the templates that tell the model the date.
fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

/// `value | tojson(indent=…)` without the escapes for HTML that Jinja's own filter makes.
#[expect(
    clippy::needless_pass_by_value,
    reason = "templates' keyword arguments only come by value"
)]
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let text = if indent.is_some() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    text.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// The methods of Python's strings and dictionaries that templates call.
fn python_method(_: &State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => string_method(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Map => map_method(value, method, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let trimmed = |start: bool, end: bool| -> Result<Value, Error> {
        let (letters,): (Option<String>,) = from_args(args)?;
        let drop = |letter: char| {
            letters
                .as_ref()
                .map_or(letter.is_whitespace(), |letters| letters.contains(letter))
        };
        let text = if start { text.trim_start_matches(drop) } else { text };
        Ok(Value::from(if end { text.trim_end_matches(drop) } else { text }))
    };
    let any_of = |test: &dyn Fn(&str) -> bool| -> Result<Value, Error> {
        let (wanted,): (Value,) = from_args(args)?;
        match wanted.as_str() {
            Some(wanted) => Ok(Value::from(test(wanted))),
            None => Ok(Value::from(
                wanted.try_iter()?.any(|wanted| wanted.as_str().is_some_and(test)),
            )),
        }
    };
    match method {
        "strip" => trimmed(true, true),
        "lstrip" => trimmed(true, false),
        "rstrip" => trimmed(false, true),
        "startswith" => any_of(&|wanted| text.starts_with(wanted)),
        "endswith" => any_of(&|wanted| text.ends_with(wanted)),
        "upper" => Ok(Value::from(text.to_uppercase())),
        "lower" => Ok(Value::from(text.to_lowercase())),
        "title" => Ok(Value::from(title(text))),
        "capitalize" => {
            let mut letters = text.chars();
            let first = letters.next().map(char::to_uppercase);
            Ok(Value::from(
                first
                    .into_iter()
                    .flatten()
                    .chain(letters.flat_map(char::to_lowercase))
                    .collect::<String>(),
            ))
        }
        "replace" => {
            let (old, new): (String, String) = from_args(args)?;
            Ok(Value::from(text.replace(&old, &new)))
        }
        "find" => {
            let (wanted,): (String,) = from_args(args)?;
            let found = text.find(&wanted).map(|at| text[..at].chars().count());
            Ok(found.map_or_else(|| Value::from(-1), Value::from))
        }
        "split" => {
            let (separator, most): (Option<String>, Option<i64>) = from_args(args)?;
            let most = most
                .and_then(|most| usize::try_from(most).ok())
                .unwrap_or(usize::MAX)
                .saturating_add(1);
            let parts: Vec<&str> = match &separator {
                Some(separator) => text.splitn(most, separator.as_str()).collect(),
                None => text.split_whitespace().collect(),
            };
            Ok(parts.into_iter().map(Value::from).collect())
        }
        "splitlines" => Ok(text.lines().map(Value::from).collect()),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn map_method(map: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        "get" => {
            let (key, default): (Value, Option<Value>) = from_args(args)?;
            let found = map.get_item(&key)?;
            Ok(if found.is_undefined() {
                default.unwrap_or(Value::from(()))
            } else {
                found
            })
        }
        "keys" => Ok(map.try_iter()?.collect()),
        "values" => map.try_iter()?.map(|key| map.get_item(&key)).collect(),
        "items" => {
            let pair = |key: Value| Ok(Value::from(vec![key.clone(), map.get_item(&key)?]));
            map.try_iter()?.map(pair).collect()
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// Python's `str.title`: a capital at the start of each run of letters.
fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if inside {
            out.extend(letter.to_lowercase());
        } else {
            out.extend(letter.to_uppercase());
        }
        inside = letter.is_alphabetic();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::ChatTemplate;
    use crate::{EngineError, Message, Role};

    const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
        {{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}\
        {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    fn render(source: &str, messages: &[Message]) -> Result<String, EngineError> {
        let template = ChatTemplate::new(source, Some("<s>".to_owned()), Some("</s>".to_owned())).expect("a template");
        let messages: Vec<_> = messages
            .iter()
            .map(|message| super::entry(message, &message.text()))
            .collect();
        let variables = serde_json::json!({"messages": messages, "add_generation_prompt": true});
        template.render(variables.as_object().expect("an object").clone())
    }

    fn expression(source: &str) -> String {
        render(&format!("{{{{ {source} }}}}"), &[Message::new(Role::User, " a b ")]).expect("text")
    }

    #[test]
    fn chatml_renders_as_in_python() {
        let prompt = render(CHATML, &[Message::new(Role::User, "Hi")]).expect("a prompt");
        let want = "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(prompt, want);
    }

    #[test]
    fn python_methods_work() {
        assert_eq!(
            expression("messages[0].content.strip() + '|' + messages[0].content.lstrip()"),
            "a b|a b "
        );
        assert_eq!(
            expression("'xxaxx'.strip('x') ~ 'A b'.split(' ')[-1] ~ 'a.b.c'.split('.', 1)[1]"),
            "abb.c"
        );
        assert_eq!(
            expression("'a b'.title() ~ 'aB'.capitalize() ~ 'abc'.find('c') ~ 'abc'.find('x')"),
            "A BAb2-1"
        );
        assert_eq!(
            expression("'abc'.startswith(('x', 'a')) ~ 'abc'.endswith('c') ~ 'a'.replace('a', 'b')"),
            "TrueTrueb"
        );
        assert_eq!(
            expression("messages[0].get('name', 'nobody') ~ messages[0].get('role')"),
            "nobodyuser"
        );
        assert_eq!(
            render(
                "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}",
                &[Message::new(Role::User, "x")]
            )
            .expect("text"),
            "content=x;role=user;"
        );
    }

    #[test]
    fn functions_of_transformers_work() {
        assert_eq!(expression("bos_token ~ eos_token"), "<s></s>");
        assert_eq!(expression("{'a': '<&'} | tojson"), "{\"a\":\"<&\"}");
        assert_eq!(expression("strftime_now('%Y')").len(), 4);
        assert_eq!(expression("[1, 2][::-1] | first"), "2");
    }

    #[test]
    fn arguments_of_calls_are_objects() {
        let mut message = Message::new(Role::Assistant, "");
        message.tool_calls = vec![serde_json::json!({"function": {"name": "f", "arguments": "{\"a\": [1]}"}})];
        let text = render("{{ messages[0].tool_calls[0].function.arguments.a[0] }}", &[message]).expect("text");
        assert_eq!(text, "1");
    }

    #[test]
    fn what_a_template_refuses_is_the_callers_to_change() {
        let error = render(
            "{{ raise_exception('System role not supported') }}",
            &[Message::new(Role::System, "x")],
        );
        let Err(EngineError::Rejected { message, param }) = error else {
            panic!("{error:?}")
        };
        assert!(message.contains("System role not supported"), "{message}");
        assert_eq!(param.as_deref(), Some("messages"));
    }

    #[test]
    fn a_broken_template_is_an_error_at_load() {
        assert!(ChatTemplate::new("{% if %}", None, None).is_err());
    }
}
