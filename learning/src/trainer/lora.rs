//! What is trained: two small matrices beside each large one, whose product is added to it.

use candle_core::{DType, Device, Tensor, Var};
use habit_engine::native::Shape;

use super::TrainError;
use super::base::Base;
use super::schedule::chance;
use crate::adapter::Adapter;

/// The matrices of a layer that get an adapter: all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Module {
    /// Rows of query heads.
    Query,
    /// Rows of key heads.
    Key,
    /// Rows of value heads.
    Value,
    /// From the heads back to the width.
    Output,
    /// What decides how much of `Up` passes.
    Gate,
    /// From the width to the hidden numbers.
    Up,
    /// And back.
    Down,
}

impl Module {
    /// All, in the order in which they are kept.
    pub const ALL: [Self; 7] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Output,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The name in PEFT's and Hugging Face's files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q_proj",
            Self::Key => "k_proj",
            Self::Value => "v_proj",
            Self::Output => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// The part of a layer that it belongs to, in the same files.
    #[must_use]
    pub fn part(self) -> &'static str {
        match self {
            Self::Query | Self::Key | Self::Value | Self::Output => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        }
    }

    /// The name in GGUF files.
    #[must_use]
    pub fn in_gguf(self) -> &'static str {
        match self {
            Self::Query => "attn_q",
            Self::Key => "attn_k",
            Self::Value => "attn_v",
            Self::Output => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }
}

/// The variables of all layers.
#[derive(Debug)]
pub struct Lora {
    /// `alpha / rank`.
    pub scale: f64,
    /// For each layer and each of [`Module::ALL`]: rank x inputs, outputs x rank.
    pub pairs: Vec<Vec<[Var; 2]>>,
}

impl Lora {
    /// New ones: the first of each pair random, as PEFT starts it, the second zero, so that nothing is changed yet.
    ///
    /// # Errors
    /// [`TrainError::Failed`] if they can't be made.
    pub fn new(shape: &Shape, rank: usize, alpha: f32, seed: u64) -> Result<Self, TrainError> {
        let mut random = chance(seed, 0);
        let mut pairs = Vec::with_capacity(shape.kv.layers);
        for _ in 0..shape.kv.layers {
            let mut layer = Vec::with_capacity(Module::ALL.len());
            for module in Module::ALL {
                let (outputs, inputs) = Base::dimensions(shape, module);
                let bound = 1.0 / (inputs as f64).sqrt();
                let numbers: Vec<f32> = (0..rank * inputs)
                    .map(|_| ((2.0 * random.unit() - 1.0) * bound) as f32)
                    .collect();
                let first = Tensor::from_vec(numbers, (rank, inputs), &Device::Cpu)?;
                let second = Tensor::zeros((outputs, rank), DType::F32, &Device::Cpu)?;
                layer.push([Var::from_tensor(&first)?, Var::from_tensor(&second)?]);
            }
            pairs.push(layer);
        }
        Ok(Self {
            scale: f64::from(alpha) / rank as f64,
            pairs,
        })
    }

    /// Those of an adapter; where it has none for a matrix, ones that change nothing.
    ///
    /// # Errors
    /// [`TrainError::Unfit`] if it is of another model, [`TrainError::Failed`] if they can't be made.
    pub fn of(adapter: &Adapter, shape: &Shape) -> Result<Self, TrainError> {
        let new = Self::new(shape, adapter.rank, adapter.rank as f32, 0)?;
        for ((layer, module), pair) in &adapter.pairs {
            let Some(variables) = new.pairs.get(*layer).and_then(|layer| layer.get(*module)) else {
                return Err(TrainError::Unfit(format!(
                    "the adapter has a layer {layer}, the model has not"
                )));
            };
            for (variable, tensor) in variables.iter().zip(pair) {
                variable
                    .set(tensor)
                    .map_err(|error| TrainError::Unfit(error.to_string()))?;
            }
        }
        Ok(Self {
            scale: adapter.scale,
            ..new
        })
    }

    /// All variables, always in the same order.
    pub fn variables(&self) -> impl Iterator<Item = &Var> {
        self.pairs.iter().flatten().flatten()
    }
}
