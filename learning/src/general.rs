//! General sentences of our own, plain public knowledge, to measure by how much a trained model forgets. None of them is
//! among the trainer's anchors: a model must not be judged on what it was held to.

/// The sentences.
pub const SENTENCES: [&str; 24] = [
    "A bicycle stays upright more easily when it moves, because its wheels steer into every small fall.",
    "The oldest wooden bridges were simple logs laid across a stream.",
    "Most bread rises because yeast turns sugar into gas, which the dough holds.",
    "In autumn many trees lose their leaves, since frozen ground gives them little water.",
    "A library lends books for some weeks, and asks for a small fee when they come back late.",
    "Sound travels faster through water than through air, and faster still through steel.",
    "The potato came to Europe by ship and was at first grown for its flowers.",
    "When two rivers meet, their waters may flow side by side for miles before they mix.",
    "A clock with a pendulum runs slow in summer, because the warm rod is a little longer.",
    "Some birds cross whole oceans twice a year and find the same nest again.",
    "To boil an egg, put it into hot water and wait about eight minutes.",
    "The price of a ticket depends on the distance, the day and the class.",
    "Glass is made by melting sand with soda and lime at a great heat.",
    "An orchestra tunes to the oboe, whose note is steady and easy to hear.",
    "The shadow of the Earth on the Moon is round, which sailors noticed long ago.",
    "Cotton is light and cool, while wool keeps warm even when it is wet.",
    "A good map shows the height of the land by lines that never cross.",
    "Salt lowers the temperature at which water freezes, so it is spread on icy roads.",
    "The first trains were slower than a horse, and people feared them all the same.",
    "Bees tell each other by a dance in which direction the flowers are.",
    "If a number can be divided by two and by three, it can be divided by six.",
    "Old paper turns yellow in the light, so drawings are kept in dark drawers.",
    "The wind is named after where it comes from, a current after where it goes.",
    "Children learn to speak by listening for about a year before they say a word.",
];
