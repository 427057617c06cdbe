//! Scores over doubles: a [`Pupil`] that knows answers, and the scripted engine's failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use habit_engine::scripted::{Failure, MODEL, Scripted};
use habit_engine::{EngineError, FinishReason};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::{Pupil, things};

fn scripted(engine: Scripted) -> Model {
    Model {
        engine: Arc::new(engine),
        name: MODEL.to_owned(),
    }
}

async fn scored(model: &Model, count: usize) -> Result<Vec<Scored>, ScoreError> {
    let cancel = CancellationToken::new();
    let options = Options {
        nll: true,
        done: &|| {},
        cancel: &cancel,
    };
    examples(model, &things(count), &options).await
}

#[tokio::test]
async fn right_answers_are_counted_in_order_with_their_likelihood() {
    let things = things(20);
    let known: Vec<(String, String)> = things[..10].iter().map(|e| (e.question(), e.answer.clone())).collect();
    let scored = scored(&Pupil::new(0.5).knowing(&known).model(), 10)
        .await
        .expect("scores");
    assert!(
        scored
            .iter()
            .zip(&things)
            .all(|(scored, thing)| scored.id == thing.id && scored.right)
    );
    assert!((mean_nll(&scored).expect("likelihoods") - 0.5).abs() < 1e-9);
    assert!((share_right(&scored) - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_reply_must_be_the_answer_and_end() {
    let wanted = &things(1)[0].answer;
    let right = scored(&scripted(Scripted::default().reply(format!(" {wanted}\n"))), 1)
        .await
        .expect("scores");
    assert!(right[0].right, "spaces around it don't count");
    let goes_on = scored(&scripted(Scripted::default().reply(format!("{wanted}, I think"))), 1)
        .await
        .expect("scores");
    assert!(!goes_on[0].right && goes_on[0].reply.starts_with(wanted.as_str()));
    let cut = Scripted::default().sending([Delta::Text(wanted.clone())], FinishReason::Length);
    assert!(
        !scored(&scripted(cut), 1).await.expect("scores")[0].right,
        "it did not end"
    );
}

#[tokio::test]
async fn what_the_engine_asks_for_is_background_work_without_chance() {
    let engine = Scripted::default();
    scored(&scripted(engine.clone()), 3).await.expect("scores");
    let requests = engine.requests();
    assert!(requests.iter().all(|request| request.priority == Priority::Background));
    let replies: Vec<_> = requests.iter().filter(|request| request.raw.is_none()).collect();
    assert_eq!(replies.len(), 3);
    assert!(
        replies
            .iter()
            .all(|request| request.sampling.temperature == Some(0.0) && request.max_tokens.is_some())
    );
}

#[tokio::test]
async fn an_engine_without_probabilities_has_no_likelihoods() {
    let silent = Pupil::new(f64::NAN).model();
    assert_eq!(mean_nll(&scored(&silent, 2).await.expect("scores")), None);
    let cancel = CancellationToken::new();
    let options = Options {
        nll: true,
        done: &|| {},
        cancel: &cancel,
    };
    let texts = ["a sentence".to_owned()];
    assert_eq!(general(&silent, &texts, &options).await.expect("scores"), None);
    let told = general(&Pupil::new(2.0).model(), &texts, &options)
        .await
        .expect("scores")
        .expect("likelihood");
    assert_eq!((told.nll.to_bits(), told.tokens), (2.0f64.to_bits(), 2));
}

#[tokio::test]
async fn too_long_is_wrong_busy_is_tried_again_and_broken_is_an_error() {
    tokio::time::pause();
    let small = scored(&scripted(Scripted::default().window(8)), 2)
        .await
        .expect("scores");
    assert!(small.iter().all(|scored| !scored.right && scored.nll.is_none()));
    let busy = EngineError::Overloaded {
        running: 1,
        waiting: 1,
        retry_after_s: 1,
    };
    let engine = Scripted::default().failing(Failure::BeforeStream(busy));
    assert_eq!(scored(&scripted(engine), 1).await.expect("scores").len(), 1);
    let broken = Scripted::default().failing(Failure::AfterDeltas(1, EngineError::Interrupted("gone".into())));
    assert!(matches!(scored(&scripted(broken), 1).await, Err(ScoreError::Engine(_))));
}

#[tokio::test]
async fn it_can_be_stopped_and_says_how_far_it_is() {
    let (engine, gate) = Scripted::default().gated();
    let cancel = CancellationToken::new();
    let done = AtomicUsize::new(0);
    let count = || {
        done.fetch_add(1, Ordering::SeqCst);
        cancel.cancel();
    };
    let options = Options {
        nll: false,
        done: &count,
        cancel: &cancel,
    };
    let model = scripted(engine.clone());
    let all = things(40);
    gate.release(12);
    let stopped = examples(&model, &all, &options).await;
    assert!(matches!(stopped, Err(ScoreError::Cancelled)));
    assert!(done.load(Ordering::SeqCst) >= 1);
    assert_eq!(engine.active(), 0, "what ran was dropped");
}
