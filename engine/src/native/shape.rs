//! What a GGUF file says about a model's architecture, and whether this engine can run it.

use crate::models::gguf::Inspected;

use super::block::BLOCK;
use super::kv::Layout;

/// The architectures that are laid out as [`super::forward`] computes.
const KNOWN: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// Hyperparameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Numbers that stand for a token between layers.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Layers, key-value heads and their width.
    pub kv: Layout,
    /// Numbers between the two halves of a feed-forward layer.
    pub hidden: usize,
    /// What is added to mean squares in norms.
    pub epsilon: f32,
    /// How positions turn queries and keys.
    pub rope: Rope,
    /// Tokens that prompt and reply may have together.
    pub window: usize,
}

/// How positions turn queries and keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Numbers of a head that are turned; the rest stays.
    pub turned: usize,
    /// Pairs are neighbours (llama's files are permuted for it), or else half of [`Rope::turned`] apart.
    pub neighbours: bool,
    base: f32,
    /// Positions are divided by it.
    scale: f32,
}

impl Shape {
    /// Reads the metadata.
    ///
    /// # Errors
    /// What this engine can't run, or what the file lacks.
    pub fn read(file: &Inspected) -> Result<Self, String> {
        let architecture = file.architecture.as_str();
        if !KNOWN.contains(&architecture) {
            return Err(format!(
                "the architecture `{architecture}` is not one of {}",
                KNOWN.join(", ")
            ));
        }
        let find = |key: &str| file.number(&format!("{architecture}.{key}")).map(|n| n as usize);
        let need = |key: &str| {
            let value = find(key).filter(|value| (1..1 << 24).contains(value));
            value.ok_or_else(|| format!("its metadata has no usable `{architecture}.{key}`"))
        };
        let real = |key: &str| {
            let value = file.content.metadata.get(&format!("{architecture}.{key}"))?;
            value.to_f32().ok().or_else(|| value.to_f64().ok().map(|x| x as f32))
        };
        if find("expert_count").is_some_and(|experts| experts > 0) {
            return Err("it is a mixture of experts".to_owned());
        }
        let window = need("context_length")?;
        if find("attention.sliding_window").is_some_and(|sliding| sliding > 0 && sliding < window) {
            return Err("its attention has a sliding window".to_owned());
        }
        let (width, heads) = (need("embedding_length")?, need("attention.head_count")?);
        let kv_heads = find("attention.head_count_kv").unwrap_or(heads);
        let head = find("attention.key_length").unwrap_or(width / heads);
        if find("attention.value_length").is_some_and(|value| value != head) {
            return Err("its keys and values have different lengths".to_owned());
        }
        let hidden = need("feed_forward_length")?;
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(format!("{heads} heads can't share {kv_heads} key-value heads"));
        }
        if [width, head, hidden]
            .iter()
            .any(|n| *n == 0 || !n.is_multiple_of(BLOCK))
        {
            return Err(format!(
                "its layers are not whole blocks of {BLOCK} (width {width}, heads of {head}, hidden {hidden})"
            ));
        }
        let scaling = file
            .text(&format!("{architecture}.rope.scaling.type"))
            .unwrap_or("none");
        let scale = match scaling {
            "none" | "" => 1.0,
            "linear" => real("rope.scaling.factor").unwrap_or(1.0),
            other => return Err(format!("its positions are scaled by `{other}`")),
        };
        let turned = find("rope.dimension_count").unwrap_or(head);
        if turned > head || !turned.is_multiple_of(2) {
            return Err(format!("{turned} numbers of a head of {head} can't be turned"));
        }
        let layers = need("block_count")?;
        Ok(Self {
            width,
            heads,
            kv: Layout {
                layers,
                heads: kv_heads,
                width: head,
            },
            hidden,
            epsilon: real("attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
            rope: Rope {
                turned,
                neighbours: architecture == "llama",
                base: real("rope.freq_base").unwrap_or(10_000.0),
                scale,
            },
            window,
        })
    }
}

impl Rope {
    /// Radians a position, for each pair; `divisors` are the file's own corrections (Llama 3), where it has them.
    pub(super) fn frequencies(&self, divisors: Option<&[f32]>) -> Vec<f32> {
        let pairs = self.turned / 2;
        let frequency = |pair: usize| {
            let divisor = divisors.and_then(|divisors| divisors.get(pair)).copied().unwrap_or(1.0);
            self.base.powf(-(2.0 * pair as f32) / self.turned as f32) / divisor / self.scale
        };
        (0..pairs).map(frequency).collect()
    }
}
