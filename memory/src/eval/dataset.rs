//! Conversations with questions about them, in LoCoMo's JSON layout: a list of samples, each with a `conversation` (its
//! sessions are lists of turns, named `session_1`, `session_2` …, with a `session_1_date_time` beside them) and `qa` (each with
//! a `question`, the `evidence` as turn ids, and a `category`). Reads any data of that layout: any number of speakers, dates
//! in other forms or none, ids missing, evidence missing or in one string.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use regex::Regex;
use serde_json::Value;

/// LoCoMo's category of questions that the conversation does not answer as they are put.
pub const ADVERSARIAL: i64 = 5;

/// When a conversation without dates began: any day will do.
const UNDATED: i64 = 1_672_531_200_000; // 2023-01-01

/// Between sessions without dates.
const DAY: i64 = 86_400_000;

/// Between the turns of a session.
const TURN: i64 = 20_000;

/// A conversation and what is asked about it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// Its sessions, in order; none is empty.
    pub sessions: Vec<Vec<Said>>,
    /// The questions.
    pub questions: Vec<Question>,
}

/// One turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// Its id within the conversation.
    pub id: String,
    /// Who says it, where that is told.
    pub speaker: Option<String>,
    /// What is said, with what a shared picture shows.
    pub text: String,
    /// When, in Unix milliseconds.
    pub at: i64,
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The question.
    pub text: String,
    /// Turns that hold the answer; only such as there are.
    pub evidence: HashSet<String>,
    /// Its category; 0 where none is told.
    pub category: i64,
}

impl Sample {
    /// When the last turn was said; questions are asked after that.
    #[must_use]
    pub fn ended_at(&self) -> i64 {
        let times = self.sessions.iter().flatten().map(|said| said.at);
        times.max().unwrap_or(UNDATED)
    }

    /// Turns in all.
    #[must_use]
    pub fn turns(&self) -> usize {
        self.sessions.iter().map(Vec::len).sum()
    }
}

/// The samples of a file's text.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn read(json: &str) -> Result<Vec<Sample>, String> {
    let data: Value = serde_json::from_str(json).map_err(|error| format!("this is no JSON: {error}"))?;
    let samples = match data {
        Value::Array(samples) => samples,
        one @ Value::Object(_) => vec![one],
        _ => return Err("this is no list of conversations".to_owned()),
    };
    let samples: Vec<Sample> = samples
        .iter()
        .enumerate()
        .filter_map(|(number, sample)| self::sample(number, sample))
        .collect();
    if samples.is_empty() {
        return Err(
            "it has no conversation in LoCoMo's layout: a list of objects with `conversation` (session_1, session_2 …) and `qa`"
                .to_owned(),
        );
    }
    Ok(samples)
}

fn sample(number: usize, sample: &Value) -> Option<Sample> {
    let conversation = sample["conversation"].as_object()?;
    let mut sessions: BTreeMap<u64, &Vec<Value>> = BTreeMap::new();
    for (key, turns) in conversation {
        if let (Some(session), Some(turns)) = (
            key.strip_prefix("session_").and_then(|n| n.parse().ok()),
            turns.as_array(),
        ) {
            sessions.insert(session, turns);
        }
    }
    let mut next = UNDATED;
    let mut read = Vec::new();
    for (session, turns) in sessions {
        let told = conversation
            .get(&format!("session_{session}_date_time"))
            .and_then(Value::as_str);
        let began = told.and_then(time).unwrap_or(next);
        let said: Vec<Said> = turns
            .iter()
            .enumerate()
            .filter_map(|(place, turn)| said(session, place, turn, began))
            .collect();
        next = began + DAY;
        if !said.is_empty() {
            read.push(said);
        }
    }
    let ids: HashSet<&str> = read.iter().flatten().map(|said| said.id.as_str()).collect();
    let questions = sample["qa"].as_array().into_iter().flatten();
    let questions = questions
        .filter_map(|question| self::question(question, &ids))
        .collect();
    let name = sample["sample_id"]
        .as_str()
        .map_or_else(|| format!("conversation {}", number + 1), str::to_owned);
    (!ids.is_empty()).then_some(Sample {
        name,
        questions,
        sessions: read,
    })
}

fn said(session: u64, place: usize, turn: &Value, began: i64) -> Option<Said> {
    let field = |name: &str| turn[name].as_str().map(str::trim).filter(|text| !text.is_empty());
    let words = field("text").or_else(|| field("content")).or_else(|| turn.as_str());
    let picture = field("blip_caption").map(|shows| format!("[shares a picture: {shows}]"));
    let text = [words.map(str::to_owned), picture]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ");
    (!text.is_empty()).then(|| Said {
        id: field("dia_id").map_or_else(|| format!("D{session}:{}", place + 1), str::to_owned),
        speaker: field("speaker").or_else(|| field("role")).map(str::to_owned),
        text,
        at: began + place as i64 * TURN,
    })
}

fn question(question: &Value, ids: &HashSet<&str>) -> Option<Question> {
    let text = question["question"]
        .as_str()
        .map(str::trim)
        .filter(|text| !text.is_empty())?;
    let mut evidence = HashSet::new();
    evidence_of(&question["evidence"], ids, &mut evidence);
    let category = &question["category"];
    let category = category
        .as_i64()
        .or_else(|| category.as_str()?.parse().ok())
        .unwrap_or_default();
    Some(Question {
        text: text.to_owned(),
        evidence,
        category,
    })
}

/// Ids may be a list, a list of lists, or several in one string.
fn evidence_of(value: &Value, ids: &HashSet<&str>, found: &mut HashSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| evidence_of(value, ids, found)),
        Value::String(text) if ids.contains(text.trim()) => {
            found.insert(text.trim().to_owned());
        }
        Value::String(text) => {
            let parts = text.split([';', ',', ' ', '(', ')']).filter(|part| ids.contains(part));
            found.extend(parts.map(str::to_owned));
        }
        _ => {}
    }
}

/// A date and time in one of the usual forms: "1:56 pm on 8 May, 2023", "2023-05-08 13:56", "May 8, 2023". In Unix
/// milliseconds, as of Greenwich.
fn time(text: &str) -> Option<i64> {
    const MONTHS: &str = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec";
    static FORMS: LazyLock<[Option<Regex>; 4]> = LazyLock::new(|| {
        [
            r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})".to_owned(),
            format!(r"(\d{{1,2}})(?:st|nd|rd|th)?\s+({MONTHS})[a-z]*,?\s+(\d{{4}})"),
            format!(r"({MONTHS})[a-z]*\s+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(\d{{4}})"),
            r"\b(\d{1,2}):(\d{2})(?::\d{2})?\s*(am|pm)?".to_owned(),
        ]
        .map(|form| Regex::new(&form).ok())
    });
    let text = text.to_lowercase();
    let find = |form: usize| FORMS[form].as_ref().and_then(|form| form.captures(&text));
    let month = |name: &str| {
        MONTHS
            .split('|')
            .position(|month| month == name)
            .map(|place| place as i8 + 1)
    };
    let (year, month, day): (i16, i8, i8) = if let Some(found) = find(0) {
        (found[1].parse().ok()?, found[2].parse().ok()?, found[3].parse().ok()?)
    } else if let Some(found) = find(1) {
        (found[3].parse().ok()?, month(&found[2])?, found[1].parse().ok()?)
    } else {
        let found = find(2)?;
        (found[3].parse().ok()?, month(&found[1])?, found[2].parse().ok()?)
    };
    let (mut hour, mut minute) = (12, 0);
    if let Some(found) = find(3) {
        hour = found[1].parse::<i8>().ok()?;
        minute = found[2].parse().ok()?;
        match found.get(3).map(|half| half.as_str()) {
            Some("pm") if hour < 12 => hour += 12,
            Some("am") if hour == 12 => hour = 0,
            _ => {}
        }
    }
    // Dates are checked here; `date` alone would panic on the 31st of February.
    let day = jiff::civil::Date::new(year, month, day).unwrap_or(date(2023, 1, 1));
    let time = jiff::civil::Time::new(hour, minute, 0, 0).ok()?;
    Some(
        DateTime::from_parts(day, time)
            .to_zoned(TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_millisecond(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dates_are_read_in_several_forms() {
        let expected = "2023-05-08T13:56:00Z"
            .parse::<jiff::Timestamp>()
            .unwrap()
            .as_millisecond();
        for text in [
            "1:56 pm on 8 May, 2023",
            "2023-05-08 13:56",
            "2023/05/08 (Mon) 13:56",
            "May 8th, 2023 at 1:56 PM",
        ] {
            assert_eq!(time(text), Some(expected), "{text}");
        }
        assert_eq!(time("some day"), None);
        assert_eq!(time("25:99 pm on 8 May, 2023"), None);
    }

    #[test]
    fn any_data_of_the_layout_is_read() {
        let data = json!([
            {
                "conversation": {
                    "session_2": [{"speaker": "Cy", "dia_id": "D2:1", "text": "", "blip_caption": "a red boat"}],
                    "session_1": [
                        {"speaker": "Ann", "dia_id": "D1:1", "text": "Hello"},
                        {"speaker": "Bob", "text": "I moved to Lyon"},
                        {"speaker": "Bob", "text": ""},
                        null,
                    ],
                    "session_10": [], "session_2_date_time": "later", "speaker_a": "Ann",
                },
                "qa": [
                    {"question": "Where does Bob live?", "evidence": ["D1:2; D9:9", ["D2:1"]], "category": "4"},
                    {"question": "Why?", "category": 5, "evidence": []},
                    {"answer": "no question"},
                ],
            },
            {"conversation": {}}, 7,
        ]);
        let samples = read(&data.to_string()).unwrap();
        let [sample] = &samples[..] else { panic!("{samples:?}") };
        assert_eq!(
            (sample.name.as_str(), sample.turns(), sample.sessions.len()),
            ("conversation 1", 3, 2)
        );
        assert_eq!(sample.sessions[1][0].text, "[shares a picture: a red boat]");
        assert!(
            sample.sessions[1][0].at > sample.sessions[0][1].at,
            "sessions without dates follow each other"
        );
        assert_eq!(
            sample.questions[0].evidence,
            HashSet::from(["D1:2".to_owned(), "D2:1".to_owned()])
        );
        assert_eq!(sample.questions[0].category, 4);
        assert!(sample.questions[1].evidence.is_empty());
        assert!(read("[]").unwrap_err().contains("layout"));
        assert!(read("no").unwrap_err().contains("JSON"));
    }
}
