//! Carrying what differs: reads the other side, asks `merge`, and writes by compare-and-set until both agree.
//!
//! A write to the target moves the base in the same script. A write to the source cannot, so it is announced in the
//! target first, marked in the source in the script that writes it, and settled in the target afterwards: a successor
//! finds out exactly which writes of a dead runner were carried out.

use tokio::time::Instant;

use super::{
    apply::{Applied, BaseMove, Expect, Mark, Op, Write, apply_typed, hold, weight},
    base::{decode, encode},
    error::CopyError,
    key::{Choice, hash, prefix},
    link::bytes,
    progress::{Difference, State},
    pulse::evictions,
    read::{Reading, Seen, read, scan},
    run::{Lane, Rounds, Runner},
    sweep::shift,
    value::Payload,
};
use crate::merge::{Act, Conflict, Deadline, Entry, Kind, Outcome, Side, merge};

/// How often a key that moves under our hands is tried before it is left to the next hint or sweep.
const TRIES: usize = 8;

/// Writes to the source that are announced together.
const INTENT: usize = 100;
const INTENT_BYTES: usize = 1 << 20;

/// A key that may have to be carried.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: Vec<u8>,
    pub(crate) hash: u64,
    pub(crate) kind: Kind,
}

/// A key with both its readings and the decision.
struct Case {
    found: Found,
    old: Option<Seen>,
    new: Option<Seen>,
    outcome: Outcome,
}

impl Case {
    fn seen(&self, side: Side) -> Option<&Seen> {
        match side {
            Side::Old => self.old.as_ref(),
            Side::New => self.new.as_ref(),
        }
    }

    /// What to write on a side; deadlines by that side's clock. `None` where nothing is to be written.
    fn write(&self, side: Side, offset: i64) -> Option<Write<'_>> {
        let here = |deadline: Deadline| deadline.shifted(-shift(side, offset));
        match self.outcome.on(side) {
            Act::Keep => None,
            Act::Put(deadline) => self.seen(side.other()).map(|seen| Write::Put(&seen.payload, here(deadline))),
            Act::Renew(deadline) => Some(Write::Renew(here(deadline))),
            Act::Delete => Some(Write::Delete),
        }
    }

    fn expect(&self, side: Side) -> Expect<'_> {
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

    /// Before the seal nobody but us writes the target: the base is what it holds, and writing needs no comparison.
    async fn follow(
        &mut self,
        lane: usize,
        found: Vec<Found>,
        readings: Vec<Option<Seen>>,
        now: i64,
    ) -> Result<(), CopyError> {
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
        let offset = self.record.shift;
        let writes = |case: &Case| case.write(Side::New, offset).is_some();
        let (writing, settled): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(writes);
        for case in settled {
            here.base.set(case.found.hash, case.outcome.agreed);
        }
        let ops: Vec<Op<'_>> = writing
            .iter()
            .filter_map(|case| {
                let write = case.write(Side::New, offset)?;
                Some(Op { name: &case.found.name, expect: Expect::Any, write, base: None })
            })
            .collect();
        let applied = write_all(&self.fence, here, Side::New, &ops).await?;
        for (case, applied) in writing.iter().zip(applied) {
            if applied == Applied::Done {
                here.base.set(case.found.hash, case.outcome.agreed);
                self.progress.carried += 1;
                self.progress.deleted += u64::from(case.outcome.new == Act::Delete);
                self.rounds.source.carried += 1;
            }
        }
        Ok(())
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
            old = self.read_side(lane, Side::Old, &found).await?;
            new = self.read_side(lane, Side::New, &found).await?;
        }
        // They change faster than we write; the next hint or sweep meets them again.
        for side in [Side::Old, Side::New] {
            self.rounds.on_mut(side).wanted = true;
        }
        Ok(())
    }

    pub(crate) async fn read_side(&mut self, lane: usize, side: Side, found: &[Found]) -> Result<Reading, CopyError> {
        let names: Vec<Vec<u8>> = found.iter().map(|found| found.name.clone()).collect();
        let offset = self.record.shift;
        match self.lanes.get_mut(lane) {
            Some(here) => read(here.links.on_mut(side), &names, shift(side, offset)).await,
            None => Ok(Reading { seen: Vec::new(), now: 0 }),
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
        let mut moved = Vec::new();
        let mut to_source = Vec::new();
        for (case, done) in loud.into_iter().zip(written) {
            match (done, case.outcome.old) {
                (false, _) => moved.push(case.found),
                (true, Act::Keep) => self.count_case(&case),
                (true, Act::Put(_) | Act::Renew(_) | Act::Delete) => to_source.push(case),
            }
        }
        while !to_source.is_empty() {
            let rest = to_source.split_off(announced_together(&to_source));
            moved.extend(self.write_source(lane, std::mem::replace(&mut to_source, rest)).await?);
        }
        Ok(moved)
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

    /// Writes what the source needs: announced, written and marked, settled. Returns what has moved.
    async fn write_source(&mut self, lane: usize, cases: Vec<Case>) -> Result<Vec<Found>, CopyError> {
        let offset = self.record.shift;
        let (fence, ours) = (self.fence.clone(), self.ours.clone());
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(Vec::new()) };
        let write = |case: &Case| {
            case.write(Side::Old, offset)
                .is_some_and(|write| needs_typed(here, Side::Old, &write, &case.expect(Side::Old)))
        };
        let (typed, plain): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(write);
        let mut groups: Vec<Vec<Case>> = typed.into_iter().map(|case| vec![case]).collect();
        if !plain.is_empty() {
            groups.push(plain);
        }
        let mut moved = Vec::new();
        while let Some(group) = groups.pop() {
            let Some(here) = self.lanes.get_mut(lane) else { return Ok(moved) };
            self.sequence += 1;
            let intent = encode_intent(self.sequence, &group);
            hold(&mut here.links.target, &fence, &ours.intent(here.from), &intent).await?;
            let mark = Mark::Applied { key: ours.applied(here.from), sequence: self.sequence };
            let ops: Vec<Op<'_>> = group
                .iter()
                .filter_map(|case| {
                    let write = case.write(Side::Old, offset)?;
                    Some(Op { name: &case.found.name, expect: case.expect(Side::Old), write, base: None })
                })
                .collect();
            let applied = match ops.as_slice() {
                [op] if needs_typed(here, Side::Old, &op.write, &op.expect) => {
                    vec![apply_typed(&mut here.links.source, &fence, op, &mark).await?]
                }
                ops => here.writers.source.apply(&mut here.links.source, &fence, ops, &mark).await?,
            };
            let done: Vec<_> = group
                .iter()
                .zip(&applied)
                .filter(|(_, applied)| **applied == Applied::Done)
                .map(|(case, _)| (case.found.hash, case.outcome.agreed))
                .collect();
            self.move_base(lane, &done).await?;
            let Some(here) = self.lanes.get_mut(lane) else { return Ok(moved) };
            hold(&mut here.links.target, &fence, &ours.intent(here.from), b"").await?;
            for (case, applied) in group.into_iter().zip(applied) {
                match applied {
                    Applied::Done => {
                        self.rounds.target.carried += 1;
                        self.count_case(&case);
                    }
                    Applied::Moved => {
                        // The target is written already; the rest will look like its change alone.
                        if let (Some(conflict), true) = (case.outcome.conflict, case.outcome.new != Act::Keep) {
                            self.count_conflict(&case.found, conflict);
                        }
                        moved.push(case.found);
                    }
                    Applied::NoDump => {
                        if let Some(here) = self.lanes.get_mut(lane) {
                            here.no_dump.source = true;
                        }
                        moved.push(case.found);
                    }
                }
            }
        }
        Ok(moved)
    }

    fn count_case(&mut self, case: &Case) {
        let Outcome { old, new, conflict, .. } = case.outcome;
        self.progress.carried += u64::from(old != Act::Keep) + u64::from(new != Act::Keep);
        self.progress.deleted += u64::from(old == Act::Delete) + u64::from(new == Act::Delete);
        if let Some(conflict) = conflict {
            self.count_conflict(&case.found, conflict);
        }
    }

    fn count_conflict(&mut self, found: &Found, conflict: Conflict) {
        self.progress.conflicts += 1;
        let named = &mut self.progress.conflicting;
        if named.len() == 20 {
            named.remove(0);
        }
        named.push(Difference { prefix: prefix(&found.name), key: format!("{:016x}", found.hash), conflict });
    }

    /// Moves bases without touching a key; once sealed, in the target too.
    pub(crate) async fn move_base(&mut self, lane: usize, moves: &[(u64, Option<Entry>)]) -> Result<(), CopyError> {
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
        let fence_key = self.fence.key.clone();
        if self.record.sealed {
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
            if let Some(evicted) = evictions(link).await? {
                let start = *self.evicted_at_start.on_mut(side).get_or_insert(evicted);
                if evicted > start {
                    return Err(CopyError::Evicting { store, evicted: evicted - start });
                }
            }
        }
        Ok(())
    }

    // === the seal ===

    /// From here on both stores are written by their users: what both had is stored for whoever takes over.
    pub(crate) async fn seal(&mut self) -> Result<(), CopyError> {
        for lane in &mut self.lanes {
            super::fence::plant(&mut lane.links.source, &self.fence).await?;
        }
        let mut buckets = Vec::new();
        for at in 0..self.lanes.len() {
            self.look_at_target(at).await?;
            let Some(lane) = self.lanes.get_mut(at) else { break };
            super::base::discard(&mut lane.links.target, &self.ours.bases()).await?;
            let count = lane.base.buckets();
            lane.base.seal_with(count);
            lane.base.store(&mut lane.links.target, &self.ours, lane.from).await?;
            buckets.push(count);
        }
        let mut record = super::fence::Record { sealed: true, buckets, ..self.record.clone() };
        if let Some(lane) = self.lanes.first_mut() {
            for side in [Side::Old, Side::New] {
                *record.evicted.on_mut(side) = evictions(lane.links.on_mut(side)).await?;
            }
        }
        super::fence::write_record(&mut self.control, &self.ours, &self.fence, &record).await?;
        self.record = record;
        self.step_up().await
    }

    /// What the target really holds is the base: what it has thrown away or somebody else has put there must not look
    /// like a user's doing afterwards.
    async fn look_at_target(&mut self, at: usize) -> Result<(), CopyError> {
        let offset = self.record.shift;
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
        lane.base.begin(Side::New);
        let mut cursor = 0;
        loop {
            let page = scan(&mut lane.links.target, cursor, None, 500).await?;
            let moves = |name: &Vec<u8>| matches!(self.selection.choose(name), Choice::Move(_));
            let names: Vec<Vec<u8>> = page.names.into_iter().filter(moves).collect();
            let reading = read(&mut lane.links.target, &names, shift(Side::New, offset)).await?;
            for (name, seen) in names.iter().zip(reading.seen) {
                let hash = hash(name);
                match seen {
                    Some(seen) if lane.base.contains(hash) => lane.base.set(hash, Some(seen.entry)),
                    Some(_) => {
                        lane.base.foreign.insert(hash);
                    }
                    None => {}
                }
            }
            cursor = page.cursor;
            if cursor == 0 {
                break;
            }
        }
        for hash in lane.base.missing(Side::New) {
            lane.base.set(hash, None);
        }
        Ok(())
    }

    /// Watches both sides from now on.
    pub(crate) async fn step_up(&mut self) -> Result<(), CopyError> {
        self.both_ways = true;
        self.progress.state = State::BothWays;
        // Since the seal, whoever ran since then: what was thrown away while nobody looked counts too.
        self.evicted_at_start = self.record.evicted;
        self.rounds.source.wanted = true;
        // Nobody has written the target before the seal.
        let covered = self.rounds.target.covered.or(Some(Instant::now()));
        self.rounds.target = Rounds { wanted: true, covered, ..Rounds::default() };
        self.sweep = None;
        self.listen(Side::New).await
    }

    // === what a dead runner left ===

    /// Settles the writes to the source that were announced but not settled.
    pub(crate) async fn settle_intent(&mut self, lane: usize) -> Result<(), CopyError> {
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
        let key = self.ours.intent(here.from);
        let Some(intent) = bytes(here.links.target.ask("GET", redis::cmd("GET").arg(&key)).await?) else {
            return Ok(());
        };
        let applied = redis::cmd("GET").arg(self.ours.applied(here.from)).clone();
        let applied = bytes(here.links.source.ask("GET", &applied).await?).unwrap_or_default();
        let done = carried_out(&intent, &applied);
        self.move_base(lane, &done).await?;
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
        hold(&mut here.links.target, &self.fence, &key, b"").await
    }
}

fn base_move(lane: &Lane, ours: &super::key::Ours, hash: u64, entry: Option<Entry>) -> Option<BaseMove> {
    lane.base.bucket(hash).map(|bucket| BaseMove { bucket: ours.base(lane.from, bucket), hash, entry })
}

/// Writes ops to a side that needs no mark: by the script, and what no dump can carry command by command.
async fn write_all(
    fence: &super::apply::Fence,
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
fn needs_typed(lane: &Lane, side: Side, write: &Write<'_>, expect: &Expect<'_>) -> bool {
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

fn announced_together(cases: &[Case]) -> usize {
    let mut bytes = 0;
    let fits = |case: &&Case| {
        let ops = Op {
            name: &case.found.name,
            expect: case.expect(Side::Old),
            write: case.write(Side::Old, 0).unwrap_or(Write::Nothing),
            base: None,
        };
        bytes += weight(&ops);
        bytes <= INTENT_BYTES
    };
    cases.iter().take(INTENT).take_while(fits).count().max(1).min(cases.len())
}

/// The sequence number, then hash and agreed entry of each key.
fn encode_intent(sequence: u64, cases: &[Case]) -> Vec<u8> {
    let mut intent = sequence.to_be_bytes().to_vec();
    for case in cases {
        intent.extend(case.found.hash.to_be_bytes());
        match case.outcome.agreed {
            Some(entry) => {
                intent.push(1);
                intent.extend(encode(entry));
            }
            None => intent.extend([0; 17]),
        }
    }
    intent
}

/// The moves of an intent that the source's mark says were carried out.
fn carried_out(intent: &[u8], applied: &[u8]) -> Vec<(u64, Option<Entry>)> {
    let Some((sequence, entries)) = intent.split_at_checked(8) else { return Vec::new() };
    let sequence = u64::from_be_bytes(sequence.try_into().unwrap_or_default()).to_string();
    let Some(bits) = applied.strip_prefix(format!("{sequence}:").as_bytes()) else { return Vec::new() };
    let one = |entry: &[u8]| {
        let (hash, rest) = entry.split_at_checked(8)?;
        let (there, rest) = rest.split_first()?;
        let agreed = if *there == 1 { Some(decode(rest)?) } else { None };
        Some((u64::from_be_bytes(hash.try_into().ok()?), agreed))
    };
    let done = entries.chunks(25).zip(bits).filter(|(_, bit)| **bit == b'1');
    done.filter_map(|(entry, _)| one(entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_source_marked_was_carried_out() {
        let entry = Entry { digest: 7, deadline: Deadline::at(1_000) };
        let mut intent = 42_u64.to_be_bytes().to_vec();
        for (hash, agreed) in [(1_u64, Some(entry)), (2, None), (3, Some(entry))] {
            intent.extend(hash.to_be_bytes());
            intent.push(u8::from(agreed.is_some()));
            intent.extend(agreed.map_or(vec![0; 16], encode));
        }
        assert_eq!(carried_out(&intent, b"42:110"), [(1, Some(entry)), (2, None)]);
        assert_eq!(carried_out(&intent, b"42:001"), [(3, Some(entry))]);
        assert_eq!(carried_out(&intent, b"41:111"), []);
        assert_eq!(carried_out(&intent, b""), []);
    }
}
