//! What people and scripts read: plans, progress and status as text and as JSON. Pure: data in, text out.
//! Decides nothing, knows no terminal, and cannot print a secret because nothing it is given holds one.

pub mod apply;
pub mod candidates;
pub mod conditions;
pub mod cost;
pub mod lag;
pub mod plan;
pub mod status;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::journal::Entry;
use crate::step::{CopyMode, Step};

/// What a step does to the world, as Terraform marks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Mark {
    /// Something is made.
    #[serde(rename = "+")]
    Add,
    /// Something is changed.
    #[serde(rename = "~")]
    Change,
    /// Something is removed.
    #[serde(rename = "-")]
    Remove,
    /// Something is looked at or written down.
    #[serde(rename = "·")]
    Note,
}

impl Mark {
    /// Of a step.
    #[must_use]
    pub fn of(step: &Step) -> Self {
        match step {
            Step::Claim { .. }
            | Step::CreateUpstashDatabase { .. }
            | Step::CreateSubnetGroup { .. }
            | Step::CreateReplicationGroup { .. }
            | Step::AuthorizeIngress { .. }
            | Step::CreateConnector { .. }
            | Step::CreateEpochSecret { .. } => Self::Add,
            Step::PatchService(_) | Step::Copy { mode: CopyMode::Follow | CopyMode::BothWays, .. } => Self::Change,
            Step::Release { .. }
            | Step::DeleteUpstashDatabase { .. }
            | Step::DeleteSubnetGroup { .. }
            | Step::DeleteReplicationGroup { .. }
            | Step::RevokeIngress { .. }
            | Step::DeleteConnector { .. }
            | Step::DeleteSecret { .. }
            | Step::Copy { mode: CopyMode::Clear { .. } | CopyMode::Withdraw, .. } => Self::Remove,
            Step::Journal { .. } | Step::CountQuiet { .. } | Step::RunChecks { .. } => Self::Note,
        }
    }

    /// The sign.
    #[must_use]
    pub fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Change => '~',
            Self::Remove => '-',
            Self::Note => '·',
        }
    }
}

/// Whether a person wants to read of a step: our own book-keeping is not news, its turning points are.
#[must_use]
pub fn is_news(step: &Step) -> bool {
    match step {
        Step::Journal { entry, .. } => match entry {
            Entry::Begin(_)
            | Entry::Baseline(_)
            | Entry::Approve(..)
            | Entry::Sealed
            | Entry::NotMoved(_, _, Some(_))
            | Entry::Moved(..)
            | Entry::Drained
            | Entry::Validated(_)
            | Entry::EgressValidated(_)
            | Entry::Baked(_)
            | Entry::BackValidated(_)
            | Entry::RollBack { .. }
            | Entry::Hold { .. }
            | Entry::End(..)
            | Entry::Retry
            | Entry::Abort => true,
            Entry::Intend(_)
            | Entry::Made(..)
            | Entry::Gone(_)
            | Entry::Moving(..)
            | Entry::NotMoved(_, _, None)
            | Entry::Dropped(..)
            | Entry::Copied(_)
            | Entry::Settle(_) => false,
        },
        Step::Claim { .. }
        | Step::Release { .. }
        | Step::CreateUpstashDatabase { .. }
        | Step::DeleteUpstashDatabase { .. }
        | Step::CreateSubnetGroup { .. }
        | Step::DeleteSubnetGroup { .. }
        | Step::CreateReplicationGroup { .. }
        | Step::DeleteReplicationGroup { .. }
        | Step::AuthorizeIngress { .. }
        | Step::RevokeIngress { .. }
        | Step::CreateConnector { .. }
        | Step::DeleteConnector { .. }
        | Step::CreateEpochSecret { .. }
        | Step::DeleteSecret { .. }
        | Step::PatchService(_)
        | Step::Copy { .. }
        | Step::CountQuiet { .. }
        | Step::RunChecks { .. } => true,
    }
}

/// A step in words: the journal's without its prefix, because a reader cares for what happened, not where it is kept.
#[must_use]
pub fn words(step: &Step) -> String {
    if let Step::Journal { entry, .. } = step { entry.to_string() } else { step.to_string() }
}

/// A duration for people: two units at most, milliseconds below a second, nothing that is zero.
#[must_use]
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |major: u64, unit: &str, minor: u64, lesser: &str| match minor {
        0 => format!("{major} {unit}"),
        minor => format!("{major} {unit} {minor} {lesser}"),
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// From one moment to a later one; zero where the clocks disagree.
#[must_use]
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).max(SignedDuration::ZERO).unsigned_abs()
}

/// A moment to the second, in UTC.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time of day to the second, in UTC.
#[must_use]
pub fn time(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

/// A number with thousands set apart.
#[must_use]
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 service`, `3 services`.
#[must_use]
pub fn plural(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{} {one}s", number(count as u64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_and_no_zeros() {
        for (millis, text) in [
            (12, "12 ms"),
            (5_000, "5 s"),
            (120_000, "2 min"),
            (125_000, "2 min 5 s"),
            (7_200_000, "2 h"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
    }
}
