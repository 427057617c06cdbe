//! Rules on memory in the journal's database: [`SeaConsents`]. They are asked in every turn, so a team's are kept for a
//! moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};

use super::database::Database;
use super::{SeaJournal, rows};
use crate::consent::{Consents, Mode, Rule, Subject};
use crate::error::MemoryError;
use crate::scope::Scope;
use crate::store::entity::memory_rule::{Column, Entity, Model};

/// How long a team's rules are trusted without asking: a rule that another process made counts after that.
const TRUSTED: Duration = Duration::from_secs(2);

/// Teams whose rules are kept; beyond that the cache starts afresh.
const TEAMS: usize = 1024;

/// Rules in a journal's database; cheap to clone.
#[derive(Clone)]
pub struct SeaConsents {
    /// Also for writes, which are rare and single statements.
    database: Database,
    known: Arc<Mutex<HashMap<String, (Instant, Rules)>>>,
}

/// A team's rules by kind and subject.
type Rules = Arc<HashMap<(String, String), Mode>>;

impl SeaJournal {
    /// The rules that are kept in the same database.
    #[must_use]
    pub fn consents(&self) -> SeaConsents {
        SeaConsents {
            database: self.database.clone(),
            known: Arc::default(),
        }
    }
}

impl SeaConsents {
    fn explain(&self, error: &DbErr) -> MemoryError {
        self.database.explain(error)
    }

    fn cached(&self, team: &str) -> Option<Rules> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, rules) = known.get(team)?;
        (since.elapsed() < TRUSTED).then(|| Arc::clone(rules))
    }

    async fn of_team(&self, team: &str) -> Result<Rules, MemoryError> {
        if let Some(rules) = self.cached(team) {
            return Ok(rules);
        }
        let since = Instant::now();
        let query = Entity::find()
            .filter(Column::Team.eq(team))
            .order_by_asc(Column::Kind)
            .order_by_asc(Column::Subject);
        let found = query.all(&self.database).await.map_err(|error| self.explain(&error))?;
        let mut rules = HashMap::with_capacity(found.len());
        for row in found {
            let mode = rows::parse_name(&row.mode).map_err(|what| rows::damaged("rule", &row.subject, &what))?;
            rules.insert((row.kind, row.subject), mode);
        }
        let rules = Arc::new(rules);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TEAMS {
            known.clear();
        }
        known.insert(team.to_owned(), (since, Arc::clone(&rules)));
        Ok(rules)
    }
}

/// Kind and subject as they are written. A conversation is its user's; no name of a user has a slash.
fn written(scope: &Scope, subject: &Subject) -> (&'static str, String) {
    match subject {
        Subject::Team => ("team", String::new()),
        Subject::User => ("user", scope.user().to_owned()),
        Subject::Key(id) => ("key", id.clone()),
        Subject::Conversation(id) => ("conversation", format!("{}/{id}", scope.user())),
    }
}

/// Whom a row is for, if this scope's user may see it.
fn shown(scope: &Scope, kind: &str, subject: &str) -> Option<Subject> {
    match kind {
        "team" => Some(Subject::Team),
        "user" => (subject == scope.user()).then_some(Subject::User),
        "key" => Some(Subject::Key(subject.to_owned())),
        "conversation" => {
            let (user, id) = subject.split_once('/')?;
            (user == scope.user()).then(|| Subject::Conversation(id.to_owned()))
        }
        _ => None,
    }
}

#[async_trait]
impl Consents for SeaConsents {
    async fn set(&self, scope: &Scope, subject: &Subject, mode: Option<Mode>) -> Result<(), MemoryError> {
        let (kind, subject) = written(scope, subject);
        let written = match mode {
            Some(mode) => {
                let row = Model {
                    team: scope.team().to_owned(),
                    kind: kind.to_owned(),
                    subject,
                    mode: rows::name(&mode)?,
                };
                let replace = OnConflict::columns([Column::Team, Column::Kind, Column::Subject])
                    .update_column(Column::Mode)
                    .to_owned();
                let insert = Entity::insert(row.into_active_model()).on_conflict(replace);
                insert.exec_without_returning(&self.database).await.map(drop)
            }
            None => {
                let delete = Entity::delete_many()
                    .filter(Column::Team.eq(scope.team()))
                    .filter(Column::Kind.eq(kind))
                    .filter(Column::Subject.eq(subject));
                delete.exec(&self.database).await.map(drop)
            }
        };
        written.map_err(|error| self.explain(&error))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(scope.team());
        Ok(())
    }

    async fn rules(&self, scope: &Scope) -> Result<Vec<Rule>, MemoryError> {
        let rules = self.of_team(scope.team()).await?;
        let seen = rules.iter().filter_map(|((kind, subject), mode)| {
            let subject = shown(scope, kind, subject)?;
            Some(Rule { subject, mode: *mode })
        });
        let mut seen: Vec<Rule> = seen.collect();
        seen.sort_by_key(|rule| written(scope, &rule.subject));
        Ok(seen)
    }

    async fn mode(&self, scope: &Scope, key: &str) -> Result<Mode, MemoryError> {
        let rules = self.of_team(scope.team()).await?;
        if rules.is_empty() {
            return Ok(Mode::On);
        }
        let conversation = scope.conversation().map(|id| Subject::Conversation(id.to_owned()));
        let subjects = [Subject::Team, Subject::User, Subject::Key(key.to_owned())];
        let subjects = subjects.into_iter().chain(conversation);
        Ok(subjects.fold(Mode::On, |mode, subject| {
            let (kind, subject) = written(scope, &subject);
            let rule = rules.get(&(kind.to_owned(), subject)).copied();
            mode.and(rule.unwrap_or(Mode::On))
        }))
    }
}
