//! What a request gives to train with: the examples of its file, and its settings.

use habit_engine::{Message, Role};
use habit_learning::examples::Example;
use habit_learning::trainer::Settings;
use habit_memory::Scope;
use serde::Deserialize;
use uuid::Uuid;

use super::wire::CreateJob;
use crate::api::error::ApiError;
use crate::app::App;

/// The examples of a file, which are as if asked one after the other, from `first` on.
pub(super) async fn examples(
    app: &App,
    scope: &Scope,
    id: &str,
    (param, first): (&'static str, usize),
) -> Result<Vec<Example>, ApiError> {
    let (card, bytes) = app.memory()?.stores.files().read(scope, id).await?;
    let wrong = |why: String| ApiError::invalid(why, Some(param));
    if card.purpose != "fine-tune" {
        return Err(wrong(format!(
            "`{id}` is of purpose `{}`; upload it with purpose=fine-tune",
            card.purpose
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong(format!("`{id}` is not UTF-8 text")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(place, line): (usize, &str)| {
        let bad = |why: &str| wrong(format!("line {} of `{id}`: {why}", place + 1));
        let mut line: Line = serde_json::from_str(line).map_err(|error| bad(&error.to_string()))?;
        let answer = line.messages.pop().filter(|last| last.role == Role::Assistant);
        let answer = answer
            .ok_or_else(|| bad("the last message must be the assistant's"))?
            .text();
        if answer.trim().is_empty() {
            return Err(bad("the answer is empty"));
        }
        if line.messages.last().is_none_or(|last| last.role != Role::User) {
            return Err(bad("the message before the answer must be the user's"));
        }
        Ok(Example {
            id: Uuid::now_v7(),
            messages: line.messages,
            answer,
            at: i64::try_from(first + place).unwrap_or(i64::MAX),
            weight: 1.0,
            from: Vec::new(),
            user: scope.user().to_owned(),
        })
    };
    lines.map(read).collect()
}

/// A line of a training file; what else it holds is not used.
#[derive(Deserialize)]
struct Line {
    messages: Vec<Message>,
}

/// The measured recipe, with what the request says of it.
pub(super) fn settings(body: &CreateJob) -> Result<Settings, ApiError> {
    let wrong = |param: &'static str, why: &str| ApiError::invalid(format!("`{param}` {why}"), Some(param));
    let mut given = body.hyperparameters.clone().unwrap_or_default();
    if let Some(method) = &body.method {
        let kind = method["type"].as_str().unwrap_or("supervised");
        if kind != "supervised" {
            return Err(wrong("method", "must be of type supervised: no other is trained here"));
        }
        if let Some(more) = method["supervised"]["hyperparameters"].as_object() {
            given.extend(more.clone());
        }
    }
    if body.integrations.iter().flatten().next().is_some() {
        return Err(wrong(
            "integrations",
            "must be empty: what happens here is told to nobody else",
        ));
    }
    let mut settings = Settings {
        seed: body.seed.unwrap_or_default(),
        ..Settings::default()
    };
    for (name, value) in given {
        if value.is_null() || value == "auto" {
            continue;
        }
        let whole = value.as_u64().and_then(|number| usize::try_from(number).ok());
        match (name.as_str(), whole, value.as_f64()) {
            ("n_epochs", Some(epochs @ 1..=50), _) => settings.epochs = epochs,
            ("batch_size", Some(batch @ 1..=256), _) => settings.batch = batch,
            ("learning_rate_multiplier", _, Some(by)) if by > 0.0 && by <= 10.0 => {
                settings.learning_rate *= narrow(by);
            }
            _ => {
                let why = format!(
                    "has `{name}`: {value}; there are n_epochs (1 to 50), batch_size (1 to 256) and \
                     learning_rate_multiplier (over 0, at most 10), and each may be auto"
                );
                return Err(wrong("hyperparameters", &why));
            }
        }
    }
    Ok(settings)
}

fn narrow(number: f64) -> f32 {
    number as f32
}
