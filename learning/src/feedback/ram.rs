//! A ledger in the process, for tests: the laws of [`Ledger`] without the disk.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use habit_memory::journal::Page;
use habit_memory::{MemoryError, Scope};
use uuid::Uuid;

use super::{DAY_MS, Feedback, Ledger, Tainted, Use, admit, tainted};

/// See the module.
#[derive(Default)]
pub struct RamLedger {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// With the team.
    feedback: Vec<(String, Feedback)>,
    /// With the team.
    uses: Vec<(String, Use)>,
}

impl RamLedger {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn page(&self, page: Page, fits: impl Fn(&str, &Feedback) -> bool) -> Vec<Feedback> {
        let kept = self.kept();
        let fitting = kept.feedback.iter().filter(|(team, one)| fits(team, one));
        let mut found: Vec<Feedback> = fitting.map(|(_, one)| one.clone()).collect();
        found.retain(|one| page.before.is_none_or(|before| one.id < before));
        found.sort_by_key(|one| std::cmp::Reverse(one.id));
        found.truncate(usize::try_from(page.limit.clamp(1, Page::MOST)).unwrap_or(usize::MAX));
        found
    }

    fn drop_where(&self, scope: &Scope, fits: impl Fn(&Feedback) -> bool) -> u64 {
        let mut kept = self.kept();
        let mut gone = Vec::new();
        kept.feedback.retain(|(team, one)| {
            let goes = owns(scope, team, one) && fits(one);
            if goes {
                gone.push(one.id);
            }
            !goes
        });
        for (team, one) in &mut kept.uses {
            one.forgotten |= team == scope.team() && gone.contains(&one.feedback);
        }
        gone.len() as u64
    }
}

fn owns(scope: &Scope, team: &str, one: &Feedback) -> bool {
    scope.team() == team && scope.user() == one.user
}

#[async_trait]
impl Ledger for RamLedger {
    async fn add(&self, scope: &Scope, feedback: Feedback, cap: u64) -> Result<bool, MemoryError> {
        admit(scope, &feedback)?;
        let mut kept = self.kept();
        let today = kept.feedback.iter().filter(|(team, one)| owns(scope, team, one));
        if today.filter(|(_, one)| one.at > feedback.at - DAY_MS).count() as u64 >= cap {
            return Ok(false);
        }
        kept.feedback.push((scope.team().to_owned(), feedback));
        Ok(true)
    }

    async fn get(&self, scope: &Scope, id: Uuid) -> Result<Option<Feedback>, MemoryError> {
        let all = Page {
            limit: Page::MOST,
            before: None,
        };
        Ok(self.page(all, |team, one| owns(scope, team, one) && one.id == id).pop())
    }

    async fn list(&self, scope: &Scope, turns: &[Uuid], page: Page) -> Result<Vec<Feedback>, MemoryError> {
        let wanted = |one: &Feedback| turns.is_empty() || turns.contains(&one.turn);
        Ok(self.page(page, |team, one| owns(scope, team, one) && wanted(one)))
    }

    async fn mark(&self, scope: &Scope) -> Result<(u64, Option<Uuid>), MemoryError> {
        let kept = self.kept();
        let own = kept.feedback.iter().filter(|(team, one)| owns(scope, team, one));
        Ok((own.clone().count() as u64, own.map(|(_, one)| one.id).max()))
    }

    async fn of_team(&self, team: &str, page: Page) -> Result<Vec<Feedback>, MemoryError> {
        Ok(self.page(page, |of, _| of == team))
    }

    async fn delete(&self, scope: &Scope, ids: &[Uuid]) -> Result<u64, MemoryError> {
        Ok(self.drop_where(scope, |one| ids.contains(&one.id)))
    }

    async fn delete_of_turns(&self, scope: &Scope, turns: &[Uuid]) -> Result<u64, MemoryError> {
        Ok(self.drop_where(scope, |one| turns.contains(&one.turn)))
    }

    async fn erase(&self, scope: &Scope) -> Result<u64, MemoryError> {
        let rows = self.drop_where(scope, |_| true);
        for (team, one) in &mut self.kept().uses {
            if team == scope.team() && one.user == scope.user() {
                one.forgotten = true;
                one.user = String::new();
            }
        }
        Ok(rows)
    }

    async fn note_uses(&self, team: &str, uses: Vec<Use>) -> Result<(), MemoryError> {
        let mut kept = self.kept();
        for mut one in uses {
            let noted = kept
                .uses
                .iter()
                .any(|(_, old)| old.run == one.run && old.feedback == one.feedback);
            if noted {
                continue;
            }
            if !kept.feedback.iter().any(|(_, said)| said.id == one.feedback) {
                one.forgotten = true;
                one.user = String::new();
            }
            kept.uses.push((team.to_owned(), one));
        }
        Ok(())
    }

    async fn uses_of(&self, scope: &Scope, feedback: Uuid) -> Result<Vec<Use>, MemoryError> {
        let kept = self.kept();
        let mine = kept
            .uses
            .iter()
            .filter(|(team, one)| team == scope.team() && one.user == scope.user());
        let mut found: Vec<Use> = mine
            .map(|(_, one)| one.clone())
            .filter(|one| one.feedback == feedback)
            .collect();
        found.sort_by_key(|one| one.at);
        Ok(found)
    }

    async fn tainted(&self, team: &str) -> Result<Vec<Tainted>, MemoryError> {
        let kept = self.kept();
        let forgotten = kept.uses.iter().filter(|(of, one)| of == team && one.forgotten);
        Ok(tainted(forgotten.map(|(_, one)| (one.run.clone(), one.example))))
    }

    async fn users(&self, team: &str) -> Result<BTreeSet<String>, MemoryError> {
        let kept = self.kept();
        let of_team = kept.feedback.iter().filter(|(of, _)| of == team);
        Ok(of_team.map(|(_, one)| one.user.clone()).collect())
    }
}
