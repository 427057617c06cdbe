//! Finds the files of a model on a hub (Hugging Face, or a mirror of it): `org/name[@revision][:file.gguf]`.

use reqwest::{Client, Url};
use serde::Deserialize;

use super::error::ModelError;
use super::fetch::{Download, cause, shown};

/// A model of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    /// `org/name`.
    pub repo: String,
    /// A branch, tag or commit.
    pub revision: Option<String>,
    /// One file of it.
    pub file: Option<String>,
}

impl HubId {
    /// Reads `org/name[@revision][:file]`; `None` if it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, file) = text
            .split_once(':')
            .map_or((text, None), |(rest, file)| (rest, Some(file)));
        let (repo, revision) = rest
            .split_once('@')
            .map_or((rest, None), |(repo, revision)| (repo, Some(revision)));
        let (org, name) = repo.split_once('/')?;
        let word = |text: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !text.is_empty() && !text.starts_with('.') && text.chars().all(allowed)
        };
        let whole = |text: Option<&str>| text.is_none_or(|text| !text.is_empty());
        let is_file = name.to_lowercase().ends_with(".gguf");
        let safe = file.is_none_or(|file| !file.starts_with('/') && !file.split('/').any(|part| part == ".."));
        (word(org) && word(name) && !is_file && whole(file) && whole(revision) && safe).then(|| Self {
            repo: repo.to_owned(),
            revision: revision.map(str::to_owned),
            file: file.map(str::to_owned),
        })
    }
}

impl std::fmt::Display for HubId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.repo)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(f, ":{file}")?;
        }
        Ok(())
    }
}

/// Where a hub is, and who asks.
#[derive(Clone)]
pub struct Hub {
    /// The address: `HF_ENDPOINT`, or Hugging Face's.
    pub endpoint: String,
    /// `HF_TOKEN`.
    pub token: Option<String>,
}

impl Hub {
    /// As the environment says.
    #[must_use]
    pub fn from_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            token: set("HF_TOKEN"),
        }
    }

    /// What must be downloaded for a model: one GGUF file, or the safetensors with what belongs to them.
    ///
    /// # Errors
    /// [`ModelError::Fetch`] if the hub can't be asked, [`ModelError::Ambiguous`] if there are several GGUF files.
    pub async fn files(&self, client: &Client, id: &HubId) -> Result<Vec<File>, ModelError> {
        let endpoint = self.endpoint.trim_end_matches('/');
        let revision = id.revision.as_deref().unwrap_or("main");
        let url = format!(
            "{endpoint}/api/models/{}/revision/{}?blobs=true",
            id.repo,
            revision.replace('/', "%2F")
        );
        let url = Url::parse(&url).map_err(|error| ModelError::Fetch(format!("HF_ENDPOINT is not a URL: {error}")))?;
        let at = shown(&url);
        let mut request = client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let failed = |reason: String| ModelError::Fetch(format!("the hub can't be asked for {id}: {at} {reason}"));
        let response = request.send().await.map_err(|error| {
            failed(format!(
                "can't be reached ({}); check the network, HTTPS_PROXY and HF_ENDPOINT",
                cause(&error)
            ))
        })?;
        let status = response.status();
        if !status.is_success() {
            return Err(failed(format!(
                "answers {status}; check the name, or set HF_TOKEN if the model is private or gated"
            )));
        }
        let repository: Repository = response
            .json()
            .await
            .map_err(|error| failed(format!("does not answer as a hub ({})", cause(&error))))?;
        let chosen = choose(id, &repository.siblings)?;
        chosen
            .into_iter()
            .map(|sibling| {
                let url = format!(
                    "{endpoint}/{}/resolve/{}/{}",
                    id.repo, repository.sha, sibling.rfilename
                );
                let url = Url::parse(&url).map_err(|error| failed(format!("has a broken file name ({error})")))?;
                let download = Download {
                    url,
                    token: self.token.clone(),
                    sha256: sibling.lfs.as_ref().map(|lfs| lfs.sha256.clone()),
                    label: sibling.rfilename.clone(),
                };
                Ok(File {
                    name: sibling.rfilename.clone(),
                    commit: repository.sha.clone(),
                    download,
                })
            })
            .collect()
    }
}

/// A file to download.
#[derive(Debug, Clone)]
pub struct File {
    /// Its path in the repository.
    pub name: String,
    /// The commit that it is of.
    pub commit: String,
    /// How to get it.
    pub download: Download,
}

#[derive(Deserialize)]
struct Repository {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
}

fn choose<'a>(id: &HubId, files: &'a [Sibling]) -> Result<Vec<&'a Sibling>, ModelError> {
    if let Some(wanted) = &id.file {
        let found: Vec<&Sibling> = files.iter().filter(|file| file.rfilename == *wanted).collect();
        return if found.is_empty() {
            Err(missing(id, files))
        } else {
            Ok(found)
        };
    }
    // Files of folders are other forms of the same model (onnx and the like), but for the pooling's configuration.
    let top = |file: &&Sibling| !file.rfilename.contains('/') || file.rfilename == "1_Pooling/config.json";
    let is = |file: &Sibling, extension: &str| file.rfilename.to_lowercase().ends_with(extension);
    if files.iter().filter(top).any(|file| is(file, ".safetensors")) {
        let keep =
            |file: &&Sibling| is(file, ".safetensors") || is(file, ".json") || is(file, ".jinja") || is(file, ".model");
        return Ok(files.iter().filter(top).filter(keep).collect());
    }
    let gguf: Vec<&Sibling> = files.iter().filter(|file| is(file, ".gguf")).collect();
    if gguf.len() == 1 {
        Ok(gguf)
    } else {
        Err(missing(id, files))
    }
}

/// The file must be named, or named rightly.
fn missing(id: &HubId, files: &[Sibling]) -> ModelError {
    let bare = HubId {
        file: None,
        ..id.clone()
    };
    let choices: Vec<String> = files
        .iter()
        .filter(|file| file.rfilename.to_lowercase().ends_with(".gguf"))
        .map(|file| format!("{bare}:{}", file.rfilename))
        .collect();
    if choices.is_empty() {
        return ModelError::Fetch(format!(
            "{id} holds neither a GGUF file nor safetensors that can be used"
        ));
    }
    ModelError::Ambiguous {
        spec: id.to_string(),
        choices,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written() {
        for text in [
            "org/name",
            "org/name@v1",
            "org/name:a.gguf",
            "o-r.g/n_a.me@refs/pr/1:dir/a.gguf",
        ] {
            assert_eq!(HubId::parse(text).map(|id| id.to_string()).as_deref(), Some(text));
        }
        for bad in [
            "name",
            "/name",
            "org/",
            "./a/b",
            "a/b/c",
            "org/name@",
            "org/name:",
            "org/file.gguf",
            "o/n:../x",
            "a b/c",
        ] {
            assert_eq!(HubId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn several_gguf_files_must_be_named() {
        let file = |name: &str| Sibling {
            rfilename: name.into(),
            lfs: None,
        };
        let id = HubId::parse("o/n").unwrap();
        let error = choose(&id, &[file("a.gguf"), file("b.gguf")])
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("o/n:a.gguf") && error.contains("o/n:b.gguf"), "{error}");
        assert_eq!(choose(&id, &[file("a.gguf"), file("README.md")]).unwrap().len(), 1);
        let files = [
            file("config.json"),
            file("model.safetensors"),
            file("onnx/model.safetensors"),
            file("tokenizer.json"),
        ];
        assert_eq!(choose(&id, &files).unwrap().len(), 3);
        assert!(choose(&id, &[file("pytorch_model.bin")]).is_err());
    }
}
