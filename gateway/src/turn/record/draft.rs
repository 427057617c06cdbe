//! A record while its turn is still under way.

use std::time::Instant;

use habit_engine::{Delta, FinishReason, Message, RawPrompt, Role, Usage};
use habit_memory::conversation::chain_hash;
use habit_memory::interaction::{Interaction, Lookup, Outcome, Timing};

use super::locate::Located;
use crate::turn::reply::Collected;
use crate::turn::{Trace, Turn, millis};

/// What is known so far.
pub struct Draft {
    interaction: Interaction,
    /// All messages that the client sent, for the chain's hash.
    sent: Vec<Message>,
    reply: Collected,
    arrived: Instant,
}

impl Draft {
    /// Of a turn that was just asked.
    pub fn new(turn: &Turn, located: &Located) -> Self {
        let sent = turn.request.messages.clone();
        let asked = sent
            .iter()
            .rev()
            .find(|message| message.role == Role::User)
            .or(sent.last())
            .map(Message::text);
        let raw = match &turn.request.raw {
            Some(RawPrompt::Text { prompt, .. }) => Some(prompt.clone()),
            _ => None,
        };
        let interaction = Interaction {
            id: turn.id,
            scope: turn.scope.clone(),
            parent: located.parent,
            asked_at: turn.asked_at,
            model: turn.request.model.clone(),
            messages: sent.iter().skip(located.held).cloned().collect(),
            prompt: asked.or(raw).unwrap_or_default(),
            reply: String::new(),
            outcome: Outcome::Interrupted,
            finish_reason: None,
            usage: Usage::default(),
            injected: Vec::new(),
            lookup: Lookup {
                brought: turn.gone.brought,
                ..Lookup::default()
            },
            chain: String::new(),
            timing: Timing::default(),
            error: None,
            remember: turn.memory.writes(),
        };
        Self {
            interaction,
            sent,
            reply: Collected::default(),
            arrived: turn.arrived,
        }
    }

    /// Notes what the layers below did.
    pub fn answered(&mut self, trace: &Trace) {
        self.interaction.model.clone_from(&trace.model);
        self.interaction.injected.clone_from(&trace.injected);
        let lookup = &mut self.interaction.lookup;
        lookup.sources.clone_from(&trace.sources);
        lookup.words_alone.clone_from(&trace.words_alone);
        lookup.left.clone_from(&trace.left);
        lookup.variant.clone_from(&trace.variant);
        lookup.shots = trace.shots;
        self.interaction.timing.context_ms = trace.context_ms;
    }

    /// Notes a delta.
    pub fn saw(&mut self, delta: &Delta) {
        self.reply.observe(delta);
        let first = &mut self.interaction.timing.first_token_ms;
        if first.is_none() && !self.reply.is_empty() {
            *first = Some(millis(self.arrived.elapsed()));
        }
    }

    /// The record of a reply that was finished.
    pub fn completed(mut self, reason: FinishReason, usage: Usage) -> Interaction {
        self.interaction.finish_reason = Some(reason);
        self.interaction.usage = usage;
        self.close(Outcome::Completed)
    }

    /// The record of a reply whose client left.
    pub fn interrupted(self) -> Interaction {
        self.close(Outcome::Interrupted)
    }

    /// The record of a turn that met an error: interrupted if something of the reply was sent.
    pub fn failed(mut self, error: String) -> Interaction {
        let outcome = if self.reply.is_empty() {
            Outcome::Failed
        } else {
            Outcome::Interrupted
        };
        self.interaction.error = Some(error);
        self.close(outcome)
    }

    fn close(self, outcome: Outcome) -> Interaction {
        let Self {
            mut interaction,
            sent: mut history,
            mut reply,
            arrived,
        } = self;
        reply.read();
        history.push(reply.message());
        interaction.chain = chain_hash(&history);
        interaction.reply = reply.text;
        interaction.outcome = outcome;
        interaction.timing.total_ms = millis(arrived.elapsed());
        interaction
    }
}
