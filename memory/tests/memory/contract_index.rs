//! The laws of [`Index`], over every implementation.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use habit_engine::embedder::HashEmbedder;
use habit_memory::generations::{Generation, Generations};
use habit_memory::index::{Entry, Index, Named, Owner, Query, Removal, Section};
use habit_memory::passage::SourceKind;
use habit_memory::query_vector::QueryVector;
use habit_memory::store::lance::LanceIndex;
use habit_memory::store::ram_index::RamIndex;
use habit_memory::store::shelves::Shelves;
use habit_memory::{MemoryError, Scope};
use uuid::Uuid;

mod files;
mod lance;
mod shared;

const DIMENSIONS: usize = 8;

fn scope(team: &str, user: &str) -> Scope {
    Scope::new(team, user).unwrap()
}

/// A vector that points mostly along one axis.
fn towards(axis: usize, tilt: f32) -> Vec<f32> {
    let mut vector = [0.0; DIMENSIONS];
    vector[axis % DIMENSIONS] = 1.0;
    vector[(axis + 1) % DIMENSIONS] += tilt;
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

fn entry(owner: Owner, text: &str, vector: Vec<f32>) -> Entry {
    let id = Uuid::now_v7();
    let (session, text) = ("a talk".to_owned(), text.to_owned());
    Entry {
        id,
        parent: id,
        source: SourceKind::Recalled,
        owner,
        session,
        speaker: None,
        words: text.split_whitespace().count() as u32,
        states: true,
        text,
        vector,
        at: 1_000,
    }
}

fn of(scope: &Scope) -> Owner {
    Owner {
        team: scope.team().to_owned(),
        user: Some(scope.user().to_owned()),
        conversation: None,
    }
}

fn ask<'a>(text: &'a str, vector: Option<&[f32]>, limit: usize) -> Query<'a> {
    Query {
        source: SourceKind::Recalled,
        text,
        vector: vector.map(<[f32]>::to_vec).into(),
        parents: None,
        limit,
        around: false,
    }
}

async fn found(index: &dyn Index, scope: &Scope, query: Query<'_>) -> HashSet<Uuid> {
    let hits = index.search(scope, query).await.unwrap();
    let ids: HashSet<Uuid> = hits.iter().map(|hit| hit.id).collect();
    assert_eq!(ids.len(), hits.len(), "each entry comes once");
    ids
}

/// All laws, on an empty index of eight dimensions.
async fn laws(index: &dyn Index) {
    only_what_the_scope_may_read(index).await;
    index.remove(Removal::All).await.unwrap();
    foreign_entries_do_not_crowd_out(index).await;
    index.remove(Removal::All).await.unwrap();
    a_store_is_found_only_where_it_is_asked(index).await;
    index.remove(Removal::All).await.unwrap();
    words_and_meaning(index).await;
    index.remove(Removal::All).await.unwrap();
    the_last_write_counts(index).await;
    index.remove(Removal::All).await.unwrap();
    removed_is_gone(index).await;
    index.remove(Removal::All).await.unwrap();
    sections_are_counted(index).await;
    index.remove(Removal::All).await.unwrap();
    wrong_dimensions_are_refused(index).await;
    index.remove(Removal::All).await.unwrap();
    odd_queries_are_harmless(index).await;
    index.remove(Removal::All).await.unwrap();
    a_vector_may_come_later(index).await;
}

/// What is found does not depend on when the vector comes; where none comes, or one of another kind, words find.
async fn a_vector_may_come_later(index: &dyn Index) {
    let me = scope("red", "ann");
    let by_words = entry(of(&me), "a harbour crane", towards(0, 0.0));
    let by_meaning = entry(of(&me), "the tide is low", towards(4, 0.0));
    let ids = HashSet::from([by_words.id]);
    let both = HashSet::from([by_words.id, by_meaning.id]);
    index.upsert(vec![by_words, by_meaning]).await.unwrap();
    // Room for one of each: the best by words, and the best by meaning.
    late_vectors(index, &me, (ask("crane", None, 1), towards(4, 0.0)), (&ids, &both)).await;
}

/// Asks with a vector that comes late, one that does not come, and one of other dimensions.
async fn late_vectors(
    index: &dyn Index,
    me: &Scope,
    (query, vector): (Query<'_>, Vec<f32>),
    (by_words, both): (&HashSet<Uuid>, &HashSet<Uuid>),
) {
    for (came, expected) in [(Some(vector), both), (Some(vec![1.0; 3]), by_words), (None, by_words)] {
        let (promise, coming) = QueryVector::coming();
        let query = Query {
            vector: coming,
            ..query.clone()
        };
        let search = found(index, me, query);
        let makes = async move {
            // The search begins first.
            tokio::task::yield_now().await;
            match came {
                Some(vector) => promise.keep(Arc::new(vector)),
                None => drop(promise),
            }
        };
        let (ids, ()) = tokio::join!(biased; search, makes);
        assert_eq!(&ids, expected);
    }
}

/// Sections are those that have entries, and only those.
async fn sections_are_counted(index: &dyn Index) {
    index.hold().await.unwrap();
    let (ann, bob) = (scope("red", "ann"), scope("red", "bob"));
    let team = Owner { user: None, ..of(&ann) };
    let shared = Entry {
        source: SourceKind::Persistent,
        ..entry(team.clone(), "a rule", towards(1, 0.0))
    };
    let mine: Vec<Entry> = (0..3).map(|n| entry(of(&ann), "a buoy", towards(n, 0.0))).collect();
    let his = entry(of(&bob), "a buoy", towards(0, 0.0));
    let section = |owner: &Owner, source| Section {
        team: owner.team.clone(),
        user: owner.user.clone(),
        source,
    };
    index
        .upsert(mine.iter().cloned().chain([his.clone(), shared]).collect())
        .await
        .unwrap();
    // What comes after the first look is there as well, also for those who had nothing then.
    assert_eq!(found(index, &bob, ask("buoy", None, 10)).await, HashSet::from([his.id]));
    let removal = Removal::Parents {
        team: "red".to_owned(),
        parents: vec![mine[0].id, his.id],
    };
    index.remove(removal).await.unwrap();
    let sections: HashMap<Section, usize> = index.sections().await.unwrap().into_iter().collect();
    let expected = HashMap::from([
        (section(&of(&ann), SourceKind::Recalled), 2),
        (section(&team, SourceKind::Persistent), 1),
    ]);
    assert_eq!(sections, expected);
    index.hold().await.unwrap();
    let left = HashSet::from([mine[1].id, mine[2].id]);
    assert_eq!(found(index, &ann, ask("buoy", None, 10)).await, left);
    assert_eq!(found(index, &bob, ask("buoy", None, 10)).await, HashSet::new());
}

/// Entries of a vector store, and the query's choice of parents.
async fn a_store_is_found_only_where_it_is_asked(index: &dyn Index) {
    let (me, peer) = (scope("red", "ann"), scope("red", "bob"));
    let owned = |id: &str, nearness| Entry {
        source: SourceKind::Stored,
        ..entry(
            Owner {
                conversation: Some(id.to_owned()),
                ..of(&me)
            },
            "harbour crane",
            towards(0, nearness),
        )
    };
    let (one, two, other) = (owned("vs_1", 0.0), owned("vs_1", 0.1), owned("vs_2", 0.0));
    index
        .upsert(vec![one.clone(), two.clone(), other.clone()])
        .await
        .unwrap();
    let vector = towards(0, 0.0);
    for query in [
        ask("harbour", Some(&vector), 10),
        ask("harbour", None, 10),
        ask("", Some(&vector), 10),
    ] {
        let stored = Query {
            source: SourceKind::Stored,
            ..query.clone()
        };
        let inside = me.in_store("vs_1");
        assert_eq!(
            found(index, &inside, stored.clone()).await,
            HashSet::from([one.id, two.id])
        );
        for nowhere in [me.clone(), me.in_conversation("vs_1"), peer.in_store("vs_1")] {
            assert_eq!(found(index, &nowhere, stored.clone()).await, HashSet::new());
        }
        for source in [SourceKind::Recalled, SourceKind::Persistent, SourceKind::Inference] {
            for scope in [inside.clone(), me.in_conversation("vs_1")] {
                let query = Query {
                    source,
                    ..query.clone()
                };
                assert_eq!(found(index, &scope, query).await, HashSet::new());
            }
        }
        // With room for one, the one that is asked for comes, though another is nearer.
        for (parents, wanted) in [
            (vec![two.parent], HashSet::from([two.id])),
            (vec![other.parent], HashSet::new()),
            (vec![], HashSet::new()),
        ] {
            let query = Query {
                parents: Some(&parents),
                limit: 1,
                ..stored.clone()
            };
            assert_eq!(found(index, &inside, query).await, wanted);
        }
    }
}

async fn only_what_the_scope_may_read(index: &dyn Index) {
    let (me, peer, stranger) = (scope("red", "ann"), scope("red", "bob"), scope("blue", "ann"));
    let mine = entry(of(&me), "harbour crane", towards(0, 0.0));
    let team = entry(Owner { user: None, ..of(&me) }, "harbour crane", towards(0, 0.1));
    let here = Owner {
        conversation: Some("it's here".to_owned()),
        ..of(&me)
    };
    let local = entry(here, "harbour crane", towards(0, 0.2));
    let other = Entry {
        source: SourceKind::Persistent,
        ..entry(of(&me), "harbour crane", towards(0, 0.3))
    };
    let others = [
        entry(of(&peer), "harbour crane", towards(0, 0.0)),
        entry(of(&stranger), "harbour crane", towards(0, 0.0)),
    ];
    let mut all = vec![mine.clone(), team.clone(), local.clone(), other];
    all.extend(others.clone());
    index.upsert(all).await.unwrap();

    let vector = towards(0, 0.0);
    for query in [
        ask("harbour", Some(&vector), 10),
        ask("harbour", None, 10),
        ask("", Some(&vector), 10),
    ] {
        assert_eq!(
            found(index, &me, query.clone()).await,
            HashSet::from([mine.id, team.id])
        );
        let inside = me.in_conversation("it's here");
        assert_eq!(
            found(index, &inside, query.clone()).await,
            HashSet::from([mine.id, team.id, local.id])
        );
        let elsewhere = me.in_conversation("x' OR true OR 'x' = '");
        assert_eq!(
            found(index, &elsewhere, query.clone()).await,
            HashSet::from([mine.id, team.id])
        );
        assert_eq!(
            found(index, &peer, query.clone()).await,
            HashSet::from([others[0].id, team.id])
        );
        assert_eq!(
            found(index, &stranger, query.clone()).await,
            HashSet::from([others[1].id])
        );
        assert!(found(index, &scope("green", "ann"), query).await.is_empty());
    }
}

async fn foreign_entries_do_not_crowd_out(index: &dyn Index) {
    let (me, crowd) = (scope("red", "ann"), scope("blue", "crowd"));
    let vector = towards(3, 0.0);
    let better: Vec<Entry> = (0..300)
        .map(|_| entry(of(&crowd), "lighthouse lighthouse", vector.clone()))
        .collect();
    let mine = entry(of(&me), "a note on some lighthouse or other", towards(3, 0.9));
    index.upsert(better).await.unwrap();
    index.upsert(vec![mine.clone()]).await.unwrap();
    for query in [ask("lighthouse", None, 5), ask("", Some(&vector), 5)] {
        assert_eq!(found(index, &me, query).await, HashSet::from([mine.id]));
    }
}

async fn words_and_meaning(index: &dyn Index) {
    let me = scope("red", "ann");
    let near = entry(of(&me), "nothing in common", towards(5, 0.1));
    let named = entry(of(&me), "My dog is called Biscuit", towards(1, 0.0));
    index.upsert(vec![near.clone(), named.clone()]).await.unwrap();
    let vector = towards(5, 0.0);

    let hits = index.search(&me, ask("dogs", Some(&vector), 10)).await.unwrap();
    let hit = |id: Uuid| hits.iter().find(|hit| hit.id == id).unwrap();
    assert!(hit(named.id).bm25.unwrap() > 0.0, "another form of the word matches");
    assert!(hit(near.id).bm25.is_none());
    let cosine: f32 = near.vector.iter().zip(&vector).map(|(a, b)| a * b).sum();
    assert!((hit(near.id).cosine.unwrap() - cosine).abs() < 1e-4);
    assert_eq!((hit(near.id).session.as_str(), hit(near.id).at), ("a talk", 1_000));

    let hits = index
        .search(&me, ask("what is the dog called", None, 10))
        .await
        .unwrap();
    assert_eq!(
        hits.iter().map(|hit| hit.id).collect::<Vec<_>>(),
        [named.id],
        "words alone find it"
    );
    assert!(hits[0].cosine.is_none());

    let limited = index.search(&me, ask("", Some(&vector), 1)).await.unwrap();
    assert_eq!(limited.iter().map(|hit| hit.id).collect::<Vec<_>>(), [near.id]);
}

async fn the_last_write_counts(index: &dyn Index) {
    let me = scope("red", "ann");
    let old = entry(of(&me), "the anchor is rusty", towards(2, 0.0));
    index.upsert(vec![old.clone()]).await.unwrap();
    let new = Entry {
        text: "the sail is torn".to_owned(),
        vector: towards(6, 0.0),
        ..old.clone()
    };
    // Twice in one write, too.
    index.upsert(vec![old.clone(), new.clone()]).await.unwrap();
    assert_eq!(index.len().await.unwrap(), 1);
    assert!(found(index, &me, ask("anchor", None, 10)).await.is_empty());
    assert_eq!(found(index, &me, ask("sail", None, 10)).await, HashSet::from([old.id]));
    let hits = index.search(&me, ask("", Some(&towards(6, 0.0)), 10)).await.unwrap();
    assert!(hits[0].cosine.unwrap() > 0.99);
}

async fn removed_is_gone(index: &dyn Index) {
    let (me, stranger) = (scope("red", "ann"), scope("blue", "ann"));
    let document = Uuid::now_v7();
    let part = |scope: &Scope| Entry {
        parent: document,
        ..entry(of(scope), "tide table", towards(4, 0.0))
    };
    let kept = entry(of(&me), "tide pool", towards(4, 0.1));
    let foreign = part(&stranger);
    index
        .upsert(vec![part(&me), part(&me), kept.clone(), foreign.clone()])
        .await
        .unwrap();
    let removal = Removal::Parents {
        team: "red".to_owned(),
        parents: vec![document, Uuid::now_v7()],
    };
    index.remove(removal).await.unwrap();
    let vector = towards(4, 0.0);
    assert_eq!(
        found(index, &me, ask("tide", Some(&vector), 10)).await,
        HashSet::from([kept.id])
    );
    assert_eq!(
        found(index, &stranger, ask("tide", Some(&vector), 10)).await,
        HashSet::from([foreign.id])
    );
    index.optimize().await.unwrap();
    assert_eq!(
        found(index, &me, ask("tide", Some(&vector), 10)).await,
        HashSet::from([kept.id])
    );
    index.remove(Removal::All).await.unwrap();
    assert_eq!(index.len().await.unwrap(), 0);
    assert!(found(index, &me, ask("tide", Some(&vector), 10)).await.is_empty());
}

async fn wrong_dimensions_are_refused(index: &dyn Index) {
    let me = scope("red", "ann");
    let short = entry(of(&me), "short", vec![1.0]);
    assert!(matches!(
        index.upsert(vec![short]).await,
        Err(MemoryError::BadRequest(_))
    ));
    let query = index.search(&me, ask("x", Some(&[1.0]), 1)).await;
    assert!(matches!(query, Err(MemoryError::BadRequest(_))));
    assert_eq!(index.len().await.unwrap(), 0);
}

async fn odd_queries_are_harmless(index: &dyn Index) {
    let me = scope("red", "ann");
    index.upsert(Vec::new()).await.unwrap();
    assert!(
        found(index, &me, ask("empty index", Some(&towards(0, 0.0)), 10))
            .await
            .is_empty()
    );
    index
        .upsert(vec![entry(
            of(&me),
            "it's a \"quoted\" note: (a AND b) OR c*",
            towards(0, 0.0),
        )])
        .await
        .unwrap();
    for text in [
        "",
        "?!",
        "' OR 1=1 --",
        "\"unclosed",
        "a AND (b OR",
        "+x -y ~z^2",
        "\u{0}",
        "日本語",
        "path:value",
    ] {
        index.search(&me, ask(text, None, 10)).await.unwrap();
    }
    assert!(
        index
            .search(&me, ask("quoted", Some(&towards(0, 0.0)), 0))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn ram_keeps_the_laws() {
    laws(&RamIndex::new(DIMENSIONS)).await;
}

#[tokio::test]
async fn shelves_keep_the_laws() {
    for budget in [0, 1 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let inner = Arc::new(LanceIndex::open(dir.path(), DIMENSIONS, "test@1").await.unwrap());
        laws(&Shelves::new(inner, DIMENSIONS, budget)).await;
    }
    laws(&Shelves::new(Arc::new(RamIndex::new(DIMENSIONS)), DIMENSIONS, 1 << 20)).await;
}

/// So many entries that they are looked through by threads of their own, which wait for the vector.
#[tokio::test]
async fn a_large_shelf_waits_for_the_vector() {
    const MANY: usize = 21_000;
    let shelves = Shelves::new(Arc::new(RamIndex::new(DIMENSIONS)), DIMENSIONS, 1 << 26);
    let me = scope("red", "ann");
    let by_words = entry(of(&me), "a harbour crane", towards(0, 0.0));
    let by_meaning = entry(of(&me), "the tide is low", towards(4, 0.0));
    let ids = HashSet::from([by_words.id]);
    let both = HashSet::from([by_words.id, by_meaning.id]);
    let others = (0..MANY).map(|number| entry(of(&me), &format!("buoy number{number}"), towards(1, 0.1)));
    let entries = others.chain([by_words, by_meaning]).collect();
    shelves.upsert(entries).await.unwrap();
    shelves.hold().await.unwrap();
    late_vectors(&shelves, &me, (ask("crane", None, 1), towards(4, 0.0)), (&ids, &both)).await;
}

/// What fits is held in memory and let go again; what was there before, what comes later and what is removed are right
/// wherever they are searched.
#[tokio::test]
async fn shelves_follow_what_is_behind_them() {
    let inner = Arc::new(RamIndex::new(DIMENSIONS));
    let users: Vec<Scope> = (0..6).map(|n| scope("red", &format!("user{n}"))).collect();
    let mut old = Vec::new();
    for user in &users {
        for n in 0..8 {
            let entry = entry(of(user), &format!("buoy number{n}"), towards(n, 0.1));
            old.push((user, entry.id));
            inner.upsert(vec![entry]).await.unwrap();
        }
    }
    // Room for about two of the six.
    let shelves = Shelves::new(inner, DIMENSIONS, 10_000);
    for round in 0..3 {
        // At startup, and at any other time.
        shelves.hold().await.unwrap();
        for user in &users {
            let expected: HashSet<Uuid> = old
                .iter()
                .filter(|(owner, _)| owner == &user)
                .map(|(_, id)| *id)
                .collect();
            let query = ask("buoy", None, 100);
            assert_eq!(found(&shelves, user, query).await, expected, "round {round}");
        }
        let late = entry(of(&users[round]), "a late buoy", towards(1, 0.0));
        let (gone, team) = (old[round * 8].1, users[0].team().to_owned());
        let parents = vec![gone];
        shelves.remove(Removal::Parents { team, parents }).await.unwrap();
        old.retain(|(_, id)| *id != gone);
        old.push((&users[round], late.id));
        shelves.upsert(vec![late]).await.unwrap();
    }
}

/// Neighbours of a session count where that is asked for, whatever order they came in.
#[tokio::test]
async fn what_stands_beside_counts() {
    let index = RamIndex::new(DIMENSIONS);
    let me = scope("red", "ann");
    let said = |at: i64, session: &str, text: &str| Entry {
        at,
        session: session.to_owned(),
        ..entry(of(&me), text, towards(at as usize, 0.0))
    };
    let question = said(1, "one", "Which instrument do you play?");
    let answer = said(2, "one", "The cello, since I was nine");
    let elsewhere = said(3, "two", "The oboe, since I was ten");
    index
        .upsert(vec![answer.clone(), elsewhere.clone(), question.clone()])
        .await
        .unwrap();
    let query = ask("instrument", None, 10);
    assert_eq!(found(&index, &me, query.clone()).await, HashSet::from([question.id]));
    let around = Query { around: true, ..query };
    assert_eq!(
        found(&index, &me, around.clone()).await,
        HashSet::from([question.id, answer.id])
    );
    let (team, parents) = ("red".to_owned(), vec![question.id]);
    index.remove(Removal::Parents { team, parents }).await.unwrap();
    assert_eq!(found(&index, &me, around).await, HashSet::new());
}

#[tokio::test]
async fn generations_keep_the_laws() {
    let generations = Generations::new(Generation {
        embedder: Arc::new(HashEmbedder::new(DIMENSIONS)),
        index: Arc::new(RamIndex::new(DIMENSIONS)),
    });
    laws(&generations).await;
}
