//! A run's report in words and tables.

use std::fmt::Write;

use super::report::{Change, Changed, Counts, LIKELIHOOD, RIGHT, Report};
use crate::few_shot::Copied;
use crate::gate::Interval;

impl Report {
    /// For people.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = self.markdown_to(&mut text);
        text
    }

    fn markdown_to(&self, f: &mut String) -> std::fmt::Result {
        let verdict = &self.verdict;
        writeln!(f, "# Learning run {}\n", self.id)?;
        writeln!(f, "Team {}, {:.0} s of work.\n", self.team, self.seconds)?;
        if verdict.promote {
            writeln!(
                f,
                "**Passed**: on examples that it was not trained on it is better, and it remembers the rest.\n"
            )?;
        } else {
            let what = if self.best.is_some() {
                "Rejected"
            } else {
                "Nothing was trained"
            };
            writeln!(f, "**{what}**: nothing that is served has changed.\n")?;
            verdict
                .reasons
                .iter()
                .try_for_each(|reason| writeln!(f, "- {reason}"))?;
            writeln!(f)?;
        }
        let Counts {
            train,
            gate,
            canary,
            report,
            left_out,
        } = self.counts;
        writeln!(
            f,
            "{train} examples to train on, {gate} to judge by, {canary} for the canary, {report} to report; {left_out} left \
             out because an older one is nearly the same.\n"
        )?;
        if self.best.is_some() {
            self.figures(f)?;
            self.settings(f)?;
            self.examples(f)?;
        }
        writeln!(f, "## How to undo it\n")?;
        if self.model.is_some() && verdict.promote {
            writeln!(
                f,
                "`habit learn rollback` makes what served before it serve again, at once and with no request lost; the model \
                 file that it began from is untouched."
            )
        } else {
            writeln!(f, "There is nothing to undo.")
        }
    }

    fn figures(&self, f: &mut String) -> std::fmt::Result {
        let verdict = &self.verdict;
        writeln!(f, "## By how much, and how sure\n")?;
        writeln!(f, "| | before | after | change |\n| --- | --- | --- | --- |")?;
        let (before, after) = verdict.right;
        let sure = |interval: &Interval| format!("{interval}");
        writeln!(
            f,
            "| right answers | {before:.3} | {after:.3} | {} |",
            sure(&verdict.gain)
        )?;
        writeln!(f, "| of these, beyond chance | | | {} |", sure(&verdict.beyond_chance))?;
        if let Some(Copied { items, right }) = self.nearest_label.filter(|copied| copied.items > 0) {
            let share = right as f64 / items as f64;
            writeln!(
                f,
                "| right answers by copying the nearest example's answer, without a model | | {share:.3} | |"
            )?;
        }
        let lines = [
            (
                "right answers on the newest examples, which decided nothing",
                self.later,
            ),
            ("surprise of the right answers, nats a token", self.answers),
            ("surprise of general text, nats a token", self.general),
        ];
        for (name, change) in lines {
            if let Some(Change { before, after }) = change {
                writeln!(f, "| {name} | {before:.3} | {after:.3} | {:+.3} |", after - before)?;
            }
        }
        writeln!(
            f,
            "\nIn brackets is where the change may as well lie ({} examples, {} candidates). ![right answers]({RIGHT}) \
             ![surprise]({LIKELIHOOD})\n",
            verdict.items, verdict.tried
        )
    }

    fn settings(&self, f: &mut String) -> std::fmt::Result {
        writeln!(f, "## What was tried\n")?;
        writeln!(
            f,
            "| | rank | learning rate | epochs | anchor | right | general text | training |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for (at, attempt) in self.tried.iter().enumerate() {
            let s = &attempt.settings;
            let general = attempt
                .general
                .map_or_else(|| "-".to_owned(), |nll| format!("{nll:.3}"));
            let took = attempt.trained.as_ref().map_or_else(
                || "-".to_owned(),
                |trained| format!("{:.0} s, {} MB", trained.seconds, trained.peak_bytes / 1_000_000),
            );
            let mark = if self.best == Some(at) { "judged" } else { "" };
            writeln!(
                f,
                "| {mark} | {} | {} | {} | {} | {:.3} | {general} | {took} |",
                s.rank, s.learning_rate, s.epochs, s.anchor_weight, attempt.right
            )?;
        }
        writeln!(f)
    }

    fn examples(&self, f: &mut String) -> std::fmt::Result {
        for (won, title) in [
            (false, "Right before and wrong now"),
            (true, "Wrong before and right now"),
        ] {
            let of: Vec<&Changed> = self.changed.iter().filter(|changed| changed.won == won).collect();
            writeln!(f, "## {title} ({})\n", of.len())?;
            for changed in of {
                writeln!(
                    f,
                    "- {}: wanted {}, before {}, after {}",
                    quoted(&changed.question),
                    quoted(&changed.wanted),
                    quoted(&changed.before),
                    quoted(&changed.after)
                )?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// A text in a line of Markdown.
fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("`{}`", line.replace('`', "'"))
}
