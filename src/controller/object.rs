//! One object in this process: its world, and what is remembered from turn to turn. A turn is one turn of the engine; what it
//! came to is a status and how long until the next.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::lease::Leadership;
use super::led::{Kept, Led, in_step, must_stay_in_step};
use super::secrets::Secrets;
use super::words::Said;
use crate::api::{Reason, SessionBackendStatus};
use crate::backoff::{Backoff, Pause};
use crate::checks::{self, Run, Stage};
use crate::clock::{Clock, Time as _};
use crate::connect::Connection;
use crate::desired::{Desired, Mode};
use crate::engine::{Cycle, Memory, World, cycle};
use crate::error::CloudError;
use crate::identity::MigrationId;
use crate::metrics;
use crate::plan::{Inputs, after};
use crate::render::apply::{both_in_use, checks as lines_of};
use crate::status::{Aside, project, says_the_same, unplanned};
use crate::step::Step;
use crate::stop::Stop;
use crate::word::{Answer, Word, answer_to};
use crate::world::long::Checker as _;

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// The longest pause while both stores may be in use.
const ATTENTIVE: Duration = Duration::from_secs(2);
/// How often an object that needs a person is looked at: what stops it may be gone.
const BLOCKED: Duration = Duration::from_mins(1);
/// After so long a status of ours has come back from the API server.
const SETTLED: Duration = Duration::from_secs(5);
/// How long a turn waits for checks at rest before it ends without them, and how often it looks.
const QUICK: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);
/// How often Secrets are read again while something is under way.
const SECRETS: Duration = Duration::from_mins(1);
/// How often while one of them is missing in the middle of a migration.
const LACKING: Duration = Duration::from_secs(10);

/// One object.
pub(super) struct Object {
    /// Its world.
    pub(super) connection: Connection,
    /// The Secrets it was connected with.
    pub(super) secrets: Secrets,
    /// When they were read.
    pub(super) read: Timestamp,
    /// The status that was written last.
    pub(super) written: Option<SessionBackendStatus>,
    memory: Memory,
    /// What is to be said of the annotations.
    pub(super) remarks: Vec<String>,
    backoff: Backoff,
    /// What keeps the Secrets from being read again.
    trouble: Option<(Reason, String)>,
    /// The word that was written down last, while its annotation is there.
    heard: Option<(MigrationId, Word)>,
    /// Both stores may be in use.
    attentive: bool,
    /// A migration is open.
    migrates: bool,
    /// What was last seen of the status that is not as it was written, and was written again.
    strange: Option<SessionBackendStatus>,
    /// When the status was written last.
    wrote: Option<Instant>,
    told: checks::Told,
}

/// What became of a word.
pub(super) enum Heard {
    /// It is written down.
    TakenUp,
    /// It was before.
    Before,
    /// It makes no sense now, and what to do.
    No(String),
}

/// What a turn came to.
pub(super) struct Turn {
    /// The status that says it.
    pub(super) status: SessionBackendStatus,
    /// The status lacks what is just being found out, and one is there already: it is not worth writing.
    pub(super) is_partial: bool,
    /// How long until the next.
    pub(super) pause: Duration,
    /// The object is being deleted, and nothing of it is left to let go; what stays is named.
    pub(super) released: Option<Vec<String>>,
}

impl Object {
    /// Not turned yet.
    #[must_use]
    pub(super) fn new(connection: Connection, secrets: Secrets, read: Timestamp) -> Self {
        Self {
            connection,
            secrets,
            read,
            written: None,
            remarks: Vec::new(),
            memory: Memory::default(),
            backoff: Backoff::default(),
            trouble: None,
            heard: None,
            attentive: false,
            migrates: false,
            strange: None,
            wrote: None,
            told: checks::Told::default(),
        }
    }

    /// Whether it is connected to what is wanted.
    pub(super) fn is_for(&self, generation: Option<i64>, desired: &Desired) -> bool {
        self.connection.generation == generation && self.connection.desired == *desired
    }

    /// Whether both stores may be in use, so that somebody has to go on.
    pub(super) fn is_attentive(&self) -> bool {
        self.attentive
    }

    /// Whether a migration is open, which goes on with what it began with.
    pub(super) fn migrates(&self) -> bool {
        self.migrates
    }

    /// A word is known only while its annotation is there: said again, it counts again.
    pub(super) fn hears(&mut self, words: &[(&'static str, MigrationId, Word)]) {
        let is_there =
            |heard: &(MigrationId, Word)| words.iter().any(|(_, id, word)| (id, word) == (&heard.0, &heard.1));
        self.heard = self.heard.take().filter(is_there);
    }

    /// Whether the status that is `seen` is not the one that was written, and was not answered before. What others own in it
    /// stays whatever is written, so one answer is enough.
    pub(super) fn is_overwritten(&mut self, seen: impl FnOnce() -> Option<SessionBackendStatus>, now: Instant) -> bool {
        let Some(written) = self.written.as_ref().filter(|_| self.is_settled(now)) else { return false };
        let strange = seen().unwrap_or_default();
        if says_the_same(&strange, written) || self.strange.as_ref() == Some(&strange) {
            return false;
        }
        self.strange = Some(strange);
        true
    }

    /// Whether it was connected without something its spec refers to.
    pub(super) fn lacks(&self) -> bool {
        self.connection.world.lack().is_some()
    }

    /// The Secrets are as they were.
    pub(super) fn kept(&mut self, now: Timestamp) {
        (self.read, self.trouble) = (now, None);
    }

    /// It goes on as it was, although this is in the way.
    pub(super) fn kept_though(&mut self, now: Timestamp, reason: Reason, trouble: String) {
        (self.read, self.trouble) = (now, Some((reason, trouble)));
    }

    /// The status was written, unless it said the same `before`.
    pub(super) fn wrote(&mut self, status: SessionBackendStatus, before: Option<&SessionBackendStatus>) {
        if before.is_none_or(|before| !says_the_same(before, &status)) {
            self.wrote = Some(Instant::now());
        }
        self.written = Some(status);
    }

    /// Whether our last write has had time to come back.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.wrote.is_none_or(|wrote| now.duration_since(wrote) > SETTLED)
    }

    /// Whether the Secrets should be read again.
    #[must_use]
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let often = match &self.connection.desired {
            Desired::Present(_) if self.lacks() => LACKING,
            Desired::Present(target) => target.check_interval.min(SECRETS),
            Desired::Absent { .. } => SECRETS,
        };
        after(self.read, often) <= now
    }

    /// Another world for the same object; what was learned of its failures counts no more.
    pub(super) fn reconnect(&mut self, connection: Connection, secrets: Secrets, read: Timestamp) {
        (self.connection, self.secrets) = (connection, secrets);
        self.backoff = Backoff::default();
        self.kept(read);
    }

    /// One turn.
    pub(super) async fn turn(&mut self, said: &Said, leadership: &Leadership, stop: &Stop) -> Turn {
        let Connection { owner, desired, world, checker, generation, .. } = &self.connection;
        let led = Led::new(world, leadership, stop);
        let looks = looking(desired);
        let wanted = if said.paused { &looks } else { desired };
        let turn = Box::pin(cycle(&led, owner, wanted, &mut self.memory, || Clock.now())).await;
        self.backoff.count(&turn);
        if turn.is_blind {
            return self.blind(&turn, said);
        }
        self.attentive = turn.journal.open_migration().is_some_and(both_in_use);
        self.migrates = turn.journal.open_migration().is_some();
        if wanted.looks_only() {
            self.keep_in_step(&led, &turn).await;
        }
        let resting = turn.plan.is_converged() && turn.journal.open_migration().is_none();
        let checking = resting && !said.paused && self.check_at_rest(&led, &turn).await;
        let remark = self.remarks.join("; ");
        let now = Clock.now();
        let aside = Aside {
            generation: *generation,
            previous: self.written.as_ref(),
            failure: self.backoff.failure(),
            paused: said.paused,
            remark: Some(remark.as_str()).filter(|remark| !remark.is_empty()),
            trouble: self.trouble.as_ref().map(|(reason, trouble)| (*reason, trouble.as_str())),
        };
        let mut observed = turn.observed.clone();
        observed.checks = if resting { finished(checker.runs()) } else { observed.checks };
        for (stage, run) in self.told.news(&observed.checks) {
            for line in lines_of(stage, &run.results) {
                tracing::info!(object = %owner, checks = line, "checked");
            }
        }
        let inputs = Inputs {
            owner,
            desired: wanted,
            observed: &observed,
            journal: &turn.journal,
            announced: None,
            now: turn.at,
        };
        let status = project(&inputs, &turn.plan, &aside);
        metrics::copy(&owner.namespace, &owner.name, observed.copy.present());
        let deleted = matches!(desired, Desired::Absent { .. }) && turn.plan.is_converged() && !said.paused;
        Turn {
            pause: if checking { Duration::from_millis(500) } else { self.pause(&turn, now) },
            // Ready is not said before the first checks have.
            is_partial: checking && !observed.checks.contains_key(&Stage::Rest),
            released: deleted.then(|| turn.plan.notes.clone()),
            status,
        }
    }

    /// Nothing could be looked at: all is said to be as it was, but for why.
    fn blind(&self, turn: &Cycle, said: &Said) -> Turn {
        let aside = Aside {
            generation: self.connection.generation,
            previous: self.written.as_ref(),
            paused: said.paused,
            ..Aside::default()
        };
        let (reason, message) = match (turn.plan.blocks.first(), turn.plan.waits.first()) {
            (Some(block), _) => (block.reason, format!("{}: {}; {}", block.subject, block.message, block.remedy)),
            (None, Some(wait)) => (Reason::ApiUnavailable, wait.message.clone()),
            (None, None) => (Reason::ApiUnavailable, String::new()),
        };
        Turn {
            status: unplanned(reason, &message, &aside, turn.at),
            is_partial: false,
            pause: self.pause(turn, turn.at),
            released: None,
        }
    }

    /// Whoever looks only must not let two stores drift apart that a migration keeps in step: the copier is no change of
    /// what is there, and without it the way back would lose sessions.
    async fn keep_in_step(&self, led: &Led<'_>, turn: &Cycle) {
        let is_here = turn.observed.copy.present().is_some_and(|copy| copy.here);
        let open = turn.journal.open_migration().filter(|migration| !is_here && must_stay_in_step(migration));
        let Some(migration) = open else { return };
        let step = in_step(migration);
        if let Err(error) = led.perform(&self.connection.owner, &step, &turn.journal, turn.at).await {
            tracing::warn!(object = %self.connection.owner, %error, "the stores are not kept in step");
        }
    }

    /// Not turned: nothing is looked at and nothing planned, and two stores that may be in use stay in step all the same, if
    /// a copier can do it.
    ///
    /// # Errors
    /// When the journal cannot be read, or the copier cannot be started.
    pub(super) async fn stay_in_step(
        &mut self,
        leadership: &Leadership,
        stop: &Stop,
    ) -> Result<Option<Kept>, CloudError> {
        let Connection { owner, world, copiers, .. } = &self.connection;
        let kept = Led::new(world, leadership, stop).keep_in_step(owner, copiers).await?;
        self.attentive = kept.is_some();
        Ok(kept)
    }

    fn pause(&self, turn: &Cycle, now: Timestamp) -> Duration {
        let attentive = self.attentive;
        match self.backoff.pause(turn, if attentive { ATTENTIVE } else { LONGEST_PAUSE }, now) {
            Pause::Failed(pause, _) | Pause::Wave(pause) => pause,
            Pause::Idle(pause) if self.lacks() => pause.min(LACKING),
            Pause::Idle(_) if turn.plan.is_converged() => match &self.connection.desired {
                Desired::Present(target) => target.check_interval,
                Desired::Absent { .. } => BLOCKED,
            },
            Pause::Idle(_) if turn.plan.waits.is_empty() && !attentive => BLOCKED,
            Pause::Idle(pause) => pause,
        }
    }

    /// Runs the checks that are harmless at rest, once an interval; whether a run is under way.
    async fn check_at_rest(&self, led: &Led<'_>, turn: &Cycle) -> bool {
        let Connection { owner, desired: Desired::Present(target), checker, .. } = &self.connection else {
            return false;
        };
        let last = checker.runs().remove(&Stage::Rest);
        let due = last.as_ref().is_none_or(|run| after(run.started, target.check_interval) <= turn.at);
        if due {
            let step = Step::RunChecks { stage: Stage::Rest };
            if let Err(error) = led.perform(owner, &step, &turn.journal, turn.at).await {
                tracing::warn!(object = %owner, %error, "the checks at rest could not be made");
                return false;
            }
        }
        if !due && last.is_none_or(|run| run.finished.is_some()) {
            return false;
        }
        // Mostly they take moments: whoever waits for them here need not look at the clouds again.
        for _ in 0..QUICK.as_millis() / POLL.as_millis() {
            if checker.runs().get(&Stage::Rest).is_some_and(|run| run.finished.is_some()) {
                return false;
            }
            Clock.sleep(POLL).await;
        }
        true
    }

    /// Writes a person's word down, once as long as its annotation says the same.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub(super) async fn hear(
        &mut self,
        (_, id, word): (&str, &MigrationId, Word),
        leadership: &Leadership,
        stop: &Stop,
    ) -> Result<Heard, CloudError> {
        let Connection { owner, desired, world, .. } = &self.connection;
        let said = (id.clone(), word);
        if self.heard.as_ref() == Some(&said) {
            return Ok(Heard::Before);
        }
        let led = Led::new(world, leadership, stop);
        let journal = led.written(owner).await?;
        Ok(match answer_to(&journal, desired, id, &said.1) {
            Answer::Say(entry) => {
                let step = Step::Journal { expect: journal.sequence, entry };
                led.perform(owner, &step, &journal, Clock.now()).await?;
                self.heard = Some(said);
                Heard::TakenUp
            }
            Answer::Said(_) => Heard::Before,
            Answer::No(what, remedy) => Heard::No(format!("{what}; {remedy}")),
        })
    }
}

/// The same, with every change left out.
fn looking(desired: &Desired) -> Desired {
    match desired {
        Desired::Present(target) => {
            let mut target = target.clone();
            target.mode = Mode::Plan;
            Desired::Present(target)
        }
        absent @ Desired::Absent { .. } => absent.clone(),
    }
}

fn finished(mut runs: BTreeMap<Stage, Run>) -> BTreeMap<Stage, Run> {
    runs.retain(|_, run| run.finished.is_some());
    runs
}
