//! `habit keys`: works on the database itself, whether or not a server runs.

use habit_memory::clock::{Clock, SystemClock};
use jiff::Timestamp;

use crate::cli::{Common, Keys};
use crate::keys::{KeyInfo, KeyLimits, NewKey};
use crate::wiring;

/// A day, in milliseconds.
const DAY_MS: i64 = 24 * 3600 * 1000;

/// Makes, lists or revokes keys.
///
/// # Errors
/// With what to do about it.
pub async fn run(common: &Common, what: Keys) -> anyhow::Result<()> {
    let config = common.load(Vec::new())?;
    let keys = wiring::open_keys(&config).await?;
    let now = SystemClock.now_ms();
    match what {
        Keys::Create {
            team,
            user,
            admin,
            label,
            expires_days,
            rpm,
            tpm,
            concurrency,
            models,
        } => {
            let expires_at = expires_days.map(|days| now.saturating_add(i64::from(days) * DAY_MS));
            let created = keys
                .create(NewKey {
                    team,
                    user,
                    admin,
                    label,
                    expires_at,
                    limits: KeyLimits {
                        requests_per_minute: rpm,
                        tokens_per_minute: tpm,
                        concurrency,
                        models: (!models.is_empty()).then_some(models),
                    },
                })
                .await?;
            let KeyInfo { team, user, .. } = created.info;
            // The key alone goes to standard output: `KEY=$(habit keys create …)` works.
            eprintln!("a key for user `{user}` of team `{team}`; it is shown this once:");
            println!("{}", created.key);
        }
        Keys::List { team } => {
            let list = keys.list(team.as_deref()).await?;
            if list.is_empty() {
                eprintln!("there are no keys; `habit keys create` makes one, and so does the first `habit serve`");
            } else {
                println!(
                    "{:<16}  {:<16}  {:<16}  {:<5}  {:<10}  {:<12}  {:<24}  LABEL",
                    "ID", "TEAM", "USER", "ADMIN", "CREATED", "STATE", "LIMITS"
                );
            }
            for key in list {
                let (admin, created, state) = (
                    if key.admin { "yes" } else { "" },
                    date(key.created_at),
                    state(&key, now),
                );
                let limits = limits(&key.limits);
                let KeyInfo {
                    id, team, user, label, ..
                } = key;
                println!(
                    "{id:<16}  {team:<16}  {user:<16}  {admin:<5}  {created:<10}  {state:<12}  {limits:<24}  {label}"
                );
            }
        }
        Keys::Revoke { id } => {
            // The whole key is taken too: that is what people have at hand.
            let id = id.strip_prefix("hb-").unwrap_or(&id);
            let id = id.split('-').next().unwrap_or(id);
            if !keys.revoke(id, None).await? {
                anyhow::bail!("there is no key `{id}`; `habit keys list` shows them");
            }
            eprintln!("the key {id} is revoked");
        }
    }
    Ok(())
}

fn state(key: &KeyInfo, now: i64) -> &'static str {
    match key {
        _ if key.revoked_at.is_some() => "revoked",
        _ if !key.is_live(now) => "expired",
        _ if key.expires_at.is_some() => "until later",
        _ => "works",
    }
}

/// What a key may use, in a few words.
fn limits(limits: &KeyLimits) -> String {
    let numbers = [
        (limits.requests_per_minute, "rpm"),
        (limits.tokens_per_minute, "tpm"),
        (limits.concurrency, "at once"),
    ];
    let mut words: Vec<String> = numbers
        .into_iter()
        .filter_map(|(number, what)| Some(format!("{} {what}", number?)))
        .collect();
    words.extend(limits.models.as_ref().map(|models| models.join(" ")));
    words.join(", ")
}

/// The day of a Unix time in milliseconds (UTC).
pub(super) fn date(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}
