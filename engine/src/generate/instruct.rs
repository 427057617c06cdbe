//! A dialogue put before the model as one instruction (text-generation-webui's mode `chat-instruct`): the dialogue is
//! written with the request's template, the instruction with the model's own.

use std::borrow::Cow;

use super::{options::TemplateOptions, reasoning::Tags, template::ChatTemplate, tokens::ChatTokens, tools::Tools};
use crate::{EngineError, Message, Role};

/// Where the dialogue goes in the instruction.
const DIALOGUE: &str = "<|prompt|>";

impl ChatTokens {
    /// The prompt's text: messages in the template, or, with a command, the instruction that holds them. What the
    /// template begins the next speaker's turn with then begins the reply, so that the model does not write it.
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
        let plain = |bare| TemplateOptions {
            arguments: options.arguments.clone(),
            bare,
            ..TemplateOptions::default()
        };
        let dialogue = self.rendered(&template, earlier, tools, &plain(true))?;
        let with_turn = self.rendered(&template, earlier, tools, &plain(false))?;
        let mut turn = with_turn.strip_prefix(&dialogue).unwrap_or_default().to_owned();
        let instruction = Message::new(Role::User, command.replace(DIALOGUE, dialogue.trim_end()));
        let own = self.template(&TemplateOptions::default())?;
        let mut asked = vec![instruction];
        asked.extend(begun.map(|begun| {
            let space = if turn.is_empty() { "" } else { " " };
            Message::new(Role::Assistant, format!("{turn}{space}{}", begun.text()))
        }));
        let outer = TemplateOptions {
            continues: options.continues,
            ..plain(options.bare)
        };
        let mut text = self.rendered(&own, &asked, &Tools::default(), &outer)?;
        let thinks = Tags::of(own.source()).is_some_and(|tags| tags.opened_by(&text));
        if !options.continues && !options.bare && !thinks {
            self.break_specials(&mut turn);
            text.push_str(&turn);
        }
        Ok((own, text))
    }
}
