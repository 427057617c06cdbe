//! The laws of [`Engine`] over every implementation that needs no model. Over the engines that run one they are checked
//! in `native.rs` and `embedded.rs`.

use std::sync::Arc;

use crate::{laws, laws::Says, upstream};
use habit_engine::admission::Admission;
use habit_engine::fleet::patience::Patience;
use habit_engine::fleet::{Fleet, Member, MemberOptions};
use habit_engine::scripted::{MODEL, Scripted};
use habit_engine::worker::{Worker, WorkerOptions};

#[tokio::test]
async fn scripted_keeps_the_laws() {
    laws::engine(Arc::new(Scripted::default()), MODEL, Says::TheSame).await;
}

#[tokio::test]
async fn admission_keeps_the_laws() {
    let admission = Arc::new(Admission::new(Arc::new(Scripted::default()), 2, 8));
    laws::engine(admission.clone(), MODEL, Says::TheSame).await;
    assert_eq!((admission.running(), admission.waiting()), (0, 0));
}

#[tokio::test]
async fn fleet_keeps_the_laws() {
    laws::engine(
        Arc::new(Fleet::new(vec![Arc::new(Scripted::default())])),
        MODEL,
        Says::TheSame,
    )
    .await;
}

#[tokio::test]
async fn a_fleet_of_remote_engines_keeps_the_laws() {
    let member = |name: &str| {
        let second = std::time::Duration::from_secs(5);
        let patient = Patience::new(Arc::new(Scripted::default()), name, second, second);
        let options = MemberOptions {
            name: name.into(),
            ..MemberOptions::default()
        };
        Arc::new(Member::remote(Arc::new(patient), options))
    };
    let fleet = Fleet::of(vec![member("one"), member("two")]);
    fleet.first_look(std::time::Duration::from_secs(5)).await;
    laws::engine(Arc::new(fleet), MODEL, Says::TheSame).await;
}

#[tokio::test]
async fn worker_keeps_the_laws() {
    let upstream = upstream::serve(Arc::new(Scripted::default())).await;
    let options = WorkerOptions {
        base_url: upstream,
        api_key: None,
        name: "the upstream".into(),
        ..WorkerOptions::default()
    };
    let worker = Worker::new(options).unwrap();
    worker.connect().await.unwrap();
    laws::engine(Arc::new(worker), MODEL, Says::TheSame).await;
}
