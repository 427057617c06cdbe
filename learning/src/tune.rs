//! Tuning what memory puts before the model: logged turns with a known right answer are replayed under other settings, and
//! the settings under which the right answers are likeliest are taken, if that is shown on turns that chose nothing.
//!
//! Successive halving (Jamieson and Talwalkar 2016): three dozen settings on a few turns, the better half on twice as many, and
//! so on. The one that is left is compared with what serves on the newest turns, pair by pair, by the same bounds as a trained
//! model ([`crate::gate`]). How a turn is replayed is the [`Replay`]'s business, who takes the settings the rollout's.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::gate::{Bounds, Interval};
use crate::random::Random;

/// Settings that are tried.
pub const TRIED: usize = 36;

/// The share of turns that choose, the older ones, in percent; the newer ones judge.
const CHOOSING: usize = 60;

/// Turns on which all settings are tried first.
const FIRST: usize = 4;

/// What memory may put before the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Knobs {
    /// Earlier turns.
    pub recalled: usize,
    /// Passages of documents.
    pub persistent: usize,
    /// Facts.
    pub facts: usize,
    /// Tokens that all of them may take together.
    pub tokens: usize,
    /// How earlier turns are found; `None` is as built in.
    #[serde(default)]
    pub finding: Option<Finding>,
    /// Past answers that are shown; `None` is as configured.
    #[serde(default)]
    pub shots: Option<Shots>,
}

/// How earlier turns are found, in percent of what is built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// How much must speak for one.
    pub floor: u16,
    /// What the same words count.
    pub words: u16,
    /// What the same meaning counts.
    pub meaning: u16,
    /// What the conversation around counts.
    pub session: u16,
}

impl Default for Finding {
    fn default() -> Self {
        Self {
            floor: 100,
            words: 100,
            meaning: 100,
            session: 100,
        }
    }
}

/// Past answers that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shots {
    /// At most.
    pub count: usize,
    /// How near their questions must be: the cosine, in percent.
    pub floor: u16,
}

impl Shots {
    /// How near, as a cosine.
    #[must_use]
    pub fn near(&self) -> f32 {
        f32::from(self.floor) / 100.0
    }
}

impl std::fmt::Display for Knobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            recalled,
            persistent,
            facts,
            tokens,
            finding,
            shots,
        } = self;
        write!(
            f,
            "{recalled} turns, {persistent} passages, {facts} facts, in {tokens} tokens"
        )?;
        if let Some(Shots { count, floor }) = shots {
            write!(f, ", {count} past answers to questions nearer than 0.{floor:02}")?;
        }
        if let Some(finding) = finding.filter(|finding| *finding != Finding::default()) {
            let Finding {
                floor,
                words,
                meaning,
                session,
            } = finding;
            write!(
                f,
                " (turns are found with {floor} % of the usual floor; words count {words} %, meaning {meaning} %, the \
                 conversation around {session} %)"
            )?;
        }
        Ok(())
    }
}

/// Puts a logged turn to the model as it would be asked now under other settings.
///
/// Laws: nothing is shown that was not known when the turn was asked; nothing of it is recorded; the same turn and settings
/// give the same loss.
#[async_trait]
pub trait Replay: Send + Sync {
    /// The negative log-likelihood of the turn's right answer, in nats a token; `None` if it can't be had.
    ///
    /// # Errors
    /// [`TuneError`], with what to do.
    async fn loss(&self, knobs: &Knobs, turn: Uuid) -> Result<Option<f64>, TuneError>;
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TuneError {
    /// Someone wanted it to stop.
    #[error("the search for settings was stopped")]
    Stopped,
    /// The model or memory failed.
    #[error("{0}")]
    Failed(String),
}

/// What came of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// What served.
    pub before: Knobs,
    /// The best that was tried.
    pub best: Knobs,
    /// How many were tried.
    pub tried: usize,
    /// Turns that chose, and turns that judged.
    pub turns: [usize; 2],
    /// How much likelier the right answers are, in nats a token.
    pub gain: Interval,
    /// Why it is not taken; empty if it is.
    pub reasons: Vec<String>,
}

/// Settings around those that serve: each knob off, halved and doubled, floors and weights some steps down and up, and
/// mixtures of them, `most` at most, those that serve first. The same every time.
#[must_use]
pub fn around(now: Knobs, most: usize) -> Vec<Knobs> {
    let mut found = vec![now];
    let mut add = |knobs: Knobs| {
        if found.len() < most && !found.contains(&knobs) {
            found.push(knobs);
        }
    };
    let ways = ways(&now);
    for at in 0..ways.iter().map(Vec::len).max().unwrap_or_default() {
        ways.iter().filter_map(|way| way.get(at)).for_each(|way| add(way(now)));
    }
    let mut random = Random::new(0x7e57);
    for _ in 0..most * 20 {
        // A mixture differs in about every second thing.
        let taken = ways.iter().filter_map(|way| way.get(random.below(2 * way.len())));
        let mixed = taken.fold(now, |knobs, way| way(knobs));
        add(mixed);
    }
    found
}

/// A change of settings.
type Way = Box<dyn Fn(Knobs) -> Knobs>;

/// What may be changed, one row a knob; what is switched off has none.
fn ways(now: &Knobs) -> Vec<Vec<Way>> {
    let way = |change: fn(&mut Knobs, usize), to: usize| -> Way {
        Box::new(move |mut knobs| {
            change(&mut knobs, to);
            knobs
        })
    };
    let row = |change: fn(&mut Knobs, usize), values: &[usize]| -> Vec<Way> {
        values.iter().map(|to| way(change, *to)).collect()
    };
    let chunks = |now: usize| [0, now.div_ceil(2), (now * 2).clamp(1, 10)];
    let mut ways = vec![
        row(|knobs, to| knobs.recalled = to, &chunks(now.recalled)),
        row(|knobs, to| knobs.persistent = to, &chunks(now.persistent)),
        row(|knobs, to| knobs.facts = to, &chunks(now.facts)),
        row(
            |knobs, to| knobs.tokens = to,
            &[now.tokens / 4, now.tokens / 2, now.tokens * 2],
        ),
    ];
    if let Some(shots) = now.shots {
        let floor = usize::from(shots.floor);
        let floors = [floor.saturating_sub(10).max(20), (floor + 10).min(95)];
        ways.push(row(
            |knobs, to| shots_of(knobs).count = to,
            &[0, shots.count.div_ceil(2), (shots.count * 2).clamp(1, 16)],
        ));
        ways.push(row(|knobs, to| shots_of(knobs).floor = percent(to), &floors));
    }
    if now.recalled > 0 {
        let finding = now.finding.unwrap_or_default();
        // A step down and a step up, and never so far that one thing alone decides.
        let steps = |now: u16| [(usize::from(now) / 2).max(25), (usize::from(now) * 2).min(400)];
        let floor = usize::from(finding.floor);
        let floors = [(floor * 7 / 10).max(40), (floor * 14 / 10).min(200)];
        ways.push(row(|knobs, to| finding_of(knobs).floor = percent(to), &floors));
        ways.push(row(
            |knobs, to| finding_of(knobs).words = percent(to),
            &steps(finding.words),
        ));
        ways.push(row(
            |knobs, to| finding_of(knobs).meaning = percent(to),
            &steps(finding.meaning),
        ));
        ways.push(row(
            |knobs, to| finding_of(knobs).session = percent(to),
            &steps(finding.session),
        ));
    }
    ways
}

fn finding_of(knobs: &mut Knobs) -> &mut Finding {
    knobs.finding.get_or_insert_default()
}

fn shots_of(knobs: &mut Knobs) -> &mut Shots {
    knobs.shots.get_or_insert(Shots { count: 0, floor: 100 })
}

fn percent(of: usize) -> u16 {
    u16::try_from(of).unwrap_or(u16::MAX)
}

/// Searches. `turns` are those whose right answer is known, oldest first.
///
/// # Errors
/// [`TuneError`].
pub async fn search(now: Knobs, turns: &[Uuid], replay: &dyn Replay, bounds: &Bounds) -> Result<Tuned, TuneError> {
    let (choosing, judging) = turns.split_at(turns.len() * CHOOSING / 100);
    let mut tuned = Tuned {
        before: now,
        best: now,
        tried: 1,
        turns: [choosing.len(), judging.len()],
        gain: Interval::NOTHING,
        reasons: Vec::new(),
    };
    if judging.len() < bounds.items || choosing.len() < FIRST {
        tuned.reasons.push(format!(
            "there are {} turns with a known right answer to judge by, and fewer than {} say nothing",
            judging.len(),
            bounds.items
        ));
        return Ok(tuned);
    }
    let settings = around(now, TRIED);
    tuned.tried = settings.len();
    tuned.best = halve(settings, choosing, replay).await?;
    if tuned.best == now {
        tuned
            .reasons
            .push("nothing that was tried does better than what serves".to_owned());
        return Ok(tuned);
    }
    let mut gains = Vec::with_capacity(judging.len());
    for turn in judging {
        let losses = (replay.loss(&now, *turn).await?, replay.loss(&tuned.best, *turn).await?);
        if let (Some(before), Some(after)) = losses {
            gains.push(before - after);
        }
    }
    // One candidate was judged by these turns: the others were left by turns that judge nothing.
    tuned.gain = bounds.interval(&gains, 1);
    let shown = gains.len() >= bounds.items && tuned.gain.lower > 0.0;
    if !shown {
        tuned.reasons.push(format!(
            "it is not shown to be better: right answers gain {:+.3} nats a token over {} turns, and as little as {:+.3} \
             can't be ruled out",
            tuned.gain.mean,
            gains.len(),
            tuned.gain.lower
        ));
    }
    Ok(tuned)
}

/// The one that is left.
async fn halve(mut settings: Vec<Knobs>, turns: &[Uuid], replay: &dyn Replay) -> Result<Knobs, TuneError> {
    // Losses so far, of each setting on the turns up to here: what is left is not asked twice.
    let mut losses = vec![Vec::<f64>::new(); settings.len()];
    let (mut from, mut to) = (0, FIRST.min(turns.len()));
    loop {
        for turn in &turns[from..to] {
            let mut row = Vec::with_capacity(settings.len());
            for knobs in &settings {
                row.push(replay.loss(knobs, *turn).await?);
            }
            // A turn that is not known under all of them compares nothing.
            if let Some(row) = row.into_iter().collect::<Option<Vec<f64>>>() {
                losses.iter_mut().zip(row).for_each(|(losses, loss)| losses.push(loss));
            }
        }
        let mut order: Vec<usize> = (0..settings.len()).collect();
        let sum = |at: usize| losses[at].iter().sum::<f64>();
        // Stable: of equal ones the earlier is nearer to what serves.
        order.sort_by(|a, b| sum(*a).total_cmp(&sum(*b)));
        let last = to == turns.len();
        order.truncate(if last { 1 } else { settings.len().div_ceil(2) });
        settings = order.iter().map(|at| settings[*at]).collect();
        losses = order.iter().map(|at| std::mem::take(&mut losses[*at])).collect();
        if let [one] = settings.as_slice() {
            return Ok(*one);
        }
        (from, to) = (to, (to * 2).min(turns.len()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const NOW: Knobs = Knobs {
        recalled: 4,
        persistent: 4,
        facts: 4,
        tokens: 2000,
        finding: None,
        shots: Some(Shots { count: 4, floor: 55 }),
    };

    /// Right answers are likelier the fewer turns are recalled, by `slope`, among noise; counts what it is asked.
    struct World {
        slope: f64,
        asked: Mutex<usize>,
    }

    #[async_trait]
    impl Replay for World {
        async fn loss(&self, knobs: &Knobs, turn: Uuid) -> Result<Option<f64>, TuneError> {
            *self.asked.lock().unwrap() += 1;
            let words = format!("{knobs}{turn}");
            let noise = crate::rollout::choice::lot(&[words.as_bytes()]) - 0.5;
            Ok(Some(2.0 + self.slope * knobs.recalled as f64 + noise * 0.2))
        }
    }

    /// What was kept before there were floors and weights is read as it was meant.
    #[test]
    fn older_settings_are_read() {
        let old = r#"{"recalled": 1, "persistent": 2, "facts": 3, "tokens": 4}"#;
        let knobs: Knobs = serde_json::from_str(old).unwrap();
        assert_eq!((knobs.finding, knobs.shots, knobs.tokens), (None, None, 4));
    }

    async fn found(slope: f64, turns: u128) -> (Tuned, usize) {
        let world = World {
            slope,
            asked: Mutex::default(),
        };
        let turns: Vec<Uuid> = (1..=turns).map(Uuid::from_u128).collect();
        let tuned = search(NOW, &turns, &world, &Bounds::default()).await.unwrap();
        let asked = *world.asked.lock().unwrap();
        (tuned, asked)
    }

    #[tokio::test]
    async fn what_helps_is_found_with_few_questions() {
        let (tuned, asked) = found(0.3, 60).await;
        assert_eq!((tuned.best.recalled, tuned.reasons.len()), (0, 0), "{tuned:?}");
        assert!(tuned.gain.lower > 0.5, "{tuned:?}");
        assert!(asked < 36 * 36, "{asked} questions are no halving");
    }

    #[tokio::test]
    async fn noise_is_not_taken_for_a_gain_and_too_little_says_nothing() {
        let mut taken = 0;
        for turns in 50..70 {
            taken += usize::from(found(0.0, turns).await.0.reasons.is_empty());
        }
        assert!(taken <= 2, "{taken} of 20");
        let (tuned, asked) = found(0.3, 20).await;
        assert_eq!((tuned.reasons.len(), asked), (1, 0), "{tuned:?}");
    }

    #[test]
    fn settings_differ_and_what_serves_is_the_first() {
        let around = around(NOW, TRIED);
        assert_eq!((around.len(), around[0]), (TRIED, NOW));
        let different: std::collections::HashSet<&Knobs> = around.iter().collect();
        assert_eq!(different.len(), TRIED);
        let off = Knobs {
            recalled: 0,
            persistent: 0,
            facts: 0,
            tokens: 0,
            finding: None,
            shots: None,
        };
        let bounded = super::around(off, TRIED);
        assert!(
            bounded
                .iter()
                .all(|knobs| knobs.recalled <= 10 && knobs.shots.is_none())
        );
        let floors: std::collections::HashSet<u16> = around
            .iter()
            .map(|knobs| knobs.finding.unwrap_or_default().floor)
            .collect();
        assert_eq!(floors, std::collections::HashSet::from([70_u16, 100, 140]));
        let text = around.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert!(
            text.contains("words count 200 %") && text.contains("nearer than 0.45"),
            "{text}"
        );
    }
}
