//! Several engines under one roof: finds those that serve a model, asks the one with the least to do, goes on to the
//! next while nothing of a reply has come, and swaps engines while replies run.
//!
//! [`member`] is one engine with what is known of its state, [`balance`] the order in which members are asked,
//! [`attempt`] one request on its way through them, [`patience`] how long a silent one is waited for, [`watch`] the
//! health checks in the background.

mod attempt;
mod balance;
pub mod member;
pub mod patience;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use self::attempt::Attempt;
pub use self::member::{Member, MemberOptions, Report};
use crate::engine::DEFAULT;
use crate::{
    ChatRequest, DeltaStream, EmbedRequest, Embeddings, Engine, EngineError, Health, Load, ModelInfo, TokenCounter,
};

/// Engines under one roof. Lookups take no lock; a running reply keeps the engine that it began with.
#[derive(Default)]
pub struct Fleet {
    table: ArcSwap<Table>,
    /// Counts requests that several members could answer.
    turn: AtomicUsize,
}

#[derive(Clone, Default)]
struct Table {
    /// In order: an earlier member's first model is the default.
    members: Vec<Arc<Member>>,
    /// Another name -> the model's name. First those given at run time, then those of the configuration.
    aliases: [Vec<(String, String)>; 2],
    /// The model (or alias) that the empty name and `default` mean; the first member's first, if it is not set.
    default: Option<String>,
}

impl Fleet {
    /// A fleet of these engines. The default is the first model of the first one.
    #[must_use]
    pub fn new(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self::of(engines.iter().map(Member::own).map(Arc::new).collect())
    }

    /// A fleet of these members.
    #[must_use]
    pub fn of(members: Vec<Arc<Member>>) -> Self {
        Self {
            table: ArcSwap::from_pointee(Table {
                members,
                ..Table::default()
            }),
            turn: AtomicUsize::new(0),
        }
    }

    /// Adds an engine of this process with all the models that it serves, now and later.
    pub fn add(&self, engine: &Arc<dyn Engine>) {
        let member = Arc::new(Member::own(engine));
        self.change(|table| table.add(&member));
    }

    /// Gives a model another name. A later alias of the same name replaces it.
    pub fn alias(&self, name: &str, model: &str) {
        self.change(|table| {
            let [aliases, _] = &mut table.aliases;
            aliases.retain(|(known, _)| known != name);
            aliases.push((name.to_owned(), model.to_owned()));
        });
    }

    /// Sets the model (or alias) that the empty name and `default` mean.
    pub fn set_default(&self, name: &str) {
        self.change(|table| table.default = Some(name.to_owned()));
    }

    /// Puts `engine` in the place of the one of this process that serves `model` now, for all requests from here on;
    /// gives the old one back. With no such model, the engine is added.
    pub fn replace(&self, model: &str, engine: &Arc<dyn Engine>) -> Option<Arc<dyn Engine>> {
        let member = Arc::new(Member::own(engine));
        let mut old = None;
        self.change(|table| {
            // The change may run again if another one came between.
            old = None;
            if let Some(place) = table.own(model) {
                old = Some(std::mem::replace(&mut table.members[place], Arc::clone(&member)));
            } else {
                table.add(&member);
            }
        });
        old.map(|member| member.engine())
    }

    /// Takes the engine of this process that serves `model` out of the fleet, with all its models.
    pub fn remove(&self, model: &str) -> Option<Arc<dyn Engine>> {
        let mut old = None;
        self.change(|table| {
            old = table.own(model).map(|place| table.members.remove(place));
        });
        old.map(|member| member.engine())
    }

    /// Replaces all remote members, and the configuration's aliases, at once; engines of this process, and what was
    /// named at run time, stay. Replies of members that go run on to their end.
    pub fn set_remote(&self, remote: &[Arc<Member>], aliases: &[(String, String)]) {
        self.change(|table| {
            table.members.retain(|member| !member.is_remote());
            table.members.extend(remote.iter().map(Arc::clone));
            table.aliases[1] = aliases.to_vec();
        });
    }

    /// The members, in order.
    #[must_use]
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.table.load().members.clone()
    }

    /// How every member is, and what it has to do.
    pub async fn reports(&self) -> Vec<Report> {
        let members = self.members();
        futures::future::join_all(members.iter().map(|member| member.report())).await
    }

    /// Whether memory may be put before this model: whether a member that serves it now may see it.
    #[must_use]
    pub fn may_see_memory(&self, model: &str) -> bool {
        let table = self.table.load();
        let Ok(model) = table.find(model) else { return false };
        let now = Instant::now();
        let mut serving = table.members.iter().filter(|member| member.serves(&model));
        serving.any(|member| member.sees_memory() && member.is_ready(now))
    }

    fn change(&self, mut change: impl FnMut(&mut Table)) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            change(&mut table);
            table
        });
    }
}

impl Table {
    /// Before the remote ones: what runs here is the default.
    fn add(&mut self, member: &Arc<Member>) {
        let at = self.members.iter().take_while(|member| !member.is_remote()).count();
        self.members.insert(at, Arc::clone(member));
    }

    /// The place of the engine of this process that serves a model.
    fn own(&self, model: &str) -> Option<usize> {
        let own = |member: &Arc<Member>| !member.is_remote() && member.serves(model);
        self.members.iter().position(own)
    }

    fn serves(&self, model: &str) -> bool {
        self.members.iter().any(|member| member.serves(model))
    }

    /// The model that a name means, if it is served here.
    fn find(&self, name: &str) -> Result<String, EngineError> {
        let model = self.model(name).ok_or_else(|| self.unknown(name))?;
        if self.serves(&model) {
            return Ok(model);
        }
        Err(self.unknown(name))
    }

    fn model(&self, name: &str) -> Option<String> {
        // A model that really has the name comes before what the name may mean.
        if !name.is_empty() && self.serves(name) {
            return Some(name.to_owned());
        }
        let mut name = match (name, &self.default) {
            ("" | DEFAULT, Some(default)) => default.as_str(),
            ("" | DEFAULT, None) => return self.members.iter().find_map(|member| member.first_model()),
            (name, _) => name,
        };
        // What took a model's place may have been replaced since, and the first may be back: names can lead in a circle.
        for _ in self.aliases.iter().flatten() {
            let next = self.aliases.iter().flatten().find(|(alias, _)| alias == name);
            match next {
                Some((_, model)) if !self.serves(name) => name = model,
                _ => break,
            }
        }
        Some(name.to_owned())
    }

    /// That nothing of this name is here; or, if a member has yet to say what it serves, that it may be there.
    fn unknown(&self, name: &str) -> EngineError {
        if let Some(silent) = self.members.iter().find(|member| member.is_silent()) {
            return EngineError::Unavailable(silent.trouble());
        }
        let available = self.infos().into_iter().map(|info| info.id).collect();
        EngineError::UnknownModel {
            model: name.to_owned(),
            available,
        }
    }

    /// All that can be asked for, the default first, each name once.
    fn infos(&self) -> Vec<ModelInfo> {
        let mut infos: Vec<ModelInfo> = Vec::new();
        for info in self.members.iter().flat_map(|member| member.models()) {
            if infos.iter().all(|known| known.id != info.id) {
                infos.push(info);
            }
        }
        for (alias, _) in self.aliases.iter().flatten() {
            let model = self.model(alias);
            let info = infos.iter().find(|info| Some(&info.id) == model.as_ref()).cloned();
            if let Some(info) = info.filter(|_| infos.iter().all(|known| known.id != *alias)) {
                infos.push(ModelInfo {
                    id: alias.clone(),
                    ..info
                });
            }
        }
        if let Some(place) = self
            .default
            .as_ref()
            .and_then(|name| infos.iter().position(|info| info.id == *name))
        {
            infos[..=place].rotate_right(1);
        }
        infos
    }
}

#[async_trait]
impl Engine for Fleet {
    async fn chat(&self, mut request: ChatRequest) -> Result<DeltaStream, EngineError> {
        let attempt = {
            let table = self.table.load();
            request.model = table.find(&request.model)?;
            let serving = table.members.iter().filter(|member| member.serves(&request.model));
            let allowed = serving.filter(|member| !request.holds_memory || member.sees_memory());
            Attempt::new(balance::order(allowed, &self.turn, Instant::now()), request)
        };
        attempt.start().await
    }

    async fn embed(&self, mut request: EmbedRequest) -> Result<Embeddings, EngineError> {
        let order = {
            let table = self.table.load();
            request.model = table.find(&request.model)?;
            let serving = table.members.iter().filter(|member| member.serves(&request.model));
            balance::order(serving, &self.turn, Instant::now())
        };
        attempt::embed(&order, &request).await
    }

    fn models(&self) -> Vec<ModelInfo> {
        self.table.load().infos()
    }

    fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>> {
        let table = self.table.load();
        let model = table.find(model).ok()?;
        let mut serving = table.members.iter().filter(|member| member.serves(&model));
        serving.find_map(|member| member.token_counter(&model))
    }

    fn relays(&self, model: &str) -> bool {
        let table = self.table.load();
        let Ok(model) = table.find(model) else { return false };
        let mut serving = table.members.iter().filter(|member| member.serves(&model));
        serving.all(|member| member.relays(&model))
    }

    /// Ready when any member is; else what is wrong with the first.
    async fn health(&self) -> Health {
        let mut first = None;
        for member in self.members() {
            match member.health().await {
                Health::Ready => return Health::Ready,
                trouble => first = first.or(Some(trouble)),
            }
        }
        first.unwrap_or_else(|| Health::Unavailable("no engine is loaded".into()))
    }

    fn serves(&self, model: &str) -> bool {
        self.table.load().serves(model)
    }

    fn resolve(&self, name: &str) -> String {
        let table = self.table.load();
        table.model(name).unwrap_or_else(|| name.to_owned())
    }

    /// All members together.
    fn load(&self) -> Load {
        let mut all = Load::default();
        for member in &self.table.load().members {
            let Load {
                running,
                max_running,
                waiting,
                waiting_background,
                max_waiting,
            } = member.load();
            all.running += running;
            all.max_running += max_running;
            all.waiting += waiting;
            all.waiting_background += waiting_background;
            all.max_waiting += max_waiting;
        }
        all
    }
}
