//! Decides what can be done now, what is waited for and what blocks: a pure function of what is wanted, seen and journaled.
//! No clock, no randomness, no IO. Returns one *wave*; the next one is planned from the next observation.
//!
//! ```text
//! settle ──Begin──▶ forward ──End(Completed)──▶ settle ──▶ retire ──▶ at rest
//!                      │  failed operation, check, bake; abort
//!                      └────▶ back ──End(RolledBack)──▶ latched
//! ```

pub mod admission;
mod amounts;
mod back;
mod contested;
mod copying;
mod deletion;
mod drift;
mod finish;
mod forgotten;
mod forward;
pub mod guard;
mod interference;
mod lack;
mod lost;
mod moves;
pub mod network;
mod preflight;
mod provision;
mod queues;
mod retire;
mod settle;
mod uncarried;
mod usage;
mod verify;
pub(crate) mod wiring;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::checks::Stage;
use crate::desired::{Desired, Target};
use crate::identity::Owner;
use crate::journal::{Direction, Entry, Gate, Journal};
use crate::observed::{Observed, Reading, Service};
use crate::step::Step;

pub use crate::api::condition::Reason;
pub use lost::made_since;
pub use uncarried::kinds;

/// Everything a decision may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Whose.
    pub owner: &'a Owner,
    /// What is wanted.
    pub desired: &'a Desired,
    /// What is seen.
    pub observed: &'a Observed,
    /// What was written down.
    pub journal: &'a Journal,
    /// The journal's sequence after a line this process has just written and not acted upon: the call it announces was
    /// not made yet. `None` where that is not certain, as after a crash.
    pub announced: Option<u64>,
    /// When.
    pub now: Timestamp,
}

/// One wave and why it is not larger.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Where in its life the object is: a stable word.
    pub phase: Phase,
    /// What can be done now; independent of each other.
    pub steps: Vec<Step>,
    /// What is waited for.
    pub waits: Vec<Wait>,
    /// What needs somebody.
    pub blocks: Vec<Block>,
    /// What a reader of the plan should know.
    pub notes: Vec<String>,
}

/// Stable words a script may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Phase {
    /// Looking, claiming, checking what would stop a migration.
    Preflight,
    /// Making the store, the connector, the rules, the secrets.
    Provisioning,
    /// The new store follows the old one.
    Copying,
    /// A person is asked.
    AwaitingApproval,
    /// Services are being switched.
    Switching,
    /// The last old instances are leaving.
    Draining,
    /// The runbook's checks run after the switch.
    Checking,
    /// The new store is watched.
    Baking,
    /// What is no longer needed is removed.
    Retiring,
    /// The services use the store of the spec.
    Ready,
    /// Services are being switched back.
    RollingBack,
    /// The services are back on the old store; latched.
    RolledBack,
    /// A person must decide.
    Held,
    /// Something must change before anything can be done.
    Blocked,
    /// The object is being deleted.
    Deleting,
    /// Nothing of it is left to do.
    Deleted,
}

/// Something that is waited for, since when and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// For what.
    pub on: Awaited,
    /// Since when.
    pub since: Timestamp,
    /// When it is expected, if that is known.
    pub expected: Option<Timestamp>,
    /// When it becomes a block.
    pub deadline: Option<Timestamp>,
    /// For people.
    pub message: String,
}

/// What can be waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Awaited {
    /// A reading that failed.
    Reading(String),
    /// The store to become available.
    Store,
    /// Our operation on a service.
    Operation(Direction, String),
    /// An operation to be listed after a call whose reply was lost.
    Listing(Direction, String),
    /// Somebody else's operation on a service.
    ForeignOperation(String),
    /// The copy to catch up.
    CopyCaughtUp,
    /// Both stores to be in step, both ways.
    CopyInStep,
    /// A run of checks.
    Checks(Stage),
    /// The longest request of the last old instance.
    LongestRequest,
    /// The app's connections to the drained store to be gone.
    ClientsGone,
    /// Sweeps that find nothing, and a comparison without a difference.
    Quiet,
    /// The bake.
    Bake,
    /// A person's word.
    Approval(Gate),
    /// Something that still uses what is to be retired.
    Unused(String),
    /// The copier to have removed its traces.
    CopyCleared,
    /// A store that is not listed any more to be missing for certain.
    Missing(String),
}

impl Awaited {
    /// Whether it goes on in this process: no cloud has a say in how long it takes.
    const fn is_here(&self) -> bool {
        matches!(self, Self::CopyCaughtUp | Self::CopyInStep | Self::Checks(_) | Self::Quiet | Self::CopyCleared)
    }
}

/// Something that needs somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    /// One stable word.
    pub reason: Reason,
    /// Which field or resource.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Plan {
    fn new(phase: Phase) -> Self {
        Self { phase, steps: Vec::new(), waits: Vec::new(), blocks: Vec::new(), notes: Vec::new() }
    }

    /// Nothing to do, nothing awaited, nothing wrong.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        self.steps.is_empty() && self.waits.is_empty() && self.blocks.is_empty()
    }

    /// How long until it is worth looking again: at most 3 % of the time already waited, between 0.2 and 15 s.
    #[must_use]
    pub fn poll(&self, now: Timestamp) -> Duration {
        let share = |wait: &Wait| {
            let waited = now.duration_since(wait.since).max(SignedDuration::ZERO).unsigned_abs();
            let until = wait.expected.map(|at| at.duration_since(now).max(SignedDuration::ZERO).unsigned_abs());
            let poll = (waited.mul_f64(0.03)).clamp(Duration::from_millis(200), Duration::from_secs(15));
            // What goes on in this process is over sooner than a cloud's operations; looking costs little at first.
            let poll = if wait.on.is_here() { poll.min(waited / 4).max(Duration::from_millis(50)) } else { poll };
            until.map_or(poll, |until| poll.min(until.max(Duration::from_millis(50))))
        };
        self.waits.iter().map(share).min().unwrap_or(Duration::from_secs(15))
    }
}

/// Plans one wave.
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let mut draft = Draft { inputs, plan: Plan::new(Phase::Preflight) };
    match inputs.desired {
        Desired::Present(target) => draft.present(target),
        Desired::Absent { policy, .. } => {
            // With another account's credentials everything of ours would seem to be gone.
            if draft.account_is_ours() {
                draft.deletion(*policy);
            }
        }
    }
    let mut plan = draft.plan;
    let is_stopped = plan.steps.is_empty() && plan.waits.is_empty() && !plan.blocks.is_empty();
    if is_stopped && matches!(plan.phase, Phase::Preflight | Phase::Provisioning | Phase::Ready) {
        plan.phase = Phase::Blocked;
    }
    // A journal line is the word everything after it relies on, and what is destroyed cannot be weighed again:
    // both run alone.
    if let Some(alone) =
        plan.steps.iter().position(|step| matches!(step, Step::Journal { .. }) || step.is_destructive())
    {
        plan.steps = vec![plan.steps.swap_remove(alone)];
    }
    plan
}

/// The plan where the journal itself could not be read: nothing can be decided.
pub fn unread_journal(reading: &Reading<Journal>, now: Timestamp) -> Plan {
    let (owner, desired) = (Owner::nobody(), Desired::absent(crate::desired::DeletionPolicy::Retain));
    let (observed, journal) = (Observed::default(), Journal::default());
    let inputs =
        Inputs { owner: &owner, desired: &desired, observed: &observed, journal: &journal, announced: None, now };
    let mut draft = Draft { inputs: &inputs, plan: Plan::new(Phase::Preflight) };
    draft.unread(reading, "the journal");
    draft.plan
}

/// A plan being made.
pub(crate) struct Draft<'a> {
    inputs: &'a Inputs<'a>,
    plan: Plan,
}

impl<'a> Draft<'a> {
    fn present(&mut self, target: &'a Target) {
        if !self.account_is_ours() {
            return;
        }
        if let Some(lack) = &self.inputs.observed.lack {
            return self.lacking(lack);
        }
        match self.inputs.journal.open_migration() {
            Some(migration) if migration.hold.is_some() => self.held(target, migration),
            // When the bake is over the stores are no longer kept in step: from then on the way back is a migration of its own.
            Some(migration) if migration.rollback.is_some() && migration.baked.is_none() => {
                self.back(target, migration);
            }
            Some(migration) => self.forward(target, migration),
            None => self.settle(target),
        }
    }

    fn account_is_ours(&mut self) -> bool {
        let owner = self.inputs.owner;
        match &self.inputs.observed.account {
            Reading::Present(account) if *account == owner.account => true,
            Reading::Present(account) => {
                self.block(
                    Reason::AccountMismatch,
                    "spec.aws",
                    format!("the credentials belong to account {account}, the object to {}", owner.account),
                    "use credentials of that account, or correct spec.aws",
                );
                false
            }
            other => {
                self.unread(other, "the AWS account");
                false
            }
        }
    }

    fn phase(&mut self, phase: Phase) {
        self.plan.phase = phase;
    }

    fn step(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    fn note(&mut self, text: impl Into<String>) {
        self.plan.notes.push(text.into());
    }

    fn journal(&mut self, entry: Entry) {
        self.step(Step::Journal { expect: self.inputs.journal.sequence, entry });
    }

    fn block(
        &mut self,
        reason: Reason,
        subject: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.plan.blocks.push(Block {
            reason,
            subject: subject.into(),
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    fn wait(&mut self, wait: Wait) {
        self.plan.waits.push(wait);
    }

    /// Waits for `on`; past the deadline it is a block instead, so that nothing waits forever in silence.
    fn wait_until(
        &mut self,
        on: Awaited,
        since: Timestamp,
        limit: Duration,
        message: impl Into<String>,
        late: Late<'_>,
    ) {
        let deadline = after(since, limit);
        if self.inputs.now >= deadline {
            let limit = copying::shown(Some(limit));
            let message = format!("{}; that has taken longer than {limit}, which is the limit", message.into());
            self.block(late.reason, late.subject, message, late.remedy);
        } else {
            self.wait(Wait { on, since, expected: None, deadline: Some(deadline), message: message.into() });
        }
    }

    /// Something that could not be read, or cannot be seen: never an absence.
    fn unread<T>(&mut self, reading: &Reading<T>, what: &str) {
        match reading {
            Reading::Unknown(error) if error.class.is_temporary() => self.wait(Wait {
                on: Awaited::Reading(what.to_owned()),
                since: self.inputs.now,
                expected: None,
                deadline: None,
                message: format!("{what} could not be read: {error}; trying again"),
            }),
            Reading::Unknown(error) => {
                let (reason, message) = (Reason::of_class(error.class), format!("could not be read: {error}"));
                // One call may be behind many readings.
                let same = |block: &&mut Block| block.reason == reason && block.message == message;
                match self.plan.blocks.iter_mut().find(same) {
                    Some(block) if block.subject.split(", ").any(|known| known == what) => {}
                    Some(block) => block.subject = format!("{}, {what}", block.subject),
                    None => self.block(reason, what, message, reason.remedy()),
                }
            }
            Reading::Hidden(why) => {
                self.block(Reason::Hidden, what, why.clone(), "make it visible, or name it in the spec");
            }
            Reading::Absent => self.wait(Wait {
                on: Awaited::Reading(what.to_owned()),
                since: self.inputs.now,
                expected: None,
                deadline: None,
                message: format!("{what} has not been read yet"),
            }),
            Reading::Present(_) => {}
        }
    }

    fn service(&self, name: &str) -> Option<&'a Service> {
        self.inputs.observed.services.get(name).and_then(Reading::present)
    }
}

/// What becomes of a wait whose deadline has passed.
#[derive(Clone, Copy)]
pub(crate) struct Late<'a> {
    reason: Reason,
    subject: &'a str,
    remedy: &'a str,
}

/// `instant` plus `duration`, saturating.
#[must_use]
pub(crate) fn after(instant: Timestamp, duration: Duration) -> Timestamp {
    instant.checked_add(duration).unwrap_or(Timestamp::MAX)
}
