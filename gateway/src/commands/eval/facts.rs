//! What `habit eval helps` says and asks. The answers can't be guessed, and no question repeats its fact's words in full.

/// A fact, the question about it, and a word that every right answer has.
pub struct Fact {
    /// What the user says.
    pub said: &'static str,
    /// What is asked later.
    pub question: &'static str,
    /// What a right answer has in it.
    pub answer: &'static str,
}

const fn fact(said: &'static str, question: &'static str, answer: &'static str) -> Fact {
    Fact { said, question, answer }
}

/// The facts.
pub const FACTS: [Fact; 40] = [
    fact("My dog is called Biscuit.", "What is my dog called?", "Biscuit"),
    fact(
        "I work at the harbour as a crane driver.",
        "Where do I work?",
        "harbour",
    ),
    fact(
        "My sister Odile moved to Trondheim last spring.",
        "Which city did my sister move to?",
        "Trondheim",
    ),
    fact("I am allergic to cashews.", "What am I allergic to?", "cashew"),
    fact("My car is a green Lada from 1988.", "What car do I drive?", "Lada"),
    fact(
        "The code of my bicycle lock is 7193.",
        "What is the code of my bicycle lock?",
        "7193",
    ),
    fact(
        "I play the bassoon in the town orchestra.",
        "Which instrument do I play?",
        "bassoon",
    ),
    fact(
        "My dentist is Doctor Quillfeather.",
        "Who is my dentist?",
        "Quillfeather",
    ),
    fact(
        "We named our boat Petrichor.",
        "What did we name our boat?",
        "Petrichor",
    ),
    fact(
        "My daughter's birthday is on the ninth of October.",
        "When is my daughter's birthday?",
        "October",
    ),
    fact(
        "I keep the spare key under the blue flowerpot.",
        "Where do I keep the spare key?",
        "flowerpot",
    ),
    fact(
        "My favourite soup is made of parsnips.",
        "What is my favourite soup made of?",
        "parsnip",
    ),
    fact(
        "I am learning Basque this year.",
        "Which language am I learning?",
        "Basque",
    ),
    fact(
        "My flight to Porto leaves from gate B44.",
        "From which gate does my flight leave?",
        "B44",
    ),
    fact(
        "My landlord is called Mister Ostrowski.",
        "What is the name of my landlord?",
        "Ostrowski",
    ),
    fact(
        "I finished the marathon in four hours and eleven minutes.",
        "How long did the marathon take me?",
        "eleven",
    ),
    fact(
        "Our wifi password is marmalade77.",
        "What is our wifi password?",
        "marmalade77",
    ),
    fact(
        "My grandmother was born in Ljubljana.",
        "Where was my grandmother born?",
        "Ljubljana",
    ),
    fact("I paint with egg tempera.", "What do I paint with?", "tempera"),
    fact("My cat sleeps in the piano.", "Where does my cat sleep?", "piano"),
    fact(
        "The project's deadline is the third of March.",
        "When is the deadline of the project?",
        "March",
    ),
    fact("My boss is Henrietta Vance.", "Who is my boss?", "Vance"),
    fact(
        "I bought a telescope with my first wages.",
        "What did I buy with my first wages?",
        "telescope",
    ),
    fact("My shoe size is 43.", "What is my shoe size?", "43"),
    fact(
        "We spent our honeymoon on the Faroe Islands.",
        "Where did we spend our honeymoon?",
        "Faroe",
    ),
    fact("I take my tea with cardamom.", "How do I take my tea?", "cardamom"),
    fact(
        "My neighbour breeds alpacas.",
        "What does my neighbour breed?",
        "alpaca",
    ),
    fact(
        "The plumber comes on Thursday at seven.",
        "When does the plumber come?",
        "Thursday",
    ),
    fact("My thesis is about lichens.", "What is my thesis about?", "lichen"),
    fact(
        "I sold my motorbike to a man called Fergus.",
        "Who bought my motorbike?",
        "Fergus",
    ),
    fact(
        "My locker at the pool has the number 218.",
        "Which number has my locker at the pool?",
        "218",
    ),
    fact(
        "Our band is called The Damp Matches.",
        "What is our band called?",
        "Damp Matches",
    ),
    fact("I grew up in a lighthouse.", "Where did I grow up?", "lighthouse"),
    fact(
        "My son wants to become a beekeeper.",
        "What does my son want to become?",
        "beekeeper",
    ),
    fact(
        "I lost my umbrella in the museum of clocks.",
        "Where did I lose my umbrella?",
        "clocks",
    ),
    fact(
        "My brother's wife is called Solveig.",
        "What is the name of my brother's wife?",
        "Solveig",
    ),
    fact("I have a scar from a swan.", "What gave me my scar?", "swan"),
    fact(
        "The recipe needs two spoons of tamarind.",
        "How much tamarind does the recipe need?",
        "two",
    ),
    fact(
        "My favourite painter is Hammershoi.",
        "Who is my favourite painter?",
        "Hammershoi",
    ),
    fact(
        "I have an appointment at the embassy of Peru.",
        "At which embassy is my appointment?",
        "Peru",
    ),
];

/// What else is said.
pub const OTHER_TALK: [&str; 20] = [
    "Explain how rainbows come about.",
    "Write a short poem on autumn leaves.",
    "It has been raining all week and the streets are full of puddles.",
    "How many bones does the human body have?",
    "Please correct this sentence: he go to market.",
    "The train was late again and the platform was crowded.",
    "What is the difference between a crocodile and an alligator?",
    "Give me three ideas for a quiet weekend.",
    "I watched a long film about volcanoes last night.",
    "Summarise the plot of a famous play about a prince.",
    "Why is the sky blue?",
    "The supermarket has changed all of its shelves around.",
    "Translate good morning into Italian.",
    "How do I boil an egg so that it stays soft?",
    "The lecture on medieval trade was longer than I had thought.",
    "What makes bread rise?",
    "List five animals that live in the desert.",
    "The heating in the library is broken and everybody wore coats.",
    "How far away is the moon?",
    "Suggest a title for a story about a lost letter.",
];
