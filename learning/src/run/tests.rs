//! Whole runs over doubles: what passes, what doesn't, and what is left of a run that breaks off.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use habit_engine::embedder::HashEmbedder;
use habit_memory::clock::SystemClock;

use super::state::State;
use super::*;
use crate::random::Random;
use crate::testing::{Break, Pupil, School, things};

fn plan(examples: Vec<Example>) -> Plan {
    Plan {
        id: Uuid::from_u128(7),
        team: "acme".to_owned(),
        weights: PathBuf::from("base.gguf"),
        model_dir: PathBuf::from("."),
        examples,
        shares: Shares::default(),
        anchors: Vec::new(),
        general: vec!["rivers run to the sea".to_owned()],
        grid: grid(None, 1),
        bounds: Bounds {
            resamples: 1000,
            ..Bounds::default()
        },
        keep: false,
        memory: None,
        threads: None,
    }
}

fn parts(school: &Arc<School>) -> Parts {
    Parts {
        base: Pupil::new(1.0).model(),
        trainer: Arc::clone(school) as Arc<dyn Trainer>,
        loader: Arc::clone(school) as Arc<dyn Loader>,
        embedder: Arc::new(HashEmbedder::default()),
        clock: Arc::new(SystemClock),
    }
}

async fn run(folder: &Path, plan: Plan, school: &Arc<School>) -> Result<Report, RunError> {
    go(folder, plan, &parts(school), &Unwatched, &CancellationToken::new()).await
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_learns_passes_and_tells_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = run(folder.path(), plan(things(160)), &Arc::default())
        .await
        .expect("a report");
    assert!(report.verdict.promote, "{:?}", report.verdict);
    assert!(report.verdict.right.1 > 0.9 && report.model.as_ref().is_some_and(|model| model.is_file()));
    let left = [
        "adapter",
        "likelihood.svg",
        "model.gguf",
        "report.json",
        "report.md",
        "right.svg",
    ];
    assert_eq!(names(folder.path()), left, "nothing else is left of it");
    let text = std::fs::read_to_string(folder.path().join("report.md")).expect("the report");
    for part in [
        "**Passed**",
        "habit learn rollback",
        "Wrong before and right now",
        "copying the nearest example's answer",
        "about lamp",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let copied = report.nearest_label.expect("the arm without a model");
    assert!(copied.items == report.judged_by.len() && copied.right <= copied.items);
    let trained = &report.trained_on;
    assert!(trained.iter().all(|id| !report.judged_by.contains(id)) && !trained.is_empty());
    assert_eq!(Report::read(folder.path()).expect("the report"), Some(report));
}

#[tokio::test]
async fn feedback_without_a_meaning_is_rejected() {
    for seed in 0..5 {
        let mut examples = things(160);
        let mut answers: Vec<String> = examples.iter().map(|example| example.answer.clone()).collect();
        Random::new(seed).shuffle(&mut answers);
        examples
            .iter_mut()
            .zip(answers)
            .for_each(|(example, answer)| example.answer = answer);
        let folder = tempfile::tempdir().expect("a folder");
        let report = run(folder.path(), plan(examples), &Arc::default())
            .await
            .expect("a report");
        assert!(
            !report.verdict.promote && report.model.is_none(),
            "{:?}",
            report.verdict
        );
        assert!(!names(folder.path()).contains(&"model.gguf".to_owned()));
        assert!(report.markdown().contains("**Rejected**"));
    }
}

#[tokio::test]
async fn forgetting_is_rejected_and_few_examples_are_not_trained_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let school = Arc::new(School {
        forgets: 0.2,
        ..School::default()
    });
    let report = run(folder.path(), plan(things(160)), &school).await.expect("a report");
    assert!(
        !report.verdict.promote && report.verdict.reasons[0].contains("forgets"),
        "{:?}",
        report.verdict
    );
    let folder = tempfile::tempdir().expect("a folder");
    let school = Arc::new(School::default());
    let report = run(folder.path(), plan(things(30)), &school).await.expect("a report");
    assert!(
        !report.verdict.promote && report.verdict.reasons[0].contains("more"),
        "{:?}",
        report.verdict
    );
    assert_eq!(school.lessons.load(Ordering::SeqCst), 0, "no time was spent on it");
    assert!(
        report.markdown().contains("**Nothing was trained**"),
        "{}",
        report.markdown()
    );
    let nothing = run(tempfile::tempdir().expect("a folder").path(), plan(Vec::new()), &school).await;
    assert!(matches!(nothing, Err(RunError::Plan(_))));
}

#[tokio::test]
async fn a_run_that_breaks_off_goes_on_where_it_was() {
    let whole = tempfile::tempdir().expect("a folder");
    let wanted = run(whole.path(), plan(things(160)), &Arc::default())
        .await
        .expect("a report");
    for (place, lessons) in [(Break::Training, 2), (Break::Merging, 1), (Break::Loading, 1)] {
        let folder = tempfile::tempdir().expect("a folder");
        let school = Arc::new(School::default());
        school.break_at(place);
        let broken = run(folder.path(), plan(things(160)), &school).await;
        assert!(broken.is_err(), "{place:?}");
        let state = State::read(folder.path()).expect("a state").expect("a run");
        assert!(state.base.is_some(), "what was asked is kept");
        // What is given now is not looked at: the run under way is the one that was planned.
        let report = run(folder.path(), plan(things(30)), &school).await.expect("a report");
        assert_eq!(report.verdict, wanted.verdict, "{place:?}");
        assert_eq!(
            school.lessons.load(Ordering::SeqCst),
            lessons,
            "{place:?}: nothing is trained twice"
        );
        assert!(
            !names(folder.path())
                .iter()
                .any(|name| name.starts_with("setting") || name == "run.json")
        );
    }
}

/// A process that is killed leaves any of the files that were written, and a part of the next. Each of these states is
/// taken as the place where it was killed.
#[tokio::test]
async fn a_run_that_is_killed_between_any_two_steps_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let done = run(folder.path(), plan(things(160)), &Arc::default())
        .await
        .expect("a report");
    // Killed after the report was written, before the rest was put away.
    std::fs::create_dir_all(folder.path().join("setting-1")).expect("a folder");
    State::new(plan(things(160)), 1)
        .expect("a state")
        .keep(folder.path())
        .expect("kept");
    let school = Arc::new(School::default());
    assert_eq!(
        run(folder.path(), plan(things(160)), &school).await.expect("a report"),
        done
    );
    assert!(
        !names(folder.path())
            .iter()
            .any(|name| name.starts_with("setting") || name == "run.json")
    );
    // Killed after the model was moved in place, before the report was written.
    let kept = tempfile::tempdir().expect("a folder");
    school.break_at(Break::Loading);
    assert!(run(kept.path(), plan(things(160)), &school).await.is_err());
    let mut state = State::read(kept.path()).expect("a state").expect("a run");
    let merged = state.tried[0].merged.clone().expect("a merged file");
    let model = school.load(&merged).await.expect("a model");
    let cancel = CancellationToken::new();
    let options = crate::score::Options {
        nll: true,
        done: &|| {},
        cancel: &cancel,
    };
    let slices = crate::examples::slices(things(160));
    state.tried[0].scores = Some(super::state::Scores {
        gate: crate::score::examples(&model, &slices.gate, &options)
            .await
            .expect("scores"),
        report: crate::score::examples(&model, &slices.report, &options)
            .await
            .expect("scores"),
        general: crate::score::general(&model, &state.plan.general, &options)
            .await
            .expect("scores"),
    });
    state.keep(kept.path()).expect("kept");
    std::fs::rename(&merged, kept.path().join("model.gguf")).expect("moved");
    let report = run(kept.path(), plan(things(160)), &school).await.expect("a report");
    assert_eq!(report.verdict, done.verdict);
    assert!(
        report.model.is_some_and(|model| model.is_file()) && report.adapter.is_some_and(|adapter| adapter.is_dir())
    );
    // Half of a state is none: it is moved in place whole, so this is no crash but a broken disk, and is said.
    std::fs::write(kept.path().join("report.json"), "{").expect("written");
    assert!(matches!(
        run(kept.path(), plan(things(160)), &school).await,
        Err(RunError::Folder { .. })
    ));
}

#[tokio::test]
async fn it_can_be_cancelled() {
    let folder = tempfile::tempdir().expect("a folder");
    let cancel = CancellationToken::new();
    cancel.cancel();
    let school = Arc::new(School::default());
    let cancelled = go(folder.path(), plan(things(160)), &parts(&school), &Unwatched, &cancel).await;
    assert!(matches!(cancelled, Err(RunError::Cancelled)));
    assert!(
        run(folder.path(), plan(Vec::new()), &school)
            .await
            .expect("a report")
            .verdict
            .promote
    );
}

#[tokio::test]
async fn several_settings_share_the_error_and_the_best_is_judged() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan {
        grid: grid(None, 3),
        ..plan(things(160))
    };
    let school = Arc::new(School::default());
    let report = run(folder.path(), plan.clone(), &school).await.expect("a report");
    assert_eq!((report.tried.len(), report.verdict.tried, report.best), (3, 3, Some(0)));
    assert_eq!(school.lessons.load(Ordering::SeqCst), 3);
    let seven = Plan {
        grid: vec![Settings::default(); 7],
        ..plan
    };
    let refused = run(tempfile::tempdir().expect("a folder").path(), seven, &school).await;
    assert!(matches!(refused, Err(RunError::Plan(_))));
}

#[tokio::test]
async fn what_is_forgotten_leaves_the_report() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = run(folder.path(), plan(things(160)), &Arc::default())
        .await
        .expect("a report");
    let gone = report.changed[0].clone();
    assert!(Report::forget(folder.path(), &[gone.id]).expect("forgotten"));
    assert!(!Report::forget(folder.path(), &[Uuid::nil()]).expect("nothing"));
    for name in names(folder.path())
        .iter()
        .filter(|name| name.ends_with("json") || name.ends_with("md"))
    {
        let text = std::fs::read_to_string(folder.path().join(name)).expect("a file");
        assert!(!text.contains(&gone.question), "it is still in {name}");
    }
    assert!(
        Report::read(folder.path())
            .expect("a report")
            .expect("a report")
            .changed[0]
            .question
            .contains("forgotten")
    );
}

#[test]
fn the_grid_begins_with_the_best_and_repeats_nothing() {
    let best = Settings {
        epochs: 1,
        ..Settings::default()
    };
    for points in 0..9 {
        let grid = grid(Some(&best), points);
        assert_eq!(grid[0], best);
        assert_eq!(
            grid.len(),
            points.clamp(1, 5),
            "one epoch less than one is the same again"
        );
        assert!(
            grid.iter()
                .enumerate()
                .all(|(at, settings)| !grid[..at].contains(settings))
        );
    }
}
