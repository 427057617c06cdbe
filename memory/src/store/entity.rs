//! The tables of the database as sea-orm entities, one a file. Rows are plain: ids and structures are text; what they
//! mean is in [`crate::interaction`] and [`crate::documents`], and `store::sea::rows` converts.

pub mod api_key;
pub mod chunk;
pub mod document;
pub mod downtime_change;
pub mod downtime_run;
pub mod fact;
pub mod fact_event;
pub mod index_change;
pub mod lease;
pub mod memory_rule;
pub mod meta;
pub mod object;
pub mod turn;
