//! Small objects in the process, for tests: the laws of [`Objects`] without the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{admit_object, not_listed};
use crate::clock::{Clock, SystemClock};
use crate::error::MemoryError;
use crate::objects::{Object, Objects, Order, Slice};
use crate::scope::Scope;

/// See the module.
pub struct RamObjects {
    /// In the order of their first put, with their owners.
    kept: Mutex<Vec<(Scope, Object)>>,
    clock: Arc<dyn Clock>,
}

impl Default for RamObjects {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl RamObjects {
    /// Empty; `clock` says what has expired.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            kept: Mutex::default(),
            clock,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(Scope, Object)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_live(&self, object: &Object) -> bool {
        object.expires_at.is_none_or(|end| end > self.clock.now_ms())
    }

    /// Deletes what fits; how much of that had not expired.
    fn delete_where(&self, scope: &Scope, fits: impl Fn(&Object) -> bool) -> u64 {
        let mut live = 0;
        self.kept().retain(|(owner, object)| {
            let goes = owns(scope, owner) && fits(object);
            live += u64::from(goes && self.is_live(object));
            !goes
        });
        live
    }
}

fn owns(scope: &Scope, owner: &Scope) -> bool {
    scope.team() == owner.team() && scope.user() == owner.user()
}

#[async_trait]
impl Objects for RamObjects {
    async fn put(&self, scope: &Scope, objects: Vec<Object>) -> Result<(), MemoryError> {
        objects.iter().try_for_each(admit_object)?;
        let mut kept = self.kept();
        for object in objects {
            let same = |(owner, old): &&mut (Scope, Object)| {
                owns(scope, owner) && old.kind == object.kind && old.id == object.id
            };
            match kept.iter_mut().find(same) {
                Some((_, old)) => *old = object,
                None => kept.push((scope.clone(), object)),
            }
        }
        Ok(())
    }

    async fn get(&self, scope: &Scope, kind: &str, id: &str) -> Result<Option<Object>, MemoryError> {
        let kept = self.kept();
        let mut own = kept
            .iter()
            .filter(|(owner, _)| owns(scope, owner))
            .map(|(_, object)| object);
        Ok(own
            .find(|object| object.kind == kind && object.id == id && self.is_live(object))
            .cloned())
    }

    async fn list(
        &self,
        scope: &Scope,
        kind: &str,
        parent: Option<&str>,
        slice: &Slice,
    ) -> Result<Vec<Object>, MemoryError> {
        let kept = self.kept();
        let mut all: Vec<&Object> = kept
            .iter()
            .filter(|(owner, object)| owns(scope, owner) && object.kind == kind && self.is_live(object))
            .map(|(_, object)| object)
            .collect();
        if slice.order == Order::Newest {
            all.reverse();
        }
        let place = |id: &String| {
            let place = all.iter().position(|object| object.id == *id);
            place.ok_or_else(|| not_listed(kind, id))
        };
        let from = slice.after.as_ref().map(place).transpose()?.map_or(0, |at| at + 1);
        let to = slice.before.as_ref().map(place).transpose()?.unwrap_or(all.len());
        let limit = usize::try_from(slice.limit.clamp(1, Slice::MOST)).unwrap_or(usize::MAX);
        let part = all.get(from..to.max(from)).unwrap_or_default();
        let part = part
            .iter()
            .filter(|object| parent.is_none_or(|parent| object.parent.as_deref() == Some(parent)));
        Ok(part.take(limit).map(|object| (*object).clone()).collect())
    }

    async fn delete(&self, scope: &Scope, kind: &str, id: &str) -> Result<bool, MemoryError> {
        Ok(self.delete_where(scope, |object| object.kind == kind && object.id == id) > 0)
    }

    async fn delete_children(&self, scope: &Scope, kind: &str, parent: &str) -> Result<u64, MemoryError> {
        Ok(self.delete_where(scope, |object| {
            object.kind == kind && object.parent.as_deref() == Some(parent)
        }))
    }

    async fn kinds(&self, scope: &Scope) -> Result<Vec<String>, MemoryError> {
        let kept = self.kept();
        let own = kept
            .iter()
            .filter(|(owner, object)| owns(scope, owner) && self.is_live(object));
        let kinds: std::collections::BTreeSet<String> = own.map(|(_, object)| object.kind.clone()).collect();
        Ok(kinds.into_iter().collect())
    }

    async fn erase(&self, scope: &Scope) -> Result<u64, MemoryError> {
        Ok(self.delete_where(scope, |_| true))
    }

    async fn expired(&self, limit: u64) -> Result<Vec<(Scope, Object)>, MemoryError> {
        let mut expired: Vec<_> = self
            .kept()
            .iter()
            .filter(|(_, object)| !self.is_live(object))
            .cloned()
            .collect();
        expired.sort_by_key(|(_, object)| object.expires_at);
        expired.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(expired)
    }
}
