//! The runner's loop: hints first, then a page of the sweep that is due, then waiting. One task touches the keys.
//!
//! It holds state and time; what a key becomes is decided in `merge`, how it is read and written elsewhere.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    Ask, CopySpec, Mode,
    apply::{Fence, Writer},
    base::Base,
    error::CopyError,
    feed::{Inbox, Running},
    fence::{self, Record},
    key::{Ours, Selection, Tally},
    link::Link,
    progress::{Progress, Sides, State},
    pulse::Pulse,
    rebase::thrown_away,
    sweep::Sweep,
};
use crate::merge::Side;

/// How long to wait before trying again after a store was lost.
const RETRY: Duration = Duration::from_millis(500);

/// A pair of databases.
pub(crate) struct Lane {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) links: Sides<Link>,
    pub(crate) writers: Sides<Writer>,
    pub(crate) base: Base,
    /// The store has refused a dump; everything typed is written command by command.
    pub(crate) no_dump: Sides<bool>,
}

/// When a side was swept, and what the sweeps say about its lag.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// A sweep is due at once.
    pub(crate) wanted: bool,
    pub(crate) took: Option<Duration>,
    pub(crate) ended: Option<Instant>,
    /// Complete sweeps since the session began.
    pub(crate) complete: u64,
    /// Everything the feed may have missed has been swept.
    pub(crate) trusted: bool,
    /// Every change acknowledged before this moment is on the other side.
    pub(crate) covered: Option<Instant>,
    /// By sweeps: how old a change could be when the last one had carried it.
    pub(crate) by_sweep: Option<Duration>,
    /// By the feed's fence, with when it was measured.
    pub(crate) by_fence: Option<(Duration, Instant)>,
    /// Writes and deletions carried from this side since its last complete sweep.
    pub(crate) carried: u64,
}

/// One session with both stores; a lost connection ends it and begins another.
pub(crate) struct Runner {
    pub(crate) spec: CopySpec,
    pub(crate) ours: Ours,
    pub(crate) selection: Selection,
    pub(crate) fence: Fence,
    pub(crate) control: Link,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) record: Record,
    pub(crate) both_ways: bool,
    pub(crate) inboxes: Sides<Arc<Inbox>>,
    pub(crate) arrived: Arc<Notify>,
    pub(crate) feeds: Sides<Option<Running>>,
    pub(crate) pulse: Pulse,
    pub(crate) progress: Progress,
    pub(crate) publish: watch::Sender<Progress>,
    pub(crate) spent: Sides<Arc<AtomicU64>>,
    pub(crate) rounds: Sides<Rounds>,
    pub(crate) sweep: Option<Sweep>,
    pub(crate) not_before: Instant,
    pub(crate) calm: Option<Duration>,
    pub(crate) counting: bool,
    pub(crate) evicted_at_start: Sides<Option<u64>>,
    pub(crate) unmatched: Tally,
    pub(crate) same_names: Tally,
    pub(crate) sequence: u64,
    pub(crate) attempt: Arc<AtomicU32>,
}

/// What outlives a session.
pub(crate) struct Life {
    pub(crate) spec: CopySpec,
    pub(crate) token: String,
    pub(crate) progress: Progress,
    pub(crate) publish: watch::Sender<Progress>,
    pub(crate) spent: Sides<Arc<AtomicU64>>,
    /// The `retry` that was said last.
    pub(crate) attempt: Arc<AtomicU32>,
}

/// Why a session ended without an error.
enum Ended {
    Off,
    Stop(oneshot::Sender<()>),
}

/// Runs until it is stopped or fails.
pub(crate) async fn run(
    spec: CopySpec,
    attempt: Arc<AtomicU32>,
    mut asks: mpsc::UnboundedReceiver<Ask>,
    publish: watch::Sender<Progress>,
) {
    let token = format!("{}#{:016x}", spec.runner, rand::random::<u64>());
    let progress = Progress::starting(&spec);
    let mut life = Life { spec, token, progress, publish, spent: Sides::default(), attempt };
    let mut mode = Mode::Follow;
    loop {
        if mode == Mode::Off {
            match asks.recv().await {
                Some(Ask::Mode(wanted)) => mode = wanted,
                Some(Ask::Verify | Ask::CountQuiet) => {}
                Some(Ask::Stop(done)) => {
                    let _ = done.send(());
                    return;
                }
                None => return,
            }
            continue;
        }
        match session(&mut life, &mut asks, &mut mode).await {
            Ok(Ended::Off) => life.state(State::Stopped),
            Ok(Ended::Stop(done)) => {
                life.state(State::Stopped);
                // Nobody waiting for it is fine.
                let _ = done.send(());
                return;
            }
            Err(error) if error.passes() => {
                life.progress.trouble = Some(error);
                life.publish.send_replace(life.progress.clone());
                if let Some(done) = patience(&mut asks, &mut mode).await {
                    life.state(State::Stopped);
                    let _ = done.send(());
                    return;
                }
            }
            Err(error) => return life.state(State::Failed(error)),
        }
    }
}

/// Waits before the next try, listening; a wish to stop ends it.
async fn patience(asks: &mut mpsc::UnboundedReceiver<Ask>, mode: &mut Mode) -> Option<oneshot::Sender<()>> {
    let until = Instant::now() + RETRY;
    loop {
        tokio::select! {
            () = sleep_until(until) => return None,
            ask = asks.recv() => match ask {
                Some(Ask::Mode(wanted)) => *mode = wanted,
                Some(Ask::Stop(done)) => return Some(done),
                Some(Ask::Verify | Ask::CountQuiet) => {}
                None => sleep(RETRY).await,
            },
        }
    }
}

async fn session(
    life: &mut Life,
    asks: &mut mpsc::UnboundedReceiver<Ask>,
    mode: &mut Mode,
) -> Result<Ended, CopyError> {
    let mut opening = Box::pin(Runner::open(life));
    let mut kept = VecDeque::new();
    let opened = loop {
        tokio::select! {
            opened = &mut opening => break opened,
            ask = asks.recv() => match ask {
                Some(Ask::Mode(Mode::Off)) => {
                    *mode = Mode::Off;
                    return Ok(Ended::Off);
                }
                Some(Ask::Mode(wanted)) => *mode = wanted,
                Some(Ask::Stop(done)) => return Ok(Ended::Stop(done)),
                Some(ask) => kept.push_back(ask),
                None => std::future::pending().await,
            },
        }
    };
    drop(opening);
    let mut runner = opened?;
    let result = match runner.work(asks, mode, kept).await {
        Ok(ended) => {
            runner.close().await;
            Ok(ended)
        }
        Err(error) => Err(runner.why(error).await),
    };
    // The bases are not kept: a reply that was lost with the connection may have been a write, and the stores know.
    life.progress = runner.progress;
    life.spec.attempt = runner.spec.attempt;
    result
}

impl Life {
    fn state(&mut self, state: State) {
        self.progress.state = state;
        self.publish.send_replace(self.progress.clone());
    }
}

impl Runner {
    async fn work(
        &mut self,
        asks: &mut mpsc::UnboundedReceiver<Ask>,
        mode: &mut Mode,
        mut kept: VecDeque<Ask>,
    ) -> Result<Ended, CopyError> {
        loop {
            while let Some(ask) = kept.pop_front().or_else(|| asks.try_recv().ok()) {
                match ask {
                    Ask::Mode(wanted) => *mode = wanted,
                    Ask::Verify => self.verify().await?,
                    Ask::CountQuiet => self.count_quiet(),
                    Ask::Stop(done) => return Ok(Ended::Stop(done)),
                }
            }
            match *mode {
                Mode::Off => return Ok(Ended::Off),
                Mode::BothWays if !self.both_ways && self.rounds.source.complete > 0 => self.seal().await?,
                Mode::BothWays | Mode::Follow => {}
            }
            self.take_vitals()?;
            self.note_attempt().await?;
            self.take_hints().await?;
            let until = self.step().await?;
            self.tell();
            if let Some(until) = until {
                self.wait(until, asks, &mut kept).await;
            }
        }
    }

    /// Until something arrives, or the moment has come.
    async fn wait(&self, until: Instant, asks: &mut mpsc::UnboundedReceiver<Ask>, kept: &mut VecDeque<Ask>) {
        let mut vitals = self.pulse.vitals.clone();
        vitals.mark_unchanged();
        tokio::select! {
            () = sleep_until(until) => {}
            () = self.arrived.notified() => {}
            Ok(()) = vitals.changed() => {}
            Some(ask) = asks.recv() => kept.push_back(ask),
        }
    }

    /// Carries what the feeds have named, then believes their fences.
    pub(crate) async fn take_hints(&mut self) -> Result<(), CopyError> {
        for side in self.watched() {
            let hints = self.inboxes.on(side).take();
            if hints.is_empty() {
                continue;
            }
            if hints.everything {
                let rounds = self.rounds.on_mut(side);
                (rounds.wanted, rounds.trusted, rounds.by_fence) = (true, false, None);
            }
            let names: Vec<Vec<u8>> = hints.keys.into_iter().collect();
            for lane in 0..self.lanes.len() {
                for some in names.chunks(HINTS_AT_ONCE) {
                    self.look(lane, side, some).await?;
                }
            }
            // The fence asks five times a second; a stall between two of them is only seen by the hints it delayed.
            if let Some(since) = hints.since {
                self.measured(since.elapsed());
            }
            if let Some(sent) = hints.fence
                && self.rounds.on(side).trusted
            {
                self.measured(sent.elapsed());
                let rounds = self.rounds.on_mut(side);
                rounds.by_fence = Some((sent.elapsed(), Instant::now()));
                rounds.covered = rounds.covered.max(Some(sent));
            }
        }
        Ok(())
    }

    /// The sides whose changes matter now.
    pub(crate) fn watched(&self) -> impl Iterator<Item = Side> + use<> {
        let both = self.both_ways;
        [Side::Old, Side::New].into_iter().filter(move |side| both || *side == Side::Old)
    }

    fn take_vitals(&mut self) -> Result<(), CopyError> {
        let vitals = self.pulse.vitals.borrow_and_update().clone();
        if let Some(fault) = vitals.fault {
            return Err(fault);
        }
        self.progress.heartbeat = vitals.heartbeat.or(self.progress.heartbeat);
        self.progress.clients = vitals.clients;
        self.progress.connected = vitals.connected;
        for side in [Side::Old, Side::New] {
            let Some(now) = *vitals.evicted.on(side) else { continue };
            let start = *self.evicted_at_start.on_mut(side).get_or_insert(now);
            let evicted = thrown_away(start, now);
            *self.progress.evicted.on_mut(side) = evicted;
            if evicted > 0 && !self.both_ways {
                // What is thrown away now would be lost with the switch, or is already.
                return Err(CopyError::Evicting { store: self.endpoint(side).name(), evicted });
            }
        }
        Ok(())
    }

    pub(crate) fn count_quiet(&mut self) {
        self.counting = true;
        self.progress.quiet = Sides::default();
        self.progress.quiet_sweeps = 0;
        for side in self.watched() {
            let rounds = self.rounds.on_mut(side);
            // A sweep that is under way began before; it does not count.
            (rounds.wanted, rounds.carried) = (true, 0);
        }
        self.sweep = None;
    }

    /// Publishes how things are.
    pub(crate) fn tell(&mut self) {
        let mut lags = self.watched().map(|side| self.lag(side));
        self.progress.lag = lags.try_fold(Duration::ZERO, |worst, lag| Some(worst.max(lag?)));
        let expected = self.watched().map(|side| self.expected_lag(side)).max();
        self.progress.expected_lag = expected.filter(|_| self.rounds.source.complete > 0);
        for side in [Side::Old, Side::New] {
            *self.progress.commands_spent.on_mut(side) = self.spent.on(side).load(Ordering::Relaxed);
        }
        self.progress.trouble = None;
        self.progress.sealed = self.record.sealed;
        self.publish.send_if_modified(|last| {
            let changed = *last != self.progress;
            if changed {
                last.clone_from(&self.progress);
            }
            changed
        });
    }

    /// A runner that was replaced while it stood still finds the stores as nobody left them for it; what it says about
    /// them is not what is wrong.
    async fn why(&mut self, error: CopyError) -> CopyError {
        if error.passes() {
            return error;
        }
        match fence::beat(&mut self.control, &self.ours, &self.fence, "").await {
            Err(CopyError::Fenced { by }) if !by.is_empty() => CopyError::Fenced { by },
            Ok(_) | Err(_) => error,
        }
    }

    /// Ends cleanly: another runner may begin at once. What fails here is left to `clear`.
    async fn close(&mut self) {
        self.feeds = Sides::default();
        self.tell();
        let closed = self.restore_notify().await;
        let released = fence::release(&mut self.control, &self.ours, &self.fence).await;
        if let Err(error) = closed.and(released) {
            tracing::warn!(%error, "the stores could not be left as they were found");
        }
    }
}

/// Names that one look takes.
const HINTS_AT_ONCE: usize = 300;
