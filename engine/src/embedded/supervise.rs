//! An engine that crashes is loaded again, in the background.

use std::{sync::Arc, time::Duration};

use super::{Shared, State, load::load};

/// The wait after a failed or short-lived engine; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// An engine that has lived this long starts the waits anew.
const STEADY: Duration = Duration::from_mins(1);

/// Watches the engine until the model is given up.
pub(super) async fn supervise(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.shutdown.cancelled() => {}
        () = keep_alive(&shared) => {}
    }
}

async fn keep_alive(shared: &Shared) {
    let mut wait = Duration::ZERO;
    loop {
        let Ok(runner) = shared.runner() else { return };
        let since = tokio::time::Instant::now();
        runner.crashed().await;
        drop(runner);
        if since.elapsed() > STEADY {
            wait = Duration::ZERO;
        }
        let model = &shared.model.id;
        tracing::error!(model, "the engine crashed; it is being loaded again");
        shared.set(State::Down(
            "the engine crashed and is being loaded again; try again in a few seconds".to_owned(),
        ));
        loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
            match load(&shared.model, &shared.options).await {
                Ok(runner) => {
                    shared.set(State::Ready(Arc::new(runner)));
                    tracing::info!(model, "the engine runs again");
                    break;
                }
                Err(error) => {
                    tracing::error!(model, %error, "the engine can't be loaded again");
                    let next = wait.as_secs();
                    shared.set(State::Down(format!(
                        "the engine crashed: {error}; the next attempt is in {next} s"
                    )));
                }
            }
        }
    }
}
