//! The laws of [`Facts`] and of [`Consents`], over every database.

use std::sync::atomic::{AtomicI64, Ordering};

use habit_memory::clock::Clock;
use habit_memory::consent::{Consents, Mode, Rule, Subject};
use habit_memory::facts::{Added, Change, Fact, Facts, Filter, Happened, Origin, Status, Which};

use super::*;

/// A clock that stands where it is put.
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

const NOW: i64 = 1_000_000;

struct Store {
    facts: Arc<dyn Facts>,
    consents: Arc<dyn Consents>,
    clock: Arc<Hands>,
    _home: Home,
}

async fn stores() -> Vec<Store> {
    let mut stores = Vec::new();
    for (journal, home) in databases().await {
        let clock = Arc::new(Hands(AtomicI64::new(NOW)));
        stores.push(Store {
            facts: Arc::new(journal.facts(clock.clone())),
            consents: Arc::new(journal.consents()),
            clock,
            _home: home,
        });
    }
    stores
}

fn ann() -> Scope {
    scope("red", "ann")
}

/// Everyone who is not Ann.
fn strangers() -> [Scope; 3] {
    [scope("red", "bob"), scope("blue", "ann"), scope("blue", "bob")]
}

fn fact(text: &str, attribute: Option<&str>, from: i64) -> Fact {
    Fact {
        attribute: attribute.map(str::to_owned),
        ..Fact::new(ann(), text, from)
    }
}

async fn add(store: &Store, fact: Fact) -> Added {
    store.facts.add(&ann(), vec![fact]).await.unwrap().remove(0)
}

async fn texts(store: &Store, scope: &Scope, filter: &Filter) -> Vec<String> {
    let facts = store.facts.list(scope, filter, page(100)).await.unwrap();
    facts.into_iter().map(|fact| fact.text).collect()
}

fn as_of(at: i64) -> Filter {
    Filter {
        as_of: Some(at),
        ..Filter::default()
    }
}

#[tokio::test]
async fn a_fact_comes_back_as_it_was_given() {
    for store in stores().await {
        let odd = Fact {
            scope: ann().in_conversation("c").in_app("mail"),
            agent: Some("butler".into()),
            kind: habit_memory::facts::Kind::Preference,
            origin: Origin {
                said_by: "Ann \u{1F436}".into(),
                turn: Some(Uuid::now_v7()),
                document: Some(Uuid::now_v7()),
            },
            pinned: true,
            metadata: serde_json::json!({"deep": [1, null, {"a": "it's"}]})
                .as_object()
                .unwrap()
                .clone(),
            expires_at: Some(NOW + 1),
            ..fact("it's \"odd\"; DROP TABLE facts; --\n", Some("home"), NOW)
        };
        let added = add(&store, odd.clone()).await;
        assert!(added.new && added.superseded.is_empty());
        assert_eq!(added.fact, odd);
        assert_eq!(store.facts.get(&ann(), odd.id).await.unwrap(), Some(odd));
    }
}

#[tokio::test]
async fn a_changed_fact_supersedes_and_the_old_one_answers_as_of_its_time() {
    for store in stores().await {
        let ghent = add(&store, fact("I live in Ghent", Some("home"), NOW - 500)).await.fact;
        let lyon = add(&store, fact("I moved to Lyon", Some("home"), NOW - 100)).await;
        assert_eq!(lyon.superseded, [ghent.id]);
        assert_eq!(texts(&store, &ann(), &Filter::default()).await, ["I moved to Lyon"]);
        assert_eq!(texts(&store, &ann(), &as_of(NOW - 200)).await, ["I live in Ghent"]);
        assert_eq!(texts(&store, &ann(), &as_of(NOW)).await, ["I moved to Lyon"]);
        assert!(texts(&store, &ann(), &as_of(NOW - 501)).await.is_empty());
        let old = store.facts.get(&ann(), ghent.id).await.unwrap().unwrap();
        assert_eq!(
            (old.status, old.valid_to, old.superseded_by),
            (Status::Superseded, Some(NOW - 100), Some(lyon.fact.id))
        );
        let history = store.facts.history(&ann(), ghent.id).await.unwrap();
        let told: Vec<_> = history
            .iter()
            .map(|event| (event.event, event.new_text.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                (Happened::Add, Some("I live in Ghent")),
                (Happened::Supersede, Some("I moved to Lyon"))
            ]
        );
        // What becomes known late was true before: it does not take the newer one's place.
        let rome = add(&store, fact("I lived in Rome", Some("home"), NOW - 900)).await.fact;
        assert_eq!((rome.status, rome.valid_to), (Status::Superseded, Some(NOW - 500)));
        assert_eq!(texts(&store, &ann(), &Filter::default()).await, ["I moved to Lyon"]);
        assert_eq!(texts(&store, &ann(), &as_of(NOW - 800)).await, ["I lived in Rome"]);
        // A mistake is taken back.
        let change = Change {
            status: Some(Status::Active),
            ..Change::default()
        };
        store.facts.change(&ann(), ghent.id, change).await.unwrap();
        assert_eq!(texts(&store, &ann(), &Filter::default()).await, ["I live in Ghent"]);
    }
}

#[tokio::test]
async fn the_same_is_not_kept_twice_and_different_things_stand_beside_each_other() {
    for store in stores().await {
        let first = add(&store, fact("I love dogs.", None, NOW)).await.fact;
        let again = add(&store, fact("i LOVE dogs", None, NOW + 1)).await;
        assert!(!again.new);
        assert_eq!(again.fact.id, first.id);
        add(&store, fact("I love cats.", None, NOW)).await;
        // The same in a conversation is another thing: it ends with that.
        let here = Fact {
            scope: ann().in_conversation("c"),
            ..fact("I love dogs.", None, NOW)
        };
        assert!(add(&store, here).await.new);
        assert_eq!(texts(&store, &ann(), &Filter::default()).await.len(), 3);
    }
}

#[tokio::test]
async fn a_turn_teaches_once_even_if_what_it_taught_was_deleted() {
    for store in stores().await {
        let of = |turn: Uuid, text: &str, said: i64| Fact {
            origin: Origin {
                turn: Some(turn),
                ..Origin::default()
            },
            ..fact(text, None, said)
        };
        let turn = Uuid::now_v7();
        let both = vec![of(turn, "one", NOW), of(turn, "two", NOW)];
        let added = store.facts.add(&ann(), both).await.unwrap();
        assert_eq!(added.len(), 2);
        assert!(
            store
                .facts
                .add(&ann(), vec![of(turn, "one", NOW)])
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            store
                .facts
                .of_turns(&ann(), &[turn, Uuid::now_v7()])
                .await
                .unwrap()
                .len(),
            2
        );
        let ids: Vec<Uuid> = added.iter().map(|added| added.fact.id).collect();
        store.clock.0.store(NOW + 10, Ordering::SeqCst);
        assert_eq!(store.facts.delete(&ann(), &ids).await.unwrap().len(), 2);
        assert!(
            store
                .facts
                .add(&ann(), vec![of(turn, "one", NOW)])
                .await
                .unwrap()
                .is_empty()
        );
        // Nor does another turn that said it before, read anew; said again later, it is true again.
        let before = of(Uuid::now_v7(), "one", NOW);
        assert!(store.facts.add(&ann(), vec![before]).await.unwrap().is_empty());
        let later = of(Uuid::now_v7(), "one", NOW + 50);
        assert_eq!(store.facts.add(&ann(), vec![later]).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn deletion_takes_the_text_away_everywhere() {
    for store in stores().await {
        let ghent = add(&store, fact("I live in Ghent", Some("home"), NOW - 5)).await.fact;
        let lyon = add(&store, fact("I moved to Lyon", Some("home"), NOW)).await.fact;
        assert_eq!(
            store.facts.delete(&ann(), &[lyon.id, Uuid::now_v7()]).await.unwrap(),
            [lyon.id]
        );
        assert!(store.facts.delete(&ann(), &[lyon.id]).await.unwrap().is_empty());
        assert_eq!(store.facts.get(&ann(), lyon.id).await.unwrap(), None);
        for filter in [
            Filter::all(),
            as_of(NOW),
            Filter {
                status: Some(Status::Deleted),
                ..Filter::default()
            },
        ] {
            assert!(!texts(&store, &ann(), &filter).await.contains(&lyon.text));
        }
        let mut history = store.facts.history(&ann(), lyon.id).await.unwrap();
        assert_eq!(history.last().unwrap().event, Happened::Delete);
        history.extend(store.facts.history(&ann(), ghent.id).await.unwrap());
        assert!(!format!("{history:?}").contains("Lyon"), "{history:?}");
    }
}

#[tokio::test]
async fn facts_are_their_users_alone_but_for_those_of_the_team() {
    for store in stores().await {
        let mine = add(&store, fact("mine", Some("home"), NOW)).await.fact;
        let shared = Fact {
            team_wide: true,
            pinned: true,
            ..fact("ours", None, NOW)
        };
        let ours = add(&store, shared).await.fact;
        let change = || Change {
            text: Some("taken".into()),
            ..Change::default()
        };
        for stranger in strangers() {
            let sees_team = stranger.team() == "red";
            assert_eq!(store.facts.get(&stranger, mine.id).await.unwrap(), None);
            assert_eq!(store.facts.get(&stranger, ours.id).await.unwrap().is_some(), sees_team);
            let all = Filter::all();
            assert!(!texts(&store, &stranger, &all).await.contains(&"mine".to_owned()));
            assert_eq!(
                texts(&store, &stranger, &all).await.contains(&"ours".to_owned()),
                sees_team
            );
            assert!(store.facts.by_id(&stranger, &all, &[mine.id]).await.unwrap().is_empty());
            assert!(
                store
                    .facts
                    .applying(&stranger, Which::Ids(&[mine.id]))
                    .await
                    .unwrap()
                    .is_empty()
            );
            let pinned = store.facts.applying(&stranger, Which::Pinned(9)).await.unwrap();
            assert_eq!(pinned.len(), usize::from(sees_team));
            assert!(store.facts.history(&stranger, mine.id).await.unwrap().is_empty());
            assert_eq!(store.facts.change(&stranger, mine.id, change()).await.unwrap(), None);
            assert!(store.facts.delete(&stranger, &[mine.id]).await.unwrap().is_empty());
            assert_eq!(store.facts.erase(&stranger, true).await.unwrap(), 0);
            // A fact of the same attribute takes nobody else's place, and nobody adds in another's name.
            let theirs = Fact {
                scope: stranger.clone(),
                ..fact("theirs", Some("home"), NOW + 1)
            };
            assert!(store.facts.add(&ann(), vec![theirs.clone()]).await.is_err());
            assert!(
                store.facts.add(&stranger, vec![theirs]).await.unwrap()[0]
                    .superseded
                    .is_empty()
            );
        }
        assert_eq!(store.facts.get(&ann(), mine.id).await.unwrap().unwrap().text, "mine");
    }
}

#[tokio::test]
async fn only_what_holds_here_and_now_applies() {
    for store in stores().await {
        let put = |text: &str, scope: Scope| Fact {
            scope,
            ..fact(text, None, NOW)
        };
        let everywhere = add(&store, put("everywhere", ann())).await.fact;
        let here = add(&store, put("here", ann().in_conversation("c"))).await.fact;
        let mail = add(&store, put("mail", ann().in_app("mail"))).await.fact;
        let doubted = add(&store, put("doubted", ann())).await.fact;
        let quarantine = Change {
            status: Some(Status::Quarantined),
            ..Change::default()
        };
        store.facts.change(&ann(), doubted.id, quarantine).await.unwrap();
        let short = add(
            &store,
            Fact {
                expires_at: Some(NOW + 5),
                ..put("short", ann())
            },
        )
        .await
        .fact;
        let future = add(
            &store,
            Fact {
                valid_from: NOW + 100,
                ..put("future", ann())
            },
        )
        .await
        .fact;
        let ids = [everywhere.id, here.id, mail.id, doubted.id, short.id, future.id];
        let applying = async |scope: &Scope| {
            let facts = store.facts.applying(scope, Which::Ids(&ids)).await.unwrap();
            let mut texts: Vec<String> = facts.into_iter().map(|fact| fact.text).collect();
            texts.sort();
            texts
        };
        assert_eq!(applying(&ann()).await, ["everywhere", "short"]);
        assert_eq!(
            applying(&ann().in_conversation("c")).await,
            ["everywhere", "here", "short"]
        );
        assert_eq!(
            applying(&ann().in_conversation("d").in_app("mail")).await,
            ["everywhere", "mail", "short"]
        );
        store.clock.0.store(NOW + 5, Ordering::SeqCst);
        assert_eq!(applying(&ann()).await, ["everywhere"]);
        assert_eq!(store.facts.get(&ann(), short.id).await.unwrap(), None);
        let expired = store.facts.expired(10).await.unwrap();
        assert_eq!(expired.iter().map(|fact| fact.id).collect::<Vec<_>>(), [short.id]);
        store.facts.delete(&expired[0].scope, &[short.id]).await.unwrap();
        assert!(store.facts.expired(10).await.unwrap().is_empty());
        store.clock.0.store(NOW + 100, Ordering::SeqCst);
        assert_eq!(applying(&ann()).await, ["everywhere", "future"]);
    }
}

#[tokio::test]
async fn what_is_new_or_changed_is_pending_until_it_is_indexed_as_it_is() {
    for store in stores().await {
        let one = add(&store, fact("one", None, NOW)).await.fact;
        let pending = async || store.facts.pending(9).await.unwrap();
        assert_eq!(pending().await, std::slice::from_ref(&one));
        let text = |text: &str| Change {
            text: Some(text.into()),
            ..Change::default()
        };
        let changed = store.facts.change(&ann(), one.id, text("two")).await.unwrap().unwrap();
        // The mark is for what was read before the change.
        store.facts.mark_indexed(&[(one.id, one.updated_at)]).await.unwrap();
        assert_eq!(pending().await, std::slice::from_ref(&changed));
        store.facts.mark_indexed(&[(one.id, changed.updated_at)]).await.unwrap();
        assert!(pending().await.is_empty());
        assert_eq!(store.facts.mark_all_pending().await.unwrap(), 1);
        store.facts.delete(&ann(), &[one.id]).await.unwrap();
        assert!(pending().await.is_empty());
        assert_eq!(store.facts.mark_all_pending().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn erasing_leaves_nothing_and_the_teams_only_if_it_must_go() {
    for store in stores().await {
        let mine = add(&store, fact("mine", None, NOW)).await.fact;
        let gone = add(&store, fact("gone", None, NOW)).await.fact;
        store.facts.delete(&ann(), &[gone.id]).await.unwrap();
        let ours = add(
            &store,
            Fact {
                team_wide: true,
                ..fact("ours", None, NOW)
            },
        )
        .await
        .fact;
        let bob = Fact::new(scope("red", "bob"), "bob's", NOW);
        store.facts.add(&scope("red", "bob"), vec![bob.clone()]).await.unwrap();
        assert_eq!(store.facts.erase(&ann(), false).await.unwrap(), 2);
        assert!(store.facts.history(&ann(), mine.id).await.unwrap().is_empty());
        assert_eq!(texts(&store, &ann(), &Filter::all()).await, ["ours"]);
        assert_eq!(store.facts.erase(&ann(), true).await.unwrap(), 1);
        assert!(store.facts.history(&ann(), ours.id).await.unwrap().is_empty());
        assert_eq!(texts(&store, &scope("red", "bob"), &Filter::all()).await, ["bob's"]);
    }
}

#[tokio::test]
async fn what_makes_no_fact_is_refused_whole() {
    for store in stores().await {
        let long = "x".repeat(habit_memory::facts::MOST_CHARACTERS + 1);
        for wrong in ["", " \n", long.as_str()] {
            let both = vec![fact("fine", None, NOW), fact(wrong, None, NOW)];
            assert!(matches!(
                store.facts.add(&ann(), both).await,
                Err(MemoryError::BadRequest(_))
            ));
        }
        assert!(texts(&store, &ann(), &Filter::all()).await.is_empty());
        let one = add(&store, fact("one", None, NOW)).await.fact;
        for status in [Status::Superseded, Status::Deleted] {
            let change = Change {
                status: Some(status),
                ..Change::default()
            };
            assert!(store.facts.change(&ann(), one.id, change).await.is_err());
        }
    }
}

#[tokio::test]
async fn the_strictest_rule_counts_and_only_for_whom_it_is() {
    for Store { consents, .. } in stores().await {
        let mode = async |scope: &Scope, key: &str| consents.mode(scope, key).await.unwrap();
        let conversation = Subject::Conversation("c".into());
        for (subject, rule) in [
            (Subject::User, Mode::Write),
            (Subject::Key("k1".into()), Mode::Read),
            (conversation.clone(), Mode::Off),
        ] {
            consents.set(&ann(), &subject, Some(rule)).await.unwrap();
        }
        assert_eq!(mode(&ann(), "k2").await, Mode::Write);
        assert_eq!(mode(&ann(), "k1").await, Mode::Off);
        assert_eq!(mode(&ann().in_conversation("c"), "k2").await, Mode::Off);
        for stranger in strangers() {
            let expected = if stranger.team() == "red" { Mode::Read } else { Mode::On };
            assert_eq!(mode(&stranger.in_conversation("c"), "k1").await, expected);
            let rules = consents.rules(&stranger).await.unwrap();
            assert!(
                rules.iter().all(|rule| matches!(rule.subject, Subject::Key(_))),
                "{rules:?}"
            );
        }
        consents.set(&ann(), &Subject::Team, Some(Mode::Read)).await.unwrap();
        assert_eq!(mode(&scope("red", "bob"), "k2").await, Mode::Read);
        assert_eq!(mode(&scope("blue", "ann"), "k2").await, Mode::On);
        for subject in [Subject::Team, Subject::User, Subject::Key("k1".into())] {
            consents.set(&ann(), &subject, None).await.unwrap();
        }
        assert_eq!(mode(&ann(), "k1").await, Mode::On);
        let left = consents.rules(&ann()).await.unwrap();
        let rule = Rule {
            subject: conversation,
            mode: Mode::Off,
        };
        assert_eq!(left, [rule]);
    }
}
