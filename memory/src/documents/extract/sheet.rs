//! Spreadsheets (xlsx, xlsm, xlsb, xls, ods): each sheet as a table, a row as `column: value; …`.

use std::io::Cursor;

use calamine::{Data, Error, Reader as _, Sheets, open_workbook_from_rs};

use super::{MAX_TEXT, Read, table};

/// Endings that are read as spreadsheets.
pub(super) const ENDINGS: &[&str] = &["xlsx", "xlsm", "xlsb", "xls", "ods"];

pub(super) fn read(ending: &str, bytes: &[u8]) -> Read {
    let mut workbook =
        open(ending, Cursor::new(bytes)).map_err(|error| format!("it can't be read as a spreadsheet: {error}"))?;
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

fn open<'a>(ending: &str, file: Cursor<&'a [u8]>) -> Result<Sheets<Cursor<&'a [u8]>>, Error> {
    Ok(match ending {
        "xls" => Sheets::Xls(open_workbook_from_rs(file).map_err(Error::Xls)?),
        "xlsb" => Sheets::Xlsb(open_workbook_from_rs(file).map_err(Error::Xlsb)?),
        "ods" => Sheets::Ods(open_workbook_from_rs(file).map_err(Error::Ods)?),
        _ => Sheets::Xlsx(open_workbook_from_rs(file).map_err(Error::Xlsx)?),
    })
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
