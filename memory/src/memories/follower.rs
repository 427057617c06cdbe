//! The seam for whatever is made of memory elsewhere, and has to be told and to go as memory is: feedback on turns and
//! what was learnt of it. Memory knows no more of it than this.

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::MemoryError;
use crate::scope::Scope;

/// Keeps things that were made of what users said.
///
/// Laws: when a method returns, no later read shows what it was told to drop; doing it again completes what was cut
/// short; other users' things stay, and are in no export but their own.
#[async_trait]
pub trait Follower: Send + Sync {
    /// All that is kept of this user, each thing as a line of an export: an object that says by `type` what it is.
    /// [`MemoryError::Storage`] as the last one: there is more than was told.
    fn export(&self, scope: &Scope) -> BoxStream<'static, Result<Map<String, Value>, MemoryError>>;

    /// These turns of this user were deleted: so is all that was made of them.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]: something is left.
    async fn turns_deleted(&self, scope: &Scope, turns: &[Uuid]) -> Result<(), MemoryError>;

    /// Everything of this user is erased; how many things that were. The database is purged afterwards, files are not.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]: something is left.
    async fn erase(&self, scope: &Scope) -> Result<u64, MemoryError>;
}
