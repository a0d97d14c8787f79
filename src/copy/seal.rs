//! The seal: the moment from which both stores are written by their users. What both had is stored in the target, so
//! that whoever takes over judges as this runner would have.
//!
//! Following goes on meanwhile; only the last few changes of the base are stored with nothing in between.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    base::Base,
    error::CopyError,
    fence::{Record, plant, write_record},
    key::{Choice, hash},
    marks::hold_attempt,
    progress::State,
    read::{read, scan},
    run::{Rounds, Runner},
    sweep::shift,
};
use crate::merge::Side;

/// How long a feed is waited for; without it the side is swept once more when it comes.
const FEED_PATIENCE: Duration = Duration::from_secs(2);

impl Runner {
    /// From here on both stores are written by their users: what both had is stored for whoever takes over.
    pub(crate) async fn seal(&mut self) -> Result<(), CopyError> {
        for side in [Side::Old, Side::New] {
            self.refuse_evictions(0, side).await?;
        }
        for lane in &mut self.lanes {
            plant(&mut self.control, &self.ours, &mut lane.links.source, &self.fence).await?;
            hold_attempt(&mut lane.links.source, &self.ours, &self.fence, self.record.attempt).await?;
        }
        // Before the target is read, so that what happens to it afterwards is either a hint or counted.
        let fed = self.hear(Side::New).await?;
        let evicted = self.eviction_counters().await?;
        let record = Record { sealed: true, evicted, ..self.record.clone() };
        let began = Instant::now();
        for at in 0..self.lanes.len() {
            self.look_at_target(at).await?;
        }
        let took = began.elapsed();
        for at in 0..self.lanes.len() {
            self.store_base(at).await?;
        }
        for lane in &mut self.lanes {
            lane.base.store_changes(&mut lane.links.target, &self.fence, &self.ours, lane.from).await?;
        }
        write_record(&mut self.control, &self.ours, &self.fence, &record).await?;
        self.record = record;
        let target = Rounds {
            wanted: !fed,
            trusted: fed,
            covered: Some(began),
            took: Some(took),
            ended: Some(Instant::now()),
            complete: 1,
            ..Rounds::default()
        };
        self.step_up(target).await
    }

    /// Starts a side's feed and waits for it; `true`: it is up, and whatever is read from now on needs no other hint.
    pub(crate) async fn hear(&mut self, side: Side) -> Result<bool, CopyError> {
        self.listen(side).await?;
        let until = Instant::now() + FEED_PATIENCE;
        while self.feeds.on(side).is_some() && Instant::now() < until {
            if self.inboxes.on(side).is_up() {
                drop(self.inboxes.on(side).take());
                return Ok(true);
            }
            self.take_hints().await?;
            sleep(Duration::from_millis(5)).await;
        }
        Ok(false)
    }

    /// What the target really holds is the base: what it has thrown away or somebody else has put there must not look
    /// like a user's doing afterwards.
    async fn look_at_target(&mut self, at: usize) -> Result<(), CopyError> {
        let offset = self.record.shift;
        let mut cursor = None;
        while cursor != Some(0) {
            let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
            if cursor.is_none() {
                lane.base.note_changes();
                lane.base.begin(Side::New);
            }
            let page = scan(&mut lane.links.target, cursor.unwrap_or_default(), None, 500).await?;
            cursor = Some(page.cursor);
            let moves = |name: &Vec<u8>| matches!(self.selection.choose(name), Choice::Move(_));
            let names: Vec<Vec<u8>> = page.names.into_iter().filter(moves).collect();
            let reading = read(&mut lane.links.target, &names, shift(Side::New, offset)).await?;
            let to = lane.to;
            for (name, seen) in names.iter().zip(reading.seen) {
                let hash = hash(name);
                let Some(seen) = seen else { continue };
                let claimed = self.lanes.iter().any(|lane| lane.to == to && lane.base.contains(hash));
                let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
                if lane.base.contains(hash) {
                    lane.base.set(hash, Some(seen.entry));
                } else if !claimed {
                    lane.base.foreign.insert(hash);
                }
            }
            self.take_hints().await?;
        }
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
        for hash in lane.base.missing(Side::New) {
            lane.base.set(hash, None);
        }
        Ok(())
    }

    /// Stores the whole base of a lane, following all the while: with what was found equal, and whose keys are foreign.
    async fn store_base(&mut self, at: usize) -> Result<(), CopyError> {
        let Some(lane) = self.lanes.get(at) else { return Ok(()) };
        let buckets = lane.base.sorted();
        for some in buckets.chunks(100) {
            let Some(lane) = self.lanes.get_mut(at) else { break };
            Base::store(&mut lane.links.target, &self.fence, &self.ours, lane.from, some).await?;
            self.take_hints().await?;
        }
        Ok(())
    }

    /// Watches both sides from now on.
    pub(crate) async fn step_up(&mut self, target: Rounds) -> Result<(), CopyError> {
        self.both_ways = true;
        self.progress.state = State::BothWays;
        // Since the seal, whoever ran since then: what was thrown away while nobody looked counts too.
        self.evicted_at_start = self.record.evicted;
        self.rounds.source.wanted = true;
        self.rounds.target = target;
        self.sweep = None;
        for side in [Side::Old, Side::New] {
            if !self.inboxes.on(side).is_up() {
                self.hear(side).await?;
            }
        }
        Ok(())
    }
}
