//! CSV and TSV: every row as `column: value; …`, so that a row still says what its values are when it stands alone.

use crate::documents::Section;

/// Rows in a section: what a citation names.
const ROWS: usize = 20;

pub(super) fn read(text: &str) -> Vec<Section> {
    sections(&rows(text, delimiter(text)))
}

/// The rows of a table, the first of which names its columns.
pub(super) fn sections(rows: &[Vec<String>]) -> Vec<Section> {
    let Some((header, rows)) = rows.split_first() else {
        return Vec::new();
    };
    if rows.is_empty() {
        return vec![Section {
            locator: "columns".to_owned(),
            text: header.join("; "),
        }];
    }
    let sections = rows.chunks(ROWS).enumerate().map(|(place, chunk)| {
        let first = place * ROWS + 1;
        let last = first + chunk.len() - 1;
        let lines: Vec<String> = chunk.iter().map(|row| line(header, row)).collect();
        Section {
            locator: format!("rows {first}-{last}"),
            text: lines.join("\n"),
        }
    });
    sections.collect()
}

fn line(header: &[String], row: &[String]) -> String {
    let cells = row.iter().enumerate().filter(|(_, value)| !value.trim().is_empty());
    let named = cells.map(|(place, value)| match header.get(place).map(|name| name.trim()) {
        Some(name) if !name.is_empty() => format!("{name}: {}", value.trim()),
        _ => value.trim().to_owned(),
    });
    named.collect::<Vec<_>>().join("; ")
}

/// The character that the first line has most of.
fn delimiter(text: &str) -> char {
    let first = text.lines().next().unwrap_or_default();
    let count = |delimiter: &char| first.matches(*delimiter).count();
    [',', ';', '\t', '|'].into_iter().rev().max_by_key(count).unwrap_or(',')
}

/// Rows as RFC 4180 defines them: quoted values may hold delimiters, line ends and doubled quotes.
fn rows(text: &str, delimiter: char) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut value) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                value.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if value.is_empty() => quoted = true,
            '\n' if !quoted => {
                row.push(std::mem::take(&mut value));
                rows.push(std::mem::take(&mut row));
            }
            '\r' if !quoted => {}
            other if other == delimiter && !quoted => row.push(std::mem::take(&mut value)),
            other => value.push(other),
        }
    }
    row.push(value);
    rows.push(row);
    rows.retain(|row| row.iter().any(|value| !value.trim().is_empty()));
    rows
}
