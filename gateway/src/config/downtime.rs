//! `[downtime]`: when the work is done for which nobody waits.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// When the work is done for which nobody waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Downtime {
    /// Whether it is done by itself. Off, only `habit downtime run` starts it.
    pub on: bool,
    /// Minutes without a request after which it begins; 0 waits for the window alone.
    pub idle_minutes: u32,
    /// A part of the day, such as "02:00-05:00" (UTC), in which it is done even if there are requests; each of them still
    /// goes first. Unset, it waits until the server is idle.
    pub window: Option<String>,
    /// Hours after which what was done is due again.
    pub every_hours: u32,
    /// Whether learning is a part of it.
    pub learn: bool,
}

impl Default for Downtime {
    fn default() -> Self {
        Self {
            on: true,
            idle_minutes: 10,
            window: None,
            every_hours: 24,
            learn: true,
        }
    }
}

impl Downtime {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.every_hours == 0 {
            return Err(ConfigError::bad(
                "downtime.every_hours",
                "must be at least 1; `on = false` turns downtime off",
            ));
        }
        if let Some(text) = &self.window
            && minutes(text).is_none()
        {
            let why = format!("`{text}` is no part of the day; write it as \"02:00-05:00\" (UTC)");
            return Err(ConfigError::bad("downtime.window", why));
        }
        Ok(())
    }

    /// Whether this time (Unix milliseconds) is within the window.
    #[must_use]
    pub fn in_window(&self, now_ms: i64) -> bool {
        let Some((from, to)) = self.window.as_deref().and_then(minutes) else {
            return false;
        };
        let minute = now_ms.div_euclid(60_000).rem_euclid(24 * 60);
        if from <= to {
            (from..to).contains(&minute)
        } else {
            minute >= from || minute < to
        }
    }
}

/// Both ends in minutes of the day.
fn minutes(window: &str) -> Option<(i64, i64)> {
    let end = |text: &str| {
        let (hours, minutes) = text.trim().split_once(':')?;
        let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
        ((0..24).contains(&hours) && (0..60).contains(&minutes)).then_some(hours * 60 + minutes)
    };
    let (from, to) = window.split_once('-')?;
    Some((end(from)?, end(to)?)).filter(|(from, to)| from != to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_lie_over_midnight() {
        let at = |window: &str, hour: i64| {
            let downtime = Downtime {
                window: Some(window.to_owned()),
                ..Downtime::default()
            };
            downtime.check().unwrap();
            downtime.in_window(hour * 3_600_000 + 86_400_000 * 400)
        };
        assert!(at("02:00-05:00", 2) && at("02:00-05:00", 4) && !at("02:00-05:00", 5) && !at("02:00-05:00", 1));
        assert!(at("23:00-01:30", 23) && at("23:00-01:30", 0) && at("23:00-01:30", 1) && !at("23:00-01:30", 2));
        for wrong in ["", "2-5", "02:00", "25:00-26:00", "02:00-02:00"] {
            assert_eq!(minutes(wrong), None, "{wrong}");
        }
    }
}
