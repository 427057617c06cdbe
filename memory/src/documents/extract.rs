//! From a file to its text. One file per family of formats in `extract/`; which one reads a file is decided here, by
//! the ending of its name and, where that says nothing, by its first bytes.
//!
//! This is plain computing that may take seconds for a large file: call it from a blocking thread.

use crate::documents::{Extracted, Section};
use crate::error::MemoryError;

mod code;
mod decode;
mod docx;
mod html;
mod markdown;
mod pdf;
mod sheet;
mod sql;
mod table;

/// Text that one document may have, in bytes: a few thousand pages. More is a mistake or an attack, such as a small
/// archive that unpacks to gigabytes.
const MAX_TEXT: usize = 32 << 20;

/// What can be read, for messages.
const KINDS: &str = "text (txt, log, rst), Markdown, HTML, PDF, Word (docx), spreadsheets (xlsx, xls, ods), CSV and TSV, JSON, YAML, TOML, XML, SQL, and source code";

/// Endings that are read as source code, split at its definitions.
const CODE: &[&str] = &[
    "rs", "py", "js", "mjs", "jsx", "ts", "tsx", "java", "kt", "kts", "scala", "go", "c", "h", "cc", "cpp", "cxx",
    "hpp", "cs", "swift", "rb", "php", "pl", "lua", "r", "jl", "hs", "ml", "ex", "exs", "erl", "clj", "dart", "zig",
    "sh", "bash", "zsh", "fish", "ps1", "vue", "svelte", "proto", "tf", "cmake", "gradle", "nix", "css", "scss",
];

/// What a reader of one format gives: sections, or why there are none.
type Read = Result<Vec<Section>, String>;

/// The text of a file, in sections that a citation can name.
///
/// # Errors
/// [`MemoryError::UnreadableDocument`] with the file's name, what is wrong, and what can be read instead.
pub fn extract(name: &str, bytes: &[u8]) -> Result<Extracted, MemoryError> {
    let unreadable = |reason: String| MemoryError::UnreadableDocument {
        name: name.to_owned(),
        reason,
    };
    if bytes.is_empty() {
        return Err(unreadable("the file is empty".to_owned()));
    }
    let (media_type, sections) = read(name, bytes);
    let sections = sections.map_err(unreadable)?;
    let sections: Vec<Section> = sections.iter().filter_map(tidied).collect();
    if sections.is_empty() {
        return Err(unreadable(match media_type {
            "application/pdf" => {
                "it has no text, only images of pages; run it through text recognition (OCR) first".to_owned()
            }
            _ => "there is no text in it".to_owned(),
        }));
    }
    if sections.iter().map(|section| section.text.len()).sum::<usize>() > MAX_TEXT {
        return Err(unreadable(format!(
            "its text is larger than {} MiB; split the file",
            MAX_TEXT >> 20
        )));
    }
    Ok(Extracted {
        media_type: media_type.to_owned(),
        sections,
    })
}

fn read(name: &str, bytes: &[u8]) -> (&'static str, Read) {
    let ending = name
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase())
        .unwrap_or_default();
    if bytes.starts_with(b"%PDF-") || ending == "pdf" {
        return ("application/pdf", pdf::read(bytes));
    }
    if ending == "docx" {
        return (
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            docx::read(bytes),
        );
    }
    if sheet::ENDINGS.contains(&ending.as_str()) {
        return (
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            sheet::read(&ending, bytes),
        );
    }
    let Some(text) = decode::text(bytes) else {
        let reason = format!("it is not text, and its format is not known here; what can be read: {KINDS}");
        return ("application/octet-stream", Err(reason));
    };
    match ending.as_str() {
        "md" | "markdown" | "mdx" => ("text/markdown", Ok(markdown::read(&text))),
        "html" | "htm" | "xhtml" => ("text/html", html::read(&text)),
        "csv" => ("text/csv", Ok(table::read(&text))),
        "tsv" | "tab" => ("text/tab-separated-values", Ok(table::read(&text))),
        "sql" | "ddl" => ("application/sql", Ok(sql::read(&text))),
        "json" | "jsonl" | "ndjson" => ("application/json", Ok(whole(text))),
        "yaml" | "yml" => ("application/yaml", Ok(whole(text))),
        "toml" => ("application/toml", Ok(whole(text))),
        "xml" => ("application/xml", Ok(whole(text))),
        ending if CODE.contains(&ending) => ("text/x-source", Ok(code::read(&text))),
        "" | "txt" | "text" | "log" | "rst" => {
            let start = text.trim_start().get(..15).unwrap_or_default().to_ascii_lowercase();
            let is_html = start.starts_with("<!doctype html") || start.starts_with("<html");
            if is_html {
                ("text/html", html::read(&text))
            } else {
                ("text/plain", Ok(whole(text)))
            }
        }
        _ => ("text/plain", Ok(whole(text))),
    }
}

/// A text as one section without a locator.
fn whole(text: String) -> Vec<Section> {
    vec![Section {
        locator: String::new(),
        text,
    }]
}

/// A section without control characters, trailing blanks or runs of empty lines; `None` if nothing is left.
fn tidied(section: &Section) -> Option<Section> {
    let mut text = String::with_capacity(section.text.len());
    let mut empty_lines = 0;
    for line in section.text.lines() {
        let line: String = line.chars().filter(|c| *c == '\t' || !c.is_control()).collect();
        let line = line.trim_end();
        empty_lines = if line.is_empty() { empty_lines + 1 } else { 0 };
        if empty_lines <= 1 {
            text.push_str(line);
            text.push('\n');
        }
    }
    let text = text.trim_matches('\n');
    (!text.trim().is_empty()).then(|| Section {
        locator: section.locator.trim().to_owned(),
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests;
