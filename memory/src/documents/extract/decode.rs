//! From bytes to text, whatever its encoding; and whether it is text at all.

/// The first bytes are enough to tell text from other files.
const LOOK_AT: usize = 64 << 10;

/// The text of these bytes; `None` if they are no text. UTF-8 and UTF-16 are recognised, anything else is read as
/// Latin-1, in which every byte is a character: a few odd letters are better than a refused file.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    if let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        return Some(String::from_utf8_lossy(rest).into_owned());
    }
    if let Some(rest) = bytes.strip_prefix(b"\xff\xfe") {
        return Some(utf16(rest, u16::from_le_bytes));
    }
    if let Some(rest) = bytes.strip_prefix(b"\xfe\xff") {
        return Some(utf16(rest, u16::from_be_bytes));
    }
    let start = &bytes[..bytes.len().min(LOOK_AT)];
    if start.contains(&0) || is_odd(start) {
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.to_owned()),
        // A few broken places in what is UTF-8 otherwise.
        Err(_) if mostly_utf8(start) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Err(_) => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units)
        .map(|decoded| decoded.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// Whether more than a twentieth of it are control characters that no text has; a few in a short text are let pass.
fn is_odd(bytes: &[u8]) -> bool {
    let odd = |byte: &&u8| matches!(**byte, 0x01..=0x08 | 0x0e..=0x1a | 0x1c..=0x1f | 0x7f);
    let odd = bytes.iter().filter(odd).count();
    odd > 3 && odd * 20 > bytes.len()
}

fn mostly_utf8(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let broken = text.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count();
    let wide = text
        .chars()
        .filter(|c| !c.is_ascii() && *c != char::REPLACEMENT_CHARACTER)
        .count();
    broken <= wide
}
