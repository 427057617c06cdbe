//! PDF: a section per page.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Read;
use crate::documents::Section;

pub(super) fn read(bytes: &[u8]) -> Read {
    // The reader panics on some damaged or unusual files; that must be this file's error and nothing more. Nothing
    // of its state is used afterwards.
    match catch_unwind(AssertUnwindSafe(|| pdf_extract::extract_text_from_mem_by_pages(bytes))) {
        Ok(Ok(pages)) => Ok(pages
            .into_iter()
            .enumerate()
            .map(|(place, text)| Section {
                locator: format!("page {}", place + 1),
                text,
            })
            .collect()),
        Ok(Err(error)) => Err(format!(
            "it can't be read as PDF ({error}); if it has a password, save it without one"
        )),
        Err(_) => {
            Err("it can't be read as PDF: it is damaged or unusual; print it to a new PDF and try again".to_owned())
        }
    }
}
