//! Spreadsheets (xlsx, xlsm, xlsb, xls, ods): each sheet as a table, a row as `column: value; …`.

use std::io::Cursor;

use calamine::{Data, Reader as _, open_workbook_auto_from_rs};

use super::{MAX_TEXT, Read, table};

/// Endings that are read as spreadsheets.
pub(super) const ENDINGS: &[&str] = &["xlsx", "xlsm", "xlsb", "xls", "ods"];

pub(super) fn read(bytes: &[u8]) -> Read {
    let damaged = |what: String| format!("it can't be read as a spreadsheet: {what}");
    let mut workbook = open_workbook_auto_from_rs(Cursor::new(bytes)).map_err(|error| damaged(error.to_string()))?;
    let (mut sections, mut size) = (Vec::new(), 0);
    for name in workbook.sheet_names() {
        // Charts and macros are sheets without cells.
        let Ok(range) = workbook.worksheet_range(&name) else {
            continue;
        };
        let rows = range.rows().map(|row| row.iter().map(cell).collect::<Vec<_>>());
        let rows: Vec<_> = rows
            .filter(|row| row.iter().any(|value| !value.trim().is_empty()))
            .collect();
        size += rows.iter().flatten().map(String::len).sum::<usize>();
        if size > MAX_TEXT {
            // Checked by sheet: what a small file unpacks to must not fill memory.
            return Err(format!(
                "its text is larger than {} MiB; split the file",
                MAX_TEXT >> 20
            ));
        }
        sections.extend(table::sections(&rows).into_iter().map(|mut section| {
            section.locator = format!("{name}, {}", section.locator);
            section
        }));
    }
    Ok(sections)
}

/// A cell as it is read: whole numbers without `.0`, dates as ISO 8601.
fn cell(data: &Data) -> String {
    match data {
        Data::Empty => String::new(),
        Data::DateTime(moment) if moment.is_datetime() => {
            let (year, month, day, hour, minute, second, _) = moment.to_ymd_hms_milli();
            if (hour, minute, second) == (0, 0, 0) {
                format!("{year:04}-{month:02}-{day:02}")
            } else {
                format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
            }
        }
        other => other.to_string(),
    }
}
