//! A request for a response with its history: what to ask, how to show it, where to keep it.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use habit_engine::{ChatRequest, Priority};
use habit_memory::passage::Passage;
use http::header::HeaderMap;
use serde_json::Value;
use uuid::Uuid;

use super::background::Pen;
use super::body::{ResponseBody, Status};
use super::kept::{self, Cabinet, Past};
use super::render::{Event, Render, search_item};
use super::run::{self, Deltas, Keeper};
use super::style::Style;
use super::wire::{Asked, CreateResponse};
use super::{cabinet, items, response_id, told};
use crate::api::ask::{Asker, Question};
use crate::api::error::ApiError;
use crate::api::file_search::FileSearch;
use crate::app::App;
use crate::auth::Caller;
use crate::turn::MemoryMode;

/// What is asked, with its history.
pub(super) struct Plan {
    /// What is asked.
    pub(super) asked: Asked,
    past: Past,
    cabinet: Option<Cabinet>,
    search: FileSearch,
}

impl Plan {
    /// Reads a body and its history.
    pub(super) async fn new(app: &App, caller: &Caller, body: CreateResponse) -> Result<Self, ApiError> {
        let mut asked = body.parse()?;
        // A process that keeps nothing answers all the same.
        let cabinet = app.memory.as_ref().map(|_| cabinet(app, caller)).transpose()?;
        let past = match (&cabinet, &asked.previous, &asked.conversation) {
            (Some(cabinet), ..) => cabinet.past(&mut asked).await?,
            (None, Some(id), _) => return Err(kept::unknown_previous(id)),
            (None, None, Some(id)) => return Err(kept::unknown_conversation(id)),
            (None, None, None) => Past::default(),
        };
        let cabinet = cabinet.filter(|_| asked.draft.store);
        asked.draft.store = cabinet.is_some();
        if asked.draft.background && cabinet.is_none() {
            let message = "this server keeps nothing, so a response in the background would never be found";
            return Err(ApiError::invalid(message, Some("background")));
        }
        let search = FileSearch::new(app, caller, &asked.tools.file_search).await?;
        Ok(Self {
            asked,
            past,
            cabinet,
            search,
        })
    }

    /// The engine's request.
    pub(super) fn request(&self) -> Result<ChatRequest, ApiError> {
        let items: Vec<Value> = self.past.items.iter().chain(&self.asked.items).cloned().collect();
        let mut request = self.asked.request.clone();
        request.messages = items::messages(self.asked.instructions.as_deref(), &items)?;
        if request.messages.is_empty() {
            let message = "the input says nothing to the model; send at least one message";
            return Err(ApiError::invalid(message, Some("input")));
        }
        Ok(request)
    }

    /// What the stack is asked.
    pub(super) fn question(&self) -> Result<Question, ApiError> {
        Ok(Question {
            request: self.request()?,
            store: self.cabinet.is_some(),
            conversation: self.past.thread.clone(),
            memory: MemoryMode::On,
            sources: self.search.sources(),
        })
    }

    /// Where the response is kept. `thread` is the conversation in memory that the turn was put in.
    pub(super) fn keeper(&self, app: &App, thread: Option<String>) -> Keeper {
        Keeper {
            cabinet: self.cabinet.clone(),
            input: self.asked.items.clone(),
            thread: self.past.thread.clone().or(thread),
            also_failed: self.asked.draft.background,
            clock: Arc::clone(&app.clock),
        }
    }

    /// How the response is made, as far as it is known before the model begins.
    pub(super) fn render(&self, turn: Uuid, asked_at: i64, model: String) -> Render {
        let response = ResponseBody {
            id: response_id(turn),
            created_at: asked_at.div_euclid(1000),
            model,
            ..self.asked.draft.clone()
        };
        let style = Style {
            summarise: self.asked.summarise,
            custom: self.asked.tools.custom.clone(),
            cited: Vec::new(),
        };
        Render::new(response, style)
    }

    /// The searches that were made before the model begins, and what of them it is shown.
    pub(super) fn searched(&self, render: &mut Render, injected: &[Passage]) -> Vec<Event> {
        let findings = self.search.findings().into_iter();
        let items = findings.map(|findings| search_item(findings, self.asked.show_results));
        render.searched(items.collect(), self.search.cited(injected))
    }

    /// Answers at once; a task of the process makes the response.
    pub(super) async fn in_background(
        self,
        app: App,
        asker: Asker,
        (caller, headers): (Caller, HeaderMap),
        question: Question,
    ) -> Result<Response, ApiError> {
        let (scope, stream) = (caller.scope.clone(), self.asked.stream);
        let mut turn = asker.turn(caller, &headers, question)?;
        turn.request.priority = Priority::Background;
        let model = app.engine.resolve(&turn.request.model);
        let mut render = self.render(turn.id, turn.asked_at, model);
        let mut keeper = self.keeper(&app, None);
        let begun = render.begin(true);
        let queued = ResponseBody {
            status: Status::Queued,
            ..render.response().clone()
        };
        keeper.keep(&queued).await?;
        let pen = app.background.begin(&scope, &queued.id);
        begun.into_iter().for_each(|event| pen.write(event));
        let run = pen.run();
        let hard = app.lifecycle.hard().clone();
        let work = async move {
            let deltas: Deltas = match pen.cancel().run_until_cancelled(asker.ask(turn)).await {
                None => futures::stream::pending().boxed(),
                Some(Ok(reply)) => {
                    let found = self.searched(&mut render, &reply.trace.injected);
                    found.into_iter().for_each(|event| pen.write(event));
                    keeper.thread = keeper.thread.or(reply.trace.conversation);
                    reply.deltas.map(|item| item.map_err(ApiError::from)).boxed()
                }
                Some(Err(error)) => futures::stream::iter([Err(error)]).boxed(),
            };
            if let Err(error) = keeper.keep(render.response()).await {
                tracing::warn!("a response in the background could not be kept as begun: {error}");
            }
            let events = run::go_on(render, deltas, keeper, pen.cancel());
            write(pen, run::told(events)).await;
        };
        drop(app.lifecycle.spawn(async move { hard.run_until_cancelled(work).await }));
        if stream {
            return Ok(told(run.follow(0)));
        }
        Ok(Json(queued).into_response())
    }
}

async fn write(pen: Pen, events: impl Stream<Item = Event> + Send) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        pen.write(event);
    }
}
