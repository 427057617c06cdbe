//! SQL: a section per table, with the statements about it, so that a question brings in just the tables that it needs.

use std::sync::LazyLock;

use regex::Regex;

use crate::documents::Section;

/// A statement that names its table: the table's name is the first group that matched.
static TABLE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let name = r#"((?:[`"\[]?\w+[`"\]]?\.)*[`"\[]?\w+[`"\]]?)"#;
    let pattern = format!(
        r"(?is)^\s*(?:create\s+(?:or\s+replace\s+)?(?:global\s+|local\s+)?(?:temp(?:orary)?\s+|unlogged\s+|external\s+|foreign\s+)?(?:materialized\s+)?(?:table|view)\s+(?:if\s+not\s+exists\s+)?{name}|alter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?{name}|create\s+(?:unique\s+)?index\b[^;]*?\son\s+{name}|comment\s+on\s+table\s+{name}|insert\s+into\s+{name})"
    );
    Regex::new(&pattern).ok()
});

pub(super) fn read(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for statement in statements(text) {
        let locator = table(&statement).unwrap_or_default();
        match sections.iter_mut().find(|section| section.locator == locator) {
            Some(section) => {
                section.text.push_str("\n\n");
                section.text.push_str(&statement);
            }
            None => sections.push(Section {
                locator,
                text: statement,
            }),
        }
    }
    sections
}

fn table(statement: &str) -> Option<String> {
    let code: String = statement
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect::<Vec<_>>()
        .join("\n");
    let found = TABLE.as_ref()?.captures(&code)?;
    let name = found.iter().skip(1).flatten().next()?.as_str();
    Some(name.chars().filter(|c| !matches!(c, '`' | '"' | '[' | ']')).collect())
}

/// The statements with the comments before them. A semicolon within a string, a comment or a dollar-quoted body ends none.
fn statements(text: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut start = 0;
    let mut until: Option<&str> = None;
    let mut rest = 0;
    while let Some(character) = text[rest..].chars().next() {
        let here = &text[rest..];
        let width = character.len_utf8();
        if let Some(end) = until {
            if here.starts_with(end) {
                rest += end.len();
                until = None;
            } else {
                rest += width;
            }
            continue;
        }
        until = ["--", "/*", "$$", "'"]
            .iter()
            .position(|opening| here.starts_with(opening))
            .map(|which| {
                rest += [2, 2, 2, 1][which];
                ["\n", "*/", "$$", "'"][which]
            });
        if until.is_some() {
            continue;
        }
        rest += width;
        if character == ';' {
            statements.push(text[start..rest].trim().to_owned());
            start = rest;
        }
    }
    statements.push(text[start..].trim().to_owned());
    statements.retain(|statement| !statement.is_empty());
    statements
}
