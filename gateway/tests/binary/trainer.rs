//! The trainer as a process of its own: killed, cancelled, refused, and in the end the same adapter.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use habit_engine::{Message, Role};
use habit_learning::examples::Example;
use habit_learning::trainer::{Job, Settings, Step, TrainError, Trained, train_apart};
use tokio_util::sync::CancellationToken;

use crate::process::{habit, setting};

fn job(out: &Path) -> Job {
    let model_dir = setting("HABIT_TEST_MODEL");
    let example = |n: u128| Example {
        id: uuid::Uuid::from_u128(n),
        messages: vec![Message::new(Role::User, format!("What is behind door {n}?"))],
        answer: format!("room {}", n * 7),
        at: n as i64,
        weight: 1.0,
        from: Vec::new(),
        user: "u".to_owned(),
    };
    Job {
        weights: model_dir.join("model.gguf"),
        model_dir,
        examples: (1..=6).map(example).collect(),
        anchors: vec!["The sea is deep.".to_owned(), "Snow is white.".to_owned()],
        settings: Settings {
            batch: 2,
            epochs: 2,
            anchors_a_step: 1,
            checkpoint_every: 1,
            ..Settings::default()
        },
        out: out.to_owned(),
        memory: None,
        threads: None,
    }
}

async fn train(
    job: &Job,
    progress: &mut (dyn FnMut(Step) + Send),
    cancel: &CancellationToken,
) -> Result<Trained, TrainError> {
    train_apart(Path::new(env!("CARGO_BIN_EXE_habit")), job, progress, cancel.clone()).await
}

fn adapter(trained: &Trained) -> Vec<u8> {
    std::fs::read(trained.adapter.join("adapter_model.safetensors")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_or_cancelled_it_goes_on_to_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let never = CancellationToken::new();
    let whole = job(&dir.path().join("whole"));
    let mut steps = Vec::new();
    let done = train(&whole, &mut |step| steps.push(step.step), &never).await.unwrap();
    assert_eq!((steps, done.variables, done.examples), ((1..=6).collect(), 420, 6));
    assert!(done.peak_bytes < 3_000_000_000, "{}", done.peak_bytes);

    let killed = job(&dir.path().join("killed"));
    std::fs::create_dir_all(&killed.out).unwrap();
    let file = killed.out.join("job.json");
    std::fs::write(&file, serde_json::to_vec(&killed).unwrap()).unwrap();
    let mut child = habit()
        .arg("trainer")
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.take(3).count(), 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut first = None;
    let again = train(&killed, &mut |step| first = first.or(Some(step.step)), &never)
        .await
        .unwrap();
    assert!(first.unwrap() >= 3, "{first:?}");
    assert!(adapter(&again) == adapter(&done), "another adapter after a kill");

    let cancelled = job(&dir.path().join("cancelled"));
    let cancel = CancellationToken::new();
    let asked = cancel.clone();
    let error = train(&cancelled, &mut |_| asked.cancel(), &cancel).await.unwrap_err();
    let TrainError::Stopped { step, steps: 6 } = error else {
        panic!("{error}")
    };
    assert!((1..6).contains(&step), "{step}");
    let again = train(&cancelled, &mut |_| (), &never).await.unwrap();
    assert!(adapter(&again) == adapter(&done), "another adapter after a pause");

    let mut large = job(&dir.path().join("large"));
    large.memory = Some(1_000_000);
    let error = train(&large, &mut |_| panic!("a step"), &never).await.unwrap_err();
    assert!(
        matches!(error, TrainError::DoesNotFit { free: 1_000_000, .. }),
        "{error}"
    );

    let mut none = whole.clone();
    none.weights = dir.path().join("none.gguf");
    none.out = dir.path().join("none");
    let error = train(&none, &mut |_| (), &never).await.unwrap_err().to_string();
    assert!(error.contains("none.gguf"), "{error}");
}
