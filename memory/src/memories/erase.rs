//! Erasing a user: everything that is kept of one, everywhere, so that its bytes are gone too.

use uuid::Uuid;

use super::Memories;
use crate::error::MemoryError;
use crate::facts::Filter;
use crate::index::Removal;
use crate::journal::Page;
use crate::scope::Scope;

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erasure {
    /// Recorded turns.
    pub turns: u64,
    /// Facts, with their history and the marks of those that were deleted before.
    pub memories: u64,
    /// Documents.
    pub documents: u64,
    /// Files' cards, responses, conversations, vector stores.
    pub objects: u64,
    /// What followers kept: feedback, and what was learnt of it.
    pub learnt: u64,
}

impl Memories {
    /// Erases all that is kept of this user; what the user gave the whole team only with `team_wide`. When it returns,
    /// nothing of it is left in the database, in the index, or among the files, in no old version either. Doing it again
    /// after it was cut short completes it.
    ///
    /// # Errors
    /// [`MemoryError::Storage`]: something is left; do it again.
    pub async fn erase(&self, scope: &Scope, team_wide: bool) -> Result<Erasure, MemoryError> {
        let parts = &self.parts;
        // The truth first: what it no longer has is never shown, whatever else may still be there.
        let erased = parts.journal.erase(scope, team_wide).await?;
        let shared = self.shared_facts(scope, team_wide).await?;
        let memories = parts.facts.erase(scope, team_wide).await?;
        let objects = parts.objects.erase(scope).await?;
        parts.files.erase(scope).await?;
        let mut learnt = 0;
        for follower in &parts.followers {
            learnt += follower.erase(scope).await?;
        }
        let (team, user) = (scope.team().to_owned(), scope.user().to_owned());
        parts.index.remove(Removal::User { team, user }).await?;
        let shared: Vec<Uuid> = erased.documents.iter().copied().chain(shared).collect();
        if !shared.is_empty() {
            self.unindex(scope, shared).await?;
        }
        {
            // What another gateway indexes meanwhile would be in the way.
            let _alone = parts.journal.index_alone().await?;
            parts.index.purge().await?;
        }
        parts.journal.purge().await?;
        tracing::info!(
            "everything of a user was erased: {} turns, {memories} facts",
            erased.turns
        );
        Ok(Erasure {
            turns: erased.turns,
            memories,
            documents: erased.documents.len() as u64,
            objects,
            learnt,
        })
    }

    /// The facts that this user gave the team, where these go too: the index keeps them as the team's.
    async fn shared_facts(&self, scope: &Scope, team_wide: bool) -> Result<Vec<Uuid>, MemoryError> {
        let mut ids = Vec::new();
        if !team_wide {
            return Ok(ids);
        }
        let filter = Filter {
            team_wide: Some(true),
            ..Filter::all()
        };
        let mut before = None;
        loop {
            let page = Page {
                limit: Page::MOST,
                before,
            };
            let facts = self.parts.facts.list(scope, &filter, page).await?;
            before = facts.last().map(|fact| fact.id);
            let own = facts.iter().filter(|fact| fact.scope.user() == scope.user());
            ids.extend(own.map(|fact| fact.id));
            if (facts.len() as u64) < Page::MOST {
                break;
            }
        }
        Ok(ids)
    }
}
