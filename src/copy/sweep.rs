//! Sweeps: a page of one side at a time, compared with the base. They are the truth; hints only make them rarer.
//!
//! A sweep reads one side only. What differs from the base goes to `reconcile`; what the scan did not meet is looked
//! for on the other side, because the base knows hashes and only a store knows names.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    base::Hashes,
    error::CopyError,
    key::{Choice, hash},
    progress::State,
    read::{read, scan},
    reconcile::Found,
    run::Runner,
};
use crate::broker::CELERY;
use crate::journal::Uncarried;
use crate::merge::Side;

/// Names asked for in one page: beyond some 300 nothing is gained.
const PAGE: usize = 500;

/// A sweep under way.
#[derive(Debug)]
pub(crate) struct Sweep {
    side: Side,
    lane: usize,
    /// `None`: this lane's scan has not begun.
    cursor: Option<u64>,
    started: Instant,
    keys: u64,
    skipped: u64,
    uncarried: Uncarried,
}

impl Runner {
    /// Does the next bit of sweeping. Returns until when there is nothing to do.
    pub(crate) async fn step(&mut self) -> Result<Option<Instant>, CopyError> {
        let now = Instant::now();
        if now < self.not_before {
            return Ok(Some(self.not_before));
        }
        let Some(mut sweep) = self.sweep.take() else {
            return Ok(self.begin(now));
        };
        self.page(&mut sweep).await?;
        if sweep.cursor != Some(0) {
            self.sweep = Some(sweep);
            return Ok(None);
        }
        self.missing(sweep.lane, sweep.side).await?;
        if sweep.lane + 1 < self.lanes.len() {
            self.sweep = Some(Sweep { lane: sweep.lane + 1, cursor: None, ..sweep });
            return Ok(None);
        }
        self.complete(&sweep)?;
        Ok(None)
    }

    /// Begins the sweep that is due, or says when the next one will be.
    fn begin(&mut self, now: Instant) -> Option<Instant> {
        let due = |runner: &Self, side: Side| {
            let rounds = runner.rounds.on(side);
            match rounds.ended {
                Some(ended) if !rounds.wanted => ended + runner.pause(side),
                Some(_) | None => now,
            }
        };
        let (side, at) = self.watched().map(|side| (side, due(self, side))).min_by_key(|(_, at)| *at)?;
        if at > now {
            return Some(at);
        }
        // Both may be due all the time: they take turns.
        let side = match self
            .watched()
            .filter(|side| due(self, *side) <= now)
            .min_by_key(|side| self.rounds.on(*side).ended)
        {
            Some(longest_ago) => longest_ago,
            None => side,
        };
        self.rounds.on_mut(side).wanted = false;
        let uncarried = Uncarried::default();
        self.sweep = Some(Sweep { side, lane: 0, cursor: None, started: now, keys: 0, skipped: 0, uncarried });
        None
    }

    /// How long a side rests between two sweeps.
    pub(crate) fn pause(&self, side: Side) -> Duration {
        let endpoint = match side {
            Side::Old => &self.spec.from,
            Side::New => &self.spec.to,
        };
        let took = self.rounds.on(side).took.unwrap_or_default();
        let billed = endpoint.counted;
        if self.counting {
            return took.max(Duration::from_millis(if billed { 1_000 } else { 250 }));
        }
        match (self.feed_is_good(side), billed) {
            (true, false) => (took * 20).max(Duration::from_secs(10)),
            (true, true) => Duration::from_mins(2),
            // Half of the time at most: we are a guest.
            (false, false) => took.max(Duration::from_millis(50)),
            (false, true) => took.max(self.spec.max_lag / 2).max(Duration::from_secs(1)),
        }
    }

    async fn page(&mut self, sweep: &mut Sweep) -> Result<(), CopyError> {
        let began = Instant::now();
        let Some(lane) = self.lanes.get_mut(sweep.lane) else { return Ok(()) };
        if sweep.cursor.is_none() {
            lane.base.begin(sweep.side);
        }
        let page = scan(lane.links.on_mut(sweep.side), sweep.cursor.unwrap_or_default(), None, PAGE).await?;
        sweep.cursor = Some(page.cursor);
        let looked = self.look(sweep.lane, sweep.side, &page.names).await?;
        sweep.keys += looked.moving;
        sweep.skipped += looked.skipped;
        sweep.uncarried.queues += looked.uncarried.queues;
        sweep.uncarried.unmatched += looked.uncarried.unmatched;
        if sweep.side == Side::Old && self.rounds.source.complete == 0 {
            self.progress.keys_copied += looked.moving;
            self.progress.keys_total = self.progress.keys_total.max(self.progress.keys_copied);
        }
        self.rest(page.names.len(), began.elapsed());
        Ok(())
    }

    /// Keeps to the rate that was asked for, and gives way when the store has become slow.
    fn rest(&mut self, keys: usize, took: Duration) {
        let now = Instant::now();
        if let Some(rate) = self.spec.keys_per_second.filter(|rate| *rate > 0) {
            let share = Duration::from_secs_f64(f64::from(u32::try_from(keys).unwrap_or(u32::MAX)) / f64::from(rate));
            self.not_before = now + share.saturating_sub(took);
        }
        if keys * 2 < PAGE {
            return;
        }
        let calm = *self.calm.get_or_insert(took);
        self.calm = Some(if took < calm { took } else { calm + calm / 50 });
        if took > calm * 4 && took > Duration::from_millis(50) {
            self.not_before = self.not_before.max(now + took);
        }
    }

    /// Reads names on one side and carries what differs from the base.
    pub(crate) async fn look(&mut self, lane: usize, side: Side, names: &[Vec<u8>]) -> Result<Looked, CopyError> {
        let mut looked = Looked::default();
        let mut chosen: Vec<Found> = Vec::with_capacity(names.len());
        let mut met = HashSet::with_capacity(names.len());
        let mut queues: BTreeSet<&str> = BTreeSet::new();
        for name in names {
            let kind = match self.selection.choose(name) {
                Choice::Move(kind) => kind,
                Choice::Leave => continue,
                Choice::Skip => {
                    looked.skipped += 1;
                    continue;
                }
                Choice::Block => {
                    self.block(name)?;
                    looked.uncarried.unmatched += 1;
                    continue;
                }
                Choice::Queue if self.both_ways => {
                    looked.uncarried.queues += 1;
                    continue;
                }
                Choice::Queue => {
                    queues.insert(CELERY.iter().rfind(|known| name.starts_with(known.as_bytes())).unwrap_or(&"celery"));
                    continue;
                }
            };
            let hash = hash(name);
            if self.belongs(lane, side, hash, name) && met.insert(hash) {
                chosen.push(Found { name: name.clone(), hash, kind });
            }
        }
        if !queues.is_empty() {
            let store = self.endpoint(side).name();
            return Err(CopyError::Queues { store, names: queues.into_iter().map(str::to_owned).collect() });
        }
        looked.moving = chosen.len() as u64;
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(looked) };
        let shift = shift(side, self.record.shift);
        let names: Vec<Vec<u8>> = chosen.iter().map(|found| found.name.clone()).collect();
        let reading = read(here.links.on_mut(side), &names, shift).await?;
        let mut differing = Vec::new();
        let mut readings = Vec::new();
        for (found, seen) in chosen.into_iter().zip(reading.seen) {
            here.base.mark(side, found.hash);
            if here.base.get(found.hash) != seen.as_ref().map(|seen| seen.entry) {
                differing.push(found);
                readings.push(seen);
            }
        }
        if !differing.is_empty() {
            self.carry(lane, side, differing, readings, reading.now).await?;
        }
        Ok(looked)
    }

    /// Before the seal an unmatched key is a block; afterwards going on is the smaller evil.
    fn block(&mut self, name: &[u8]) -> Result<(), CopyError> {
        self.unmatched.add(name);
        if self.rounds.source.complete > 0 && !self.both_ways {
            return Err(self.unmatched_error());
        }
        Ok(())
    }

    fn unmatched_error(&mut self) -> CopyError {
        let tally = std::mem::take(&mut self.unmatched);
        CopyError::UnmatchedKeys { count: tally.count, prefixes: tally.prefixes }
    }

    /// Two source databases may share a target database: then a key there belongs to the one that has it in its base,
    /// a new one to the first. In the source every key belongs to its own database.
    fn belongs(&mut self, lane: usize, side: Side, hash: u64, name: &[u8]) -> bool {
        let Some(mine) = self.lanes.get(lane) else { return false };
        if mine.base.foreign.contains(&hash) {
            return side == Side::Old && !self.both_ways;
        }
        let mut siblings = self.lanes.iter().enumerate().filter(|(at, other)| *at != lane && other.to == mine.to);
        match side {
            Side::New => {
                mine.base.contains(hash) || siblings.all(|(at, other)| !other.base.contains(hash) && at > lane)
            }
            Side::Old => {
                let taken = siblings.any(|(_, other)| other.base.contains(hash));
                if taken {
                    self.same_names.add(name);
                }
                !taken
            }
        }
    }

    /// What a complete scan did not meet is gone, or has expired.
    async fn missing(&mut self, lane: usize, side: Side) -> Result<(), CopyError> {
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
        let missing = here.base.missing(side);
        if missing.is_empty() {
            return Ok(());
        }
        let mut nowhere = missing.clone();
        let mut cursor = 0;
        loop {
            let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
            let page = scan(here.links.on_mut(side.other()), cursor, None, PAGE * 2).await?;
            let wanted = |name: &Vec<u8>| missing.contains(&hash(name));
            let names: Vec<Vec<u8>> = page.names.into_iter().filter(wanted).collect();
            for name in &names {
                nowhere.remove(&hash(name));
            }
            for some in names.chunks(PAGE) {
                self.look(lane, side, some).await?;
            }
            cursor = page.cursor;
            if cursor == 0 {
                break;
            }
        }
        self.forget(lane, &nowhere).await
    }

    /// Neither side has these: nothing is left to agree on.
    async fn forget(&mut self, lane: usize, nowhere: &Hashes) -> Result<(), CopyError> {
        let moves: Vec<_> = nowhere.iter().map(|hash| (*hash, None)).collect();
        self.move_base(lane, &moves).await
    }

    fn complete(&mut self, sweep: &Sweep) -> Result<(), CopyError> {
        let Sweep { side, started, keys, skipped, uncarried, .. } = *sweep;
        if self.both_ways {
            *self.progress.uncarried.on_mut(side) = uncarried;
        }
        if side == Side::Old {
            self.progress.skipped = skipped;
        }
        let good = self.feed_is_good(side);
        let rounds = self.rounds.on_mut(side);
        let first = rounds.complete == 0;
        let lag = rounds.covered.map(|covered| covered.elapsed());
        rounds.by_sweep = lag;
        rounds.covered = rounds.covered.max(Some(started));
        rounds.took = Some(started.elapsed());
        rounds.ended = Some(Instant::now());
        let quiet = rounds.carried == 0;
        rounds.carried = 0;
        // A feed that came up, or lost something, after the sweep began has asked for another one.
        rounds.trusted |= !rounds.wanted;
        if let Some(lag) = lag.filter(|_| !good) {
            self.measured(lag);
        }
        self.rounds.on_mut(side).complete += 1;
        self.count(side, quiet);
        if side == Side::Old && first && !self.both_ways {
            self.first_pass_is_over(keys)?;
        }
        Ok(())
    }

    fn count(&mut self, side: Side, quiet: bool) {
        if !self.counting {
            return;
        }
        let counted = self.progress.quiet.on_mut(side);
        *counted = if quiet { *counted + 1 } else { 0 };
        let (source, target) = (self.progress.quiet.source, self.progress.quiet.target);
        self.progress.quiet_sweeps = if self.both_ways { source.min(target) } else { source };
    }

    fn first_pass_is_over(&mut self, keys: u64) -> Result<(), CopyError> {
        if self.unmatched.count > 0 {
            return Err(self.unmatched_error());
        }
        if self.same_names.count > 0 {
            let tally = std::mem::take(&mut self.same_names);
            return Err(CopyError::SameNames { count: tally.count, prefixes: tally.prefixes });
        }
        (self.progress.keys_total, self.progress.keys_copied) = (keys, keys);
        self.progress.state = State::Following;
        Ok(())
    }
}

/// What a look met.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looked {
    pub(crate) moving: u64,
    pub(crate) skipped: u64,
    pub(crate) uncarried: Uncarried,
}

/// What to add to a side's clock to get the old store's.
pub(crate) const fn shift(side: Side, offset: i64) -> i64 {
    match side {
        Side::Old => 0,
        Side::New => offset,
    }
}
