//! The trainer over made-up models of each layout: that it computes what is served, that its derivatives are right, that
//! what it makes can be merged and read by others, and that a run can break off anywhere.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use crate::{
    gguf,
    layout::{self, Layout, local},
};
use candle_core::quantized::GgmlDType;
use candle_core::{Tensor, Var};
use habit_engine::models::Weights as Files;
use habit_engine::native::{Lesson, Native, NativeOptions};
use habit_engine::{Message, Role};
use habit_learning::adapter::{self, Adapter};
use habit_learning::examples::Example;
use habit_learning::random::Random;
use habit_learning::trainer::base::Base;
use habit_learning::trainer::batch::{Batch, Sample};
use habit_learning::trainer::lora::Lora;
use habit_learning::trainer::loss::loss;
use habit_learning::trainer::model::forward;
use habit_learning::trainer::ops::outputs;
use habit_learning::trainer::{Job, Settings, TrainError, estimate, train};

const LAYOUTS: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// The smallest that has all parts.
fn small(architecture: &'static str) -> Layout {
    Layout {
        width: 64,
        heads: 4,
        kv_heads: 2,
        head: 32,
        hidden: 96,
        ..Layout::of(architecture)
    }
}

/// Variables as they may be after some steps: none is zero.
fn trained(base: &Base) -> Lora {
    let lora = Lora::new(&base.shape, 4, 8.0, 5).unwrap();
    let mut random = Random::new(11);
    for variable in lora.variables() {
        variable.set(&like(variable, &mut random, 0.2)).unwrap();
    }
    lora
}

/// Random numbers of a variable's shape.
fn like(variable: &Var, random: &mut Random, size: f64) -> Tensor {
    let numbers: Vec<f32> = (0..variable.elem_count())
        .map(|_| ((2.0 * random.unit() - 1.0) * size) as f32)
        .collect();
    Tensor::from_vec(numbers, variable.shape(), variable.device()).unwrap()
}

fn tokens() -> Vec<u32> {
    (0..40).map(|n| 1 + n * 31 % 250).collect()
}

async fn served(dir: &Path, path: &Path) -> Vec<f32> {
    let engine = Native::load(local(dir, path).await, NativeOptions::default())
        .await
        .unwrap();
    engine.prompt_logits(tokens()).await.unwrap().concat()
}

fn computed(base: &Base, lora: Option<&Lora>) -> Vec<f32> {
    let hidden = forward(base, lora, &Batch::new(&[], &[&tokens()])).unwrap();
    outputs(&hidden.detach(), &base.output).unwrap()
}

fn assert_alike(got: &[f32], want: &[f32], within: f32) {
    assert_eq!(got.len(), want.len());
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < within, "{worst} apart");
    let largest = want.iter().copied().fold(0.0f32, |most, x| most.max(x.abs()));
    assert!(largest > 0.5, "a model that says nothing: {largest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn untrained_it_is_the_model_that_is_served() {
    let dir = tempfile::tempdir().unwrap();
    for architecture in LAYOUTS {
        for kind in [GgmlDType::F32, GgmlDType::Q8_0, GgmlDType::Q4_0] {
            let path = dir.path().join(format!("{architecture}-{kind:?}.gguf"));
            Layout {
                kind,
                ..Layout::of(architecture)
            }
            .write(&path);
            let want = served(dir.path(), &path).await;
            let base = Base::read(&path).unwrap();
            assert_alike(&computed(&base, None), &want, 1e-3);
            let lora = Lora::new(&base.shape, 4, 8.0, 1).unwrap();
            assert_alike(&computed(&base, Some(&lora)), &want, 1e-3);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_it_is_served_as_it_was_trained() {
    let dir = tempfile::tempdir().unwrap();
    for architecture in LAYOUTS {
        let path = dir.path().join(format!("{architecture}.gguf"));
        Layout::of(architecture).write(&path);
        let base = Base::read(&path).unwrap();
        let lora = trained(&base);
        let folder = dir.path().join(format!("{architecture}-adapter"));
        Adapter::of(&lora, 4, 8.0).unwrap().write(&folder).unwrap();
        let merged = dir.path().join(format!("{architecture}-merged.gguf"));
        adapter::merge(&path, &folder, &merged).unwrap();
        let want = computed(&base, Some(&lora));
        assert_alike(&served(dir.path(), &merged).await, &want, 1e-3);
        let before = computed(&base, None);
        let moved = before.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(moved > 0.1, "the adapter changes nothing: {moved}");
    }
}

#[test]
fn a_merged_file_has_the_types_of_the_served_one() {
    let dir = tempfile::tempdir().unwrap();
    let (path, merged) = (dir.path().join("a.gguf"), dir.path().join("b.gguf"));
    let layout = Layout {
        kind: GgmlDType::Q8_0,
        ..Layout::of("llama")
    };
    layout.write(&path);
    let base = Base::read(&path).unwrap();
    let folder = dir.path().join("adapter");
    Adapter::of(&trained(&base), 4, 8.0).unwrap().write(&folder).unwrap();
    adapter::merge(&path, &folder, &merged).unwrap();
    let (before, after) = (gguf::read(&path), gguf::read(&merged));
    assert_eq!(before.len(), after.len());
    for (name, (kind, values)) in &before {
        assert_eq!(*kind, after[name].0, "{name}");
        let adapted = ["attn_q.", "attn_k.", "attn_v.", "attn_output.", "ffn_"]
            .iter()
            .any(|part| name.contains(part))
            && !name.contains("norm");
        assert_eq!(*values != after[name].1, adapted, "{name}");
    }
    // An adapter of another model is refused.
    let other = dir.path().join("other.gguf");
    small("llama").write(&other);
    let error = adapter::merge(&other, &folder, &merged).unwrap_err().to_string();
    assert!(error.contains("shape"), "{error}");
}

/// Three examples that begin alike, and two anchors.
fn samples() -> Vec<Sample> {
    let lesson = |prompt: &[u32], answer: &[u32], weight: f32| {
        let lesson = Lesson {
            prompt: [&[9, 8, 7, 6], prompt].concat(),
            answer: answer.to_vec(),
        };
        Sample::new(&lesson, weight, 64).unwrap()
    };
    vec![
        lesson(&[20, 30, 40], &[50, 51, 0], 1.0),
        lesson(&[21, 31], &[60, 0], 0.5),
        lesson(&[22, 32, 42, 52, 62], &[70, 71, 72, 0], 1.0),
    ]
}

fn batch(samples: &[Sample]) -> Batch {
    let samples: Vec<&Sample> = samples.iter().collect();
    Batch::new(&samples, &[&[100, 101, 102, 103], &[110, 111, 112]])
}

fn own(base: &Base) -> Vec<Tensor> {
    let anchors: [&[u32]; 2] = [&[100, 101, 102, 103], &[110, 111, 112]];
    let all = forward(base, None, &Batch::new(&[], &anchors)).unwrap().detach();
    vec![all.narrow(0, 0, 4).unwrap(), all.narrow(0, 4, 3).unwrap()]
}

#[test]
fn every_variable_has_its_gradient() {
    let dir = tempfile::tempdir().unwrap();
    for architecture in LAYOUTS {
        let path = dir.path().join(format!("{architecture}.gguf"));
        small(architecture).write(&path);
        let base = Base::read(&path).unwrap();
        let lora = trained(&base);
        let (batch, own) = (batch(&samples()), own(&base));
        assert_eq!(batch.shared, 4);
        let total = || {
            let hidden = forward(&base, Some(&lora), &batch).unwrap();
            loss(&base, &batch, &hidden, &own, 0.7).unwrap().total
        };
        let gradients = total().backward().unwrap();
        let number = || f64::from(total().to_scalar::<f32>().unwrap());
        let mut random = Random::new(3);
        for (index, variable) in lora.variables().enumerate() {
            let gradient = gradients.get(variable).expect("a gradient");
            let at = variable.as_detached_tensor().copy().unwrap();
            // Along the gradient the slope is the largest, and a wrong one shows; a random part tells its direction.
            let length = gradient
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
                .sqrt();
            assert!(length > 1e-5, "{architecture}, variable {index}: no gradient");
            let along = (gradient / f64::from(length)).unwrap();
            let noise = like(variable, &mut random, 1.0);
            let noise_length = noise
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
                .sqrt();
            let direction = (along + (noise / f64::from(noise_length)).unwrap()).unwrap();
            let step = 0.02;
            let moved = |by: f64| {
                variable.set(&(&at + (&direction * by).unwrap()).unwrap()).unwrap();
                number()
            };
            // Four points: the error is of the fourth order.
            let (near, far) = (moved(step) - moved(-step), moved(2.0 * step) - moved(-2.0 * step));
            let slope = (8.0 * near - far) / (12.0 * step);
            variable.set(&at).unwrap();
            let want = (gradient * &direction)
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            let apart = (slope - f64::from(want)).abs();
            assert!(
                apart < 2e-4 + 0.01 * f64::from(want.abs()),
                "{architecture}, variable {index}: {slope} for {want}"
            );
        }
        assert_eq!(lora.variables().count(), 2 * layout::LAYERS * 7);
    }
}

#[test]
fn what_is_packed_together_is_as_if_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    small("llama").write(&path);
    let base = Base::read(&path).unwrap();
    let lora = trained(&base);
    let all = samples();
    let surprise = |samples: &[&Sample]| {
        let batch = Batch::new(samples, &[]);
        let hidden = forward(&base, Some(&lora), &batch).unwrap();
        loss(&base, &batch, &hidden, &[], 0.0).unwrap().surprise
    };
    let together = surprise(&all.iter().collect::<Vec<_>>());
    let weight = |sample: &Sample| sample.weight * sample.wanted.len() as f32;
    let alone: f32 = all.iter().map(|sample| surprise(&[sample]) * weight(sample)).sum();
    let alone = alone / all.iter().map(weight).sum::<f32>();
    assert!((together - alone).abs() < 1e-4, "{together} for {alone}");
    // The model as it is served is at no distance from itself.
    let batch = batch(&all);
    let hidden = forward(&base, None, &batch).unwrap();
    let same = loss(&base, &batch, &hidden, &own(&base), 1.0).unwrap();
    assert!(same.distance.abs() < 1e-5, "{}", same.distance);
    let hidden = forward(&base, Some(&lora), &batch).unwrap();
    assert!(loss(&base, &batch, &hidden, &own(&base), 1.0).unwrap().distance > 1e-3);
}

async fn job(dir: &Path, out: &str) -> Job {
    let path = dir.join("served.gguf");
    if !path.exists() {
        small("llama").write(&path);
    }
    let model = local(dir, &path).await;
    let Files::Gguf(weights) = model.weights else {
        panic!("no GGUF")
    };
    let example = |n: u128| Example {
        id: uuid::Uuid::from_u128(n),
        messages: vec![Message::new(Role::User, format!("what is {n}"))],
        answer: ["yes", "no", "he"][n as usize % 3].to_owned(),
        at: n as i64,
        weight: 1.0,
        from: Vec::new(),
        user: "u".to_owned(),
    };
    Job {
        weights,
        model_dir: model.tokenizer_dir.unwrap(),
        examples: (0..10).map(example).collect(),
        anchors: Vec::new(),
        settings: Settings {
            batch: 4,
            epochs: 3,
            checkpoint_every: 2,
            ..Settings::default()
        },
        out: dir.join(out),
        memory: None,
        threads: None,
    }
}

fn adapter_bytes(out: &Path) -> Vec<Vec<f32>> {
    let adapter = Adapter::read(&out.join("adapter")).unwrap();
    let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
    adapter.pairs.values().flatten().map(numbers).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_broke_off_ends_as_if_it_had_not() {
    let dir = tempfile::tempdir().unwrap();
    let whole = job(dir.path(), "whole").await;
    let mut losses = Vec::new();
    let done = train(&whole, &mut |step| losses.push(step.loss), &|| false).unwrap();
    assert_eq!(
        (done.steps, done.examples, done.skipped, done.variables),
        (9, 10, 0, 28)
    );
    assert_eq!(losses.len(), 9);
    assert!(
        losses[8] < losses[0] && done.loss < losses[0],
        "nothing was learnt: {losses:?}"
    );
    if cfg!(target_os = "linux") {
        assert!(done.peak_bytes > 1 << 20);
    }

    let broken = job(dir.path(), "broken").await;
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 5
    };
    let error = train(&broken, &mut |_| (), &stop).unwrap_err();
    assert!(matches!(error, TrainError::Stopped { step: 5, steps: 9 }), "{error}");
    assert!(!broken.out.join("adapter").exists());
    // What a kill leaves besides the last checkpoint.
    std::fs::write(broken.out.join("checkpoint.safetensors.part"), "half").unwrap();
    let mut first = None;
    let done = train(&broken, &mut |step| first = first.or(Some(step.step)), &|| false).unwrap();
    assert_eq!((first, done.steps), (Some(6), 9));
    assert_eq!(adapter_bytes(&whole.out), adapter_bytes(&broken.out));

    // A job that has ended is not done again; another one in the same folder is.
    let again = train(&broken, &mut |_| panic!("a step"), &|| false).unwrap();
    assert_eq!(again, done);
    let mut other = job(dir.path(), "broken").await;
    other.settings.seed = 9;
    train(&other, &mut |_| (), &|| false).unwrap();
    assert_ne!(adapter_bytes(&whole.out), adapter_bytes(&broken.out));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_before_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let good = job(dir.path(), "out").await;
    let told = estimate(&good).unwrap();
    assert_eq!((told.steps, told.variables), (9, 28));
    assert!(
        told.bytes > 1 << 20 && told.seconds > 0.0 && told.parameters > 1000,
        "{told:?}"
    );
    let refused = |change: &dyn Fn(&mut Job), why: &str| {
        let mut job = good.clone();
        change(&mut job);
        for error in [
            estimate(&job).map(|_| ()).unwrap_err(),
            train(&job, &mut |_| panic!("a step"), &|| false)
                .map(|_| ())
                .unwrap_err(),
        ] {
            assert!(error.to_string().contains(why), "{why}: {error}");
        }
    };
    refused(&|job| job.memory = Some(1 << 20), "1 MB are free");
    refused(&|job| job.examples.clear(), "no example was given");
    refused(
        &|job| job.examples.iter_mut().for_each(|example| example.weight = 0.0),
        "weigh nothing",
    );
    refused(&|job| job.settings.rank = 0, "`rank`");
    refused(&|job| job.settings.learning_rate = f32::NAN, "`learning_rate`");
    refused(&|job| job.model_dir = PathBuf::from("/nonexistent"), "/nonexistent");
    assert!(!good.out.exists());
}

#[test]
fn adapters_are_read_back_and_others_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    small("qwen3").write(&path);
    let lora = trained(&Base::read(&path).unwrap());
    let folder = dir.path().join("adapter");
    let written = Adapter::of(&lora, 4, 8.0).unwrap();
    written.write(&folder).unwrap();
    let read = Adapter::read(&folder).unwrap();
    assert_eq!((read.rank, read.scale, read.pairs.len()), (4, 2.0, 14));
    for (at, pair) in &written.pairs {
        for (a, b) in pair.iter().zip(&read.pairs[at]) {
            assert_eq!(a.to_vec2::<f32>().unwrap(), b.to_vec2::<f32>().unwrap());
        }
    }
    let config = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    for (from, to, why) in [
        ("\"use_dora\": false", "\"use_dora\": true", "use_dora"),
        ("LORA", "IA3", "IA3"),
        ("\"r\": 4", "\"r\": 8", "the rank 8"),
        ("\"r\": 4", "\"r\": 0", "usable `r`"),
    ] {
        let changed = config.replace(from, to);
        assert_ne!(changed, config, "{from}");
        std::fs::write(folder.join("adapter_config.json"), changed).unwrap();
        let error = Adapter::read(&folder).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    std::fs::write(folder.join("adapter_config.json"), &config).unwrap();
    std::fs::write(folder.join("adapter_model.safetensors"), "no").unwrap();
    assert!(Adapter::read(&folder).is_err());
    assert!(Adapter::read(&dir.path().join("nowhere")).is_err());
}
