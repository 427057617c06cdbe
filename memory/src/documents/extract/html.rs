//! HTML: rendered to text as a text browser does; headings become sections.

use super::{Read, markdown};

/// Columns of the rendering: wide, so that lines are not broken within sentences.
const WIDTH: usize = 10_000;

pub(super) fn read(text: &str) -> Read {
    // The plain decorator marks headings with `#`, so that the sections of Markdown are those of the page. Raw tables:
    // no borders drawn at a width of thousands of columns.
    let rendered = html2text::config::plain()
        .raw_mode(true)
        .no_link_wrapping()
        .link_footnotes(false)
        .string_from_read(text.as_bytes(), WIDTH)
        .map_err(|error| format!("it can't be read as HTML: {error}"))?;
    Ok(markdown::read(&rendered))
}
