//! Which questions are nearly the same: they share most of their letters' runs. No model is asked, so that the answer
//! never changes with one.

use std::collections::HashMap;

/// Letters in a run.
const RUN: usize = 4;

/// Two texts are nearly the same when they share this part of all their runs (Jaccard's index), in a hundred.
const SHARED: usize = 70;

/// For each text the number of its cluster: texts that are nearly the same, directly or by way of others, have the same.
/// A cluster's number is the place of its first text.
#[must_use]
pub fn clusters(texts: &[String]) -> Vec<usize> {
    let sets: Vec<Vec<u64>> = texts.iter().map(|text| runs(text)).collect();
    let mut parent: Vec<usize> = (0..texts.len()).collect();
    // Which earlier texts have a run: only those that share one are compared.
    let mut having: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut shared: Vec<usize> = vec![0; texts.len()];
    for (place, set) in sets.iter().enumerate() {
        let mut touched = Vec::new();
        for run in set {
            let others = having.entry(*run).or_default();
            for other in others.iter().copied() {
                if shared[other] == 0 {
                    touched.push(other);
                }
                shared[other] += 1;
            }
            others.push(place);
        }
        for other in touched {
            let both = std::mem::take(&mut shared[other]);
            let either = set.len() + sets[other].len() - both;
            if both * 100 >= either * SHARED {
                join(&mut parent, place, other);
            }
        }
    }
    (0..texts.len()).map(|place| root(&mut parent, place)).collect()
}

/// How much of two texts' runs is shared, 0 to 1.
#[must_use]
pub fn similarity(a: &str, b: &str) -> f32 {
    let (a, b) = (runs(a), runs(b));
    let both = a.iter().filter(|run| b.binary_search(run).is_ok()).count();
    let either = a.len() + b.len() - both;
    if either == 0 {
        return 1.0;
    }
    both as f32 / either as f32
}

/// The text's letters and digits in lower case, words apart by single spaces.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars().flat_map(char::to_lowercase) {
        if letter.is_alphanumeric() {
            plain.push(letter);
        } else if !plain.ends_with(' ') {
            plain.push(' ');
        }
    }
    plain.trim().to_owned()
}

/// Hashes of all runs of the text, sorted, each once. A text without letters is told by its characters as they are.
fn runs(text: &str) -> Vec<u64> {
    let plain = match plain(text) {
        plain if plain.is_empty() => text.trim().to_owned(),
        plain => plain,
    };
    let letters: Vec<char> = format!(" {plain} ").chars().collect();
    let mut runs: Vec<u64> = letters.windows(RUN.min(letters.len())).map(hash).collect();
    runs.sort_unstable();
    runs.dedup();
    runs
}

/// FNV-1a over the letters' numbers.
fn hash(run: &[char]) -> u64 {
    run.iter().fold(0xcbf2_9ce4_8422_2325, |hash, letter| {
        (hash ^ u64::from(u32::from(*letter))).wrapping_mul(0x0100_0000_01b3)
    })
}

fn root(parent: &mut [usize], mut place: usize) -> usize {
    while parent[place] != place {
        parent[place] = parent[parent[place]];
        place = parent[place];
    }
    place
}

/// The smaller root stays one, so that a cluster is named by its first text.
fn join(parent: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parent, a), root(parent, b));
    parent[a.max(b)] = a.min(b);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Vec<usize> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        clusters(&texts)
    }

    #[test]
    fn small_changes_stay_in_a_cluster_and_other_questions_do_not() {
        let found = of(&[
            "What is my account balance right now?",
            "Please freeze my card, it was stolen.",
            "what is my account  balance, right now",
            "What is my account balance right now, please?",
            "",
            "   ",
            "?!",
            "?!",
        ]);
        assert_eq!(found, [0, 1, 0, 0, 4, 4, 6, 6]);
    }

    #[test]
    fn similarity_is_of_the_same_kind() {
        assert!(similarity("freeze my card", "Freeze my card!") > 0.99);
        assert!(similarity("freeze my card", "what is the weather") < 0.2);
    }
}
