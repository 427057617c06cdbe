//! From a file's bytes to chunks, off the threads that serve requests.

use crate::documents::{Chunk, Cut, Extracted, extract, split};
use crate::error::MemoryError;

/// How files are cut unless someone says otherwise. The embedder reads 256 tokens of its own; with names and rare words
/// those are shorter than the estimate below says.
pub const USUAL_CUT: Cut = Cut::of(180);

/// Bytes of a token, about, in English text. Chunks are cut without the chat model's own counter, so that they are the
/// same whichever model answers.
const TOKEN_BYTES: usize = 4;

/// Extracts a file's text and cuts it; there is at least one chunk. Parsers of foreign formats are slow and may panic:
/// they run on a thread of their own, and a panic is an error about this file.
///
/// # Errors
/// [`MemoryError::UnreadableDocument`] with the file's name and what is wrong with it.
pub async fn read(
    name: &str,
    bytes: impl AsRef<[u8]> + Send + 'static,
    cut: Cut,
) -> Result<(Extracted, Vec<Chunk>), MemoryError> {
    let unreadable = |reason: &str| MemoryError::UnreadableDocument {
        name: name.to_owned(),
        reason: reason.to_owned(),
    };
    let named = name.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let extracted = extract(&named, bytes.as_ref())?;
        let chunks = split(&extracted, cut, &|text: &str| text.len().div_ceil(TOKEN_BYTES));
        Ok::<_, MemoryError>((extracted, chunks))
    });
    let (extracted, chunks) = work
        .await
        .map_err(|_| unreadable("it could not be taken apart; is the file whole?"))??;
    if chunks.is_empty() {
        return Err(unreadable(
            "it has no text; a scanned document needs text recognition first",
        ));
    }
    Ok((extracted, chunks))
}
