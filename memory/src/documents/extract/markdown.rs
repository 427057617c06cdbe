//! Markdown: a section per heading, named by the path of headings above it.

use crate::documents::Section;

pub(super) fn read(text: &str) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut body = String::new();
    let mut fence: Option<&str> = None;
    let locator = |path: &[(usize, String)]| {
        path.iter()
            .map(|(_, title)| title.as_str())
            .collect::<Vec<_>>()
            .join(" > ")
    };
    for line in text.lines() {
        let start = line.trim_start();
        match fence {
            Some(mark) if start.starts_with(mark) => fence = None,
            None if start.starts_with("```") => fence = Some("```"),
            None if start.starts_with("~~~") => fence = Some("~~~"),
            _ => {}
        }
        if fence.is_none()
            && let Some((level, title)) = heading(line)
        {
            sections.push(Section {
                locator: locator(&path),
                text: std::mem::take(&mut body),
            });
            path.retain(|(above, _)| *above < level);
            path.push((level, title));
        }
        body.push_str(line);
        body.push('\n');
    }
    sections.push(Section {
        locator: locator(&path),
        text: body,
    });
    // A heading with nothing under it says nothing by itself; its title is in the path of those below it.
    let says_more = |section: &Section| {
        section
            .text
            .lines()
            .any(|line| !line.trim().is_empty() && heading(line).is_none())
    };
    if sections.iter().any(says_more) {
        sections.retain(says_more);
    }
    sections
}

/// The level and title of an ATX heading (`## Title ##`).
fn heading(line: &str) -> Option<(usize, String)> {
    let level = line.bytes().take_while(|byte| *byte == b'#').count();
    let rest = line.get(level..)?;
    let title = rest.trim().trim_end_matches('#').trim();
    ((1..=6).contains(&level) && rest.starts_with([' ', '\t']) && !title.is_empty()).then(|| (level, title.to_owned()))
}
