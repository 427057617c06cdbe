//! `habit chat`: a conversation in the terminal.

use anyhow::Context;
use habit_engine::worker::Worker;
use habit_engine::{Message, Role};
use http::Method;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::{Value, json};
use uuid::Uuid;

use super::ask::{engine, print_reply, request};
use super::client::Connection;
use crate::cli::{Asking, Chat, Common};
use crate::wiring::Purpose;

const HELP: &str = "  /new     begin another conversation; memory stays
  /clear   begin another conversation, clear the screen, and delete the documents given for this one
  /good    the last answer was good; /bad says that it was not
  /fix TEXT  this is what the last answer should have been
  /help    this
  /quit    leave (so does Ctrl-D); Ctrl-C stops an answer";

/// Talks until the user leaves.
///
/// # Errors
/// With what to do about it.
pub async fn run(common: &Common, flags: Chat) -> anyhow::Result<()> {
    let connection = Connection::open(common, &flags.target, Purpose::Gateway).await?;
    let result = talk(&connection, flags).await;
    connection.close().await;
    result
}

/// One conversation, and what it takes to go on with it.
struct Talk<'a> {
    connection: &'a Connection,
    engine: Worker,
    asking: Asking,
    system: Option<String>,
    conversation: String,
    messages: Vec<Message>,
}

async fn talk(connection: &Connection, flags: Chat) -> anyhow::Result<()> {
    let mut talk = Talk {
        connection,
        engine: engine(connection).await?,
        asking: flags.asking,
        system: flags.system,
        conversation: flags.conversation.unwrap_or_else(new_conversation),
        messages: Vec::new(),
    };
    talk.restart();
    println!(
        "Talk to it; /help tells what else there is. Conversation {}",
        talk.conversation
    );
    let mut editor = DefaultEditor::new().context("the terminal can't be read")?;
    loop {
        // Reading a line blocks, so it has a thread of its own; the editor comes back with the line.
        let read;
        (editor, read) = tokio::task::spawn_blocking(move || {
            let line = editor.readline("> ");
            (editor, line)
        })
        .await?;
        let line = match read {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error).context("the terminal can't be read"),
        };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        // A line that is not in the history is still answered.
        let _ = editor.add_history_entry(line);
        match line {
            "/quit" | "/exit" => return Ok(()),
            "/help" => println!("{HELP}"),
            "/new" => talk.begin_another(),
            "/clear" => talk.clear(&mut editor).await?,
            "/good" => talk.judge(&json!({"thumb": "up"})).await,
            "/bad" => talk.judge(&json!({"thumb": "down"})).await,
            command if command == "/fix" || command.starts_with("/fix ") => talk.fix(&command[4..]).await,
            command if command.starts_with('/') => println!("there is no {command}\n{HELP}"),
            words => talk.say(words).await,
        }
    }
}

impl Talk<'_> {
    /// Asks, prints the answer, and keeps both; a failed or stopped answer is left out.
    async fn say(&mut self, words: &str) {
        self.messages.push(Message::new(Role::User, words));
        let request = request(&self.asking, self.messages.clone(), Some(&self.conversation));
        let answer = tokio::select! {
            answer = print_reply(&self.engine, request) => answer,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped")),
        };
        match answer {
            Ok(text) => self.messages.push(Message::new(Role::Assistant, text)),
            Err(error) => {
                self.messages.pop();
                eprintln!("\n{error:#}");
            }
        }
    }

    /// Says how the last answer was, and tells what came of it; a refusal is no reason to leave.
    async fn judge(&self, said: &Value) {
        match self.give(said).await {
            Ok(summary) => println!("{summary}"),
            Err(error) => eprintln!("{error:#}"),
        }
    }

    /// Says what the last answer should have been.
    async fn fix(&self, answer: &str) {
        let answer = answer.trim();
        if answer.is_empty() {
            println!("/fix TEXT: write what the answer should have been");
            return;
        }
        self.judge(&json!({"correction": answer})).await;
    }

    /// Gives feedback on the newest turn of this conversation; what it made, in a sentence.
    async fn give(&self, said: &Value) -> anyhow::Result<String> {
        let newest = self.connection.request(Method::GET, "/v1/turns");
        let newest = newest.query(&[("conversation", self.conversation.as_str()), ("limit", "1")]);
        let turns = self.connection.json(newest).await?;
        let turn = turns["data"][0]["id"]
            .as_str()
            .context("there is no answer yet to say that of")?;
        let mut body = said.clone();
        body["turn"] = turn.into();
        let given = self.connection.request(Method::POST, "/v1/feedback").json(&body);
        let given = self.connection.json(given).await?;
        let id = given["id"].as_str().unwrap_or_default();
        let lineage = self
            .connection
            .request(Method::GET, &format!("/v1/learning/lineage/{id}"));
        let lineage = self.connection.json(lineage).await?;
        Ok(lineage["summary"].as_str().unwrap_or("noted").to_owned())
    }

    fn begin_another(&mut self) {
        self.conversation = new_conversation();
        self.restart();
        println!("Conversation {}", self.conversation);
    }

    async fn clear(&mut self, editor: &mut DefaultEditor) -> anyhow::Result<()> {
        let delete = self.connection.request(Method::DELETE, "/v1/documents");
        self.connection
            .json(delete.query(&[("conversation", &self.conversation)]))
            .await?;
        editor.clear_screen()?;
        self.begin_another();
        Ok(())
    }

    fn restart(&mut self) {
        self.messages = self
            .system
            .iter()
            .map(|text| Message::new(Role::System, text))
            .collect();
    }
}

fn new_conversation() -> String {
    Uuid::now_v7().to_string()
}
