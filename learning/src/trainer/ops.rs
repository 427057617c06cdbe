//! The large operations of the forward pass, each with its derivative: candle's graph joins them.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Storage, Tensor};
use habit_kernels::training::{self, Packed};

/// The numbers of a tensor in memory.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        return Err(Error::Msg("numbers that are not in order".to_owned()));
    };
    Ok(&storage.as_slice::<f32>()?[from..to])
}

/// Does something with the numbers of a tensor.
fn with<T>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => work(floats(storage, layout)?),
        _ => Err(Error::Msg("numbers that are not in this processor's memory".to_owned())),
    }
}

fn made(numbers: Vec<f32>, like: &Layout) -> (CpuStorage, Shape) {
    (CpuStorage::F32(numbers), like.shape().clone())
}

/// `x` times the transposed `weight`, as numbers.
fn product(x: &CpuStorage, x_layout: &Layout, weight: &Tensor) -> Result<CpuStorage> {
    let (storage, layout) = weight.storage_and_layout();
    let Storage::Cpu(weight) = &*storage else {
        return Err(Error::Msg("weights that are not in this processor's memory".to_owned()));
    };
    by(x, x_layout, weight, layout)
}

fn by(x: &CpuStorage, x_layout: &Layout, weight: &CpuStorage, layout: &Layout) -> Result<CpuStorage> {
    let (outputs, inputs) = layout.shape().dims2()?;
    let rows = x_layout.shape().dims2()?.0;
    x.matmul(weight, (1, rows, outputs, inputs), x_layout, &layout.transpose(0, 1)?)
}

/// `x` times the transposed `weight`, outside of any graph.
///
/// # Errors
/// Matrices that do not fit each other.
pub fn outputs(x: &Tensor, weight: &Tensor) -> Result<Vec<f32>> {
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(x) = &*storage else {
        return Err(Error::Msg("numbers that are not in this processor's memory".to_owned()));
    };
    match product(x, layout, weight)? {
        CpuStorage::F32(numbers) => Ok(numbers),
        _ => Err(Error::Msg("numbers that are not single precision".to_owned())),
    }
}

/// A frozen matrix, and its adapter where it has one: `x W' + scale * (x A') B' + bias`. There is no derivative for `W`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// Outputs x inputs.
    pub weight: Tensor,
    /// Added to each row.
    pub bias: Option<Tensor>,
    /// How much the adapter counts.
    pub scale: f64,
}

impl Linear {
    fn finish(&self, mut out: Vec<f32>, more: &[f32]) -> Result<(CpuStorage, Shape)> {
        let width = self.weight.dim(0)?;
        let shape = Shape::from((out.len() / width, width));
        match &self.bias {
            Some(bias) => with(bias, |bias| {
                training::add_scaled(&mut out, self.scale as f32, more, Some(bias), width);
                Ok(())
            })?,
            None => training::add_scaled(&mut out, self.scale as f32, more, None, width),
        }
        Ok((CpuStorage::F32(out), shape))
    }
}

fn vec(storage: CpuStorage) -> Result<Vec<f32>> {
    match storage {
        CpuStorage::F32(numbers) => Ok(numbers),
        _ => Err(Error::Msg("numbers that are not single precision".to_owned())),
    }
}

impl CustomOp1 for Linear {
    fn name(&self) -> &'static str {
        "frozen linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = vec(product(x, layout, &self.weight)?)?;
        if self.bias.is_none() {
            let width = self.weight.dim(0)?;
            let shape = Shape::from((out.len() / width, width));
            return Ok((CpuStorage::F32(out), shape));
        }
        let nothing = vec![0.0; out.len()];
        self.finish(out, &nothing)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        gradient.matmul(&self.weight).map(Some)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "adapted linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        first: &CpuStorage,
        first_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = vec(product(x, x_layout, &self.weight)?)?;
        let narrow = by(x, x_layout, first, first_layout)?;
        let rank = first_layout.shape().dims2()?.0;
        let rows = x_layout.shape().dims2()?.0;
        let wide = vec(by(&narrow, &Layout::contiguous((rows, rank)), second, second_layout)?)?;
        self.finish(out, &wide)
    }

    fn bwd(
        &self,
        x: &Tensor,
        first: &Tensor,
        second: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (x, first, second) = (x.detach(), first.detach(), second.detach());
        let narrow = (gradient.matmul(&second)? * self.scale)?;
        let d_first = narrow.t()?.matmul(&x)?;
        let d_second = (gradient.t()?.matmul(&x.matmul(&first.t()?)?)? * self.scale)?;
        let d_x = (gradient.matmul(&self.weight)? + narrow.matmul(&first)?)?;
        Ok((Some(d_x), Some(d_first), Some(d_second)))
    }
}

/// Each row over its root mean square, times frozen weights; a row is as long as they are.
#[derive(Debug, Clone)]
pub struct Norm {
    /// The weights.
    pub weights: Tensor,
    /// Added to the mean square.
    pub epsilon: f32,
}

impl CustomOp1 for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(x, layout)?;
        let mut out = vec![0.0; x.len()];
        with(&self.weights, |weights| {
            training::rms_norm(x, weights, self.epsilon, &mut out);
            Ok(())
        })?;
        Ok(made(out, layout))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let mut out = vec![0.0; x.elem_count()];
        with(&self.weights, |weights| {
            with(x, |x| {
                with(gradient, |gradient| {
                    training::rms_norm_back(x, weights, self.epsilon, gradient, &mut out);
                    Ok(())
                })
            })
        })?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

/// Turns queries or keys by their positions.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Heads a row.
    pub heads: usize,
    /// Pairs a head that are turned.
    pub pairs: usize,
    /// Cosine and sine of each row's pairs.
    pub turns: Arc<Vec<(f32, f32)>>,
}

impl CustomOp1 for Turn {
    fn name(&self) -> &'static str {
        "turn"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = floats(x, layout)?.to_vec();
        training::turn(&mut out, self.heads, &self.turns, self.pairs, false);
        Ok(made(out, layout))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let mut out = with(gradient, |gradient| Ok(gradient.to_vec()))?;
        training::turn(&mut out, self.heads, &self.turns, self.pairs, true);
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

/// silu(gate) * up.
#[derive(Debug, Clone, Copy)]
pub struct Gated;

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (floats(gate, gate_layout)?, floats(up, up_layout)?);
        let mut out = vec![0.0; gate.len()];
        training::gated(gate, up, &mut out);
        Ok(made(out, gate_layout))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (mut d_gate, mut d_up) = (vec![0.0; gate.elem_count()], vec![0.0; gate.elem_count()]);
        with(gate, |gate| {
            with(up, |up| {
                with(gradient, |gradient| {
                    training::gated_back(gate, up, gradient, &mut d_gate, &mut d_up);
                    Ok(())
                })
            })
        })?;
        let tensor = |numbers: Vec<f32>| Tensor::from_vec(numbers, gate.shape(), gate.device());
        Ok((Some(tensor(d_gate)?), Some(tensor(d_up)?)))
    }
}

/// Attention over packed texts: queries, keys, values.
#[derive(Debug, Clone)]
pub struct Attention(pub Arc<Packed>);

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        queries: &CpuStorage,
        queries_layout: &Layout,
        keys: &CpuStorage,
        keys_layout: &Layout,
        values: &CpuStorage,
        values_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let queries = floats(queries, queries_layout)?;
        let (keys, values) = (floats(keys, keys_layout)?, floats(values, values_layout)?);
        let mut out = vec![0.0; queries.len()];
        self.0.attention(queries, keys, values, &mut out);
        Ok(made(out, queries_layout))
    }

    fn bwd(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [mut d_queries, mut d_keys, mut d_values] =
            [queries, keys, values].map(|tensor| vec![0.0; tensor.elem_count()]);
        with(queries, |q| {
            with(keys, |k| {
                with(values, |v| {
                    with(gradient, |g| {
                        let packed = &self.0;
                        packed.attention_back([q, k, v, g], &mut d_queries, &mut d_keys, &mut d_values);
                        Ok(())
                    })
                })
            })
        })?;
        let tensor = |numbers: Vec<f32>, like: &Tensor| Tensor::from_vec(numbers, like.shape(), like.device());
        Ok((
            Some(tensor(d_queries, queries)?),
            Some(tensor(d_keys, keys)?),
            Some(tensor(d_values, values)?),
        ))
    }
}

/// A number whose derivative is already known.
#[derive(Debug, Clone)]
pub struct Known {
    /// The number.
    pub value: f32,
    /// Its gradient, in the shape of what it is a function of.
    pub gradient: Tensor,
}

impl CustomOp1 for Known {
    fn name(&self) -> &'static str {
        "known"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.value]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.gradient.broadcast_mul(gradient).map(Some)
    }
}
