//! **habit-memory** knows what was said and what is known: it records turns, finds them again, reads documents, and
//! decides what is worth a model's attention. It knows nothing of HTTP.
//!
//! The [`journal`] is the truth (SQL); the [`index`] finds (vectors and words) and is rebuilt from the journal.
//! Three [`context`] sources read both: recalled turns, persistent documents, documents of one conversation.
//! [`overflow`] makes room where a conversation outgrows the model's window, [`assembly`] fits what they propose into it. Every read and write takes a [`scope::Scope`].
//!
//! To add a context source: implement [`context::ContextSource`] in a file of `context/`, run the contract suite over
//! it, and list it in the gateway's `wiring.rs`. To add a store: implement [`journal::Journal`] or [`index::Index`]
//! in a file of `store/` and run the contract suite (`tests/memory/contract_*.rs`) over it.

pub mod assembly;
pub mod clock;
pub mod consent;
pub mod context;
pub mod conversation;
pub mod documents;
pub mod error;
pub mod eval;
pub mod facts;
pub mod files;
pub mod generations;
pub mod index;
pub mod indexer;
pub mod interaction;
pub mod journal;
pub mod memories;
pub mod objects;
pub mod overflow;
pub mod passage;
pub mod query_vector;
pub mod rank;
pub mod routines;
pub mod scope;
pub mod secrets;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod vector_stores;

pub use error::MemoryError;
pub use scope::Scope;
