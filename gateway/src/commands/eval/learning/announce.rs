//! How long the training of all seeds will take: told before it begins, by a step that is timed here.

use habit_learning::examples::{Example, slices_by};
use habit_learning::gate::Bounds;
use habit_learning::trainer::{Job, estimate};

use super::arms::{SHARES, Setup, downtimes};
use super::lived::Arm;
use super::stream::Stream;

/// Says it on standard error, if anything is trained at all. That it can't be known stops nothing: the training itself
/// says what is wrong.
pub async fn training(setup: &Setup<'_>, streams: &[(u64, Stream)]) {
    let keep = setup.arms.contains(&Arm::Ungated);
    let shared = setup.arms.iter().any(|arm| arm.is_trained());
    let mut sizes = Vec::new();
    for (_, stream) in streams {
        if shared {
            sizes.extend(trained(&stream.corrections, setup.every, keep));
        }
        if setup.arms.contains(&Arm::Shuffled) {
            sizes.extend(trained(&stream.corrections, setup.every, false));
        }
    }
    let examples = streams.first().map(|(_, stream)| stream.corrections.clone());
    let (Some(examples), Some(most)) = (examples, sizes.iter().max().copied()) else {
        return;
    };
    let (settings, tries) = &setup.settings;
    let job = Job {
        weights: setup.files.0.clone(),
        model_dir: setup.files.1.clone(),
        examples: examples.into_iter().take(most).collect(),
        anchors: setup.anchors.to_vec(),
        settings: settings.clone(),
        out: setup.place.to_owned(),
        memory: None,
        threads: None,
    };
    eprintln!("timing a step of training …");
    let Ok(Ok(one)) = tokio::task::spawn_blocking(move || estimate(&job)).await else {
        return;
    };
    // Steps go by examples.
    let whole: usize = sizes.iter().sum();
    let seconds = one.seconds * whole as f64 / most.max(1) as f64 * *tries as f64;
    eprintln!(
        "{} seeds with {} trainings in all: about {:.0} minutes and {} MB on this machine, if it is idle; asking and merging \
         come on top. Fewer --seeds, or --every with as many as --corrections, take less.",
        streams.len(),
        sizes.len() * tries,
        (seconds / 60.0).ceil(),
        one.bytes / 1_000_000,
    );
}

/// The examples that are trained on in each downtime that trains.
fn trained(corrections: &[Example], every: usize, keep: bool) -> Vec<usize> {
    let slices = downtimes(corrections.len(), every)
        .into_iter()
        .map(|end| slices_by(corrections[..end].to_vec(), SHARES));
    let enough = slices.filter(|slices| keep || slices.gate.len() >= Bounds::default().items);
    enough
        .map(|slices| slices.train.len())
        .filter(|train| *train > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use habit_engine::{Message, Role};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_downtimes_that_train_count() {
        let example = |number: u128| Example {
            id: Uuid::from_u128(number),
            messages: vec![Message::new(
                Role::User,
                format!("question {number} of {}", number * 7919),
            )],
            answer: "yes".to_owned(),
            at: i64::try_from(number).unwrap(),
            weight: 1.0,
            from: Vec::new(),
            user: "u".to_owned(),
        };
        let all: Vec<Example> = (1..=160).map(example).collect();
        assert_eq!(trained(&all, 40, false).len(), 3, "forty are too few to judge by");
        assert_eq!(trained(&all, 40, true).len(), 4);
        assert_eq!(trained(&all[..40], 40, false).len(), 0);
    }
}
