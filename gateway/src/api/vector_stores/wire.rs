//! The shapes of vector stores on the wire: OpenAI's, checked and translated here. Those of their files are in
//! `attached`, those of searches in `search`.

use habit_memory::documents::Cut;
use habit_memory::vector_stores::{Changes, Counts, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::error::ApiError;

mod attached;
mod search;

pub use attached::{
    AttachFile, AttachFiles, AttachedQuery, AttachedView, BatchView, ContentPage, LastError, SetAttributes, StatusName,
};
pub use search::{FoundView, Queries, RankingOptions, ResultsPage, SearchFields, SearchStore, TextPart};

/// Pairs of metadata or attributes, and the letters of a name and of a text among them, at most.
const PAIRS: usize = 16;
const KEY_LETTERS: usize = 64;
const VALUE_LETTERS: usize = 512;

/// Files that a request may name.
const FILES: usize = 500;

/// Tokens of a chunk.
const CHUNK_TOKENS: std::ops::RangeInclusive<usize> = 100..=4096;

/// Days that a store may live unused.
const DAYS: std::ops::RangeInclusive<i64> = 1..=365;

/// When a store goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExpiresAfter {
    /// `last_active_at`, the only one there is.
    #[schema(example = "last_active_at")]
    pub anchor: String,
    /// Days after that, 1 to 365.
    #[schema(minimum = 1, maximum = 365)]
    pub days: i64,
}

/// How files are cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Chunking {
    /// `auto` or `static`.
    #[serde(rename = "type")]
    #[schema(example = "static")]
    pub kind: String,
    /// With `static`: how.
    #[serde(rename = "static", skip_serializing_if = "Option::is_none")]
    pub fixed: Option<StaticChunking>,
}

/// How large chunks are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StaticChunking {
    /// Tokens of a chunk, 100 to 4096. The embedder reads the first 256: larger chunks are found by their words and
    /// their beginning.
    #[schema(minimum = 100, maximum = 4096)]
    pub max_chunk_size_tokens: usize,
    /// Tokens that a chunk repeats of the one before it, at most half of its size.
    pub chunk_overlap_tokens: usize,
}

impl Chunking {
    fn read(chunking: Option<Self>, place: &str) -> Result<Option<Cut>, ApiError> {
        let Some(Self { kind, fixed }) = chunking else {
            return Ok(None);
        };
        let bad = |part: &str, why: String| {
            let param = format!("{place}{part}");
            ApiError::invalid(format!("`{param}` {why}"), Some(&param))
        };
        match (kind.as_str(), fixed) {
            ("auto", _) => Ok(None),
            ("static", Some(fixed)) => {
                let (max_tokens, overlap) = (fixed.max_chunk_size_tokens, fixed.chunk_overlap_tokens);
                if !CHUNK_TOKENS.contains(&max_tokens) {
                    let why = format!("must be {} to {}", CHUNK_TOKENS.start(), CHUNK_TOKENS.end());
                    return Err(bad(".static.max_chunk_size_tokens", why));
                }
                if overlap > max_tokens / 2 {
                    let why = "must be at most half of `max_chunk_size_tokens`".to_owned();
                    return Err(bad(".static.chunk_overlap_tokens", why));
                }
                Ok(Some(Cut { max_tokens, overlap }))
            }
            ("static", None) => Err(bad(".static", "is missing".to_owned())),
            (kind, _) => Err(bad(".type", format!("must be auto or static, not `{kind}`"))),
        }
    }
}

impl From<Cut> for Chunking {
    fn from(cut: Cut) -> Self {
        Self {
            kind: "static".to_owned(),
            fixed: Some(StaticChunking {
                max_chunk_size_tokens: cut.max_tokens,
                chunk_overlap_tokens: cut.overlap,
            }),
        }
    }
}

/// What a new vector store is to be.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct CreateStore {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Files that it is to have, 500 at most.
    pub file_ids: Option<Vec<String>>,
    /// When it goes; never if absent.
    pub expires_after: Option<ExpiresAfter>,
    /// How its first files are cut; `auto` if absent.
    pub chunking_strategy: Option<Chunking>,
    /// Up to 16 pairs, texts of up to 512 letters.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
}

impl CreateStore {
    /// What the store is to be, its files, and how they are cut.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn read(self) -> Result<(Changes, Vec<String>, Option<Cut>), ApiError> {
        let cut = Chunking::read(self.chunking_strategy, "chunking_strategy")?;
        let ids = file_ids(self.file_ids.unwrap_or_default())?;
        let update = UpdateStore {
            name: self.name,
            description: self.description,
            expires_after: self.expires_after,
            metadata: self.metadata,
        };
        Ok((update.read()?, ids, cut))
    }
}

fn file_ids(ids: Vec<String>) -> Result<Vec<String>, ApiError> {
    if ids.len() > FILES {
        let message = format!("`file_ids` has {} files; send {FILES} at a time", ids.len());
        return Err(ApiError::invalid(message, Some("file_ids")));
    }
    Ok(ids)
}

/// What changes about a vector store; what is absent or null stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct UpdateStore {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// When it goes.
    pub expires_after: Option<ExpiresAfter>,
    /// Up to 16 pairs, texts of up to 512 letters.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
}

impl UpdateStore {
    /// What changes.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn read(self) -> Result<Changes, ApiError> {
        for (field, text) in [("name", &self.name), ("description", &self.description)] {
            if text.as_ref().is_some_and(|text| text.chars().count() > VALUE_LETTERS) {
                let message = format!("`{field}` may have {VALUE_LETTERS} letters");
                return Err(ApiError::invalid(message, Some(field)));
            }
        }
        if let Some(metadata) = &self.metadata {
            check_pairs(metadata, "metadata", Value::is_string, "a string")?;
        }
        let expires_after_days = self.expires_after.map(|after| {
            if after.anchor != "last_active_at" {
                let param = "expires_after.anchor";
                return Err(ApiError::invalid(
                    format!("`{param}` must be last_active_at"),
                    Some(param),
                ));
            }
            let days = u32::try_from(after.days).ok().filter(|_| DAYS.contains(&after.days));
            let param = "expires_after.days";
            let message = format!("`{param}` must be {} to {}", DAYS.start(), DAYS.end());
            days.ok_or_else(|| ApiError::invalid(message, Some(param)))
        });
        Ok(Changes {
            name: self.name,
            description: self.description,
            metadata: self.metadata,
            expires_after_days: expires_after_days.transpose()?,
        })
    }
}

fn check_pairs(
    pairs: &Map<String, Value>,
    field: &str,
    fits: impl Fn(&Value) -> bool,
    what: &str,
) -> Result<(), ApiError> {
    let bad = |message: String| Err(ApiError::invalid(message, Some(field)));
    if pairs.len() > PAIRS {
        return bad(format!("`{field}` may have {PAIRS} pairs, not {}", pairs.len()));
    }
    for (key, value) in pairs {
        if key.chars().count() > KEY_LETTERS {
            return bad(format!("a name in `{field}` may have {KEY_LETTERS} letters"));
        }
        let too_long = value.as_str().is_some_and(|text| text.chars().count() > VALUE_LETTERS);
        if !fits(value) || too_long {
            return bad(format!(
                "`{field}.{key}` must be {what}, with {VALUE_LETTERS} letters at most"
            ));
        }
    }
    Ok(())
}

fn attributes(given: Option<Map<String, Value>>, field: &str) -> Result<Map<String, Value>, ApiError> {
    let given = given.unwrap_or_default();
    let plain = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    check_pairs(&given, field, plain, "a string, a number or a boolean")?;
    Ok(given)
}

/// A vector store.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoreView {
    /// `vs_…`.
    #[schema(example = "vs_0199f3c2a7e07b4c9d1e2f3a4b5c6d7e")]
    pub id: String,
    /// Always `vector_store`.
    #[schema(example = "vector_store")]
    pub object: &'static str,
    /// Unix seconds.
    pub created_at: i64,
    /// Its name; empty if it has none.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Bytes of text that can be searched.
    pub usage_bytes: u64,
    /// Its files.
    pub file_counts: CountsView,
    /// `completed`, or `in_progress` while files are being read.
    #[schema(example = "completed")]
    pub status: &'static str,
    /// When it goes.
    pub expires_after: Option<ExpiresAfter>,
    /// That in Unix seconds.
    pub expires_at: Option<i64>,
    /// Unix seconds.
    pub last_active_at: i64,
    /// Whatever its owner keeps with it.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
}

/// How many files are in which state.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountsView {
    /// Being read.
    pub in_progress: usize,
    /// Can be searched.
    pub completed: usize,
    /// Could not be read.
    pub failed: usize,
    /// Stopped.
    pub cancelled: usize,
    /// All.
    pub total: usize,
}

impl From<Counts> for CountsView {
    fn from(counts: Counts) -> Self {
        Self {
            in_progress: counts.in_progress,
            completed: counts.completed,
            failed: counts.failed,
            cancelled: counts.cancelled,
            total: counts.total,
        }
    }
}

impl StoreView {
    /// A store with the state of its files.
    #[must_use]
    pub fn new(store: Store, counts: Counts) -> Self {
        let expires_after = store.expires_after_days.map(|days| ExpiresAfter {
            anchor: "last_active_at".to_owned(),
            days: i64::from(days),
        });
        Self {
            object: "vector_store",
            created_at: store.created_at.div_euclid(1000),
            usage_bytes: counts.usage_bytes,
            status: if counts.in_progress > 0 {
                "in_progress"
            } else {
                "completed"
            },
            file_counts: counts.into(),
            expires_after,
            expires_at: store.expires_at().map(|at| at.div_euclid(1000)),
            last_active_at: store.last_active_at.div_euclid(1000),
            id: store.id,
            name: store.name.unwrap_or_default(),
            description: store.description,
            metadata: store.metadata,
        }
    }
}
