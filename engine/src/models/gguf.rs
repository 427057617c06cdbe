//! Checks a GGUF file before any loader sees it: loaders panic or abort on broken ones.
//!
//! The header is walked twice: first with every length held against the file's size (a wrong length would make a
//! reader allocate without bound), then by candle. Last, every tensor must lie within the file.
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};

use super::error::ModelError;

/// The architectures that the embedded engine can run from GGUF.
pub const ARCHITECTURES: &[&str] = &[
    "llama",
    "mistral3",
    "phi2",
    "phi3",
    "starcoder2",
    "qwen2",
    "qwen3",
    "qwen3moe",
];

/// A GGUF file that was found whole.
#[derive(Debug)]
pub struct Inspected {
    /// The header: metadata and where each tensor lies.
    pub content: Content,
    /// `general.architecture`.
    pub architecture: String,
    /// `ARCHITECTURE.context_length`.
    pub context_window: Option<usize>,
    /// How many tensors there are of each type.
    pub types: BTreeMap<String, usize>,
}

impl Inspected {
    /// A string of the metadata.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.content.metadata.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number of the metadata, of whatever width.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.content.metadata.get(key)? {
            Value::I8(n) => u64::try_from(*n).ok(),
            Value::I16(n) => u64::try_from(*n).ok(),
            Value::I32(n) => u64::try_from(*n).ok(),
            Value::I64(n) => u64::try_from(*n).ok(),
            value => value.to_u64().ok(),
        }
    }

    /// A flag of the metadata.
    #[must_use]
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.content.metadata.get(key)?.to_bool().ok()
    }
}

/// Reads and checks a GGUF file.
///
/// # Errors
/// [`ModelError::Invalid`] if it is not GGUF, is cut short, is of an architecture or holds tensor types that can't be
/// run; [`ModelError::Io`] if it can't be read.
pub fn inspect(path: &Path) -> Result<Inspected, ModelError> {
    let file = File::open(path).map_err(ModelError::io("open", path))?;
    let length = file.metadata().map_err(ModelError::io("read", path))?.len();
    let mut reader = BufReader::new(file);

    Walk {
        reader: &mut reader,
        left: length,
        path,
    }
    .header()?;
    reader.seek(SeekFrom::Start(0)).map_err(ModelError::io("read", path))?;
    let content = Content::read(&mut reader)
        .map_err(|error| ModelError::invalid(path, format!("its GGUF header can't be read: {error}")))?;

    let mut inspected = Inspected {
        content,
        architecture: String::new(),
        context_window: None,
        types: BTreeMap::new(),
    };
    let Some(architecture) = inspected.text("general.architecture").map(str::to_owned) else {
        return Err(ModelError::invalid(
            path,
            "its metadata names no `general.architecture`: not a language model",
        ));
    };
    if !ARCHITECTURES.contains(&architecture.as_str()) {
        let reason = format!(
            "the architecture `{architecture}` is not supported (supported: {}); take another model, or run this one in \
             another server and point Habit at it with --upstream",
            ARCHITECTURES.join(", ")
        );
        return Err(ModelError::invalid(path, reason));
    }
    let window = inspected.number(&format!("{architecture}.context_length"));
    inspected.context_window = window.and_then(|n| usize::try_from(n).ok());
    inspected.architecture = architecture;
    inspected.types = check_tensors(path, &inspected.content, length)?;
    Ok(inspected)
}

/// Every tensor's data lies within the file; gives the number of tensors by type.
fn check_tensors(path: &Path, content: &Content, length: u64) -> Result<BTreeMap<String, usize>, ModelError> {
    let mut types = BTreeMap::new();
    if content.tensor_infos.is_empty() {
        return Err(ModelError::invalid(
            path,
            "it holds no tensors (a vocabulary-only file?)",
        ));
    }
    for (name, info) in &content.tensor_infos {
        let kind = info.ggml_dtype;
        if matches!(kind, GgmlDType::Q8_1 | GgmlDType::Q8K) {
            let reason =
                format!("the tensor {name} has the type {kind:?}, which is not supported; take a Q8_0 or Q4_K_M file");
            return Err(ModelError::invalid(path, reason));
        }
        let elements = info
            .shape
            .dims()
            .iter()
            .try_fold(1usize, |product, dim| product.checked_mul(*dim));
        let end = elements
            .filter(|elements| elements.is_multiple_of(kind.block_size()))
            .and_then(|elements| (elements / kind.block_size()).checked_mul(kind.type_size()))
            .and_then(|bytes| {
                content
                    .tensor_data_offset
                    .checked_add(info.offset)?
                    .checked_add(bytes as u64)
            });
        match end {
            Some(end) if end <= length => *types.entry(format!("{kind:?}")).or_insert(0) += 1,
            Some(end) => {
                let reason = format!(
                    "it is cut short: the tensor {name} ends at byte {end}, the file at {length}; fetch it again"
                );
                return Err(ModelError::invalid(path, reason));
            }
            None => {
                let reason = format!(
                    "the tensor {name} has an impossible shape {:?}: the file is damaged",
                    info.shape
                );
                return Err(ModelError::invalid(path, reason));
            }
        }
    }
    Ok(types)
}

/// Walks the header without building anything, holding each length against what is left of the file.
struct Walk<'a, R> {
    reader: &'a mut R,
    left: u64,
    path: &'a Path,
}

/// Array nesting deeper than this is not a model (real files have none).
const DEEPEST: usize = 4;

impl<R: Read + Seek> Walk<'_, R> {
    fn header(&mut self) -> Result<(), ModelError> {
        let magic = self.bytes::<4>().map_err(|_| self.not_gguf())?;
        if &magic != b"GGUF" {
            return Err(self.not_gguf());
        }
        let version = u32::from_le_bytes(self.bytes()?);
        if !matches!(version, 2 | 3) {
            let reason = format!(
                "it has GGUF version {version}; only 2 and 3 can be read (an older file must be converted anew)"
            );
            return Err(ModelError::invalid(self.path, reason));
        }
        let tensors = self.count(24)?;
        let pairs = self.count(13)?;
        for _ in 0..pairs {
            let key = self.string()?;
            let kind = u32::from_le_bytes(self.bytes()?);
            if key == b"general.alignment" && kind == 4 {
                // candle divides by it.
                if u32::from_le_bytes(self.bytes()?) == 0 {
                    return Err(self.damaged());
                }
            } else {
                self.value(kind, 0)?;
            }
        }
        for _ in 0..tensors {
            self.string()?;
            let dimensions = u32::from_le_bytes(self.bytes()?);
            if dimensions > 8 {
                return Err(self.damaged());
            }
            self.skip(u64::from(dimensions) * 8)?;
            self.dtype()?;
            self.skip(8)?;
        }
        Ok(())
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<(), ModelError> {
        match kind {
            8 => self.string().map(drop),
            9 if depth < DEEPEST => {
                let item = u32::from_le_bytes(self.bytes()?);
                if let Some(width) = width(item) {
                    let n = self.count(width)?;
                    self.skip(n * width)
                } else {
                    for _ in 0..self.count(8)? {
                        self.value(item, depth + 1)?;
                    }
                    Ok(())
                }
            }
            kind => match width(kind) {
                Some(width) => self.skip(width),
                None => Err(self.damaged()),
            },
        }
    }

    fn dtype(&mut self) -> Result<(), ModelError> {
        let kind = u32::from_le_bytes(self.bytes()?);
        // The types of candle 0.10; the numbers are ggml's.
        if matches!(kind, 0..=3 | 6..=15 | 30) {
            return Ok(());
        }
        let name = match kind {
            16..=23 | 29 => "an IQ (importance matrix) type",
            34 | 35 => "a ternary type",
            39 => "MXFP4",
            _ => "a type unknown here",
        };
        let reason = format!(
            "it holds tensors of {name} (ggml type {kind}), which is not supported; take a Q8_0 or Q4_K_M file"
        );
        Err(ModelError::invalid(self.path, reason))
    }

    /// A number of items, each of at least `least` bytes, that fits in what is left.
    fn count(&mut self, least: u64) -> Result<u64, ModelError> {
        let n = u64::from_le_bytes(self.bytes()?);
        if n.checked_mul(least).is_none_or(|bytes| bytes > self.left) {
            Err(self.cut_short())
        } else {
            Ok(n)
        }
    }

    fn string(&mut self) -> Result<Vec<u8>, ModelError> {
        let length = self.count(1)?;
        let mut text = vec![0; usize::try_from(length).map_err(|_| self.damaged())?];
        self.reader.read_exact(&mut text).map_err(|_| self.cut_short())?;
        self.left -= length;
        Ok(text)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|_| self.cut_short())?;
        self.left = self.left.saturating_sub(N as u64);
        Ok(bytes)
    }

    fn skip(&mut self, n: u64) -> Result<(), ModelError> {
        self.left = self.left.checked_sub(n).ok_or_else(|| self.cut_short())?;
        let n = i64::try_from(n).map_err(|_| self.damaged())?;
        self.reader.seek_relative(n).map_err(ModelError::io("read", self.path))
    }

    fn not_gguf(&self) -> ModelError {
        ModelError::invalid(self.path, "this is not a GGUF file (it does not begin with `GGUF`)")
    }

    fn cut_short(&self) -> ModelError {
        ModelError::invalid(
            self.path,
            "its GGUF header is cut short or damaged; fetch the file again",
        )
    }

    fn damaged(&self) -> ModelError {
        ModelError::invalid(self.path, "its GGUF header is damaged; fetch the file again")
    }
}

/// Bytes of a value of a fixed-width type.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}
