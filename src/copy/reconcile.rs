//! Carrying what differs: reads the other side, asks `merge`, and writes by compare-and-set until both agree.
//!
//! A write to the target moves the base in the same script. Where both sides are written the target comes first, with
//! what the source held as its base; writes to the source are `intent`'s.

use super::{
    apply::{Applied, BaseMove, Expect, Mark, Op, Write},
    error::CopyError,
    intent::announced_together,
    key::{Tally, prefix},
    link::bytes,
    progress::{Difference, Sides},
    read::{Reading, Seen, read},
    run::{Lane, Runner},
    sweep::shift,
    typed::write_all,
};
use crate::merge::{Act, Conflict, Deadline, Entry, Kind, Outcome, Side, merge};

/// How often a key that moves under our hands is tried before it is left to the next hint or sweep.
const TRIES: usize = 8;

/// A key that may have to be carried.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: Vec<u8>,
    pub(crate) hash: u64,
    pub(crate) kind: Kind,
}

/// A key with both its readings and the decision.
pub(crate) struct Case {
    pub(crate) found: Found,
    pub(crate) old: Option<Seen>,
    pub(crate) new: Option<Seen>,
    pub(crate) outcome: Outcome,
}

impl Case {
    fn seen(&self, side: Side) -> Option<&Seen> {
        match side {
            Side::Old => self.old.as_ref(),
            Side::New => self.new.as_ref(),
        }
    }

    /// What to write on a side; deadlines by that side's clock. `None` where nothing is to be written.
    pub(crate) fn write(&self, side: Side, offset: i64) -> Option<Write<'_>> {
        let here = |deadline: Deadline| deadline.shifted(-shift(side, offset));
        match self.outcome.on(side) {
            Act::Keep => None,
            Act::Put(deadline) => self.seen(side.other()).map(|seen| Write::Put(&seen.payload, here(deadline))),
            Act::Renew(deadline) => Some(Write::Renew(here(deadline))),
            Act::Delete => Some(Write::Delete),
        }
    }

    pub(crate) fn expect(&self, side: Side) -> Expect<'_> {
        self.seen(side).map_or(Expect::Absent, Expect::Is)
    }
}

impl Runner {
    /// Carries keys whose reading on one side differs from the base.
    pub(crate) async fn carry(
        &mut self,
        lane: usize,
        side: Side,
        found: Vec<Found>,
        readings: Vec<Option<Seen>>,
        now: i64,
    ) -> Result<(), CopyError> {
        if self.both_ways {
            self.both(lane, side, found, readings, now).await
        } else {
            self.follow(lane, found, readings, now).await
        }
    }

    // === one way ===

    /// Before the seal the base is what we have written: that is written again without a comparison. What is not ours
    /// yet must not be there, and nothing is deleted that somebody else has changed.
    async fn follow(
        &mut self,
        lane: usize,
        found: Vec<Found>,
        readings: Vec<Option<Seen>>,
        now: i64,
    ) -> Result<(), CopyError> {
        if readings.iter().any(Option::is_none) {
            self.refuse_evictions(lane, Side::Old).await?;
        }
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
        let mut cases = Vec::with_capacity(found.len());
        for (found, old) in found.into_iter().zip(readings) {
            if here.base.foreign.contains(&found.hash) {
                if old.is_some() {
                    return Err(CopyError::TargetNotEmpty { count: 1, prefixes: vec![prefix(&found.name)] });
                }
                continue;
            }
            let base = here.base.get(found.hash);
            let outcome = merge(base, old.as_ref().map(|seen| seen.entry), base, found.kind, now);
            cases.push(Case { found, old, new: None, outcome });
        }
        self.spare_others(lane, &mut cases).await?;
        let offset = self.record.shift;
        let writes = |case: &Case| case.write(Side::New, offset).is_some();
        let (writing, settled): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(writes);
        let moves: Vec<_> = settled.iter().map(|case| (case.found.hash, case.outcome.agreed)).collect();
        self.move_base(lane, &moves).await?;
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
        let ops: Vec<Op<'_>> = writing
            .iter()
            .filter_map(|case| {
                let hash = case.found.hash;
                let write = case.write(Side::New, offset)?;
                let expect = match case.outcome.new {
                    Act::Delete => case.expect(Side::New),
                    Act::Keep | Act::Put(_) | Act::Renew(_) if here.base.contains(hash) => Expect::Any,
                    Act::Keep | Act::Put(_) | Act::Renew(_) => Expect::Absent,
                };
                let base = base_move(here, &self.ours, hash, case.outcome.agreed);
                Some(Op { name: &case.found.name, expect, write, base })
            })
            .collect();
        let applied = write_all(&self.fence, here, Side::New, &ops).await?;
        let mut taken = Vec::new();
        for (case, applied) in writing.into_iter().zip(applied) {
            if applied == Applied::Done {
                here.base.set(case.found.hash, case.outcome.agreed);
                self.progress.carried += 1;
                self.progress.deleted += u64::from(case.outcome.new == Act::Delete);
                self.rounds.source.carried += 1;
            } else if case.outcome.new != Act::Delete {
                taken.push(case);
            }
        }
        self.refuse_taken(lane, taken).await
    }

    /// A key that the source has lost is deleted only while the target holds what we wrote there.
    async fn spare_others(&mut self, lane: usize, cases: &mut [Case]) -> Result<(), CopyError> {
        let deleting: Vec<&mut Case> = cases.iter_mut().filter(|case| case.outcome.new == Act::Delete).collect();
        if deleting.is_empty() {
            return Ok(());
        }
        let found: Vec<Found> = deleting.iter().map(|case| case.found.clone()).collect();
        let there = self.read_side(lane, Side::New, &found).await?;
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
        for (case, there) in deleting.into_iter().zip(there.seen) {
            let hash = case.found.hash;
            let base = here.base.get(hash).map(|entry| entry.digest);
            match there {
                Some(there) if base == Some(there.entry.digest) => case.new = Some(there),
                Some(_) => {
                    here.base.foreign.insert(hash);
                    case.outcome.new = Act::Keep;
                }
                None => case.outcome.new = Act::Keep,
            }
        }
        Ok(())
    }

    /// Keys that were to be written for the first time, and are there: somebody else's, unless they say the same.
    async fn refuse_taken(&mut self, lane: usize, cases: Vec<Case>) -> Result<(), CopyError> {
        if cases.is_empty() {
            return Ok(());
        }
        let found: Vec<Found> = cases.iter().map(|case| case.found.clone()).collect();
        let there = self.read_side(lane, Side::New, &found).await?;
        let mut others = Tally::default();
        let mut same = Vec::new();
        for (case, there) in cases.iter().zip(there.seen) {
            let wanted = case.old.as_ref().map(|old| old.entry.digest);
            match there.map(|there| there.entry) {
                Some(there) if Some(there.digest) == wanted => same.push((case.found.hash, Some(there))),
                Some(_) => others.add(&case.found.name),
                // Gone again: the next sweep writes it.
                None => self.rounds.source.wanted = true,
            }
        }
        self.move_base(lane, &same).await?;
        match others.count {
            0 => Ok(()),
            count => Err(CopyError::TargetNotEmpty { count, prefixes: others.prefixes }),
        }
    }

    // === both ways ===

    async fn both(
        &mut self,
        lane: usize,
        side: Side,
        found: Vec<Found>,
        readings: Vec<Option<Seen>>,
        now: i64,
    ) -> Result<(), CopyError> {
        let other = self.read_side(lane, side.other(), &found).await?;
        let this = Reading { seen: readings, now };
        let (mut old, mut new) = match side {
            Side::Old => (this, other),
            Side::New => (other, this),
        };
        let mut found = found;
        for _ in 0..TRIES {
            let moved = self.settle(lane, found, old, new).await?;
            if moved.is_empty() {
                return Ok(());
            }
            found = moved;
            (old, new) = self.read_both(lane, &found).await?;
        }
        // They change faster than we write; the next hint or sweep meets them again.
        for side in [Side::Old, Side::New] {
            self.rounds.on_mut(side).wanted = true;
        }
        Ok(())
    }

    /// Both sides at the same time.
    pub(crate) async fn read_both(&mut self, lane: usize, found: &[Found]) -> Result<(Reading, Reading), CopyError> {
        let names: Vec<Vec<u8>> = found.iter().map(|found| found.name.clone()).collect();
        let offset = self.record.shift;
        match self.lanes.get_mut(lane) {
            Some(Lane { links: Sides { source, target }, .. }) => {
                tokio::try_join!(read(source, &names, 0), read(target, &names, shift(Side::New, offset)))
            }
            None => Ok((Reading::default(), Reading::default())),
        }
    }

    async fn read_side(&mut self, lane: usize, side: Side, found: &[Found]) -> Result<Reading, CopyError> {
        let names: Vec<Vec<u8>> = found.iter().map(|found| found.name.clone()).collect();
        let offset = self.record.shift;
        match self.lanes.get_mut(lane) {
            Some(here) => read(here.links.on_mut(side), &names, shift(side, offset)).await,
            None => Ok(Reading::default()),
        }
    }

    /// Decides and writes; returns the keys that have moved meanwhile.
    async fn settle(
        &mut self,
        lane: usize,
        found: Vec<Found>,
        old: Reading,
        new: Reading,
    ) -> Result<Vec<Found>, CopyError> {
        let now = old.now.max(new.now);
        let Some(here) = self.lanes.get(lane) else { return Ok(Vec::new()) };
        let decide = |((found, old), new): ((Found, Option<Seen>), Option<Seen>)| {
            let entry = |seen: &Option<Seen>| seen.as_ref().map(|seen| seen.entry);
            let outcome = merge(here.base.get(found.hash), entry(&old), entry(&new), found.kind, now);
            Case { found, old, new, outcome }
        };
        let cases: Vec<Case> = found.into_iter().zip(old.seen).zip(new.seen).map(decide).collect();
        self.trust_deletions(lane, &cases).await?;

        let (quiet, loud): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(|case| case.outcome.is_quiet());
        let moves: Vec<_> = quiet.iter().map(|case| (case.found.hash, case.outcome.agreed)).collect();
        self.move_base(lane, &moves).await?;

        let written = self.write_target(lane, &loud).await?;
        let mut again = Vec::new();
        let mut to_source = Vec::new();
        for (case, done) in loud.into_iter().zip(written) {
            match (done, case.outcome.old) {
                (false, _) => again.push(case.found),
                (true, Act::Keep) => self.count_case(&case),
                (true, Act::Put(_) | Act::Renew(_) | Act::Delete) => to_source.push(case),
            }
        }
        while !to_source.is_empty() {
            let rest = to_source.split_off(announced_together(&to_source));
            again.extend(self.write_source(lane, std::mem::replace(&mut to_source, rest)).await?);
        }
        Ok(again)
    }

    /// Writes what the target needs. `true`: it holds what was decided.
    async fn write_target(&mut self, lane: usize, cases: &[Case]) -> Result<Vec<bool>, CopyError> {
        let offset = self.record.shift;
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(Vec::new()) };
        let mut ops = Vec::new();
        let mut places = Vec::new();
        for (at, case) in cases.iter().enumerate() {
            let Some(write) = case.write(Side::New, offset) else { continue };
            // Where both sides are written the target comes first, with what the source held as base: the rest is
            // then a change of the target alone, whatever happens in between.
            let entry = match case.outcome.old {
                Act::Keep => case.outcome.agreed,
                Act::Put(_) | Act::Renew(_) | Act::Delete => case.old.as_ref().map(|seen| seen.entry),
            };
            let base = base_move(here, &self.ours, case.found.hash, entry);
            ops.push(Op { name: &case.found.name, expect: case.expect(Side::New), write, base });
            places.push((at, entry));
        }
        let applied = write_all(&self.fence, here, Side::New, &ops).await?;
        let mut done = vec![true; cases.len()];
        for ((at, entry), applied) in places.into_iter().zip(applied) {
            let is_done = applied == Applied::Done;
            if let (Some(slot), Some(case)) = (done.get_mut(at), cases.get(at)) {
                *slot = is_done;
                if is_done {
                    here.base.set(case.found.hash, entry);
                    self.rounds.source.carried += 1;
                }
            }
        }
        Ok(done)
    }

    pub(crate) fn count_case(&mut self, case: &Case) {
        let Outcome { old, new, conflict, .. } = case.outcome;
        self.progress.carried += u64::from(old != Act::Keep) + u64::from(new != Act::Keep);
        self.progress.deleted += u64::from(old == Act::Delete) + u64::from(new == Act::Delete);
        if let Some(conflict) = conflict {
            self.count_conflict(&case.found, conflict);
        }
    }

    pub(crate) fn count_conflict(&mut self, found: &Found, conflict: Conflict) {
        self.progress.conflicts += 1;
        let named = &mut self.progress.conflicting;
        if named.len() == 20 {
            named.remove(0);
        }
        named.push(Difference { prefix: prefix(&found.name), key: format!("{:016x}", found.hash), conflict });
    }

    /// Moves bases without touching a key, in the target too.
    pub(crate) async fn move_base(&mut self, lane: usize, moves: &[(u64, Option<Entry>)]) -> Result<(), CopyError> {
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
        let fence_key = self.fence.key.clone();
        if here.base.is_divided() {
            let moving = moves.iter().filter(|(hash, entry)| here.base.get(*hash) != *entry);
            let ops: Vec<Op<'_>> = moving
                .map(|(hash, entry)| Op {
                    name: fence_key.as_bytes(),
                    expect: Expect::Any,
                    write: Write::Nothing,
                    base: base_move(here, &self.ours, *hash, *entry),
                })
                .collect();
            if !ops.is_empty() {
                here.writers.target.apply(&mut here.links.target, &self.fence, &ops, &Mark::None).await?;
            }
        }
        for (hash, entry) in moves {
            here.base.set(*hash, *entry);
        }
        Ok(())
    }

    /// A store that throws keys away, or was emptied, looks like a store whose users log out. Ask before carrying it.
    async fn trust_deletions(&mut self, lane: usize, cases: &[Case]) -> Result<(), CopyError> {
        for side in [Side::Old, Side::New] {
            if !cases.iter().any(|case| case.outcome.on(side.other()) == Act::Delete) {
                continue;
            }
            let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
            let link = here.links.on_mut(side);
            let store = link.store().to_owned();
            let held = bytes(link.ask("GET", redis::cmd("GET").arg(&self.fence.key)).await?);
            match held {
                None => return Err(CopyError::Emptied { store }),
                Some(token) if token != self.fence.token.as_bytes() => {
                    return Err(CopyError::Fenced { by: String::from_utf8_lossy(&token).into_owned() });
                }
                Some(_) => {}
            }
            self.refuse_evictions(lane, side).await?;
        }
        Ok(())
    }
}

fn base_move(lane: &Lane, ours: &super::key::Ours, hash: u64, entry: Option<Entry>) -> Option<BaseMove> {
    lane.base.bucket(hash).map(|bucket| BaseMove { bucket: ours.base(lane.from, bucket), hash, entry })
}
