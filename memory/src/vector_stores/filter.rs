//! Filters over the attributes of a store's files, in OpenAI's JSON: comparisons, joined by `and` and `or`. Pure.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// Filters within filters, at most: a request can't make us recurse without end.
const DEPTH: usize = 16;

/// What files must be like.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// One attribute, compared.
    Compare {
        /// The attribute's name.
        key: String,
        /// How.
        how: How,
        /// With what; a list for [`How::In`] and [`How::NotIn`].
        value: Value,
    },
    /// All of these.
    All(Vec<Filter>),
    /// At least one of these.
    Any(Vec<Filter>),
}

/// How an attribute is compared. A file without the attribute fits only `Ne` and `NotIn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Greater: numbers by value, strings in the order of their letters.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// One of a list.
    In,
    /// None of a list.
    NotIn,
}

/// What is wrong with a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{place}` {why}")]
pub struct BadFilter {
    /// Where, such as `filters.filters[1].value`.
    pub place: String,
    /// What is wrong.
    pub why: String,
}

impl Filter {
    /// Reads a filter; `place` is what the field is called.
    ///
    /// # Errors
    /// [`BadFilter`] names the part at fault.
    pub fn parse(filter: &Value, place: &str) -> Result<Self, BadFilter> {
        read(filter, place, 0)
    }

    /// Whether a file with these attributes fits.
    #[must_use]
    pub fn fits(&self, attributes: &Map<String, Value>) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.fits(attributes)),
            Self::Any(filters) => filters.iter().any(|filter| filter.fits(attributes)),
            Self::Compare { key, how, value } => compare(attributes.get(key), *how, value),
        }
    }
}

fn read(filter: &Value, place: &str, depth: usize) -> Result<Filter, BadFilter> {
    let bad = |part: &str, why: String| BadFilter {
        place: format!("{place}{part}"),
        why,
    };
    if depth > DEPTH {
        return Err(bad("", format!("is more than {DEPTH} filters deep")));
    }
    let Some(fields) = filter.as_object() else {
        return Err(bad("", "must be an object with a `type`".to_owned()));
    };
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
    if let "and" | "or" = kind {
        let Some(inner) = fields.get("filters").and_then(Value::as_array) else {
            return Err(bad(".filters", "must be a list of filters".to_owned()));
        };
        if inner.is_empty() {
            return Err(bad(".filters", "is empty; leave the filter out instead".to_owned()));
        }
        let inner = inner.iter().enumerate();
        let inner = inner.map(|(at, filter)| read(filter, &format!("{place}.filters[{at}]"), depth + 1));
        let inner = inner.collect::<Result<_, _>>()?;
        return Ok(if kind == "and" {
            Filter::All(inner)
        } else {
            Filter::Any(inner)
        });
    }
    let how = match kind {
        "eq" => How::Eq,
        "ne" => How::Ne,
        "gt" => How::Gt,
        "gte" => How::Gte,
        "lt" => How::Lt,
        "lte" => How::Lte,
        "in" => How::In,
        "nin" => How::NotIn,
        _ => {
            let why = format!("is `{kind}`; it must be one of eq, ne, gt, gte, lt, lte, in, nin, and, or");
            return Err(bad(".type", why));
        }
    };
    let Some(key) = fields.get("key").and_then(Value::as_str).filter(|key| !key.is_empty()) else {
        return Err(bad(".key", "must name an attribute".to_owned()));
    };
    let value = fields.get("value").cloned().unwrap_or_default();
    let fits = match how {
        How::In | How::NotIn => value.as_array().is_some_and(|values| values.iter().all(is_plain)),
        How::Gt | How::Gte | How::Lt | How::Lte => value.is_number() || value.is_string(),
        How::Eq | How::Ne => is_plain(&value),
    };
    if !fits {
        let why = match how {
            How::In | How::NotIn => "must be a list of strings, numbers or booleans",
            How::Gt | How::Gte | How::Lt | How::Lte => "must be a number or a string",
            How::Eq | How::Ne => "must be a string, a number or a boolean",
        };
        return Err(bad(".value", why.to_owned()));
    }
    Ok(Filter::Compare {
        key: key.to_owned(),
        how,
        value,
    })
}

fn is_plain(value: &Value) -> bool {
    value.is_string() || value.is_number() || value.is_boolean()
}

fn compare(attribute: Option<&Value>, how: How, value: &Value) -> bool {
    let among = |list: &Value| {
        let values = list.as_array().map(Vec::as_slice).unwrap_or_default();
        values.iter().any(|value| is_same(attribute, value))
    };
    let ordered = |fits: fn(Ordering) -> bool| {
        attribute
            .and_then(|attribute| order(attribute, value))
            .is_some_and(fits)
    };
    match how {
        How::Eq => is_same(attribute, value),
        How::Ne => !is_same(attribute, value),
        How::In => among(value),
        How::NotIn => !among(value),
        How::Gt => ordered(Ordering::is_gt),
        How::Gte => ordered(Ordering::is_ge),
        How::Lt => ordered(Ordering::is_lt),
        How::Lte => ordered(Ordering::is_le),
    }
}

/// 1 and 1.0 are the same number.
fn is_same(attribute: Option<&Value>, value: &Value) -> bool {
    attribute.is_some_and(|attribute| attribute == value || order(attribute, value) == Some(Ordering::Equal))
}

/// How two values of the same kind stand to each other.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fits(filter: &Value) -> bool {
        let attributes = json!({"author": "Ann", "year": 2024, "draft": false});
        let filter = Filter::parse(filter, "filters").unwrap();
        filter.fits(attributes.as_object().unwrap())
    }

    #[test]
    fn compares() {
        for (how, key, value, expected) in [
            ("eq", "author", json!("Ann"), true),
            ("eq", "author", json!("ann"), false),
            ("eq", "year", json!(2024.0), true),
            ("eq", "year", json!("2024"), false),
            ("eq", "draft", json!(false), true),
            ("eq", "missing", json!(1), false),
            ("ne", "author", json!("Bob"), true),
            ("ne", "year", json!(2024), false),
            ("ne", "missing", json!(1), true),
            ("gt", "year", json!(2023), true),
            ("gt", "year", json!(2024), false),
            ("gte", "year", json!(2024), true),
            ("lt", "year", json!(2024.5), true),
            ("lte", "year", json!(2023), false),
            ("lt", "author", json!("Bob"), true),
            ("gt", "author", json!(3), false),
            ("gte", "missing", json!(0), false),
            ("in", "author", json!(["Bob", "Ann"]), true),
            ("in", "author", json!([]), false),
            ("nin", "author", json!(["Bob"]), true),
            ("nin", "year", json!([2024]), false),
            ("nin", "missing", json!([1]), true),
        ] {
            let filter = json!({"type": how, "key": key, "value": value});
            assert_eq!(fits(&filter), expected, "{filter}");
        }
    }

    #[test]
    fn joins() {
        let yes = json!({"type": "eq", "key": "year", "value": 2024});
        let no = json!({"type": "eq", "key": "year", "value": 1});
        for (how, one, two, expected) in [
            ("and", &yes, &yes, true),
            ("and", &yes, &no, false),
            ("or", &no, &yes, true),
            ("or", &no, &no, false),
        ] {
            assert_eq!(fits(&json!({"type": how, "filters": [one, two]})), expected);
            let nested = json!({"type": "or", "filters": [{"type": how, "filters": [one, two]}]});
            assert_eq!(fits(&nested), expected);
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let mut deep = json!({"type": "eq", "key": "a", "value": 1});
        for _ in 0..100 {
            deep = json!({"type": "and", "filters": [deep]});
        }
        for (filter, place) in [
            (json!("x"), "filters"),
            (json!({"type": "like", "key": "a", "value": 1}), "filters.type"),
            (json!({"type": "eq", "value": 1}), "filters.key"),
            (json!({"type": "eq", "key": "a"}), "filters.value"),
            (json!({"type": "eq", "key": "a", "value": {}}), "filters.value"),
            (json!({"type": "gt", "key": "a", "value": true}), "filters.value"),
            (json!({"type": "in", "key": "a", "value": "b"}), "filters.value"),
            (json!({"type": "and", "filters": []}), "filters.filters"),
            (
                json!({"type": "or", "filters": [{"type": "x"}]}),
                "filters.filters[0].type",
            ),
        ] {
            assert_eq!(Filter::parse(&filter, "filters").unwrap_err().place, place, "{filter}");
        }
        assert!(Filter::parse(&deep, "filters").unwrap_err().why.contains("deep"));
    }
}
