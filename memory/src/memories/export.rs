//! Everything of a user, line by line.

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Memories;
use crate::consent::Rule;
use crate::documents::{Chunk, Document};
use crate::error::MemoryError;
use crate::facts::{Event, Fact, Filter};
use crate::files;
use crate::interaction::Interaction;
use crate::journal::Page;
use crate::objects::{Object, Slice};
use crate::scope::Scope;

/// Turns, facts or objects that are read at a time: few enough to stay small, whatever they hold.
const BATCH: u64 = 100;

/// One line of an export.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// A recorded turn.
    Turn(Box<Interaction>),
    /// A fact, with what became of it.
    Memory {
        /// The fact.
        #[serde(flatten)]
        fact: Box<Fact>,
        /// Oldest first.
        history: Vec<Event>,
    },
    /// A document, with its text.
    Document {
        /// The document.
        #[serde(flatten)]
        document: Box<Document>,
        /// Its passages, in order.
        passages: Vec<Chunk>,
    },
    /// A file's card. Whoever writes the line adds the bytes.
    File {
        /// Its id.
        id: String,
        /// All that is known of it.
        card: Value,
    },
    /// Anything else: a response, a conversation or an item of one, a vector store.
    Object {
        /// What it is.
        kind: String,
        /// Its id.
        id: String,
        /// What it belongs to.
        parent: Option<String>,
        /// Unix milliseconds.
        created_at: i64,
        /// Unix milliseconds.
        expires_at: Option<i64>,
        /// Its content.
        body: Value,
    },
    /// A rule on memory.
    Rule(Rule),
    /// What a follower keeps, with its own `type`: feedback, what is learnt from.
    #[serde(untagged)]
    Followed(Map<String, Value>),
}

type Lines = BoxStream<'static, Result<Line, MemoryError>>;

impl Memories {
    /// All that is kept of this user, a piece at a time: turns, facts, documents, files' cards, responses and
    /// conversations, rules, and what followers keep. What others of the team gave is theirs, and not in it.
    #[must_use]
    pub fn export(&self, scope: &Scope) -> Lines {
        // Every conversation, not just the one that the scope may be in.
        let Ok(scope) = Scope::new(scope.team(), scope.user()) else {
            return stream::empty().boxed();
        };
        self.turns(scope.clone())
            .chain(self.facts(scope.clone()))
            .chain(self.documents(scope.clone()))
            .chain(self.objects(scope.clone()))
            .chain(self.rules(scope.clone()))
            .chain(self.followed(&scope))
            .boxed()
    }

    fn turns(&self, scope: Scope) -> Lines {
        let journal = std::sync::Arc::clone(&self.parts.journal);
        pages(move |before| {
            let (journal, scope) = (journal.clone(), scope.clone());
            async move { journal.turns(&scope, Page { limit: BATCH, before }).await }
        })
        .map_ok(|turn| Line::Turn(Box::new(turn)))
        .boxed()
    }

    fn facts(&self, scope: Scope) -> Lines {
        let facts = std::sync::Arc::clone(&self.parts.facts);
        let (reader, owner) = (facts.clone(), scope.clone());
        let all = pages(move |before| {
            let (facts, scope) = (reader.clone(), owner.clone());
            async move { facts.list(&scope, &Filter::all(), Page { limit: BATCH, before }).await }
        });
        let user = scope.user().to_owned();
        all.try_filter(move |fact| std::future::ready(fact.scope.user() == user))
            .and_then(move |fact| {
                let (facts, scope) = (facts.clone(), scope.clone());
                async move {
                    let history = facts.history(&scope, fact.id).await?;
                    let fact = Box::new(fact);
                    Ok(Line::Memory { fact, history })
                }
            })
            .boxed()
    }

    fn documents(&self, scope: Scope) -> Lines {
        let journal = std::sync::Arc::clone(&self.parts.journal);
        let reader = journal.clone();
        let given = async move { reader.given(&scope).await };
        stream::once(given)
            .map_ok(|documents| stream::iter(documents.into_iter().map(Ok)))
            .try_flatten()
            .and_then(move |document| {
                let journal = journal.clone();
                async move {
                    let passages = journal.chunks(&document.scope, document.id).await?;
                    let document = Box::new(document);
                    Ok(Line::Document { document, passages })
                }
            })
            .boxed()
    }

    fn objects(&self, scope: Scope) -> Lines {
        let objects = std::sync::Arc::clone(&self.parts.objects);
        let (reader, owner) = (objects.clone(), scope.clone());
        let kinds = async move { reader.kinds(&owner).await };
        stream::once(kinds)
            .map_ok(|kinds| stream::iter(kinds.into_iter().map(Ok::<_, MemoryError>)))
            .try_flatten()
            .map_ok(move |kind| {
                let (objects, scope) = (objects.clone(), scope.clone());
                stream::try_unfold(Some(None::<String>), move |after| {
                    let (objects, scope, kind) = (objects.clone(), scope.clone(), kind.clone());
                    async move {
                        let Some(after) = after else {
                            return Ok::<_, MemoryError>(None);
                        };
                        let slice = Slice {
                            after,
                            limit: BATCH,
                            ..Slice::all()
                        };
                        let found = objects.list(&scope, &kind, None, &slice).await?;
                        let more = found.len() as u64 == BATCH;
                        let next = found.last().filter(|_| more).map(|object| Some(object.id.clone()));
                        Ok(Some((found, next)))
                    }
                })
                .map_ok(|found| stream::iter(found.into_iter().map(Ok::<_, MemoryError>)))
                .try_flatten()
            })
            .try_flatten()
            .map_ok(line)
            .boxed()
    }

    fn rules(&self, scope: Scope) -> Lines {
        let parts = std::sync::Arc::clone(&self.parts);
        let rules = async move {
            let rules = parts.consents.rules(&scope).await?;
            Ok::<_, MemoryError>(rules)
        };
        stream::once(rules)
            .map_ok(|rules| stream::iter(rules.into_iter().map(Ok)))
            .try_flatten()
            .map_ok(Line::Rule)
            .boxed()
    }

    fn followed(&self, scope: &Scope) -> Lines {
        let followers = self.parts.followers.iter().map(|follower| follower.export(scope));
        stream::iter(followers.collect::<Vec<_>>())
            .flatten()
            .map_ok(Line::Followed)
            .boxed()
    }

    /// The bytes of a file, for whoever writes an export.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`] if it has gone meanwhile; [`MemoryError::Storage`].
    pub async fn file(&self, scope: &Scope, id: &str) -> Result<Vec<u8>, MemoryError> {
        Ok(self.parts.files.read(scope, id).await?.1)
    }
}

fn line(object: Object) -> Line {
    if object.kind == files::KIND {
        return Line::File {
            id: object.id,
            card: object.body,
        };
    }
    Line::Object {
        kind: object.kind,
        id: object.id,
        parent: object.parent,
        created_at: object.created_at,
        expires_at: object.expires_at,
        body: object.body,
    }
}

/// What has an id by which a listing goes on.
trait Listed {
    fn id(&self) -> Uuid;
}

impl Listed for Interaction {
    fn id(&self) -> Uuid {
        self.id
    }
}

impl Listed for Fact {
    fn id(&self) -> Uuid {
        self.id
    }
}

/// All of a listing, a page at a time, newest first.
fn pages<T, F, R>(read: F) -> BoxStream<'static, Result<T, MemoryError>>
where
    T: Listed + Send + 'static,
    F: Fn(Option<Uuid>) -> R + Send + 'static,
    R: Future<Output = Result<Vec<T>, MemoryError>> + Send + 'static,
{
    stream::try_unfold(Some(None::<Uuid>), move |before| {
        let page = before.map(&read);
        async move {
            let Some(page) = page else {
                return Ok::<_, MemoryError>(None);
            };
            let found = page.await?;
            let more = found.len() as u64 == BATCH;
            let next = found.last().filter(|_| more).map(|item| Some(item.id()));
            Ok(Some((found, next)))
        }
    })
    .map_ok(|found| stream::iter(found.into_iter().map(Ok::<_, MemoryError>)))
    .try_flatten()
    .boxed()
}
