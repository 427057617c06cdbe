//! What people say in passing, and how they ask for it later in other words. Written by us; how the floor falls where there is little
//! was chosen on this list and another one (decision 7).

use std::time::Duration;

use crate::context::world::World;

/// What was said in passing.
const SAID: [&str; 32] = [
    "Morning. Could you help me plan a week of lunches? Nothing with mushrooms, I can't stand them.",
    "We've just moved the database from MySQL to Postgres 16 and half of the reports are broken.",
    "My daughter Lina turned seven on Saturday and wants a microscope.",
    "I park in the garage on Hafenstrasse, spot 42.",
    "The deploy script lives in tools/ship.sh and needs the AWS profile called prod-eu.",
    "On Fridays I leave at three to pick up the kids.",
    "Our cat Pixel has to take thyroid tablets twice a day.",
    "I grew up in Aleppo and came to Hamburg in 2013.",
    "Our team standup is at 9:45, in the room called Elbe.",
    "I broke my left wrist skateboarding when I was nineteen.",
    "The boiler makes a knocking noise again, the last technician came from Nordwaerme.",
    "I'm training for the Berlin triathlon next September.",
    "My wife Salma is a paediatrician, she has nights this week.",
    "I promised to call my mother every Sunday at six.",
    "We use tabs, not spaces, and lines of at most 100 characters in our repository.",
    "The password manager we have at the office is Bitwarden.",
    "Our neighbours upstairs, the Kowalskis, complained about the piano.",
    "Lina's teacher is called Frau Brandt.",
    "I get migraines from red wine.",
    "The rental contract for the office runs until the end of 2027.",
    "My bike was stolen in front of the library in May.",
    "I've a standing desk but I hardly ever use it.",
    "Our product is called Tidewatch, it predicts water levels for marinas.",
    "We have about 340 paying customers.",
    "My size in shoes is 44, in shirts L.",
    "Salma's birthday is the 22nd of November, last year I forgot it.",
    "The client in Rotterdam wants invoices in PDF with a purchase order number.",
    "I'd rather get short answers, no lectures please.",
    "The allotment garden is number 118, we grow beans and far too many courgettes.",
    "My blood type is O negative, I donate every three months.",
    "I listen to Fairuz when I cook.",
    "For the trip to Istanbul we booked the hotel Sirkeci Mansion from the 4th to the 9th of April.",
];

/// What is asked later, and a word of the turn that answers it.
const ASKED: [(&str, &str); 32] = [
    ("Which food do I dislike?", "mushrooms"),
    ("What database are we on these days?", "Postgres"),
    ("How old is my little girl?", "seven"),
    ("What present does Lina wish for?", "microscope"),
    ("Where do I leave my car?", "42"),
    ("Which credentials do I need to ship a release?", "prod-eu"),
    ("When do I finish work at the end of the week?", "Fridays"),
    ("What's wrong with our cat?", "thyroid"),
    ("Where was I born and raised?", "Aleppo"),
    ("What time is the daily meeting?", "9:45"),
    ("Have I ever had a fracture?", "wrist"),
    ("Which company repaired the heating?", "Nordwaerme"),
    ("What sports event am I preparing for?", "triathlon"),
    ("What does my wife do for a living?", "paediatrician"),
    ("When should I phone my mum?", "Sunday"),
    ("How do we indent our code?", "tabs"),
    ("Where do we keep our passwords?", "Bitwarden"),
    ("Who is annoyed by our music?", "Kowalskis"),
    ("Who teaches my daughter?", "Brandt"),
    ("What triggers my headaches?", "red wine"),
    ("How long is our lease?", "2027"),
    ("What happened to my bicycle?", "stolen"),
    ("What do we sell?", "Tidewatch"),
    ("How many clients do we have?", "340"),
    ("What are my clothing sizes?", "44"),
    ("When does Salma celebrate?", "22nd"),
    ("How must the Dutch customer be billed?", "Rotterdam"),
    ("How long should your replies be?", "short answers"),
    ("Which vegetables do we grow?", "beans"),
    ("What is my blood group?", "O negative"),
    ("Which singer do I like?", "Fairuz"),
    ("Where are we staying in Turkey?", "Sirkeci"),
];

/// What none of it answers.
const UNANSWERED: [&str; 22] = [
    "What is the capital of Mongolia?",
    "How do I reverse a list in Python?",
    "What's my passport number?",
    "Summarise the plot of Hamlet.",
    "What's the name of my son?",
    "Is it going to rain tomorrow?",
    "Write a haiku about autumn.",
    "How many grams are in an ounce?",
    "What's my favourite restaurant?",
    "Explain how vaccines work.",
    "What is my salary?",
    "Who painted the Mona Lisa?",
    "Suggest a name for a podcast about history.",
    "Which university did I attend?",
    "What's the fastest animal on land?",
    "Draft a birthday card for a colleague.",
    "What is the square root of 841?",
    "Where did we spend last Christmas?",
    "Which newspaper do I read?",
    "Why is the sky blue?",
    "What was the name of my first pet?",
    "How do I get chewing gum out of clothes?",
];

/// What somebody else would ask.
const FOREIGN: [&str; 25] = [
    "Which street is my apartment on?",
    "When is my sister's wedding?",
    "What foods do I have to avoid?",
    "Who is my manager?",
    "What's the name of our dog?",
    "Which instrument do I play?",
    "Where is our cabin?",
    "What injury do I have?",
    "What's our booking code for the Portugal trip?",
    "What phone do I have?",
    "How did Tom's first day of school go?",
    "When do I see the dentist?",
    "What make is my car?",
    "Which day do I swim?",
    "What is the secret ingredient in my grandmother's pie?",
    "What book am I reading at the moment?",
    "Who is going to paint the bathroom?",
    "How much can we spend on the new kitchen?",
    "Which nuts can't my children eat?",
    "What medication am I on?",
    "What did I study at university?",
    "Who repaired our heating and what did it cost?",
    "What was my favourite gig?",
    "How much weight am I trying to lose?",
    "Where does my spouse work?",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_in_passing_is_found_in_other_words() {
    let world = World::held().await;
    for (number, said) in SAID.iter().enumerate() {
        world.say(&format!("talk {}", number / 4), said, "All right.").await;
    }
    assert!(world.indexer.caught_up(Duration::from_mins(1)).await);
    // Until its words are learnt, too.
    world.index.hold().await.unwrap();
    let mut missed = Vec::new();
    for (question, word) in ASKED {
        let found = world.recall(question).await;
        if !found.iter().any(|passage| passage.text.contains(word)) {
            missed.push(question);
        }
    }
    assert!(
        missed.len() * 4 <= ASKED.len(),
        "{} are missed: {missed:?}",
        missed.len()
    );
    // Of what nothing answers, four in five get nothing.
    for questions in [&UNANSWERED[..], &FOREIGN[..]] {
        let mut given = Vec::new();
        for question in questions {
            if !world.recall(question).await.is_empty() {
                given.push(question);
            }
        }
        assert!(
            given.len() * 5 <= questions.len(),
            "{} get something: {given:?}",
            given.len()
        );
    }
}
