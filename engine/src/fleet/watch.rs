//! Health checks of a fleet's remote members, in the background.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Fleet;

/// How often the members' times are looked at.
const TICK: Duration = Duration::from_millis(200);

impl Fleet {
    /// Checks every remote member when its time has come, also those that are added later, until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut checks = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            while checks.try_join_next().is_some() {}
            let now = Instant::now();
            for member in self.members().into_iter().filter(|member| member.is_due(now)) {
                checks.spawn(async move { member.check().await });
            }
        }
    }

    /// Checks all remote members now, and waits for the answers, but no longer than `limit`.
    pub async fn first_look(&self, limit: Duration) {
        let members = self.members();
        let checks = members.iter().map(|member| member.check());
        // Who is late is heard of by `watch`.
        let _ = tokio::time::timeout(limit, futures::future::join_all(checks)).await;
    }
}
