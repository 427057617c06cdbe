//! The greatest of many values: most are only looked at, many at once.

/// Values that are looked at together: most lists of so many have none that is wanted.
pub(super) const TOGETHER: usize = 64;

/// Finds the value of which `limit` ones are at least as great, of those above a first one.
pub(super) struct Best {
    limit: usize,
    best: Vec<f32>,
    /// No value is wanted that is not greater.
    pub(super) least: f32,
}

impl Best {
    pub(super) fn new(limit: usize, above: f32) -> Self {
        Self {
            limit,
            best: Vec::with_capacity(2 * limit),
            least: above,
        }
    }

    pub(super) fn take(&mut self, values: &[f32]) {
        for values in values.chunks(TOGETHER) {
            if any(values, |value| value > self.least) {
                values.iter().for_each(|value| self.take_one(*value));
            }
        }
    }

    pub(super) fn take_one(&mut self, value: f32) {
        if value <= self.least {
            return;
        }
        self.best.push(value);
        // Twice as many as are wanted, then the better half of them: most values are only looked at.
        if self.best.len() == 2 * self.limit {
            self.least = nth(&mut self.best, self.limit);
            self.best.truncate(self.limit);
        }
    }

    /// The value; the least of all where there are fewer.
    pub(super) fn least(mut self) -> f32 {
        match self.best.len() {
            few if few < self.limit => f32::MIN,
            _ => nth(&mut self.best, self.limit),
        }
    }
}

/// Whether there is one: counted, so that many are looked at at once.
pub(super) fn any(values: &[f32], is: impl Fn(f32) -> bool) -> bool {
    values.iter().filter(|value| is(**value)).count() > 0
}

/// The least of the `limit` greatest, which come first then.
fn nth(values: &mut [f32], limit: usize) -> f32 {
    let (_, value, _) = values.select_nth_unstable_by(limit - 1, |a, b| b.total_cmp(a));
    *value
}
