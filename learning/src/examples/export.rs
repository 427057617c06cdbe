//! Examples in the formats that other trainers read, a JSON object a line.

use habit_engine::{Message, Role};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::curate::Curated;

/// A format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `messages`, the answer last: OpenAI's supervised fine-tuning, and TRL's SFT.
    #[default]
    Chat,
    /// `input`, `preferred_output`, `non_preferred_output`: OpenAI's preference tuning.
    Preference,
    /// `prompt`, `chosen`, `rejected`: TRL's DPO.
    Dpo,
    /// `prompt`, `completion`, `label`: TRL's KTO.
    Kto,
    /// `conversations` of `from` and `value`.
    Sharegpt,
}

impl Format {
    /// All there are, with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("chat", Self::Chat),
        ("preference", Self::Preference),
        ("dpo", Self::Dpo),
        ("kto", Self::Kto),
        ("sharegpt", Self::Sharegpt),
    ];

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, format)| *format)
    }
}

/// The lines of an export.
#[must_use]
pub fn export(curated: &Curated, format: Format) -> Vec<Value> {
    match format {
        Format::Chat => {
            let line = |one: &super::Example| json!({"messages": with(&one.messages, &one.answer)});
            curated.examples.iter().map(line).collect()
        }
        Format::Sharegpt => curated.examples.iter().map(sharegpt).collect(),
        Format::Preference => {
            let line = |one: &super::curate::Pair| {
                json!({
                    "input": {"messages": one.messages},
                    "preferred_output": [said(&one.chosen)],
                    "non_preferred_output": [said(&one.rejected)],
                })
            };
            curated.pairs.iter().map(line).collect()
        }
        Format::Dpo => {
            let line = |one: &super::curate::Pair| json!({"prompt": one.messages, "chosen": [said(&one.chosen)], "rejected": [said(&one.rejected)]});
            curated.pairs.iter().map(line).collect()
        }
        Format::Kto => {
            let judged = curated
                .judged
                .iter()
                .map(|one| json!({"prompt": one.messages, "completion": [said(&one.reply)], "label": one.good}));
            // What a person wrote instead is good too.
            let written = curated
                .pairs
                .iter()
                .map(|one| json!({"prompt": one.messages, "completion": [said(&one.chosen)], "label": true}));
            judged.chain(written).collect()
        }
    }
}

fn said(text: &str) -> Message {
    Message::new(Role::Assistant, text)
}

fn with(messages: &[Message], answer: &str) -> Vec<Message> {
    let mut messages = messages.to_vec();
    messages.push(said(answer));
    messages
}

fn sharegpt(one: &super::Example) -> Value {
    let turns = with(&one.messages, &one.answer);
    let turns = turns.iter().map(|message| {
        let from = match message.role {
            Role::System => "system",
            Role::User => "human",
            Role::Assistant => "gpt",
            Role::Tool => "tool",
        };
        json!({"from": from, "value": message.text()})
    });
    json!({"conversations": turns.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::Example;
    use super::super::curate::{Judged, Pair};
    use super::*;

    #[test]
    fn every_format_says_the_same_in_its_own_words() {
        let messages = vec![Message::new(Role::System, "s"), Message::new(Role::User, "q")];
        let id = Uuid::from_u128(1);
        let curated = Curated {
            examples: vec![Example {
                id,
                messages: messages.clone(),
                answer: "good".into(),
                at: 0,
                weight: 1.0,
                from: vec![],
                user: "u".into(),
            }],
            pairs: vec![Pair {
                id,
                messages: messages.clone(),
                chosen: "good".into(),
                rejected: "bad".into(),
            }],
            judged: vec![Judged {
                id,
                messages,
                reply: "bad".into(),
                good: false,
            }],
            ..Curated::default()
        };
        let prompt = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]);
        let says = |text: &str| json!([{"role": "assistant", "content": text}]);
        let chat = json!({"messages": [prompt[0], prompt[1], says("good")[0]]});
        assert_eq!(export(&curated, Format::Chat), [chat]);
        assert_eq!(
            export(&curated, Format::Preference),
            [
                json!({"input": {"messages": prompt}, "preferred_output": says("good"), "non_preferred_output": says("bad")})
            ]
        );
        assert_eq!(
            export(&curated, Format::Dpo),
            [json!({"prompt": prompt, "chosen": says("good"), "rejected": says("bad")})]
        );
        assert_eq!(
            export(&curated, Format::Kto),
            [
                json!({"prompt": prompt, "completion": says("bad"), "label": false}),
                json!({"prompt": prompt, "completion": says("good"), "label": true})
            ]
        );
        let turns = [("system", "s"), ("human", "q"), ("gpt", "good")]
            .map(|(from, value)| json!({"from": from, "value": value}));
        assert_eq!(export(&curated, Format::Sharegpt), [json!({"conversations": turns})]);
    }
}
