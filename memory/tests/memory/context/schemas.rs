//! Questions about databases: just the tables that are needed, of three schemas that have nothing in common.

use habit_memory::documents::Place;

use super::world::World;

const CARS: &str = include_str!("../../../../gateway/tests/data/used_cars.sql");
const LIBRARY: &str = include_str!("../../data/library.sql");
const HOSPITAL: &str = include_str!("../../data/hospital.sql");

/// A question, the tables that it needs, and those that do no harm.
type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

const OF_CARS: &[Case] = &[
    (
        "top 5 bids with the advertisement's title",
        &["advertisement", "bid", "car"],
        &[],
    ),
    ("which cars cost less than 10000", &["car"], &["advertisement"]),
    ("cheapest vehicle with low mileage", &["car"], &["advertisement"]),
    ("how many users live in each city", &["city", "users"], &[]),
    ("total amount of payments by method", &["payment"], &["users"]),
    ("which newsletters were sent last week", &["newsletter"], &[]),
];

const OF_LIBRARY: &[Case] = &[
    (
        "which members have unpaid fines",
        &["fine", "loan", "member"],
        &["copy"],
    ),
    ("books printed before 1990", &["book"], &["publisher"]),
    (
        "which authors wrote the most books",
        &["author", "book", "book_author"],
        &["publisher"],
    ),
    (
        "average salary of the staff in each branch",
        &["branch", "employee"],
        &[],
    ),
    (
        "overdue loans with the borrower's email",
        &["loan", "member"],
        &["copy"],
    ),
    ("when is the next event", &["event"], &["branch"]),
];

const OF_HOSPITAL: &[Case] = &[
    (
        "which patients were given penicillin",
        &["Medication", "Patient", "Prescription"],
        &[],
    ),
    (
        "which patients were admitted to ward 3 in May",
        &["Admission", "Patient", "Ward"],
        &[],
    ),
    ("unpaid invoices of last year", &["Invoice"], &["Patient"]),
    (
        "top 10 doctors by number of appointments",
        &["Appointment", "Doctor"],
        &["Department"],
    ),
    ("parking permits that expire this month", &["ParkingPermit"], &[]),
];

const UNRELATED: &[&str] = &[
    "what is the weather in Paris?",
    "who won the world cup in 2018",
    "how do I bake bread",
    "translate 'good morning' to French",
    "write a function that reverses a list",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_question_brings_in_just_the_tables_that_it_needs() {
    for (name, schema, cases) in [
        ("used_cars.sql", CARS, OF_CARS),
        ("library.sql", LIBRARY, OF_LIBRARY),
        ("hospital.sql", HOSPITAL, OF_HOSPITAL),
    ] {
        let world = World::real().await;
        world.ingest(Place::User, None, name, schema).await;
        let unrelated = UNRELATED.iter().map(|question| (*question, &[][..], &[][..]));
        for (question, needed, harmless) in cases.iter().copied().chain(unrelated) {
            let request = world.request(&world.scope, question).await;
            let found = world.persistent().passages(&request).await.unwrap();
            let tables: Vec<&str> = found
                .iter()
                .map(|passage| passage.citation.label.rsplit(' ').next().unwrap())
                .collect();
            let missing = needed.iter().filter(|table| !tables.contains(table)).count();
            let known = |table: &&&str| needed.contains(table) || harmless.contains(table);
            let too_many = tables.iter().filter(|table| !known(table)).count();
            assert_eq!((missing, too_many), (0, 0), "{question}: {tables:?}");
            assert!(found.is_sorted_by(|a, b| a.score >= b.score), "{question}");
        }
    }
}
