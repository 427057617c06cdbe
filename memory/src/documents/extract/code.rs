//! Source code: a section per top-level definition, as far as its lines tell without a parser of the language: a line
//! that starts at the margin after an empty one begins a new block, and is named by the definition that it holds.

use std::sync::LazyLock;

use regex::Regex;

use crate::documents::Section;

/// A line that defines something, with its name.
static DEFINITION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^(?:export\s+|default\s+|pub(?:\([^)]*\))?\s+|public\s+|private\s+|protected\s+|internal\s+|static\s+|abstract\s+|final\s+|async\s+|unsafe\s+|const\s+|data\s+|sealed\s+)*(?:fn|def|class|struct|enum|trait|interface|impl|type|mod|module|func|function|object|namespace|record|message|service|macro_rules!)\s+(?:\([^)]*\)\s*)?(?:<[^>]*>\s*)?([A-Za-z_]\w*(?:(?:::|\.)\w+)*)",
    )
    .ok()
});

/// Characters from which on a block is closed when the next begins; smaller ones are kept together.
const SMALL: usize = 200;

pub(super) fn read(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut block = Section {
        locator: String::new(),
        text: String::new(),
    };
    let mut after_empty = true;
    for line in text.lines() {
        let at_margin = line.starts_with(|c: char| !c.is_whitespace() && !matches!(c, '}' | ')' | ']'));
        let name = if at_margin { definition(line) } else { None };
        let large = block.text.len() >= SMALL;
        // A new definition after a finished one starts a section; other code at the margin does once the block is large.
        let begins = at_margin && after_empty && (large || (!block.locator.is_empty() && name.is_some()));
        if begins {
            let next = Section {
                locator: String::new(),
                text: String::new(),
            };
            sections.push(std::mem::replace(&mut block, next));
        }
        if block.locator.is_empty() {
            block.locator = name.unwrap_or_default();
        }
        block.text.push_str(line);
        block.text.push('\n');
        after_empty = line.trim().is_empty();
    }
    sections.push(block);
    sections
}

fn definition(line: &str) -> Option<String> {
    Some(DEFINITION.as_ref()?.captures(line)?.get(1)?.as_str().to_owned())
}
