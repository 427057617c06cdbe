//! How a reply is made from logits, whatever engine computes them: the prompt is rendered and tokenised (`tokens`,
//! `template`), every token is chosen (`sampling`, a schema), decoded (`detokenize`), looked at (`stop`) and counted
//! (`reply`). So usage, limits, stop strings, schemas and seeds are exact and the same for every model and engine.

pub(crate) mod detokenize;
pub(crate) mod language;
pub(crate) mod options;
pub(crate) mod reply;
pub(crate) mod sampling;
pub(crate) mod stop;
pub(crate) mod template;
pub(crate) mod tokens;

pub use stop::StopMatcher;
