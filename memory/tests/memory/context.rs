//! The context sources, from the journal through the index to passages: with doubles where the plumbing is tested, and
//! with the real embedder and the real index where it is about finding the right thing.

mod everyday;
mod schemas;
pub mod world;

use std::time::Duration;

use habit_engine::{Message, Role};
use habit_memory::context::{ContextSource, Finding};
use habit_memory::documents::Place;
use habit_memory::index::Removal;
use habit_memory::passage::SourceKind;
use world::{World, user};

/// Facts, what is asked about them later, and a word of the right answer.
const FACTS: &[(&str, &str, &str)] = &[
    (
        "My dog is called Biscuit, I work at the harbour",
        "What is my dog called?",
        "Biscuit",
    ),
    (
        "My dog is called Biscuit, I work at the harbour",
        "Where do I work?",
        "harbour",
    ),
    (
        "I'm allergic to peanuts, so please keep that in mind",
        "What am I allergic to?",
        "peanuts",
    ),
    (
        "My sister Clara lives in Lisbon",
        "Where does my sister live?",
        "Lisbon",
    ),
    (
        "Our project is named Heron and the deadline is 14 March",
        "When is the deadline of our project?",
        "14 March",
    ),
    (
        "My doctor's name is Dr. Okafor",
        "What is the name of my doctor?",
        "Okafor",
    ),
    (
        "I play the cello in the town orchestra",
        "Which instrument do I play?",
        "cello",
    ),
    (
        "The wifi password at the cabin is maple-42",
        "What is the wifi password at the cabin?",
        "maple-42",
    ),
];

/// Questions that none of the facts or of the other talk has to do with.
const UNRELATED: &[&str] = &[
    "What is the boiling point of water?",
    "Translate 'good morning' to Spanish",
    "What's 17 times 23?",
    "Summarise the plot of Hamlet",
    "hello",
    "Write a haiku about autumn leaves",
];

/// Two hundred turns about other things.
fn other_talk() -> Vec<(String, String)> {
    const TOPICS: [&str; 20] = [
        "sourdough bread",
        "the Roman republic",
        "bicycle brakes",
        "CSS grid",
        "tomato soup",
        "black holes",
        "chess openings",
        "interest rates",
        "watercolour paper",
        "marathon training",
        "Kubernetes pods",
        "jazz harmony",
        "roof insulation",
        "tax returns",
        "mushroom hunting",
        "airport security",
        "solar panels",
        "medieval castles",
        "spreadsheet formulas",
        "knitting socks",
    ];
    const WAYS: [(&str, &str); 10] = [
        (
            "Can you explain {} to me in simple terms?",
            "Sure. {} is easier than it looks once you know the basics.",
        ),
        (
            "I read an article about {} yesterday, it was quite long.",
            "Interesting! What did the article say about {}?",
        ),
        (
            "What are the best books on {}?",
            "There are several good introductions to {}.",
        ),
        (
            "Give me three tips for {}.",
            "Start small, be patient, and practise {} every week.",
        ),
        (
            "Why do people care so much about {}?",
            "Many people find {} fascinating.",
        ),
        ("Write a short poem on {}.", "O {}, how you brighten up the day."),
        (
            "How long does it take to learn about {}?",
            "A few months of {} will take you far.",
        ),
        (
            "My neighbour talks about {} all the time.",
            "It sounds as if your neighbour enjoys {}.",
        ),
        (
            "Make a list of common mistakes with {}.",
            "The commonest mistake with {} is haste.",
        ),
        ("Is {} expensive?", "It depends; {} can be done cheaply."),
    ];
    let fill = |text: &str, topic: &str| text.replace("{}", topic);
    TOPICS
        .iter()
        .flat_map(|topic| {
            WAYS.iter()
                .map(move |(prompt, reply)| (fill(prompt, topic), fill(reply, topic)))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_other_turns_do_not_hide_a_fact() {
    let world = World::real().await;
    for (fact, _, _) in FACTS {
        world.say("a first talk", fact, "Thanks for telling me!").await;
    }
    for (n, (prompt, reply)) in other_talk().iter().enumerate() {
        world.say(&format!("talk {}", n / 8), prompt, reply).await;
    }
    assert!(world.indexer.caught_up(Duration::from_mins(2)).await);

    let mut missed = Vec::new();
    for (_, question, answer) in FACTS {
        let passages = world.recall(question).await;
        if !passages.first().is_some_and(|passage| passage.text.contains(answer)) {
            missed.push((question, passages));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
    for question in UNRELATED {
        let passages = world.recall(question).await;
        assert!(passages.is_empty(), "{question}: {passages:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_recalled_right_after_it_was_recorded_and_only_by_its_user() {
    let world = World::doubles();
    let id = world.say("one talk", "My dog is called Biscuit", "Noted.").await;
    let passages = world.recall("What is my dog called?").await;
    assert_eq!(passages.len(), 1);
    let passage = &passages[0];
    assert_eq!(passage.text, "My dog is called Biscuit");
    assert_eq!(
        (passage.citation.id.clone(), passage.source),
        (id.to_string(), SourceKind::Recalled)
    );
    assert_eq!(passage.citation.label, "2026-11-21");
    assert!(passage.score > 0.0 && passage.score <= 1.0);

    for stranger in [user("red", "bob"), user("blue", "ann")] {
        assert!(
            world
                .recalled()
                .passages(&world.request(&stranger, "What is my dog called?").await)
                .await
                .unwrap()
                .is_empty()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_messages_show_is_not_recalled_again() {
    let world = World::doubles();
    world
        .say("one talk", "My dog is called Biscuit", "What a lovely name!")
        .await;
    let question = "What is my dog called?";
    for shown in [
        Message::new(Role::User, "my dog is called Biscuit."),
        Message::new(Role::Assistant, "What a lovely name!"),
    ] {
        let mut request = world.request(&world.scope, question).await;
        request.messages = std::sync::Arc::new(vec![shown, Message::new(Role::User, question)]);
        assert!(world.recalled().passages(&request).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repetitions_and_earlier_askings_are_left_out() {
    let world = World::doubles();
    world.say("one", "My dog is called Biscuit", "Noted.").await;
    world.say("two", "my dog is called biscuit!", "You told me.").await;
    world
        .say("three", "What's my dog called?", "I don't know your dog.")
        .await;
    let passages = world.recall("What is my dog called?").await;
    assert_eq!(passages.len(), 1, "{passages:#?}");
    assert!(passages[0].text.to_lowercase().contains("my dog is called biscuit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_embedder_words_find_it() {
    let world = World::doubles();
    world.say("one", "My dog is called Biscuit", "Noted.").await;
    assert!(world.indexer.caught_up(Duration::from_secs(10)).await);
    let mut request = world.request(&world.scope, "What is my dog called?").await;
    request.vector = None::<Vec<f32>>.into();
    assert_eq!(world.recalled().passages(&request).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_kept_and_turns_not_to_be_remembered_stay_out() {
    let world = World::doubles();
    for n in 0..5 {
        world
            .say("one", &format!("My dog number {n} is called Biscuit {n}"), "Noted.")
            .await;
    }
    world.say_unremembered("one", "My dog is called Secret").await;
    let mut request = world.request(&world.scope, "What is my dog called?").await;
    request.limit = 3;
    let passages = world.recalled().passages(&request).await.unwrap();
    assert_eq!(passages.len(), 3);
    assert!(passages.windows(2).all(|pair| pair[0].score >= pair[1].score));
    assert!(passages.iter().all(|passage| !passage.text.contains("Secret")));
    request.limit = 0;
    assert!(world.recalled().passages(&request).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_found_where_they_count_and_gone_when_deleted() {
    let world = World::doubles();
    let guide =
        "# Leave\nEvery employee has thirty days of annual leave.\n\n# Travel\nTrains are booked in second class.";
    let lasting = world.ingest(Place::User, None, "guide.md", guide).await;
    world
        .ingest(
            Place::Conversation,
            Some("this talk"),
            "trip.txt",
            "The annual leave starts on Monday with a train to Ghent.",
        )
        .await;

    let question = "How many days of annual leave are there?";
    let request = world.request(&world.scope, question).await;
    let found = world.persistent().passages(&request).await.unwrap();
    assert_eq!(found[0].citation.label, "guide.md, Leave");
    assert_eq!(found[0].citation.id, lasting.to_string());
    assert!(found[0].text.contains("thirty days"));
    assert!(world.inference().passages(&request).await.unwrap().is_empty());

    let inside = world
        .request(
            &world.scope.in_conversation("this talk"),
            "When does the annual leave start?",
        )
        .await;
    let local = world.inference().passages(&inside).await.unwrap();
    assert_eq!(local[0].citation.label, "trip.txt");
    let elsewhere = world
        .request(
            &world.scope.in_conversation("that talk"),
            "When does the annual leave start?",
        )
        .await;
    assert!(world.inference().passages(&elsewhere).await.unwrap().is_empty());
    let stranger = world.request(&user("red", "bob"), question).await;
    assert!(world.persistent().passages(&stranger).await.unwrap().is_empty());

    assert!(world.journal.delete_document(&world.scope, lasting).await.unwrap());
    let team = world.scope.team().to_owned();
    world
        .index
        .remove(Removal::Parents {
            team,
            parents: vec![lasting],
        })
        .await
        .unwrap();
    assert!(world.persistent().passages(&request).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teams_document_is_found_by_all_of_it() {
    let world = World::doubles();
    world
        .ingest(Place::Team, None, "crane.txt", "The harbour crane lifts forty tonnes.")
        .await;
    for (asker, expected) in [(user("red", "bob"), 1), (user("blue", "ann"), 0)] {
        let request = world
            .request(&asker, "How many tonnes does the harbour crane lift?")
            .await;
        assert_eq!(world.persistent().passages(&request).await.unwrap().len(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_table_of_a_schema_is_found() {
    let world = World::real().await;
    let schema = "CREATE TABLE customers (id INT, name TEXT, city TEXT);\n\
                  CREATE TABLE orders (id INT, customer_id INT, total NUMERIC, placed_at TIMESTAMP);\n\
                  CREATE TABLE employees (id INT, name TEXT, salary NUMERIC, hired_at DATE);";
    world.ingest(Place::User, None, "shop.sql", schema).await;
    let request = world
        .request(&world.scope, "Write SQL that sums the salary of all employees")
        .await;
    let found = world.persistent().passages(&request).await.unwrap();
    assert_eq!(
        found.first().map(|passage| passage.citation.label.as_str()),
        Some("shop.sql, employees"),
        "{found:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_finds_otherwise_has_another_floor_and_other_weights() {
    let world = World::doubles();
    world
        .say("a", "The north gate closes at nine in winter", "Noted.")
        .await;
    world.say("b", "The gate of the south garden squeaks", "Noted.").await;
    let as_it_is = Finding {
        floor: 1.0,
        words: 1.0,
        meaning: 1.0,
        session: 1.0,
    };
    let question = "When does the north gate close in winter?";
    let request = world.request(&world.scope.in_conversation("c"), question).await;
    let found = async |finding: &Finding| {
        let source = world.recalled().finding(finding).unwrap();
        source.passages(&request).await.unwrap()
    };
    let plain = world.recalled().passages(&request).await.unwrap();
    assert!(!plain.is_empty());
    assert_eq!(found(&as_it_is).await, plain);
    let high = Finding {
        floor: 100.0,
        ..as_it_is
    };
    assert!(found(&high).await.is_empty());
    let by_meaning = Finding {
        words: 0.25,
        ..as_it_is
    };
    assert!((found(&by_meaning).await[0].score - plain[0].score).abs() > f32::EPSILON);
    assert!(world.persistent().finding(&as_it_is).is_none());
}
