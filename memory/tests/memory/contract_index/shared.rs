//! The index in an object store, which several gateways use: the same laws, and what is theirs alone.

use std::time::{Duration, Instant};

use habit_memory::clock::{Clock, SystemClock};
use habit_memory::store::depot::Bucket;
use habit_memory::store::news::News;
use habit_memory::store::sea::{Feed, SeaJournal};
use habit_memory::testing::line::Line;
use habit_memory::testing::s3;
use tokio_util::sync::CancellationToken;

use super::*;

async fn open(bucket: &Bucket) -> LanceIndex {
    LanceIndex::open(bucket.clone(), DIMENSIONS, "test@1").await.unwrap()
}

#[tokio::test]
async fn lance_keeps_the_laws_in_an_object_store() {
    let bucket = s3::bucket().await;
    laws(&open(&bucket.within("a/place")).await).await;
    let behind = Arc::new(open(&bucket.within("another")).await);
    let shelves = Shelves::new(behind, DIMENSIONS, 1 << 20);
    laws(&shelves).await;
}

#[tokio::test]
async fn entries_are_read_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let folder = LanceIndex::open(dir.path(), DIMENSIONS, "test@1").await.unwrap();
    let bucket = open(&s3::bucket().await).await;
    let indexes: [&dyn Index; 3] = [&RamIndex::new(DIMENSIONS), &folder, &bucket];
    for index in indexes {
        let (me, stranger) = (scope("red", "ann"), scope("blue", "ann"));
        let part = |scope: &Scope, parent| Entry {
            parent,
            speaker: Some("Ann".to_owned()),
            ..entry(of(scope), "tide table", towards(4, 0.0))
        };
        let document = Uuid::now_v7();
        let (one, two, foreign) = (
            part(&me, document),
            part(&me, Uuid::now_v7()),
            part(&stranger, document),
        );
        let all = vec![one.clone(), two.clone(), foreign.clone()];
        index.upsert(all.clone()).await.unwrap();
        let mut found = index
            .named(&Named::Entries(vec![two.id, Uuid::now_v7(), foreign.id]))
            .await
            .unwrap();
        found.sort_by_key(|entry| entry.id);
        assert_eq!(found, [two, foreign]);
        let parents = Named::Parents {
            team: "red".to_owned(),
            parents: vec![document, Uuid::now_v7()],
        };
        assert_eq!(index.named(&parents).await.unwrap(), [one]);
        assert_eq!(index.named(&Named::Entries(Vec::new())).await.unwrap(), []);
        index.remove(Removal::All).await.unwrap();
        let ids = all.iter().map(|entry| entry.id).collect();
        assert_eq!(index.named(&Named::Entries(ids)).await.unwrap(), []);
    }
}

/// Gateways that start at the same time on an empty bucket make one index.
#[tokio::test(flavor = "multi_thread")]
async fn several_may_make_it_at_once() {
    let bucket = s3::bucket().await;
    let opened = futures::future::join_all((0..3).map(|_| open(&bucket))).await;
    let me = scope("red", "ann");
    for (n, index) in opened.iter().enumerate() {
        let entry = entry(of(&me), &format!("buoy number{n}"), towards(n, 0.1));
        index.upsert(vec![entry]).await.unwrap();
    }
    for index in &opened {
        assert_eq!(found(index, &me, ask("buoys", None, 10)).await.len(), opened.len());
    }
}

/// Two write at once, some of it the same; one tidies meanwhile. Nothing is lost, and nothing is there twice.
#[tokio::test(flavor = "multi_thread")]
async fn two_writers_lose_and_double_nothing() {
    const BATCHES: usize = 8;
    let bucket = s3::bucket().await;
    let (a, b) = (open(&bucket).await, open(&bucket).await);
    let me = scope("red", "ann");
    let batch = |n: usize| -> Vec<Entry> {
        let numbers = (0..5).map(|k| n * 5 + k);
        numbers
            .map(|k| entry(of(&me), &format!("buoy number{k}"), towards(k, 0.1)))
            .collect()
    };
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..BATCHES).map(|n| (batch(n), batch(BATCHES + n))).unzip();
    let both: Vec<Vec<Entry>> = (0..BATCHES).map(|n| batch(2 * BATCHES + n)).collect();
    let gone: Vec<Uuid> = ours.iter().map(|batch| batch[0].id).collect();
    let write = async |index: &LanceIndex, own: &[Vec<Entry>], removes: bool| {
        for (own, shared) in own.iter().zip(&both) {
            index.upsert(shared.clone()).await.unwrap();
            index.upsert(own.clone()).await.unwrap();
            if removes {
                let (team, parents) = ("red".to_owned(), vec![own[0].id]);
                index.remove(Removal::Parents { team, parents }).await.unwrap();
            }
        }
    };
    let tidy = async {
        for _ in 0..3 {
            // Another's write may be in the way: then it is tidied another time.
            let _ = b.optimize().await;
        }
    };
    tokio::join!(write(&a, &ours, true), write(&b, &theirs, false), tidy);
    b.optimize().await.unwrap();
    let written = ours.iter().chain(&theirs).chain(&both).flatten();
    let expected: HashSet<Uuid> = written.map(|entry| entry.id).filter(|id| !gone.contains(id)).collect();
    for index in [&a, &b, &open(&bucket).await] {
        assert_eq!(index.len().await.unwrap(), expected.len() as u64);
        assert_eq!(found(index, &me, ask("buoy", None, 1_000)).await, expected);
    }
}

#[tokio::test]
async fn what_was_removed_and_purged_leaves_the_object_store() {
    let url = s3::bucket_url().await;
    let bucket = Bucket::new(&url, s3::options(&s3::server())).unwrap();
    let index = open(&bucket).await;
    let me = scope("red", "ann");
    let said = |text: &str| entry(of(&me), text, towards(0, 0.0));
    let (kept, gone) = (said("the lighthouse"), said("the submarine"));
    index.upsert(vec![kept.clone(), gone.clone()]).await.unwrap();
    index.optimize().await.unwrap();
    let told = async |word: &str| {
        let contents = s3::contents(&url).await;
        let has = |bytes: &[u8]| bytes.windows(word.len()).any(|bytes| bytes == word.as_bytes());
        contents.iter().any(|(_, bytes)| has(bytes))
    };
    assert!(told(&gone.id.to_string()).await, "or else nothing is tested");
    let (team, parents) = ("red".to_owned(), vec![gone.id]);
    index.remove(Removal::Parents { team, parents }).await.unwrap();
    index.purge().await.unwrap();
    assert!(told(&kept.id.to_string()).await);
    for word in [gone.id.to_string().as_str(), "submarin"] {
        assert!(!told(word).await, "`{word}` is still there");
    }
    assert_eq!(
        found(&index, &me, ask("lighthouse", None, 10)).await,
        HashSet::from([kept.id])
    );
}

#[tokio::test]
async fn another_embedder_is_refused_in_an_object_store_until_it_is_rebuilt() {
    let bucket = s3::bucket().await;
    let me = scope("red", "ann");
    let old = open(&bucket).await;
    old.upsert(vec![entry(of(&me), "text", towards(0, 0.0))]).await.unwrap();
    let refused = LanceIndex::open(bucket.clone(), 16, "new@1").await.err().unwrap();
    assert!(refused.to_string().contains("habit reindex"), "{refused}");
    let new = LanceIndex::rebuild(bucket.clone(), 16, "new@1").await.unwrap();
    assert_eq!(new.len().await.unwrap(), 0);
    // A gateway that still has the old one open can't spoil the new one.
    assert!(old.upsert(vec![entry(of(&me), "more", towards(0, 0.0))]).await.is_err());
    let long = Entry {
        vector: vec![0.25; 16],
        ..entry(of(&me), "a longer vector", Vec::new())
    };
    new.upsert(vec![long.clone()]).await.unwrap();
    let again = LanceIndex::open(bucket, 16, "new@1").await.unwrap();
    let found = again.search(&me, ask("longer", None, 10)).await.unwrap();
    assert_eq!(found.iter().map(|hit| hit.id).collect::<Vec<_>>(), [long.id]);
}

#[tokio::test]
async fn an_object_store_that_is_away_is_told_and_what_is_in_memory_is_found() {
    let line = Line::to(&s3::server()).await;
    let bucket = Bucket::new(&s3::bucket_url().await, s3::options(&line.url())).unwrap();
    let shelves = Shelves::new(Arc::new(open(&bucket).await), DIMENSIONS, 1 << 20);
    let me = scope("red", "ann");
    let before = entry(of(&me), "an old buoy", towards(0, 0.0));
    shelves.upsert(vec![before.clone()]).await.unwrap();
    shelves.hold().await.unwrap();
    line.cut();
    assert_eq!(
        found(&shelves, &me, ask("buoy", None, 10)).await,
        HashSet::from([before.id])
    );
    let after = entry(of(&me), "a new buoy", towards(0, 0.0));
    let error = shelves.upsert(vec![after.clone()]).await.unwrap_err().to_string();
    assert!(error.contains("s3://"), "{error}");
    let error = LanceIndex::open(bucket, DIMENSIONS, "test@1")
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("object store"), "{error}");
    line.mend();
    shelves.upsert(vec![after.clone()]).await.unwrap();
    assert_eq!(
        found(&shelves, &me, ask("buoy", None, 10)).await,
        HashSet::from([before.id, after.id])
    );
}

/// A gateway: what it holds in memory of an index that others use, following what they write.
struct Gateway {
    shelves: Arc<Shelves>,
    stop: CancellationToken,
}

impl Gateway {
    async fn start(index: &Arc<dyn Index>, feed: Feed) -> Self {
        let reader = feed.reader().await.unwrap();
        let shelves = Shelves::new(Arc::clone(index), DIMENSIONS, 1 << 20).with_feed(feed);
        let (shelves, stop) = (Arc::new(shelves), CancellationToken::new());
        shelves.hold().await.unwrap();
        let (follower, end) = (Arc::clone(&shelves), stop.clone());
        tokio::spawn(async move { follower.follow(reader, end).await });
        Self { shelves, stop }
    }

    /// Waits until that is what it finds.
    async fn finds(&self, me: &Scope, expected: &[Uuid]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let expected: HashSet<Uuid> = expected.iter().copied().collect();
        loop {
            let ids = found(&*self.shelves, me, ask("buoy", None, 100)).await;
            if ids == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{ids:?}, not {expected:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Laws of news, over an index that two have.
async fn news_reach_the_other(index: Arc<dyn Index>, journals: [&SeaJournal; 2]) {
    let [a, b] = journals.map(|journal| journal.feed(Arc::new(SystemClock)));
    let (a, b) = (Gateway::start(&index, a).await, Gateway::start(&index, b).await);
    let (ann, bob) = (scope("red", "ann"), scope("red", "bob"));
    // Both know that there is nothing, and so keep nothing of it.
    a.finds(&ann, &[]).await;
    b.finds(&ann, &[]).await;
    let buoys: Vec<Entry> = (0..3).map(|n| entry(of(&ann), "a buoy", towards(n, 0.0))).collect();
    a.shelves.upsert(buoys.clone()).await.unwrap();
    let team = entry(Owner { user: None, ..of(&ann) }, "the team's buoy", towards(0, 0.0));
    b.shelves.upsert(vec![team.clone()]).await.unwrap();
    let ids: Vec<Uuid> = buoys.iter().map(|entry| entry.id).collect();
    for gateway in [&a, &b] {
        gateway.finds(&ann, &[ids[0], ids[1], ids[2], team.id]).await;
        gateway.finds(&bob, &[team.id]).await;
    }
    let (team_name, parents) = ("red".to_owned(), vec![ids[0], team.id]);
    let removal = Removal::Parents {
        team: team_name.clone(),
        parents,
    };
    b.shelves.remove(removal).await.unwrap();
    let changed = Entry {
        text: "a ship".to_owned(),
        ..buoys[1].clone()
    };
    b.shelves.upsert(vec![changed]).await.unwrap();
    a.finds(&ann, &[ids[2]]).await;
    a.finds(&bob, &[]).await;
    let user = ann.user().to_owned();
    a.shelves.remove(Removal::User { team: team_name, user }).await.unwrap();
    b.finds(&ann, &[]).await;
    b.shelves.upsert(vec![buoys[0].clone()]).await.unwrap();
    a.finds(&ann, &[ids[0]]).await;
    a.shelves.remove(Removal::All).await.unwrap();
    b.finds(&ann, &[]).await;
}

#[tokio::test]
async fn news_reach_the_other_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let journal = SeaJournal::open(&dir.path().join("habit.db")).await.unwrap();
    news_reach_the_other(Arc::new(RamIndex::new(DIMENSIONS)), [&journal, &journal]).await;
}

#[tokio::test]
async fn news_reach_the_other_gateway_over_an_object_store() {
    let dir = tempfile::tempdir().unwrap();
    let journal = SeaJournal::open(&dir.path().join("habit.db")).await.unwrap();
    let index = Arc::new(open(&s3::bucket().await).await);
    news_reach_the_other(index, [&journal, &journal]).await;
}

/// A clock that is ahead.
struct Ahead(Duration);

impl Clock for Ahead {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + i64::try_from(self.0.as_millis()).unwrap()
    }
}

#[tokio::test]
async fn news_are_heard_once_and_what_was_missed_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let journal = SeaJournal::open(&dir.path().join("habit.db")).await.unwrap();
    let (a, b) = (journal.feed(Arc::new(SystemClock)), journal.feed(Arc::new(SystemClock)));
    let mut reader = b.reader().await.unwrap();
    let put = || News::Put(vec![Uuid::now_v7()]);
    let told = [put(), News::Removed(Removal::All), put()];
    for news in &told {
        a.tell(news).await.unwrap();
    }
    b.tell(&put()).await.unwrap();
    let heard = reader.read().await.unwrap();
    assert_eq!(
        (heard.missed, heard.news.as_slice()),
        (false, told.as_slice()),
        "and not its own"
    );
    assert_eq!(reader.read().await.unwrap().news, []);
    a.tell(&told[0]).await.unwrap();
    assert_eq!(reader.read().await.unwrap().news, [told[0].clone()]);

    // Away for two hours, while others tell and old news are thrown away.
    let mut away = b.reader().await.unwrap();
    a.tell(&told[0]).await.unwrap();
    a.tell(&told[1]).await.unwrap();
    let later = journal.feed(Arc::new(Ahead(Duration::from_hours(2))));
    later.prune().await.unwrap();
    let heard = away.read().await.unwrap();
    assert_eq!(
        (heard.missed, heard.news.as_slice()),
        (true, &told[1..2]),
        "the newest stays"
    );
    later.tell(&told[2]).await.unwrap();
    let heard = away.read().await.unwrap();
    assert_eq!((heard.missed, heard.news.as_slice()), (false, &told[2..]));
    // Who begins now has missed nothing.
    later.prune().await.unwrap();
    let mut new = b.reader().await.unwrap();
    later.tell(&told[0]).await.unwrap();
    assert!(!new.read().await.unwrap().missed);
}
