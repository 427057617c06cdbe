//! A run's report for people. Pure.

use std::fmt::Write;

use habit_memory::routines::{Made, Routine, Run};
use jiff::Timestamp;

/// In Markdown.
pub fn markdown(run: &Run, changes: &[Made], routine: Option<&dyn Routine>) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = write(&mut text, run, changes, routine);
    text
}

fn write(text: &mut String, run: &Run, changes: &[Made], routine: Option<&dyn Routine>) -> std::fmt::Result {
    let whom = match (&run.target.team, &run.target.user) {
        (Some(team), Some(user)) => format!("{user} of team {team}"),
        (Some(team), None) => format!("team {team}"),
        _ => "everyone".to_owned(),
    };
    writeln!(text, "# {}, for {whom}\n", run.routine)?;
    if let Some(routine) = routine {
        writeln!(text, "{}\n", routine.about())?;
    }
    let status = format!("{:?}", run.status).to_lowercase();
    writeln!(text, "- {status}: {} of {} done", run.done, run.total)?;
    writeln!(text, "- begun {}, since: {}", time(run.started_at), run.cause)?;
    if let Some(ended) = run.ended_at {
        writeln!(text, "- ended {}", time(ended))?;
    }
    if !run.findings.counts.is_empty() {
        writeln!(text, "\n## Seen\n")?;
        for (what, times) in &run.findings.counts {
            writeln!(text, "- {times} {what}")?;
        }
    }
    if !run.findings.notes.is_empty() {
        writeln!(text, "\n## To look at\n")?;
        for note in &run.findings.notes {
            writeln!(text, "- {note}")?;
        }
    }
    writeln!(text, "\n## Changed\n")?;
    if changes.is_empty() {
        writeln!(text, "Nothing.")?;
    }
    for made in changes {
        writeln!(text, "- {}: {}", made.status, made.change.what)?;
    }
    writeln!(text, "\n## Undo\n")?;
    if let Some(routine) = routine {
        write!(text, "{}", routine.undoing())?;
    }
    if changes.iter().any(|made| made.status != "undone") {
        write!(text, " `habit downtime undo {}`", run.id)?;
    }
    writeln!(text)
}

fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(
        |_| "?".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}
