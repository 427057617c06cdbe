//! Times on the wire of memories: mem0 writes ISO 8601, and so does everything here.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::api::error::ApiError;

/// Unix milliseconds as ISO 8601 in UTC.
pub fn written(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}

/// Unix milliseconds of what a field holds: ISO 8601, a date (which begins at midnight, UTC), or Unix seconds.
///
/// # Errors
/// 400 that names the field.
pub fn read(value: &Value, field: &str) -> Result<i64, ApiError> {
    let read = match value {
        Value::String(text) => parse(text.trim()),
        Value::Number(number) => number.as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok()),
        _ => None,
    };
    read.map(Timestamp::as_millisecond).ok_or_else(|| {
        let message = format!(
            "`{field}` must be a time such as 2026-11-21T15:00:00Z, a date such as 2026-11-21, or Unix seconds, not {value}"
        );
        ApiError::invalid(message, Some(field))
    })
}

fn parse(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).ok();
    }
    let local = match text.parse::<DateTime>() {
        Ok(at) => at,
        Err(_) => text.parse::<Date>().ok()?.at(0, 0, 0, 0),
    };
    local.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for text in ["2026-11-21T15:00:00Z", "2026-11-21T15:00:00.123Z"] {
            assert_eq!(written(read(&json!(text), "t").unwrap()), text);
        }
        for (given, expected) in [
            (json!("2026-11-21"), "2026-11-21T00:00:00Z"),
            (json!("2026-11-21T15:00:00+01:00"), "2026-11-21T14:00:00Z"),
            (json!("2026-11-21T15:00:00"), "2026-11-21T15:00:00Z"),
            (json!(0), "1970-01-01T00:00:00Z"),
            (json!("0"), "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(written(read(&given, "t").unwrap()), expected);
        }
    }

    #[test]
    fn what_is_no_time_is_named() {
        for wrong in [
            json!("soon"),
            json!(""),
            json!(true),
            json!(null),
            json!(1e300),
            json!("2026-13-01"),
        ] {
            let error = read(&wrong, "valid_from").unwrap_err();
            assert_eq!(error.param.as_deref(), Some("valid_from"), "{wrong}");
        }
    }
}
