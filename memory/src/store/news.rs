//! [`News`]: what one gateway tells the others that it changed in the index that they share. What they keep of it in memory
//! ([`super::shelves`]) follows; where the news are written and read is [`super::sea::Feed`]'s business.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::index::Removal;

/// What changed. It says where to look, never what is there: whoever hears of it reads the index as it is by then, so news
/// may come twice, late, or in another order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// These entries were written.
    Put(Vec<Uuid>),
    /// These were removed.
    Removed(Removal),
}

/// What was read of the news at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Some may have been missed before these: they were thrown away before they were read.
    pub missed: bool,
    /// In about the order in which they happened.
    pub news: Vec<News>,
}

/// Entries that are read together.
const TOGETHER: usize = 512;

/// Puts what was written one after the other together, so that it is read together.
pub(super) fn joined(news: impl IntoIterator<Item = News>) -> Vec<News> {
    let mut joined: Vec<News> = Vec::new();
    for news in news {
        match (joined.last_mut(), news) {
            (Some(News::Put(before)), News::Put(ids)) if before.len() + ids.len() <= TOGETHER => before.extend(ids),
            (_, news) => joined.push(news),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_is_put_together() {
        let put = |count: usize| News::Put((0..count).map(|_| Uuid::now_v7()).collect());
        let (one, two, three) = (put(1), put(2), put(3));
        let (News::Put(first), News::Put(second)) = (one.clone(), two.clone()) else {
            unreachable!()
        };
        let both = News::Put([first, second].concat());
        let removed = News::Removed(Removal::All);
        let expected = vec![both, removed.clone(), three.clone()];
        assert_eq!(joined([one, two, removed, three]), expected);
        assert_eq!(joined([put(TOGETHER), put(1)]).len(), 2);
    }

    #[test]
    fn news_are_read_as_they_were_written() {
        let removal = Removal::Parents {
            team: "red".to_owned(),
            parents: vec![Uuid::now_v7()],
        };
        for news in [
            News::Put(vec![Uuid::now_v7()]),
            News::Removed(removal),
            News::Removed(Removal::All),
        ] {
            let text = serde_json::to_string(&news).unwrap();
            assert_eq!(serde_json::from_str::<News>(&text).unwrap(), news);
        }
    }
}
