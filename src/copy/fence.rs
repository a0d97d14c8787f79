//! Who may write, and what a successor must know: kept in the target, where every runner can read it.
//!
//! One runner holds the fence; another takes it over only when the heartbeat is stale or it is told to. The fence is
//! checked inside every script that writes, so the one that lost it cannot. What a script writes here it deletes first:
//! a store that is full lets a script go on that has freed something, and a full store must be left like any other.

use std::sync::{Arc, atomic::AtomicU64};

use redis::{Cmd, Pipeline, Value};
use serde::{Deserialize, Serialize};

use super::{
    CopySpec, Endpoint,
    apply::Fence,
    error::CopyError,
    key::Ours,
    link::{Link, bytes, int, items, text},
    progress::{Progress, Sides, State},
};

/// A heartbeat older than this, in milliseconds, is nobody's.
pub(crate) const STALE: i64 = 5_000;

/// How often the fence is put where somebody keeps putting another one. Each of them makes sure before that it is not
/// the one that lost it, so that more than a few are somebody who does not.
const PLANTINGS: usize = 10;

/// What a successor must know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// The target has been looked over before anything was written: what differs from now on is ours.
    pub(crate) owned: bool,
    /// The bases are complete.
    pub(crate) sealed: bool,
    /// Buckets of each pair's base, which tells what we have written.
    pub(crate) buckets: Vec<u32>,
    /// The pairs of databases.
    pub(crate) databases: Vec<(u32, u32)>,
    /// The old store's clock minus the new one's; measured once, so that deadlines stay comparable.
    pub(crate) shift: i64,
    /// The stores' counters of evicted keys when they were sealed.
    pub(crate) evicted: Sides<Option<u64>>,
    /// `notify-keyspace-events` as it was before us, where we changed it.
    pub(crate) notify: Sides<Option<String>>,
    /// Stands for the rules it was begun with; nobody may go on with others.
    pub(crate) rules: Option<String>,
    /// The `retry` its base was last made for.
    pub(crate) attempt: u32,
    /// A runner has begun to make the base anew: until one has done so, no key that a store lacks was deleted there.
    pub(crate) doubted: bool,
    /// Whether it is being ended; from then on nobody may go on with it.
    pub(crate) ending: Ending,
}

/// How far the end of a copy has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ending {
    /// It has not begun.
    #[default]
    No,
    /// What was copied is being removed from the target.
    Withdrawing,
    /// Only traces are left, and perhaps not all of them.
    Clearing,
}

/// What was asked of the fence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Grasp {
    /// Ours now; nobody had it for so long, where anybody ever did.
    Taken { silent_ms: Option<i64> },
    /// Somebody else is alive.
    Held { by: String, silent_ms: i64 },
}

/// Takes the fence, if nobody alive holds it. A holder of the same runner name is an earlier life of this process.
pub(crate) async fn grasp(control: &mut Link, ours: &Ours, fence: &Fence, spec: &CopySpec) -> Result<Grasp, CopyError> {
    match grasp_from(control, ours, fence, spec.take_over, "").await? {
        Grasp::Held { by, .. } if (spec.is_gone)(runner_of(&by)) => {
            grasp_from(control, ours, fence, spec.take_over, &by).await
        }
        told => Ok(told),
    }
}

/// The runner's name in a token.
pub(crate) fn runner_of(token: &str) -> &str {
    token.rsplit_once('#').map_or(token, |(runner, _)| runner)
}

/// That somebody else is alive. In whole seconds, rounded up: what is told of it should not change at every look.
pub(crate) fn held(by: &str, silent_ms: i64) -> CopyError {
    let seconds = u64::try_from(silent_ms).unwrap_or_default().div_ceil(1000).max(1);
    CopyError::Held { by: runner_of(by).to_owned(), seconds }
}

/// The same, also where exactly `gone` holds it.
async fn grasp_from(
    control: &mut Link,
    ours: &Ours,
    fence: &Fence,
    force: bool,
    gone: &str,
) -> Result<Grasp, CopyError> {
    const GRASP: &str = r"
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local fence = redis.call('GET', KEYS[1])
local beat = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
local mine = fence and string.sub(fence, 1, #ARGV[2]) == ARGV[2]
if fence and not mine and fence ~= ARGV[5] and ARGV[4] == '0' and now - beat < tonumber(ARGV[3]) then return {0, fence, now - beat} end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], string.format('%.0f', now))
return {1, fence or '', now - math.abs(beat)}
";
    let runner = runner_of(&fence.token);
    let mut command = redis::cmd("EVAL");
    command.arg(GRASP).arg(2).arg(&fence.key).arg(ours.heartbeat());
    command.arg(&fence.token).arg(format!("{runner}#")).arg(STALE).arg(u8::from(force)).arg(gone);
    let mut reply = items(control.ask("EVAL", &command).await?).unwrap_or_default().into_iter();
    let taken = reply.next().and_then(|word| int(&word));
    let by = reply.next().map(text).unwrap_or_default();
    let silent_ms = reply.next().and_then(|word| int(&word)).unwrap_or_default();
    match taken {
        Some(1) => Ok(Grasp::Taken { silent_ms: (!by.is_empty()).then_some(silent_ms) }),
        Some(_) => Ok(Grasp::Held { by, silent_ms }),
        None => Err(control.unexpected("EVAL", "neither taken nor held")),
    }
}

/// Puts the fence into another database that is written, whoever's was there: `grasp` has decided.
///
/// One that lost the fence in the target while it stood still must not push its successor aside elsewhere: it plants
/// over what was there before it made sure that the fence is its own, and over nothing else.
pub(crate) async fn plant(control: &mut Link, ours: &Ours, link: &mut Link, fence: &Fence) -> Result<(), CopyError> {
    let mut other = String::new();
    for _ in 0..PLANTINGS {
        let before = bytes(link.ask("GET", redis::cmd("GET").arg(&fence.key)).await?).unwrap_or_default();
        beat(control, ours, fence, "").await?;
        if plant_over(link, fence, &before).await? {
            return Ok(());
        }
        other = runner_of(&String::from_utf8_lossy(&before)).to_owned();
    }
    Err(CopyError::Fenced { by: other })
}

/// Puts the fence where what was there before still is; `false`: it is not.
pub(crate) async fn plant_over(link: &mut Link, fence: &Fence, before: &[u8]) -> Result<bool, CopyError> {
    const PLANT: &str = r"
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
return 1
";
    let mut command = redis::cmd("EVAL");
    command.arg(PLANT).arg(1).arg(&fence.key).arg(&fence.token).arg(before);
    Ok(int(&link.ask("EVAL", &command).await?) == Some(1))
}

/// Sets one of our keys if the fence still holds; an empty value deletes it.
pub(crate) async fn hold(link: &mut Link, fence: &Fence, key: &str, value: &[u8]) -> Result<(), CopyError> {
    const HOLD: &str = r"
local fence = redis.call('GET', KEYS[1])
if fence ~= ARGV[1] then return {'FENCED', fence or ''} end
redis.call('DEL', KEYS[2])
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2]) end
return {'OK'}
";
    let mut command = redis::cmd("EVAL");
    command.arg(HOLD).arg(2).arg(&fence.key).arg(key).arg(&fence.token).arg(value);
    let reply = link.ask("EVAL", &command).await?;
    allowed(link, reply)
}

/// A command on our own keys that is carried out only while the fence holds: the keys first, then its arguments.
pub(crate) fn guarded(fence: &Fence, what: &str, keys: &[Vec<u8>], arguments: &[Vec<u8>]) -> Cmd {
    const GUARDED: &str = r"
local fence = redis.call('GET', KEYS[1])
if fence ~= ARGV[1] then return {'FENCED', fence or ''} end
local words = {ARGV[2]}
for i = 2, #KEYS do words[#words + 1] = KEYS[i] end
for i = 3, #ARGV do words[#words + 1] = ARGV[i] end
redis.call(unpack(words))
return {'OK'}
";
    let mut command = redis::cmd("EVAL");
    command.arg(GUARDED).arg(1 + keys.len()).arg(&fence.key).arg(keys);
    command.arg(&fence.token).arg(what).arg(arguments);
    command
}

/// Carries out guarded commands in one round trip.
pub(crate) async fn ask_guarded(link: &mut Link, what: &str, commands: &Pipeline) -> Result<(), CopyError> {
    for reply in link.ask_all(what, commands).await? {
        let reply = link.check(what, reply)?;
        allowed(link, reply)?;
    }
    Ok(())
}

fn allowed(link: &Link, reply: Value) -> Result<(), CopyError> {
    let mut words = items(reply).unwrap_or_default().into_iter().map(text);
    match words.next().as_deref() {
        Some("OK") => Ok(()),
        Some("FENCED") => Err(CopyError::Fenced { by: words.next().unwrap_or_default() }),
        _ => Err(link.unexpected("EVAL", "neither done nor fenced")),
    }
}

/// Says that we are alive; the time is the store's. An empty `progress` leaves what was said last.
pub(crate) async fn beat(control: &mut Link, ours: &Ours, fence: &Fence, progress: &str) -> Result<i64, CopyError> {
    const BEAT: &str = r"
local fence = redis.call('GET', KEYS[1])
if fence ~= ARGV[1] then return {'FENCED', fence or ''} end
local now = redis.call('TIME')
now = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[2], now)
if ARGV[2] ~= '' then redis.call('SET', KEYS[3], ARGV[2]) end
return {now}
";
    let mut command = redis::cmd("EVAL");
    command.arg(BEAT).arg(3).arg(&fence.key).arg(ours.heartbeat()).arg(ours.progress());
    command.arg(&fence.token).arg(progress);
    let mut words = items(control.ask("EVAL", &command).await?).unwrap_or_default().into_iter().map(text);
    let first = words.next().unwrap_or_default();
    if first == "FENCED" {
        return Err(CopyError::Fenced { by: words.next().unwrap_or_default() });
    }
    first.parse().map_err(|_| control.unexpected("EVAL", "no time"))
}

/// Lets another runner take over at once.
pub(crate) async fn release(control: &mut Link, ours: &Ours, fence: &Fence) -> Result<(), CopyError> {
    let now = super::read::clock(control).await?;
    // Negative: since then nobody is alive on purpose.
    hold(control, fence, &ours.heartbeat(), format!("-{now}").as_bytes()).await
}

pub(crate) async fn read_record(control: &mut Link, ours: &Ours) -> Result<Option<Record>, CopyError> {
    let stored = bytes(control.ask("GET", redis::cmd("GET").arg(ours.record())).await?);
    let parse = |stored: Vec<u8>| serde_json::from_slice(&stored).map_err(|_| control.unexpected("GET", "no record"));
    stored.map(parse).transpose()
}

pub(crate) async fn write_record(
    control: &mut Link,
    ours: &Ours,
    fence: &Fence,
    record: &Record,
) -> Result<(), CopyError> {
    let text = serde_json::to_vec(record).map_err(|_| control.unexpected("SET", "the record is not JSON"))?;
    hold(control, fence, &ours.record(), &text).await
}

/// What a migration has left in its target, for whoever does not run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whether both stores are to be kept in step.
    pub sealed: bool,
    /// What the last runner said last.
    pub progress: Option<Progress>,
    /// How long ago the runner was alive; `None` if none holds the fence.
    pub silent_for: Option<std::time::Duration>,
}

/// Reads what a migration has left in its target; `None` only where it has left nothing at all.
///
/// A runner that died before it owned anything, and an end that was interrupted, are seen too.
pub async fn read_progress(to: &Endpoint, migration: &str) -> Result<Option<Stored>, CopyError> {
    let ours = Ours::new(migration);
    let mut link = Link::open(to, to.database, Arc::new(AtomicU64::new(0))).await?;
    let record = read_record(&mut link, &ours).await?;
    let mut commands = redis::pipe();
    commands.cmd("GET").arg(ours.progress()).cmd("GET").arg(ours.heartbeat()).cmd("TIME");
    commands.cmd("EXISTS").arg(ours.fence());
    let mut replies = link.ask_all("GET", &commands).await?.into_iter();
    let progress = replies.next().and_then(bytes).and_then(|text| serde_json::from_slice(&text).ok());
    let beat = replies.next().and_then(|beat| int(&beat)).filter(|beat| *beat > 0);
    let now = replies.next().and_then(super::link::time);
    let fenced = replies.next().and_then(|exists| int(&exists)) == Some(1);
    if record.is_none() && !fenced {
        return Ok(None);
    }
    let silent = now.zip(beat).map(|(now, beat)| u64::try_from(now - beat).unwrap_or_default());
    let silent_for = silent.map(std::time::Duration::from_millis);
    let mut stored = Stored { sealed: record.as_ref().is_some_and(|record| record.sealed), progress, silent_for };
    if record.is_some_and(|record| record.ending != Ending::No) {
        // Whoever beats now does not copy.
        stored.sealed = false;
        if let Some(progress) = &mut stored.progress {
            (progress.state, progress.sealed, progress.lag) = (State::Stopped, false, None);
        }
    }
    Ok(Some(stored))
}
