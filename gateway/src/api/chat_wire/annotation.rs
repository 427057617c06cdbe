//! What a reply's text rests on. Chat completions have no annotations of files at OpenAI: these are those of the Responses
//! API, with the file also where chat completions put such things.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::file_search::Cited;

/// That something of a file was put before the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Annotation {
    /// Always `file_citation`.
    #[serde(rename = "type")]
    #[schema(example = "file_citation")]
    pub kind: &'static str,
    /// The file's id.
    pub file_id: String,
    /// The file's name.
    pub filename: String,
    /// Where in the text, in characters: its end.
    pub index: usize,
    /// The file once more, beside `type`.
    pub file_citation: CitedFile,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CitedFile {
    /// Its id.
    pub file_id: String,
    /// Its name.
    pub filename: String,
}

impl Annotation {
    /// The annotations of a text of so many characters; none of a text that says nothing.
    #[must_use]
    pub fn all(cited: &[Cited], characters: usize) -> Vec<Self> {
        let one = |Cited { file, name }: &Cited| Self {
            kind: "file_citation",
            file_id: file.clone(),
            filename: name.clone(),
            index: characters,
            file_citation: CitedFile {
                file_id: file.clone(),
                filename: name.clone(),
            },
        };
        cited.iter().filter(|_| characters > 0).map(one).collect()
    }
}
