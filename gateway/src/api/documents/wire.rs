//! The shapes of documents, uploads and searches on the wire.

use habit_memory::documents::{Document, Place};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::api::turns::PassageView;

/// A document.
#[derive(Debug, Serialize, ToSchema)]
pub struct DocumentView {
    /// The document's id.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// Always `document`.
    #[schema(example = "document")]
    pub object: &'static str,
    /// The file's name.
    #[schema(example = "handbook.pdf")]
    pub name: String,
    /// Where it counts: `user`, `team` or `conversation`.
    #[schema(value_type = String, example = "user")]
    pub place: Place,
    /// The one conversation in which it counts, if that is its place.
    pub conversation: Option<String>,
    /// The user who gave it.
    pub user: String,
    /// What its text was read as.
    #[schema(example = "application/pdf")]
    pub media_type: String,
    /// The file's size in bytes.
    pub bytes: u64,
    /// The file's SHA-256.
    pub sha256: String,
    /// Passages that it was cut into.
    pub chunks: u32,
    /// When it was given, in Unix milliseconds.
    pub ingested_at: i64,
}

/// Documents, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DocumentList {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// The documents.
    pub data: Vec<DocumentView>,
}

/// What became of an upload.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ingested {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// The documents that are in memory now.
    pub data: Vec<DocumentView>,
    /// The files that could not be read; the others went in.
    pub errors: Vec<FileError>,
    /// Whether the next question finds them already; large ones take a little longer.
    pub indexed: bool,
}

/// A file that could not be read.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FileError {
    /// The file's name.
    pub name: String,
    /// Why, and what to do.
    pub message: String,
}

/// The form of an upload. Several files may be sent, each in a part of its own.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "only describes the form; the parts are read one by one as they arrive"
)]
pub struct UploadForm {
    /// A file.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// The folder that the files are in, kept as the start of their names.
    #[schema(example = "docs/guide")]
    folder: Option<String>,
    /// Counts in this conversation only.
    conversation: Option<String>,
    /// Counts for everyone in the team.
    team_wide: Option<bool>,
    /// Whether the reply waits until the files can be found (for 20 seconds at most), as it does unless this is false. They are
    /// kept either way.
    wait: Option<bool>,
}

/// Which conversation's documents.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ConversationQuery {
    /// A conversation's id.
    pub conversation: Option<String>,
}

/// Which documents are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// A conversation's id: also its documents.
    pub conversation: Option<String>,
    /// Only those with exactly this name, folders and all.
    pub name: Option<String>,
}

/// What is looked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// The question, or words of it.
    #[schema(example = "How long is the notice period?")]
    pub query: String,
    /// Passages at most, 1 to 50; 5 if it is not given.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Also looks in this conversation's own documents.
    #[serde(default)]
    pub conversation: Option<String>,
}

/// Passages, the best first.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchResults {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// The passages that a turn that asks this could be given.
    pub data: Vec<PassageView>,
}

/// How many documents were deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cleared {
    /// The conversation.
    pub conversation: String,
    /// The ids of the deleted documents.
    #[schema(value_type = Vec<String>)]
    pub deleted: Vec<Uuid>,
}

impl From<Document> for DocumentView {
    fn from(document: Document) -> Self {
        Self {
            id: document.id,
            object: "document",
            name: document.name,
            place: document.place,
            conversation: document.scope.conversation().map(ToOwned::to_owned),
            user: document.scope.user().to_owned(),
            media_type: document.media_type,
            bytes: document.bytes,
            sha256: document.sha256,
            chunks: document.chunks,
            ingested_at: document.ingested_at,
        }
    }
}
