//! From an uploaded file to passages in the journal.

use axum::extract::Multipart;
use axum::extract::multipart::MultipartError;
use bytes::Bytes;
use habit_memory::documents::{Document, Place, USUAL_CUT, read};
use habit_memory::index::Removal;
use habit_memory::{MemoryError, Scope};
use http::StatusCode;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::api::error::ApiError;
use crate::app::MemoryParts;

/// Letters of a file's name that are kept.
const NAME_LIMIT: usize = 255;

/// An upload, as it was sent.
pub struct Upload {
    /// Where the documents count.
    pub place: Place,
    /// The conversation, if that is their place.
    pub conversation: Option<String>,
    /// Whether the reply waits until they can be found.
    pub wait: bool,
    /// The files; at least one.
    pub files: Vec<File>,
}

/// One file of an upload.
pub struct File {
    /// Its name, without folders.
    pub name: String,
    /// What it holds.
    pub bytes: Bytes,
}

/// Reads all parts of the form: the fields may come after the files.
///
/// # Errors
/// 400 for a form that contradicts itself or has no file, 413 for one that is too large.
pub async fn read_form(mut form: Multipart) -> Result<Upload, ApiError> {
    let (mut conversation, mut team_wide, mut wait) = (None, false, true);
    let mut files = Vec::<File>::new();
    let mut folder = String::new();
    while let Some(part) = form.next_field().await.map_err(|error| refused(&error))? {
        let field = part.name().unwrap_or_default().to_owned();
        if let Some(name) = part.file_name().map(ToOwned::to_owned) {
            let bytes = part.bytes().await.map_err(|error| refused(&error))?;
            files.push(File {
                name: base_name(&name),
                bytes,
            });
            continue;
        }
        let text = part.text().await.map_err(|error| refused(&error))?;
        let text = text.trim();
        match field.as_str() {
            "conversation" => conversation = (!text.is_empty()).then(|| text.to_owned()),
            "team_wide" => team_wide = read_bool("team_wide", text)?,
            "wait" => wait = read_bool("wait", text)?,
            "folder" => folder = read_folder(text)?,
            "file" | "files" | "file[]" | "files[]" => {
                let message = "a file's part has no file name; with curl write -F file=@PATH";
                return Err(ApiError::invalid(message, Some("file")));
            }
            other => {
                let message = format!(
                    "there is no field `{other}`; there are `file`, `folder`, `conversation`, `team_wide` and `wait`"
                );
                return Err(ApiError::invalid(message, Some(other)));
            }
        }
    }
    if files.is_empty() {
        return Err(ApiError::invalid(
            "the form has no file; with curl write -F file=@PATH",
            Some("file"),
        ));
    }
    if !folder.is_empty() {
        for file in &mut files {
            file.name = format!("{folder}/{}", file.name);
        }
    }
    let place = match (&conversation, team_wide) {
        (Some(_), true) => {
            let message = "a document is for one conversation or for the whole team, not both";
            return Err(ApiError::invalid(message, Some("team_wide")));
        }
        (Some(_), false) => Place::Conversation,
        (None, true) => Place::Team,
        (None, false) => Place::User,
    };
    Ok(Upload {
        place,
        conversation,
        wait,
        files,
    })
}

/// Whether an error is the file's fault, so that others may still go in.
#[must_use]
pub fn is_about_the_file(error: &MemoryError) -> bool {
    matches!(
        error,
        MemoryError::UnreadableDocument { .. } | MemoryError::BadRequest(_)
    )
}

/// Reads, cuts and records one file; the index follows by itself. What it replaces is gone from the index at once.
///
/// # Errors
/// [`MemoryError`]; nothing of the file is kept then.
pub async fn ingest(
    memory: &MemoryParts,
    scope: &Scope,
    place: Place,
    file: File,
    now_ms: i64,
) -> Result<Document, MemoryError> {
    let (bytes, sha256) = (file.bytes.len() as u64, hex::encode(Sha256::digest(&file.bytes)));
    let File { name, bytes: content } = file;
    let (extracted, chunks) = read(&name, content, USUAL_CUT).await?;
    let document = Document {
        id: Uuid::now_v7(),
        scope: scope.clone(),
        place,
        name,
        media_type: extracted.media_type,
        bytes,
        sha256,
        chunks: u32::try_from(chunks.len()).unwrap_or(u32::MAX),
        ingested_at: now_ms,
    };
    let replaced = memory.journal.add_document(document.clone(), chunks).await?;
    if !replaced.is_empty() {
        memory
            .index
            .remove(Removal::Parents {
                team: scope.team().to_owned(),
                parents: replaced,
            })
            .await?;
    }
    Ok(document)
}

/// A file's name without folders or control characters: it is shown, and never used as a path.
pub(crate) fn base_name(name: &str) -> String {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let base: String = base.chars().filter(|c| !c.is_control()).take(NAME_LIMIT).collect();
    if matches!(base.trim(), "" | "." | "..") {
        "unnamed".to_owned()
    } else {
        base
    }
}

/// The folder that a form's files are in, as the start of their names: files of one name in different folders are
/// different documents. As names, it is shown and never used as a path.
fn read_folder(text: &str) -> Result<String, ApiError> {
    let parts: Vec<&str> = text.split(['/', '\\']).filter(|part| !part.is_empty()).collect();
    let odd = |part: &&str| matches!(part.trim(), "" | "." | "..") || part.chars().any(char::is_control);
    let folder = parts.join("/");
    if parts.iter().any(odd) || folder.chars().count() > 4 * NAME_LIMIT {
        let message = "`folder` must be a relative path such as docs/guide";
        return Err(ApiError::invalid(message, Some("folder")));
    }
    Ok(folder)
}

fn read_bool(field: &'static str, text: &str) -> Result<bool, ApiError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "" | "false" | "0" | "off" | "no" => Ok(false),
        _ => Err(ApiError::invalid(
            format!("`{field}` must be true or false"),
            Some(field),
        )),
    }
}

pub(crate) fn refused(error: &MultipartError) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::too_large(None);
    }
    ApiError::invalid(format!("the form can't be read: {}", error.body_text()), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_folders() {
        for (given, wanted) in [
            ("notes.md", "notes.md"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\me\\a b.txt", "a b.txt"),
            ("..", "unnamed"),
            ("", "unnamed"),
            ("a\nb.txt", "ab.txt"),
        ] {
            assert_eq!(base_name(given), wanted);
        }
    }
}
