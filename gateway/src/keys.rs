//! Keys: `hb-<public>-<secret>`. The public part names a key in lists and logs; of the secret (256 random bits) only
//! the SHA-256 is kept, which needs no salt or stretching, because such a secret can't be guessed or looked up.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use habit_memory::Scope;
use habit_memory::clock::Clock;
use habit_memory::store::entity::api_key;
use habit_memory::store::sea::{Database, Work};
use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{ActiveModelTrait, ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::auth::Caller;

mod bucket;
pub mod meter;

pub use meter::{KeyLimits, Meter};

/// By this label the short-lived keys of commands are known.
pub const OF_A_COMMAND: &str = "short-lived key of a command";

/// How long a verified key is trusted without asking the database: short enough that a revoked key (another process
/// may have revoked it) stops working before anyone has put the phone down.
const CACHE_TTL: Duration = Duration::from_secs(2);

/// Verified keys that are kept; beyond that the cache starts afresh.
const CACHE_SIZE: usize = 4096;

/// Why keys could not be made, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The database said no.
    #[error("the keys in the database can't be reached: {0}")]
    Storage(String),
    /// The name of the team or the user won't do.
    #[error(transparent)]
    Name(#[from] habit_memory::scope::BadName),
    /// The machine has no randomness to give.
    #[error("no random numbers could be had from the operating system: {0}")]
    Random(String),
    /// A limit that no request could pass.
    #[error("the limit `{0}` must be at least 1; leave it out for no limit")]
    Limit(&'static str),
    /// This process has one fixed key.
    #[error("this process serves one fixed key: keys are made where the data is")]
    Fixed,
}

/// What the database's error means.
fn trouble(database: &Database) -> impl Fn(DbErr) -> KeyError {
    move |error| KeyError::Storage(database.explain(&error).to_string())
}

/// What a new key is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewKey {
    /// The team whose memory it reaches.
    pub team: String,
    /// The user as whom it writes.
    pub user: String,
    /// May use the administrative routes.
    pub admin: bool,
    /// What it is for, in the owner's words.
    pub label: String,
    /// When it stops working, in Unix milliseconds.
    pub expires_at: Option<i64>,
    /// What it may use.
    pub limits: KeyLimits,
}

/// A key as it is listed: everything but the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// The public part.
    pub id: String,
    /// The team whose memory it reaches.
    pub team: String,
    /// The user as whom it writes.
    pub user: String,
    /// May use the administrative routes.
    pub admin: bool,
    /// What it is for.
    pub label: String,
    /// When it was made, in Unix milliseconds.
    pub created_at: i64,
    /// When it stops working, in Unix milliseconds.
    pub expires_at: Option<i64>,
    /// When it was revoked, in Unix milliseconds.
    pub revoked_at: Option<i64>,
    /// What it may use.
    pub limits: KeyLimits,
}

impl KeyInfo {
    /// Whether it opens anything at this time.
    #[must_use]
    pub fn is_live(&self, now_ms: i64) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| end > now_ms)
    }
}

/// A key that was just made: the one moment in which its secret is known.
#[derive(Clone)]
pub struct CreatedKey {
    /// What was made.
    pub info: KeyInfo,
    /// The whole key, to be shown once.
    pub key: String,
}

/// The keys; cheap to clone.
#[derive(Clone)]
pub struct KeyStore {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    clock: Arc<dyn Clock>,
    /// SHA-256 of a whole key that was verified -> when, and who it is.
    verified: Mutex<HashMap<[u8; 32], (Instant, Caller)>>,
    /// Key -> what it has used, of keys with limits. Kept as long as the process: a key must not gain by being looked
    /// up again.
    meters: Mutex<HashMap<String, Arc<Meter>>>,
}

enum Source {
    Database(Database),
    /// The SHA-256 of one whole key, for a process without a database.
    Fixed([u8; 32], Caller),
}

impl KeyStore {
    /// The keys of a database whose migrations have run.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self::of(Source::Database(database), clock)
    }

    /// One fixed key that belongs to the given caller, for a process without a database (`habit worker --key`).
    #[must_use]
    pub fn fixed(key: &str, caller: Caller, clock: Arc<dyn Clock>) -> Self {
        Self::of(Source::Fixed(sha256(key), caller), clock)
    }

    fn of(source: Source, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner: Arc::new(Inner {
                source,
                clock,
                verified: Mutex::default(),
                meters: Mutex::default(),
            }),
        }
    }

    /// Who this key belongs to; `None` if it is unknown, wrong, expired or revoked.
    ///
    /// # Errors
    /// [`KeyError::Storage`].
    pub async fn verify(&self, key: &str) -> Result<Option<Caller>, KeyError> {
        let full = sha256(key);
        let database = match &self.inner.source {
            Source::Fixed(expected, caller) => return Ok(bool::from(expected.ct_eq(&full)).then(|| caller.clone())),
            Source::Database(database) => database,
        };
        if let Some(caller) = self.cached(&full) {
            return Ok(Some(caller));
        }
        let Some((public, secret)) = parts(key) else {
            return Ok(None);
        };
        let Some(row) = api_key::Entity::find_by_id(public)
            .one(database)
            .await
            .map_err(trouble(database))?
        else {
            return Ok(None);
        };
        let same: bool = hex::encode(sha256(secret))
            .as_bytes()
            .ct_eq(row.secret_sha256.as_bytes())
            .into();
        let info = KeyInfo::from(row);
        if !same || !info.is_live(self.inner.clock.now_ms()) {
            return Ok(None);
        }
        let caller = Caller {
            meter: self.meter(&info),
            key_id: info.id,
            scope: Scope::new(info.team, info.user)?,
            admin: info.admin,
        };
        let mut verified = self.inner.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= CACHE_SIZE {
            verified.clear();
        }
        verified.insert(full, (Instant::now(), caller.clone()));
        Ok(Some(caller))
    }

    /// The meter of a key with limits: the one that it had, unless its limits have changed.
    fn meter(&self, key: &KeyInfo) -> Option<Arc<Meter>> {
        let mut meters = self.inner.meters.lock().unwrap_or_else(PoisonError::into_inner);
        if key.limits == KeyLimits::default() {
            meters.remove(&key.id);
            return None;
        }
        let known = meters.get(&key.id).filter(|meter| *meter.limits() == key.limits);
        let meter = known
            .cloned()
            .unwrap_or_else(|| Arc::new(Meter::new(key.limits.clone())));
        meters.insert(key.id.clone(), Arc::clone(&meter));
        Some(meter)
    }

    fn cached(&self, full: &[u8; 32]) -> Option<Caller> {
        let verified = self.inner.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified
            .get(full)
            .filter(|(at, _)| at.elapsed() < CACHE_TTL)
            .map(|(_, caller)| caller.clone())
    }

    /// Makes a key.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn create(&self, new: NewKey) -> Result<CreatedKey, KeyError> {
        let database = self.database()?;
        let scope = Scope::new(new.team, new.user)?;
        let limits = new.limits;
        let numbers = [
            ("rpm", limits.requests_per_minute),
            ("tpm", limits.tokens_per_minute),
            ("concurrency", limits.concurrency),
        ];
        if let Some((name, _)) = numbers.iter().find(|(_, number)| *number == Some(0)) {
            return Err(KeyError::Limit(name));
        }
        let (public, secret) = (random::<8>()?, random::<32>()?);
        let row = api_key::Model {
            public_id: public.clone(),
            secret_sha256: hex::encode(sha256(&secret)),
            team: scope.team().to_owned(),
            user: scope.user().to_owned(),
            admin: new.admin,
            label: new.label,
            created_at: self.inner.clock.now_ms(),
            expires_at: new.expires_at,
            revoked_at: None,
            requests_per_minute: limits.requests_per_minute.map(i64::from),
            tokens_per_minute: limits.tokens_per_minute.map(i64::from),
            concurrency: limits.concurrency.map(i64::from),
            models: limits.models.map(|models| serde_json::Value::from(models).to_string()),
        };
        let info = KeyInfo::from(row.clone());
        let row: api_key::ActiveModel = row.into();
        api_key::Entity::insert(row.reset_all())
            .exec_without_returning(database)
            .await
            .map_err(trouble(database))?;
        Ok(CreatedKey {
            info,
            key: format!("hb-{public}-{secret}"),
        })
    }

    /// Makes a key where none works yet. Of several processes that begin at once with an empty database, one does.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn create_first(&self, new: NewKey) -> Result<Option<CreatedKey>, KeyError> {
        if self.any_live().await? {
            return Ok(None);
        }
        let alone = self.database()?.alone(Work::FirstKey).await;
        let alone = alone.map_err(|error| KeyError::Storage(error.to_string()))?;
        if self.any_live().await? {
            return Ok(None);
        }
        let created = self.create(new).await?;
        drop(alone);
        Ok(Some(created))
    }

    /// The keys of one team, or of all, newest first.
    ///
    /// # Errors
    /// [`KeyError::Storage`], [`KeyError::Fixed`].
    pub async fn list(&self, team: Option<&str>) -> Result<Vec<KeyInfo>, KeyError> {
        let mut query = api_key::Entity::find();
        if let Some(team) = team {
            query = query.filter(api_key::Column::Team.eq(team));
        }
        let query = query
            .order_by_desc(api_key::Column::CreatedAt)
            .order_by_desc(api_key::Column::PublicId);
        let database = self.database()?;
        let rows = query.all(database).await.map_err(trouble(database))?;
        Ok(rows.into_iter().map(KeyInfo::from).collect())
    }

    /// Revokes a key of this team (of any, if none is given): it stops working within two seconds everywhere. Returns
    /// false if there is none. A key that was revoked before stays revoked since then.
    ///
    /// # Errors
    /// [`KeyError::Storage`], [`KeyError::Fixed`].
    pub async fn revoke(&self, id: &str, team: Option<&str>) -> Result<bool, KeyError> {
        let database = self.database()?;
        let Some(row) = api_key::Entity::find_by_id(id)
            .one(database)
            .await
            .map_err(trouble(database))?
        else {
            return Ok(false);
        };
        if team.is_some_and(|team| team != row.team) {
            return Ok(false);
        }
        if row.revoked_at.is_none() {
            let revoked_at = Set(Some(self.inner.clock.now_ms()));
            let change = api_key::ActiveModel {
                public_id: Unchanged(row.public_id),
                revoked_at,
                ..Default::default()
            };
            change.update(database).await.map_err(trouble(database))?;
        }
        self.forget(id);
        Ok(true)
    }

    /// Removes a key from the database altogether: for the short-lived keys of commands, which would fill the list.
    ///
    /// # Errors
    /// [`KeyError::Storage`], [`KeyError::Fixed`].
    pub async fn erase(&self, id: &str) -> Result<(), KeyError> {
        let database = self.database()?;
        let deleted = api_key::Entity::delete_by_id(id).exec(database).await;
        deleted.map_err(trouble(database))?;
        self.forget(id);
        Ok(())
    }

    /// The users of a team with keys that work now, short-lived ones of commands aside.
    ///
    /// # Errors
    /// [`KeyError::Storage`], [`KeyError::Fixed`].
    pub async fn people(&self, team: &str) -> Result<BTreeSet<String>, KeyError> {
        let now = self.inner.clock.now_ms();
        let keys = self.list(Some(team)).await?.into_iter();
        let live = keys.filter(|key| key.is_live(now) && key.label != OF_A_COMMAND);
        Ok(live.map(|key| key.user).collect())
    }

    /// Whether any key works now, short-lived ones aside.
    ///
    /// # Errors
    /// [`KeyError::Storage`], [`KeyError::Fixed`].
    pub async fn any_live(&self) -> Result<bool, KeyError> {
        let now = self.inner.clock.now_ms();
        Ok(self
            .list(None)
            .await?
            .iter()
            .any(|key| key.expires_at.is_none() && key.is_live(now)))
    }

    fn forget(&self, id: &str) {
        let mut verified = self.inner.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.retain(|_, (_, caller)| caller.key_id != id);
    }

    fn database(&self) -> Result<&Database, KeyError> {
        match &self.inner.source {
            Source::Database(database) => Ok(database),
            Source::Fixed(..) => Err(KeyError::Fixed),
        }
    }
}

impl From<api_key::Model> for KeyInfo {
    fn from(row: api_key::Model) -> Self {
        Self {
            id: row.public_id,
            team: row.team,
            user: row.user,
            admin: row.admin,
            label: row.label,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            limits: KeyLimits {
                requests_per_minute: number(row.requests_per_minute),
                tokens_per_minute: number(row.tokens_per_minute),
                concurrency: number(row.concurrency),
                // What can't be read must not open everything.
                models: row
                    .models
                    .map(|models| serde_json::from_str(&models).unwrap_or_default()),
            },
        }
    }
}

/// A limit of the database; one that no u32 holds is as good as none.
fn number(stored: Option<i64>) -> Option<u32> {
    stored.and_then(|number| u32::try_from(number).ok())
}

fn parts(key: &str) -> Option<(&str, &str)> {
    let (public, secret) = key.strip_prefix("hb-")?.split_once('-')?;
    let fits = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    (fits(public, 16) && fits(secret, 64)).then_some((public, secret))
}

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// `N` random bytes in hex.
fn random<const N: usize>() -> Result<String, KeyError> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(|error| KeyError::Random(error.to_string()))?;
    Ok(hex::encode(bytes))
}
