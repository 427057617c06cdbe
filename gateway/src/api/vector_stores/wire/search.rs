//! The shapes of searches on the wire, and of the fields that the tool `file_search` shares with them.

use habit_memory::vector_stores::{Filter, Found, Search};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::error::ApiError;

/// Results of a search: how many without a number, and at most.
const RESULTS: (usize, usize) = (10, 50);

/// Questions of one search, at most.
const QUERIES: usize = 16;

/// What is looked for in a vector store.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SearchStore {
    /// The question, or several.
    pub query: Queries,
    /// How.
    #[serde(flatten)]
    pub how: SearchFields,
    /// Accepted; questions are searched as they are.
    pub rewrite_query: Option<bool>,
}

/// One question or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Queries {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// How stores are searched: what a search and the tool `file_search` have in common.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct SearchFields {
    /// What files must be like: `{"type": "eq", "key": …, "value": …}` with eq, ne, gt, gte, lt, lte, in or nin; or
    /// `{"type": "and", "filters": […]}` with `and` or `or`.
    #[schema(value_type = Option<Object>)]
    pub filters: Option<Value>,
    /// Results at most, 1 to 50; 10 if absent.
    #[schema(minimum = 1, maximum = 50)]
    pub max_num_results: Option<i64>,
    /// Which results are good enough.
    pub ranking_options: Option<RankingOptions>,
}

/// Which results are good enough.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct RankingOptions {
    /// Accepted; there is one ranker.
    pub ranker: Option<String>,
    /// Results with a lower score are left out, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub score_threshold: Option<f64>,
}

impl SearchFields {
    /// The search, without its queries; `place` stands before the names of its fields.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn read(self, place: &str) -> Result<Search, ApiError> {
        let bad = |field: &str, why: String| {
            let param = format!("{place}{field}");
            ApiError::invalid(format!("`{param}` {why}"), Some(&param))
        };
        let limit = match self.max_num_results {
            None => RESULTS.0,
            Some(number) => usize::try_from(number)
                .ok()
                .filter(|number| (1..=RESULTS.1).contains(number))
                .ok_or_else(|| bad("max_num_results", format!("must be 1 to {}, not {number}", RESULTS.1)))?,
        };
        let threshold = self
            .ranking_options
            .and_then(|options| options.score_threshold)
            .unwrap_or(0.0);
        if !(0.0..=1.0).contains(&threshold) {
            return Err(bad(
                "ranking_options.score_threshold",
                format!("must be 0 to 1, not {threshold}"),
            ));
        }
        let filter = self
            .filters
            .map(|filter| Filter::parse(&filter, &format!("{place}filters")));
        let filter = filter
            .transpose()
            .map_err(|error| ApiError::invalid(error.to_string(), Some(&error.place)))?;
        Ok(Search {
            queries: Vec::new(),
            filter,
            limit,
            threshold: threshold as f32,
        })
    }
}

impl SearchStore {
    /// The search.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn read(self) -> Result<Search, ApiError> {
        let queries = match self.query {
            Queries::One(query) => vec![query],
            Queries::Many(queries) => queries,
        };
        if queries.is_empty() || queries.iter().any(|query| query.trim().is_empty()) {
            return Err(ApiError::invalid("`query` is empty", Some("query")));
        }
        if queries.len() > QUERIES {
            let message = format!("`query` may be a list of {QUERIES}, not {}", queries.len());
            return Err(ApiError::invalid(message, Some("query")));
        }
        Ok(Search {
            queries,
            ..self.how.read("")?
        })
    }
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResultsPage {
    /// Always `vector_store.search_results.page`.
    #[schema(example = "vector_store.search_results.page")]
    pub object: &'static str,
    /// What was looked for.
    pub search_query: Vec<String>,
    /// The chunks, best first.
    pub data: Vec<FoundView>,
    /// Always false.
    pub has_more: bool,
    /// Always null.
    pub next_page: Option<String>,
}

/// A chunk of a file.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FoundView {
    /// The file's id.
    pub file_id: String,
    /// The file's name.
    pub filename: String,
    /// How well it fits, 0 to 1.
    pub score: f32,
    /// The file's attributes.
    #[schema(value_type = Object)]
    pub attributes: Map<String, Value>,
    /// Its text, in one part.
    pub content: Vec<TextPart>,
}

impl From<Found> for FoundView {
    fn from(found: Found) -> Self {
        Self {
            file_id: found.file,
            filename: found.name,
            score: found.score,
            attributes: found.attributes,
            content: vec![TextPart::new(found.chunk.text)],
        }
    }
}

/// Text.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TextPart {
    /// Always `text`.
    #[serde(rename = "type")]
    #[schema(example = "text")]
    pub kind: &'static str,
    /// The text.
    pub text: String,
}

impl TextPart {
    /// This text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self { kind: "text", text }
    }
}
