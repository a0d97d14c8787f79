//! Failures in a row: how long to pause after them, and when to give up. What could not be read, and what is in a
//! copier's way, count as failures: nothing moves until they end.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::Reason;
use crate::engine::Cycle;
use crate::error::Class;
use crate::journal::Entry;
use crate::observed::CopyState;
use crate::plan::Awaited;
use crate::render::apply::Ending;
use crate::render::between;
use crate::step::Step;

/// Refusals in a row that only a person can end.
const REFUSALS: u32 = 5;
/// How long failures that may end by themselves are put up with.
const PATIENCE: Duration = Duration::from_mins(15);

/// Failures in a row. They live in memory: losing them is harmless.
#[derive(Default)]
pub(super) struct Failures {
    pub(super) row: u32,
    refusals: u32,
    since: Option<Timestamp>,
    last: Option<(Class, String)>,
}

impl Failures {
    pub(super) fn count(&mut self, turn: &Cycle) {
        let failed = turn
            .failure()
            .map(|error| (error.class, error.to_string()))
            .or_else(|| unread(turn))
            .or_else(|| stuck(turn));
        let Some((class, message)) = failed else {
            // What was refused is announced anew before it is tried again: that is no success yet.
            if !announces(turn) {
                *self = Self::default();
            }
            return;
        };
        self.row = self.row.saturating_add(1);
        self.refusals = if class.is_temporary() { 0 } else { self.refusals + 1 };
        self.since.get_or_insert(turn.at);
        self.last = Some((class, message));
    }

    pub(super) fn pause(&self) -> Option<Duration> {
        let (class, _) = self.last.as_ref()?;
        let base = match class {
            // The world is not as it was seen: look again soon.
            Class::Conflict => 100,
            Class::Transient => 250,
            Class::Throttled => 1000,
            Class::Exists
            | Class::NotFound
            | Class::Denied
            | Class::Credentials
            | Class::Quota
            | Class::Subscription
            | Class::Rejected => 500,
        };
        Some(Duration::from_millis(base << self.row.min(8)))
    }

    pub(super) fn hopeless(&self, now: Timestamp) -> Option<Ending> {
        let (class, message) = self.last.as_ref()?;
        let too_long = self.since.is_some_and(|since| between(since, now) >= PATIENCE);
        (self.refusals >= REFUSALS || too_long)
            .then(|| Ending::Failed { message: message.clone(), remedy: Reason::of_class(*class).remedy().to_owned() })
    }
}

/// Whether nothing was done but to write down what is about to be made.
fn announces(turn: &Cycle) -> bool {
    let intends = |step: &Step| matches!(step, Step::Journal { entry: Entry::Intend(_), .. });
    !turn.outcomes.is_empty() && turn.outcomes.iter().all(|outcome| intends(&outcome.step))
}

/// Where the copy goes on by itself as soon as what is in its way is gone.
fn stuck(turn: &Cycle) -> Option<(Class, String)> {
    match &turn.observed.copy.present()?.state {
        CopyState::Failed { message, temporary: true, .. } => Some((Class::Transient, message.clone())),
        CopyState::Failed { .. }
        | CopyState::Starting
        | CopyState::Bulk
        | CopyState::Following
        | CopyState::BothWays => None,
    }
}

/// Where nothing moves because something could not be read.
fn unread(turn: &Cycle) -> Option<(Class, String)> {
    if !turn.plan.steps.is_empty() || turn.plan.waits.is_empty() {
        return None;
    }
    let readings: Vec<_> = turn
        .plan
        .waits
        .iter()
        .filter(|wait| matches!(wait.on, Awaited::Reading(_)))
        .map(|wait| &wait.message)
        .collect();
    let last = readings.last().filter(|_| readings.len() == turn.plan.waits.len())?;
    Some((Class::Transient, (*last).clone()))
}
