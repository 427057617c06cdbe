//! Between rows and facts.

use crate::error::MemoryError;
use crate::facts::{Event, Fact, Happened, Kind, Origin, Status, words_sha256};
use crate::store::entity::fact::Model;
use crate::store::entity::fact_event;
use crate::store::sea::rows::{self, damaged};

/// A status as it is written.
pub fn status(status: Status) -> &'static str {
    match status {
        Status::Active => "active",
        Status::Superseded => "superseded",
        Status::Quarantined => "quarantined",
        Status::Deleted => "deleted",
    }
}

/// A kind as it is written.
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Fact => "fact",
        Kind::Preference => "preference",
        Kind::Instruction => "instruction",
    }
}

/// An event as it is written.
pub fn happened(event: Happened) -> &'static str {
    match event {
        Happened::Add => "ADD",
        Happened::Update => "UPDATE",
        Happened::Supersede => "SUPERSEDE",
        Happened::Delete => "DELETE",
    }
}

/// The status of a row.
pub fn parse_status(row: &Model) -> Result<Status, MemoryError> {
    rows::parse_name(&row.status).map_err(|what| damaged("memory", &row.id, &what))
}

/// The row of a fact; it is pending.
pub fn from_fact(fact: &Fact) -> Result<Model, MemoryError> {
    Ok(Model {
        id: fact.id.to_string(),
        team: fact.scope.team().to_owned(),
        user: fact.scope.user().to_owned(),
        team_wide: fact.team_wide,
        conversation: fact.scope.conversation().map(str::to_owned),
        app: fact.scope.app().map(str::to_owned),
        agent: fact.agent.clone(),
        text: fact.text.clone(),
        words_sha256: words_sha256(&fact.text),
        kind: kind(fact.kind).to_owned(),
        attribute: fact.attribute.clone(),
        status: status(fact.status).to_owned(),
        valid_from: fact.valid_from,
        valid_to: fact.valid_to,
        superseded_by: fact.superseded_by.map(|id| id.to_string()),
        said_by: fact.origin.said_by.clone(),
        turn: fact.origin.turn.map(|id| id.to_string()),
        document: fact.origin.document.map(|id| id.to_string()),
        pinned: fact.pinned,
        metadata: rows::json(&fact.metadata)?,
        created_at: fact.created_at,
        updated_at: fact.updated_at,
        expires_at: fact.expires_at,
        pending: true,
    })
}

/// The fact of a row.
pub fn to_fact(row: Model) -> Result<Fact, MemoryError> {
    let damaged = |what: String| damaged("memory", &row.id, &what);
    let id = |id: &Option<String>| id.as_deref().map(rows::parse_id).transpose();
    let mut scope = rows::scope(&row.team, &row.user, row.conversation.as_deref()).map_err(damaged)?;
    if let Some(app) = &row.app {
        scope = scope.in_app(app);
    }
    Ok(Fact {
        id: rows::parse_id(&row.id).map_err(damaged)?,
        scope,
        kind: rows::parse_name(&row.kind).map_err(damaged)?,
        status: rows::parse_name(&row.status).map_err(damaged)?,
        superseded_by: id(&row.superseded_by).map_err(damaged)?,
        origin: Origin {
            turn: id(&row.turn).map_err(damaged)?,
            document: id(&row.document).map_err(damaged)?,
            said_by: row.said_by,
        },
        metadata: rows::parse(&row.metadata).map_err(damaged)?,
        team_wide: row.team_wide,
        agent: row.agent,
        text: row.text,
        attribute: row.attribute,
        valid_from: row.valid_from,
        valid_to: row.valid_to,
        pinned: row.pinned,
        created_at: row.created_at,
        updated_at: row.updated_at,
        expires_at: row.expires_at,
    })
}

/// The event of a row.
pub fn to_event(row: fact_event::Model) -> Result<Event, MemoryError> {
    let damaged = |what: String| damaged("history", &row.id, &what);
    Ok(Event {
        id: rows::parse_id(&row.id).map_err(damaged)?,
        fact: rows::parse_id(&row.fact).map_err(damaged)?,
        event: rows::parse_name(&row.event).map_err(damaged)?,
        old_text: row.old_text,
        new_text: row.new_text,
        at: row.at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_are_written_are_those_that_are_read() {
        for one in [Status::Active, Status::Superseded, Status::Quarantined, Status::Deleted] {
            assert_eq!(rows::parse_name::<Status>(status(one)).unwrap(), one);
        }
        for one in [Kind::Fact, Kind::Preference, Kind::Instruction] {
            assert_eq!(rows::parse_name::<Kind>(kind(one)).unwrap(), one);
        }
        for one in [Happened::Add, Happened::Update, Happened::Supersede, Happened::Delete] {
            assert_eq!(rows::parse_name::<Happened>(happened(one)).unwrap(), one);
        }
    }
}
