//! What a query's words say of texts without an index: the share of them that a text has, and whose words are meant.

use std::collections::HashSet;

use super::words;

/// For each text, the share of the query's content words that it has. Rarity is that among these texts.
#[must_use]
pub fn shares(query: &str, texts: &[&str]) -> Vec<f32> {
    let asked = words::content(query);
    let texts: Vec<HashSet<String>> = texts
        .iter()
        .map(|text| words::stems(text).into_iter().collect())
        .collect();
    let rarity = |word: &String| {
        let found = texts.iter().filter(|text| text.contains(word)).count() as f32;
        (1.0 + (texts.len() as f32 - found + 0.5) / (found + 0.5)).ln()
    };
    let weights: Vec<f32> = asked.iter().map(rarity).collect();
    let total: f32 = weights.iter().sum();
    let share = |text: &HashSet<String>| {
        let found = asked.iter().zip(&weights).filter(|(word, _)| text.contains(*word));
        let found: f32 = found.map(|(_, weight)| weight).sum();
        if total > 0.0 { found / total } else { 0.0 }
    };
    texts.iter().map(share).collect()
}

/// The one of these speakers whom the query names; `None` if it names none, or several.
#[must_use]
pub fn speaker<'a>(query: &str, speakers: &[&'a str]) -> Option<&'a str> {
    let asked = words::content(query);
    let mut named: Vec<&str> = speakers.to_vec();
    named.sort_unstable();
    named.dedup();
    named.retain(|name| words::stems(name).iter().any(|part| asked.contains(part)));
    match named[..] {
        [one] => Some(one),
        _ => None,
    }
}
