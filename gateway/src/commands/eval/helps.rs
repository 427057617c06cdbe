//! `habit eval helps`: whether memory helps. Facts are said in conversations of their own, among other talk; questions are
//! put later, with memory off and on, to the configured model and to a [`Reader`] that only repeats what it finds in its
//! prompt. The first shows what a user gets, the second how much of that is memory's doing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use habit_engine::{ChatRequest, Engine, Message, Role, Sampling};
use habit_memory::Scope;
use habit_memory::clock::{Clock, SystemClock};
use habit_memory::eval::dataset::Said;
use habit_memory::overflow::Gone;
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use super::facts::{FACTS, OTHER_TALK};
use super::reader::Reader;
use crate::api::ask::whole;
use crate::app::{App, MemoryParts};
use crate::commands::progress;
use crate::turn::overflow::Overflow;
use crate::turn::stack::{self, Stack};
use crate::turn::{MemoryMode, Reply, Turn, TurnService, assemble, context};
use crate::wiring;

/// Tokens of an answer, at most: a name is soon said.
const ANSWER: usize = 32;

/// Between what is said and the questions.
const DAY: i64 = 86_400_000;

/// How a reader did.
#[derive(Debug, Clone, Default)]
struct Arm {
    reader: String,
    off: usize,
    on: usize,
    /// Questions for which the fact was put before the model.
    shown: usize,
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Report {
    facts: usize,
    turns: usize,
    arms: Vec<Arm>,
}

/// Says the facts, then asks both readers.
pub async fn measure(app: &App, facts: usize) -> anyhow::Result<Report> {
    let memory = app.memory.as_ref().context("memory is not part of this process")?;
    let facts = facts.clamp(1, FACTS.len());
    let turns = say(memory, facts).await?;
    let mut report = Report {
        facts,
        turns,
        arms: Vec::new(),
    };
    let reader: Arc<dyn Engine> = Arc::new(Reader);
    let readers = [
        ("repeats what it finds".to_owned(), over(app, memory, &reader)),
        (app.engine.resolve(""), app.turns.clone()),
    ];
    for (name, turns) in readers {
        let mut arm = Arm {
            reader: name.clone(),
            ..Arm::default()
        };
        let bar = progress::counting(&format!("asking: {name}"), 2 * facts as u64);
        for fact in &FACTS[..facts] {
            for mode in [MemoryMode::Off, MemoryMode::Read] {
                let (answer, shown) = ask(&turns, fact.question, mode).await?;
                let right = answer.to_lowercase().contains(&fact.answer.to_lowercase());
                if mode == MemoryMode::Off {
                    arm.off += usize::from(right);
                } else {
                    arm.on += usize::from(right);
                    arm.shown += usize::from(shown.iter().any(|text| text.contains(fact.said)));
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        report.arms.push(arm);
    }
    Ok(report)
}

/// The layers that serve, over another engine.
fn over(app: &App, memory: &MemoryParts, engine: &Arc<dyn Engine>) -> TurnService {
    let context = context::layer(wiring::context_parts(&app.config, memory, Arc::new(|_| true)));
    let assemble = assemble::layer(assemble::AssembleParts {
        engine: Arc::clone(engine),
        memory_tokens: app.config.memory.tokens,
        knobs: None,
    });
    stack::build(Stack {
        context: Some(context),
        assemble: Some(assemble),
        ..Stack::bare(Arc::clone(engine))
    })
}

fn user() -> anyhow::Result<Scope> {
    Ok(Scope::new("eval", "someone")?)
}

/// Records each fact in a conversation with other talk around it; how many turns that are.
async fn say(memory: &MemoryParts, facts: usize) -> anyhow::Result<usize> {
    let mut turns = 0;
    let now = SystemClock.now_ms();
    for (number, fact) in FACTS[..facts].iter().enumerate() {
        let scope = user()?.in_conversation(format!("talk-{number}"));
        let other = |step: usize| OTHER_TALK[(number * 3 + step) % OTHER_TALK.len()];
        for (step, text) in [other(0), fact.said, other(1), other(2)].into_iter().enumerate() {
            let said = Said {
                id: String::new(),
                speaker: None,
                text: text.to_owned(),
                at: now - DAY * i64::try_from(facts - number).unwrap_or(1) + i64::try_from(step * 60_000).unwrap_or(0),
            };
            memory.journal.record(super::turn(&scope, &said)).await?;
            turns += 1;
        }
    }
    super::index(memory, turns as u64).await?;
    Ok(turns)
}

/// The answer, and what was put before the model.
async fn ask(turns: &TurnService, question: &str, memory: MemoryMode) -> anyhow::Result<(String, Vec<String>)> {
    let turn = Turn {
        id: Uuid::now_v7(),
        scope: user()?.in_conversation("the question"),
        request: ChatRequest {
            messages: vec![Message::new(Role::User, question)],
            sampling: Sampling {
                temperature: Some(0.0),
                ..Sampling::default()
            },
            max_tokens: Some(ANSWER),
            ..ChatRequest::default()
        },
        memory,
        store: false,
        overflow: Overflow::Configured,
        asked_at: SystemClock.now_ms(),
        arrived: std::time::Instant::now(),
        gone: Gone::default(),
        sources: Vec::new(),
        passages: Vec::new(),
        meter: None,
    };
    let Reply { deltas, trace } = turns.clone().oneshot(turn).await?;
    let (reply, ..) = tokio::time::timeout(Duration::from_mins(5), whole(deltas)).await??;
    Ok((
        reply.text,
        trace.injected.into_iter().map(|passage| passage.text).collect(),
    ))
}

impl Report {
    /// All figures.
    #[must_use]
    pub fn json(&self) -> Value {
        let arm = |arm: &Arm| json!({"reader": arm.reader, "off": arm.off, "on": arm.on, "shown": arm.shown});
        json!({"facts": self.facts, "turns": self.turns, "arms": self.arms.iter().map(arm).collect::<Vec<_>>()})
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} facts among {} turns; right answers:", self.facts, self.turns)?;
        writeln!(f, "{:34} memory off   memory on   fact shown", "reader")?;
        for arm in &self.arms {
            writeln!(f, "{:34} {:10} {:11} {:12}", arm.reader, arm.off, arm.on, arm.shown)?;
        }
        Ok(())
    }
}
