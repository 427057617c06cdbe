//! What the stream is made of: questions with the name of what they ask for, in domains, from a folder in CLINC150's layout
//! (`data_small.json`, `domains.json`, `wiki.txt`) or in banking77's (`train.csv`, `test.csv`, `categories.json`). Which of
//! the two it is, its files say. Both are crowd-written single turns; none of it is in the product.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, bail};

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// As it was written.
    pub text: String,
    /// The intent's name, with spaces for underscores.
    pub answer: String,
}

/// Questions of one domain. What is later is never in the stream.
#[derive(Debug, Clone, Default)]
pub struct Domain {
    /// For the stream: the data's own training part.
    pub stream: Vec<Item>,
    /// For later: its test part.
    pub later: Vec<Item>,
}

/// Everything.
#[derive(Debug)]
pub struct Data {
    /// What it is called.
    pub name: &'static str,
    /// By name.
    pub domains: BTreeMap<String, Domain>,
    /// General sentences; none where the folder has none.
    pub general: Vec<String>,
}

/// Domains of banking77 are the first words of its intents, where so many share one; and all of it.
const INTENTS_A_GROUP: usize = 3;

impl Data {
    /// Reads a folder.
    ///
    /// # Errors
    /// What is missing or wrong, and what is expected.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let has = |file: &str| folder.join(file).is_file();
        if has("data_small.json") && has("domains.json") {
            return clinc(folder);
        }
        if has("train.csv") && has("test.csv") && has("categories.json") {
            return banking(folder);
        }
        bail!(
            "{} holds no data that is known here: CLINC150 has data_small.json, domains.json and wiki.txt, banking77 has \
             train.csv, test.csv and categories.json",
            folder.display()
        )
    }

    /// The domain of this name.
    ///
    /// # Errors
    /// With the names that there are.
    pub fn domain(&self, name: &str) -> anyhow::Result<&Domain> {
        self.domains.get(name).with_context(|| {
            let names: Vec<&str> = self.domains.keys().map(String::as_str).collect();
            format!("{} has no domain `{name}`; it has: {}", self.name, names.join(", "))
        })
    }

    /// The domain after this one in the order of names, which begins again after the last, of those that have no answer in
    /// common with it. `None` where all have: a domain may hold the others.
    #[must_use]
    pub fn next(&self, name: &str) -> Option<String> {
        let own = self.answers(name);
        let after = self.domains.keys().skip_while(|other| other.as_str() <= name);
        let mut others = after.chain(self.domains.keys());
        others.find(|other| self.answers(other).is_disjoint(&own)).cloned()
    }

    fn answers(&self, name: &str) -> HashSet<&str> {
        let items = self.domains.get(name).into_iter().flat_map(|domain| &domain.stream);
        items.map(|item| item.answer.as_str()).collect()
    }
}

fn read(folder: &Path, file: &str) -> anyhow::Result<String> {
    let path = folder.join(file);
    std::fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))
}

fn json<T: serde::de::DeserializeOwned>(folder: &Path, file: &str) -> anyhow::Result<T> {
    let text = read(folder, file)?;
    serde_json::from_str(&text).with_context(|| format!("{} is not as it should be", folder.join(file).display()))
}

fn item(text: &str, intent: &str) -> Item {
    Item {
        text: text.trim().to_owned(),
        answer: intent.trim().replace('_', " "),
    }
}

fn clinc(folder: &Path) -> anyhow::Result<Data> {
    let named: BTreeMap<String, Vec<String>> = json(folder, "domains.json")?;
    let parts: HashMap<String, Vec<(String, String)>> = json(folder, "data_small.json")?;
    let of = |part: &str, intents: &[String]| -> Vec<Item> {
        let all = parts.get(part).into_iter().flatten();
        let all = all.filter(|(_, intent)| intents.contains(intent));
        all.map(|(text, intent)| item(text, intent)).collect()
    };
    let domains = named.iter().map(|(name, intents)| {
        let domain = Domain {
            stream: of("train", intents),
            later: of("test", intents),
        };
        (name.clone(), domain)
    });
    let general = match read(folder, "wiki.txt") {
        Ok(text) => text
            .lines()
            .map(str::trim)
            .filter(|line| line.len() > 40)
            .map(str::to_owned)
            .collect(),
        Err(_) => Vec::new(),
    };
    Ok(Data {
        name: "CLINC150",
        domains: domains.collect(),
        general,
    })
}

fn banking(folder: &Path) -> anyhow::Result<Data> {
    let intents: Vec<String> = json(folder, "categories.json")?;
    let mut groups: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for intent in &intents {
        let word = intent.split('_').next().unwrap_or(intent).to_lowercase();
        groups.entry(word).or_default().push(intent);
    }
    groups.retain(|_, intents| intents.len() >= INTENTS_A_GROUP);
    groups.insert("banking".to_owned(), intents.iter().collect());
    let (train, test) = (table(&read(folder, "train.csv")?), table(&read(folder, "test.csv")?));
    let of = |rows: &[(String, String)], intents: &[&String]| -> Vec<Item> {
        let rows = rows.iter().filter(|(_, intent)| intents.contains(&intent));
        rows.map(|(text, intent)| item(text, intent)).collect()
    };
    let domains = groups.into_iter().map(|(name, intents)| {
        let domain = Domain {
            stream: of(&train, &intents),
            later: of(&test, &intents),
        };
        (name, domain)
    });
    Ok(Data {
        name: "banking77",
        domains: domains.collect(),
        general: Vec::new(),
    })
}

/// The first two fields of each row but the first, which names them. Fields may be quoted, with doubled quotes, commas
/// and line breaks in them (RFC 4180).
fn table(text: &str) -> Vec<(String, String)> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            '\r' if !quoted => {}
            letter => field.push(letter),
        }
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    let pairs = rows.into_iter().skip(1).filter_map(|row| {
        let mut fields = row.into_iter();
        Some((fields.next()?, fields.next()?))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::{Data, table};

    #[test]
    fn tables_as_spreadsheets_write_them() {
        let text = "text,category\nplain,a_b\n\"with, comma and \"\"quotes\"\"\",c\r\n\"two\nlines\",d";
        let rows = table(text);
        let texts: Vec<&str> = rows.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["plain", "with, comma and \"quotes\"", "two\nlines"]);
        assert_eq!(rows[1].1, "c");
    }

    #[test]
    fn folders_are_known_by_their_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        let unknown = Data::read(folder.path()).expect_err("nothing").to_string();
        assert!(
            unknown.contains("CLINC150") && unknown.contains("banking77"),
            "{unknown}"
        );
        put("categories.json", r#"["card_lost", "card_late", "card_new", "top_up"]"#);
        put("train.csv", "text,category\nwhere is it,card_lost\nmore,top_up\n");
        put("test.csv", "text,category\nlost it,card_lost\n");
        let data = Data::read(folder.path()).expect("data");
        assert_eq!(data.domain("card").expect("a domain").stream[0].answer, "card lost");
        assert_eq!(data.domain("banking").expect("all").stream.len(), 2);
        assert_eq!(data.next("banking"), None, "all the others are parts of it");
        let wrong = data.domain("travel").expect_err("unknown").to_string();
        assert!(wrong.contains("`travel`") && wrong.contains("banking, card"), "{wrong}");
        put("domains.json", r#"{"home": ["lights_on"], "work": ["pto"]}"#);
        put(
            "data_small.json",
            r#"{"train": [["on please", "lights_on"], ["days off", "pto"]], "test": [["light", "lights_on"]]}"#,
        );
        let data = Data::read(folder.path()).expect("data");
        let home = data.domain("home").expect("a domain");
        assert_eq!((home.stream.len(), home.later[0].answer.as_str()), (1, "lights on"));
        assert_eq!(
            (data.next("home").as_deref(), data.next("work").as_deref()),
            (Some("work"), Some("home"))
        );
    }
}
