//! What `sessionbackend apply` tells while it works: events as data, as JSON lines, and as plain timestamped lines that say
//! what is done, what is waited for, since when and until when. A line is said when something is new, not at every look.

mod narrator;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{Mark, between, number, span, time};
use crate::checks::{CheckResult, Stage};
use crate::desired::Desired;
use crate::error::CloudError;
use crate::identity::MigrationId;
use crate::journal::{Copied, Gate, Migration, Outcome};
use crate::observed::{Copy, CopyState};
use crate::plan::{Awaited, Block, Phase, Wait, after};
use crate::step::Step;

pub use narrator::{Narrator, Pace, checks};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// The work begins, or goes on where a former process stopped.
    Started {
        /// `namespace/name`; every JSON line carries it anyway.
        #[serde(skip)]
        object: String,
        /// The migration that was open already.
        resumes: Option<MigrationId>,
    },
    /// The object is in another part of its life.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// A call is about to be made.
    Begun {
        /// The step.
        #[serde(serialize_with = "shown_step")]
        step: Step,
    },
    /// It succeeded.
    Done {
        /// The step.
        #[serde(serialize_with = "shown_step")]
        step: Step,
    },
    /// It failed.
    Failed {
        /// The step.
        #[serde(serialize_with = "shown_step")]
        step: Step,
        /// Why.
        error: CloudError,
    },
    /// A failure is followed by another try.
    Retrying {
        /// After so many milliseconds.
        #[serde(rename = "afterMs", serialize_with = "millis")]
        after: Duration,
        /// Failures in a row.
        failures: u32,
        /// Why, where that was not said by the failure itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// What is waited for now; empty when nothing is.
    Waiting {
        /// For what.
        waits: Vec<Wait>,
        /// How the copy stands.
        copy: Option<CopyFigures>,
    },
    /// What needs somebody.
    Blocked {
        /// By what.
        blocks: Vec<Block>,
    },
    /// A run of checks is over.
    Checks {
        /// When in the migration.
        stage: Stage,
        /// What came out.
        results: Vec<CheckResult>,
    },
    /// Something worth knowing.
    Note {
        /// What.
        text: String,
    },
    /// The work ends.
    Ended {
        /// How.
        #[serde(flatten)]
        end: Ending,
        /// How the copy stood last, where there was one.
        copy: Option<CopyFigures>,
    },
}

/// How `apply` ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "end", rename_all_fields = "camelCase")]
pub enum Ending {
    /// Nothing is left to do.
    Converged {
        /// The migration that was completed by this run, if one was.
        migration: Option<MigrationId>,
    },
    /// Nothing of the object is left to remove.
    Deleted,
    /// The services are back on the former store.
    RolledBack {
        /// Why and what to do.
        blocks: Vec<Block>,
    },
    /// A person's word is needed.
    AwaitsApproval {
        /// For which migration.
        migration: Option<MigrationId>,
        /// Which gate.
        gate: Gate,
    },
    /// Somebody has to do something first.
    Blocked {
        /// What.
        blocks: Vec<Block>,
    },
    /// Calls kept failing.
    Failed {
        /// The last one.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// It was interrupted; another `apply` goes on.
    Interrupted {
        /// The migration that is left open.
        migration: Option<MigrationId>,
        /// Both stores are in use and nobody keeps them in step now.
        out_of_step: bool,
    },
    /// `spec.mode: Plan`: nothing was to be changed.
    LookedOnly,
}

/// How the copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyFigures {
    /// Keys at the source when it began.
    pub total: u64,
    /// Keys copied.
    pub copied: u64,
    /// What a user can feel.
    pub lag_ms: Option<u64>,
    /// The worst of it since the switch.
    pub worst_lag_ms: u64,
    /// Keys changed on both sides.
    pub conflicts: u64,
    /// Whether the first pass is under way.
    #[serde(skip)]
    pub bulk: bool,
    /// When another runner that drives the migration was last alive.
    #[serde(skip)]
    pub other: Option<Timestamp>,
}

impl CopyFigures {
    /// Of a copy.
    #[must_use]
    pub fn of(copy: &Copy) -> Self {
        Self {
            total: copy.total,
            copied: copy.copied,
            lag_ms: copy.lag_ms,
            worst_lag_ms: copy.worst_lag_ms,
            conflicts: copy.conflicts,
            bulk: matches!(copy.state, CopyState::Starting | CopyState::Bulk),
            other: copy.other,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        if self.bulk {
            return match self.total {
                // Nothing was counted yet.
                0 => "the first keys are being copied".to_owned(),
                total => format!("{} of {} keys are copied", number(self.copied), number(total)),
            };
        }
        let lag = self.lag_ms.map_or("not known".to_owned(), |lag| span(Duration::from_millis(lag)));
        match self.conflicts {
            0 => format!("in step, lag {lag}"),
            conflicts => format!(
                "in step, lag {lag}, {} changed on both sides",
                super::plural(usize::try_from(conflicts).unwrap_or(usize::MAX), "key")
            ),
        }
    }
}

impl From<Copied> for CopyFigures {
    fn from(copied: Copied) -> Self {
        Self {
            total: copied.keys,
            copied: copied.keys,
            lag_ms: None,
            worst_lag_ms: copied.worst_lag_ms,
            conflicts: copied.conflicts,
            bulk: false,
            other: None,
        }
    }
}

impl CopyFigures {
    /// What it came to, as the last line of a story.
    pub(super) fn closing(&self) -> String {
        format!("  the copy: {}", self.came_to())
    }

    /// What it came to.
    pub(super) fn came_to(&self) -> String {
        let worst = span(Duration::from_millis(self.worst_lag_ms));
        let conflicts = match self.conflicts {
            0 => "no key was changed on both sides".to_owned(),
            1 => "1 key was changed on both sides".to_owned(),
            more => format!("{} keys were changed on both sides", number(more)),
        };
        let keys = super::plural(usize::try_from(self.total).unwrap_or(usize::MAX), "key");
        format!("{keys} at the start, worst lag since the switch {worst}, {conflicts}")
    }
}

/// Whether old and new instances may be on different stores now, so that somebody has to keep them in step.
#[must_use]
pub fn both_in_use(migration: &Migration) -> bool {
    let moved = migration.services.iter().any(|moved| moved.forward.is_some());
    let drained = match &migration.rollback {
        Some(rollback) => rollback.drained.is_some(),
        None => migration.drained.is_some(),
    };
    migration.ended.is_none() && migration.copies && moved && !drained
}

/// A wait as people think of it: the planner's bake ends with the next look at the checks, a person's when it is over.
#[must_use]
pub fn to_its_end(wait: &Wait, desired: &Desired) -> Wait {
    if let (Awaited::Bake, Desired::Present(target)) = (&wait.on, desired) {
        Wait { expected: Some(after(wait.since, target.migration.bake_time)), ..wait.clone() }
    } else {
        wait.clone()
    }
}

/// What is waited for and until when, an aside about the wait itself, and how the copy stands meanwhile.
#[must_use]
pub fn waiting(wait: &Wait, copy: Option<&CopyFigures>, now: Timestamp, aside: &str) -> String {
    let figures = match &wait.on {
        Awaited::LongestRequest | Awaited::Operation(..) | Awaited::Bake | Awaited::Checks(_) => {
            copy.map_or(String::new(), |copy| format!("; the stores are {}", copy.text()))
        }
        Awaited::CopyInStep => {
            let other = copy.and_then(|copy| copy.other);
            other.map_or(String::new(), |at| format!("; it was alive {} ago", span(between(at, now))))
        }
        Awaited::Reading(_)
        | Awaited::Store
        | Awaited::Listing(..)
        | Awaited::ForeignOperation(_)
        | Awaited::CopyCaughtUp
        | Awaited::ClientsGone
        | Awaited::Quiet
        | Awaited::Approval(_)
        | Awaited::Unused(_)
        | Awaited::CopyCleared
        | Awaited::Missing(_) => String::new(),
    };
    let (message, figures) = match copy.filter(|copy| copy.bulk) {
        Some(copy) if wait.on == Awaited::CopyCaughtUp => (copy.text(), String::new()),
        Some(_) => (wait.message.clone(), String::new()),
        None => (wait.message.clone(), figures),
    };
    let until = match (wait.expected.filter(|at| *at > now), wait.deadline) {
        (Some(expected), _) => format!(", until {}", time(expected)),
        (None, Some(deadline)) => format!(", at the latest until {}", time(deadline)),
        (None, None) => String::new(),
    };
    format!("{message}{until}{aside}{figures}")
}

/// The state a migration ended in, as a note.
#[must_use]
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::RolledBack => "rolled back",
        Outcome::Abandoned => "given up before the switch",
    }
}

fn shown_step<S: Serializer>(step: &Step, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown {
        mark: Mark,
        kind: String,
        text: String,
    }
    Shown { mark: Mark::of(step), kind: super::plan::kind(step), text: step.to_string() }.serialize(serializer)
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
