//! The ways in which families of models write tool calls.

/// How a model was taught to write calls, as its chat template shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Hermes, Qwen, and whoever is told by our preamble.
    Hermes,
    /// `[TOOL_CALLS][{"name": …, "arguments": …}, …]`: Mistral.
    Mistral,
    /// `{"name": …, "parameters": …}`, sometimes after `<|python_tag|>`: Llama 3.
    Llama,
}

/// What begins a Hermes call.
pub(crate) const HERMES: &str = "<tool_call>";
/// What ends it.
pub(crate) const HERMES_END: &str = "</tool_call>";
/// What begins Mistral's list of calls.
pub(crate) const MISTRAL: &str = "[TOOL_CALLS]";
/// What may begin a Llama call.
pub(crate) const LLAMA: &str = "<|python_tag|>";

/// All texts that mark calls.
pub(crate) const MARKS: [&str; 4] = [HERMES, HERMES_END, MISTRAL, LLAMA];

impl Dialect {
    /// The dialect that a chat template with tools teaches.
    pub(crate) fn of(template: &str) -> Self {
        if template.contains(MISTRAL) {
            Self::Mistral
        } else if !template.contains(HERMES) && (template.contains(LLAMA) || template.contains("\"parameters\":")) {
            Self::Llama
        } else {
            Self::Hermes
        }
    }

    /// What begins a reply's calls; nothing where the call itself does.
    pub(crate) fn begin(self) -> Option<&'static str> {
        match self {
            Self::Hermes => Some(HERMES),
            Self::Mistral => Some(MISTRAL),
            Self::Llama => None,
        }
    }

    /// The member of a call that holds the arguments.
    pub(crate) fn arguments(self) -> &'static str {
        match self {
            Self::Hermes | Self::Mistral => "arguments",
            Self::Llama => "parameters",
        }
    }
}

/// Whether a chat template tells the model about tools by itself.
pub(crate) fn knows_tools(template: &str) -> bool {
    template.contains("tools")
}

#[cfg(test)]
mod tests {
    use super::Dialect;

    #[test]
    fn templates_show_their_dialect() {
        for (template, dialect) in [
            ("{% if tools %}<tool_call>{% endif %}", Dialect::Hermes),
            ("{{ '[TOOL_CALLS]' }}", Dialect::Mistral),
            ("{% if builtin_tools %}<|python_tag|>", Dialect::Llama),
            ("nothing", Dialect::Hermes),
        ] {
            assert_eq!(Dialect::of(template), dialect, "{template}");
        }
    }
}
