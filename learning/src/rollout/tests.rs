use habit_memory::clock::SystemClock;
use habit_memory::store::sea::SeaJournal;
use habit_memory::testing::Postgres;
use proptest::prelude::*;

use super::*;

fn model() -> TeamModel {
    TeamModel::new("base", "/models/merged.gguf", 1)
}

fn outcome(user: &str, model: Option<Uuid>, reward: f64) -> Outcome {
    Outcome {
        turn: Uuid::now_v7(),
        user: user.to_owned(),
        arm: if model.is_some() { Arm::Adapter } else { Arm::Base },
        model,
        reward,
    }
}

/// Where the states are kept.
enum Home {
    Folder(tempfile::TempDir),
    Server(Postgres),
}

async fn homes() -> [Home; 2] {
    [
        Home::Folder(tempfile::tempdir().unwrap()),
        Home::Server(Postgres::start().await),
    ]
}

async fn open(home: &Home) -> Rollouts {
    let journal = match home {
        Home::Folder(folder) => SeaJournal::open(&folder.path().join("habit.db")).await.unwrap(),
        Home::Server(server) => server.open().await,
    };
    let rollouts = Rollouts::new(journal.database(), Arc::new(SystemClock));
    rollouts.refresh().await.unwrap();
    rollouts
}

#[tokio::test]
async fn a_restart_keeps_it_and_other_teams_see_nothing() {
    for home in homes().await {
        outlives(&home).await;
    }
}

async fn outlives(home: &Home) {
    let (first, second) = (model(), model());
    let before = {
        let rollouts = open(home).await;
        rollouts.offer("a", &first).await.unwrap();
        rollouts.promote("a", first.id, "the gate").await.unwrap();
        rollouts.offer("a", &second).await.unwrap();
        rollouts.canary("a", second.id, 0.25).await.unwrap();
        rollouts
            .reject("b", &model(), &["it forgets".to_owned()])
            .await
            .unwrap();
        rollouts.state("a")
    };
    let rollouts = open(home).await;
    assert_eq!(rollouts.state("a"), before);
    assert_eq!(rollouts.state("a").serving, Some(first.id));
    assert_eq!(rollouts.state("b").serving, None);
    let foreign = rollouts.promote("b", first.id, "why not").await;
    assert_eq!(foreign.unwrap_err(), RolloutError::Unknown(first.id));
    // Twice back: the trial first, then the promoted one.
    rollouts.rollback("a", "by hand").await.unwrap();
    assert_eq!(rollouts.state("a").serving, Some(first.id));
    rollouts.rollback("a", "by hand").await.unwrap();
    assert_eq!(rollouts.state("a").serving, None);
    let again = rollouts.rollback("a", "by hand").await.unwrap_err();
    assert!(again.to_string().contains("base model serves already"), "{again}");
    let events: Vec<Event> = rollouts.state("a").history.iter().map(|entry| entry.event).collect();
    let expected = [
        Event::Offered,
        Event::Promoted,
        Event::Offered,
        Event::Canary,
        Event::RolledBack,
        Event::RolledBack,
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn changes_from_two_gateways_at_once_are_all_there() {
    for home in homes().await {
        all_there(&home).await;
    }
}

async fn all_there(home: &Home) {
    let gateways = [open(home).await, open(home).await];
    let models: Vec<TeamModel> = (0..12).map(|_| model()).collect();
    let offers = models
        .iter()
        .zip(gateways.iter().cycle())
        .map(|(model, gateway)| gateway.offer("a", model));
    for offered in futures::future::join_all(offers).await {
        offered.unwrap();
    }
    gateways[0].refresh().await.unwrap();
    assert_eq!(gateways[0].state("a").models.len(), models.len());
}

#[test]
fn what_did_not_pass_or_was_withdrawn_never_serves() {
    let mut state = State::default();
    let (good, bad) = (model(), model());
    state.reject(bad.clone(), &["lower bound below zero".to_owned()], 1);
    assert!(state.promote(bad.id, "", 2).is_err() && state.begin_canary(bad.id, 0.1, 2).is_err());
    let none = model();
    let entry = state.untrained(none.clone(), &["too few examples".to_owned()], 2);
    assert!(
        entry.what.contains("trained nothing") && !entry.what.contains("rejected"),
        "{entry:?}"
    );
    assert!(state.promote(none.id, "", 2).is_err());
    state.offer(good.clone(), 3);
    assert!(state.begin_canary(good.id, 0.0, 3).is_err() && state.begin_canary(good.id, 1.5, 3).is_err());
    state.begin_canary(good.id, 1.0, 4).unwrap();
    assert_eq!(state.serving, Some(good.id));
    state.withdraw(good.id, "a user was erased", 5).unwrap();
    assert_eq!(state.serving, None);
    assert!(state.promote(good.id, "", 6).is_err());
}

#[test]
fn a_bad_canary_is_rolled_back_by_itself_and_no_single_user_can_do_it() {
    let mut state = State::default();
    let tried = model();
    state.offer(tried.clone(), 1);
    state.begin_canary(tried.id, 0.5, 2).unwrap();
    state.observe(outcome("ann", Some(tried.id), 1.0), 2);
    for _ in 0..500 {
        assert_eq!(state.observe(outcome("mallory", Some(tried.id), 0.0), 3), None);
        state.observe(outcome("mallory", None, 1.0), 3);
    }
    let seen = &state.canary.as_ref().unwrap().seen;
    assert_eq!(seen.len(), 41, "twenty a side are all that one user counts for");
    let mut entry = None;
    for round in 0..60 {
        let user = format!("user {}", round % 6);
        for (model, reward) in [(None, 1.0), (Some(tried.id), 0.0)] {
            entry = entry.or(state.observe(outcome(&user, model, reward), 4));
        }
    }
    let entry = entry.expect("worse in every turn of seven users");
    assert_eq!((entry.event, state.canary.as_ref()), (Event::RolledBack, None));
    assert!(entry.why[0].contains("does worse"), "{entry:?}");
    assert_eq!(state.model(tried.id).unwrap().status, Status::RolledBack);
}

/// Looked at after each of 400 outcomes: the bounds must hold at all of these moments together.
#[test]
fn a_canary_that_is_as_good_is_left_alone() {
    let mut called = 0;
    for seed in 0_u64..40 {
        let mut seen = Vec::new();
        let mut wrong = false;
        for round in 0_u64..400 {
            let reward = f64::from(u8::from(
                choice::lot(&[&seed.to_le_bytes(), &round.to_le_bytes()]) < 0.6,
            ));
            let user = format!("user {}", round / 2);
            let turn = Uuid::now_v7();
            let tried = round % 2 == 0;
            watch::note(
                &mut seen,
                watch::Seen {
                    turn,
                    user,
                    tried,
                    reward,
                },
            );
            wrong |= round % 20 == 0 && watch::verdict(&seen) != watch::Verdict::Open;
        }
        called += usize::from(wrong);
    }
    assert!(
        called <= 2,
        "{called} of 40, where one in twenty is the most that is promised"
    );
}

proptest! {
    #[test]
    fn probabilities_sum_to_one_and_none_is_under_the_floor(
        outcomes in prop::collection::vec((0..3_u8, any::<bool>()), 0..80),
    ) {
        let all = [Arm::Base, Arm::FewShot, Arm::Adapter];
        let mut arms = choice::Arms::default();
        for (arm, good) in &outcomes {
            arms.learn(all[usize::from(*arm)], f64::from(u8::from(*good)));
        }
        let policy = Policy::default();
        let probabilities = arms.probabilities(&all, &policy);
        prop_assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert!(probabilities.iter().all(|p| *p >= policy.floor - 1e-12), "{probabilities:?}");
        let (arm, told) = arms.choose(&all, &policy, 0.5).unwrap();
        let place = all.iter().position(|known| *known == arm).unwrap();
        prop_assert!((told - probabilities[place]).abs() < 1e-12);
    }
}

#[test]
fn what_does_well_is_taken_more_and_what_changes_is_noticed() {
    let two = [Arm::Base, Arm::Adapter];
    let mut arms = choice::Arms::default();
    let policy = Policy::default();
    let even = arms.probabilities(&two, &policy);
    assert!((even[0] - 0.5).abs() < 0.1, "{even:?}");
    for _ in 0..40 {
        arms.learn(Arm::Adapter, 1.0);
        arms.learn(Arm::Base, 0.0);
    }
    let better = arms.probabilities(&two, &policy);
    assert!(better[1] > 0.9 && better[0] >= 0.05, "{better:?}");
    for _ in 0..150 {
        arms.learn(Arm::Adapter, 0.0);
        arms.learn(Arm::Base, 1.0);
    }
    let turned = arms.probabilities(&two, &policy);
    assert!(turned[0] > 0.9, "{turned:?}");
    assert_eq!(arms.choose(&[], &policy, 0.1), None);
    assert_eq!(arms.choose(&[Arm::Base], &policy, 0.99), Some((Arm::Base, 1.0)));
}
