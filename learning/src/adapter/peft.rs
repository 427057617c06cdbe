//! PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`, as Hugging Face's library of that name writes and
//! reads them (<https://huggingface.co/docs/peft>).

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::{Adapter, AdapterError};
use crate::trainer::lora::Module;

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";

impl Adapter {
    /// Writes the folder `dir`, which is there whole or not at all.
    ///
    /// # Errors
    /// [`AdapterError::Io`].
    pub fn write(&self, dir: &Path) -> Result<(), AdapterError> {
        let beside = dir.with_extension("part");
        fs::remove_dir_all(&beside).ok();
        fs::create_dir_all(&beside).map_err(io("create", &beside))?;
        let used = |module: &&Module| self.pairs.keys().any(|(_, at)| *at == **module as usize);
        let modules: Vec<&str> = Module::ALL.iter().filter(used).map(|module| module.name()).collect();
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": null, "inference_mode": true,
            "r": self.rank, "lora_alpha": self.scale * self.rank as f64, "lora_dropout": 0.0, "bias": "none",
            "use_rslora": false, "use_dora": false, "fan_in_fan_out": false, "modules_to_save": null,
            "target_modules": modules,
        });
        let path = beside.join(CONFIG);
        fs::write(&path, format!("{config:#}\n")).map_err(io("write", &path))?;
        let mut tensors: HashMap<String, Tensor> = HashMap::new();
        for ((layer, module), [first, second]) in &self.pairs {
            let module = Module::ALL[*module];
            let name = format!(
                "base_model.model.model.layers.{layer}.{}.{}",
                module.part(),
                module.name()
            );
            tensors.insert(format!("{name}.lora_A.weight"), first.contiguous()?);
            tensors.insert(format!("{name}.lora_B.weight"), second.contiguous()?);
        }
        let path = beside.join(TENSORS);
        candle_core::safetensors::save(&tensors, &path)?;
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(io("write", &path))?;
        fs::remove_dir_all(dir).ok();
        fs::rename(&beside, dir).map_err(io("write", dir))
    }

    /// Reads a folder.
    ///
    /// # Errors
    /// [`AdapterError::Unfit`] for what is not a plain LoRA of the modules that are known here.
    pub fn read(dir: &Path) -> Result<Self, AdapterError> {
        let unfit = |reason: String| AdapterError::Unfit {
            path: dir.to_owned(),
            reason,
        };
        let path = dir.join(CONFIG);
        let config = fs::read(&path).map_err(io("read", &path))?;
        let config: Value = serde_json::from_slice(&config).map_err(|error| unfit(format!("{CONFIG}: {error}")))?;
        let set = |key: &str| match &config[key] {
            Value::Null | Value::Bool(false) => false,
            Value::Object(members) => !members.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        if config["peft_type"] != "LORA" {
            return Err(unfit(format!("it is of the type {}, not LORA", config["peft_type"])));
        }
        for other in [
            "use_dora",
            "fan_in_fan_out",
            "modules_to_save",
            "rank_pattern",
            "alpha_pattern",
        ] {
            if set(other) {
                return Err(unfit(format!("it uses `{other}`, which is not known here")));
            }
        }
        let rank = config["r"].as_u64().filter(|rank| (1..=4096).contains(rank));
        let (Some(rank), Some(alpha)) = (rank, config["lora_alpha"].as_f64()) else {
            return Err(unfit(format!("{CONFIG} names no usable `r` and `lora_alpha`")));
        };
        let over = if set("use_rslora") {
            (rank as f64).sqrt()
        } else {
            rank as f64
        };
        let path = dir.join(TENSORS);
        if !path.is_file() {
            return Err(unfit(format!("it has no {TENSORS}")));
        }
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu)
            .map_err(|error| unfit(format!("{TENSORS} can't be read: {error}")))?;
        let mut halves: BTreeMap<(usize, usize), [Option<Tensor>; 2]> = BTreeMap::new();
        for (name, tensor) in tensors {
            let Some((layer, module, half)) = place(&name) else {
                return Err(unfit(format!("`{name}` is not a matrix that is adapted here")));
            };
            let tensor = tensor.to_dtype(DType::F32)?;
            let (rows, columns) = tensor.dims2().map_err(|error| unfit(format!("`{name}`: {error}")))?;
            if [rows, columns][half] as u64 != rank {
                return Err(unfit(format!("`{name}` is {rows} x {columns} and the rank {rank}")));
            }
            halves.entry((layer, module as usize)).or_default()[half] = Some(tensor);
        }
        let mut pairs = BTreeMap::new();
        for (at, pair) in halves {
            let [Some(first), Some(second)] = pair else {
                return Err(unfit(format!("layer {} lacks one of two matrices", at.0)));
            };
            pairs.insert(at, [first, second]);
        }
        if pairs.is_empty() {
            return Err(unfit("it changes nothing".to_owned()));
        }
        Ok(Self {
            rank: rank as usize,
            scale: alpha / over,
            pairs,
        })
    }
}

/// Layer, module and which of the two matrices a name means.
fn place(name: &str) -> Option<(usize, Module, usize)> {
    let rest = name.strip_prefix("base_model.model.model.layers.")?;
    let mut parts = rest.split('.');
    let layer = parts.next()?.parse().ok()?;
    let (part, module) = (parts.next()?, parts.next()?);
    let module = Module::ALL
        .into_iter()
        .find(|known| known.name() == module && known.part() == part)?;
    let half = match parts.next()? {
        "lora_A" => 0,
        "lora_B" => 1,
        _ => return None,
    };
    // Older files name the adapter in between.
    let mut rest = parts.filter(|part| *part != "default");
    (rest.next() == Some("weight") && rest.next().is_none()).then_some((layer, module, half))
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> AdapterError {
    let path = path.to_owned();
    move |source| AdapterError::Io { doing, path, source }
}
