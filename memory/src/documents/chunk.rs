//! From sections to chunks: pieces small enough to be embedded whole and shown to a model, each with its locator.

use serde::{Deserialize, Serialize};
use text_splitter::{ChunkConfig, ChunkSizer, MarkdownSplitter, TextSplitter};
use uuid::Uuid;

use crate::documents::{Chunk, Extracted, Section};

/// The part of a chunk that the next one repeats, so that a sentence on the border is whole in one of them: one in so many.
const OVERLAP: usize = 8;

/// How large chunks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Tokens of a chunk, at most.
    pub max_tokens: usize,
    /// Tokens that a chunk repeats of the one before it, less than `max_tokens`.
    pub overlap: usize,
}

impl Cut {
    /// Chunks of at most so many tokens, with the usual overlap.
    #[must_use]
    pub const fn of(max_tokens: usize) -> Self {
        Self {
            max_tokens,
            overlap: max_tokens / OVERLAP,
        }
    }
}

/// Counts with the caller's function.
struct Sizer<'a>(&'a dyn Fn(&str) -> usize);

impl ChunkSizer for Sizer<'_> {
    fn size(&self, chunk: &str) -> usize {
        (self.0)(chunk)
    }
}

/// Cuts a document into chunks, as `count` counts tokens. Chunks never cross sections; prose is cut at paragraphs and
/// sentences and repeats the overlap, code and tables are cut at lines and repeat nothing.
#[must_use]
pub fn split(extracted: &Extracted, cut: Cut, count: &dyn Fn(&str) -> usize) -> Vec<Chunk> {
    let pieces = extracted.sections.iter().flat_map(|section| {
        let locator = section.locator.clone();
        pieces(&extracted.media_type, section, cut, count)
            .into_iter()
            .map(move |text| (locator.clone(), text))
    });
    pieces
        .zip(0_u32..)
        .map(|((locator, text), ordinal)| Chunk {
            id: Uuid::now_v7(),
            ordinal,
            text,
            locator,
        })
        .collect()
}

fn pieces(media_type: &str, section: &Section, cut: Cut, count: &dyn Fn(&str) -> usize) -> Vec<String> {
    let max_tokens = cut.max_tokens.max(1);
    if count(&section.text) <= max_tokens {
        return vec![section.text.clone()];
    }
    let prose = matches!(
        media_type,
        "text/plain" | "text/markdown" | "text/html" | "application/pdf"
    ) || media_type.ends_with("wordprocessingml.document");
    let overlap = if prose { cut.overlap } else { 0 };
    let config = ChunkConfig::new(max_tokens).with_sizer(Sizer(count)).with_trim(prose);
    // An overlap that is no less than the size is refused; without it the cut is still right.
    let config = match config.with_overlap(overlap) {
        Ok(config) => config,
        Err(_) => ChunkConfig::new(max_tokens).with_sizer(Sizer(count)),
    };
    let chunks: Vec<String> = if media_type == "text/markdown" {
        MarkdownSplitter::new(config)
            .chunks(&section.text)
            .map(str::to_owned)
            .collect()
    } else {
        TextSplitter::new(config)
            .chunks(&section.text)
            .map(str::to_owned)
            .collect()
    };
    chunks
        .into_iter()
        .map(|chunk| chunk.trim_matches('\n').to_owned())
        .filter(|chunk| !chunk.trim().is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn document(media_type: &str, text: &str) -> Extracted {
        let section = Section {
            locator: "page 1".to_owned(),
            text: text.to_owned(),
        };
        Extracted {
            media_type: media_type.to_owned(),
            sections: vec![section.clone(), section],
        }
    }

    #[test]
    fn a_short_section_is_one_chunk_with_its_locator() {
        let chunks = split(&document("text/plain", "Only a few words."), Cut::of(50), &words);
        assert_eq!(chunks.len(), 2);
        assert_eq!(
            (chunks[0].text.as_str(), chunks[0].locator.as_str()),
            ("Only a few words.", "page 1")
        );
        assert_eq!((chunks[0].ordinal, chunks[1].ordinal), (0, 1));
        assert_ne!(chunks[0].id, chunks[1].id);
    }

    #[test]
    fn no_chunk_is_too_large_and_no_word_is_lost() {
        let text: Vec<String> = (0..400)
            .map(|n| format!("Sentence number {n} says something."))
            .collect();
        for media_type in ["text/plain", "text/markdown", "text/x-source"] {
            let chunks = split(&document(media_type, &text.join(" ")), Cut::of(40), &words);
            assert!(chunks.iter().all(|chunk| words(&chunk.text) <= 40), "{media_type}");
            for n in 0..400 {
                let number = format!("number {n} ");
                assert!(
                    chunks.iter().any(|chunk| format!("{} ", chunk.text).contains(&number)),
                    "{media_type}: {n}"
                );
            }
        }
    }
}
