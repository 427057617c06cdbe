//! **habit-learning** will know how to get better: it turns what the journal holds into few-shot examples, tuned
//! retrieval and trained adapters, and serves none of them before they were measured better.
//!
//! It holds nothing yet. It stands here so that the direction of dependency is fixed from the first day: learning
//! reads memory and engine, the gateway reads learning, and nothing points back. What it will be built on is already
//! recorded with every turn: the messages as they came, the passages that were injected and with which score, the
//! reply, how it ended and what it took ([`habit_memory::interaction::Interaction`]).
