//! When work is due by itself. Pure.

use crate::config;

/// Why work may begin by itself now; `None` if it may not.
#[must_use]
pub fn cause(config: &config::Downtime, now: i64, active_at: i64) -> Option<&'static str> {
    if !config.on {
        return None;
    }
    if config.in_window(now) {
        return Some("its time of the day has come");
    }
    let idle = i64::from(config.idle_minutes) * 60_000;
    (idle > 0 && now.saturating_sub(active_at) >= idle).then_some("nobody asked anything for a while")
}

/// Whether what was last begun at this time is due again.
#[must_use]
pub fn is_due(config: &config::Downtime, now: i64, last: Option<i64>) -> bool {
    let every = i64::from(config.every_hours) * 3_600_000;
    last.is_none_or(|last| now.saturating_sub(last) >= every)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn idle_or_in_its_window_and_not_too_often() {
        let mut config = config::Downtime::default();
        assert_eq!(cause(&config, 9 * MINUTE, 0), None);
        assert!(cause(&config, 10 * MINUTE, 0).is_some());
        config.window = Some("02:00-03:00".to_owned());
        assert!(
            cause(&config, 125 * MINUTE, 125 * MINUTE).is_some(),
            "busy, but its time has come"
        );
        config.on = false;
        assert_eq!(cause(&config, 10 * MINUTE, 0), None);
        assert!(is_due(&config, 0, None) && !is_due(&config, 23 * 60 * MINUTE, Some(0)));
        assert!(is_due(&config, 24 * 60 * MINUTE, Some(0)));
    }
}
