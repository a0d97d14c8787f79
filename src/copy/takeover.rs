//! Beginning a session: connect, take the fence, read what an earlier runner left, look over the target.
//!
//! Nothing is written to the target before it is known what was in it, and nothing to the source before the seal.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{
    Endpoint, Unmatched,
    apply::{Fence, Writer},
    base::{Base, load_foreign, store_foreign},
    error::CopyError,
    feed::{Inbox, choose, listen, set_notify},
    fence::{Grasp, grasp, plant, read_record, write_record},
    key::{Choice, Ours, Selection, Tally, hash},
    link::{Link, bytes, int},
    probe::facts,
    progress::{Feed, Progress, Sides, State},
    pulse,
    read::{clock, read, scan},
    run::{Lane, Life, Rounds, Runner},
    sweep::shift,
};
use crate::merge::{Entry, Side};

/// How often a fence that somebody holds is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Clocks that are this close, in milliseconds, are the same: deadlines then stay the same to the digit.
const SAME_CLOCK: i64 = 250;

impl Runner {
    /// Connects and takes over; waits while another runner is alive.
    pub(crate) async fn open(life: &mut Life) -> Result<Self, CopyError> {
        let spec = life.spec.clone();
        let ours = Ours::new(&spec.migration);
        let fence = Fence { key: ours.fence(), token: life.token.clone() };
        let mut control = Link::open(&spec.to, spec.to.database, life.spent.target.clone()).await?;
        refuse_cluster(&mut control).await?;
        let mut lanes = lanes(life).await?;
        let silent = wait_for_fence(&mut control, &ours, &fence, life).await?;
        for lane in &mut lanes {
            plant(&mut lane.links.target, &fence).await?;
        }
        let record = read_record(&mut control, &ours).await?.unwrap_or_default();
        if record.sealed {
            // Before anything is read: the runner we replace must not write the source any more either.
            for lane in &mut lanes {
                if !has_fence(&mut lane.links.source, &fence).await? {
                    return Err(CopyError::Emptied { store: lane.links.source.store().into() });
                }
                plant(&mut lane.links.source, &fence).await?;
            }
        }
        // Before our own heartbeat overwrites it.
        let before = Before { progress: before(&mut control, &ours).await?, silent };
        let arrived = Arc::new(Notify::new());
        let inbox = || Arc::new(Inbox::new(arrived.clone()));
        let pulse = pulse::start(&spec, &ours, &fence, life.publish.subscribe(), life.spent.clone());
        life.progress.state = State::Bulk;
        let mut runner = Self {
            selection: Selection::new(&spec),
            ours,
            fence,
            control,
            lanes,
            both_ways: false,
            inboxes: Sides { source: inbox(), target: inbox() },
            arrived: arrived.clone(),
            feeds: Sides::default(),
            pulse,
            progress: life.progress.clone(),
            publish: life.publish.clone(),
            spent: life.spent.clone(),
            rounds: Sides { source: Rounds::default(), target: Rounds::default() },
            sweep: None,
            not_before: Instant::now(),
            calm: None,
            counting: false,
            evicted_at_start: Sides::default(),
            unmatched: Tally::default(),
            same_names: Tally::default(),
            sequence: 0,
            record,
            spec,
        };
        runner.restart_progress();
        runner.inherit(before).await?;
        Ok(runner)
    }

    /// A session counts from the beginning what depends on sweeps.
    fn restart_progress(&mut self) {
        let progress = &mut self.progress;
        (progress.keys_total, progress.keys_copied, progress.skipped) = (0, 0, 0);
        (progress.lag, progress.expected_lag, progress.quiet_sweeps) = (None, None, 0);
        progress.quiet = Sides::default();
        self.tell();
    }

    async fn inherit(&mut self, before: Before) -> Result<(), CopyError> {
        self.sequence = u64::try_from(clock(&mut self.control).await?).unwrap_or_default() << 20;
        let mut total = 0;
        for lane in &mut self.lanes {
            let size = lane.links.source.ask("DBSIZE", &redis::cmd("DBSIZE")).await?;
            total += int(&size).and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        }
        self.progress.keys_total = total;
        if self.record.sealed {
            self.remember(before);
            let buckets = self.record.buckets.clone();
            for (at, buckets) in buckets.into_iter().enumerate() {
                let Some(lane) = self.lanes.get_mut(at) else { break };
                lane.base = Base::load(&mut lane.links.target, &self.ours, lane.from, buckets).await?;
                self.settle_intent(at).await?;
            }
            self.progress.keys_copied = self.progress.keys_total;
            let covered = self.rounds.target.covered;
            return self.step_up(Rounds { wanted: true, covered, ..Rounds::default() }).await;
        }
        self.measure_clocks().await?;
        self.refuse_unmatched().await?;
        self.look_over_all().await?;
        self.record.owned = true;
        self.record.databases = self.lanes.iter().map(|lane| (lane.from, lane.to)).collect();
        write_record(&mut self.control, &self.ours, &self.fence, &self.record).await?;
        self.hear(Side::Old).await.map(drop)
    }

    /// Measured once a migration, so that deadlines stay comparable for whoever takes over.
    async fn measure_clocks(&mut self) -> Result<(), CopyError> {
        if self.record.owned {
            return Ok(());
        }
        let Some(lane) = self.lanes.first_mut() else { return Ok(()) };
        let mut best = (Duration::MAX, 0);
        for _ in 0..5 {
            let asked = Instant::now();
            let (old, new) = tokio::try_join!(clock(&mut lane.links.source), clock(&mut lane.links.target))?;
            best = best.min((asked.elapsed(), old - new));
        }
        self.record.shift = if best.1.abs() < SAME_CLOCK { 0 } else { best.1 };
        Ok(())
    }

    /// What an earlier runner counted goes on, and the time in which nobody carried anything is lag.
    fn remember(&mut self, before: Before) {
        let Before { progress: before, silent } = before;
        let covered = silent.and_then(|silent| Instant::now().checked_sub(silent));
        for side in [Side::Old, Side::New] {
            self.rounds.on_mut(side).covered = covered;
        }
        let Some(before) = before else { return };
        let progress = &mut self.progress;
        progress.worst_lag_both_ways = progress.worst_lag_both_ways.max(before.worst_lag_both_ways);
        if before.conflicts > progress.conflicts {
            (progress.conflicts, progress.conflicting) = (before.conflicts, before.conflicting);
        }
        progress.carried = progress.carried.max(before.carried);
        progress.deleted = progress.deleted.max(before.deleted);
    }

    /// Where unmatched keys are a block they are one before anything is written.
    async fn refuse_unmatched(&mut self) -> Result<(), CopyError> {
        if self.spec.unmatched != Unmatched::Block {
            return Ok(());
        }
        let mut tally = Tally::default();
        for lane in &mut self.lanes {
            let mut cursor = 0;
            loop {
                let page = scan(&mut lane.links.source, cursor, None, 1_000).await?;
                let unmatched = page.names.iter().filter(|name| self.selection.choose(name) == Choice::Block);
                unmatched.for_each(|name| tally.add(name));
                cursor = page.cursor;
                if cursor == 0 {
                    break;
                }
            }
        }
        match tally.count {
            0 => Ok(()),
            count => Err(CopyError::UnmatchedKeys { count, prefixes: tally.prefixes }),
        }
    }

    async fn look_over_all(&mut self) -> Result<(), CopyError> {
        let mut tally = Tally::default();
        let mut unclaimed = HashMap::new();
        for at in 0..self.lanes.len() {
            self.look_over(at, &mut tally, &mut unclaimed).await?;
        }
        if tally.count > 0 {
            return Err(CopyError::TargetNotEmpty { count: tally.count, prefixes: tally.prefixes });
        }
        // Written by an earlier runner, gone from every source since: the first pair deletes it.
        for ((to, hash), entry) in unclaimed {
            let claims = |lane: &&mut Lane| lane.to == to;
            let claimed =
                |lane: &Lane| lane.to == to && (lane.base.contains(hash) || lane.base.foreign.contains(&hash));
            if !self.lanes.iter().any(claimed)
                && let Some(lane) = self.lanes.iter_mut().find(claims)
            {
                lane.base.set(hash, Some(entry));
            }
        }
        Ok(())
    }

    /// Takes what is in the target for the base. What is there before we ever wrote, and differs, is not ours.
    async fn look_over(
        &mut self,
        at: usize,
        tally: &mut Tally,
        unclaimed: &mut HashMap<(u32, u64), Entry>,
    ) -> Result<(), CopyError> {
        let (owned, offset) = (self.record.owned, self.record.shift);
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
        let foreign_key = self.ours.foreign(lane.from);
        if owned {
            lane.base.foreign = load_foreign(&mut lane.links.target, &foreign_key).await?;
        }
        let selection = &self.selection;
        let mut cursor = 0;
        loop {
            let page = scan(&mut lane.links.target, cursor, None, 500).await?;
            let moves = |name: &Vec<u8>| matches!(selection.choose(name), Choice::Move(_));
            let names: Vec<Vec<u8>> = page.names.into_iter().filter(moves).collect();
            let there = read(&mut lane.links.target, &names, shift(Side::New, offset)).await?;
            let here = read(&mut lane.links.source, &names, 0).await?;
            for ((name, there), here) in names.iter().zip(there.seen).zip(here.seen) {
                let hash = hash(name);
                let Some(there) = there.filter(|_| !lane.base.foreign.contains(&hash)) else { continue };
                match here {
                    Some(_) if owned => lane.base.set(hash, Some(there.entry)),
                    None if owned => {
                        unclaimed.insert((lane.to, hash), there.entry);
                    }
                    Some(here) if here.entry.digest == there.entry.digest => lane.base.set(hash, Some(there.entry)),
                    Some(_) => tally.add(name),
                    None => {
                        lane.base.foreign.insert(hash);
                    }
                }
            }
            cursor = page.cursor;
            if cursor == 0 {
                break;
            }
        }
        if !owned {
            store_foreign(&mut lane.links.target, &foreign_key, &lane.base.foreign).await?;
        }
        Ok(())
    }

    /// Starts the feed of a side, if it has one.
    pub(crate) async fn listen(&mut self, side: Side) -> Result<(), CopyError> {
        if self.feeds.on(side).is_some() {
            return Ok(());
        }
        let endpoint = self.endpoint(side).clone();
        let spent = self.spent.on(side).clone();
        let Some(lane) = self.lanes.first_mut() else { return Ok(()) };
        let (mut feed, change) = choose(&endpoint, lane.links.on_mut(side), &spent).await?;
        if let Some((former, wanted)) = change {
            // Written down before it is changed, so that whoever ends the migration can put it back.
            self.record.notify.on_mut(side).get_or_insert(former);
            write_record(&mut self.control, &self.ours, &self.fence, &self.record).await?;
            let Some(lane) = self.lanes.first_mut() else { return Ok(()) };
            if let Err(error) = set_notify(lane.links.on_mut(side), &wanted).await {
                if error.passes() {
                    return Err(error);
                }
                feed = Feed::None;
                *self.record.notify.on_mut(side) = None;
                write_record(&mut self.control, &self.ours, &self.fence, &self.record).await?;
            }
        }
        *self.progress.feeds.on_mut(side) = feed;
        if feed != Feed::None {
            *self.feeds.on_mut(side) = Some(listen(endpoint, feed, self.inboxes.on(side).clone(), spent));
        }
        Ok(())
    }

    /// Puts the stores' settings back as they were.
    pub(crate) async fn restore_notify(&mut self) -> Result<(), CopyError> {
        for side in [Side::Old, Side::New] {
            let Some(former) = self.record.notify.on_mut(side).take() else { continue };
            let Some(lane) = self.lanes.first_mut() else { continue };
            set_notify(lane.links.on_mut(side), &former).await?;
            write_record(&mut self.control, &self.ours, &self.fence, &self.record).await?;
        }
        Ok(())
    }

    pub(crate) fn endpoint(&self, side: Side) -> &Endpoint {
        match side {
            Side::Old => &self.spec.from,
            Side::New => &self.spec.to,
        }
    }
}

/// What the last runner said last, and for how long there was none.
struct Before {
    progress: Option<Progress>,
    silent: Option<Duration>,
}

async fn before(control: &mut Link, ours: &Ours) -> Result<Option<Progress>, CopyError> {
    let said = bytes(control.ask("GET", redis::cmd("GET").arg(ours.progress())).await?);
    Ok(said.and_then(|said| serde_json::from_slice(&said).ok()))
}

async fn lanes(life: &Life) -> Result<Vec<Lane>, CopyError> {
    let spec = &life.spec;
    let only = vec![(spec.from.database, spec.to.database)];
    let pairs = if spec.databases.is_empty() { only } else { spec.databases.clone() };
    let mut lanes = Vec::with_capacity(pairs.len());
    for (from, to) in pairs {
        let mut source = Link::open(&spec.from, from, life.spent.source.clone()).await?;
        let mut target = Link::open(&spec.to, to, life.spent.target.clone()).await?;
        refuse_cluster(&mut source).await?;
        source.learn().await?;
        target.learn().await?;
        let writers = Sides { source: Writer::load(&mut source).await?, target: Writer::load(&mut target).await? };
        let links = Sides { source, target };
        lanes.push(Lane { from, to, links, writers, base: Base::default(), no_dump: Sides::default() });
    }
    Ok(lanes)
}

async fn refuse_cluster(link: &mut Link) -> Result<(), CopyError> {
    let cluster = facts(link, 0).await?.cluster;
    if cluster { Err(CopyError::ClusterMode { store: link.store().into() }) } else { Ok(()) }
}

async fn has_fence(link: &mut Link, fence: &Fence) -> Result<bool, CopyError> {
    let exists = link.ask("EXISTS", redis::cmd("EXISTS").arg(&fence.key)).await?;
    Ok(int(&exists) == Some(1))
}

/// Returns for how long there was no runner.
async fn wait_for_fence(
    control: &mut Link,
    ours: &Ours,
    fence: &Fence,
    life: &mut Life,
) -> Result<Option<Duration>, CopyError> {
    loop {
        match grasp(control, ours, fence, life.spec.take_over).await? {
            Grasp::Taken { silent_ms } => {
                let silent = silent_ms.and_then(|silent| u64::try_from(silent).ok());
                return Ok(silent.map(Duration::from_millis));
            }
            Grasp::Held { by, silent_ms } => {
                let holder = by.rsplit_once('#').map_or(by.as_str(), |(runner, _)| runner);
                let detail = format!("runner {holder} was alive {silent_ms} ms ago; waiting until it is not");
                life.progress.trouble = Some(CopyError::Busy { store: control.store().into(), detail });
                life.publish.send_replace(life.progress.clone());
                sleep(LOOK_AGAIN).await;
            }
        }
    }
}
