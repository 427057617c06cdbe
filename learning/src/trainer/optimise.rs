//! A run: what it will take, its steps, its end.

use std::fs;
use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use habit_engine::models::{fit, gguf};
use habit_engine::native::{Lessons, Shape};
use habit_kernels::training::{Adam, adam};

use super::base::Base;
use super::batch::{Batch, Sample};
use super::lora::{Lora, Module};
use super::loss::{Loss, loss};
use super::model::forward;
use super::schedule::Schedule;
use super::state::{self, State};
use super::{Estimate, Job, Settings, Step, TrainError, Trained, anchors};
use crate::adapter::Adapter;

/// Tokens of an anchor that are used.
const ANCHOR: usize = 48;

/// Anchors whose own words are computed together.
const AT_ONCE: usize = 16;

const BETAS: (f32, f32) = (0.9, 0.999);

/// Of the memory that is free, what a run may take.
const SHARE: f64 = 0.9;

/// What a job is made of, before any weights are read.
struct Prepared {
    samples: Vec<Sample>,
    skipped: usize,
    anchors: Vec<Vec<u32>>,
    shape: Shape,
    vocabulary: usize,
    /// Bytes at the peak.
    bytes: u64,
}

/// What a job will take. Reads the weights and times a step.
///
/// # Errors
/// As [`train`], before anything is trained.
pub fn estimate(job: &Job) -> Result<Estimate, TrainError> {
    let prepared = prepare(job)?;
    let settings = &job.settings;
    let schedule = prepared.schedule(settings);
    let begun = Instant::now();
    let base = Base::read(&job.weights)?;
    let lora = Lora::new(&prepared.shape, settings.rank, settings.alpha, settings.seed)?;
    let reading = begun.elapsed().as_secs_f64();
    let own = prepared.own(&base, &schedule.anchors(0))?;
    let begun = Instant::now();
    let batch = prepared.batch(&schedule, 0);
    derive(&base, &lora, &batch, &own, settings.anchor_weight)?;
    let step = begun.elapsed().as_secs_f64();
    Ok(Estimate {
        bytes: prepared.bytes,
        seconds: reading + step * schedule.steps() as f64,
        steps: schedule.steps(),
        variables: lora.variables().count(),
        parameters: lora.variables().map(|variable| variable.elem_count()).sum(),
    })
}

/// Trains, and writes the adapter. Blocks for minutes, on all of rayon's threads. It goes on from a checkpoint of the same
/// job in `out`, to the same result as without the break; a job that has ended is not done again. `progress` hears of each
/// step, `stop` is asked after each.
///
/// # Errors
/// [`TrainError::Unfit`], [`TrainError::Nothing`] and [`TrainError::DoesNotFit`] before anything is done;
/// [`TrainError::Stopped`] when `stop` said so; [`TrainError::Io`] and [`TrainError::Failed`].
pub fn train(job: &Job, progress: &mut dyn FnMut(Step), stop: &dyn Fn() -> bool) -> Result<Trained, TrainError> {
    let name = state::name(job)?;
    if let Some(trained) = state::finished(job, &name) {
        return Ok(trained);
    }
    let prepared = prepare(job)?;
    let settings = &job.settings;
    let schedule = prepared.schedule(settings);
    let steps = schedule.steps();
    fs::create_dir_all(&job.out).map_err(TrainError::io("create", &job.out))?;
    let begun = Instant::now();
    let base = Base::read(&job.weights)?;
    let lora = Lora::new(&prepared.shape, settings.rank, settings.alpha, settings.seed)?;
    let mut state = State::resume(job, &name, &lora).unwrap_or_else(|| State::new(&lora));
    let every: Vec<usize> = (0..prepared.anchors.len()).collect();
    let own = if schedule.anchors(0).is_empty() {
        Vec::new()
    } else {
        prepared.own(&base, &every)?
    };
    let (first, stepping) = (state.step, Instant::now());
    while state.step < steps {
        if stop() {
            state.keep(job, &name, &lora)?;
            return Err(TrainError::Stopped {
                step: state.step,
                steps,
            });
        }
        let batch = prepared.batch(&schedule, state.step);
        let own: Vec<Tensor> = schedule.anchors(state.step).iter().map(|at| own[*at].clone()).collect();
        let (loss, gradients) = derive(&base, &lora, &batch, &own, settings.anchor_weight)?;
        if !(loss.surprise + loss.distance).is_finite() {
            let reason = "the loss is no number any more; take a lower learning rate";
            return Err(TrainError::Failed(reason.to_owned()));
        }
        let rate = schedule.rate(state.step);
        advance(&lora, &gradients, &mut state, settings, rate)?;
        state.losses.push([loss.surprise, loss.distance]);
        let a_step = stepping.elapsed().as_secs_f64() / (state.step - first) as f64;
        progress(Step {
            step: state.step,
            steps,
            loss: loss.surprise,
            distance: loss.distance,
            seconds_left: a_step * (steps - state.step) as f64,
        });
        if state.step < steps && state.step.is_multiple_of(settings.checkpoint_every.max(1)) {
            state.keep(job, &name, &lora)?;
        }
    }
    let adapter = job.out.join("adapter");
    Adapter::of(&lora, settings.rank, settings.alpha)?
        .write(&adapter)
        .map_err(|error| TrainError::Failed(error.to_string()))?;
    let last = &state.losses[steps - schedule.a_epoch()..];
    let mean = |at: usize| last.iter().map(|both| both[at]).sum::<f32>() / last.len() as f32;
    let trained = Trained {
        adapter,
        steps,
        loss: mean(0),
        distance: mean(1),
        examples: prepared.samples.len(),
        skipped: prepared.skipped,
        seconds: begun.elapsed().as_secs_f64(),
        peak_bytes: peak(),
        variables: lora.variables().count(),
    };
    state::finish(job, &name, &trained)?;
    Ok(trained)
}

/// Tokenises, checks, and holds what it will take against what there is.
fn prepare(job: &Job) -> Result<Prepared, TrainError> {
    let settings = &job.settings;
    check(settings).map_err(TrainError::Unfit)?;
    let file = gguf::inspect(&job.weights).map_err(|error| TrainError::Unfit(error.to_string()))?;
    let shape = Shape::read(&file).map_err(TrainError::Unfit)?;
    let table = file.content.tensor_infos.get("token_embd.weight");
    let vocabulary = table.and_then(|info| info.shape.dims().first().copied()).unwrap_or(0);
    let apart = file.content.tensor_infos.contains_key("output.weight");
    let lessons = Lessons::open(&job.weights, &job.model_dir).map_err(TrainError::Unfit)?;
    let longest = settings.longest.min(lessons.window());
    let mut reason = "no example was given".to_owned();
    let mut samples = Vec::with_capacity(job.examples.len());
    for example in &job.examples {
        match lessons.lesson(&example.messages, &example.answer) {
            Ok(lesson) => match Sample::new(&lesson, example.weight, longest) {
                Some(sample) => samples.push(sample),
                None => reason = format!("answers are longer than {longest} tokens, or weigh nothing"),
            },
            Err(error) => reason = error.to_string(),
        }
    }
    if samples.is_empty() {
        return Err(TrainError::Nothing(reason));
    }
    let skipped = job.examples.len() - samples.len();
    let sentences: Vec<&str> = if job.anchors.is_empty() {
        anchors::SENTENCES.to_vec()
    } else {
        job.anchors.iter().map(String::as_str).collect()
    };
    let mut anchors = Vec::with_capacity(sentences.len());
    for sentence in sentences {
        let mut tokens = lessons
            .text(sentence)
            .map_err(|error| TrainError::Unfit(error.to_string()))?;
        tokens.truncate(ANCHOR.min(longest));
        anchors.push(tokens);
    }
    let mut prepared = Prepared {
        samples,
        skipped,
        anchors,
        shape,
        vocabulary,
        bytes: 0,
    };
    let packed = fs::metadata(&job.weights)
        .map_err(TrainError::io("read", &job.weights))?
        .len();
    prepared.bytes = prepared.takes(settings, packed, apart);
    let free = job.memory.unwrap_or_else(fit::available_memory);
    if prepared.bytes as f64 > free as f64 * SHARE {
        return Err(TrainError::DoesNotFit {
            needed: prepared.bytes,
            free,
        });
    }
    Ok(prepared)
}

fn check(settings: &Settings) -> Result<(), String> {
    let within = |name: &str, value: f64, from: f64, to: f64| {
        let good = (from..=to).contains(&value);
        good.then_some(())
            .ok_or_else(|| format!("`{name}` is {value} and must be from {from} to {to}"))
    };
    within("rank", settings.rank as f64, 1.0, 256.0)?;
    within("alpha", f64::from(settings.alpha), 1e-3, 1e4)?;
    within("learning_rate", f64::from(settings.learning_rate), 1e-8, 1.0)?;
    within("epochs", settings.epochs as f64, 1.0, 1000.0)?;
    within("batch", settings.batch as f64, 1.0, 1024.0)?;
    within("anchor_weight", f64::from(settings.anchor_weight), 0.0, 1e3)?;
    within("warm_up", f64::from(settings.warm_up), 0.0, 1.0)?;
    within("clip", f64::from(settings.clip), 1e-6, 1e6)?;
    within("noise", f64::from(settings.noise), 0.0, 1e3)?;
    within("weight_decay", f64::from(settings.weight_decay), 0.0, 10.0)?;
    within("longest", settings.longest as f64, 16.0, 1e6)
}

impl Prepared {
    fn schedule<'a>(&self, settings: &'a Settings) -> Schedule<'a> {
        Schedule {
            settings,
            examples: self.samples.len(),
            anchors: self.anchors.len(),
        }
    }

    fn batch(&self, schedule: &Schedule<'_>, step: usize) -> Batch {
        let samples: Vec<&Sample> = schedule
            .examples(step)
            .into_iter()
            .map(|at| &self.samples[at])
            .collect();
        let anchors: Vec<&[u32]> = schedule
            .anchors(step)
            .into_iter()
            .map(|at| self.anchors[at].as_slice())
            .collect();
        Batch::new(&samples, &anchors).noisy(schedule.settings.noise, schedule.noise(step))
    }

    /// What the model as it is served makes of these anchors. It never changes, so it is computed once.
    fn own(&self, base: &Base, which: &[usize]) -> Result<Vec<Tensor>, TrainError> {
        let mut all = Vec::with_capacity(which.len());
        for some in which.chunks(AT_ONCE) {
            let texts: Vec<&[u32]> = some.iter().map(|at| self.anchors[*at].as_slice()).collect();
            let hidden = forward(base, None, &Batch::new(&[], &texts))?.detach();
            let mut from = 0;
            for text in texts {
                all.push(hidden.narrow(0, from, text.len())?);
                from += text.len();
            }
        }
        Ok(all)
    }

    /// Bytes at the peak: the weights as floats, what the forward pass keeps for the derivatives of the largest step,
    /// the variables with what AdamW keeps of them, some rows of logits.
    fn takes(&self, settings: &Settings, packed: u64, apart: bool) -> u64 {
        let shape = &self.shape;
        let layers = shape.kv.layers;
        let of = |count: &dyn Fn((usize, usize)) -> usize| -> usize {
            Module::ALL
                .iter()
                .map(|module| count(Base::dimensions(shape, *module)))
                .sum()
        };
        let matrices = layers * of(&|(outputs, inputs)| outputs * inputs);
        let table = self.vocabulary * shape.width * if apart { 2 } else { 1 };
        let variables = layers * of(&|(outputs, inputs)| settings.rank * (outputs + inputs));
        let (queries, keys) = (shape.heads * shape.kv.width, shape.kv.heads * shape.kv.width);
        let a_token = layers * (6 * shape.width + 4 * (queries + keys) + 3 * shape.hidden);
        let schedule = self.schedule(settings);
        let tokens = (0..schedule.a_epoch())
            .map(|step| self.batch(&schedule, step).tokens.len())
            .max();
        let logits = 4 * 64 * self.vocabulary;
        // The last factor: gradients beside what they are of, and the allocator's slack; measured (decision 19).
        let floats = matrices + table + 6 * variables + logits + a_token * tokens.unwrap_or(0) * 5 / 4;
        (100 << 20) + packed + 4 * floats as u64
    }
}

/// Loss and gradients of a batch.
fn derive(
    base: &Base,
    lora: &Lora,
    batch: &Batch,
    own: &[Tensor],
    weight: f32,
) -> Result<(Loss, GradStore), TrainError> {
    let hidden = forward(base, Some(lora), batch)?;
    let loss = loss(base, batch, &hidden, own, weight)?;
    let gradients = loss.total.backward()?;
    Ok((loss, gradients))
}

/// One step of AdamW.
fn advance(
    lora: &Lora,
    gradients: &GradStore,
    state: &mut State,
    settings: &Settings,
    rate: f32,
) -> Result<(), TrainError> {
    let slopes: Vec<Vec<f32>> = lora
        .variables()
        .map(|variable| slope(gradients, variable))
        .collect::<Result<_, _>>()?;
    let square = |slopes: &Vec<f32>| {
        slopes
            .iter()
            .map(|slope| f64::from(*slope) * f64::from(*slope))
            .sum::<f64>()
    };
    let length = slopes.iter().map(square).sum::<f64>().sqrt() as f32;
    state.step += 1;
    let correction = |beta: f32| 1.0 / (1.0 - beta.powf(state.step as f32));
    let step = Adam {
        rate,
        betas: BETAS,
        corrections: (correction(BETAS.0), correction(BETAS.1)),
        epsilon: 1e-8,
        decay: settings.weight_decay,
        clip: (settings.clip / length.max(1e-12)).min(1.0),
    };
    for ((variable, [first, second]), slope) in lora.variables().zip(&mut state.means).zip(&slopes) {
        let mut numbers = variable.flatten_all()?.to_vec1::<f32>()?;
        adam(&mut numbers, [first, second], slope, &step);
        variable.set(&Tensor::from_vec(numbers, variable.shape(), variable.device())?)?;
    }
    Ok(())
}

/// A variable without a gradient would silently stay as it is: an operation that has no derivative came between.
fn slope(gradients: &GradStore, variable: &Var) -> Result<Vec<f32>, TrainError> {
    let Some(slope) = gradients.get(variable) else {
        return Err(TrainError::Failed(
            "a variable has no gradient: this is a bug".to_owned(),
        ));
    };
    Ok(slope.flatten_all()?.to_vec1()?)
}

/// The most memory that this process ever had, in bytes; 0 where the system does not tell.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
