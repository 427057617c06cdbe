//! What was measured: as JSON, and as tables to read.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::client::Took;

/// Percentiles of one time, in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// 19 of 20 are at most this.
    pub p95: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
}

impl Percentiles {
    fn of(times: &Histogram<u64>) -> Self {
        let at = |share| times.value_at_quantile(share) as f64 / 1e3;
        Self {
            p50: at(0.50),
            p95: at(0.95),
            p99: at(0.99),
        }
    }

    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            p50: f(self.p50, other.p50),
            p95: f(self.p95, other.p95),
            p99: f(self.p99, other.p99),
        }
    }
}

/// Times of one arm in one round.
pub struct Times {
    first: Histogram<u64>,
    whole: Histogram<u64>,
}

impl Times {
    /// None yet.
    pub fn new() -> anyhow::Result<Self> {
        // A nanosecond to a minute; three digits are more than the machine repeats.
        let empty = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        Ok(Self {
            first: empty.clone(),
            whole: empty,
        })
    }

    /// Adds a request.
    pub fn add(&mut self, took: Took) {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.first.saturating_record(nanos(took.first));
        self.whole.saturating_record(nanos(took.whole));
    }
}

/// One way to the upstream, in one round: what it took, and what of that was more than the direct way.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Until the first token, in microseconds.
    pub first: Percentiles,
    /// Until the end.
    pub whole: Percentiles,
    /// The same, less that of the direct way in the same round.
    pub added_first: Percentiles,
    /// The same, less that of the direct way in the same round.
    pub added_whole: Percentiles,
}

impl Round {
    /// Of these times, against those of the direct way.
    pub fn new(times: &Times, direct: &Times) -> Self {
        let (first, whole) = (Percentiles::of(&times.first), Percentiles::of(&times.whole));
        let less = |a: f64, b: f64| a - b;
        Self {
            first,
            whole,
            added_first: first.zip(Percentiles::of(&direct.first), less),
            added_whole: whole.zip(Percentiles::of(&direct.whole), less),
        }
    }
}

/// One connection, one kind of request.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// The way.
    pub arm: String,
    /// Bytes of the request.
    pub bytes: usize,
    /// As server-sent events.
    pub stream: bool,
    /// Requests a round.
    pub requests: usize,
    /// The rounds.
    pub rounds: Vec<Round>,
}

/// Many connections, an upstream that takes its time.
#[derive(Debug, Clone, Serialize)]
pub struct Capacity {
    /// The way.
    pub arm: String,
    /// Connections.
    pub connections: usize,
    /// Streams that were finished in a second; the best of the rounds.
    pub per_second: f64,
    /// Until the first token, in microseconds, in that round.
    pub first: Percentiles,
}

/// Memory of the gateway, in bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// The way.
    pub arm: String,
    /// Streams that were open at once.
    pub streams: usize,
    /// Of them, those that ended well.
    pub finished: usize,
    /// Before.
    pub at_rest: u64,
    /// The most while they were open.
    pub under_load: u64,
    /// Two seconds after the last had ended.
    pub after: u64,
}

/// All of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// See [`Latency`].
    pub latency: Vec<Latency>,
    /// See [`Capacity`].
    pub capacity: Vec<Capacity>,
    /// See [`Memory`].
    pub memory: Vec<Memory>,
}

impl Latency {
    /// The round whose p99 is in the middle, by this time.
    pub fn middle(&self, of: impl Fn(&Round) -> Percentiles) -> Percentiles {
        let mut rounds: Vec<Percentiles> = self.rounds.iter().map(of).collect();
        rounds.sort_by(|a, b| a.p99.total_cmp(&b.p99));
        rounds.get(rounds.len() / 2).copied().unwrap_or_default()
    }

    /// The lowest p99 of all rounds.
    fn best(&self, of: impl Fn(&Round) -> Percentiles) -> f64 {
        self.rounds
            .iter()
            .map(|round| of(round).p99)
            .fold(f64::INFINITY, f64::min)
    }
}

impl Report {
    /// Tables in Markdown.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        for stream in [false, true] {
            let lines = self
                .latency
                .iter()
                .filter(|line| line.stream == stream)
                .collect::<Vec<_>>();
            if lines.is_empty() {
                continue;
            }
            let what = if stream {
                "Streamed (first token)"
            } else {
                "Whole replies"
            };
            let _ = writeln!(
                text,
                "\n{what}, one connection, microseconds. Added: less the direct way, percentile by percentile; the round in the middle by p99.\n\n\
                 | body | way | p50 | p95 | p99 | added p50 | added p95 | added p99 | best round |\n\
                 | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
            );
            for line in lines {
                let taken = line.middle(|round| if stream { round.first } else { round.whole });
                let of = |round: &Round| if stream { round.added_first } else { round.added_whole };
                let added = line.middle(of);
                let size = size(line.bytes as u64);
                let _ = write!(
                    text,
                    "| {size} | {} | {:.0} | {:.0} | {:.0} |",
                    line.arm, taken.p50, taken.p95, taken.p99
                );
                let _ = if line.arm == super::proxy::DIRECT {
                    writeln!(text, " | | | |")
                } else {
                    writeln!(
                        text,
                        " {:.0} | {:.0} | {:.0} | {:.0} |",
                        added.p50,
                        added.p95,
                        added.p99,
                        line.best(of)
                    )
                };
            }
        }
        if !self.capacity.is_empty() {
            text += "\nMany connections, the upstream waits 20 ms; streams with a role and 64 tokens. The best round.\n\n\
                | connections | way | streams/s | first token p50 ms | p99 ms |\n| --- | --- | --- | --- | --- |\n";
            for line in &self.capacity {
                let Capacity {
                    arm,
                    connections,
                    per_second,
                    first,
                } = line;
                let _ = writeln!(
                    text,
                    "| {connections} | {arm} | {per_second:.0} | {:.1} | {:.1} |",
                    first.p50 / 1e3,
                    first.p99 / 1e3
                );
            }
        }
        if !self.memory.is_empty() {
            text += "\nResident memory.\n\n| way | at rest | open streams | with them | after | finished |\n\
                | --- | --- | --- | --- | --- | --- |\n";
            for line in &self.memory {
                let (rest, load, after) = (size(line.at_rest), size(line.under_load), size(line.after));
                let _ = writeln!(
                    text,
                    "| {} | {rest} | {} | {load} | {after} | {} |",
                    line.arm, line.streams, line.finished
                );
            }
        }
        text
    }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn times(micros: u64) -> Times {
        let mut times = Times::new().unwrap();
        for _ in 0..100 {
            let took = Duration::from_micros(micros);
            times.add(Took {
                first: took,
                whole: took * 2,
            });
        }
        times
    }

    #[test]
    fn what_is_added_is_the_difference_within_a_round() {
        let round = Round::new(&times(150), &times(100));
        assert!((round.added_first.p99 - 50.0).abs() < 1.0, "{round:?}");
        assert!((round.added_whole.p50 - 100.0).abs() < 1.0, "{round:?}");
        let line = Latency {
            arm: "a".to_owned(),
            bytes: 1024,
            stream: false,
            requests: 100,
            rounds: vec![
                round.clone(),
                Round::new(&times(300), &times(100)),
                Round::new(&times(200), &times(100)),
            ],
        };
        // 100, 400 and 200: the middle one, and the least.
        assert!((line.middle(|round| round.added_whole).p99 - 200.0).abs() < 2.0);
        assert!((line.best(|round| round.added_whole) - 100.0).abs() < 2.0);
        let report = Report {
            latency: vec![line],
            ..Report::default()
        };
        assert!(report.tables().contains("| 1 KiB | a |"), "{}", report.tables());
    }

    #[test]
    fn sizes() {
        assert_eq!(
            (size(1), size(1024), size(400 << 10), size(3 << 20)),
            ("1 B".into(), "1 KiB".into(), "400 KiB".into(), "3 MiB".into())
        );
    }
}
