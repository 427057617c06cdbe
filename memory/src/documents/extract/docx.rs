//! Word (docx): the paragraphs of the document's body, a section per heading.

use std::io::{Cursor, Read as _};

use quick_xml::Reader;
use quick_xml::events::Event;

use super::{MAX_TEXT, Read};
use crate::documents::Section;

/// Markup takes several times the room of the text.
const MAX_XML: u64 = 8 * MAX_TEXT as u64;

pub(super) fn read(bytes: &[u8]) -> Read {
    let damaged = |what: String| format!("it can't be read as a Word document (docx): {what}");
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged(error.to_string()))?;
    let file = archive
        .by_name("word/document.xml")
        .map_err(|_| damaged("it has no word/document.xml".to_owned()))?;
    let mut xml = String::new();
    // Bounded by what is unpacked, not by what the archive claims.
    file.take(MAX_XML + 1)
        .read_to_string(&mut xml)
        .map_err(|error| damaged(error.to_string()))?;
    if xml.len() as u64 > MAX_XML {
        return Err(format!(
            "it unpacks to more than {} MiB; split the document",
            MAX_XML >> 20
        ));
    }
    sections(&xml).map_err(|error| damaged(error.to_string()))
}

fn sections(xml: &str) -> Result<Vec<Section>, quick_xml::Error> {
    let mut reader = Reader::from_str(xml);
    let mut body = Body::default();
    loop {
        match reader.read_event()? {
            Event::Start(tag) | Event::Empty(tag) => match tag.local_name().as_ref() {
                "p" => body.heading = false,
                "t" => body.in_text = true,
                "tab" => body.paragraph.push('\t'),
                "br" | "cr" => body.paragraph.push('\n'),
                "pStyle" => {
                    let styles = tag.attributes().flatten();
                    body.heading = styles.map(|style| style.value.to_ascii_lowercase()).any(|style| {
                        style.starts_with("heading")
                            || style == "title"
                            || style.starts_with("berschrift")
                            || style.starts_with("titre")
                    });
                }
                _ => {}
            },
            Event::End(tag) => match tag.local_name().as_ref() {
                "t" => body.in_text = false,
                "tc" => body.cell(),
                "tr" => body.text.push('\n'),
                "p" => body.paragraph(),
                _ => {}
            },
            Event::Text(text) if body.in_text => body.paragraph.push_str(&text.xml10_content()),
            Event::GeneralRef(entity) if body.in_text => {
                let resolved = entity.resolve_char_ref()?;
                let named = || match entity.xml10_content().as_ref() {
                    "amp" => Some('&'),
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => None,
                };
                body.paragraph.extend(resolved.or_else(named));
            }
            Event::Eof => return Ok(body.finish()),
            _ => {}
        }
    }
}

#[derive(Default)]
struct Body {
    sections: Vec<Section>,
    locator: String,
    text: String,
    paragraph: String,
    heading: bool,
    in_text: bool,
}

impl Body {
    fn paragraph(&mut self) {
        let paragraph = std::mem::take(&mut self.paragraph);
        if self.heading && !paragraph.trim().is_empty() {
            self.close();
            paragraph.trim().clone_into(&mut self.locator);
        }
        self.text.push_str(&paragraph);
        self.text.push('\n');
    }

    /// A table's cell ends its line only with the row.
    fn cell(&mut self) {
        while self.text.ends_with('\n') {
            self.text.pop();
        }
        self.text.push_str(" | ");
    }

    fn close(&mut self) {
        let text = std::mem::take(&mut self.text);
        self.sections.push(Section {
            locator: self.locator.clone(),
            text,
        });
    }

    fn finish(mut self) -> Vec<Section> {
        self.close();
        self.sections
    }
}
