//! Which tables of a schema a question needs. A table alone is seldom enough: a database is asked by joining tables, so
//! what is between those that a question speaks of belongs to the answer too, and so does what only they refer to.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::rank::words;

/// A question speaks of a table whose words are this near to it (cosine). With all-MiniLM-L6-v2 and three schemas (used
/// cars, a library, a hospital) questions about a schema are near its best table by 0.37 and more, others by 0.34 at most.
pub(super) const CLOSE: f32 = 0.36;

/// It speaks of those too that are not much farther than the nearest.
const BESIDE: f32 = 0.8;

/// A table that a question names may be this far.
const NAMED: f32 = 0.2;

/// A table as far as it matters here.
pub(super) struct Table {
    /// The stems of its name's words.
    pub(super) name: Vec<String>,
    /// What the tables are called that it refers to.
    pub(super) references: HashSet<Vec<String>>,
    /// How near it is to the question (cosine).
    pub(super) closeness: f32,
}

/// The places of the tables that the question needs: those that it speaks of first, nearest first, then those that belong
/// to them.
pub(super) fn needed(question: &str, tables: &[Table]) -> Vec<usize> {
    let best = tables.iter().map(|table| table.closeness).fold(f32::MIN, f32::max);
    if best < CLOSE {
        return Vec::new();
    }
    let asked: HashSet<String> = words::stems(question).into_iter().collect();
    let spoken_of = |table: &Table| {
        let near = table.closeness >= CLOSE.max(best * BESIDE);
        let named = !table.name.is_empty() && table.name.iter().all(|word| asked.contains(word));
        near || (named && table.closeness >= NAMED)
    };
    let mut needed: Vec<usize> = (0..tables.len()).filter(|place| spoken_of(&tables[*place])).collect();
    needed.sort_by(|a, b| tables[*b].closeness.total_cmp(&tables[*a].closeness));
    let links = Links::of(tables);
    while let Some(between) = links.between(&needed, tables) {
        needed.extend(between);
    }
    let own: Vec<usize> = needed.iter().flat_map(|place| links.own(*place)).collect();
    for place in own {
        if !needed.contains(&place) {
            needed.push(place);
        }
    }
    needed
}

/// Which table refers to which, by their places.
struct Links {
    to: Vec<BTreeSet<usize>>,
    from: Vec<BTreeSet<usize>>,
}

impl Links {
    fn of(tables: &[Table]) -> Self {
        let places: BTreeMap<&[String], usize> = tables
            .iter()
            .enumerate()
            .map(|(place, table)| (table.name.as_slice(), place))
            .collect();
        let mut links = Self {
            to: vec![BTreeSet::new(); tables.len()],
            from: vec![BTreeSet::new(); tables.len()],
        };
        for (place, table) in tables.iter().enumerate() {
            for name in &table.references {
                if let Some(other) = places.get(name.as_slice()).filter(|other| **other != place) {
                    links.to[place].insert(*other);
                    links.from[*other].insert(place);
                }
            }
        }
        links
    }

    fn beside(&self, place: usize) -> impl Iterator<Item = usize> {
        self.to[place].iter().chain(&self.from[place]).copied()
    }

    /// What this table alone refers to: it says what the table's rows are about. What many refer to, such as users, comes
    /// when it is asked for.
    fn own(&self, place: usize) -> impl Iterator<Item = usize> {
        let alone = move |other: &&usize| self.from[**other].len() == 1;
        self.to[place].iter().filter(alone).copied()
    }

    /// One table, or else two, that join some of these which nothing joins yet: the nearest to the question.
    fn between(&self, needed: &[usize], tables: &[Table]) -> Option<Vec<usize>> {
        let group = self.groups(needed);
        let reached = |place: usize| -> BTreeSet<usize> {
            self.beside(place)
                .filter_map(|other| group.get(&other).copied())
                .collect()
        };
        let outside = (0..tables.len()).filter(|place| !group.contains_key(place));
        let reaching: BTreeMap<usize, BTreeSet<usize>> = outside
            .map(|place| (place, reached(place)))
            .filter(|(_, groups)| !groups.is_empty())
            .collect();
        let closeness = |places: &[usize]| places.iter().map(|place| tables[*place].closeness).sum::<f32>();
        let nearest = |ways: Vec<Vec<usize>>| ways.into_iter().max_by(|a, b| closeness(a).total_cmp(&closeness(b)));
        let one = reaching.iter().filter(|(_, groups)| groups.len() > 1);
        nearest(one.map(|(place, _)| vec![*place]).collect()).or_else(|| {
            let two = reaching.iter().flat_map(|(place, groups)| {
                let others = self.beside(*place).filter(|other| {
                    let further = reaching.get(other).map(|others| others.difference(groups).count());
                    other > place && further.is_some_and(|further| further > 0)
                });
                others.map(|other| vec![*place, other]).collect::<Vec<_>>()
            });
            nearest(two.collect())
        })
    }

    /// To which group each of these belongs: joined ones are of one.
    fn groups(&self, needed: &[usize]) -> BTreeMap<usize, usize> {
        let mut group = BTreeMap::new();
        for start in needed {
            let mut next = vec![*start];
            while let Some(place) = next.pop() {
                if group.contains_key(&place) {
                    continue;
                }
                group.insert(place, *start);
                next.extend(self.beside(place).filter(|other| needed.contains(other)));
            }
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::schema;

    /// Tables by name, with what they refer to and how near they are.
    fn tables(rows: &[(&str, &[&str], f32)]) -> Vec<Table> {
        let table = |(name, references, closeness): &(&str, &[&str], f32)| Table {
            name: schema::name(name),
            references: references.iter().map(|name| schema::name(name)).collect(),
            closeness: *closeness,
        };
        rows.iter().map(table).collect()
    }

    #[test]
    fn what_is_between_and_what_only_they_refer_to_comes_along() {
        let library = tables(&[
            ("member", &[], 0.5),
            ("loan", &["member", "copies"], 0.1),
            ("copy", &["book", "branch"], 0.1),
            ("book", &["publisher"], 0.45),
            ("publisher", &[], 0.1),
            ("branch", &[], 0.1),
            ("event", &["branch"], 0.1),
        ]);
        assert_eq!(needed("who has which", &library), [0, 3, 1, 2, 4]);
    }

    #[test]
    fn a_name_counts_only_where_the_question_is_about_the_schema() {
        let shop = tables(&[("order_item", &[], 0.25), ("customer", &[], 0.4), ("city", &[], 0.1)]);
        assert_eq!(needed("items in the orders of customers", &shop), [1, 0]);
        assert_eq!(needed("cities with customers", &shop), [1]);
        let far = tables(&[("order_item", &[], 0.3), ("city", &[], 0.1)]);
        assert!(needed("order item", &far).is_empty());
    }
}
