//! The rebuilt tokenizer of the default chat model, token for token: the ids are what llama.cpp makes of the same
//! texts with the same file.

use habit_engine::models::DEFAULT_CHAT;
use proptest::prelude::*;
use tokenizers::Tokenizer;

use crate::models;

const KNOWN: &[(&str, &[u32])] = &[
    ("Hello, world!", &[19556, 28, 905, 17]),
    (
        "My dog is called Biscuit, I work at the harbour.",
        &[
            5965, 2767, 314, 1217, 389, 2639, 4637, 28, 339, 746, 418, 260, 28899, 30,
        ],
    ),
    (
        "  two  spaces\tand\n\nlines \n",
        &[216, 827, 216, 5600, 197, 397, 198, 198, 5110, 3717],
    ),
    (
        "Year 2024: 12,345.67 €",
        &[
            19840, 216, 34, 32, 34, 36, 42, 216, 33, 34, 28, 35, 36, 37, 30, 38, 39, 24927,
        ],
    ),
    (
        "I'm we'll they've DON'T",
        &[57, 5248, 392, 3060, 502, 3543, 422, 2154, 23, 68],
    ),
    (
        "naïve café 日本語 🐕\u{200d}🦺",
        &[
            3546, 46494, 37366, 17097, 241, 115, 40993, 179, 120, 248, 15107, 234, 239, 321, 231, 10813, 116, 135,
        ],
    ),
    ("<|im_start|>user\nHi<|im_end|>\n", &[1, 4093, 198, 26843, 2, 198]),
    (
        "fn main() { println!(\"{}\", 1+1); }",
        &[
            7853, 1085, 1000, 1662, 1628, 34115, 17, 43331, 1002, 216, 33, 27, 33, 4258, 4029,
        ],
    ),
    ("½ x² Ⅷ", &[16738, 1792, 19133, 216, 173, 223, 117]),
    ("a", &[81]),
    ("   ", &[333]),
];

async fn tokenizer() -> Tokenizer {
    let dir = models::model(DEFAULT_CHAT).await.tokenizer_dir.unwrap();
    Tokenizer::from_file(dir.join("tokenizer.json")).unwrap()
}

#[tokio::test]
async fn ids_are_those_of_the_model() {
    let tokenizer = tokenizer().await;
    for (text, ids) in KNOWN {
        assert_eq!(tokenizer.encode(*text, true).unwrap().get_ids(), *ids, "{text:?}");
    }
}

#[tokio::test]
async fn any_text_survives_the_round_trip() {
    let tokenizer = tokenizer().await;
    proptest!(|(text in "\\PC{0,60}|[a-zA-Z0-9 \\n\\t]{0,80}")| {
        let ids = tokenizer.encode(text.as_str(), true).unwrap();
        prop_assert_eq!(tokenizer.decode(ids.get_ids(), false).unwrap(), text);
    });
}
