//! Comparing both stores, key by key. What differs is carried again and compared again, so that only what stays
//! different counts: people go on clicking while we look.

use super::{
    base::Hashes,
    error::CopyError,
    key::{Choice, Tally, hash},
    progress::Verification,
    read::{Seen, scan},
    reconcile::Found,
    run::Runner,
};
use crate::merge::Side;

/// Expiry may differ by this, in milliseconds.
const TOLERANCE: i64 = 2_000;

/// How often a difference is looked at again.
const ROUNDS: usize = 5;

const PAGE: usize = 500;

impl Runner {
    /// A full pass over both sides.
    pub(crate) async fn verify(&mut self) -> Result<(), CopyError> {
        let mut compared = 0;
        let mut different = Tally::default();
        for lane in 0..self.lanes.len() {
            let mut met = Hashes::default();
            for side in [Side::Old, Side::New] {
                let mut cursor = None;
                while cursor != Some(0) {
                    let names = self.names(lane, side, &mut cursor).await?;
                    let found = self.comparable(lane, &names, &mut met);
                    compared += self.compare(lane, found, &mut different).await?;
                    // People must not wait for us, nor the sweeps of a store that gives no hints.
                    self.take_hints().await?;
                    self.step().await?;
                }
            }
        }
        let Tally { count, prefixes } = different;
        self.progress.verified = Some(Verification { compared, different: count, prefixes });
        self.progress.verifications += 1;
        self.tell();
        Ok(())
    }

    /// The next page of names; the cursor is 0 after the last.
    async fn names(&mut self, lane: usize, side: Side, cursor: &mut Option<u64>) -> Result<Vec<Vec<u8>>, CopyError> {
        let Some(here) = self.lanes.get_mut(lane) else {
            *cursor = Some(0);
            return Ok(Vec::new());
        };
        let page = scan(here.links.on_mut(side), cursor.unwrap_or_default(), None, PAGE).await?;
        *cursor = Some(page.cursor);
        Ok(page.names)
    }

    /// The names that are to be equal and were not met before.
    fn comparable(&self, lane: usize, names: &[Vec<u8>], met: &mut Hashes) -> Vec<Found> {
        let Some(here) = self.lanes.get(lane) else { return Vec::new() };
        let found = |name: &Vec<u8>| match self.selection.choose(name) {
            Choice::Move(kind) => Some(Found { name: name.clone(), hash: hash(name), kind }),
            Choice::Leave | Choice::Skip | Choice::Block | Choice::Queue => None,
        };
        let wanted = |found: &Found| !here.base.foreign.contains(&found.hash);
        let mine = |found: &Found| {
            let mut others = self.lanes.iter().enumerate().filter(|(at, other)| *at != lane && other.to == here.to);
            here.base.contains(found.hash) || !others.any(|(_, other)| other.base.contains(found.hash))
        };
        names.iter().filter_map(found).filter(|found| wanted(found) && mine(found) && met.insert(found.hash)).collect()
    }

    /// Compares some keys; returns how many there were.
    async fn compare(&mut self, lane: usize, found: Vec<Found>, different: &mut Tally) -> Result<u64, CopyError> {
        let mut left = found;
        let mut compared = None;
        for _ in 0..=ROUNDS {
            if left.is_empty() {
                break;
            }
            let (old, new) = self.read_both(lane, &left).await?;
            let now = old.now.max(new.now);
            let there = old.seen.iter().zip(&new.seen).filter(|(old, new)| old.is_some() || new.is_some());
            compared.get_or_insert(there.count());
            let mut again = Vec::new();
            for ((found, old), new) in left.into_iter().zip(&old.seen).zip(&new.seen) {
                if !alike(old.as_ref(), new.as_ref(), now) {
                    // Before the seal the base is what the target holds; if somebody else wrote it, it is not.
                    if !self.both_ways
                        && let Some(here) = self.lanes.get_mut(lane)
                    {
                        if old.is_none() && !here.base.contains(found.hash) {
                            here.base.foreign.insert(found.hash);
                            continue;
                        }
                        here.base.set(found.hash, new.as_ref().map(|seen| seen.entry));
                    }
                    again.push(found);
                }
            }
            left = again;
            let names: Vec<Vec<u8>> = left.iter().map(|found| found.name.clone()).collect();
            for side in self.watched() {
                self.look(lane, side, &names).await?;
            }
        }
        for found in &left {
            different.add(&found.name);
        }
        Ok(compared.unwrap_or_default() as u64)
    }
}

/// The same value, and deadlines that are as good as the same; what is about to expire does not matter.
fn alike(old: Option<&Seen>, new: Option<&Seen>, now: i64) -> bool {
    let soon = |seen: &Seen| seen.entry.deadline.millis().is_some_and(|at| at <= now + TOLERANCE);
    match (old, new) {
        (None, None) => true,
        (Some(one), None) | (None, Some(one)) => soon(one),
        (Some(old), Some(new)) => {
            let close = match (old.entry.deadline.millis(), new.entry.deadline.millis()) {
                (Some(old), Some(new)) => old.abs_diff(new) <= TOLERANCE.unsigned_abs(),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            old.entry.digest == new.entry.digest && close
        }
    }
}
