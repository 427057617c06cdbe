//! Where a message turns to the words of others: what they said or wrote, letters, reviews, texts to work on. These are not the
//! user's own; where that can't be told, they are taken for others'.

use regex::Regex;

use super::Rules;
use crate::rank::words;

/// What texts are called.
const TEXTS: &str = "letter|e-?mails?|mail|messages?|texts?|sms|reviews?|post|tweet|comments?|sentences?|paragraphs?|passage|quote|\
    phrase|poem|story|essay|article|transcript|statement|bio|lyrics|song|dialogue|testimonial|caption|translation";

/// What others do with words.
const SAYS: &str = "says|said|saying|tells|told|telling|writes|wrote|written|asks|asked|claims|claimed|replies|replied|answers|\
    answered|insists|insisted|mentions|mentioned|thinks|thought|believes|believed";

/// What is done with a text.
const WORKS: &str = "translate|rewrite|rephrase|paraphrase|correct|proofread|summari[sz]e|fix|edit|classify|check|improve|shorten|\
    expand|analy[sz]e|grade|rate|review|polish|interpret|explain|reply|respond|answer|react";

pub(super) struct Others {
    salutation: Regex,
    close: Regex,
    shown: Regex,
    colon: Regex,
    reported: Regex,
    text: Regex,
    announced: Regex,
    own: Regex,
    says: Regex,
    asked: Regex,
    back: Regex,
}

impl Others {
    pub(super) fn new() -> Result<Self, regex::Error> {
        let rule = |pattern: &str| Regex::new(&format!("(?i){pattern}"));
        let any = format!("(?:{TEXTS}|note)");
        Ok(Self {
            salutation: rule(r"^(?:dear\s+\S|to whom it may concern\b)")?,
            close: rule(
                r"^(?:yours(?:\s+(?:sincerely|faithfully|truly))?|sincerely(?:\s+yours)?|(?:best|kind|kindest|warm|warmest)\s+(?:regards|wishes)|regards|best)\s*(?:,.{0,40})?$",
            )?,
            shown: rule(&format!(
                r"\b(?:{SAYS}|sent|got|received|found|posted|has|have|heard|read|saw)\b.*\bthis\s*[.!,;]*$|\bthis\s+(?:\w+\s+)?{any}\b|^(?:here(?:['\u{{2019}}]s| is| are)|this is|these are)\b.*\b(?:what|how|{SAYS}|sent|{any})\b"
            ))?,
            colon: rule(r#":(?:\s+|$|["\u{201c}'])"#)?,
            reported: rule(&format!(
                r"\b(?:{SAYS}|sent|reads|states|means?|meant|quoted?)\b|^(?:please\s+)?note\s+(?:from|by|of|to)\b"
            ))?,
            text: rule(&format!(r"\b(?:{TEXTS})\b"))?,
            announced: rule(
                r"^(?:(?:please|also|and|so|ok|okay|hi|hello|hey|well|oh|quick|small|just|another|one|two|three|some|a few|more|fun|important)\b[\s,!]*)*(?:(?:by the way|btw|fyi|for your information|(?:just )?so you know|for context|for the record|to be clear|in short|correction|update|news|facts?|things?|about me|about myself|to know|to remember|p\.?s\.?|note|instructions?|rules?|my (?:preferences|details|rules|wishes))[\s,]*)*$",
            )?,
            own: rule(r"\b(?:i|my|we|our|call me|always|never)\b")?,
            says: rule(&format!(
                r"\b(\w+)\s+(?:(?:just|also|always|often|once|then|has|have|had|is|was|recently|only|still)\s+)*(?:{SAYS})\b"
            ))?,
            asked: rule(r"\?$|^(?:please\b|i(?:['\u{2019}]d| would) like|i (?:want|need))")?,
            back: rule(&format!(
                r"\b(?:{WORKS})\s+(?:to\s+)?(?:this|that|it|these|those|above|him|her|them|the above|(?:the|my|his|her|their)\s+(?:\w+\s+)?{any})\b|\b(?:should|do|can|could|would|shall)\s+(?:i|we)\s+(?:\w+\s+)?(?:reply|respond|answer|react|write back|say (?:to|back))\b|\bhow to (?:reply|respond|answer)\b|\b(?:this|that|these|those)\s+(?:\w+\s+)?{any}\b|\bthe\s+(?:letter|e-?mail|message|text|review|paragraph|sentence|passage)\b|\bwhat\s+(?:does|do|did|is|was)\s+(?:this|that|it|he|she|they)\s+mean|\bwho\s+(?:wrote|said)\b|\b(?:this|that|it)\b.*\b(?:polite|impolite|rude|formal|grammatical(?:ly)?|spel(?:led|t)|sound)\b"
            ))?,
        })
    }

    /// Whether a line ends a letter.
    pub(super) fn closes(&self, line: &str) -> bool {
        self.close.is_match(line)
    }

    /// Whether what follows may be the words of others.
    pub(super) fn introduced_by(&self, sentence: &str, explicit: bool) -> bool {
        if self.salutation.is_match(sentence) || (!explicit && self.shown.is_match(sentence)) {
            return true;
        }
        let Some(colon) = self.colon.find(sentence) else {
            return false;
        };
        let (before, after) = (sentence[..colon.start()].trim(), &sentence[colon.end()..]);
        if self.reported.is_match(before) {
            return true;
        }
        if explicit || self.announced.is_match(before) {
            return false;
        }
        // "I have two pets: a cat and a dog."
        let told = self.own.is_match(before) && !after.trim().is_empty();
        self.text.is_match(before) || !told || self.own.find(after).is_some_and(|own| own.start() == 0)
    }

    /// Whether a sentence asks for something to be done with the message that it stands in.
    pub(super) fn asks_about(&self, sentence: &str, rules: &Rules) -> bool {
        let asks = self.asked.is_match(sentence) || words::wishes(sentence) || rules.works_on_text.is_match(sentence);
        asks && !self.colon.is_match(sentence) && !rules.explicit.is_match(sentence) && self.back.is_match(sentence)
    }

    /// Whether a clause tells what someone else said, which may go on in the next one.
    pub(super) fn say(&self, clause: &str) -> bool {
        let others = |who: &str| !matches!(who.to_lowercase().as_str(), "i" | "ve" | "as");
        let mut found = self.says.captures_iter(clause);
        found.any(|says| says.get(1).is_some_and(|who| others(who.as_str())))
    }
}
