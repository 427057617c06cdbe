//! How a reply is made from logits, whatever engine computes them: the prompt is rendered and tokenised (`tokens`,
//! `template`, `raw`), every token is chosen (`sampling`, within a `grammar`), decoded (`detokenize`), told apart
//! (`channel`: `reasoning`, `tools`, text), looked at (`stop`, `logprobs`) and counted (`reply`). So usage, limits, stop
//! strings, schemas, calls and seeds are exact and the same for every model and engine.

pub(crate) mod channel;
pub(crate) mod detokenize;
pub(crate) mod grammar;
mod instruct;
pub(crate) mod language;
pub(crate) mod logprobs;
pub(crate) mod options;
pub(crate) mod raw;
pub(crate) mod reasoning;
pub(crate) mod reply;
pub(crate) mod sampling;
pub(crate) mod schema;
pub(crate) mod stop;
pub(crate) mod template;
pub(crate) mod tokens;
pub(crate) mod tools;
pub(crate) mod vocabulary;

pub use stop::StopMatcher;
