//! The second and third context systems: chunks of documents, lasting (persistent) or of one conversation (inference).
//! Both are the same code over different entries of the index. Which tables of a schema are shown is decided in
//! [`super::tables`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::context::options::{self, Ranked, normalised};
use crate::context::tables::{self, Table};
use crate::context::{ContextSource, Options, Request};
use crate::documents::{Chunk, Document, schema};
use crate::error::MemoryError;
use crate::index::Index;
use crate::indexer::Indexer;
use crate::journal::Journal;
use crate::passage::{Passage, SourceKind};
use crate::scope::Scope;

/// Chunks that are read from the journal at once.
const READ: usize = 16;

/// A schema with more chunks than these is searched as any document: it is the export of a whole database.
const MOST_CHUNKS: u32 = 1_000;

/// Chunks that one table's definition may be cut into.
const MOST_PARTS: usize = 4;

struct Documents {
    kind: SourceKind,
    journal: Arc<dyn Journal>,
    index: Arc<dyn Index>,
    indexer: Option<Indexer>,
    options: Options,
}

/// Lasting knowledge: documents ingested for a user or a team.
#[must_use]
pub fn persistent(
    journal: Arc<dyn Journal>,
    index: Arc<dyn Index>,
    indexer: Option<Indexer>,
    options: Options,
) -> Arc<dyn ContextSource> {
    Arc::new(Documents {
        kind: SourceKind::Persistent,
        journal,
        index,
        indexer,
        options,
    })
}

/// Documents given for one conversation; found from that conversation only.
#[must_use]
pub fn inference(
    journal: Arc<dyn Journal>,
    index: Arc<dyn Index>,
    indexer: Option<Indexer>,
    options: Options,
) -> Arc<dyn ContextSource> {
    Arc::new(Documents {
        kind: SourceKind::Inference,
        journal,
        index,
        indexer,
        options,
    })
}

#[async_trait]
impl ContextSource for Documents {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    async fn passages(&self, request: &Request) -> Result<Vec<Passage>, MemoryError> {
        let (index, indexer) = (self.index.as_ref(), self.indexer.as_ref());
        let found = options::search(self.kind, request, index, indexer, &self.options).await?;
        let near = found.near(&self.options.floor);
        let mut read = Read::new(self.journal.as_ref(), &request.scope);
        let close = found
            .all()
            .filter(|(.., cosine)| cosine.is_some_and(|it| it >= tables::CLOSE));
        let first = close.map(|(id, ..)| id).take(READ);
        let first: Vec<Uuid> = first
            .chain(near.iter().map(|(id, _)| *id).take(request.limit))
            .collect();
        read.more(&first).await?;
        let (mut passages, decided) = self.of_schemas(request, &found, &read).await?;
        let mut seen: HashSet<String> = passages.iter().map(|passage| normalised(&passage.text)).collect();
        let mut others = 0;
        for near in near.chunks(request.limit.max(READ)) {
            let ids: Vec<Uuid> = near.iter().map(|(id, _)| *id).collect();
            read.more(&ids).await?;
            for (id, score) in near.iter().filter(|(id, _)| !decided.contains(id)) {
                let Some((document, chunk)) = read.known.get(id) else {
                    continue;
                };
                if others < request.limit && seen.insert(normalised(&chunk.text)) {
                    passages.push(Passage::of_chunk(self.kind, document, chunk, *score));
                    others += 1;
                }
            }
            if others == request.limit {
                break;
            }
        }
        passages.sort_by(|a, b| b.score.total_cmp(&a.score));
        passages.truncate(request.limit);
        Ok(passages)
    }
}

impl Documents {
    /// The tables that the question needs, of every schema that it is about; and the chunks that were decided on, whether
    /// they are needed or not.
    async fn of_schemas(
        &self,
        request: &Request,
        found: &Ranked,
        read: &Read<'_>,
    ) -> Result<(Vec<Passage>, HashSet<Uuid>), MemoryError> {
        let (mut passages, mut decided) = (Vec::new(), HashSet::new());
        let schemas: BTreeMap<Uuid, &Document> = read
            .known
            .values()
            .filter(|(document, chunk)| schema::is_table(document, chunk) && document.chunks <= MOST_CHUNKS)
            .map(|(document, _)| (document.id, document))
            .collect();
        if schemas.is_empty() {
            return Ok((passages, decided));
        }
        let known: HashMap<Uuid, (f32, Option<f32>)> =
            found.all().map(|(id, score, cosine)| (id, (score, cosine))).collect();
        for (id, document) in schemas {
            let definitions = definitions(self.journal.chunks(&request.scope, id).await?);
            let tables: Vec<Table> = definitions.iter().map(|chunks| table(chunks, &known)).collect();
            let needed = tables::needed(&request.query, &tables);
            if needed.is_empty() {
                continue;
            }
            // What comes along is worth no more than what it comes along with.
            let mut score = f32::MAX;
            for place in needed {
                let own = definitions[place].iter().filter_map(|chunk| known.get(&chunk.id));
                let own = own.map(|(score, _)| *score).fold(f32::MIN, f32::max);
                if own > f32::MIN {
                    score = score.min(own);
                }
                let chunks = definitions[place].iter();
                passages.extend(chunks.map(|chunk| Passage::of_chunk(self.kind, document, chunk, score)));
            }
            decided.extend(definitions.iter().flatten().map(|chunk| chunk.id));
        }
        Ok((passages, decided))
    }
}

/// The chunks that define a table, by table. Of what an export of a database says about a table, the rows are no part of
/// its definition.
fn definitions(chunks: Vec<Chunk>) -> Vec<Vec<Chunk>> {
    let mut tables: Vec<Vec<Chunk>> = Vec::new();
    for chunk in chunks.into_iter().filter(|chunk| !chunk.locator.is_empty()) {
        let defines = |word: &str| chunk.text.to_lowercase().contains(word);
        match tables.iter_mut().find(|table| table[0].locator == chunk.locator) {
            Some(table) if table.len() < MOST_PARTS && !defines("insert into") => table.push(chunk),
            Some(_) => {}
            None if defines("create") => tables.push(vec![chunk]),
            None => {}
        }
    }
    tables
}

fn table(chunks: &[Chunk], known: &HashMap<Uuid, (f32, Option<f32>)>) -> Table {
    let cosine = |chunk: &Chunk| known.get(&chunk.id).and_then(|(_, cosine)| *cosine);
    let references = chunks.iter().flat_map(|chunk| schema::references(&chunk.text));
    Table {
        name: chunks
            .first()
            .map(|chunk| schema::name(&chunk.locator))
            .unwrap_or_default(),
        references: references.collect(),
        closeness: chunks.iter().filter_map(cosine).fold(0.0, f32::max),
    }
}

/// Chunks, read from the journal once.
struct Read<'a> {
    journal: &'a dyn Journal,
    scope: &'a Scope,
    known: HashMap<Uuid, (Document, Chunk)>,
}

impl<'a> Read<'a> {
    fn new(journal: &'a dyn Journal, scope: &'a Scope) -> Self {
        Self {
            journal,
            scope,
            known: HashMap::new(),
        }
    }

    async fn more(&mut self, ids: &[Uuid]) -> Result<(), MemoryError> {
        let new: Vec<Uuid> = ids.iter().filter(|id| !self.known.contains_key(id)).copied().collect();
        if !new.is_empty() {
            let chunks = self.journal.chunks_by_id(self.scope, &new).await?;
            self.known.extend(
                chunks
                    .into_iter()
                    .map(|(document, chunk)| (chunk.id, (document, chunk))),
            );
        }
        Ok(())
    }
}
