//! What a person may write for a model, and which of its readings is meant.

use std::path::{Path, PathBuf};

use super::catalogue::{self, CATALOGUE, DEFAULT_CHAT, Entry};
use super::error::ModelError;
use super::hub::HubId;

/// What is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// A model of the catalogue.
    Catalogue(&'static Entry),
    /// A model that is in the store under this name.
    Stored(String),
    /// A GGUF file.
    Gguf(PathBuf),
    /// A directory of safetensors.
    Dir(PathBuf),
    /// A model of a hub.
    Hub(HubId),
    /// A GGUF file on the web.
    Url(reqwest::Url),
}

/// Reads what was written. Names come before paths, paths before hubs; `./x` is always a path.
///
/// # Errors
/// [`ModelError::Unknown`] with the nearest names, [`ModelError::Invalid`] for a path that holds no model,
/// [`ModelError::Ambiguous`] for a directory of several GGUF files.
pub fn read(spec: &str, stored: &[String]) -> Result<Spec, ModelError> {
    let spec = spec.trim();
    let name = if spec.is_empty() || spec.eq_ignore_ascii_case("default") {
        DEFAULT_CHAT
    } else {
        spec
    };
    if let Some(entry) = catalogue::find(name) {
        return Ok(Spec::Catalogue(entry));
    }
    if let Some(name) = stored.iter().find(|stored| stored.eq_ignore_ascii_case(name)) {
        return Ok(Spec::Stored(name.clone()));
    }
    if name.starts_with("https://") || name.starts_with("http://") {
        let url =
            reqwest::Url::parse(name).map_err(|error| ModelError::Fetch(format!("`{name}` is not a URL: {error}")))?;
        return Ok(Spec::Url(url));
    }
    let path = home(name);
    if path.is_file() {
        return Ok(Spec::Gguf(path));
    }
    if path.is_dir() {
        return directory(&path);
    }
    if let Some(id) = HubId::parse(name) {
        return Ok(Spec::Hub(id));
    }
    let looks_like_path = path.is_absolute() || name.starts_with('.') || name.to_lowercase().ends_with(".gguf");
    if looks_like_path {
        return Err(ModelError::invalid(&path, "there is no such file or directory"));
    }
    Err(ModelError::Unknown {
        spec: spec.to_owned(),
        near: nearest(name, stored),
    })
}

/// What a directory holds: safetensors, or one GGUF file.
fn directory(path: &Path) -> Result<Spec, ModelError> {
    if path.join("config.json").is_file() {
        return Ok(Spec::Dir(path.to_owned()));
    }
    let mut files = super::safetensors::weight_files(path, "gguf")?;
    match (files.pop(), files.is_empty()) {
        (Some(only), true) => Ok(Spec::Gguf(only)),
        (Some(last), false) => {
            files.push(last);
            let choices = files.iter().map(|file| file.display().to_string()).collect();
            Err(ModelError::Ambiguous {
                spec: path.display().to_string(),
                choices,
            })
        }
        (None, _) => Err(ModelError::invalid(
            path,
            "it holds neither a .gguf file nor a config.json with .safetensors",
        )),
    }
}

/// `~/` is the shell's, but not inside a configuration file.
fn home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// The known names that are like this one, nearest first, at most three.
fn nearest(name: &str, stored: &[String]) -> Vec<String> {
    let name = name.to_lowercase();
    let known = CATALOGUE
        .iter()
        .map(|entry| entry.id.to_owned())
        .chain(stored.iter().cloned());
    let mut by_distance: Vec<(usize, String)> = known
        .filter_map(|known| {
            let lower = known.to_lowercase();
            let distance = if lower.contains(&name) || name.contains(&lower) {
                0
            } else {
                edits(&name, &lower)
            };
            (distance <= known.len() / 2).then_some((distance, known))
        })
        .collect();
    by_distance.sort();
    by_distance.dedup();
    by_distance.into_iter().take(3).map(|(_, known)| known).collect()
}

/// Levenshtein's distance, in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_hubs_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.gguf");
        std::fs::write(&file, "GGUF").unwrap();
        let stored = ["mine".to_owned()];
        let entry = catalogue::find(DEFAULT_CHAT).unwrap();
        for name in ["", "default", "Default", "SmolLM2-135M-Instruct"] {
            assert_eq!(read(name, &stored).unwrap(), Spec::Catalogue(entry), "{name}");
        }
        assert_eq!(read("Mine", &stored).unwrap(), Spec::Stored("mine".into()));
        assert_eq!(read(file.to_str().unwrap(), &stored).unwrap(), Spec::Gguf(file.clone()));
        assert_eq!(
            read(dir.path().to_str().unwrap(), &stored).unwrap(),
            Spec::Gguf(file.clone())
        );
        assert!(matches!(read("org/name@main:f.gguf", &stored).unwrap(), Spec::Hub(_)));
        assert!(matches!(read("https://host/f.gguf", &stored).unwrap(), Spec::Url(_)));
        std::fs::write(dir.path().join("n.gguf"), "GGUF").unwrap();
        let ambiguous = read(dir.path().to_str().unwrap(), &stored).unwrap_err().to_string();
        assert!(
            ambiguous.contains("m.gguf") && ambiguous.contains("n.gguf"),
            "{ambiguous}"
        );
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_one() {
        let error = read("smolm2-135m-instrukt", &[]).unwrap_err().to_string();
        assert!(error.contains(DEFAULT_CHAT), "{error}");
        let error = read("./nowhere.gguf", &[]).unwrap_err().to_string();
        assert!(error.contains("no such file"), "{error}");
        let error = read("zzz", &[]).unwrap_err().to_string();
        assert!(
            error.contains("habit models list") && !error.contains("did you mean"),
            "{error}"
        );
    }

    #[test]
    fn edits_are_counted() {
        for (a, b, distance) in [
            ("", "", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("same", "same", 0),
        ] {
            assert_eq!(edits(a, b), distance);
        }
    }
}
