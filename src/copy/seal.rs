//! The seal: the moment from which both stores are written by their users. What both had is stored in the target, so
//! that whoever takes over judges as this runner would have.

use tokio::time::Instant;

use super::{
    base::discard,
    error::CopyError,
    fence::{Record, plant, write_record},
    key::{Choice, hash},
    progress::State,
    pulse::evictions,
    read::{read, scan},
    run::{Rounds, Runner},
    sweep::shift,
};
use crate::merge::Side;

impl Runner {
    /// From here on both stores are written by their users: what both had is stored for whoever takes over.
    pub(crate) async fn seal(&mut self) -> Result<(), CopyError> {
        for lane in &mut self.lanes {
            plant(&mut lane.links.source, &self.fence).await?;
        }
        let mut buckets = Vec::new();
        for at in 0..self.lanes.len() {
            self.look_at_target(at).await?;
            let Some(lane) = self.lanes.get_mut(at) else { break };
            discard(&mut lane.links.target, &self.ours.bases()).await?;
            let count = lane.base.buckets();
            lane.base.seal_with(count);
            lane.base.store(&mut lane.links.target, &self.ours, lane.from).await?;
            buckets.push(count);
        }
        let mut record = Record { sealed: true, buckets, ..self.record.clone() };
        if let Some(lane) = self.lanes.first_mut() {
            for side in [Side::Old, Side::New] {
                *record.evicted.on_mut(side) = evictions(lane.links.on_mut(side)).await?;
            }
        }
        write_record(&mut self.control, &self.ours, &self.fence, &record).await?;
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
}
