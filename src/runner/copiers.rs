//! Copiers as tasks of this process, at most one a migration, and how one that runs elsewhere stands.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Now, cloud_error, endpoint, life};
use crate::copy::{self, Copier, CopyError, CopySpec, Mode, Progress, State, Withdrawn};
use crate::desired::{KeyKind, KeyStrategy, Unmatched};
use crate::error::{Class, CloudError};
use crate::identity::MigrationId;
use crate::journal::Uncarried;
use crate::merge;
use crate::observed::{Copy, CopyState, HELD, Reading};
use crate::step::{CopyMode, Side};
use crate::world::long::{Copiers, CopyJob, Endpoint};

/// After so long without a sign of another runner its figures are those of the past.
const STALE: SignedDuration = SignedDuration::from_secs(10);
/// Trouble that has lasted so long is told; what is shorter shows as lag.
const TROUBLE: SignedDuration = SignedDuration::from_secs(10);

/// How long a step waits for the end of a copy before it is asked for again, and for a copier's clean end.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// The copiers of this process.
pub struct LocalCopiers {
    runner: String,
    now: Now,
    running: Mutex<BTreeMap<MigrationId, Running>>,
    ending: Mutex<BTreeMap<MigrationId, End>>,
}

/// The end of a copy, under way in a task of its own: removing a million keys takes longer than a step may.
/// Dropping it interrupts it, which is as good as a crash: asked again, it begins again.
struct End {
    withdraws: bool,
    task: JoinHandle<Result<(), CopyError>>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl End {
    fn begin(spec: CopySpec, mode: CopyMode) -> Option<Self> {
        let end = async move {
            match mode {
                CopyMode::Clear { gone } => copy::clear(&spec, gone.map(side)).await,
                CopyMode::Withdraw => {
                    let Withdrawn { removed, left, prefixes } = copy::withdraw(&spec).await?;
                    tracing::info!(migration = spec.migration, removed, left, ?prefixes, "the copy was withdrawn");
                    Ok(())
                }
                CopyMode::Follow | CopyMode::BothWays => Ok(()),
            }
        };
        let withdraws = match mode {
            CopyMode::Clear { .. } => false,
            CopyMode::Withdraw => true,
            CopyMode::Follow | CopyMode::BothWays => return None,
        };
        Some(Self { withdraws, task: tokio::spawn(end) })
    }
}

struct Running {
    copier: Copier,
    progress: watch::Receiver<Progress>,
    counting: Option<Counting>,
    /// What it was told last.
    asked: CopyMode,
    /// Since when something is in the way.
    trouble: Option<Timestamp>,
    /// When it was seen to have failed: from then on nobody is alive.
    failed: Option<Timestamp>,
}

/// A count of quiet sweeps, with the comparison that was asked for with it.
#[derive(Clone, Copy)]
struct Counting {
    since: Timestamp,
    drained: Side,
    /// Comparisons made before it was asked for.
    before: u64,
}

impl Running {
    fn start(spec: CopySpec, asked: CopyMode) -> Self {
        let copier = Copier::start(spec);
        let progress = copier.progress();
        Self { copier, progress, counting: None, asked, trouble: None, failed: None }
    }

    /// Whether its task goes on.
    fn is_alive(&self) -> bool {
        let ended = match self.progress.borrow().state {
            State::Stopped | State::Failed(_) => true,
            State::Starting | State::Bulk | State::Following | State::BothWays => false,
        };
        !ended && self.progress.has_changed().is_ok()
    }
}

impl LocalCopiers {
    /// None yet. The runner's name is its own: an earlier life of this process is another runner.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self { runner: life::name(), now, running: Mutex::default(), ending: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<MigrationId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ending(&self) -> MutexGuard<'_, BTreeMap<MigrationId, End>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every copier cleanly, so that another process can take over at once.
    pub async fn stop(&self) {
        self.ending().clear();
        let all = std::mem::take(&mut *self.running());
        let ends = all.into_values().map(|running| in_time(running.copier.stop(), PATIENCE));
        futures::future::join_all(ends).await;
    }

    /// Whether the copier of a migration runs in this process.
    #[must_use]
    pub fn is_at_work(&self, migration: &MigrationId) -> bool {
        self.running().get(migration).is_some_and(Running::is_alive)
    }

    /// How the copier of a migration stands that runs in this process, or has failed in it.
    #[must_use]
    pub fn state(&self, migration: &MigrationId) -> Option<CopyState> {
        self.here(migration).map(|copy| copy.state)
    }

    fn drive(&self, job: &CopyJob, asked: CopyMode, mode: Mode) {
        let mut all = self.running();
        let alive = all.get(&job.migration).is_some_and(Running::is_alive);
        if !alive {
            all.insert(job.migration.clone(), Running::start(spec(job, &self.runner), asked));
        }
        if let Some(running) = all.get_mut(&job.migration) {
            running.asked = asked;
            running.copier.set_attempt(job.attempt);
            running.copier.set_mode(mode);
        }
    }

    /// Ends the copy as the mode says; what takes long goes on, and is asked for again.
    async fn end(&self, job: &CopyJob, mode: CopyMode) -> Result<(), CloudError> {
        let operation = if mode == CopyMode::Withdraw { "withdraw the copy" } else { "clear the copier's traces" };
        let again = |message: &str| Err(CloudError::new(Class::Transient, "Redis", operation, "", message));
        let running = self.running().remove(&job.migration);
        if let Some(running) = running {
            in_time(running.copier.stop(), PATIENCE).await;
        }
        let begun = self.ending().remove(&job.migration);
        let begun = begun.filter(|end| end.withdraws == (mode == CopyMode::Withdraw));
        let Some(mut end) = begun.or_else(|| End::begin(spec(job, &self.runner), mode)) else { return Ok(()) };
        match tokio::time::timeout(PATIENCE, &mut end.task).await {
            Ok(Ok(Ok(()))) => Ok(()),
            // Somebody took the fence while this process stood still; who that is shows when it is tried again.
            Ok(Ok(Err(error @ CopyError::Fenced { .. }))) => again(&error.to_string()),
            Ok(Ok(Err(error))) => Err(cloud_error(operation, &error)),
            Ok(Err(_)) => again("the task that did it has ended unexpectedly"),
            Err(_) => {
                self.ending().insert(job.migration.clone(), end);
                again("it is under way and goes on")
            }
        }
    }

    /// How the copier in this process stands.
    fn here(&self, migration: &MigrationId) -> Option<Copy> {
        let mut all = self.running();
        let running = all.get_mut(migration)?;
        let progress = running.progress.borrow().clone();
        let failed = matches!(progress.state, State::Failed(_));
        let alive = running.is_alive();
        if !alive && !failed {
            return None;
        }
        let now = (self.now)();
        let heartbeat = if failed { *running.failed.get_or_insert(now) } else { now };
        let mut copy = shown(&progress, heartbeat);
        (copy.here, copy.asked) = (true, Some(running.asked));
        let since = progress.trouble.as_ref().map(|_| running.trouble.unwrap_or(now));
        running.trouble = since;
        if let (Some(error), Some(since)) = (&progress.trouble, since)
            && (now.duration_since(since) >= TROUBLE || matches!(error, CopyError::Held { .. }))
            && !failed
        {
            // It goes on by itself when the trouble ends; until then nothing may rely on it.
            copy.state = failure(error, true);
            copy.other = last_alive(error, now);
        }
        if let Some(counting) = running.counting.as_mut() {
            let new = progress.verifications > counting.before;
            let verified = progress.verified.as_ref().filter(|_| new);
            copy.quiet_since = Some(counting.since);
            copy.drained = Some(counting.drained);
            copy.quiet_sweeps = *progress.quiet.on(side(counting.drained));
            copy.different = verified.map(|verified| verified.different);
            if verified.is_some_and(|verified| verified.different > 0) && copy.quiet_sweeps > 0 {
                // What differed has been carried again since: compare again.
                counting.before = progress.verifications;
                running.copier.verify();
            }
        }
        Some(copy)
    }

    /// How a copier that is not in this process stands, by what it left in the target.
    async fn elsewhere(&self, job: &CopyJob) -> Reading<Copy> {
        let stored = match copy::read_progress(&endpoint(&job.to), &job.migration.0).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Reading::Absent,
            Err(error) => return Reading::Unknown(cloud_error("read the copy's progress", &error)),
        };
        let now = (self.now)();
        // A runner that let go of the fence is silent for ever.
        let silent = stored
            .silent_for
            .map_or(SignedDuration::MAX, |silent| SignedDuration::try_from(silent).unwrap_or(SignedDuration::MAX));
        let heartbeat = now.checked_sub(silent).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut copy =
            stored.progress.as_ref().map_or_else(|| nothing(heartbeat), |progress| shown(progress, heartbeat));
        // What stopped another runner is tried again by this one.
        if matches!(copy.state, CopyState::Failed { .. }) {
            copy.state = CopyState::Starting;
        }
        // What nobody measures any more is not known.
        if silent > STALE {
            copy.lag_ms = None;
        }
        Reading::Present(copy)
    }
}

impl Copiers for LocalCopiers {
    fn run(&self, job: CopyJob, mode: CopyMode) -> BoxFuture<'_, Result<(), CloudError>> {
        Box::pin(async move {
            match mode {
                CopyMode::Follow => self.drive(&job, mode, Mode::Follow),
                CopyMode::BothWays => self.drive(&job, mode, Mode::BothWays),
                CopyMode::Clear { .. } | CopyMode::Withdraw => return self.end(&job, mode).await,
            }
            Ok(())
        })
    }

    fn count_quiet<'a>(&'a self, migration: &'a MigrationId, drained: Side) -> BoxFuture<'a, Result<(), CloudError>> {
        Box::pin(async move {
            let mut all = self.running();
            let Some(running) = all.get_mut(migration).filter(|running| running.is_alive()) else {
                let message = "no copier runs in this process any more";
                return Err(CloudError::new(Class::Conflict, "sessionbackend", "CountQuiet", "", message));
            };
            let before = running.progress.borrow().verifications;
            running.counting = Some(Counting { since: (self.now)(), drained, before });
            running.copier.count_quiet_from_now();
            running.copier.verify();
            Ok(())
        })
    }

    fn progress<'a>(&'a self, job: &'a CopyJob) -> BoxFuture<'a, Reading<Copy>> {
        Box::pin(async move {
            match self.here(&job.migration) {
                Some(copy) => Reading::Present(copy),
                None => self.elsewhere(job).await,
            }
        })
    }

    fn traces<'a>(
        &'a self,
        at: &'a Endpoint,
        migrations: &'a [MigrationId],
    ) -> BoxFuture<'a, Result<BTreeSet<MigrationId>, CloudError>> {
        Box::pin(async move {
            let names: Vec<String> = migrations.iter().map(|id| id.0.clone()).collect();
            let found = copy::traces(&endpoint(at), &names).await;
            let found = found.map_err(|error| cloud_error("look for what a copier left", &error))?;
            Ok(found.into_iter().map(MigrationId).collect())
        })
    }
}

/// Waits for a clean end. A copier that is in the middle of something long (writing down what both stores hold, comparing
/// them) hears of it only afterwards: it is ended as by a crash then, and whoever takes over knows how to go on.
async fn in_time(end: impl Future<Output = ()>, patience: std::time::Duration) {
    if tokio::time::timeout(patience, end).await.is_err() {
        tracing::warn!("a copier was in the middle of something long and was ended at once");
    }
}

fn spec(job: &CopyJob, runner: &str) -> CopySpec {
    let rule = |rule: &crate::desired::KeyRule| copy::KeyRule {
        prefix: rule.prefix.clone().into_bytes(),
        strategy: match rule.strategy {
            KeyStrategy::Copy => copy::Strategy::Copy,
            KeyStrategy::Drop => copy::Strategy::Drop,
        },
        kind: match rule.kind {
            KeyKind::Session => merge::Kind::Session,
            KeyKind::Data => merge::Kind::Data,
        },
    };
    CopySpec {
        keys: job.rules.keys.iter().map(rule).collect(),
        unmatched: match job.rules.unmatched {
            Unmatched::Copy => copy::Unmatched::Copy,
            Unmatched::Skip => copy::Unmatched::Skip,
            Unmatched::Block => copy::Unmatched::Block,
        },
        databases: job.rules.databases.clone(),
        max_lag: job.max_lag,
        attempt: job.attempt,
        is_gone: life::is_gone,
        ..CopySpec::new(job.migration.0.clone(), runner, endpoint(&job.from), endpoint(&job.to))
    }
}

fn side(side: Side) -> merge::Side {
    match side {
        Side::From => merge::Side::Old,
        Side::To => merge::Side::New,
    }
}

fn shown(progress: &Progress, heartbeat: Timestamp) -> Copy {
    let millis = |lag: std::time::Duration| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
    Copy {
        state: state(progress),
        total: progress.keys_total,
        copied: progress.keys_copied,
        lag_ms: progress.lag.map(millis),
        worst_lag_ms: progress.worst_lag_both_ways.map_or(0, millis),
        conflicts: progress.conflicts,
        clients_from: progress.clients.source,
        clients_to: progress.clients.target,
        connected_from: progress.connected.source.clone(),
        connected_to: progress.connected.target.clone(),
        uncarried_from: progress.uncarried.source,
        uncarried_to: progress.uncarried.target,
        ..nothing(heartbeat)
    }
}

/// A copy nothing is known of but when its runner was alive.
fn nothing(heartbeat: Timestamp) -> Copy {
    Copy {
        state: CopyState::Starting,
        heartbeat,
        here: false,
        total: 0,
        copied: 0,
        lag_ms: None,
        worst_lag_ms: 0,
        conflicts: 0,
        quiet_sweeps: 0,
        quiet_since: None,
        drained: None,
        clients_from: None,
        clients_to: None,
        connected_from: Vec::new(),
        connected_to: Vec::new(),
        asked: None,
        different: None,
        uncarried_from: Uncarried::default(),
        uncarried_to: Uncarried::default(),
        other: None,
    }
}

fn state(progress: &Progress) -> CopyState {
    match &progress.state {
        State::Starting => CopyState::Starting,
        State::Bulk => CopyState::Bulk,
        // Only with the base stored would a successor judge as this runner does.
        State::BothWays if progress.sealed => CopyState::BothWays,
        State::Following | State::BothWays | State::Stopped => CopyState::Following,
        State::Failed(error) => failure(error, error.passes()),
    }
}

fn failure(error: &copy::CopyError, temporary: bool) -> CopyState {
    let message = match error {
        // When that was alive moves with every look, and stands beside.
        CopyError::Held { by, .. } => format!("another process drives this migration (runner {by})"),
        error => format!("{error}; {}", error.remedy()),
    };
    CopyState::Failed { reason: word(error).to_owned(), message, temporary }
}

/// When the runner that is at work elsewhere was last alive.
fn last_alive(error: &copy::CopyError, now: Timestamp) -> Option<Timestamp> {
    let CopyError::Held { seconds, .. } = error else { return None };
    now.checked_sub(SignedDuration::from_secs(i64::try_from(*seconds).ok()?)).ok()
}

/// One stable word.
fn word(error: &copy::CopyError) -> &'static str {
    match error {
        CopyError::Unreachable { .. } => "Unreachable",
        CopyError::Busy { .. } => "Busy",
        CopyError::Auth { .. } => "StoreCredentials",
        CopyError::Full { .. } => "WouldNotFit",
        CopyError::Quota { .. } => "QuotaExceeded",
        CopyError::NotPermitted { .. } => "AccessDenied",
        CopyError::TargetNotEmpty { .. } => "TargetNotEmpty",
        CopyError::UnmatchedKeys { .. } | CopyError::Queues { .. } => "UnmatchedKeys",
        CopyError::SameNames { .. } => "SameNames",
        CopyError::ClusterMode { .. } => "ClusterMismatch",
        CopyError::Held { .. } => HELD,
        CopyError::Fenced { .. } => "Fenced",
        CopyError::OtherRules => "OtherRules",
        CopyError::Ending => "Ending",
        CopyError::Emptied { .. } => "Emptied",
        CopyError::Evicting { .. } => "Evicting",
        CopyError::Refused { .. } => "Refused",
        CopyError::Unexpected { .. } => "Unexpected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_another_runner_stays_the_same_while_it_lives() {
        let held = |seconds| CopyError::Held { by: "a-1".into(), seconds };
        let said = failure(&held(1), true);
        assert_eq!(said, failure(&held(2), true), "else a status would be written every second");
        let CopyState::Failed { message, .. } = said else { panic!("it waits") };
        assert_eq!(message, "another process drives this migration (runner a-1)");
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(last_alive(&held(2), at(10)), Some(at(8)));
    }

    #[tokio::test]
    async fn nobody_waits_without_end_for_a_copier_that_does_not_hear() {
        in_time(std::future::pending(), std::time::Duration::ZERO).await;
    }
}
