//! Making the base anew, because a person said `retry` after a store had thrown keys away or lost them all.
//!
//! A deletion cannot be told from a loss then, so nothing is deleted: of the base only those keys are kept that both
//! stores still have, and everything else is carried to the side that does not have it. Where nothing was lost this
//! costs the logouts of the meantime, never a session.

use super::{
    base::{Base, Hashes},
    error::CopyError,
    fence::write_record,
    key::{hash, rules},
    marks::hold_attempt,
    progress::Sides,
    pulse::evictions,
    read::scan,
    run::Runner,
};
use crate::merge::Side;

/// Bases that are moved in one go.
const TOGETHER: usize = 1_000;

impl Runner {
    /// Keeps of the base what both stores have. The old entry still tells which side has changed; a key that one store
    /// lacks loses its entry, in the stored base too, so that whatever happens next it is carried and not deleted.
    pub(crate) async fn rebase(&mut self) -> Result<(), CopyError> {
        // First: what is thrown away while we look counts.
        self.record.evicted = self.eviction_counters().await?;
        for at in 0..self.lanes.len() {
            let old = self.present(at, Side::Old).await?;
            let new = self.present(at, Side::New).await?;
            let Some(lane) = self.lanes.get(at) else { break };
            let lost = lane.base.hashes().filter(|hash| !(old.contains(hash) && new.contains(hash)));
            let moves: Vec<_> = lost.map(|hash| (hash, None)).collect();
            for some in moves.chunks(TOGETHER) {
                self.move_base(at, some).await?;
            }
        }
        self.seal_attempt().await
    }

    /// The target has lost even the record: both stores are in step with nothing, and everything is carried.
    pub(crate) async fn rebuild(&mut self) -> Result<(), CopyError> {
        self.record.evicted = self.eviction_counters().await?;
        self.record.databases = self.spec.pairs();
        self.record.rules = Some(rules(&self.spec));
        for lane in &mut self.lanes {
            let buckets = Base::buckets_for(self.progress.keys_total);
            lane.base.divide(buckets);
            self.record.buckets.push(buckets);
        }
        (self.record.owned, self.record.sealed) = (true, true);
        self.seal_attempt().await
    }

    /// Written last: a runner that dies before it leaves the same to be done.
    async fn seal_attempt(&mut self) -> Result<(), CopyError> {
        self.record.attempt = self.record.attempt.max(self.spec.attempt);
        self.record.doubted = false;
        write_record(&mut self.control, &self.ours, &self.fence, &self.record).await?;
        for lane in &mut self.lanes {
            hold_attempt(&mut lane.links.source, &self.ours, &self.fence, self.record.attempt).await?;
        }
        Ok(())
    }

    /// A `retry` that meets a copier at work changes nothing, but whoever takes over must not take it for his own.
    pub(crate) async fn note_attempt(&mut self) -> Result<(), CopyError> {
        let said = self.attempt.load(std::sync::atomic::Ordering::Relaxed);
        if said <= self.record.attempt {
            return Ok(());
        }
        self.spec.attempt = said;
        self.record.attempt = said;
        write_record(&mut self.control, &self.ours, &self.fence, &self.record).await?;
        if self.record.sealed {
            for lane in &mut self.lanes {
                hold_attempt(&mut lane.links.source, &self.ours, &self.fence, said).await?;
            }
        }
        Ok(())
    }

    /// The keys of the base that a side has.
    async fn present(&mut self, at: usize, side: Side) -> Result<Hashes, CopyError> {
        let mut present = Hashes::default();
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(present) };
        let mut cursor = 0;
        loop {
            let page = scan(lane.links.on_mut(side), cursor, None, 1_000).await?;
            let hashes = page.names.iter().map(|name| hash(name));
            present.extend(hashes.filter(|hash| lane.base.contains(*hash)));
            cursor = page.cursor;
            if cursor == 0 {
                return Ok(present);
            }
        }
    }

    /// How many keys each store has ever thrown away.
    pub(crate) async fn eviction_counters(&mut self) -> Result<Sides<Option<u64>>, CopyError> {
        let mut counters = Sides::default();
        if let Some(lane) = self.lanes.first_mut() {
            for side in [Side::Old, Side::New] {
                *counters.on_mut(side) = evictions(lane.links.on_mut(side)).await?;
            }
        }
        Ok(counters)
    }

    /// A store that throws keys away must not look like one whose users log out.
    pub(crate) async fn refuse_evictions(&mut self, lane: usize, side: Side) -> Result<(), CopyError> {
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
        let link = here.links.on_mut(side);
        let Some(now) = evictions(link).await? else { return Ok(()) };
        let start = *self.evicted_at_start.on_mut(side).get_or_insert(now);
        match thrown_away(start, now) {
            0 => Ok(()),
            evicted => Err(CopyError::Evicting { store: link.store().into(), evicted }),
        }
    }
}

/// By a counter that begins at 0 again when the server starts.
pub(crate) const fn thrown_away(start: u64, now: u64) -> u64 {
    if now < start { now } else { now - start }
}

#[cfg(test)]
mod tests {
    use super::thrown_away;

    #[test]
    fn a_counter_that_was_reset_counts_from_zero() {
        assert_eq!([thrown_away(5, 5), thrown_away(5, 7), thrown_away(5, 0), thrown_away(5, 2)], [0, 2, 0, 2]);
    }
}
