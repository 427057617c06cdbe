//! The shapes of a store's files and batches on the wire.

use habit_memory::vector_stores::{Attached, Batch, BatchStatus, Counts, NewFile, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{Chunking, CountsView, FILES, TextPart, attributes, file_ids};
use crate::api::error::ApiError;
use crate::api::listing::{ListOrder, ListQuery};

/// A file that is to go into a vector store.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AttachFile {
    /// The file's id.
    pub file_id: String,
    /// What filters go by: up to 16 pairs of strings, numbers and booleans.
    #[schema(value_type = Option<Object>)]
    pub attributes: Option<Map<String, Value>>,
    /// How it is cut; `auto` if absent.
    pub chunking_strategy: Option<Chunking>,
}

impl AttachFile {
    /// Checks it; `place` stands before the names of its fields.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn read(self, place: &str) -> Result<NewFile, ApiError> {
        Ok(NewFile {
            file: self.file_id,
            attributes: attributes(self.attributes, &format!("{place}attributes"))?,
            cut: Chunking::read(self.chunking_strategy, &format!("{place}chunking_strategy"))?,
        })
    }
}

/// Files that are to go into a vector store: `file_ids` with the rest for all of them, or `files`, each with its own.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AttachFiles {
    /// The files' ids, 500 at most.
    pub file_ids: Option<Vec<String>>,
    /// The files, 500 at most.
    pub files: Option<Vec<AttachFile>>,
    /// What filters go by.
    #[schema(value_type = Option<Object>)]
    pub attributes: Option<Map<String, Value>>,
    /// How they are cut; `auto` if absent.
    pub chunking_strategy: Option<Chunking>,
}

impl AttachFiles {
    /// The files.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn read(self) -> Result<Vec<NewFile>, ApiError> {
        let cut = Chunking::read(self.chunking_strategy, "chunking_strategy")?;
        let attributes = attributes(self.attributes, "attributes")?;
        let files = match (self.file_ids.filter(|ids| !ids.is_empty()), self.files) {
            (Some(ids), None) => {
                let files = file_ids(ids)?.into_iter().map(|file| NewFile {
                    file,
                    attributes: attributes.clone(),
                    cut,
                });
                files.collect()
            }
            (None, Some(files)) if !files.is_empty() && files.len() <= FILES => {
                let files = files.into_iter().enumerate();
                let files = files.map(|(at, file)| file.read(&format!("files[{at}].")));
                files.collect::<Result<Vec<_>, _>>()?
            }
            _ => {
                let message = format!("name 1 to {FILES} files, in `file_ids` or in `files`");
                return Err(ApiError::invalid(message, Some("file_ids")));
            }
        };
        Ok(files)
    }
}

/// New attributes of a file.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SetAttributes {
    /// What filters go by, in place of the old: up to 16 pairs of strings, numbers and booleans.
    #[schema(value_type = Object)]
    pub attributes: Option<Map<String, Value>>,
}

impl SetAttributes {
    /// The attributes.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn read(self) -> Result<Map<String, Value>, ApiError> {
        attributes(self.attributes, "attributes")
    }
}

/// Which files of a store.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AttachedQuery {
    /// At most so many, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u64>,
    /// By when they came: newest first unless it says so.
    #[param(inline)]
    pub order: Option<ListOrder>,
    /// Only what comes after the file with this id.
    pub after: Option<String>,
    /// Only what comes before the file with this id.
    pub before: Option<String>,
    /// Only those in this state.
    #[param(inline)]
    pub filter: Option<StatusName>,
}

/// A file's state.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatusName {
    /// Being read.
    InProgress,
    /// Can be searched.
    Completed,
    /// Could not be read.
    Failed,
    /// Stopped.
    Cancelled,
}

impl AttachedQuery {
    /// The state that is asked for, and the part of the listing.
    #[must_use]
    pub fn read(self) -> (Option<Status>, ListQuery) {
        let status = self.filter.map(|filter| match filter {
            StatusName::InProgress => Status::InProgress,
            StatusName::Completed => Status::Completed,
            StatusName::Failed => Status::Failed,
            StatusName::Cancelled => Status::Cancelled,
        });
        let part = ListQuery {
            limit: self.limit,
            order: self.order,
            after: self.after,
            before: self.before,
        };
        (status, part)
    }
}

/// A file of a vector store.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttachedView {
    /// The file's id.
    pub id: String,
    /// Always `vector_store.file`.
    #[schema(example = "vector_store.file")]
    pub object: &'static str,
    /// Bytes of its text.
    pub usage_bytes: u64,
    /// Unix seconds.
    pub created_at: i64,
    /// The store's id.
    pub vector_store_id: String,
    /// `in_progress`, `completed`, `failed` or `cancelled`.
    #[schema(value_type = String, example = "completed")]
    pub status: Status,
    /// Why it failed.
    pub last_error: Option<LastError>,
    /// How it is cut.
    pub chunking_strategy: Chunking,
    /// What filters go by.
    #[schema(value_type = Object)]
    pub attributes: Map<String, Value>,
}

/// Why a file could not be read.
#[derive(Debug, Serialize, ToSchema)]
pub struct LastError {
    /// `invalid_file` or `server_error`.
    #[schema(example = "invalid_file")]
    pub code: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl From<Attached> for AttachedView {
    fn from(attached: Attached) -> Self {
        Self {
            id: attached.file,
            object: "vector_store.file",
            usage_bytes: attached.usage_bytes,
            created_at: attached.created_at.div_euclid(1000),
            vector_store_id: attached.store,
            status: attached.status,
            last_error: attached.trouble.map(|trouble| LastError {
                code: trouble.code,
                message: trouble.message,
            }),
            chunking_strategy: attached.cut.into(),
            attributes: attached.attributes,
        }
    }
}

/// A batch of files.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchView {
    /// `vsfb_…`.
    pub id: String,
    /// Always `vector_store.files_batch`.
    #[schema(example = "vector_store.files_batch")]
    pub object: &'static str,
    /// Unix seconds.
    pub created_at: i64,
    /// The store's id.
    pub vector_store_id: String,
    /// `in_progress`, `completed` or `cancelled`.
    #[schema(value_type = String, example = "completed")]
    pub status: BatchStatus,
    /// Its files.
    pub file_counts: CountsView,
}

impl BatchView {
    /// A batch with the state of its files.
    #[must_use]
    pub fn new(batch: Batch, counts: Counts) -> Self {
        Self {
            object: "vector_store.files_batch",
            created_at: batch.created_at.div_euclid(1000),
            status: batch.status(&counts),
            file_counts: counts.into(),
            id: batch.id,
            vector_store_id: batch.store,
        }
    }
}

/// The text of a file.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContentPage {
    /// Always `vector_store.file_content.page`.
    #[schema(example = "vector_store.file_content.page")]
    pub object: &'static str,
    /// The file's id.
    pub file_id: String,
    /// The file's name.
    pub filename: String,
    /// The file's attributes.
    #[schema(value_type = Object)]
    pub attributes: Map<String, Value>,
    /// Its sections.
    pub data: Vec<TextPart>,
    /// Always false.
    pub has_more: bool,
    /// Always null.
    pub next_page: Option<String>,
}
