//! Taking back a copy that nobody is going to use: what we copied is removed from the new store, what was found there
//! stays, and what somebody has written there since stays and is counted.
//!
//! A key is deleted by the script that compares it with what was judged, and its base entry goes with it: whoever would
//! go on with the copy would carry the key again, never its deletion. It writes nothing to the old store but our marks.

use std::collections::{BTreeSet, HashMap};

use super::{
    CopySpec,
    apply::{Applied, BaseMove, Expect, Fence, Op, Write},
    base::{Base, Hashes, load_foreign},
    clear::{Exit, uncounted},
    error::CopyError,
    fence::{Ending, Record},
    key::{Choice, Selection, Tally, hash, rules},
    link::Link,
    marks::has_fence,
    progress::Sides,
    pulse::evictions,
    read::{Seen, read, scan},
    rebase::thrown_away,
    run::Lane,
    survey::load_identical,
    sweep::shift,
    takeover::lanes,
    typed::write_all,
};
use crate::merge::{Entry, Side};

const PAGE: usize = 500;

/// How often a key that changes under our hands is read again.
const TRIES: usize = 5;

/// Deadlines may differ by this, in milliseconds, and be the same.
const TOLERANCE: i64 = 2_000;

/// What became of the keys in the new store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Copies that were removed.
    pub removed: u64,
    /// Keys that somebody has written there since the stores last agreed, and that were left.
    pub left: u64,
    /// Their prefixes, at most ten.
    pub prefixes: Vec<String>,
}

/// Removes from the new store what was copied there, so that it is as it was found, and then ends the copy as
/// [`clear`](super::clear()) does.
///
/// Nobody may be using the new store any more. Can be called again after it was interrupted anywhere; what it removed
/// before is then not counted again.
pub async fn withdraw(spec: &CopySpec) -> Result<Withdrawn, CopyError> {
    let mut exit = Exit::begin(spec, None).await?;
    let mut withdrawn = Withdrawn::default();
    // Without a record nothing was owned. Once traces are being removed, what would tell whose a key is may be gone.
    if let Some(record) = exit.record.clone().filter(|record| record.owned && record.ending != Ending::Clearing) {
        if record.rules.as_ref().is_some_and(|made_with| *made_with != rules(spec)) {
            return Err(CopyError::OtherRules);
        }
        exit.mark(Ending::Withdrawing).await?;
        let mut withdrawal = Withdrawal::begin(exit, spec, record).await?;
        withdrawn = withdrawal.remove_all().await?;
        exit = withdrawal.exit;
    }
    exit.clear(spec, None).await?;
    if withdrawn.left > 0 {
        let Withdrawn { left, prefixes, .. } = &withdrawn;
        tracing::warn!(left, ?prefixes, "keys of the new store were written after the stores last agreed; they stay");
    }
    Ok(withdrawn)
}

/// A key of the target with what was judged about it.
struct Judged {
    name: Vec<u8>,
    hash: u64,
    seen: Seen,
}

/// What is to become of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is our copy.
    Remove,
    /// It was there before us.
    Found,
    /// Somebody has written it since.
    Leave,
}

struct Withdrawal {
    exit: Exit,
    record: Record,
    selection: Selection,
    lanes: Vec<Lane>,
    /// In each target database: not in the source when we came.
    foreign: HashMap<u32, Hashes>,
    /// In each target database: equal to the source's when we came, with the digests of that time.
    identical: HashMap<u32, HashMap<u64, u64>>,
    tally: Tally,
    removed: u64,
}

impl Withdrawal {
    async fn begin(mut exit: Exit, spec: &CopySpec, record: Record) -> Result<Self, CopyError> {
        let mut lanes = lanes(spec, &uncounted()).await?;
        let (mut foreign, mut identical): (HashMap<u32, Hashes>, HashMap<u32, HashMap<u64, u64>>) = Default::default();
        for (at, lane) in lanes.iter_mut().enumerate() {
            let target = &mut lane.links.target;
            // The scripts look for it in the database they run in; the endpoint's own has it already.
            if lane.to != spec.to.database {
                exit.plant(target).await?;
            }
            foreign.entry(lane.to).or_default().extend(load_foreign(target, &exit.ours.foreign(lane.from)).await?);
            identical.entry(lane.to).or_default().extend(load_identical(target, &exit.ours, lane.from).await?);
            if let Some(buckets) = record.buckets.get(at) {
                lane.base = Base::load(target, &exit.ours, lane.from, *buckets).await?;
                foreign.entry(lane.to).or_default().extend(lane.base.foreign.iter());
            }
        }
        let selection = Selection::new(spec);
        Ok(Self { exit, record, selection, lanes, foreign, identical, tally: Tally::default(), removed: 0 })
    }

    async fn remove_all(&mut self) -> Result<Withdrawn, CopyError> {
        let targets: BTreeSet<u32> = self.lanes.iter().map(|lane| lane.to).collect();
        for to in targets {
            let Some(first) = self.lanes.iter().position(|lane| lane.to == to) else { continue };
            let mut cursor = None;
            while cursor != Some(0) {
                let Some(lane) = self.lanes.get_mut(first) else { break };
                let page = scan(&mut lane.links.target, cursor.unwrap_or_default(), None, PAGE).await?;
                cursor = Some(page.cursor);
                self.remove(first, to, page.names).await?;
                self.exit.keep_alive().await?;
            }
        }
        let Tally { count, prefixes } = std::mem::take(&mut self.tally);
        Ok(Withdrawn { removed: self.removed, left: count, prefixes })
    }

    /// Removes what is ours of a page of names.
    async fn remove(&mut self, first: usize, to: u32, names: Vec<Vec<u8>>) -> Result<(), CopyError> {
        let moves = |name: &Vec<u8>| matches!(self.selection.choose(name), Choice::Move(_));
        let mut owned: HashMap<usize, Vec<Vec<u8>>> = HashMap::new();
        for name in names.into_iter().filter(moves) {
            let hash = hash(&name);
            let owner = self.lanes.iter().position(|lane| lane.to == to && lane.base.contains(hash));
            let was_there = self.foreign.get(&to).is_some_and(|foreign| foreign.contains(&hash));
            // A key that one pair calls foreign can be another's.
            let same = self.identical.get(&to).is_some_and(|identical| identical.contains_key(&hash));
            match owner {
                Some(owner) => owned.entry(owner).or_default().push(name),
                None if was_there && !same => {}
                None if same && !self.record.sealed => owned.entry(first).or_default().push(name),
                None => self.tally.add(&name),
            }
        }
        for (owner, mut names) in owned {
            for _ in 0..TRIES {
                names = self.remove_of(owner, to, names).await?;
                if names.is_empty() {
                    break;
                }
            }
            names.iter().for_each(|name| self.tally.add(name));
        }
        Ok(())
    }

    /// Judges and removes keys of one pair; returns those that have changed meanwhile.
    async fn remove_of(&mut self, owner: usize, to: u32, names: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, CopyError> {
        let (sealed, offset) = (self.record.sealed, self.record.shift);
        let Some(lane) = self.lanes.get_mut(owner) else { return Ok(Vec::new()) };
        let Sides { source, target } = &mut lane.links;
        let new = read(target, &names, shift(Side::New, offset)).await?;
        // Before the seal nobody was sent to the new store: what we wrote there is all that is ours.
        let old = if sealed { read(source, &names, 0).await?.seen } else { vec![None; names.len()] };
        // A key that the old store lacks was logged out or has expired there, unless the store has lost keys: then the
        // copy may be the last there is. Asked after the reading, so that no loss falls between the two.
        let lacking = new.seen.iter().zip(&old).any(|(new, old)| new.is_some() && old.is_none());
        let complete = !(sealed && lacking) || has_lost_nothing(source, &self.exit.fence, &self.record).await?;
        let mut judged = Vec::new();
        for ((name, new), old) in names.into_iter().zip(new.seen).zip(old) {
            let hash = hash(&name);
            let Some(seen) = new else { continue };
            let found = self.identical.get(&to).and_then(|identical| identical.get(&hash)).copied();
            let base = lane.base.get(hash).filter(|_| complete);
            let fate = if found == Some(seen.entry.digest) {
                Fate::Found
            } else {
                judge(seen.entry, base, old.map(|old| old.entry))
            };
            match fate {
                Fate::Remove => judged.push(Judged { name, hash, seen }),
                Fate::Found => {}
                Fate::Leave => self.tally.add(&name),
            }
        }
        self.delete(owner, judged).await
    }

    async fn delete(&mut self, owner: usize, judged: Vec<Judged>) -> Result<Vec<Vec<u8>>, CopyError> {
        let Some(lane) = self.lanes.get_mut(owner) else { return Ok(Vec::new()) };
        let mut ops = Vec::with_capacity(judged.len());
        for Judged { name, hash, seen } in &judged {
            let bucket = lane.base.bucket(*hash).map(|bucket| self.exit.ours.base(lane.from, bucket));
            let base = bucket.map(|bucket| BaseMove { bucket, hash: *hash, entry: None });
            ops.push(Op { name, expect: Expect::Is(seen), write: Write::Delete, base });
        }
        let applied = write_all(&self.exit.fence, lane, Side::New, &ops).await?;
        let mut again = Vec::new();
        for (judged, applied) in judged.into_iter().zip(applied) {
            match applied {
                Applied::Done => {
                    lane.base.set(judged.hash, None);
                    self.removed += 1;
                }
                Applied::Moved | Applied::NoDump => again.push(judged.name),
            }
        }
        Ok(again)
    }
}

/// Whether a source still has what it had at the seal: its fence, and no more keys thrown away.
async fn has_lost_nothing(source: &mut Link, fence: &Fence, record: &Record) -> Result<bool, CopyError> {
    let evicted = evictions(source).await?.zip(record.evicted.source);
    Ok(has_fence(source, fence).await? && evicted.is_none_or(|(now, start)| thrown_away(start, now) == 0))
}

/// Both stores may have had users. What the new one holds is our copy as long as it says no more than the old store
/// does, or than both did when they last agreed.
fn judge(new: Entry, base: Option<Entry>, old: Option<Entry>) -> Fate {
    let no_more_than = |known: Entry| {
        let later = match (new.deadline.millis(), known.deadline.millis()) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(new), Some(known)) => new > known + TOLERANCE,
        };
        new.digest == known.digest && !later
    };
    if base.is_some_and(no_more_than) || old.is_some_and(no_more_than) { Fate::Remove } else { Fate::Leave }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::Deadline;

    #[test]
    fn only_what_says_no_more_than_the_old_store_is_our_copy() {
        let entry = |digest, at| Entry { digest, deadline: Deadline::at(at) };
        let now = entry(1, 10_000);
        assert_eq!(judge(now, Some(now), None), Fate::Remove, "deleted in the old store since");
        assert_eq!(judge(now, Some(now), Some(entry(2, 9_000))), Fate::Remove, "changed in the old store");
        assert_eq!(judge(now, Some(entry(2, 9_000)), Some(entry(1, 60_000))), Fate::Remove, "carried");
        assert_eq!(judge(now, Some(entry(1, 9_000)), None), Fate::Remove, "the same but for the clocks");
        assert_eq!(judge(now, Some(entry(1, -1)), None), Fate::Remove);
        assert_eq!(judge(now, None, None), Fate::Leave, "the old store has lost keys");
        assert_eq!(judge(now, Some(entry(2, 10_000)), Some(entry(2, 10_000))), Fate::Leave, "changed here");
        assert_eq!(judge(now, Some(entry(1, 5_000)), Some(entry(1, 5_000))), Fate::Leave, "renewed here");
        assert_eq!(judge(entry(1, -1), Some(now), Some(now)), Fate::Leave, "made to stay here");
    }
}
