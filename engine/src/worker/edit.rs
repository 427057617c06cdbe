//! A request's own bytes with as little of it changed as an upstream needs: the model's name, options of the stream,
//! fields that are not for it. What stays is not copied. Pure: no I/O.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::Verbatim;

/// The pieces of the body to send for this model, in order; `None` if the body can't be edited (it is no JSON object).
/// A stream always asks for its usage: see [`super::relay`].
pub(super) fn pieces(asked: &Verbatim, model: &str) -> Option<Vec<Bytes>> {
    let mut added = String::new();
    let mut dropped: HashSet<&str> = asked.private.iter().copied().collect();
    match asked.model.as_deref() {
        Some(named) if named == model => {}
        named => {
            added += &format!("\"model\":{},", serde_json::to_string(model).ok()?);
            if named.is_some() {
                dropped.insert("model");
            }
        }
    }
    if asked.stream && asked.include_usage != Some(true) {
        added += "\"stream_options\":{\"include_usage\":true},";
        if asked.include_usage.is_some() {
            dropped.insert("stream_options");
        }
    }
    let body = &asked.body;
    if added.is_empty() && dropped.is_empty() {
        return Some(vec![body.clone()]);
    }
    if dropped.is_empty() {
        let open = body.iter().position(|byte| *byte == b'{')?;
        return Some(vec![Bytes::from(format!("{{{added}")), body.slice(open + 1..)]);
    }
    let kept = kept(body, &dropped)?;
    let mut pieces = vec![Bytes::from(format!("{{{added}"))];
    for (at, range) in kept.into_iter().enumerate() {
        if at > 0 {
            pieces.push(Bytes::from_static(b","));
        }
        pieces.push(body.slice(range));
    }
    // Something is always kept (the messages); if not, the comma after what was added would be one too many.
    if pieces.len() == 1 {
        return None;
    }
    pieces.push(Bytes::from_static(b"}"));
    Some(pieces)
}

/// Where the fields are that stay: runs of `"key": value, "key": value`.
fn kept(body: &Bytes, dropped: &HashSet<&str>) -> Option<Vec<Range<usize>>> {
    let Fields(fields) = serde_json::from_slice(body).ok()?;
    let mut runs: Vec<Range<usize>> = Vec::new();
    let (mut end, mut joins) = (0, false);
    for (key, value) in fields {
        // The value is a part of the body: the distance of the two is where it begins.
        let begin = value.get().as_ptr().addr().checked_sub(body.as_ptr().addr())?;
        let key_at = end + body.get(end..)?.iter().position(|byte| *byte == b'"')?;
        end = begin + value.get().len();
        let stays = !dropped.contains(key.as_str());
        match runs.last_mut().filter(|_| joins) {
            Some(run) if stays => run.end = end,
            _ if stays => runs.push(key_at..end),
            _ => {}
        }
        joins = stays;
    }
    Some(runs)
}

/// The fields of an object, in order.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn asked(body: &str) -> Verbatim {
        Verbatim {
            body: Bytes::copy_from_slice(body.as_bytes()),
            model: serde_json::from_str::<Value>(body).unwrap()["model"]
                .as_str()
                .map(str::to_owned),
            ..Verbatim::default()
        }
    }

    fn joined(asked: &Verbatim, model: &str) -> String {
        let pieces = pieces(asked, model).unwrap();
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[test]
    fn what_fits_already_goes_as_it_came() {
        let body = " {\"x\" : 1.50, \"model\":\"m\",\"messages\":[ ]}\n";
        assert_eq!(joined(&asked(body), "m"), body);
    }

    #[test]
    fn the_model_is_named_and_nothing_else_touched() {
        assert_eq!(
            joined(
                &asked(r#"{"model":"alias","messages":[ {"a":1e2} ], "z":"\u00e9"}"#),
                "m"
            ),
            r#"{"model":"m","messages":[ {"a":1e2} ], "z":"\u00e9"}"#
        );
        assert_eq!(
            joined(&asked(r#"{"messages":[],"mod\u0065l":"alias","z":0}"#), "m\"n"),
            r#"{"model":"m\"n","messages":[],"z":0}"#
        );
        assert_eq!(
            joined(&asked(r#"{ "messages":[]}"#), "m"),
            r#"{"model":"m", "messages":[]}"#
        );
    }

    #[test]
    fn streams_ask_for_usage_and_private_fields_stay_here() {
        let mut request = asked(r#"{"model":"m","metadata":{"a":{}},"stream":true,"messages":[]}"#);
        request.stream = true;
        request.private = &["metadata"];
        assert_eq!(
            joined(&request, "m"),
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true,"messages":[]}"#
        );
        request.include_usage = Some(true);
        assert_eq!(joined(&request, "m"), r#"{"model":"m","stream":true,"messages":[]}"#);
    }

    #[test]
    fn what_is_no_object_is_not_edited() {
        let mut request = asked("[]");
        request.private = &["x"];
        assert_eq!(pieces(&request, "m"), None);
    }

    proptest! {
        #[test]
        fn only_what_must_go_goes(
            fields in prop::collection::btree_map("[a-f\"{\\\\]{0,3}", prop::sample::select(vec![
                json!(1), json!("a\"}{,:"), json!([{"model": "x"}]), json!({"stream": []}), json!(null),
            ]), 0..6),
            pretty in any::<bool>(),
        ) {
            let mut body: Map<String, Value> = fields.into_iter().collect();
            body.insert("model".into(), "alias".into());
            body.insert("messages".into(), json!([]));
            let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) };
            let sent: Value = serde_json::from_str(&joined(&asked(&text.unwrap()), "m")).unwrap();
            body.insert("model".into(), "m".into());
            prop_assert_eq!(sent, Value::Object(body));
        }
    }
}
