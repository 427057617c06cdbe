//! Maps model names to engines, and swaps an engine for another while replies run.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use crate::{ChatRequest, DeltaStream, Engine, EngineError, Health, ModelInfo, TokenCounter};

/// The name that means the fleet's default model, as the empty name does.
pub const DEFAULT: &str = "default";

/// Engines under one roof. Lookups take no lock; a running reply keeps the engine that it began with.
#[derive(Default)]
pub struct Fleet {
    table: ArcSwap<Table>,
}

#[derive(Clone, Default)]
struct Table {
    /// In order: an earlier engine wins a name that two serve.
    engines: Vec<Arc<dyn Engine>>,
    /// Another name -> the model's name.
    aliases: Vec<(String, String)>,
    default: Option<String>,
}

impl Fleet {
    /// A fleet of these engines. The default is the first model of the first one.
    #[must_use]
    pub fn new(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self {
            table: ArcSwap::from_pointee(Table {
                engines,
                ..Table::default()
            }),
        }
    }

    /// Adds an engine with all the models that it serves, now and later.
    pub fn add(&self, engine: &Arc<dyn Engine>) {
        self.change(|table| table.engines.push(Arc::clone(engine)));
    }

    /// Gives a model another name. A later alias of the same name replaces it.
    pub fn alias(&self, name: &str, model: &str) {
        self.change(|table| {
            table.aliases.retain(|(known, _)| known != name);
            table.aliases.push((name.to_owned(), model.to_owned()));
        });
    }

    /// Sets the model (or alias) that the empty name and `default` mean.
    pub fn set_default(&self, name: &str) {
        self.change(|table| table.default = Some(name.to_owned()));
    }

    /// Puts `engine` in the place of the one that serves `model` now, for all requests from here on; gives the old one
    /// back. With no such model, the engine is added.
    pub fn replace(&self, model: &str, engine: &Arc<dyn Engine>) -> Option<Arc<dyn Engine>> {
        let mut old = None;
        self.change(|table| {
            // The change may run again if another one came between.
            old = None;
            if let Some(place) = table
                .engines
                .iter_mut()
                .find(|candidate| serves(candidate.as_ref(), model))
            {
                old = Some(std::mem::replace(place, Arc::clone(engine)));
            } else {
                table.engines.push(Arc::clone(engine));
            }
        });
        old
    }

    /// Takes the engine that serves `model` out of the fleet, with all its models.
    pub fn remove(&self, model: &str) -> Option<Arc<dyn Engine>> {
        let mut old = None;
        self.change(|table| {
            let place = table
                .engines
                .iter()
                .position(|candidate| serves(candidate.as_ref(), model));
            old = place.map(|place| table.engines.remove(place));
        });
        old
    }

    fn change(&self, mut change: impl FnMut(&mut Table)) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            change(&mut table);
            table
        });
    }
}

fn serves(engine: &dyn Engine, model: &str) -> bool {
    engine.models().iter().any(|info| info.id == model)
}

impl Table {
    /// The engine for a name, and the name by which that engine knows the model.
    fn find(&self, name: &str) -> Result<(&Arc<dyn Engine>, String), EngineError> {
        let model = self.model(name).ok_or_else(|| self.unknown(name))?;
        let engine = self.engines.iter().find(|engine| serves(engine.as_ref(), &model));
        engine.map(|engine| (engine, model)).ok_or_else(|| self.unknown(name))
    }

    fn model(&self, name: &str) -> Option<String> {
        // A model that really has the name comes before what the name may mean.
        let real = self.engines.iter().any(|engine| serves(engine.as_ref(), name));
        if real && !name.is_empty() {
            return Some(name.to_owned());
        }
        let name = match (name, &self.default) {
            ("" | DEFAULT, Some(default)) => default.as_str(),
            ("" | DEFAULT, None) => return self.engines.iter().find_map(|e| Some(e.models().first()?.id.clone())),
            (name, _) => name,
        };
        let alias = self.aliases.iter().find(|(alias, _)| alias == name);
        Some(alias.map_or(name, |(_, model)| model).to_owned())
    }

    fn unknown(&self, name: &str) -> EngineError {
        let available = self.infos().into_iter().map(|info| info.id).collect();
        EngineError::UnknownModel {
            model: name.to_owned(),
            available,
        }
    }

    /// All that can be asked for, the default first, each name once.
    fn infos(&self) -> Vec<ModelInfo> {
        let mut infos: Vec<ModelInfo> = Vec::new();
        for info in self.engines.iter().flat_map(|engine| engine.models()) {
            if infos.iter().all(|known| known.id != info.id) {
                infos.push(info);
            }
        }
        for (alias, model) in &self.aliases {
            let info = infos.iter().find(|info| info.id == *model).cloned();
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
        let engine = {
            let table = self.table.load();
            let (engine, model) = table.find(&request.model)?;
            request.model = model;
            Arc::clone(engine)
        };
        engine.chat(request).await
    }

    fn models(&self) -> Vec<ModelInfo> {
        self.table.load().infos()
    }

    fn token_counter(&self, model: &str) -> Option<Arc<dyn TokenCounter>> {
        let table = self.table.load();
        let (engine, model) = table.find(model).ok()?;
        engine.token_counter(&model)
    }

    /// Ready when every engine is; else what is wrong with the first that isn't.
    async fn health(&self) -> Health {
        let table = self.table.load_full();
        if table.engines.is_empty() {
            return Health::Unavailable("no engine is loaded".into());
        }
        for engine in &table.engines {
            let health = engine.health().await;
            if health != Health::Ready {
                return health;
            }
        }
        Health::Ready
    }
}
