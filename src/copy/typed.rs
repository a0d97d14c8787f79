//! Writing command by command, where a store gives no dumps or takes none: watched, so that a key that moved stays.
//!
//! Slow, one key at a time; everything else goes through the script of `apply`.

use redis::{Pipeline, Value};

use super::{
    apply::{Applied, BaseMove, Expect, Fence, Mark, Op, SLACK, Write},
    base::encode,
    error::CopyError,
    key::prefix,
    link::{Link, items, text},
    read::read,
    run::Lane,
    value::Payload,
};
use crate::merge::Side;

/// Writes ops to a side that needs no mark: by the script, and what no dump can carry command by command.
pub(crate) async fn write_all(
    fence: &Fence,
    lane: &mut Lane,
    side: Side,
    ops: &[Op<'_>],
) -> Result<Vec<Applied>, CopyError> {
    if ops.is_empty() {
        return Ok(Vec::new());
    }
    let (mut typed, mut plain, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (at, op) in ops.iter().enumerate() {
        if needs_typed(lane, side, &op.write, &op.expect) {
            typed.push(at);
        } else {
            plain.push(op.clone());
            places.push(at);
        }
    }
    let mut applied = vec![Applied::Moved; ops.len()];
    let written = lane.writers.on(side).apply(lane.links.on_mut(side), fence, &plain, &Mark::None).await?;
    for (at, done) in places.into_iter().zip(written) {
        if done == Applied::NoDump {
            *lane.no_dump.on_mut(side) = true;
            typed.push(at);
        }
        if let Some(slot) = applied.get_mut(at) {
            *slot = done;
        }
    }
    for at in typed {
        if let (Some(op), Some(slot)) = (ops.get(at), applied.get_mut(at)) {
            *slot = apply_typed(lane.links.on_mut(side), fence, op, &Mark::None).await?;
        }
    }
    Ok(applied)
}

/// The script compares and writes dumps; where there is none, or the store refuses them, it cannot.
pub(crate) fn needs_typed(lane: &Lane, side: Side, write: &Write<'_>, expect: &Expect<'_>) -> bool {
    let blind = |payload: &Payload| matches!(payload, Payload::Typed { dump: None, .. });
    let written = match write {
        Write::Put(payload @ Payload::Typed { .. }, _) => *lane.no_dump.on(side) || blind(payload),
        Write::Put(Payload::Text(_), _) | Write::Renew(_) | Write::Delete | Write::Nothing => false,
    };
    let expected = match expect {
        Expect::Is(seen) => blind(&seen.payload),
        Expect::Any | Expect::Absent => false,
    };
    written || expected
}

/// Writes command by command, where dumps are not given or not taken: watched, so that a key that moved stays.
pub(crate) async fn apply_typed(
    link: &mut Link,
    fence: &Fence,
    op: &Op<'_>,
    mark: &Mark,
) -> Result<Applied, CopyError> {
    let mut commands = redis::pipe();
    commands.cmd("MULTI");
    write_typed(&mut commands, link.store(), op)?;
    if !still_as_expected(link, fence, op).await? {
        return Ok(Applied::Moved);
    }
    finish_typed(&mut commands, op, mark);
    commands.cmd("EXEC");
    let mut replies = link.ask_all("EXEC", &commands).await?;
    let last = replies.pop().unwrap_or_default();
    for reply in replies {
        link.check("MULTI", reply)?;
    }
    match link.check("EXEC", last)? {
        Value::Nil => Ok(Applied::Moved),
        done => {
            for reply in items(done).unwrap_or_default() {
                link.check("EXEC", reply)?;
            }
            Ok(Applied::Done)
        }
    }
}

fn write_typed(commands: &mut Pipeline, store: &str, op: &Op<'_>) -> Result<(), CopyError> {
    let ends = match op.write {
        Write::Put(Payload::Typed { content, .. }, deadline) => {
            let writing = content.writing(op.name);
            if writing.is_empty() {
                let detail = "its type is known to the other store only".into();
                return Err(CopyError::Refused { store: store.into(), prefix: prefix(op.name), detail });
            }
            commands.cmd("DEL").arg(op.name);
            writing.cmd_iter().for_each(|command| {
                commands.add_command(command.clone());
            });
            deadline.millis()
        }
        Write::Put(Payload::Text(text), deadline) => {
            commands.cmd("SET").arg(op.name).arg(text.as_slice());
            deadline.millis()
        }
        Write::Renew(deadline) => {
            commands.cmd("PERSIST").arg(op.name);
            deadline.millis()
        }
        Write::Delete => {
            commands.cmd("DEL").arg(op.name);
            None
        }
        Write::Nothing => None,
    };
    if let Some(at) = ends {
        commands.cmd("PEXPIREAT").arg(op.name).arg(at);
    }
    Ok(())
}

fn finish_typed(commands: &mut Pipeline, op: &Op<'_>, mark: &Mark) {
    if let Some(BaseMove { bucket, hash, entry }) = &op.base {
        let field = hash.to_be_bytes();
        match entry {
            Some(entry) => commands.cmd("HSET").arg(bucket).arg(field.as_slice()).arg(encode(*entry)),
            None => commands.cmd("HDEL").arg(bucket).arg(field.as_slice()),
        };
    }
    if let Mark::Applied { key, sequence } = mark {
        commands.cmd("SET").arg(key).arg(format!("{sequence}:1"));
    }
}

/// Watches fence and key, then compares both with what they should be.
async fn still_as_expected(link: &mut Link, fence: &Fence, op: &Op<'_>) -> Result<bool, CopyError> {
    let mut commands = redis::pipe();
    commands.cmd("WATCH").arg(&fence.key).arg(op.name).cmd("GET").arg(&fence.key);
    let replies = link.ask_all("WATCH", &commands).await?;
    let holder = replies.into_iter().nth(1).map(text).unwrap_or_default();
    if holder != fence.token {
        return Err(CopyError::Fenced { by: holder });
    }
    let same = match op.expect {
        Expect::Any => true,
        Expect::Absent | Expect::Is(_) => {
            let now = read(link, &[op.name.to_vec()], 0).await?.seen.into_iter().next().flatten();
            match (op.expect, now) {
                (Expect::Is(seen), Some(now)) => {
                    seen.raw_deadline.abs_diff(now.raw_deadline) <= u64::from(SLACK)
                        && seen.entry.digest == now.entry.digest
                }
                (Expect::Absent, None) | (Expect::Any, _) => true,
                (Expect::Absent, Some(_)) | (Expect::Is(_), None) => false,
            }
        }
    };
    if !same {
        link.ask("UNWATCH", &redis::cmd("UNWATCH")).await?;
    }
    Ok(same)
}
