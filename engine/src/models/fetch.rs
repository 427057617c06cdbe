//! Downloads a file: resumed where an earlier try broke off, tried again when the network fails, and verified by
//! SHA-256 before it gets its name. A file that has its name is whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Client, StatusCode, Url, header};
use sha2::{Digest, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Progress;
use super::error::ModelError;

/// A server that sends nothing for this long is gone.
const SILENCE: Duration = Duration::from_mins(1);
const CONNECT: Duration = Duration::from_secs(20);
/// Tries after which a download is given up; what has come is kept for the next start.
const TRIES: u32 = 5;
/// The wait before the second try; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// What to download.
#[derive(Debug, Clone)]
pub struct Download {
    /// Where from.
    pub url: Url,
    /// A bearer token that the server wants.
    pub token: Option<String>,
    /// The hash that the file must have, in hex, where it is known.
    pub sha256: Option<String>,
    /// What people are told is being fetched.
    pub label: String,
}

/// A client that trusts what the machine trusts, and pip's own certificate bundle (`PIP_CERT`) where there is one.
/// Proxies come from the environment.
///
/// # Errors
/// [`ModelError::Fetch`] if the bundle can't be read.
pub fn client(certificates: Option<&Path>) -> Result<Client, ModelError> {
    let mut builder = Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .user_agent(concat!("habit/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = certificates {
        let unreadable = |error: &dyn std::fmt::Display| {
            ModelError::Fetch(format!(
                "the certificates that pip is set to use, {}, can't be read: {error}",
                path.display()
            ))
        };
        let pem = std::fs::read(path).map_err(|error| unreadable(&error))?;
        let bundle = Certificate::from_pem_bundle(&pem).map_err(|error| unreadable(&error))?;
        builder = builder.tls_certs_merge(bundle);
    }
    builder
        .build()
        .map_err(|error| ModelError::Fetch(format!("no HTTP client can be made: {error}")))
}

/// Fetches a file to `target`, unless it is there already.
///
/// # Errors
/// [`ModelError::Fetch`] if the network or the server fails, [`ModelError::Checksum`] if something else came (it is
/// deleted), [`ModelError::Io`] if it can't be written.
pub async fn download(
    client: &Client,
    what: &Download,
    target: &Path,
    progress: &dyn Progress,
) -> Result<(), ModelError> {
    if target.is_file() {
        return Ok(());
    }
    let part = part_path(target);
    let mut tries = 0;
    let mut resumed = false;
    loop {
        tries += 1;
        match attempt(client, what, &part, progress, &mut resumed).await {
            Ok(hash) => match &what.sha256 {
                Some(expected) if !expected.eq_ignore_ascii_case(&hash) => {
                    remove(&part).await?;
                    if resumed {
                        // The piece from an earlier try may have been of another file: once more, from the start.
                        resumed = false;
                        continue;
                    }
                    let (name, expected) = (what.label.clone(), expected.clone());
                    return Err(ModelError::Checksum {
                        name,
                        expected,
                        actual: hash,
                    });
                }
                _ => break,
            },
            Err(Broke::Final(error)) => return Err(error),
            Err(Broke::Network(reason)) if tries >= TRIES => {
                return Err(ModelError::Fetch(format!(
                    "{} can't be fetched from {}: {reason}. Check the network (and HTTPS_PROXY); what has come is kept, and the \
                     next try goes on from there",
                    what.label,
                    shown(&what.url)
                )));
            }
            Err(Broke::Network(reason)) => {
                tracing::debug!(label = %what.label, %reason, tries, "a download broke off and is resumed");
                tokio::time::sleep(FIRST_WAIT * 2u32.pow(tries - 1)).await;
            }
        }
    }
    tokio::fs::rename(&part, target)
        .await
        .map_err(ModelError::io("rename", &part))
}

/// Why a try ended.
enum Broke {
    /// Another try may succeed.
    Network(String),
    /// It can't.
    Final(ModelError),
}

impl From<ModelError> for Broke {
    fn from(error: ModelError) -> Self {
        Self::Final(error)
    }
}

/// One try; gives the file's hash.
async fn attempt(
    client: &Client,
    what: &Download,
    part: &Path,
    progress: &dyn Progress,
    resumed: &mut bool,
) -> Result<String, Broke> {
    let (mut hash, mut have) = hash_so_far(part).await?;
    let mut request = client.get(what.url.clone());
    if let Some(token) = &what.token {
        request = request.bearer_auth(token);
    }
    if have > 0 {
        request = request.header(header::RANGE, format!("bytes={have}-"));
    }
    let mut response = request.send().await.map_err(|error| Broke::Network(cause(&error)))?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT if starts_at(&response, have) => *resumed |= have > 0,
        StatusCode::OK => (hash, have) = (Sha256::new(), 0),
        StatusCode::RANGE_NOT_SATISFIABLE if what.sha256.is_some() && size_of_whole(&response) == Some(have) => {
            // All of it had come; only the last step was missing.
            *resumed = true;
            return Ok(hex::encode(hash.finalize()));
        }
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            remove(part).await?;
            return Err(Broke::Network(
                "the server and the piece that is here don't agree; starting over".into(),
            ));
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Broke::Network(format!("the server answers {status}")));
        }
        status => return Err(Broke::Final(refused(what, status))),
    }

    let io = || ModelError::io("write", part);
    let mut options = OpenOptions::new();
    let options = options.create(true).write(true).append(have > 0).truncate(have == 0);
    let mut file = options.open(part).await.map_err(io())?;
    let expected = response.content_length().map(|more| have + more);
    progress.begin(&what.label, expected);
    progress.advance(have);
    let result = async {
        while let Some(piece) = response.chunk().await.map_err(|error| Broke::Network(cause(&error)))? {
            file.write_all(&piece).await.map_err(io())?;
            hash.update(&piece);
            have += piece.len() as u64;
            progress.advance(piece.len() as u64);
        }
        file.sync_all().await.map_err(io())?;
        match expected {
            Some(expected) if expected != have => Err(Broke::Network("the connection ended early".into())),
            _ => Ok(hex::encode(hash.finalize())),
        }
    }
    .await;
    progress.end();
    result
}

/// The hash and the length of what an earlier try left.
async fn hash_so_far(part: &Path) -> Result<(Sha256, u64), ModelError> {
    let mut hash = Sha256::new();
    let mut file = match File::open(part).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((hash, 0)),
        Err(error) => return Err(ModelError::io("read", part)(error)),
    };
    let mut buffer = vec![0; 1 << 20];
    let mut have = 0;
    loop {
        let n = file.read(&mut buffer).await.map_err(ModelError::io("read", part))?;
        if n == 0 {
            return Ok((hash, have));
        }
        hash.update(&buffer[..n]);
        have += n as u64;
    }
}

/// Whether a partial answer begins where it was asked to (`Content-Range: bytes FROM-TO/SIZE`).
fn starts_at(response: &reqwest::Response, offset: u64) -> bool {
    let range = response
        .headers()
        .get(header::CONTENT_RANGE)
        .and_then(|range| range.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()) == Some(offset)
}

/// The file's size, as a refused range tells it (`Content-Range: bytes */SIZE`).
fn size_of_whole(response: &reqwest::Response) -> Option<u64> {
    response
        .headers()
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?
        .strip_prefix("bytes */")?
        .parse()
        .ok()
}

fn refused(what: &Download, status: StatusCode) -> ModelError {
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; a token may be needed (HF_TOKEN for a hub)",
        StatusCode::NOT_FOUND => "; check the name and the version",
        _ => "",
    };
    ModelError::Fetch(format!(
        "{} can't be fetched: {} answers {status}{hint}",
        what.label,
        shown(&what.url)
    ))
}

async fn remove(path: &Path) -> Result<(), ModelError> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ModelError::io("delete", path)(error)),
        _ => Ok(()),
    }
}

fn part_path(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// The innermost reason of an error: the outer ones only repeat the URL.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A URL without what may be secret in it.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _not_supported = url.set_password(None).and_then(|()| url.set_username(""));
    url.set_query(None);
    url.to_string()
}
