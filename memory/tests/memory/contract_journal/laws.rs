//! Each law of a journal as a function over any of them.

use super::*;

type Any = Arc<dyn Journal>;

/// Everyone who is not Alice, each in Alice's conversation by name.
fn strangers() -> [Scope; 3] {
    [scope("red", "bob"), scope("blue", "alice"), scope("blue", "bob")].map(|scope| scope.in_conversation("one"))
}

pub async fn a_turn_comes_back_as_it_was_written(journal: Any) {
    let mut plain = turn(&alice(), "plain");
    plain.parent = Some(Uuid::now_v7());
    plain.messages[1].tool_calls = vec![serde_json::json!({"id": "call", "function": {"name": "f"}})];
    let mut failed = turn(&alice(), "it's \"odd\"; DROP TABLE turns; -- \u{1F436}\n\u{1}");
    failed.outcome = Outcome::Failed;
    failed.error = Some("the engine is gone".into());
    failed.finish_reason = None;
    failed.injected.clear();
    failed.timing.first_token_ms = None;
    failed.remember = false;
    for turn in [plain, failed] {
        journal.record(turn.clone()).await.unwrap();
        assert_eq!(journal.turn(&alice(), turn.id).await.unwrap(), Some(turn));
    }
}

/// Not every database can hold it as it is.
pub async fn a_nul_costs_no_turn(journal: Any) {
    let odd = scope("red", "alice").in_conversation("a\0b");
    let turn = turn(&odd, "one\0two");
    journal.record(turn.clone()).await.unwrap();
    let found = journal.turns(&odd, page(9)).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        ["one\0two", "one\u{FFFD}two"].contains(&found[0].prompt.as_str()),
        "{}",
        found[0].prompt
    );
    assert_eq!(found[0].messages, turn.messages, "what was sent is whole");
}

pub async fn a_second_write_of_a_turn_replaces_the_first(journal: Any) {
    let mut turn = turn(&alice(), "first");
    turn.outcome = Outcome::Interrupted;
    journal.record(turn.clone()).await.unwrap();
    journal.mark_indexed(&[turn.id]).await.unwrap();
    turn.reply = "all of it".into();
    turn.outcome = Outcome::Completed;
    journal.record(turn.clone()).await.unwrap();
    assert_eq!(journal.turns(&alice(), page(10)).await.unwrap(), [turn]);
    assert_eq!(journal.pending(10, First::Oldest).await.unwrap().len(), 1);
}

pub async fn a_turn_needs_a_conversation(journal: Any) {
    let turn = turn(&scope("red", "alice"), "where?");
    assert!(matches!(journal.record(turn).await, Err(MemoryError::BadRequest(_))));
    assert_eq!(journal.totals().await.unwrap(), Totals::default());
}

pub async fn an_id_of_someone_else_is_not_overwritten(journal: Any) {
    let mine = turn(&alice(), "mine");
    journal.record(mine.clone()).await.unwrap();
    for stranger in strangers() {
        let theirs = Interaction {
            id: mine.id,
            ..turn(&stranger, "theirs")
        };
        assert!(matches!(journal.record(theirs).await, Err(MemoryError::BadRequest(_))));
    }
    assert_eq!(journal.turn(&alice(), mine.id).await.unwrap(), Some(mine));
}

pub async fn turns_are_their_users_alone(journal: Any) {
    let mine = turn(&alice(), "mine");
    journal.record(mine.clone()).await.unwrap();
    for stranger in strangers() {
        assert_eq!(journal.turn(&stranger, mine.id).await.unwrap(), None);
        assert!(journal.turns_by_id(&stranger, &[mine.id]).await.unwrap().is_empty());
        assert!(journal.turns(&stranger, page(10)).await.unwrap().is_empty());
        assert_eq!(journal.turn_by_chain(&stranger, &mine.chain).await.unwrap(), None);
        assert!(!journal.delete_turn(&stranger, mine.id).await.unwrap());
    }
    // The same user from another conversation, and from none.
    for own in [scope("red", "alice").in_conversation("two"), scope("red", "alice")] {
        assert_eq!(journal.turn(&own, mine.id).await.unwrap(), Some(mine.clone()));
        assert_eq!(
            journal.turns_by_id(&own, &[Uuid::now_v7(), mine.id]).await.unwrap(),
            std::slice::from_ref(&mine)
        );
        assert_eq!(
            journal.turn_by_chain(&own, &mine.chain).await.unwrap(),
            Some(mine.clone())
        );
    }
}

pub async fn turns_are_listed_newest_first_in_pages(journal: Any) {
    let (one, two) = (alice(), scope("red", "alice").in_conversation("two"));
    let mut ids = Vec::new();
    for n in 0..7 {
        let turn = turn(if n % 2 == 0 { &one } else { &two }, &n.to_string());
        ids.insert(0, turn.id);
        journal.record(turn).await.unwrap();
    }
    let everywhere = scope("red", "alice");
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let turns = journal.turns(&everywhere, Page { limit: 3, before }).await.unwrap();
        assert!(turns.len() <= 3);
        let Some(last) = turns.last() else { break };
        before = Some(last.id);
        seen.extend(turns.iter().map(|turn| turn.id));
    }
    assert_eq!(seen, ids);
    let here: Vec<String> = journal
        .turns(&one, page(10))
        .await
        .unwrap()
        .into_iter()
        .map(|turn| turn.prompt)
        .collect();
    assert_eq!(here, ["6", "4", "2", "0"]);
}

pub async fn a_listing_goes_on_after_its_last_turn_was_deleted(journal: Any) {
    let turns: Vec<Interaction> = (0..3).map(|n| turn(&alice(), &n.to_string())).collect();
    for turn in &turns {
        journal.record(turn.clone()).await.unwrap();
    }
    journal.delete_turn(&alice(), turns[1].id).await.unwrap();
    let rest = journal
        .turns(
            &alice(),
            Page {
                limit: 10,
                before: Some(turns[1].id),
            },
        )
        .await
        .unwrap();
    assert_eq!(rest, turns[..1]);
}

pub async fn the_newest_turn_of_a_chain_is_found(journal: Any) {
    let (old, new) = (turn(&alice(), "hello"), turn(&alice(), "hello"));
    journal.record(new.clone()).await.unwrap();
    journal.record(old).await.unwrap();
    assert_eq!(
        journal.turn_by_chain(&alice(), "chain of hello").await.unwrap(),
        Some(new)
    );
    assert_eq!(journal.turn_by_chain(&alice(), "chain of hell").await.unwrap(), None);
}

pub async fn a_deleted_turn_is_gone(journal: Any) {
    let turn = turn(&alice(), "forget this");
    journal.record(turn.clone()).await.unwrap();
    assert!(journal.delete_turn(&alice(), turn.id).await.unwrap());
    assert!(!journal.delete_turn(&alice(), turn.id).await.unwrap());
    assert_eq!(journal.turn(&alice(), turn.id).await.unwrap(), None);
    assert!(journal.turns_by_id(&alice(), &[turn.id]).await.unwrap().is_empty());
    assert!(journal.turns(&alice(), page(10)).await.unwrap().is_empty());
    assert_eq!(journal.turn_by_chain(&alice(), &turn.chain).await.unwrap(), None);
    assert!(journal.pending(10, First::Oldest).await.unwrap().is_empty());
    assert_eq!(journal.mark_all_pending().await.unwrap(), 0);
}

pub async fn documents_are_seen_by_those_they_are_for(journal: Any) {
    let journal = &*journal;
    let own = add(journal, &scope("red", "alice"), Place::User, "own", 1).await.0;
    let team = add(journal, &scope("red", "alice"), Place::Team, "team", 1).await.0;
    let here = add(journal, &alice(), Place::Conversation, "here", 1).await.0;
    let elsewhere = scope("red", "alice").in_conversation("two");
    let bob = scope("red", "bob").in_conversation("one");
    let blue = scope("blue", "alice").in_conversation("one");
    for (scope, seen) in [
        (alice(), vec![&here, &team, &own]),
        (elsewhere, vec![&team, &own]),
        (scope("red", "alice"), vec![&team, &own]),
        (bob, vec![&team]),
        (blue, vec![]),
    ] {
        let documents = journal.documents(&scope).await.unwrap();
        assert_eq!(documents.iter().collect::<Vec<_>>(), seen, "{scope:?}");
        for document in [&own, &team, &here] {
            let expected = seen.contains(&document).then(|| document.clone());
            assert_eq!(
                journal.document(&scope, document.id).await.unwrap(),
                expected,
                "{scope:?}"
            );
        }
    }
}

pub async fn files_of_a_store_are_seen_in_that_store(journal: Any) {
    let journal = &*journal;
    let mine = scope("red", "alice");
    let there = mine.in_store("vs_1");
    let (one, chunks) = add(journal, &there, Place::Store, "notes.md", 1).await;
    // Of the same name, and no replacement.
    let (two, _) = add(journal, &there, Place::Store, "notes.md", 1).await;
    let elsewhere = [
        mine.clone(),
        mine.in_store("vs_2"),
        mine.in_conversation("vs_1"),
        scope("red", "bob").in_store("vs_1"),
        scope("blue", "alice").in_store("vs_1"),
    ];
    for nowhere in elsewhere {
        assert_eq!(journal.documents(&nowhere).await.unwrap(), [], "{nowhere:?}");
        assert_eq!(journal.chunks_by_id(&nowhere, &[chunks[0].id]).await.unwrap(), []);
        assert!(!journal.delete_document(&nowhere, one.id).await.unwrap());
    }
    assert_eq!(journal.documents(&there).await.unwrap(), [two.clone(), one.clone()]);
    assert_eq!(
        journal.chunks_by_id(&there, &[chunks[0].id]).await.unwrap(),
        [(one.clone(), chunks[0].clone())]
    );
    assert!(journal.delete_document(&there, one.id).await.unwrap());
    assert_eq!(journal.documents(&there).await.unwrap(), [two]);
    let (lost, chunks) = document(&mine, Place::Store, "lost", 1);
    assert!(matches!(
        journal.add_document(lost, chunks).await,
        Err(MemoryError::BadRequest(_))
    ));
}

pub async fn chunks_are_seen_with_their_documents(journal: Any) {
    let journal = &*journal;
    let own = add(journal, &scope("red", "alice"), Place::User, "own", 2).await;
    let team = add(journal, &scope("red", "alice"), Place::Team, "team", 2).await;
    let here = add(journal, &alice(), Place::Conversation, "here", 2).await;
    let mut ids: Vec<Uuid> = [&own, &team, &here]
        .iter()
        .flat_map(|(_, chunks)| chunks)
        .map(|chunk| chunk.id)
        .collect();
    ids.push(Uuid::now_v7());
    for (scope, seen) in [
        (alice(), vec![&own, &team, &here]),
        (scope("red", "alice"), vec![&own, &team]),
        (scope("red", "bob").in_conversation("one"), vec![&team]),
        (scope("blue", "alice").in_conversation("one"), vec![]),
    ] {
        let mut found = journal.chunks_by_id(&scope, &ids).await.unwrap();
        found.sort_by_key(|(_, chunk)| chunk.id);
        let expected: Vec<(Document, Chunk)> = seen
            .into_iter()
            .flat_map(|(document, chunks)| chunks.iter().map(|chunk| (document.clone(), chunk.clone())))
            .collect();
        assert_eq!(found, expected, "{scope:?}");
    }
}

pub async fn a_document_replaces_its_namesake(journal: Any) {
    let journal = &*journal;
    let (mine, bob) = (scope("red", "alice"), scope("red", "bob"));
    let two = mine.in_conversation("two");
    // None of these is the same document as another.
    let others = [
        add(journal, &mine, Place::User, "other name", 1).await,
        add(journal, &bob, Place::User, "name", 1).await,
        add(journal, &scope("blue", "alice"), Place::User, "name", 1).await,
        add(journal, &scope("blue", "alice"), Place::Team, "name", 1).await,
        add(journal, &two, Place::Conversation, "name", 1).await,
    ];
    let cases = [
        (mine.clone(), mine.clone(), Place::User),
        (mine.clone(), bob.clone(), Place::Team),
        (alice(), alice(), Place::Conversation),
    ];
    for (first, second, place) in cases {
        let (old, old_chunks) = add(journal, &first, place, "name", 3).await;
        let (new, new_chunks) = document(&second, place, "name", 2);
        let replaced = journal.add_document(new.clone(), new_chunks.clone()).await.unwrap();
        assert_eq!(replaced, [old.id], "{place:?}");
        assert_eq!(journal.document(&first, old.id).await.unwrap(), None);
        assert!(
            journal
                .chunks_by_id(&first, &[old_chunks[0].id])
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            journal.chunks_by_id(&second, &[new_chunks[1].id]).await.unwrap(),
            [(new, new_chunks[1].clone())]
        );
    }
    for (other, _) in &others {
        assert!(
            journal.document(&other.scope, other.id).await.unwrap().is_some(),
            "{other:?}"
        );
    }
    let totals = journal.totals().await.unwrap();
    assert_eq!(
        totals,
        Totals {
            turns: 0,
            documents: 8,
            chunks: 11,
            pending: 11
        }
    );
}

pub async fn a_document_is_written_whole_or_not_at_all(journal: Any) {
    let mine = scope("red", "alice");
    let (old, _) = add(&*journal, &mine, Place::User, "name", 2).await;
    let (new, mut chunks) = document(&mine, Place::User, "name", 2500);
    chunks[2400].id = chunks[7].id;
    assert!(matches!(
        journal.add_document(new, chunks).await,
        Err(MemoryError::BadRequest(_))
    ));
    assert_eq!(journal.documents(&mine).await.unwrap(), [old]);
    assert_eq!(journal.totals().await.unwrap().chunks, 2);
    // More than one statement holds, and a number of chunks that the caller got wrong.
    let (mut large, chunks) = document(&mine, Place::User, "name", 2500);
    large.chunks = 1;
    journal.add_document(large.clone(), chunks).await.unwrap();
    assert_eq!(journal.document(&mine, large.id).await.unwrap().unwrap().chunks, 2500);
    assert_eq!(journal.totals().await.unwrap().chunks, 2500);
}

pub async fn a_document_for_a_conversation_names_it(journal: Any) {
    let (lost, chunks) = document(&scope("red", "alice"), Place::Conversation, "lost", 1);
    assert!(matches!(
        journal.add_document(lost, chunks).await,
        Err(MemoryError::BadRequest(_))
    ));
    let (own, _) = add(&*journal, &alice(), Place::User, "own", 1).await;
    let kept = journal.document(&scope("red", "alice"), own.id).await.unwrap().unwrap();
    assert_eq!(kept.scope, scope("red", "alice"));
}

pub async fn documents_are_deleted_by_those_who_see_them(journal: Any) {
    let journal = &*journal;
    let own = add(journal, &scope("red", "alice"), Place::User, "own", 2).await.0;
    let team = add(journal, &scope("red", "alice"), Place::Team, "team", 2).await.0;
    let here = add(journal, &alice(), Place::Conversation, "here", 2).await.0;
    let bob = scope("red", "bob").in_conversation("one");
    for document in [&own, &team, &here] {
        assert!(
            !journal
                .delete_document(&scope("blue", "alice").in_conversation("one"), document.id)
                .await
                .unwrap()
        );
    }
    assert!(!journal.delete_document(&bob, own.id).await.unwrap());
    assert!(!journal.delete_document(&bob, here.id).await.unwrap());
    assert!(!journal.delete_document(&scope("red", "alice"), here.id).await.unwrap());
    assert!(journal.delete_document(&bob, team.id).await.unwrap());
    assert!(journal.delete_document(&alice(), here.id).await.unwrap());
    assert!(!journal.delete_document(&alice(), here.id).await.unwrap());
    assert_eq!(journal.documents(&alice()).await.unwrap(), [own]);
    let totals = journal.totals().await.unwrap();
    assert_eq!(
        totals,
        Totals {
            turns: 0,
            documents: 1,
            chunks: 2,
            pending: 2
        }
    );
    assert_eq!(journal.pending(10, First::Oldest).await.unwrap().len(), 2);
}

pub async fn pending_is_oldest_first_and_ends_when_indexed(journal: Any) {
    let journal = &*journal;
    let first = turn(&alice(), "first");
    let (document, chunks) = document(&alice(), Place::Conversation, "between", 3);
    let last = turn(&scope("blue", "bob").in_conversation("x"), "last");
    for turn in [last.clone(), first.clone()] {
        journal.record(turn).await.unwrap();
    }
    journal.add_document(document.clone(), chunks.clone()).await.unwrap();
    let mut expected = vec![Pending::Turn {
        turn: Box::new(first),
        before: None,
    }];
    let chunks = chunks.into_iter();
    expected.extend(chunks.map(|chunk| Pending::Chunk {
        document: Box::new(document.clone()),
        chunk,
    }));
    expected.push(Pending::Turn {
        turn: Box::new(last),
        before: None,
    });
    assert_eq!(journal.pending(10, First::Oldest).await.unwrap(), expected);
    let ids: Vec<Uuid> = expected.iter().map(pending_id).collect();
    assert_eq!(journal.pending(2, First::Oldest).await.unwrap(), expected[..2]);
    let newest: Vec<Pending> = expected[expected.len() - 2..].iter().rev().cloned().collect();
    assert_eq!(journal.pending(2, First::Newest).await.unwrap(), newest);
    journal.mark_indexed(&ids[..2]).await.unwrap();
    assert_eq!(journal.pending(2, First::Oldest).await.unwrap(), expected[2..4]);
    journal.mark_indexed(&ids).await.unwrap();
    journal.mark_indexed(&[]).await.unwrap();
    assert!(journal.pending(10, First::Oldest).await.unwrap().is_empty());
}

pub async fn pending_leaves_out_what_is_never_recalled(journal: Any) {
    let hidden = Interaction {
        remember: false,
        ..turn(&alice(), "hidden")
    };
    let failed = Interaction {
        outcome: Outcome::Failed,
        ..turn(&alice(), "failed")
    };
    let interrupted = Interaction {
        outcome: Outcome::Interrupted,
        ..turn(&alice(), "interrupted")
    };
    for turn in [&hidden, &failed, &interrupted] {
        journal.record(turn.clone()).await.unwrap();
    }
    for _ in 0..2 {
        let pending: Vec<Uuid> = journal
            .pending(10, First::Oldest)
            .await
            .unwrap()
            .iter()
            .map(pending_id)
            .collect();
        assert_eq!(pending, [interrupted.id]);
        assert_eq!(
            journal.totals().await.unwrap(),
            Totals {
                turns: 3,
                documents: 0,
                chunks: 0,
                pending: 1
            }
        );
        assert_eq!(journal.mark_all_pending().await.unwrap(), 1);
    }
}

pub async fn pending_shows_the_turn_before(journal: Any) {
    let start = turn(&alice(), "start");
    let hidden = Interaction {
        remember: false,
        parent: Some(start.id),
        ..turn(&alice(), "hidden")
    };
    let after_start = Interaction {
        parent: Some(start.id),
        ..turn(&alice(), "after start")
    };
    let after_hidden = Interaction {
        parent: Some(hidden.id),
        ..turn(&alice(), "after hidden")
    };
    let after_nothing = Interaction {
        parent: Some(Uuid::now_v7()),
        ..turn(&alice(), "after nothing")
    };
    let stranger = scope("blue", "bob").in_conversation("one");
    let after_foreign = Interaction {
        parent: Some(start.id),
        ..turn(&stranger, "after foreign")
    };
    let turns = [
        &start,
        &hidden,
        &after_start,
        &after_hidden,
        &after_nothing,
        &after_foreign,
    ];
    for turn in turns {
        journal.record(turn.clone()).await.unwrap();
    }
    // An indexed turn is a neighbour all the same.
    journal.mark_indexed(&[start.id]).await.unwrap();
    for pending in journal.pending(10, First::Oldest).await.unwrap() {
        let Pending::Turn { turn, before } = pending else {
            panic!("there are no documents")
        };
        let expected = (turn.id == after_start.id).then(|| (start.prompt.clone(), start.reply.clone()));
        assert_eq!(before, expected, "{}", turn.prompt);
    }
}

pub async fn everything_can_be_made_pending_again(journal: Any) {
    let turn = turn(&alice(), "said");
    journal.record(turn.clone()).await.unwrap();
    let (_, chunks) = add(&*journal, &alice(), Place::User, "given", 2).await;
    let ids = [turn.id, chunks[0].id, chunks[1].id];
    journal.mark_indexed(&ids).await.unwrap();
    assert_eq!(journal.totals().await.unwrap().pending, 0);
    assert_eq!(journal.mark_all_pending().await.unwrap(), 3);
    let pending: Vec<Uuid> = journal
        .pending(10, First::Oldest)
        .await
        .unwrap()
        .iter()
        .map(pending_id)
        .collect();
    assert_eq!(pending, ids);
}

pub async fn totals_count(journal: Any) {
    assert_eq!(journal.totals().await.unwrap(), Totals::default());
    let first = turn(&alice(), "one");
    journal.record(first.clone()).await.unwrap();
    journal
        .record(turn(&scope("blue", "bob").in_conversation("x"), "two"))
        .await
        .unwrap();
    add(&*journal, &scope("red", "alice"), Place::Team, "given", 4).await;
    journal.mark_indexed(&[first.id]).await.unwrap();
    let totals = journal.totals().await.unwrap();
    assert_eq!(
        totals,
        Totals {
            turns: 2,
            documents: 1,
            chunks: 4,
            pending: 5
        }
    );
}

pub async fn many_at_once_are_all_there(journal: Any) {
    let writers = (0..500).map(|n| {
        let journal = journal.clone();
        tokio::spawn(async move {
            let scope = scope("red", if n % 2 == 0 { "alice" } else { "bob" }).in_conversation("one");
            let turn = turn(&scope, &n.to_string());
            journal.record(turn.clone()).await.unwrap();
            // What was acknowledged is read at once, while others write.
            assert_eq!(journal.turn(&scope, turn.id).await.unwrap(), Some(turn.clone()));
            turn.id
        })
    });
    let mut ids = HashSet::new();
    for writer in writers.collect::<Vec<_>>() {
        ids.insert(writer.await.unwrap());
    }
    let mut found = HashSet::new();
    for user in ["alice", "bob"] {
        let turns = journal.turns(&scope("red", user), page(1000)).await.unwrap();
        assert_eq!(turns.len(), 250);
        found.extend(turns.into_iter().map(|turn| turn.id));
    }
    assert_eq!(found, ids);
}

pub async fn a_closed_journal_takes_no_writes_and_can_be_read(journal: Any) {
    let turn = turn(&alice(), "last words");
    journal.record(turn.clone()).await.unwrap();
    tokio::join!(journal.close(), journal.close());
    assert!(matches!(
        journal.record(turn.clone()).await,
        Err(MemoryError::Storage(_))
    ));
    assert!(matches!(
        journal.delete_turn(&alice(), turn.id).await,
        Err(MemoryError::Storage(_))
    ));
    assert_eq!(journal.turn(&alice(), turn.id).await.unwrap(), Some(turn));
}
