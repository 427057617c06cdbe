//! `habit eval learning`: whether it learns from use. Questions come in a stream; each is answered by what is served then,
//! scored, and corrected; now and then there is downtime, in which a run learns from all corrections until then. Later
//! questions, which are never in the stream, are asked before and after.
//!
//! [`data`] reads the questions, [`stream`] draws a seed's order, [`arms`] live through it ([`lived`]), [`report`] and [`plots`] tell.
//! The learning itself is [`habit_learning::run`], the same that downtime runs; a question is put to the model as a user's
//! only message would be.

use std::sync::Arc;

use anyhow::Context;
use habit_learning::random::Random;
use habit_learning::score::Model;
use habit_learning::trainer::{Settings, anchors};
use tokio_util::sync::CancellationToken;

use self::arms::Setup;
use self::data::Data;
use self::lived::Arm;
use self::nearest::Nearest;
use self::report::{About, Report};
use self::stream::Stream;
use crate::app::App;
use crate::cli::Learning;
use crate::commands::measuring::Place;
use crate::commands::progress::Bars;
use crate::wiring::Learnable;

mod announce;
mod arms;
pub mod data;
pub mod lived;
mod nearest;
mod plots;
mod report;
pub mod stream;
mod watch;

/// General sentences to measure forgetting by.
const GENERAL: usize = 48;

/// General sentences of the data to anchor on, where that was asked for.
const ANCHORS: usize = 64;

/// What was asked for, checked, with nothing loaded yet.
pub struct Prepared {
    wanted: Learning,
    settings: Settings,
    streams: Vec<(u64, Stream)>,
    data: &'static str,
    general: Vec<String>,
    anchors: Vec<String>,
}

impl Prepared {
    /// Reads the data and draws the streams.
    ///
    /// # Errors
    /// What is wrong with the flags or the data, and what would do.
    pub fn of(wanted: &Learning) -> anyhow::Result<Self> {
        anyhow::ensure!(wanted.corrections > 0, "--corrections must be at least 1");
        anyhow::ensure!(wanted.seeds > 0, "--seeds must be at least 1");
        anyhow::ensure!(wanted.later > 0, "--later must be at least 1");
        anyhow::ensure!(wanted.every > 0, "--every must be at least 1");
        let settings = match &wanted.settings {
            Some(text) => serde_json::from_str(text).context("--settings is not as the trainer's settings are")?,
            None => Settings::default(),
        };
        let data = Data::read(&wanted.data)?;
        let sizes = (wanted.corrections, wanted.later);
        let seeds = wanted.first_seed..wanted.first_seed + wanted.seeds;
        let streams = seeds.map(|seed| Ok((seed, Stream::draw(&data, &wanted.domain, sizes, wanted.drift, seed)?)));
        let streams: anyhow::Result<Vec<_>> = streams.collect();
        let (general, anchors) = sentences(&data, wanted.anchors)?;
        Ok(Self {
            wanted: wanted.clone(),
            settings,
            streams: streams?,
            data: data.name,
            general,
            anchors,
        })
    }

    /// Lives through all streams.
    ///
    /// # Errors
    /// What could not be asked, trained or written, and what to do.
    pub async fn measure(&self, app: &App) -> anyhow::Result<Report> {
        let wanted = &self.wanted;
        let learnable = Learnable::of(&app.config, Arc::new(Bars::default())).await?;
        let memory = app
            .memory
            .as_ref()
            .context("nothing finds the nearest questions here")?;
        let place = Place::new("learning")?;
        let setup = Setup {
            base: Model {
                engine: Arc::clone(&app.engine),
                name: app.engine.resolve(""),
            },
            files: learnable.files()?,
            loader: Arc::new(learnable),
            embedder: Arc::clone(&memory.embedder),
            program: std::env::current_exe().context("this program's file can't be found")?,
            place: place.path(),
            arms: &wanted.arms,
            every: wanted.every,
            settings: (self.settings.clone(), usize::from(wanted.grid)),
            general: &self.general,
            anchors: &self.anchors,
            cancel: CancellationToken::new(),
        };
        announce::training(&setup, &self.streams).await;
        let mut report = Report {
            about: About {
                data: self.data,
                domain: wanted.domain.clone(),
                drift: wanted.drift,
                model: setup.base.name.clone(),
                corrections: wanted.corrections,
                later: wanted.later,
                every: setup.every,
                settings: self.settings.clone(),
            },
            seeds: Vec::new(),
        };
        let limits = (app.config.learning.few_shot.max(1), app.config.learning.few_shot_floor);
        let shows = |arm: &Arm| matches!(arm, Arm::Nearest | Arm::FewShot | Arm::Both);
        for (seed, stream) in &self.streams {
            let nearest = if wanted.arms.iter().any(shows) {
                Some(Nearest::new(memory.embedder.as_ref(), stream, limits).await?)
            } else {
                None
            };
            let lived = arms::live(&setup, stream, *seed, nearest.as_ref(), wanted.plots.as_deref()).await?;
            report.seeds.push(lived);
            // After each seed: what was measured until then stays if the next is broken off.
            if let Some(out) = &wanted.json {
                super::write(Some(out), &report.json()?)?;
            }
            if let Some(folder) = &wanted.plots {
                plots::draw(&report, folder)?;
            }
        }
        Ok(report)
    }
}

/// General sentences to measure by, and others to anchor on: none for the trainer's own.
fn sentences(data: &Data, own_anchors: bool) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let mut lines = data.general.clone();
    if lines.is_empty() {
        anyhow::ensure!(!own_anchors, "{} has no general sentences to anchor on", data.name);
        // Every other of the trainer's: what is measured by is never anchored on.
        let all = || anchors::SENTENCES.iter().map(|line| (*line).to_owned());
        return Ok((all().step_by(2).collect(), all().skip(1).step_by(2).collect()));
    }
    Random::new(0).shuffle(&mut lines);
    let anchors = if own_anchors {
        lines.iter().skip(GENERAL).take(ANCHORS).cloned().collect()
    } else {
        Vec::new()
    };
    lines.truncate(GENERAL);
    Ok((lines, anchors))
}
