//! What memory is filled with: turns of made-up words, some common and most rare, as in natural text.

use habit_engine::{Message, Role, Usage};
use habit_memory::Scope;
use habit_memory::index::{Entry, Owner};
use habit_memory::interaction::{Interaction, Lookup, Outcome, Timing};
use habit_memory::passage::SourceKind;
use uuid::Uuid;

/// Words of what is said.
pub const SAID: usize = 14;

/// Words of a reply.
const REPLIED: usize = 40;

/// Words that there are; common ones come more often, as in natural text.
const WORDS: f64 = 20_000.0;

/// A turn of made-up words.
pub fn turn(scope: &Scope, number: usize) -> Interaction {
    let prompt = sentence(number, SAID);
    Interaction {
        id: Uuid::now_v7(),
        scope: scope.clone(),
        parent: None,
        asked_at: 1_700_000_000_000 + i64::try_from(number).unwrap_or_default() * 60_000,
        model: "bench".to_owned(),
        messages: vec![Message::new(Role::User, prompt.clone())],
        prompt,
        reply: sentence(number + 1, REPLIED),
        outcome: Outcome::Completed,
        finish_reason: None,
        usage: Usage::default(),
        injected: Vec::new(),
        lookup: Lookup::default(),
        chain: format!("{number:064x}"),
        timing: Timing::default(),
        error: None,
        remember: true,
    }
}

/// Its entry in the index, with this vector.
pub fn entry(turn: &Interaction, vector: Vec<f32>) -> Entry {
    Entry {
        id: turn.id,
        parent: turn.id,
        source: SourceKind::Recalled,
        owner: Owner {
            team: turn.scope.team().to_owned(),
            user: Some(turn.scope.user().to_owned()),
            conversation: None,
        },
        session: turn.scope.conversation().unwrap_or_default().to_owned(),
        speaker: None,
        text: format!("{}\n{}", turn.prompt, turn.reply),
        words: u32::try_from(SAID).unwrap_or_default(),
        states: true,
        vector,
        at: turn.asked_at,
    }
}

/// A sentence of made-up words.
pub fn sentence(seed: usize, words: usize) -> String {
    let mut random = Random(seed as u64 + 1);
    let word = |share: f64| word((WORDS.powf(share) - 1.0) as usize);
    (0..words).map(|_| word(random.share())).collect::<Vec<_>>().join(" ")
}

/// A made-up word: the same number, the same word; common ones are short.
fn word(mut number: usize) -> String {
    const SYLLABLES: [&str; 28] = [
        "ba", "cor", "den", "fi", "gal", "ho", "jun", "ki", "lam", "mer", "no", "pel", "qua", "ri", "sto", "tur", "vi",
        "wen", "xa", "yol", "zim", "bra", "cle", "dro", "fle", "gri", "plo", "tre",
    ];
    let mut word = String::from("s");
    loop {
        word.push_str(SYLLABLES[number % SYLLABLES.len()]);
        number /= SYLLABLES.len();
        if number == 0 {
            return word;
        }
    }
}

/// A sentence of common English words.
pub fn plain(seed: usize, words: usize) -> String {
    const WORDS: &str = "the a my our your we they she he it is was will can go went see saw buy bought make made home work \
        garden sister brother friend dog cat car train city river summer winter morning evening dinner bread coffee music \
        piano movie book paint walk run swim travel plan meeting project deadline doctor school house kitchen window red \
        green old new happy tired early late because with for from about under after before next last week month year";
    let all: Vec<&str> = WORDS.split_whitespace().collect();
    let mut random = Random(seed as u64 + 99);
    let word = |share: f64| all[(share * all.len() as f64) as usize];
    (0..words).map(|_| word(random.share())).collect::<Vec<_>>().join(" ")
}

/// SplitMix64: repeatable, and good enough for filler.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A direction.
    pub fn direction(&mut self, dimensions: usize) -> Vec<f32> {
        let mut vector: Vec<f32> = (0..dimensions).map(|_| self.share() as f32 - 0.5).collect();
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        for value in &mut vector {
            *value /= length;
        }
        vector
    }
}
