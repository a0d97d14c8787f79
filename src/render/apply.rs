//! What `sessionbackend apply` tells while it works: events as data, as JSON lines, and as plain timestamped lines that say
//! what is done, what is waited for, since when and until when. A line is said when something is new, not at every look.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{Mark, between, is_news, moment, number, span, time, words};
use crate::checks::{CheckResult, Severity, Stage, Verdict};
use crate::desired::Desired;
use crate::error::CloudError;
use crate::identity::MigrationId;
use crate::journal::{Gate, Migration, Outcome};
use crate::observed::{Copy, CopyState};
use crate::plan::{Awaited, Block, Phase, Wait, after};
use crate::step::Step;

/// A wait whose figures move is told again this often; one that stands still, four times more rarely.
const AGAIN: Duration = Duration::from_secs(15);

/// How often a script hears of the same wait.
const PACE: Duration = Duration::from_secs(2);

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
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        if self.bulk {
            return format!("{} of {} keys copied", number(self.copied), number(self.total));
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

impl CopyFigures {
    /// What it came to.
    fn closing(&self) -> String {
        let worst = span(Duration::from_millis(self.worst_lag_ms));
        let conflicts = match self.conflicts {
            0 => "no key was changed on both sides".to_owned(),
            1 => "1 key was changed on both sides".to_owned(),
            more => format!("{} keys were changed on both sides", number(more)),
        };
        format!("  the copy: {} keys at the start, worst lag since the switch {worst}, {conflicts}", number(self.total))
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

/// Thins out what is waited for, for a script: what is the same is said again only now and then.
#[derive(Debug, Default)]
pub struct Pace {
    said: Option<(Timestamp, Vec<Wait>)>,
}

impl Pace {
    /// Whether an event is worth a line of its own.
    #[must_use]
    pub fn is_due(&mut self, told: &Told) -> bool {
        let Event::Waiting { waits, .. } = &told.event else {
            self.said = None;
            return true;
        };
        // What could not be read is waited for anew at every look.
        let same = |former: &[Wait]| former.iter().map(|wait| &wait.on).eq(waits.iter().map(|wait| &wait.on));
        let due = self.said.as_ref().is_none_or(|(at, former)| !same(former) || between(*at, told.at) >= PACE);
        if due {
            self.said = Some((told.at, waits.clone()));
        }
        due
    }
}

/// Turns events into lines, each with its time, and remembers what was said already.
#[derive(Debug, Default)]
pub struct Narrator {
    waits: BTreeMap<String, (Timestamp, String)>,
    notes: Vec<String>,
    blocks: Vec<Block>,
    /// What was done last: what has to be asked for twice is said once.
    done: Option<Step>,
}

impl Narrator {
    /// The lines an event is worth.
    #[must_use]
    pub fn lines(&mut self, told: &Told) -> Vec<String> {
        let stamp = moment(told.at);
        self.news(told).into_iter().map(|line| format!("{stamp}  {line}")).collect()
    }

    /// The same without times and without what is waited for: a terminal shows that as it moves.
    #[must_use]
    pub fn news(&mut self, told: &Told) -> Vec<String> {
        match &told.event {
            Event::Started { object, resumes: None } => vec![object.clone()],
            Event::Started { object, resumes: Some(id) } => vec![format!("{object}: goes on with migration {id}")],
            Event::Phase { phase } => vec![format!("── {}", super::plan::heading(*phase))],
            Event::Done { step } if is_news(step) && self.done.as_ref() != Some(step) => {
                self.done = Some(step.clone());
                vec![format!("{} {}", Mark::of(step).sign(), words(step))]
            }
            Event::Begun { .. } | Event::Done { .. } => Vec::new(),
            Event::Failed { step, error } => vec![format!("! {}: {error}", words(step))],
            Event::Retrying { after, failures } => {
                vec![format!("  trying again in {} (failed {})", span(*after), times(*failures))]
            }
            Event::Waiting { waits, copy } => self.waits(told.at, waits, copy.as_ref()),
            Event::Blocked { blocks } => self.blocks(blocks),
            Event::Checks { stage, results } => checks(*stage, results),
            Event::Note { text } if self.notes.contains(text) => Vec::new(),
            Event::Note { text } => {
                self.notes.push(text.clone());
                vec![format!("note: {text}")]
            }
            Event::Ended { end, copy } => {
                let said = std::mem::take(&mut self.blocks);
                let mut lines = ended(end, &said);
                lines.extend(copy.as_ref().filter(|copy| !copy.bulk && copy.total > 0).map(CopyFigures::closing));
                lines
            }
        }
    }

    fn waits(&mut self, at: Timestamp, waits: &[Wait], copy: Option<&CopyFigures>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut now = BTreeMap::new();
        for wait in waits {
            let key = format!("{:?}", wait.on);
            let text = waiting(wait, copy, at);
            let said = self.waits.get(&key).filter(|(last, former)| {
                // The longer it has been waited, the less news it is that it still is.
                let still = (AGAIN * 4).max(between(wait.since, at) / 4);
                let quiet = if *former == wait.message { still } else { AGAIN };
                between(*last, at) < quiet
            });
            if let Some(said) = said {
                now.insert(key, said.clone());
            } else {
                let waited = match between(wait.since, at) {
                    waited if waited < Duration::from_secs(1) => String::new(),
                    waited => format!(" (for {} now)", span(waited)),
                };
                lines.push(format!("… {text}{waited}"));
                now.insert(key, (at, wait.message.clone()));
            }
        }
        self.waits = now;
        lines
    }

    fn blocks(&mut self, blocks: &[Block]) -> Vec<String> {
        if self.blocks == blocks {
            return Vec::new();
        }
        self.blocks = blocks.to_vec();
        blocks.iter().flat_map(block).collect()
    }
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

/// What is waited for and until when.
#[must_use]
pub fn waiting(wait: &Wait, copy: Option<&CopyFigures>, now: Timestamp) -> String {
    let figures = match &wait.on {
        Awaited::LongestRequest | Awaited::Operation(..) | Awaited::Bake | Awaited::Checks(_) => {
            copy.map_or(String::new(), |copy| format!("; the stores are {}", copy.text()))
        }
        Awaited::Reading(_)
        | Awaited::Store
        | Awaited::Listing(..)
        | Awaited::ForeignOperation(_)
        | Awaited::CopyCaughtUp
        | Awaited::CopyInStep
        | Awaited::ClientsGone
        | Awaited::Quiet
        | Awaited::Approval(_)
        | Awaited::Unused(_)
        | Awaited::CopyCleared => String::new(),
    };
    let figures = if copy.is_some_and(|copy| copy.bulk) { String::new() } else { figures };
    let until = match (wait.expected.filter(|at| *at > now), wait.deadline) {
        (Some(expected), _) => format!(", until {}", time(expected)),
        (None, Some(deadline)) => format!(", at the latest until {}", time(deadline)),
        (None, None) => String::new(),
    };
    format!("{}{figures}{until}", wait.message)
}

/// How a run came out: one line, and one for each check that did not simply pass.
fn checks(stage: Stage, results: &[CheckResult]) -> Vec<String> {
    let passed = results.iter().filter(|result| result.verdict == Verdict::Pass).count();
    let mut lines = vec![format!("{} of {} passed: {stage}", passed, super::plural(results.len(), "check"))];
    lines.extend(results.iter().filter_map(|result| {
        let verdict = match &result.verdict {
            Verdict::Pass => return None,
            Verdict::Fail => "✗ failed",
            Verdict::Inconclusive => "? undecided",
            Verdict::Skipped(_) => "- skipped",
        };
        let severity = match result.severity {
            Severity::Gate => "",
            Severity::Warn => ", a warning only",
        };
        let service = result.service.as_ref().map_or(String::new(), |service| format!(" on {service}"));
        Some(format!("  {verdict}: {}{service}{severity}: {}", result.name, result.message))
    }));
    lines
}

fn block(block: &Block) -> Vec<String> {
    vec![format!("✗ {}: {} ({})", block.subject, block.message, block.reason), format!("  → {}", block.remedy)]
}

/// How it ended; what was `said` to be in the way is not said again.
fn ended(end: &Ending, said: &[Block]) -> Vec<String> {
    let fresh = |blocks: &[Block]| -> Vec<String> {
        blocks.iter().filter(|block| !said.contains(block)).flat_map(block).collect()
    };
    match end {
        Ending::Converged { migration: Some(id) } => {
            vec![format!("✓ done: migration {id} is complete; nothing is left to do")]
        }
        Ending::Converged { migration: None } => vec!["✓ nothing is left to do".to_owned()],
        Ending::Deleted => vec!["✓ deleted: nothing is left to remove".to_owned()],
        Ending::RolledBack { blocks } => {
            let mut lines = vec!["✗ rolled back: the services are on the former store".to_owned()];
            lines.extend(fresh(blocks));
            lines
        }
        Ending::AwaitsApproval { migration, gate } => {
            let id = migration.as_ref().map_or_else(|| "MIGRATION".to_owned(), ToString::to_string);
            vec![
                format!("⏸ waits for your approval: {gate}"),
                format!("  → sessionbackend approve {id}/{gate} -f FILE, then apply again"),
            ]
        }
        Ending::Blocked { blocks } => {
            let mut lines = vec![format!("✗ stopped: {} to be put right first", things(blocks.len()))];
            lines.extend(fresh(blocks));
            lines
        }
        Ending::Failed { message, remedy } => vec![format!("✗ gave up: {message}"), format!("  → {remedy}")],
        Ending::Interrupted { migration, out_of_step } => interrupted(migration.as_ref(), *out_of_step),
        Ending::LookedOnly => {
            vec!["spec.mode is Plan: nothing was changed; set mode: Apply to have it carried out".to_owned()]
        }
    }
}

fn interrupted(migration: Option<&MigrationId>, out_of_step: bool) -> Vec<String> {
    let mut lines = vec![match migration {
        Some(id) => {
            format!("⏹ stopped; migration {id} stays open, and a second `apply` goes on where this one stopped")
        }
        None => "⏹ stopped; a second `apply` goes on where this one stopped".to_owned(),
    }];
    if out_of_step {
        lines.push(
            "  ! Both stores may be in use and nobody keeps them in step now: people can be logged out. Apply again soon."
                .to_owned(),
        );
    }
    lines
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

fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    }
}

fn things(count: usize) -> String {
    if count == 1 { "one thing has".to_owned() } else { format!("{count} things have") }
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
