//! The table's columns, entries as rows, rows as hits, and scopes as filters. The only file that writes SQL for LanceDB.

use std::collections::HashMap;
use std::sync::Arc;

use lancedb::arrow::arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray,
};
use lancedb::arrow::arrow_schema::{DataType, Field, Schema, SchemaRef};
use uuid::Uuid;

use crate::error::MemoryError;
use crate::index::{Entry, Hit, Named, Owner, Query, Removal, Section, within};
use crate::passage::SourceKind;
use crate::rank::overlap;
use crate::scope::Scope;

// Column names; none is a word of SQL.
pub(super) const ID: &str = "entry_id";
pub(super) const PARENT: &str = "parent_id";
pub(super) const KIND: &str = "kind";
pub(super) const TEAM: &str = "owner_team";
pub(super) const USER: &str = "owner_user";
pub(super) const CONVERSATION: &str = "owner_conversation";
pub(super) const SESSION: &str = "session_id";
pub(super) const SPEAKER: &str = "speaker";
pub(super) const BODY: &str = "body";
pub(super) const WORDS: &str = "word_count";
pub(super) const STATES: &str = "states";
pub(super) const AT: &str = "at_ms";
pub(super) const VECTOR: &str = "vector";
/// What tells the section of a row.
pub(super) const SECTION: [&str; 3] = [TEAM, USER, KIND];
/// What LanceDB adds to a full-text hit: its BM25 score.
pub(super) const SCORE: &str = "_score";
/// What LanceDB adds to a vector hit: 1 - cosine.
pub(super) const DISTANCE: &str = "_distance";

/// Ids in one filter: keeps it at a few kilobytes.
const IDS_AT_ONCE: usize = 200;

/// What marks a column as the one that tells rows apart: two writers that add the same row at once are then told so, and
/// the second one looks again.
const KEY_MARK: &str = "lance-schema:unenforced-primary-key";

/// The table's schema; nothing may be null, least of all a scope.
pub(super) fn schema(dimensions: usize, embedder_id: &str) -> Result<SchemaRef, MemoryError> {
    let size = i32::try_from(dimensions)
        .map_err(|_| MemoryError::BadRequest(format!("{dimensions} dimensions are too many")))?;
    let mut fields: Vec<Field> = [ID, PARENT, KIND, TEAM, USER, CONVERSATION, SESSION, SPEAKER, BODY]
        .into_iter()
        .map(|name| Field::new(name, DataType::Utf8, false))
        .collect();
    fields[0].set_metadata(HashMap::from([(KEY_MARK.to_owned(), "true".to_owned())]));
    fields.push(Field::new(WORDS, DataType::Int64, false));
    fields.push(Field::new(STATES, DataType::Boolean, false));
    fields.push(Field::new(AT, DataType::Int64, false));
    fields.push(Field::new(VECTOR, DataType::FixedSizeList(item(), size), false));
    let metadata = HashMap::from([(super::EMBEDDER_KEY.to_owned(), embedder_id.to_owned())]);
    Ok(Arc::new(Schema::new_with_metadata(fields, metadata)))
}

fn item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Float32, true))
}

/// Entries as rows; of several with the same id the last counts.
pub(super) fn batch(entries: Vec<Entry>, dimensions: usize) -> Result<RecordBatch, MemoryError> {
    let mut places: HashMap<Uuid, usize> = HashMap::new();
    let mut unique: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        if let Some(&place) = places.get(&entry.id) {
            unique[place] = entry;
        } else {
            places.insert(entry.id, unique.len());
            unique.push(entry);
        }
    }
    let strings = |value: &dyn Fn(&Entry) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(unique.iter().map(value)))
    };
    let floats: Float32Array = unique.iter().flat_map(|entry| entry.vector.iter().copied()).collect();
    // Without metadata: that of the table stays as it is.
    let schema = schema(dimensions, "")?;
    let schema = Arc::new(Schema::new(schema.fields().clone()));
    let size = i32::try_from(dimensions).unwrap_or(i32::MAX);
    let vectors = FixedSizeListArray::try_new(item(), size, Arc::new(floats), None)
        .map_err(|error| MemoryError::Storage(format!("vectors can't be laid out: {error}")))?;
    let columns: Vec<ArrayRef> = vec![
        strings(&|entry| entry.id.to_string()),
        strings(&|entry| entry.parent.to_string()),
        strings(&|entry| kind(entry.source).to_owned()),
        strings(&|entry| entry.owner.team.clone()),
        strings(&|entry| entry.owner.user.clone().unwrap_or_default()),
        strings(&|entry| entry.owner.conversation.clone().unwrap_or_default()),
        strings(&|entry| entry.session.clone()),
        strings(&|entry| entry.speaker.clone().unwrap_or_default()),
        strings(&|entry| entry.text.clone()),
        Arc::new(Int64Array::from_iter_values(
            unique.iter().map(|entry| i64::from(entry.words)),
        )),
        Arc::new(BooleanArray::from_iter(unique.iter().map(|entry| Some(entry.states)))),
        Arc::new(Int64Array::from_iter_values(unique.iter().map(|entry| entry.at))),
        Arc::new(vectors),
    ];
    RecordBatch::try_new(schema, columns)
        .map_err(|error| MemoryError::Storage(format!("entries can't be laid out as rows: {error}")))
}

fn kind(source: SourceKind) -> &'static str {
    match source {
        SourceKind::Recalled => "recalled",
        SourceKind::Persistent => "persistent",
        SourceKind::Inference => "inference",
        SourceKind::Stored => "stored",
        SourceKind::Fact => "fact",
        // Never indexed: examples are made of feedback.
        SourceKind::Example => "example",
    }
}

/// The source of which this is the [`kind`].
fn source(name: &str) -> Result<SourceKind, MemoryError> {
    const SOURCES: [SourceKind; 5] = [
        SourceKind::Recalled,
        SourceKind::Persistent,
        SourceKind::Inference,
        SourceKind::Stored,
        SourceKind::Fact,
    ];
    let known = SOURCES.into_iter().find(|source| kind(*source) == name);
    known.ok_or_else(|| damaged(KIND))
}

/// What this scope may read of this source, and of these parents if there are any.
pub(super) fn filter(scope: &Scope, source: SourceKind, parents: Option<&[Uuid]>) -> String {
    let (team, user) = (quoted(scope.team()), quoted(scope.user()));
    let conversation = match within(scope, source) {
        Some(id) => format!("({CONVERSATION} = '' OR {CONVERSATION} = {})", quoted(id)),
        None => format!("{CONVERSATION} = ''"),
    };
    let parents = parents.map_or(String::new(), |parents| format!(" AND {}", one_of(PARENT, parents)));
    format!(
        "{TEAM} = {team} AND {KIND} = '{}' AND ({USER} = '' OR {USER} = {user}) AND {conversation}{parents}",
        kind(source)
    )
}

fn one_of(column: &str, ids: &[Uuid]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
    // An empty list is no SQL.
    if ids.is_empty() {
        return "false".to_owned();
    }
    format!("{column} IN ({})", ids.join(", "))
}

/// What stands in a section.
pub(super) fn section_filter(section: &Section) -> String {
    let (team, user) = (
        quoted(&section.team),
        quoted(section.user.as_deref().unwrap_or_default()),
    );
    format!(
        "{TEAM} = {team} AND {KIND} = '{}' AND {USER} = {user}",
        kind(section.source)
    )
}

/// The filters that, one after the other, select what is to be removed.
pub(super) fn removal_filters(removal: &Removal) -> Vec<String> {
    match removal {
        Removal::All => vec!["true".to_owned()],
        Removal::User { team, user } => vec![format!("{TEAM} = {} AND {USER} = {}", quoted(team), quoted(user))],
        Removal::Parents { team, parents } => parents_filters(team, parents),
    }
}

/// The filters that together select these entries.
pub(super) fn named_filters(names: &Named) -> Vec<String> {
    match names {
        Named::Entries(ids) => ids.chunks(IDS_AT_ONCE).map(|ids| one_of(ID, ids)).collect(),
        Named::Parents { team, parents } => parents_filters(team, parents),
    }
}

fn parents_filters(team: &str, parents: &[Uuid]) -> Vec<String> {
    parents
        .chunks(IDS_AT_ONCE)
        .map(|parents| format!("{TEAM} = {} AND {}", quoted(team), one_of(PARENT, parents)))
        .collect()
}

/// A string literal of SQL: a quote within it is doubled, and no other character means anything there.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// The columns that a search reads.
pub(super) const FOUND: [&str; 7] = [ID, SESSION, SPEAKER, BODY, WORDS, STATES, AT];

/// The hits of both legs, each entry once. What only a look at all entries tells is left out.
pub(super) fn merge(
    query: &Query<'_>,
    words: &[RecordBatch],
    meaning: &[RecordBatch],
) -> Result<Vec<Hit>, MemoryError> {
    // Fewer than there is room for are all.
    let nearest: usize = meaning.iter().map(RecordBatch::num_rows).sum();
    let among = (0 < nearest && nearest < query.limit).then_some(nearest);
    let mut hits: Vec<Hit> = Vec::new();
    let mut texts: Vec<&str> = Vec::new();
    let mut speakers: Vec<&str> = Vec::new();
    let mut places: HashMap<Uuid, usize> = HashMap::new();
    for (batches, extra) in [(words, SCORE), (meaning, DISTANCE)] {
        for batch in batches {
            let row = Row::of(batch)?;
            let values: &Float32Array = column(batch, extra)?;
            for number in 0..batch.num_rows() {
                let id = row.id(number)?;
                let place = *places.entry(id).or_insert_with(|| {
                    hits.push(Hit {
                        id,
                        session: row.sessions.value(number).to_owned(),
                        at: row.times.value(number),
                        bm25: None,
                        cosine: None,
                        overlap: 0.0,
                        around: None,
                        session_words: None,
                        session_meaning: None,
                        words: u32::try_from(row.words.value(number)).unwrap_or_default(),
                        states: row.states.value(number),
                        named: None,
                        among,
                    });
                    texts.push(row.texts.value(number));
                    speakers.push(row.speakers.value(number));
                    hits.len() - 1
                });
                if extra == SCORE {
                    hits[place].bm25 = Some(values.value(number));
                } else {
                    hits[place].cosine = Some((1.0 - values.value(number)).clamp(-1.0, 1.0));
                }
            }
        }
    }
    let named = overlap::speaker(query.text, &speakers);
    for ((hit, share), speaker) in hits.iter_mut().zip(overlap::shares(query.text, &texts)).zip(speakers) {
        hit.overlap = share;
        hit.named = named.map(|name| name == speaker);
    }
    Ok(hits)
}

/// The columns that an entry is read from.
pub(super) const ALL: [&str; 13] = [
    ID,
    TEAM,
    USER,
    KIND,
    SESSION,
    SPEAKER,
    BODY,
    WORDS,
    STATES,
    AT,
    PARENT,
    CONVERSATION,
    VECTOR,
];

/// All rows as entries.
pub(super) fn entries(batches: &[RecordBatch]) -> Result<Vec<Entry>, MemoryError> {
    let mut entries = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        let row = Row::of(batch)?;
        let [teams, users, kinds] = SECTION.map(|name| column::<StringArray>(batch, name));
        let (teams, users, kinds) = (teams?, users?, kinds?);
        let parents: &StringArray = column(batch, PARENT)?;
        let conversations: &StringArray = column(batch, CONVERSATION)?;
        let vectors: &FixedSizeListArray = column(batch, VECTOR)?;
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        for number in 0..batch.num_rows() {
            let vector = vectors.value(number);
            let vector: &Float32Array = vector.as_any().downcast_ref().ok_or_else(|| damaged(VECTOR))?;
            entries.push(Entry {
                id: row.id(number)?,
                parent: Uuid::parse_str(parents.value(number)).map_err(|error| damaged(&error.to_string()))?,
                source: source(kinds.value(number))?,
                owner: Owner {
                    team: teams.value(number).to_owned(),
                    user: some(users.value(number)),
                    conversation: some(conversations.value(number)),
                },
                session: row.sessions.value(number).to_owned(),
                speaker: some(row.speakers.value(number)),
                text: row.texts.value(number).to_owned(),
                words: u32::try_from(row.words.value(number)).unwrap_or_default(),
                states: row.states.value(number),
                vector: vector.values().to_vec(),
                at: row.times.value(number),
            });
        }
    }
    Ok(entries)
}

/// Counts the rows of each section.
pub(super) fn count_sections(batch: &RecordBatch, sections: &mut HashMap<Section, usize>) -> Result<(), MemoryError> {
    let [teams, users, kinds] = SECTION.map(|name| column::<StringArray>(batch, name));
    let (teams, users, kinds) = (teams?, users?, kinds?);
    // By text first: there are few sections, and a copy of each name for every row would be many.
    let mut counts: HashMap<[&str; 3], usize> = HashMap::new();
    for row in 0..batch.num_rows() {
        *counts
            .entry([teams.value(row), users.value(row), kinds.value(row)])
            .or_default() += 1;
    }
    for ([team, user, name], count) in counts {
        let section = Section {
            team: team.to_owned(),
            user: (!user.is_empty()).then(|| user.to_owned()),
            source: source(name)?,
        };
        *sections.entry(section).or_default() += count;
    }
    Ok(())
}

/// The columns of [`FOUND`].
struct Row<'a> {
    ids: &'a StringArray,
    sessions: &'a StringArray,
    speakers: &'a StringArray,
    texts: &'a StringArray,
    words: &'a Int64Array,
    states: &'a BooleanArray,
    times: &'a Int64Array,
}

impl<'a> Row<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, MemoryError> {
        Ok(Self {
            ids: column(batch, ID)?,
            sessions: column(batch, SESSION)?,
            speakers: column(batch, SPEAKER)?,
            texts: column(batch, BODY)?,
            words: column(batch, WORDS)?,
            states: column(batch, STATES)?,
            times: column(batch, AT)?,
        })
    }

    fn id(&self, number: usize) -> Result<Uuid, MemoryError> {
        Uuid::parse_str(self.ids.value(number)).map_err(|error| damaged(&error.to_string()))
    }
}

fn column<'a, T: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T, MemoryError> {
    batch
        .column_by_name(name)
        .and_then(|column| column.as_any().downcast_ref())
        .ok_or_else(|| damaged(name))
}

fn damaged(what: &str) -> MemoryError {
    MemoryError::Storage(format!(
        "the index holds something that it can't have written ({what}); `habit reindex` makes it anew from the journal"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_in_a_value_do_not_end_the_literal() {
        let scope = Scope::new("t", "u").expect("names").in_conversation("x' OR true --");
        let filter = filter(&scope, SourceKind::Recalled, None);
        assert!(filter.ends_with("owner_conversation = 'x'' OR true --')"), "{filter}");
    }

    #[test]
    fn a_scope_without_a_conversation_reads_none() {
        let scope = Scope::new("t", "u").expect("names");
        let expected = "owner_team = 't' AND kind = 'persistent' AND (owner_user = '' OR owner_user = 'u') AND \
                        owner_conversation = ''";
        assert_eq!(filter(&scope, SourceKind::Persistent, None), expected);
    }
}
