//! One object in this process: its world, and what is remembered from turn to turn. A turn is one turn of the engine; what it
//! came to is a status and how long until the next.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::lease::Leadership;
use super::secrets::Secrets;
use super::words::Said;
use crate::api::{Reason, SessionBackendStatus};
use crate::backoff::{Backoff, Pause};
use crate::checks::{self, Run, Stage};
use crate::clock::{Clock, Time as _};
use crate::connect::Connection;
use crate::desired::{Desired, Mode};
use crate::engine::{Cycle, Memory, World, cycle};
use crate::error::{Class, CloudError};
use crate::identity::Owner;
use crate::journal::{Entry, Journal};
use crate::metrics;
use crate::observed::{Observed, Reading};
use crate::plan::{Inputs, after};
use crate::render::apply::{both_in_use, checks as lines_of};
use crate::status::{Aside, project};
use crate::step::Step;
use crate::stop::{Stop, Waves};
use crate::word::{Answer, Word, answer_to};
use crate::world::long::Checker as _;

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// The longest pause while both stores may be in use.
const ATTENTIVE: Duration = Duration::from_secs(2);
/// How often an object that needs a person is looked at: what stops it may be gone.
const BLOCKED: Duration = Duration::from_mins(1);
/// How often Secrets are read again while something is under way.
const SECRETS: Duration = Duration::from_mins(1);

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
    backoff: Backoff,
    remark: Option<String>,
    told: checks::Told,
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
        let (memory, backoff) = (Memory::default(), Backoff::default());
        Self { connection, secrets, read, written: None, memory, backoff, remark: None, told: checks::Told::default() }
    }

    /// Whether the Secrets should be read again.
    #[must_use]
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let often = match &self.connection.desired {
            Desired::Present(target) => target.check_interval.min(SECRETS),
            Desired::Absent { .. } => SECRETS,
        };
        after(self.read, often) <= now
    }

    /// Another world for the same object; what was learned of its failures counts no more.
    pub(super) fn reconnect(&mut self, connection: Connection, secrets: Secrets, read: Timestamp) {
        (self.connection, self.secrets, self.read) = (connection, secrets, read);
        self.backoff = Backoff::default();
    }

    /// One turn.
    pub(super) async fn turn(&mut self, said: &Said, leadership: &Leadership, stop: &Stop) -> Turn {
        if said.words.is_empty() {
            self.remark = None;
        }
        let Connection { owner, desired, world, checker, generation, .. } = &self.connection;
        let led = Led { world, leadership, waves: Waves::until(stop) };
        let looks = looking(desired);
        let wanted = if said.paused { &looks } else { desired };
        let turn = Box::pin(cycle(&led, owner, wanted, &mut self.memory, || Clock.now())).await;
        self.backoff.count(&turn);
        let resting = turn.plan.is_converged() && turn.journal.open_migration().is_none();
        let checking = resting && !said.paused && self.check_at_rest(&led, &turn).await;
        let remark = self.remark.as_deref().or(said.nonsense.first().map(String::as_str));
        let now = Clock.now();
        let aside = Aside {
            generation: *generation,
            previous: self.written.as_ref(),
            failure: self.backoff.failure(),
            paused: said.paused,
            remark,
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
        metrics::object(owner, observed.copy.present(), &status);
        let deleted = matches!(desired, Desired::Absent { .. }) && turn.plan.is_converged() && !said.paused;
        Turn {
            pause: if checking { Duration::from_millis(500) } else { self.pause(&turn, now) },
            is_partial: checking && !observed.checks.contains_key(&Stage::Rest) && self.written.is_some(),
            released: deleted.then(|| turn.plan.notes.clone()),
            status,
        }
    }

    fn pause(&self, turn: &Cycle, now: Timestamp) -> Duration {
        let attentive = turn.journal.open_migration().is_some_and(both_in_use);
        match self.backoff.pause(turn, if attentive { ATTENTIVE } else { LONGEST_PAUSE }, now) {
            Pause::Failed(pause, _) | Pause::Wave(pause) => pause,
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
        due || last.is_some_and(|run| run.finished.is_none())
    }

    /// Writes a person's word down; whether it is taken up, so that nobody has to say it any more.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub(super) async fn hear(
        &mut self,
        (annotation, id, word): &(&'static str, crate::identity::MigrationId, Word),
        leadership: &Leadership,
        stop: &Stop,
    ) -> Result<bool, CloudError> {
        let Connection { owner, world, .. } = &self.connection;
        let journal = match world.journal(owner).await {
            Reading::Present(journal) => journal,
            Reading::Absent => Journal::default(),
            Reading::Unknown(error) => return Err(error),
            Reading::Hidden(why) => return Err(CloudError::new(Class::Denied, "sessionbackend", "journal", "", &why)),
        };
        self.remark = None;
        match answer_to(&journal, id, word) {
            Answer::Say(entry) => {
                let led = Led { world, leadership, waves: Waves::until(stop) };
                let step = Step::Journal { expect: journal.sequence, entry };
                led.perform(owner, &step, &journal, Clock.now()).await.map(|_| true)
            }
            Answer::Said(_) => Ok(true),
            Answer::No(what, remedy) => {
                self.remark = Some(format!("metadata.annotations[{annotation}]: {what}; {remedy}, or remove it"));
                Ok(false)
            }
        }
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

/// The reason a connection could not be made.
#[must_use]
pub(super) fn reason(error: &crate::connect::Error) -> Reason {
    use crate::connect::Error;
    match error {
        Error::Violation(violation) if violation.problem.ends_with("is not found") => Reason::SecretNotFound,
        Error::Violation(_) => Reason::SecretInvalid,
        Error::Cloud(error) => Reason::of_class(error.class),
    }
}

/// The world, changed only while this process may act, with every call in the log.
struct Led<'a> {
    world: &'a crate::world::CloudWorld,
    leadership: &'a Leadership,
    waves: Waves,
}

impl World for Led<'_> {
    async fn journal(&self, owner: &Owner) -> Reading<Journal> {
        self.world.journal(owner).await
    }

    async fn observe(&self, owner: &Owner, desired: &Desired, journal: &Journal) -> Observed {
        self.waves.turn();
        self.world.observe(owner, desired, journal).await
    }

    async fn perform(
        &self,
        owner: &Owner,
        step: &Step,
        journal: &Journal,
        now: Timestamp,
    ) -> Result<Option<Entry>, CloudError> {
        self.waves.call()?;
        if !self.leadership.is_held() {
            let what = "another replica may act by now; nothing was called";
            return Err(CloudError::new(Class::Conflict, "sessionbackend", "perform", "", what));
        }
        let result = self.world.perform(owner, step, journal, now).await;
        match &result {
            Ok(_) => tracing::info!(object = %owner, %step, "done"),
            Err(error) => tracing::warn!(object = %owner, %step, %error, "failed"),
        }
        result
    }
}
