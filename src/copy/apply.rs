//! Writing keys: one script that checks the fence, compares each key with what was read, and only then writes it.
//!
//! The base of a key moves in the same script as the key, or not at all. Never writes a key whose deadline is unknown,
//! never passes `ttl 0` for "expired".

use redis::{Cmd, Value};

use super::{
    base::encode,
    error::{CopyError, sort_reply},
    key::prefix,
    link::{Link, bytes, int, items, text},
    read::Seen,
    value::Payload,
};
use crate::merge::{Deadline, Entry};

/// A script is one long pause for everybody else (Upstash stops it after 250 ms), so it is given few keys and bytes.
const KEYS_A_SCRIPT: usize = 100;
const BYTES_A_SCRIPT: usize = 1 << 20;

/// Deadlines computed from `PTTL` are only so exact, in milliseconds.
pub(crate) const SLACK: u32 = 50;

/// What the store must still hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect<'a> {
    /// Anything: nobody else writes there.
    Any,
    Absent,
    Is(&'a Seen),
}

/// What to do with the key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write<'a> {
    /// The deadline is by the clock of the store that is written.
    Put(&'a Payload, Deadline),
    Renew(Deadline),
    Delete,
    /// Only the base moves.
    Nothing,
}

/// The base entry that moves with the write.
#[derive(Clone, Debug)]
pub(crate) struct BaseMove {
    pub(crate) bucket: String,
    pub(crate) hash: u64,
    pub(crate) entry: Option<Entry>,
}

#[derive(Clone, Debug)]
pub(crate) struct Op<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) expect: Expect<'a>,
    pub(crate) write: Write<'a>,
    pub(crate) base: Option<BaseMove>,
}

/// What became of an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Done,
    /// The key is not what was read any more: read it again and decide again.
    Moved,
    /// The store does not take this dump; the typed content may do.
    NoDump,
}

/// What else the script does, in the same moment.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    None,
    /// Remember in this key that the intent was carried out, and for which ops.
    Applied {
        key: String,
        sequence: u64,
    },
}

/// The fence a script checks: the key and what must be in it.
#[derive(Clone, Debug)]
pub(crate) struct Fence {
    pub(crate) key: String,
    pub(crate) token: String,
}

const SCRIPT: &str = r"
local fence = redis.call('GET', KEYS[1])
if fence ~= ARGV[1] then return {'FENCED', fence or ''} end
local slack = tonumber(ARGV[3])
local function deadline(key)
  if slack == 0 then return redis.call('PEXPIRETIME', key) end
  local left = redis.call('PTTL', key)
  if left < 0 then return left end
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000) + left
end
local out = {}
for i = 1, (#KEYS - 2) / 2 do
  local key, bucket, a = KEYS[1 + 2 * i], KEYS[2 + 2 * i], 3 + (i - 1) * 8
  local expect, value, at = ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 3])
  local write, new, ends = ARGV[a + 4], ARGV[a + 5], ARGV[a + 6]
  local field, base = ARGV[a + 7], ARGV[a + 8]
  local same = true
  if expect == 'absent' then
    same = redis.call('EXISTS', key) == 0
  elseif expect ~= 'any' then
    local now = redis.pcall(expect, key)
    same = type(now) == 'string' and now == value and math.abs(deadline(key) - at) <= slack
  end
  if not same then
    out[i] = 0
  else
    local reply = 1
    if write == 'set' then
      if ends == '-1' then reply = redis.pcall('SET', key, new)
      else
        --SET--
      end
    elseif write == 'restore' then
      if ends == '-1' then reply = redis.pcall('RESTORE', key, '0', new, 'REPLACE')
      else reply = redis.pcall('RESTORE', key, ends, new, 'REPLACE', 'ABSTTL') end
    elseif write == 'renew' then
      if ends == '-1' then redis.call('PERSIST', key) else redis.call('PEXPIREAT', key, ends) end
    elseif write == 'delete' then
      redis.call('DEL', key)
    end
    if type(reply) == 'table' and reply.err then
      out[i] = reply.err
    else
      out[i] = 1
      if field ~= '' then
        if base == '' then redis.call('HDEL', bucket, field) else redis.call('HSET', bucket, field, base) end
      end
    end
  end
end
if ARGV[2] ~= '' then
  local bits = {}
  for i = 1, #out do bits[i] = out[i] == 1 and '1' or '0' end
  redis.call('SET', KEYS[2], ARGV[2] .. ':' .. table.concat(bits))
end
return out
";

/// What the script does with a string that ends, by what the server has: one call since 6.2, two before.
const SET_IN_TWO: &str = "reply = redis.pcall('SET', key, new)
        if type(reply) ~= 'table' or not reply.err then redis.call('PEXPIREAT', key, ends) end";
const SET_IN_ONE: &str = "reply = redis.pcall('SET', key, new, 'PXAT', ends)";

/// The script, loaded once a connection.
#[derive(Clone)]
pub(crate) struct Writer {
    digest: String,
    slack: u32,
}

impl Writer {
    pub(crate) async fn load(link: &mut Link) -> Result<Self, CopyError> {
        // Every server that has PEXPIRETIME has SET … PXAT.
        let (set, slack) = if link.abilities.expiretime { (SET_IN_ONE, 0) } else { (SET_IN_TWO, SLACK) };
        let body = SCRIPT.replace("--SET--", set);
        let digest = text(link.ask("SCRIPT LOAD", redis::cmd("SCRIPT").arg("LOAD").arg(body)).await?);
        Ok(Self { digest, slack })
    }

    /// Carries out the ops, each on its own: one that has moved does not stop the others.
    ///
    /// With a mark all of them go in one script, so keep them few.
    pub(crate) async fn apply(
        &self,
        link: &mut Link,
        fence: &Fence,
        ops: &[Op<'_>],
        mark: &Mark,
    ) -> Result<Vec<Applied>, CopyError> {
        let batches = match mark {
            Mark::None => batches(ops),
            Mark::Applied { .. } => vec![ops],
        };
        let mut commands = redis::pipe();
        for batch in &batches {
            commands.add_command(self.command(fence, batch, mark));
        }
        let mut replies = link.ask_all("EVALSHA", &commands).await?;
        if replies.iter().any(|reply| matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")) {
            // Somebody flushed the scripts. Those that did run are compared again and found done or moved.
            Self::load(link).await?;
            replies = link.ask_all("EVALSHA", &commands).await?;
        }
        let mut applied = Vec::with_capacity(ops.len());
        for (batch, reply) in batches.iter().zip(replies) {
            let reply = link.check("EVALSHA", reply)?;
            let items = items(reply).ok_or_else(|| link.unexpected("EVALSHA", "no list"))?;
            understand(link, batch, items, &mut applied)?;
        }
        Ok(applied)
    }

    fn command(&self, fence: &Fence, ops: &[Op<'_>], mark: &Mark) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        let (mark_key, mark_value) = match mark {
            Mark::None => ("", String::new()),
            Mark::Applied { key, sequence } => (key.as_str(), sequence.to_string()),
        };
        let mark_key = if mark_key.is_empty() { fence.key.as_str() } else { mark_key };
        command.arg(&self.digest).arg(2 + 2 * ops.len()).arg(&fence.key).arg(mark_key);
        for op in ops {
            // A key that is not used still has to be one: the fence is there anyway.
            command.arg(op.name).arg(op.base.as_ref().map_or(&fence.key, |base| &base.bucket));
        }
        command.arg(&fence.token).arg(mark_value).arg(self.slack);
        for op in ops {
            arguments(&mut command, op);
        }
        command
    }
}

fn arguments(command: &mut Cmd, op: &Op<'_>) {
    match op.expect {
        Expect::Any => command.arg("any").arg("").arg("0"),
        Expect::Absent => command.arg("absent").arg("").arg("0"),
        Expect::Is(Seen { payload, raw_deadline, .. }) => match payload {
            Payload::Text(text) => command.arg("GET").arg(text.as_slice()).arg(*raw_deadline),
            Payload::Typed { dump, .. } => {
                command.arg("DUMP").arg(dump.as_deref().unwrap_or_default()).arg(*raw_deadline)
            }
        },
    };
    let ends = |deadline: Deadline| deadline.millis().unwrap_or(-1);
    match op.write {
        Write::Put(Payload::Text(text), deadline) => command.arg("set").arg(text.as_slice()).arg(ends(deadline)),
        Write::Put(Payload::Typed { dump, .. }, deadline) => {
            command.arg("restore").arg(dump.as_deref().unwrap_or_default()).arg(ends(deadline))
        }
        Write::Renew(deadline) => command.arg("renew").arg("").arg(ends(deadline)),
        Write::Delete => command.arg("delete").arg("").arg("0"),
        Write::Nothing => command.arg("nothing").arg("").arg("0"),
    };
    match &op.base {
        None => command.arg("").arg(""),
        Some(BaseMove { hash, entry, .. }) => {
            command.arg(hash.to_be_bytes().as_slice()).arg(entry.map(encode).unwrap_or_default())
        }
    };
}

fn understand(link: &Link, ops: &[Op<'_>], items: Vec<Value>, applied: &mut Vec<Applied>) -> Result<(), CopyError> {
    if let Some(Value::BulkString(word)) = items.first()
        && word == b"FENCED"
    {
        let by = items.get(1).cloned().map(text).unwrap_or_default();
        return Err(CopyError::Fenced { by });
    }
    if items.len() != ops.len() {
        return Err(link.unexpected("EVALSHA", "another number of results than of keys"));
    }
    for (op, item) in ops.iter().zip(items) {
        applied.push(match int(&item) {
            Some(1) => Applied::Done,
            Some(_) => Applied::Moved,
            None => refused(link, op, &String::from_utf8_lossy(&bytes(item).unwrap_or_default()))?,
        });
    }
    Ok(())
}

fn refused(link: &Link, op: &Op<'_>, words: &str) -> Result<Applied, CopyError> {
    let store = link.store().to_owned();
    let dumped = matches!(op.write, Write::Put(Payload::Typed { .. }, _));
    match sort_reply(store.clone(), "SET", words) {
        // Another payload version, no RESTORE here, too large in one piece: writing it command by command tells.
        CopyError::Unexpected { .. } | CopyError::NotPermitted { .. } if dumped => Ok(Applied::NoDump),
        CopyError::Unexpected { detail, .. } => Err(CopyError::Refused { store, prefix: prefix(op.name), detail }),
        error => Err(error),
    }
}

/// Few enough keys and bytes for one script.
fn batches<'a, 'b>(ops: &'a [Op<'b>]) -> Vec<&'a [Op<'b>]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, op) in ops.iter().enumerate() {
        let size = weight(op);
        if at > start && (at - start >= KEYS_A_SCRIPT || bytes + size > BYTES_A_SCRIPT) {
            batches.extend(ops.get(start..at));
            (start, bytes) = (at, 0);
        }
        bytes += size;
    }
    batches.extend(ops.get(start..).filter(|rest| !rest.is_empty()));
    batches
}

/// Roughly the bytes an op puts on the wire.
pub(crate) fn weight(op: &Op<'_>) -> usize {
    let expected = match op.expect {
        Expect::Is(seen) => seen.payload.size(),
        Expect::Any | Expect::Absent => 0,
    };
    let written = match op.write {
        Write::Put(payload, _) => payload.size(),
        Write::Renew(_) | Write::Delete | Write::Nothing => 0,
    };
    op.name.len() + expected + written + 150
}
