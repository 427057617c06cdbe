//! What a seed decides, and the learning rate over the steps.

use super::Settings;
use crate::random::Random;

/// Chance of one purpose: streams of the same seed are unlike each other.
pub(super) fn chance(seed: u64, stream: u64) -> Random {
    Random::new(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03))
}

/// The numbers below `count` in an order of chance.
fn order(seed: u64, stream: u64, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    chance(seed, stream).shuffle(&mut order);
    order
}

/// Which examples and which anchors meet in which step. It can be asked for any step, so that a resumed run needs no
/// more than its number.
pub(super) struct Schedule<'a> {
    pub(super) settings: &'a Settings,
    pub(super) examples: usize,
    pub(super) anchors: usize,
}

impl Schedule<'_> {
    pub(super) fn a_epoch(&self) -> usize {
        self.examples.div_ceil(self.settings.batch.max(1))
    }

    pub(super) fn steps(&self) -> usize {
        self.a_epoch() * self.settings.epochs
    }

    /// The examples of a step, counted from 0. Batches of an epoch differ by one example at most.
    pub(super) fn examples(&self, step: usize) -> Vec<usize> {
        let batches = self.a_epoch();
        let (epoch, batch) = (step / batches, step % batches);
        let order = order(self.settings.seed, 1 + epoch as u64, self.examples);
        let edge = |batch: usize| batch * self.examples / batches;
        order[edge(batch)..edge(batch + 1)].to_vec()
    }

    /// The anchors of a step: all in turn, shuffled once.
    pub(super) fn anchors(&self, step: usize) -> Vec<usize> {
        let a_step = if self.settings.anchor_weight > 0.0 {
            self.settings.anchors_a_step.min(self.anchors)
        } else {
            0
        };
        let order = order(self.settings.seed, u64::MAX, self.anchors);
        (0..a_step).map(|n| order[(step * a_step + n) % order.len()]).collect()
    }

    /// The chance that decides a step's noise.
    pub(super) fn noise(&self, step: usize) -> Random {
        chance(self.settings.seed, (1 << 32) + step as u64)
    }

    pub(super) fn rate(&self, step: usize) -> f32 {
        let (steps, at) = (self.steps() as f32, step as f32 + 1.0);
        let rising = (self.settings.warm_up * steps).max(1.0);
        let share = if at <= rising {
            at / rising
        } else {
            let gone = ((at - rising) / (steps - rising).max(1.0)).min(1.0);
            0.1 + 0.45 * (1.0 + (std::f32::consts::PI * gone).cos())
        };
        self.settings.learning_rate * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_seen_once_an_epoch() {
        let settings = Settings {
            batch: 4,
            epochs: 3,
            ..Settings::default()
        };
        let schedule = Schedule {
            settings: &settings,
            examples: 10,
            anchors: 3,
        };
        assert_eq!((schedule.a_epoch(), schedule.steps()), (3, 9));
        for epoch in 0..3 {
            let mut seen: Vec<usize> = (0..3).flat_map(|batch| schedule.examples(3 * epoch + batch)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(schedule.examples(0), schedule.examples(3));
        assert_eq!(schedule.anchors(5).len(), 3);
    }

    #[test]
    fn the_rate_rises_and_falls() {
        let settings = Settings {
            learning_rate: 1.0,
            batch: 1,
            epochs: 1,
            ..Settings::default()
        };
        let schedule = Schedule {
            settings: &settings,
            examples: 100,
            anchors: 0,
        };
        let rates: Vec<f32> = (0..100).map(|step| schedule.rate(step)).collect();
        assert!(
            (rates[0] - 0.1).abs() < 1e-6 && (rates[9] - 1.0).abs() < 1e-6,
            "{rates:?}"
        );
        assert!(rates[10..].windows(2).all(|two| two[1] < two[0]) && (rates[99] - 0.1).abs() < 1e-3);
    }
}
