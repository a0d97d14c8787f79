//! What both stores had when they last agreed: some forty bytes a key in memory, twenty-eight in the target.
//!
//! The target keeps it too, bucket by bucket, and every write there moves both: so before the seal it tells which keys
//! are ours, and from the seal on what both sides had. Names are not in it, only their hashes.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use redis::Value;

use super::{
    apply::Fence,
    error::CopyError,
    fence::{ask_guarded, guarded},
    key::Ours,
    link::{Link, bytes, items, strings},
    read::scan,
};
use crate::merge::{Deadline, Entry, Side};

/// Keys a bucket is made for: small hashes are stored compactly by Redis (up to 128 fields by default).
const KEYS_A_BUCKET: u64 = 64;

/// A store that is almost empty when the copy begins may fill while it follows.
const FEWEST_BUCKETS: u64 = 16;
const MOST_BUCKETS: u64 = 1 << 20;

/// What is stored for a key that was in the target before us.
const FOREIGN: &[u8] = b"F";

/// Hashes are already random.
#[derive(Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

pub(crate) type Hashes = HashSet<u64, BuildHasherDefault<Identity>>;

/// One key of the base.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) entry: Entry,
    /// The last sweep of each side that saw it.
    seen: [u32; 2],
}

/// The base of one pair of databases.
#[derive(Debug, Default)]
pub(crate) struct Base {
    held: HashMap<u64, Held, BuildHasherDefault<Identity>>,
    /// In the target before us and not in the source: neither carried nor deleted nor overwritten.
    pub(crate) foreign: Hashes,
    /// The sweep each side is in.
    sweep: [u32; 2],
    /// Mask of the buckets in the target; set before the first key is written there.
    mask: Option<u32>,
    /// What has moved while the base was being stored.
    moved: Option<Hashes>,
}

/// A bucket's number and its fields.
pub(crate) type Bucket = (u32, Vec<(u64, Vec<u8>)>);

const fn at(side: Side) -> usize {
    match side {
        Side::Old => 0,
        Side::New => 1,
    }
}

impl Base {
    pub(crate) fn get(&self, hash: u64) -> Option<Entry> {
        self.held.get(&hash).map(|held| held.entry)
    }

    pub(crate) fn contains(&self, hash: u64) -> bool {
        self.held.contains_key(&hash)
    }

    /// Moves the base of a key; it counts as seen by the sweeps that are under way.
    pub(crate) fn set(&mut self, hash: u64, entry: Option<Entry>) {
        if let Some(moved) = &mut self.moved {
            moved.insert(hash);
        }
        match entry {
            Some(entry) => {
                self.held.insert(hash, Held { entry, seen: self.sweep });
            }
            None => {
                self.held.remove(&hash);
            }
        }
    }

    /// A sweep of a side begins.
    pub(crate) fn begin(&mut self, side: Side) {
        if let Some(sweep) = self.sweep.get_mut(at(side)) {
            *sweep += 1;
        }
    }

    /// The sweep of a side has come across a key.
    pub(crate) fn mark(&mut self, side: Side, hash: u64) {
        let sweep = self.sweep;
        if let Some(held) = self.held.get_mut(&hash)
            && let (Some(seen), Some(now)) = (held.seen.get_mut(at(side)), sweep.get(at(side)))
        {
            *seen = *now;
        }
    }

    /// What the sweep of a side has not come across.
    pub(crate) fn missing(&self, side: Side) -> Hashes {
        let now = self.sweep.get(at(side)).copied().unwrap_or_default();
        let unseen = |held: &Held| held.seen.get(at(side)).is_none_or(|seen| *seen != now);
        self.held.iter().filter(|(_, held)| unseen(held)).map(|(hash, _)| *hash).collect()
    }

    /// The bucket of a hash, once there are any.
    pub(crate) fn bucket(&self, hash: u64) -> Option<u32> {
        #[expect(clippy::cast_possible_truncation, reason = "a mask follows")]
        self.mask.map(|mask| hash as u32 & mask)
    }

    /// Whether the target keeps it too.
    pub(crate) fn is_divided(&self) -> bool {
        self.mask.is_some()
    }

    /// The target keeps it in so many buckets.
    pub(crate) fn divide(&mut self, buckets: u32) {
        self.mask = Some(buckets.next_power_of_two() - 1);
    }

    /// How many buckets a base of so many keys gets, with room to grow.
    pub(crate) fn buckets_for(keys: u64) -> u32 {
        let wanted = (keys / KEYS_A_BUCKET).clamp(FEWEST_BUCKETS, MOST_BUCKETS);
        u32::try_from(wanted).unwrap_or(u32::MAX >> 1).next_power_of_two()
    }

    /// What moves from now on is noted for [`Self::store_changes`].
    pub(crate) fn note_changes(&mut self) {
        self.moved = Some(Hashes::default());
    }

    /// The whole base by buckets, to be stored. `divide` and `note_changes` come first.
    pub(crate) fn sorted(&self) -> Vec<Bucket> {
        let mut buckets: HashMap<u32, Vec<(u64, Vec<u8>)>> = HashMap::new();
        let foreign = self.foreign.iter().map(|hash| (*hash, FOREIGN.to_vec()));
        for (hash, value) in self.held.iter().map(|(hash, held)| (*hash, encode(held.entry))).chain(foreign) {
            if let Some(bucket) = self.bucket(hash) {
                buckets.entry(bucket).or_default().push((hash, value));
            }
        }
        buckets.into_iter().collect()
    }

    /// Writes some buckets into the target.
    pub(crate) async fn store(
        target: &mut Link,
        fence: &Fence,
        ours: &Ours,
        from: u32,
        buckets: &[Bucket],
    ) -> Result<(), CopyError> {
        let mut commands = redis::pipe();
        for (bucket, entries) in buckets {
            let key = ours.base(from, *bucket).into_bytes();
            // Names that hash alike gather in a bucket only by chance; still a script takes only so many words.
            for some in entries.chunks(1_000) {
                let words: Vec<Vec<u8>> =
                    some.iter().flat_map(|(hash, value)| [hash.to_be_bytes().to_vec(), value.clone()]).collect();
                commands.add_command(guarded(fence, "HSET", std::slice::from_ref(&key), &words));
            }
        }
        ask_guarded(target, "HSET", &commands).await
    }

    /// Writes what has moved since `note_changes`.
    pub(crate) async fn store_changes(
        &mut self,
        target: &mut Link,
        fence: &Fence,
        ours: &Ours,
        from: u32,
    ) -> Result<(), CopyError> {
        let mut commands = redis::pipe();
        for hash in self.moved.take().unwrap_or_default() {
            let Some(bucket) = self.bucket(hash) else { continue };
            let (bucket, field) = ([ours.base(from, bucket).into_bytes()], hash.to_be_bytes().to_vec());
            commands.add_command(match self.get(hash) {
                Some(entry) => guarded(fence, "HSET", &bucket, &[field, encode(entry)]),
                None => guarded(fence, "HDEL", &bucket, &[field]),
            });
        }
        ask_guarded(target, "HSET", &commands).await
    }

    /// The hashes of all keys in it.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = u64> {
        self.held.keys().copied()
    }

    /// Reads a stored base back.
    pub(crate) async fn load(target: &mut Link, ours: &Ours, from: u32, buckets: u32) -> Result<Self, CopyError> {
        let mut base = Self::default();
        base.divide(buckets);
        let all: Vec<u32> = (0..buckets).collect();
        for some in all.chunks(100) {
            let mut commands = redis::pipe();
            for bucket in some {
                commands.cmd("HGETALL").arg(ours.base(from, *bucket));
            }
            for reply in target.ask_all("HGETALL", &commands).await? {
                let reply = target.check("HGETALL", reply)?;
                base.take(reply).ok_or_else(|| target.unexpected("HGETALL", "no base"))?;
            }
        }
        Ok(base)
    }

    fn take(&mut self, bucket: Value) -> Option<()> {
        let mut fields = strings(bucket)?.into_iter();
        while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
            let hash = u64::from_be_bytes(field.try_into().ok()?);
            if value == FOREIGN {
                self.foreign.insert(hash);
            } else {
                self.set(hash, Some(decode(&value)?));
            }
        }
        Some(())
    }
}

/// Removes what matches a pattern of ours, but for the names to keep, as long as the fence holds.
pub(crate) async fn discard(link: &mut Link, fence: &Fence, pattern: &str, keep: &[String]) -> Result<(), CopyError> {
    let mut cursor = 0;
    loop {
        let page = scan(link, cursor, Some(pattern), 1_000).await?;
        let kept = |name: &Vec<u8>| keep.iter().any(|keep| keep.as_bytes() == name.as_slice());
        let names: Vec<Vec<u8>> = page.names.into_iter().filter(|name| !kept(name)).collect();
        for some in names.chunks(1_000) {
            let mut commands = redis::pipe();
            commands.add_command(guarded(fence, "DEL", some, &[]));
            ask_guarded(link, "DEL", &commands).await?;
        }
        cursor = page.cursor;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// Keeps the hashes of foreign keys where a successor finds them, instead of what an earlier try has left there.
pub(crate) async fn store_foreign(
    target: &mut Link,
    fence: &Fence,
    key: &str,
    foreign: &Hashes,
) -> Result<(), CopyError> {
    let key = [key.as_bytes().to_vec()];
    let all: Vec<Vec<u8>> = foreign.iter().map(|hash| hash.to_be_bytes().to_vec()).collect();
    let mut commands = redis::pipe();
    commands.add_command(guarded(fence, "DEL", &key, &[]));
    for some in all.chunks(1_000) {
        commands.add_command(guarded(fence, "SADD", &key, some));
    }
    ask_guarded(target, "SADD", &commands).await
}

pub(crate) async fn load_foreign(target: &mut Link, key: &str) -> Result<Hashes, CopyError> {
    let reply = target.ask("SMEMBERS", redis::cmd("SMEMBERS").arg(key)).await?;
    let members = items(reply).unwrap_or_default();
    let hashes = members.into_iter().filter_map(bytes).filter_map(|hash| hash.try_into().ok()).map(u64::from_be_bytes);
    Ok(hashes.collect())
}

/// Sixteen bytes: digest, deadline.
pub(crate) fn encode(entry: Entry) -> Vec<u8> {
    let deadline = entry.deadline.millis().unwrap_or(-1);
    [entry.digest.to_be_bytes(), deadline.to_be_bytes()].concat()
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Entry> {
    let (digest, deadline) = bytes.split_at_checked(8)?;
    let deadline = i64::from_be_bytes(deadline.try_into().ok()?);
    Some(Entry { digest: u64::from_be_bytes(digest.try_into().ok()?), deadline: Deadline::at(deadline) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_being_stored() {
        for millis in [0, 1, 1_795_000_000_123, -1] {
            let entry = Entry { digest: 0xdead_beef_0123_4567, deadline: Deadline::at(millis) };
            assert_eq!(decode(&encode(entry)), Some(entry));
        }
        assert_eq!(decode(b"short"), None);
    }

    #[test]
    fn a_sweep_misses_what_it_did_not_see_and_nothing_written_meanwhile() {
        let entry = Some(Entry { digest: 1, deadline: Deadline::NEVER });
        let mut base = Base::default();
        base.set(1, entry);
        base.set(2, entry);
        base.begin(Side::Old);
        base.mark(Side::Old, 1);
        base.set(3, entry);
        assert_eq!(base.missing(Side::Old), Hashes::from_iter([2]));
        assert!(base.missing(Side::New).is_empty());
    }
}
