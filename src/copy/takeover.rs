//! Beginning a session: connect, take the fence, read what an earlier runner left, look over the target.
//!
//! Nothing is written to the target before it is known what was in it, and nothing to the source before the seal.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{
    CopySpec, Endpoint,
    apply::{Fence, Writer},
    base::Base,
    clear::leave_target,
    error::CopyError,
    feed::{Inbox, choose, listen, set_notify},
    fence::{Grasp, Record, grasp, held, read_record, write_record},
    key::{Ours, Selection, Tally, rules},
    link::{Link, bytes, int},
    marks::{Anew, mark, refuse},
    probe::facts,
    progress::{Feed, Progress, Sides, State},
    pulse,
    read::clock,
    run::{Lane, Life, Rounds, Runner},
};
use crate::merge::Side;

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
        let mut lanes = lanes(&spec, &life.spent).await?;
        // Before anything is touched, and again once nobody else can write it.
        read_record(&mut control, &ours).await?.map_or(Ok(()), |record| refuse(&record, &spec))?;
        let silent = wait_for_fence(&mut control, &ours, &fence, life).await?;
        let record = read_record(&mut control, &ours).await?;
        let owned = record.as_ref().is_some_and(|record| record.owned);
        let marked = mark(&mut control, &mut lanes, &spec, &ours, &fence, record).await;
        let opened = match marked {
            Ok((record, anew)) => {
                Self::begin_session(life, Opening { control, lanes, record, anew, silent }, ours.clone(), fence.clone())
                    .await
            }
            Err(error) => Err(error),
        };
        match opened {
            // Nothing there is ours: the store that is refused is left as it was found.
            Err(error) if !error.passes() && !owned => {
                if let Err(error) = leave_target(&spec, &ours, &fence).await {
                    tracing::warn!(%error, "the target could not be left as it was found");
                }
                Err(error)
            }
            opened => opened,
        }
    }

    async fn begin_session(life: &Life, opening: Opening, ours: Ours, fence: Fence) -> Result<Self, CopyError> {
        let Opening { mut control, lanes, record, anew, silent } = opening;
        let spec = life.spec.clone();
        // Before our own heartbeat overwrites it.
        let before = Before { progress: before(&mut control, &ours).await?, silent };
        let arrived = Arc::new(Notify::new());
        let inbox = || Arc::new(Inbox::new(arrived.clone()));
        let pulse = pulse::start(&spec, &ours, &fence, life.publish.subscribe(), life.spent.clone());
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
            progress: Progress { state: State::Bulk, ..life.progress.clone() },
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
            attempt: life.attempt.clone(),
            record,
            spec,
        };
        runner.restart_progress();
        runner.inherit(before, anew).await?;
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

    async fn inherit(&mut self, before: Before, anew: Anew) -> Result<(), CopyError> {
        self.sequence = u64::try_from(clock(&mut self.control).await?).unwrap_or_default() << 20;
        let mut total = 0;
        for lane in &mut self.lanes {
            let size = lane.links.source.ask("DBSIZE", &redis::cmd("DBSIZE")).await?;
            total += int(&size).and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        }
        self.progress.keys_total = total;
        match anew {
            Anew::No if self.record.sealed => {
                self.remember(before);
                self.load_bases().await?;
            }
            Anew::Base => {
                self.remember(before);
                self.load_bases().await?;
                self.rebase().await?;
            }
            Anew::Everything => {
                self.measure_clocks().await?;
                self.rebuild().await?;
            }
            Anew::No => return self.begin_following().await,
        }
        self.progress.keys_copied = self.progress.keys_total;
        let covered = self.rounds.target.covered;
        self.step_up(Rounds { wanted: true, covered, ..Rounds::default() }).await
    }

    async fn load_bases(&mut self) -> Result<(), CopyError> {
        for (at, buckets) in self.record.buckets.clone().into_iter().enumerate() {
            let Some(lane) = self.lanes.get_mut(at) else { break };
            lane.base = Base::load(&mut lane.links.target, &self.ours, lane.from, buckets).await?;
            self.settle_intent(at).await?;
        }
        Ok(())
    }

    /// What was written before us; without a record of that, nothing in the target is ours.
    async fn open_bases(&mut self) -> Result<(), CopyError> {
        if self.record.owned && self.record.buckets.len() == self.lanes.len() {
            return self.load_bases().await;
        }
        let buckets = Base::buckets_for(self.progress.keys_total);
        self.record.buckets = vec![buckets; self.lanes.len()];
        self.lanes.iter_mut().for_each(|lane| lane.base.divide(buckets));
        Ok(())
    }

    /// Before the seal: what is in the target is looked over, whoever wrote it.
    async fn begin_following(&mut self) -> Result<(), CopyError> {
        self.measure_clocks().await?;
        if !self.record.owned || self.record.attempt < self.spec.attempt {
            self.record.evicted = self.eviction_counters().await?;
        }
        self.evicted_at_start = self.record.evicted;
        self.refuse_unmatched().await?;
        self.open_bases().await?;
        self.look_over_all().await?;
        self.record.owned = true;
        self.record.attempt = self.record.attempt.max(self.spec.attempt);
        self.record.rules = Some(rules(&self.spec));
        self.record.databases = self.spec.pairs();
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

/// What a session begins with, once the fence is taken.
struct Opening {
    control: Link,
    lanes: Vec<Lane>,
    record: Record,
    anew: Anew,
    silent: Option<Duration>,
}

pub(crate) async fn lanes(spec: &CopySpec, spent: &Sides<Arc<AtomicU64>>) -> Result<Vec<Lane>, CopyError> {
    let mut lanes = Vec::new();
    for (from, to) in spec.pairs() {
        let mut source = Link::open(&spec.from, from, spent.source.clone()).await?;
        let mut target = Link::open(&spec.to, to, spent.target.clone()).await?;
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

/// Returns for how long there was no runner.
async fn wait_for_fence(
    control: &mut Link,
    ours: &Ours,
    fence: &Fence,
    life: &mut Life,
) -> Result<Option<Duration>, CopyError> {
    loop {
        match grasp(control, ours, fence, &life.spec).await? {
            Grasp::Taken { silent_ms } => {
                if matches!(life.progress.trouble, Some(CopyError::Held { .. })) {
                    life.progress.trouble = None;
                }
                let silent = silent_ms.and_then(|silent| u64::try_from(silent).ok());
                return Ok(silent.map(Duration::from_millis));
            }
            Grasp::Held { by, silent_ms } => {
                life.progress.trouble = Some(held(&by, silent_ms));
                life.publish.send_replace(life.progress.clone());
                sleep(LOOK_AGAIN).await;
            }
        }
    }
}
