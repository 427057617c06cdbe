//! Each format by a small file of its kind, and files that can't be read.

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use super::*;

fn sections(name: &str, bytes: &[u8]) -> Vec<(String, String)> {
    let extracted = extract(name, bytes).expect("it can be read");
    extracted
        .sections
        .into_iter()
        .map(|section| (section.locator, section.text))
        .collect()
}

fn refused(name: &str, bytes: &[u8]) -> String {
    let error = extract(name, bytes).expect_err("it can't be read");
    assert!(matches!(&error, MemoryError::UnreadableDocument { name: named, .. } if named == name));
    error.to_string()
}

/// A PDF with a page for each text.
fn pdf(pages: &[&str]) -> Vec<u8> {
    let kids: Vec<String> = (0..pages.len()).map(|n| format!("{} 0 R", 4 + 2 * n)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), pages.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    for (n, text) in pages.iter().enumerate() {
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {} 0 R /Resources << /Font << /F1 3 0 R >> >> >>",
            5 + 2 * n
        ));
        let stream = format!("BT /F1 12 Tf 72 700 Td ({text}) Tj ET");
        objects.push(format!("<< /Length {} >>\nstream\n{stream}\nendstream", stream.len()));
    }
    let mut file = "%PDF-1.4\n".to_owned();
    let mut places = Vec::new();
    for (n, object) in objects.iter().enumerate() {
        places.push(file.len());
        let _ = write!(file, "{} 0 obj\n{object}\nendobj\n", n + 1);
    }
    let table = file.len();
    let _ = write!(file, "xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for place in places {
        let _ = writeln!(file, "{place:010} 00000 n ");
    }
    let _ = write!(
        file,
        "trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n",
        objects.len() + 1
    );
    file.into_bytes()
}

fn docx(body: &str) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    archive
        .start_file("word/document.xml", zip::write::SimpleFileOptions::default())
        .expect("a member");
    let xml = format!("<w:document xmlns:w=\"w\"><w:body>{body}</w:body></w:document>");
    archive.write_all(xml.as_bytes()).expect("its text");
    archive.finish().expect("an archive").into_inner()
}

/// A workbook with these sheets, each of rows of cells: numbers as numbers, the rest as text.
fn xlsx(sheets: &[(&str, &[&[&str]])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut member = |name: &str, xml: &str| {
        archive
            .start_file(name, zip::write::SimpleFileOptions::default())
            .expect("a member");
        archive.write_all(xml.as_bytes()).expect("its text");
    };
    member(
        "_rels/.rels",
        "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>",
    );
    let (mut listed, mut related) = (String::new(), String::new());
    for (n, (name, rows)) in sheets.iter().enumerate() {
        let n = n + 1;
        let _ = write!(listed, "<sheet name=\"{name}\" sheetId=\"{n}\" r:id=\"rId{n}\"/>");
        let _ = write!(
            related,
            "<Relationship Id=\"rId{n}\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet{n}.xml\"/>"
        );
        let mut xml =
            String::from("<worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheetData>");
        for row in *rows {
            xml.push_str("<row>");
            for cell in *row {
                let _ = if cell.parse::<f64>().is_ok() {
                    write!(xml, "<c><v>{cell}</v></c>")
                } else {
                    write!(xml, "<c t=\"inlineStr\"><is><t>{cell}</t></is></c>")
                };
            }
            xml.push_str("</row>");
        }
        xml.push_str("</sheetData></worksheet>");
        member(&format!("xl/worksheets/sheet{n}.xml"), &xml);
    }
    member(
        "xl/workbook.xml",
        &format!(
            "<workbook xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\"><sheets>{listed}</sheets></workbook>"
        ),
    );
    member(
        "xl/_rels/workbook.xml.rels",
        &format!(
            "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">{related}</Relationships>"
        ),
    );
    archive.finish().expect("an archive").into_inner()
}

#[test]
fn spreadsheets_are_tables_by_sheet_and_rows() {
    let cars: &[&[&str]] = &[&["make", "price"], &["Volvo", "12500"], &["Saab", "900.5"]];
    let notes: &[&[&str]] = &[&["topic"], &["winter tyres"]];
    let found = sections("cars.xlsx", &xlsx(&[("Cars", cars), ("Empty", &[]), ("Notes", notes)]));
    assert_eq!(
        found,
        [
            (
                "Cars, rows 1-2".to_owned(),
                "make: Volvo; price: 12500\nmake: Saab; price: 900.5".to_owned()
            ),
            ("Notes, rows 1-1".to_owned(), "topic: winter tyres".to_owned()),
        ]
    );
    let whole = xlsx(&[("Cars", cars)]);
    assert!(refused("cars.xlsx", &whole[..whole.len() / 2]).contains("spreadsheet"));
    assert!(refused("empty.xlsx", &xlsx(&[("Empty", &[])])).contains("no text"));
}

#[test]
fn text_is_one_section() {
    assert_eq!(
        sections("a.txt", b"One.\r\n\r\n\r\n\r\nTwo.\x07\n"),
        [(String::new(), "One.\n\nTwo.".to_owned())]
    );
    assert_eq!(sections("README", b"no ending")[0].1, "no ending");
}

#[test]
fn encodings_are_recognised() {
    assert_eq!(sections("a.txt", b"\xef\xbb\xbfcaf\xc3\xa9")[0].1, "café");
    assert_eq!(sections("a.txt", b"caf\xe9 au lait")[0].1, "café au lait");
    let wide: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain("café".encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    assert_eq!(sections("a.txt", &wide)[0].1, "café");
}

#[test]
fn markdown_has_a_section_per_heading_with_its_path() {
    let text = "Intro.\n# Guide\n## Leave\nThirty days.\n```\n# no heading\n```\n## Travel\nBy train.\n# End\nBye.";
    let found = sections("guide.md", text.as_bytes());
    let locators: Vec<&str> = found.iter().map(|(locator, _)| locator.as_str()).collect();
    assert_eq!(locators, ["", "Guide > Leave", "Guide > Travel", "End"]);
    assert!(found[1].1.contains("# no heading"));
}

#[test]
fn html_is_text_without_markup_or_scripts() {
    let page = "<html><head><title>T</title><script>var x = 1;</script></head><body><h1>Tides</h1><p>High at \
                <b>noon</b> &amp; low at six.</p><table><tr><td>Mon</td><td>4 m</td></tr></table></body></html>";
    let found = sections("page.html", page.as_bytes());
    let all: String = found.iter().map(|(_, text)| text.as_str()).collect();
    assert!(
        all.contains("noon") && all.contains("& low at six") && all.contains("4 m"),
        "{all}"
    );
    assert!(!all.contains("var x") && !all.contains("<p>"), "{all}");
    assert_eq!(found[0].0, "Tides");
}

#[test]
fn pdf_has_a_section_per_page() {
    let found = sections("paper.pdf", &pdf(&["The first page.", "The second page."]));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].0, "page 1");
    assert!(found[1].1.contains("The second page."), "{found:?}");
}

#[test]
fn word_documents_have_a_section_per_heading() {
    let file = docx(
        "<w:p><w:pPr><w:pStyle w:val=\"Heading1\"/></w:pPr><w:r><w:t>Leave</w:t></w:r></w:p>\
         <w:p><w:r><w:t>Thirty </w:t></w:r><w:r><w:t>days &amp; more &#8364;5.</w:t></w:r></w:p>\
         <w:tbl><w:tr><w:tc><w:p><w:r><w:t>Mon</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>Tue</w:t></w:r></w:p></w:tc></w:tr></w:tbl>",
    );
    let found = sections("staff.docx", &file);
    assert_eq!(found[0].0, "Leave");
    assert!(found[0].1.contains("Thirty days & more €5."), "{found:?}");
    assert!(found[0].1.contains("Mon | Tue"), "{found:?}");
}

#[test]
fn rows_of_a_table_name_their_columns() {
    let found = sections(
        "people.csv",
        b"name;city\n\"Ann \"\"A\"\" Lee\";\"Ghent;\nEast\"\nBob;\n",
    );
    assert_eq!(found[0].0, "rows 1-2");
    assert_eq!(found[0].1, "name: Ann \"A\" Lee; city: Ghent;\nEast\nname: Bob");
    let many: String = (0..45).fold("n,square\n".to_owned(), |text, n| format!("{text}{n},{}\n", n * n));
    let locators: Vec<String> = sections("many.csv", many.as_bytes())
        .into_iter()
        .map(|(locator, _)| locator)
        .collect();
    assert_eq!(locators, ["rows 1-20", "rows 21-40", "rows 41-45"]);
}

#[test]
fn a_schema_has_a_section_per_table() {
    let schema = "PRAGMA x = 1;\n-- People.\nCREATE TABLE IF NOT EXISTS \"shop\".customers (\n  id INT, note TEXT DEFAULT 'a;b'\n);\n\
                  CREATE TABLE orders (id INT /* ; */);\nCREATE UNIQUE INDEX by_id ON orders (id);";
    let found = sections("shop.sql", schema.as_bytes());
    let locators: Vec<&str> = found.iter().map(|(locator, _)| locator.as_str()).collect();
    assert_eq!(locators, ["", "shop.customers", "orders"]);
    assert!(
        found[1].1.starts_with("-- People.") && found[1].1.contains("'a;b'"),
        "{found:?}"
    );
    assert!(found[2].1.contains("by_id"));
}

#[test]
fn code_has_a_section_per_definition() {
    let code = "use std::fmt;\n\n/// Adds.\npub fn add(a: u8, b: u8) -> u8 {\n    let sum = a + b;\n\n    sum\n}\n\n\
                pub struct Crane {\n    tonnes: u32,\n}\n";
    let found = sections("lib.rs", code.as_bytes());
    let locators: Vec<&str> = found.iter().map(|(locator, _)| locator.as_str()).collect();
    assert_eq!(locators, ["add", "Crane"]);
    assert!(found[0].1.contains("let sum") && found[0].1.contains("    sum\n}"));
    let python = "class Crane:\n    def lift(self):\n        pass\n\n\ndef main():\n    Crane().lift()\n";
    let locators: Vec<String> = sections("m.py", python.as_bytes())
        .into_iter()
        .map(|(locator, _)| locator)
        .collect();
    assert_eq!(locators, ["Crane", "main"]);
}

#[test]
fn what_is_no_text_is_refused_with_what_can_be_read() {
    let image: Vec<u8> = (0..=255).cycle().take(4_000).collect();
    let message = refused("photo.jpg", &image);
    assert!(
        message.starts_with("photo.jpg: ") && message.contains("PDF") && message.contains("Markdown"),
        "{message}"
    );
    assert!(refused("empty.txt", b"").contains("empty"));
    assert!(refused("blank.txt", b" \n\n ").contains("no text"));
}

#[test]
fn damaged_files_are_refused_and_nothing_panics() {
    for bytes in [
        &b"%PDF-1.4\nrubbish"[..],
        b"not a pdf at all",
        b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj",
    ] {
        assert!(refused("broken.pdf", bytes).starts_with("broken.pdf: "));
    }
    let good = pdf(&["Some text here."]);
    for cut in (0..good.len()).step_by(37) {
        // Any answer will do, as long as there is one.
        let _ = extract("cut.pdf", &good[..cut]);
    }
    assert!(refused("broken.docx", b"PK\x03\x04 and then nothing").contains("docx"));
    assert!(refused("open.docx", &docx("<w:p><w:r><w:t>unclosed</w:q>")).contains("docx"));
}

#[test]
fn an_archive_that_unpacks_to_too_much_is_refused() {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    archive
        .start_file("word/document.xml", zip::write::SimpleFileOptions::default())
        .expect("a member");
    let block = vec![b' '; 1 << 20];
    for _ in 0..=((8 * MAX_TEXT) >> 20) {
        archive.write_all(&block).expect("its text");
    }
    let bomb = archive.finish().expect("an archive").into_inner();
    assert!(bomb.len() < 1 << 20, "it is small as it comes");
    assert!(refused("bomb.docx", &bomb).contains("unpacks to more than"));
}
