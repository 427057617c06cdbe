//! A dialogue put before the model as one instruction (text-generation-webui's mode `chat-instruct`): the dialogue is
//! written with the request's template, the instruction with the model's own.

use std::borrow::Cow;

use super::{options::TemplateOptions, template::ChatTemplate, tokens::ChatTokens, tools::Tools};
use crate::{EngineError, Message, Role};

/// Where the dialogue goes in the instruction.
const DIALOGUE: &str = "<|prompt|>";

impl ChatTokens {
    /// The prompt's text: messages in the template, or, with a command, the instruction that holds them.
    pub(super) fn written(
        &self,
        messages: &[Message],
        tools: &Tools,
        options: &TemplateOptions,
    ) -> Result<(Cow<'_, ChatTemplate>, String), EngineError> {
        let template = self.template(options)?;
        let Some(command) = &options.command else {
            let text = self.rendered(&template, messages, tools, options)?;
            return Ok((template, text));
        };
        let (earlier, begun) = match messages.split_last() {
            Some((last, earlier)) if options.continues => (earlier, Some(last)),
            _ => (messages, None),
        };
        let plain = TemplateOptions {
            arguments: options.arguments.clone(),
            ..TemplateOptions::default()
        };
        let dialogue = self.rendered(&template, earlier, tools, &plain)?;
        let instruction = Message::new(Role::User, command.replace(DIALOGUE, &dialogue));
        let own = self.template(&TemplateOptions::default())?;
        let mut asked = vec![instruction];
        asked.extend(begun.cloned());
        let outer = TemplateOptions {
            continues: options.continues,
            bare: options.bare,
            ..plain
        };
        let text = self.rendered(&own, &asked, &Tools::default(), &outer)?;
        Ok((own, text))
    }
}
