//! When to look again, after a failure, between two waves, and while something is awaited. What could not be read, and what
//! is in a copier's way, count as failures: nothing moves until they end. Kept in memory: losing it is harmless.

use std::time::Duration;

use jiff::Timestamp;

use crate::engine::Cycle;
use crate::error::Class;
use crate::journal::Entry;
use crate::observed::{CopyState, HELD};
use crate::plan::Awaited;
use crate::render::between;
use crate::step::Step;

/// Refusals in a row that only a person can end.
const REFUSALS: u32 = 5;
/// How long failures that may end by themselves are put up with.
const PATIENCE: Duration = Duration::from_mins(15);

/// What one object's turns have come to so far.
#[derive(Debug, Default)]
pub struct Backoff {
    row: u32,
    refusals: u32,
    since: Option<Timestamp>,
    last: Option<(Class, String)>,
    wave: Vec<Step>,
    repeats: u32,
}

/// How long until the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// After this many failures in a row.
    Failed(Duration, u32),
    /// After a wave: what its steps changed decides what is next.
    Wave(Duration),
    /// Nothing can be done now.
    Idle(Duration),
}

impl Backoff {
    /// Takes a turn into account.
    pub fn count(&mut self, turn: &Cycle) {
        self.repeats = if self.wave == turn.plan.steps { self.repeats.saturating_add(1) } else { 0 };
        self.wave.clone_from(&turn.plan.steps);
        let failed = turn
            .failure()
            .map(|error| (error.class, error.to_string()))
            .or_else(|| unread(turn))
            .or_else(|| stuck(turn));
        let Some((class, message)) = failed else {
            // What was refused is announced anew before it is tried again: that is no success yet.
            if !announces(turn) {
                (self.row, self.refusals, self.since, self.last) = (0, 0, None, None);
            }
            return;
        };
        self.row = self.row.saturating_add(1);
        self.refusals = if class.is_temporary() { 0 } else { self.refusals + 1 };
        self.since.get_or_insert(turn.at);
        // The same failure again keeps its first request id: a status that repeats it does not change with every attempt.
        let is_known = self
            .last
            .as_ref()
            .is_some_and(|(_, last)| apart_from_the_request(last) == apart_from_the_request(&message));
        if !is_known {
            self.last = Some((class, message));
        }
    }

    /// How long to wait before the turn after `turn`; after a failure at most `longest`.
    #[must_use]
    pub fn pause(&self, turn: &Cycle, longest: Duration, now: Timestamp) -> Pause {
        if let Some(pause) = self.after_failure() {
            return Pause::Failed(pause.min(longest), self.row);
        }
        if turn.plan.steps.is_empty() {
            return Pause::Idle(turn.plan.poll(now));
        }
        // A wave that is planned again asks for something that needs its time; what a new one did decides what is next.
        Pause::Wave(Duration::from_millis(if self.repeats == 0 { 0 } else { 20 << self.repeats.min(6) }))
    }

    fn after_failure(&self) -> Option<Duration> {
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

    /// The last failure, once nobody should wait for it to end by itself any more.
    #[must_use]
    pub fn hopeless(&self, now: Timestamp) -> Option<(Class, &str)> {
        let (class, message) = self.last.as_ref()?;
        let too_long = self.since.is_some_and(|since| between(since, now) >= PATIENCE);
        (self.refusals >= REFUSALS || too_long).then_some((*class, message.as_str()))
    }

    /// The last failure, while there is one.
    #[must_use]
    pub fn failure(&self) -> Option<(Class, &str)> {
        self.last.as_ref().map(|(class, message)| (*class, message.as_str()))
    }
}

fn apart_from_the_request(message: &str) -> &str {
    message.split_once(" (request ").map_or(message, |(what, _)| what)
}

/// Whether nothing was done but to write down what is about to be made.
fn announces(turn: &Cycle) -> bool {
    let intends = |step: &Step| matches!(step, Step::Journal { entry: Entry::Intend(_), .. });
    !turn.outcomes.is_empty() && turn.outcomes.iter().all(|outcome| intends(&outcome.step))
}

/// Where the copy goes on by itself as soon as what is in its way is gone. That another runner is at work is no failure.
pub(crate) fn stuck(turn: &Cycle) -> Option<(Class, String)> {
    match &turn.observed.copy.present()?.state {
        CopyState::Failed { reason, .. } if reason == HELD => None,
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
