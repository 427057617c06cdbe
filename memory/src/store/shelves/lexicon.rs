//! [`Lexicon`]: which words mean nearly the same, by the embedder's vectors of single words: "pet" leads to "dog". It learns the
//! words of what is recalled and of what is asked, is shared by all shelves, and lives in memory only: a word that was said
//! must not outlive on the disk what it was said in.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use habit_engine::Embedder;
use habit_kernels::vectors;
use tokio::sync::watch;

use crate::rank::words;
use crate::store::shelf::Alike;

/// Words that are learnt at most: about what a language has in daily use, in some 15 MB. The rest stands for itself.
const MOST: usize = 30_000;

/// Words that are embedded together: few, so that a question that comes meanwhile waits some milliseconds at most.
const BATCH: usize = 16;

/// Unknown words of a question that are learnt while it waits; more would keep it waiting.
const WHILE_ASKED: usize = 4;

/// From this cosine on, words count as alike. For all-MiniLM-L6-v2: pet and cat 0.67, trip and visit 0.68, hobby and thing
/// 0.52, car and matter 0.52.
const ALIKE: f32 = 0.6;

/// What a word that is alike counts beside the word itself, times their cosine.
const WORTH: f32 = 0.7;

/// Vectors of words that are compared together: about what the nearest cache holds beside all else.
const TOGETHER: usize = 64;

/// Words alike that are kept for a word.
const KEPT: usize = 24;

/// Letters that a word has: shorter ones are hardly words, longer ones are no words.
const LETTERS: std::ops::RangeInclusive<usize> = 3..=20;

/// See the module.
pub struct Lexicon {
    embedder: Arc<dyn Embedder>,
    known: Mutex<Known>,
    noted: Mutex<Noted>,
    idle: watch::Sender<bool>,
}

/// Words that wait for being learnt.
#[derive(Default)]
struct Noted {
    words: VecDeque<(String, String)>,
    stems: HashSet<String>,
    at_work: bool,
}

#[derive(Default)]
struct Known {
    places: HashMap<String, usize>,
    stems: Vec<String>,
    bytes: Vec<i8>,
    steps: Vec<f32>,
    /// By stem, the places of those alike with their cosines, and how many words were looked at.
    near: HashMap<String, (usize, Vec<(usize, f32)>)>,
}

impl Lexicon {
    /// An empty one.
    #[must_use]
    pub fn new(embedder: Arc<dyn Embedder>) -> Self {
        Self {
            embedder,
            known: Mutex::default(),
            noted: Mutex::default(),
            idle: watch::Sender::new(true),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns the words of these texts. Words that can't be embedded now are met again another time.
    pub async fn learn(&self, texts: &[&str]) {
        if self.note(texts) {
            self.work().await;
        } else {
            self.learnt().await;
        }
    }

    /// Notes the new words of these texts; true if somebody has to call [`Lexicon::work`] for them.
    #[must_use]
    pub fn note(&self, texts: &[&str]) -> bool {
        let (new, known) = {
            let known = self.known();
            (known.new_words(texts), known.stems.len())
        };
        let mut noted = self.noted();
        for (stem, form) in new {
            let room = known + noted.words.len() < MOST;
            if room && noted.stems.insert(stem.clone()) {
                noted.words.push_back((stem, form));
            }
        }
        let wanted = !noted.words.is_empty() && !noted.at_work;
        if wanted {
            noted.at_work = true;
            self.idle.send_replace(false);
        }
        wanted
    }

    /// Learns what is noted, a few words at a time, until nothing is left. To be run to its end.
    pub async fn work(&self) {
        loop {
            let batch: Vec<(String, String)> = {
                let mut noted = self.noted();
                let few = noted.words.len().min(BATCH);
                noted.words.drain(..few).collect()
            };
            self.take(&batch).await;
            let mut noted = self.noted();
            for (stem, _) in &batch {
                noted.stems.remove(stem);
            }
            if noted.words.is_empty() {
                noted.at_work = false;
                self.idle.send_replace(true);
                return;
            }
        }
    }

    /// Waits until all that is noted was learnt.
    pub async fn learnt(&self) {
        drop(self.idle.subscribe().wait_for(|idle| *idle).await);
    }

    async fn take(&self, new: &[(String, String)]) {
        let forms = new.iter().map(|(_, form)| form.clone()).collect();
        let Ok(vectors) = self.embedder.embed(forms).await else {
            return;
        };
        let mut known = self.known();
        for ((stem, _), vector) in new.iter().zip(vectors) {
            known.add(stem, &vector);
        }
    }

    /// Learns a few words of a question, if they are new.
    pub async fn meet(&self, question: &str) {
        let mut new = self.known().new_words(&[question]);
        new.truncate(WHILE_ASKED);
        if !new.is_empty() {
            self.take(&new).await;
        }
    }

    /// The words alike of a question's words, of those that are known.
    #[must_use]
    pub fn alike(&self, question: &str) -> Alike {
        self.known().alike(words::content(question))
    }
}

impl Known {
    /// Stems that are not known, each with the first form in which it is met.
    fn new_words(&self, texts: &[&str]) -> Vec<(String, String)> {
        let mut seen = HashSet::new();
        let mut new = Vec::new();
        for word in texts.iter().flat_map(|text| text.split(|c: char| !c.is_alphabetic())) {
            if !LETTERS.contains(&word.chars().count()) {
                continue;
            }
            let stem = words::stem(word);
            if words::carries_content(&stem) && !self.places.contains_key(&stem) && seen.insert(stem.clone()) {
                new.push((stem, word.to_lowercase()));
            }
        }
        new
    }

    fn add(&mut self, stem: &str, vector: &[f32]) {
        if self.places.contains_key(stem) || self.stems.len() >= MOST {
            return;
        }
        let (bytes, step) = vectors::pack(vector);
        self.places.insert(stem.to_owned(), self.stems.len());
        self.stems.push(stem.to_owned());
        self.bytes.extend(bytes);
        self.steps.push(step);
    }

    fn alike(&mut self, stems: Vec<String>) -> Alike {
        let mut asked: Vec<Near> = stems.into_iter().filter_map(|stem| self.take_near(stem)).collect();
        let all = self.stems.len();
        let dimensions = self.bytes.len() / all.max(1);
        // Only those that were learnt since the last time; a part of the vectors for all words at once, which is then in the
        // cache.
        let first = asked.iter().map(|near| near.seen).min().unwrap_or(all);
        let mut products = [0.0; TOGETHER];
        for start in (first..all).step_by(TOGETHER) {
            let end = all.min(start + TOGETHER);
            for near in &mut asked {
                let from = near.seen.clamp(start, end);
                let vector = &self.bytes[near.own * dimensions..][..dimensions];
                let products = &mut products[..end - from];
                vectors::dots(&self.bytes[from * dimensions..end * dimensions], vector, products);
                for (product, place) in products.iter().zip(from..) {
                    let cosine = product * self.steps[place] * self.steps[near.own];
                    if cosine >= ALIKE && place != near.own {
                        near.words.push((place, cosine));
                    }
                }
            }
        }
        let mut alike = Alike::new();
        for Near { stem, mut words, .. } in asked {
            words.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            words.truncate(KEPT);
            if !words.is_empty() {
                let named = words
                    .iter()
                    .map(|(place, cosine)| (self.stems[*place].clone(), WORTH * cosine));
                alike.insert(stem.clone(), named.collect());
            }
            self.near.insert(stem, (all, words));
        }
        alike
    }

    /// What is known of a stem so far; `None` if it was never met.
    fn take_near(&mut self, stem: String) -> Option<Near> {
        let own = *self.places.get(&stem)?;
        let (seen, words) = self.near.remove(&stem).unwrap_or_default();
        Some(Near { stem, own, seen, words })
    }
}

/// A stem, and those alike among the words that were looked at.
struct Near {
    stem: String,
    own: usize,
    seen: usize,
    words: Vec<(usize, f32)>,
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use habit_engine::EngineError;

    use super::*;

    /// Words with the same first letter are alike.
    struct ByLetter;

    #[async_trait]
    impl Embedder for ByLetter {
        async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EngineError> {
            let vector = |text: &String| {
                let mut vector = vec![0.0; 26];
                let letter = text.bytes().next().unwrap_or(b'a') - b'a';
                vector[usize::from(letter) % 26] = 1.0;
                vector
            };
            Ok(texts.iter().map(vector).collect())
        }

        fn dimensions(&self) -> usize {
            26
        }

        fn id(&self) -> &'static str {
            "letters"
        }
    }

    async fn met(lexicon: &Lexicon, question: &str) -> Alike {
        lexicon.meet(question).await;
        lexicon.alike(question)
    }

    #[tokio::test]
    async fn learns_what_is_met_and_finds_what_was_learnt_later() {
        let lexicon = Lexicon::new(Arc::new(ByLetter));
        lexicon.learn(&["Two cats, and a 4-legged dog; is it my cat?"]).await;
        let alike = met(&lexicon, "Is there a camel?").await;
        assert_eq!(
            alike["camel"].iter().map(|(stem, _)| stem.as_str()).collect::<Vec<_>>(),
            ["cat"]
        );
        assert!(alike["camel"][0].1 < 0.71, "worth less than the word itself");
        lexicon.learn(&["cows, camels and donkeys"]).await;
        let alike = met(&lexicon, "Is there a camel, or 42?").await;
        assert_eq!(
            alike["camel"].iter().map(|(stem, _)| stem.as_str()).collect::<Vec<_>>(),
            ["cat", "cow"]
        );
        assert_eq!(alike.len(), 1);
    }
}
