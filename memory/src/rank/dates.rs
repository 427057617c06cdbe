//! The days that a question names: "on 7 May 2023", "in May", "last week". What was said on such a day, or soon after it, is
//! likelier to be meant.

use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::{Span, Timestamp, tz::TimeZone};
use regex::{Captures, Regex};

/// Milliseconds a day.
const DAY: f32 = 86_400_000.0;

/// Days until what was said after the named ones counts a third: people tell of things for a week or two.
const AFTER: f32 = 14.0;

/// The same for what was said before them: plans for the next days.
const BEFORE: f32 = 2.0;

/// Years that a month without one is looked for in.
const YEARS: i16 = 5;

const MONTHS: &str = "january|february|march|april|may|june|july|august|september|october|november|december";

/// Days, the first and the last, in Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Days(Vec<(i64, i64)>);

impl Days {
    /// How near a time is: 1 within the days, less before and after.
    #[must_use]
    pub fn nearness(&self, at: i64) -> f32 {
        let one = |(from, to): &(i64, i64)| {
            let early = from.saturating_sub(at).max(0) as f32 / DAY;
            let late = at.saturating_sub(*to).max(0) as f32 / DAY;
            (-early / BEFORE - late / AFTER).exp()
        };
        self.0.iter().map(one).fold(0.0, f32::max)
    }
}

/// The days that a question names, seen from when it is asked (in Unix milliseconds); `None` if it names none. Days are those
/// of Greenwich: a few hours more or less change nothing.
#[must_use]
pub fn named(question: &str, asked_at: i64) -> Option<Days> {
    static FORMS: LazyLock<Vec<(Regex, Read)>> = LazyLock::new(|| {
        let day = r"(\d{1,2})(?:st|nd|rd|th)?";
        let forms: [(String, Read); 8] = [
            (r"\b(\d{4})-(\d{2})-(\d{2})\b".to_owned(), |c, _| {
                one(number(c, 1)?, i8::try_from(number(c, 2)?).ok()?, number(c, 3)?)
            }),
            (
                format!(r"\b{day}\s+(?:of\s+)?({MONTHS})\b,?(?:\s+(\d{{4}}))?"),
                |c, now| {
                    months(
                        c.get(3).map(|_| number(c, 3)).unwrap_or_default(),
                        now,
                        month(c, 2)?,
                        number(c, 1),
                    )
                },
            ),
            (format!(r"\b({MONTHS})\s+{day}\b(?:,?\s+(\d{{4}}))?"), |c, now| {
                months(
                    c.get(3).map(|_| number(c, 3)).unwrap_or_default(),
                    now,
                    month(c, 1)?,
                    number(c, 2),
                )
            }),
            (format!(r"\b({MONTHS})\b,?\s+(?:of\s+)?(\d{{4}})\b"), |c, now| {
                months(number(c, 2), now, month(c, 1)?, None)
            }),
            // "may" and "march" are other words too, without a preposition.
            (
                format!(r"\b(?:in|during|since|until|last|of|this)\s+({MONTHS})\b"),
                |c, now| months(None, now, month(c, 1)?, None),
            ),
            (r"\b(?:in|during|since|of)\s+((?:19|20)\d{2})\b".to_owned(), |c, _| {
                let year = number(c, 1)?;
                Some(vec![(Date::new(year, 1, 1).ok()?, Date::new(year, 12, 31).ok()?)])
            }),
            (
                r"\b(yesterday|last night|last week|last month|last year)\b".to_owned(),
                |c, now| {
                    let (from, to) = match &c[1] {
                        "last week" => (14, 5),
                        "last month" => (62, 15),
                        "last year" => (730, 180),
                        _ => (1, 1),
                    };
                    Some(vec![(back(now, from)?, back(now, to)?)])
                },
            ),
            (
                r"\b(\d{1,3}|a|two|three|four|five|six)\s+(day|week|month|year)s?\s+ago\b".to_owned(),
                |c, now| {
                    let words = ["", "a", "two", "three", "four", "five", "six"];
                    let count = words
                        .iter()
                        .position(|word| *word == &c[1])
                        .map_or_else(|| c[1].parse().ok(), |n| i64::try_from(n).ok())?;
                    let (days, slack) = match &c[2] {
                        "day" => (1, 0),
                        "week" => (7, 3),
                        "month" => (30, 15),
                        _ => (365, 120),
                    };
                    Some(vec![(
                        back(now, count * days + slack)?,
                        back(now, (count * days - slack).max(0))?,
                    )])
                },
            ),
        ];
        let compiled = forms
            .into_iter()
            .filter_map(|(form, read)| Some((Regex::new(&form).ok()?, read)));
        compiled.collect()
    });
    let question = question.to_lowercase();
    let now = Timestamp::from_millisecond(asked_at)
        .ok()?
        .to_zoned(TimeZone::UTC)
        .date();
    let spans = FORMS
        .iter()
        .find_map(|(form, read)| read(&form.captures(&question)?, now))?;
    let at = |date: Date| Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond());
    let days = spans
        .into_iter()
        .filter_map(|(from, to)| Some((at(from)?, at(to)? + DAY as i64 - 1)));
    let days: Vec<(i64, i64)> = days.collect();
    (!days.is_empty()).then_some(Days(days))
}

type Read = fn(&Captures<'_>, Date) -> Option<Vec<(Date, Date)>>;

fn number(found: &Captures<'_>, group: usize) -> Option<i16> {
    found.get(group)?.as_str().parse().ok()
}

fn month(found: &Captures<'_>, group: usize) -> Option<i8> {
    let name = found.get(group)?.as_str();
    MONTHS
        .split('|')
        .position(|month| month == name)
        .and_then(|place| i8::try_from(place + 1).ok())
}

fn one(year: i16, month: i8, day: i16) -> Option<Vec<(Date, Date)>> {
    let day = Date::new(year, month, i8::try_from(day).ok()?).ok()?;
    Some(vec![(day, day)])
}

/// This month, or this day of it; without a year, of each of the last years.
fn months(year: Option<i16>, now: Date, month: i8, day: Option<i16>) -> Option<Vec<(Date, Date)>> {
    let years = year.map_or_else(|| (now.year() - YEARS..=now.year()).rev().collect(), |year| vec![year]);
    let spans = years.into_iter().filter_map(|year| match day {
        Some(day) => one(year, month, day)?.pop(),
        None => {
            let first = Date::new(year, month, 1).ok()?;
            Some((first, first.last_of_month()))
        }
    });
    Some(spans.collect())
}

fn back(now: Date, days: i64) -> Option<Date> {
    now.checked_sub(Span::new().try_days(days).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(date: &str) -> i64 {
        let date: Date = date.parse().unwrap();
        date.to_zoned(TimeZone::UTC).unwrap().timestamp().as_millisecond() + 43_200_000
    }

    #[test]
    fn days_are_found_in_questions() {
        for (question, within, without) in [
            (
                "Who did Maria have dinner with on May 3, 2023?",
                "2023-05-03",
                "2023-05-02",
            ),
            ("What happened on the 3rd of May 2023?", "2023-05-03", "2022-05-03"),
            ("what was it on 2023-05-03?", "2023-05-03", "2023-05-20"),
            ("What did I paint in May 2023?", "2023-05-31", "2023-06-30"),
            ("Where was I in October?", "2025-10-10", "2025-08-10"),
            ("Which car did I have in 2022?", "2022-12-31", "2021-12-01"),
            ("What did I eat yesterday?", "2026-11-20", "2026-11-10"),
            ("What did we decide last week?", "2026-11-12", "2026-11-03"),
            ("What did I say three weeks ago?", "2026-10-31", "2026-10-20"),
        ] {
            let days = named(question, at("2026-11-21")).unwrap_or_else(|| panic!("{question}"));
            assert!((days.nearness(at(within)) - 1.0).abs() < 1e-6, "{question}");
            assert!(days.nearness(at(without)) < 0.95, "{question}");
        }
    }

    #[test]
    fn other_questions_name_none() {
        for question in [
            "May I ask what my dog is called?",
            "How do I march in step?",
            "What is 2023 + 1?",
            "What happened on 31 February 2023?",
            "",
        ] {
            assert_eq!(named(question, at("2026-11-21")), None, "{question}");
        }
    }
}
