//! Where configuration comes from, and errors that say what to change: the field, where it was set, the nearest right
//! name.

use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::{Config, data};

/// Names of variables start with this.
const ENV_PREFIX: &str = "HABIT_";

/// Fields without a default that are numbers; the others without one are text.
const OPTIONAL_NUMBERS: [&str; 2] = ["engine.context_window", "engine.bits"];

/// Flags for the one upstream that stands for the whole list; see [`one_upstream`].
const SHORTHAND: &str = "upstream.";

/// A guess at a misspelt name is offered from this similarity on (0 to 1).
const NEAR_ENOUGH: f64 = 0.6;

/// Everything that a configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config FILE`; without it, `habit.toml` in the data directory is read if it exists.
    pub file: Option<PathBuf>,
    /// The environment: `HABIT_SECTION_FIELD` sets `section.field`. Other variables are not looked at.
    pub env: Vec<(String, String)>,
    /// Flags: the flag's name, the field that it sets, its value.
    pub flags: Vec<(&'static str, &'static str, Value)>,
}

impl Sources {
    /// A file, this process's environment, and flags.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, &'static str, Value)>) -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            file,
            env: std::env::vars_os().filter_map(utf8).collect(),
            flags,
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{file}: {why}")]
    File {
        /// The file.
        file: String,
        /// Why, and what to do.
        why: String,
    },
    /// There is no such field.
    #[error("{place}: there is no field `{field}`{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// The file, variable or flag that sets it.
        place: String,
        /// The field, as `section.field`.
        field: String,
        /// The nearest field that exists.
        near: Option<String>,
    },
    /// A field's value won't do.
    #[error("{}`{field}` {why}", place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
    Bad {
        /// The file, variable or flag that sets it, where it is known.
        place: Option<String>,
        /// The field, as `section.field`.
        field: String,
        /// What is wrong, and what to write.
        why: String,
    },
}

impl ConfigError {
    pub(super) fn bad(field: &str, why: impl Into<String>) -> Self {
        Self::Bad {
            place: None,
            field: field.to_owned(),
            why: why.into(),
        }
    }
}

/// Defaults, file, environment, profile, flags: the later wins.
pub(super) fn merge(sources: &Sources) -> Result<Config, ConfigError> {
    let known = Layer::new(
        "the defaults",
        Value::serialize(Config::default()).map_err(|error| internal(&error))?,
    );
    let env = env_layers(&sources.env, &known.values);
    let shorthand = one_upstream(sources);
    let flags: Vec<Layer> = sources
        .flags
        .iter()
        .filter(|(_, field, _)| !field.starts_with(SHORTHAND))
        .map(|(flag, field, value)| Layer::new(*flag, figment::util::nest(field, value.clone())))
        .collect();

    let mut layers = Vec::new();
    if let Some(file) = file_of(sources, &env, &flags) {
        layers.push(file_layer(&file, sources.file.is_some())?);
    }
    layers.extend(env);
    // A profile is chosen on purpose, so it comes before what is set for all; a flag beside it is more on purpose yet.
    layers.extend(profile_of(layers.iter().chain(&flags))?);
    layers.extend(flags);
    layers.extend(shorthand);

    let mut fields = Vec::new();
    paths(&known.values, "", &mut fields);
    for layer in &layers {
        check_names(layer, &layer.values, &known.values, "", &fields)?;
    }
    let mut figment = Figment::from(known);
    for layer in layers {
        figment = figment.merge(layer);
    }
    figment.extract().map_err(|error| readable(&error))
}

/// The short way to a list of one upstream: `--upstream URL` or `HABIT_UPSTREAM_URL`, with its key and name. Without the
/// URL, the others mean nothing.
fn one_upstream(sources: &Sources) -> Option<Layer> {
    let mut entry = Dict::new();
    let mut place = None;
    for field in ["url", "key", "name"] {
        let variable = format!("{ENV_PREFIX}UPSTREAM_{}", field.to_ascii_uppercase());
        let of_env = sources
            .env
            .iter()
            .rev()
            .find(|(name, text)| *name == variable && !text.is_empty());
        let of_env = of_env.map(|(name, text)| (name.as_str(), Value::from(text.as_str())));
        let of_flags = sources
            .flags
            .iter()
            .find(|(_, path, _)| path.strip_prefix(SHORTHAND) == Some(field));
        let of_flags = of_flags.map(|(flag, _, value)| (*flag, value.clone()));
        if let Some((name, value)) = of_flags.or(of_env) {
            place.get_or_insert(name.to_owned());
            entry.insert(field.to_owned(), value);
        }
    }
    entry.contains_key("url").then(|| Layer {
        name: place.unwrap_or_default(),
        values: Dict::from([("upstreams".to_owned(), Value::from(vec![Value::from(entry)]))]),
    })
}

/// The settings of the profile that the last of these layers names, as a layer of their own.
fn profile_of<'a>(layers: impl DoubleEndedIterator<Item = &'a Layer> + Clone) -> Result<Option<Layer>, ConfigError> {
    let named = |layer: &&Layer| {
        layer
            .values
            .get("engine")
            .and_then(|engine| engine.find_ref("profile"))
            .is_some()
    };
    let Some(naming) = layers.clone().rev().find(named) else {
        return Ok(None);
    };
    let name = naming
        .values
        .get("engine")
        .and_then(|engine| engine.find_ref("profile")?.as_str());
    let name = name.unwrap_or_default();
    let profiles = layers.filter_map(|layer| layer.values.get("profiles")?.as_dict());
    let (mut found, mut known) = (None, Vec::new());
    for profiles in profiles {
        known.extend(profiles.keys().cloned());
        found = profiles.get(name).or(found);
    }
    let found = found.ok_or_else(|| {
        let why = match known.as_slice() {
            [] => format!("is `{name}`, but there is no [profiles.{name}]"),
            known => format!(
                "is `{name}`, but there is no such profile; there are {}",
                known.join(", ")
            ),
        };
        ConfigError::Bad {
            place: Some(naming.name.clone()),
            field: "engine.profile".to_owned(),
            why,
        }
    })?;
    Ok(Some(Layer {
        name: format!("profile {name}"),
        values: Dict::from([("engine".to_owned(), found.clone())]),
    }))
}

/// One source, as a provider that errors can name.
struct Layer {
    name: String,
    values: Dict,
}

impl Layer {
    fn new(name: impl Into<String>, value: Value) -> Self {
        Self {
            name: name.into(),
            values: value.into_dict().unwrap_or_default(),
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The file to read: the one that was named, or `habit.toml` in the data directory that the environment and the flags
/// give.
fn file_of(sources: &Sources, env: &[Layer], flags: &[Layer]) -> Option<PathBuf> {
    if let Some(file) = &sources.file {
        return Some(file.clone());
    }
    let named = env.iter().chain(flags).rev().find_map(|layer| {
        let dir = layer.values.get("data")?.find_ref("dir")?.as_str()?;
        Some(PathBuf::from(dir))
    });
    let file = named.or_else(data::default_dir)?.join("habit.toml");
    file.is_file().then_some(file)
}

fn file_layer(file: &Path, named: bool) -> Result<Layer, ConfigError> {
    let name = file.display().to_string();
    let wrong = |why: String| ConfigError::File {
        file: name.clone(),
        why,
    };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(format!("can't be read: {error}")))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| wrong(format!("is not TOML: {error}")))?;
    if !named && table.get("data").and_then(|data| data.get("dir")).is_some() {
        // It was found through the data directory: it can't move it.
        let why = "this file is in the data directory and can't name another one; use --data-dir or --config";
        return Err(ConfigError::Bad {
            place: Some(name),
            field: "data.dir".to_owned(),
            why: why.to_owned(),
        });
    }
    let value = Value::serialize(table).map_err(|error| wrong(error.to_string()))?;
    Ok(Layer::new(name, value))
}

/// One layer a variable, so that errors name it. `HABIT_ENGINE_MAX_RUNNING` is `engine.max_running`: a section's
/// name, then the field.
fn env_layers(env: &[(String, String)], known: &Dict) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (variable, text) in env {
        let Some(name) = variable.strip_prefix(ENV_PREFIX) else {
            continue;
        };
        let name = name.to_ascii_lowercase();
        let Some((section, rest)) = name.split_once('_') else {
            continue;
        };
        // Variables for other purposes (HABIT_KEY, HABIT_URL) don't begin with a section's name.
        if !matches!(known.get(section), Some(Value::Dict(..))) {
            continue;
        }
        let path = format!("{section}.{rest}");
        let default = known_value(known, &path);
        let value = if is_text(&path, default) {
            Value::from(text.as_str())
        } else {
            parsed(text)
        };
        layers.push(Layer::new(variable.clone(), figment::util::nest(&path, value)));
    }
    layers
}

/// Whether a field is text: then its value stays as it is, even if it looks like a number.
fn is_text(path: &str, default: Option<&Value>) -> bool {
    match default {
        Some(Value::String(..)) => true,
        Some(Value::Empty(..)) => !OPTIONAL_NUMBERS.contains(&path),
        _ => false,
    }
}

fn parsed(text: &str) -> Value {
    match text.parse::<Value>() {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

fn known_value<'a>(known: &'a Dict, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.')?;
    known.get(first)?.find_ref(rest)
}

fn paths(dict: &Dict, prefix: &str, into: &mut Vec<String>) {
    for (name, value) in dict {
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        if let Value::Dict(_, inner) = value {
            paths(inner, &path, into);
        } else {
            into.push(path);
        }
    }
}

fn check_names(layer: &Layer, given: &Dict, known: &Dict, prefix: &str, fields: &[String]) -> Result<(), ConfigError> {
    for (name, value) in given {
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match (known.get(name), value) {
            (None, Value::Dict(_, inner)) => {
                // A misspelt section: its first field tells what was meant.
                let field = inner
                    .keys()
                    .next()
                    .map_or_else(|| path.clone(), |field| format!("{path}.{field}"));
                return Err(unknown(layer, field, fields));
            }
            (None, _) => return Err(unknown(layer, path, fields)),
            (Some(Value::Array(..)), Value::Array(_, entries)) if path == "upstreams" => check_entries(layer, entries)?,
            // Names of one's own: what they may hold is checked when it is read.
            (Some(Value::Dict(_, known)), Value::Dict(..)) if known.is_empty() => {}
            (Some(Value::Dict(_, known)), Value::Dict(_, inner)) => check_names(layer, inner, known, &path, fields)?,
            (Some(Value::Dict(..)), _) => {
                let why = format!("is a section: write [{path}] and its fields below");
                return Err(ConfigError::Bad {
                    place: Some(layer.name.clone()),
                    field: path,
                    why,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The fields of a list's entries, which the defaults don't show: by default there are none.
fn check_entries(layer: &Layer, entries: &[Value]) -> Result<(), ConfigError> {
    let known = Value::serialize(super::Upstream::default()).map_err(|error| internal(&error))?;
    let known = known.into_dict().unwrap_or_default();
    let mut fields = Vec::new();
    paths(&known, "upstreams", &mut fields);
    for entry in entries.iter().filter_map(Value::as_dict) {
        check_names(layer, entry, &known, "upstreams", &fields)?;
    }
    Ok(())
}

fn unknown(layer: &Layer, field: String, fields: &[String]) -> ConfigError {
    let near = nearest(&field, fields);
    ConfigError::Unknown {
        place: layer.name.clone(),
        field,
        near,
    }
}

/// The field most like a misspelt one. The field's own name counts most: the right name in the wrong section is nearer
/// than a wrong name in the right one.
fn nearest(field: &str, fields: &[String]) -> Option<String> {
    let parts = |path: &str| {
        path.rsplit_once('.')
            .map_or_else(Default::default, |(a, b)| (a.to_owned(), b.to_owned()))
    };
    let alike = strsim::normalized_damerau_levenshtein;
    let (section, name) = parts(field);
    let score = |known: &String| {
        let known = parts(known);
        0.8 * alike(&name, &known.1) + 0.2 * alike(&section, &known.0)
    };
    let best = fields
        .iter()
        .map(|known| (score(known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= NEAR_ENOUGH).then(|| best.1.clone())
}

fn readable(error: &figment::Error) -> ConfigError {
    let place = error.metadata.as_ref().map(|metadata| metadata.name.to_string());
    let hidden = error
        .path
        .last()
        .is_some_and(|field| field == "key" || field == "database")
        || error.path.iter().any(|field| field == "objects_options");
    let why = if hidden {
        "has the wrong type: it is text, in quotes".to_owned()
    } else {
        format!("is wrong: {}", error.kind)
    };
    ConfigError::Bad {
        place,
        field: error.path.join("."),
        why,
    }
}

fn internal(error: &figment::Error) -> ConfigError {
    ConfigError::File {
        file: "the built-in defaults".to_owned(),
        why: error.to_string(),
    }
}
