//! What memory is filled with: turns of words some of which are common and most of which are rare, as in natural text.

use habit_engine::{Message, Role};
use habit_memory::Scope;
use habit_memory::index::{Entry, Owner};
use habit_memory::interaction::Interaction;
use habit_memory::passage::SourceKind;

/// Words of what is said.
pub const SAID: usize = 14;

/// Words of a reply.
const REPLIED: usize = 40;

/// Words that there are; common ones come more often, as in natural text.
const WORDS: f64 = 18_000.0;

/// A turn of such words.
pub fn turn(scope: &Scope, number: usize) -> Interaction {
    let asked_at = 1_700_000_000_000 + i64::try_from(number).unwrap_or_default() * 60_000;
    let messages = vec![Message::new(Role::User, sentence(number, SAID))];
    Interaction {
        chain: format!("{number:064x}"),
        ..Interaction::completed(scope, asked_at, messages, sentence(number + 1, REPLIED))
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

/// Words of which the others are made up, as in "gardentrain": an embedder reads them in two or three pieces.
const BASES: &str = "garden sister brother friend dog cat car train city river summer winter morning evening dinner bread coffee \
    music piano movie book paint walk run swim travel plan meeting project deadline doctor school house kitchen window red \
    green old new happy tired early late week month year apple mountain letter harbour crane forest bridge table candle \
    market teacher village island cloud storm lamp mirror basket ladder hammer violin orchard castle lantern meadow pepper \
    saddle thunder velvet walnut anchor blanket copper desert engine feather glacier hollow ivory jacket kettle lemon marble \
    needle oyster pillow quarry ribbon silver temple umbrella valley whistle yellow zebra bottle camera dragon eagle falcon \
    ginger helmet igloo jungle knight lizard magnet nickel ocean parrot quilt rocket spider tunnel uncle vessel wagon yogurt \
    barrel cactus donkey elbow fossil goblet hazel insect jigsaw kernel";

/// A sentence of words some of which are common and most of which are rare.
pub fn sentence(seed: usize, words: usize) -> String {
    let bases: Vec<&str> = BASES.split_whitespace().collect();
    let mut random = Random(seed as u64 + 1);
    let mut word = || {
        let number = (WORDS.powf(random.share()) - 1.0) as usize;
        let (first, second) = (bases[number % bases.len()], number / bases.len());
        match second.checked_sub(1) {
            None => first.to_owned(),
            Some(second) => format!("{first}{}", bases[second % bases.len()]),
        }
    };
    (0..words).map(|_| word()).collect::<Vec<_>>().join(" ")
}

/// A sentence of everyday words.
pub fn plain(seed: usize, words: usize) -> String {
    const SMALL: &str =
        "the a my our your we they she he it is was will can go went see saw made with for from about under";
    let all: Vec<&str> = SMALL.split_whitespace().chain(BASES.split_whitespace()).collect();
    let mut random = Random(seed as u64 + 99);
    let mut word = || all[(random.share() * all.len() as f64) as usize];
    (0..words).map(|_| word()).collect::<Vec<_>>().join(" ")
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
