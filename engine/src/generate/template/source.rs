//! Where a chat template and its tokens' texts are found: Hugging Face's files, or a GGUF's metadata.

use std::{fs, path::Path};

use serde_json::Value;

use crate::models::gguf::Inspected;

/// The chat template and the special tokens' texts, as a model's files say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TemplateSource {
    pub(crate) template: Option<String>,
    pub(crate) bos: Option<String>,
    pub(crate) eos: Option<String>,
    /// Whether a text that is no conversation begins with `bos`; `None` leaves it to the tokenizer.
    pub(crate) adds_bos: Option<bool>,
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
mod tests {
    use serde_json::json;

    use super::TemplateSource;

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
}
