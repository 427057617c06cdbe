//! **habit-learning** knows how to get better: it turns what the journal holds into few-shot examples, tuned retrieval
//! and trained adapters, and serves none of them before they were measured better. It knows nothing of HTTP.
//!
//! [`feedback`] is what users say of replies, [`examples`] are what is learnt from it, [`curator`] joins the two with the
//! recorded turns, [`few_shot`] finds those that are near a question, [`trainer`] makes an [`adapter`] of them, [`score`]
//! says how well a model answers them, [`gate`] whether one model is shown to be better than another. [`run`] is all of
//! that, from examples to a verdict and a report; [`rollout`] says which model serves a team, [`random`] is chance that
//! repeats.
//!
//! Learning reads memory and engine, the gateway reads learning, and nothing points back.

pub mod adapter;
pub mod curator;
pub mod examples;
pub mod feedback;
pub mod few_shot;
pub mod gate;
pub mod general;
pub mod random;
pub mod rollout;
pub mod run;
pub mod score;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trainer;
pub mod tune;
