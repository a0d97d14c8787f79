//! Who may write, and what a successor must know: kept in the target, where every runner can read it.
//!
//! One runner holds the fence; another takes it over only when the heartbeat is stale or it is told to. The fence is
//! checked inside every script that writes, so the one that lost it cannot.

use std::sync::{Arc, atomic::AtomicU64};

use serde::{Deserialize, Serialize};

use super::{
    Endpoint,
    apply::Fence,
    base::discard,
    error::CopyError,
    key::Ours,
    link::{Link, bytes, int, items, text},
    progress::{Progress, Sides},
};

/// A heartbeat older than this, in milliseconds, is nobody's.
pub(crate) const STALE: i64 = 5_000;

/// What a successor must know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The target has been looked over before anything was written: what differs from now on is ours.
    pub(crate) owned: bool,
    /// The bases are complete.
    pub(crate) sealed: bool,
    /// Buckets of each pair's base.
    pub(crate) buckets: Vec<u32>,
    /// The pairs of databases.
    pub(crate) databases: Vec<(u32, u32)>,
    /// The old store's clock minus the new one's; measured once, so that deadlines stay comparable.
    pub(crate) shift: i64,
    /// The stores' counters of evicted keys when they were sealed.
    pub(crate) evicted: Sides<Option<u64>>,
    /// `notify-keyspace-events` as it was before us, where we changed it.
    pub(crate) notify: Sides<Option<String>>,
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
pub(crate) async fn grasp(control: &mut Link, ours: &Ours, fence: &Fence, force: bool) -> Result<Grasp, CopyError> {
    const GRASP: &str = r"
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local fence = redis.call('GET', KEYS[1])
local beat = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
local mine = fence and string.sub(fence, 1, #ARGV[2]) == ARGV[2]
if fence and not mine and ARGV[4] == '0' and now - beat < tonumber(ARGV[3]) then return {0, fence, now - beat} end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], string.format('%.0f', now))
return {1, fence or '', now - math.abs(beat)}
";
    let runner = fence.token.rsplit_once('#').map_or("", |(runner, _)| runner);
    let mut command = redis::cmd("EVAL");
    command.arg(GRASP).arg(2).arg(&fence.key).arg(ours.heartbeat());
    command.arg(&fence.token).arg(format!("{runner}#")).arg(STALE).arg(u8::from(force));
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

/// Puts the fence into a database that is written, whoever's was there: `grasp` has decided.
pub(crate) async fn plant(link: &mut Link, fence: &Fence) -> Result<(), CopyError> {
    link.ask("SET", redis::cmd("SET").arg(&fence.key).arg(&fence.token)).await.map(drop)
}

/// Says that we are alive; the time is the store's.
pub(crate) async fn beat(control: &mut Link, ours: &Ours, fence: &Fence, progress: &str) -> Result<i64, CopyError> {
    const BEAT: &str = r"
local fence = redis.call('GET', KEYS[1])
if fence ~= ARGV[1] then return {'FENCED', fence or ''} end
local now = redis.call('TIME')
now = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('SET', KEYS[2], now)
redis.call('SET', KEYS[3], ARGV[2])
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
    super::apply::hold(control, fence, &ours.heartbeat(), format!("-{now}").as_bytes()).await
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
    super::apply::hold(control, fence, &ours.record(), &text).await
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

/// Reads what a migration has left in its target; `None` where it has left nothing.
pub async fn read_progress(to: &Endpoint, migration: &str) -> Result<Option<Stored>, CopyError> {
    let ours = Ours::new(migration);
    let mut link = Link::open(to, to.database, Arc::new(AtomicU64::new(0))).await?;
    let Some(record) = read_record(&mut link, &ours).await? else { return Ok(None) };
    let mut commands = redis::pipe();
    commands.cmd("GET").arg(ours.progress()).cmd("GET").arg(ours.heartbeat()).cmd("TIME");
    let mut replies = link.ask_all("GET", &commands).await?.into_iter();
    let progress = replies.next().and_then(bytes).and_then(|text| serde_json::from_slice(&text).ok());
    let beat = replies.next().and_then(|beat| int(&beat)).filter(|beat| *beat > 0);
    let now = replies.next().and_then(super::link::time);
    let silent = now.zip(beat).map(|(now, beat)| u64::try_from(now - beat).unwrap_or_default());
    Ok(Some(Stored { sealed: record.sealed, progress, silent_for: silent.map(std::time::Duration::from_millis) }))
}

/// Removes every trace of ours from both stores and puts their settings back. Only when no runner is left.
pub async fn clear(from: &Endpoint, to: &Endpoint, migration: &str) -> Result<(), CopyError> {
    let ours = Ours::new(migration);
    let spent = || Arc::new(AtomicU64::new(0));
    let mut target = Link::open(to, to.database, spent()).await?;
    let record = read_record(&mut target, &ours).await?.unwrap_or_default();
    let mut source = Link::open(from, from.database, spent()).await?;
    for (link, former) in [(&mut source, &record.notify.source), (&mut target, &record.notify.target)] {
        if let Some(former) = former {
            super::feed::set_notify(link, former).await?;
        }
    }
    // The record last: a second try must still find what the first one knew.
    for (database, _) in &record.databases {
        let mut source = Link::open(from, *database, spent()).await?;
        discard(&mut source, &ours.pattern()).await?;
    }
    discard(&mut source, &ours.pattern()).await?;
    for (_, database) in record.databases.iter().filter(|(_, database)| *database != to.database) {
        let mut target = Link::open(to, *database, spent()).await?;
        discard(&mut target, &ours.pattern()).await?;
    }
    discard(&mut target, &ours.pattern()).await
}
