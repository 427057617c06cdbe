//! **habit-learning** knows how to get better: it turns what the journal holds into few-shot examples, tuned retrieval
//! and trained adapters, and serves none of them before they were measured better. It knows nothing of HTTP.
//!
//! [`examples`] are what is learnt from.
//!
//! Learning reads memory and engine, the gateway reads learning, and nothing points back.

pub mod examples;
