//! What a reply must be like: a grammar made of the request's schema and tools, followed token by token.

use std::{collections::HashSet, fmt::Write as _, sync::Arc};

use llguidance::{Matcher, ParserFactory, api::TopLevelGrammar};
use serde_json::{Value, json};

use super::{
    options::rejected,
    reasoning::Tags,
    schema,
    tools::{
        Choice, Tools,
        dialect::{Dialect, HERMES_END},
    },
    vocabulary::Vocabulary,
};
use crate::EngineError;

/// The most calls in one reply: small models can't stop.
const MOST_CALLS: usize = 16;

/// Follows one reply's grammar.
pub(crate) struct Guide(Matcher);

/// What a reply's grammar is made of.
pub(crate) struct Wanted<'a> {
    /// The schema of the text.
    pub(crate) schema: Option<Value>,
    pub(crate) tools: &'a Tools,
    pub(crate) dialect: Dialect,
    /// The tags of the reasoning that may come first, and whether the prompt has the opening one.
    pub(crate) thinks: Option<(Tags, bool)>,
}

impl Guide {
    /// The guide for a reply; `None` where anything may be written. Without `grammars` nothing can be enforced.
    ///
    /// # Errors
    /// What of the request can't be enforced.
    pub(crate) fn new(
        wanted: &Wanted<'_>,
        grammars: Option<&Arc<ParserFactory>>,
        vocabulary: &Vocabulary,
    ) -> Result<Option<Self>, EngineError> {
        let must = wanted.schema.is_some() || wanted.tools.choice != Choice::Auto;
        let Some(grammars) = grammars else {
            let message = "this model's tokenizer does not allow it to be kept to a schema; leave it out";
            let param = if wanted.schema.is_some() {
                "response_format"
            } else {
                "tool_choice"
            };
            return if must { Err(rejected(param, message)) } else { Ok(None) };
        };
        // Careful first: what can't be enforced to the letter is enforced as far as it can be.
        for careful in [true, false] {
            let Some(lark) = wanted.lark(vocabulary, careful) else {
                return Ok(None);
            };
            match grammars.create_parser(TopLevelGrammar::from_lark(lark)) {
                Ok(parser) => return Ok(Some(Self(Matcher::new(Ok(parser))))),
                Err(error) if !careful => return Err(wanted.fault(grammars, &error.to_string())),
                Err(error) => tracing::debug!(%error, "a schema can't be enforced to the letter"),
            }
        }
        Ok(None)
    }

    /// Whether the reply may go on with this token.
    pub(crate) fn fits(&mut self, token: u32, ends: &HashSet<u32>) -> Result<bool, String> {
        if ends.contains(&token) {
            return self.may_end();
        }
        let fitting = self.0.validate_tokens(&[token]);
        Ok(fitting.map_err(|error| broken(&error))? == 1)
    }

    /// Leaves only the tokens that fit, and the ends where the reply may end.
    pub(crate) fn restrict(&mut self, logits: &mut [f32], ends: &HashSet<u32>) -> Result<(), String> {
        let may_end = self.may_end()?;
        let allowed = self.0.compute_mask_or_eos().map_err(|error| broken(&error))?;
        for (token, logit) in (0u32..).zip(logits) {
            let fits = if ends.contains(&token) {
                may_end
            } else {
                (token as usize) < allowed.len() && allowed.is_allowed(token)
            };
            if !fits {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Whether the reply may end here.
    pub(crate) fn may_end(&mut self) -> Result<bool, String> {
        self.0.is_accepting().map_err(|error| broken(&error))
    }

    /// The reply goes on with this token.
    pub(crate) fn take(&mut self, token: u32) -> Result<(), String> {
        let taken = self.0.consume_token(token);
        taken.map_err(|error| format!("the reply left its schema: {error}"))
    }

    /// Whether nothing can follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.is_stopped()
    }
}

fn broken(error: &dyn std::fmt::Display) -> String {
    format!("the reply can't be kept to its schema: {error}")
}

impl Wanted<'_> {
    /// The grammar in llguidance's Lark; `None` where anything may be written.
    fn lark(&self, vocabulary: &Vocabulary, careful: bool) -> Option<String> {
        let tools = !self.tools.list.is_empty();
        let forced = tools && self.tools.choice != Choice::Auto;
        let mut rules = String::new();
        let body = match (&self.schema, tools) {
            (_, true) if forced => "calls".to_owned(),
            (Some(_), true) => "json | calls".to_owned(),
            (Some(_), false) => "json".to_owned(),
            // A bare object can be a call or the beginning of a text: it is looked for, but can't be enforced.
            (None, true) => {
                self.dialect.begin()?;
                "free".to_owned()
            }
            (None, false) => return None,
        };
        match self.thinks {
            None => writeln!(rules, "start: {body}"),
            Some((tags, opened)) => {
                let (open, close) = (mark(tags.open, vocabulary), mark(tags.close, vocabulary));
                let close = until("thought", &close, &mut rules);
                let thinking = if opened { close } else { format!("({open} {close})?") };
                writeln!(rules, "start: {thinking} SPACE? ({body})\nSPACE: /[ \\n]{{1,4}}/")
            }
        }
        .ok()?;
        if let Some(schema) = self.schema.as_ref().filter(|_| !forced) {
            writeln!(rules, "json: %json {}", schema::prepared(schema.clone(), careful)).ok()?;
        }
        if tools {
            self.calls(&mut rules, vocabulary, careful).ok()?;
        }
        Some(rules)
    }

    /// The rules of `calls`, the whole of a reply that calls, and of `free`, calls within text.
    fn calls(&self, rules: &mut String, vocabulary: &Vocabulary, careful: bool) -> std::fmt::Result {
        let single = self.tools.single || self.tools.choice == Choice::Named;
        let more = if single { 0 } else { MOST_CALLS - 1 };
        let repeat = |item: &str| {
            if more == 0 {
                String::new()
            } else {
                format!("({item}){{0,{more}}}")
            }
        };
        match self.dialect {
            Dialect::Hermes => {
                let begin = mark(self.dialect.begin().unwrap_or_default(), vocabulary);
                let end = mark(HERMES_END, vocabulary);
                writeln!(
                    rules,
                    "calls: {begin} rest {}",
                    repeat(&format!("\"\\n\" {begin} rest"))
                )?;
                writeln!(rules, "rest: \"\\n\" object \"\\n\" {end}")?;
                self.free("rest", more, rules, vocabulary)?;
            }
            Dialect::Mistral => {
                let begin = mark(self.dialect.begin().unwrap_or_default(), vocabulary);
                writeln!(rules, "calls: {begin} rest")?;
                writeln!(rules, "rest: \"[\" object {} \"]\"", repeat("\", \" object"))?;
                self.free("rest", 0, rules, vocabulary)?;
            }
            Dialect::Llama => writeln!(rules, "calls: object {}", repeat("\"; \" object"))?,
        }
        let objects: Vec<String> = (0..self.tools.list.len()).map(|at| format!("object_{at}")).collect();
        writeln!(rules, "object: {}", objects.join(" | "))?;
        for (at, tool) in self.tools.list.iter().enumerate() {
            let name = json!(tool.name);
            let begin = literal(&format!("{{\"name\": {name}, \"{}\": ", self.dialect.arguments()));
            let arguments = schema::prepared(tool.arguments(), careful);
            writeln!(rules, "object_{at}: {begin} arguments_{at} \"}}\"")?;
            writeln!(rules, "arguments_{at}: %json {arguments}")?;
        }
        Ok(())
    }

    /// Any text, in which what follows a call's beginning must be a call, at most `more` times after the first.
    fn free(&self, call: &str, more: usize, rules: &mut String, vocabulary: &Vocabulary) -> std::fmt::Result {
        if self.schema.is_some() || self.tools.choice != Choice::Auto {
            return Ok(());
        }
        let begin = mark(self.dialect.begin().unwrap_or_default(), vocabulary);
        let begin = until("before", &begin, rules);
        // After the last call there is nothing to say: the model is to wait for the result.
        let again = if more == 0 {
            String::new()
        } else {
            format!("({begin} {call}){{0,{more}}}")
        };
        writeln!(rules, "free: TEXT? | {begin} {call} {again} SPACES?")?;
        writeln!(rules, "SPACES: /[ \\n]+/\nTEXT: /(.|\\n)+/")
    }

    /// The error for a grammar that can't be made, naming what is at fault.
    fn fault(&self, grammars: &ParserFactory, reason: &str) -> EngineError {
        let fails = |schema: &Value| {
            let grammar = TopLevelGrammar::from_json_schema(schema::prepared(schema.clone(), false));
            grammars.create_parser(grammar).err()
        };
        if let Some(error) = self.schema.as_ref().and_then(fails) {
            return rejected("response_format", format!("this schema can't be enforced: {error}"));
        }
        for tool in &self.tools.list {
            if let Some(error) = fails(&tool.arguments()) {
                let message = format!("the parameters of the tool `{}` can't be enforced: {error}", tool.name);
                return rejected("tools", message);
            }
        }
        rejected("tools", format!("calls of these tools can't be enforced: {reason}"))
    }
}

/// A text that marks something: the token that it is, or its letters.
fn mark(text: &str, vocabulary: &Vocabulary) -> String {
    match vocabulary.grammar_token(text) {
        Some(id) => format!("<[{id}]>"),
        None => literal(text),
    }
}

/// Anything up to a mark and with it; adds the rule where one is needed.
fn until(name: &str, mark: &str, rules: &mut String) -> String {
    // Infallible: it is a string that is written to.
    if mark.starts_with('<') {
        writeln!(rules, "{}: /(.|\\n)+/", name.to_uppercase()).ok();
        format!("{}? {mark}", name.to_uppercase())
    } else {
        writeln!(
            rules,
            "{name}[lazy]: {}_ANY {mark}\n{}_ANY: /(.|\\n)*/",
            name.to_uppercase(),
            name.to_uppercase()
        )
        .ok();
        name.to_owned()
    }
}

fn literal(text: &str) -> String {
    json!(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use llguidance::ParserFactory;
    use serde_json::{Value, json};
    use tokenizers::Tokenizer;
    use toktrie_hf_tokenizers::ByteTokenizer;

    use super::{Guide, Wanted};
    use crate::{
        EngineError,
        generate::{
            detokenize::tests::bytes_and,
            reasoning::Tags,
            tools::{
                Tools,
                dialect::Dialect,
                tests::{tools, two},
            },
            vocabulary::Vocabulary,
        },
    };

    struct Bench {
        tokenizer: Arc<Tokenizer>,
        grammars: Arc<ParserFactory>,
        vocabulary: Vocabulary,
    }

    /// A token a byte, and these.
    fn bench(added: &[&str]) -> Bench {
        let tokenizer = bytes_and(added);
        let bytes = ByteTokenizer::from_tokenizer((*tokenizer).clone()).expect("a byte tokenizer");
        let environment = bytes.into_tok_env(None).expect("an environment");
        let grammars = Arc::new(ParserFactory::new_simple(&environment).expect("a factory"));
        let vocabulary = Vocabulary::new(Arc::clone(&tokenizer), Some(Arc::clone(&grammars)));
        Bench {
            tokenizer,
            grammars,
            vocabulary,
        }
    }

    fn wanted(tools: &Tools, schema: Option<Value>, dialect: Dialect) -> Wanted<'_> {
        Wanted {
            schema,
            tools,
            dialect,
            thinks: None,
        }
    }

    impl Bench {
        /// How much of the text fits, and whether the reply may end after it.
        fn fits<'a>(&self, wanted: &Wanted<'_>, text: &'a str) -> (&'a str, bool) {
            let guide = Guide::new(wanted, Some(&self.grammars), &self.vocabulary).expect("a grammar");
            let mut guide = guide.expect("something to keep to");
            let ids = self.tokenizer.encode_fast(text, false).expect("ids").get_ids().to_vec();
            let mut bytes = 0;
            for id in ids {
                if !guide.fits(id, &HashSet::new()).expect("an answer") {
                    return (&text[..bytes], false);
                }
                guide.take(id).expect("a fitting token");
                bytes += self.vocabulary.bytes(id).len();
            }
            let may_end = guide.may_end().expect("an answer");
            (text, may_end)
        }

        fn whole(&self, wanted: &Wanted<'_>, text: &str) {
            assert_eq!(self.fits(wanted, text), (text, true));
        }

        fn breaks(&self, wanted: &Wanted<'_>, good: &str, bad: &str) {
            assert_eq!(self.fits(wanted, &format!("{good}{bad}")), (good, false));
        }
    }

    const LOOK: &str = "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>";

    #[test]
    fn calls_in_free_text_are_kept_to_their_form() {
        let tools = tools(json!({"tools": two()})).expect("tools");
        let wanted = wanted(&tools, None, Dialect::Hermes);
        // Whether the marks are letters or tokens of their own.
        for bench in [bench(&[]), bench(&["<tool_call>", "</tool_call>"])] {
            bench.whole(&wanted, "Just text, with a < in it.");
            bench.whole(&wanted, &format!("Let me see. {LOOK}"));
            bench.whole(&wanted, &format!("{LOOK}\n{LOOK}\n"));
            bench.breaks(&wanted, "Hm <tool_call>", "no");
            bench.breaks(&wanted, "<tool_call>\n{\"name\": \"", "fly");
            bench.breaks(
                &wanted,
                "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"city\": ",
                "5",
            );
            bench.breaks(&wanted, "<tool_call>\n{\"name\": \"wait\", \"arguments\": {", "\"");
        }
    }

    #[test]
    fn forced_calls_are_all_there_is() {
        let bench = bench(&[]);
        let choice = |extra: Value| {
            let mut all = json!({"tools": two()});
            all.as_object_mut()
                .expect("an object")
                .extend(extra.as_object().expect("an object").clone());
            tools(all).expect("tools")
        };
        let required = choice(json!({"tool_choice": "required", "parallel_tool_calls": true}));
        let hermes = wanted(&required, None, Dialect::Hermes);
        bench.whole(&hermes, LOOK);
        bench.whole(&hermes, &format!("{LOOK}\n{LOOK}"));
        bench.breaks(&hermes, "", "Hello");
        let single = choice(json!({"tool_choice": "required"}));
        bench.breaks(&wanted(&single, None, Dialect::Hermes), LOOK, "\n");
        let named = choice(json!({"tool_choice": {"type": "function", "function": {"name": "wait"}}}));
        let wait = "[TOOL_CALLS][{\"name\": \"wait\", \"arguments\": {}}]";
        bench.whole(&wanted(&named, None, Dialect::Mistral), wait);
        bench.breaks(
            &wanted(&named, None, Dialect::Mistral),
            "[TOOL_CALLS][{\"name\": \"",
            "look",
        );
        let llama = wanted(&required, None, Dialect::Llama);
        bench.whole(
            &llama,
            "{\"name\": \"look\", \"parameters\": {\"city\": \"\"}}; {\"name\": \"wait\", \"parameters\": {}}",
        );
    }

    #[test]
    fn schemas_stand_beside_tools_and_after_thoughts() {
        let tools = tools(json!({"tools": two()})).expect("tools");
        let none = Tools::default();
        let schema = || Some(json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}));
        let plain = bench(&[]);
        let both = wanted(&tools, schema(), Dialect::Hermes);
        plain.whole(&both, "{\"a\": 5}");
        plain.whole(&both, LOOK);
        plain.breaks(&both, "", "text");
        for (opened, bench) in [
            (true, bench(&[])),
            (false, bench(&[])),
            (false, bench(&["<think>", "</think>"])),
        ] {
            let thinks = Wanted {
                thinks: Tags::of("<think>").map(|tags| (tags, opened)),
                ..wanted(&none, schema(), Dialect::Hermes)
            };
            let open = if opened { "" } else { "<think>" };
            bench.whole(&thinks, &format!("{open}\nhm < 5\n</think>\n\n{{\"a\": 5}}"));
            if !opened {
                bench.whole(&thinks, "{\"a\": 5}");
            }
        }
        assert!(
            Guide::new(
                &wanted(&none, None, Dialect::Hermes),
                Some(&plain.grammars),
                &plain.vocabulary
            )
            .expect("nothing to keep to")
            .is_none()
        );
    }

    #[test]
    fn what_cannot_be_enforced_names_who_is_at_fault() {
        let bench = bench(&[]);
        let bad = json!([{"type": "function", "function": {"name": "bad", "parameters": {"properties": {"a": {"type": "x"}}}}}]);
        let bad = tools(json!({"tools": bad})).expect("tools");
        let none = Tools::default();
        for (wanted, param, hint) in [
            (wanted(&bad, None, Dialect::Hermes), "tools", "`bad`"),
            (
                wanted(&none, Some(json!({"type": "x"})), Dialect::Hermes),
                "response_format",
                "schema",
            ),
        ] {
            let error = Guide::new(&wanted, Some(&bench.grammars), &bench.vocabulary).err();
            let Some(EngineError::Rejected {
                message,
                param: Some(named),
            }) = error
            else {
                panic!("{error:?}")
            };
            assert!(named == param && message.contains(hint), "{named}: {message}");
        }
        let must = wanted(&none, Some(json!({})), Dialect::Hermes);
        assert!(Guide::new(&must, None, &bench.vocabulary).is_err());
    }
}
