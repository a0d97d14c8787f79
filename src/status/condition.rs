//! The conditions of an object, projected from scratch each time, and which of their changes are events.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::condition::{Finding, Kind, Reason};
use crate::api::status::{Phase, SessionBackendStatus};
use crate::checks::{CheckResult, Judgement, judge};
use crate::desired::{Desired, Mode};
use crate::error::presentable;
use crate::journal::Outcome;
use crate::observed::{Reading, ServiceStatus, StoreStatus};
use crate::plan::{Awaited, Inputs, Plan};

use super::Aside;

/// The API server takes 1,024 bytes; what is cut gets an ellipsis of three.
const EVENT: usize = 1024 - '…'.len_utf8();

/// Every condition there is to report.
pub(super) fn findings(
    inputs: &Inputs<'_>,
    plan: &Plan,
    checked: Option<&[CheckResult]>,
    aside: &Aside<'_>,
    doing: &str,
) -> Vec<Finding> {
    let validated = checked.map(|results| validated(inputs, results));
    let because = cause(plan, aside, doing);
    let mut found = vec![
        ready(inputs, plan, validated.as_ref(), aside, &because),
        reconciling(inputs, plan, aside, &because),
        stalled(plan, aside, &because),
    ];
    found.push(match (aside.trouble, aside.remark) {
        (Some((reason, trouble)), _) => finding(Kind::Accepted, Some(false), reason, trouble),
        (None, Some(remark)) => finding(Kind::Accepted, Some(true), Reason::AnnotationIgnored, remark),
        (None, None) => finding(Kind::Accepted, Some(true), Reason::AsDesired, ""),
    });
    found.extend(store(inputs));
    found.extend(services(inputs));
    found.extend(validated);
    found.extend(migrated(inputs));
    found
}

fn finding(kind: Kind, status: Option<bool>, reason: Reason, message: impl Into<String>) -> Finding {
    Finding { kind, status, reason, message: message.into() }
}

/// Of an object that could not even be looked at.
pub(super) fn of_the_unplanned(reason: Reason, message: &str, waits: bool, aside: &Aside<'_>) -> Vec<Finding> {
    let accepted = !matches!(reason, Reason::InvalidSpec | Reason::Undecodable);
    let quiet = |kind| finding(kind, Some(false), Reason::AsDesired, "");
    vec![
        finding(Kind::Ready, Some(false), reason, message),
        if waits { finding(Kind::Reconciling, Some(true), reason, message) } else { quiet(Kind::Reconciling) },
        if waits || aside.paused { quiet(Kind::Stalled) } else { finding(Kind::Stalled, Some(true), reason, message) },
        if accepted {
            finding(Kind::Accepted, Some(true), Reason::AsDesired, "")
        } else {
            finding(Kind::Accepted, Some(false), reason, message)
        },
    ]
}

/// Why nothing, or not everything, is as it should be.
fn cause(plan: &Plan, aside: &Aside<'_>, doing: &str) -> (Reason, String) {
    if aside.paused {
        return (Reason::Paused, Reason::Paused.remedy().to_owned());
    }
    if let Some(block) = plan.blocks.first() {
        return (block.reason, super::blocked(block));
    }
    if let Some((class, message)) = aside.failure {
        return (Reason::of_class(class), message.to_owned());
    }
    let message = plan.waits.first().map_or_else(|| doing.to_owned(), |wait| wait.message.clone());
    let approval = plan.waits.iter().any(|wait| matches!(wait.on, Awaited::Approval(_)));
    (if approval { Reason::ApprovalNeeded } else { Reason::Progressing }, message)
}

fn ready(
    inputs: &Inputs<'_>,
    plan: &Plan,
    validated: Option<&Finding>,
    aside: &Aside<'_>,
    because: &(Reason, String),
) -> Finding {
    let Desired::Present(target) = inputs.desired else {
        return finding(Kind::Ready, Some(false), Reason::Deleting, "");
    };
    if plan.is_converged() && !aside.paused {
        return match validated.filter(|validated| validated.status == Some(false)) {
            Some(failed) => finding(Kind::Ready, Some(false), failed.reason, failed.message.clone()),
            None => finding(Kind::Ready, Some(true), Reason::AsDesired, ""),
        };
    }
    let looks = target.mode == Mode::Plan && plan.blocks.is_empty() && !aside.paused;
    let (reason, message) =
        if looks { (Reason::PlanOnly, Reason::PlanOnly.remedy().to_owned()) } else { because.clone() };
    finding(Kind::Ready, Some(false), reason, message)
}

/// A failure that does not end by itself stands still as a block does. Who pauses an object means it.
fn stands_still(plan: &Plan, aside: &Aside<'_>) -> bool {
    let failed = aside.failure.is_some_and(|(class, _)| !class.is_temporary());
    !aside.paused && (failed || !plan.blocks.is_empty())
}

fn reconciling(inputs: &Inputs<'_>, plan: &Plan, aside: &Aside<'_>, because: &(Reason, String)) -> Finding {
    let is_done = plan.steps.is_empty() || inputs.desired.looks_only();
    let idle = is_done && plan.waits.is_empty();
    let busy = !(idle || aside.paused || stands_still(plan, aside));
    let (reason, message) = if busy { because.clone() } else { (Reason::AsDesired, String::new()) };
    finding(Kind::Reconciling, Some(busy), reason, message)
}

fn stalled(plan: &Plan, aside: &Aside<'_>, because: &(Reason, String)) -> Finding {
    let stands = stands_still(plan, aside);
    let (reason, message) = if stands { because.clone() } else { (Reason::AsDesired, String::new()) };
    finding(Kind::Stalled, Some(stands), reason, message)
}

fn store(inputs: &Inputs<'_>) -> Option<Finding> {
    let kind = Kind::StoreAvailable;
    match inputs.desired {
        Desired::Present(_) => {}
        Desired::Absent { .. } => return None,
    }
    Some(match &inputs.observed.target {
        Reading::Present(store) => match &store.status {
            StoreStatus::Available | StoreStatus::Modifying => finding(kind, Some(true), Reason::AsDesired, ""),
            StoreStatus::Creating => {
                finding(kind, Some(false), Reason::StoreNotReady, format!("{} is being created", store.id))
            }
            StoreStatus::Deleting => {
                finding(kind, Some(false), Reason::StoreNotFound, format!("{} is being deleted", store.id))
            }
            StoreStatus::Failed(status) => {
                finding(kind, Some(false), Reason::StoreFailed, format!("{} is {status}", store.id))
            }
        },
        Reading::Absent => finding(kind, Some(false), Reason::StoreNotFound, "it does not exist"),
        Reading::Unknown(error) => finding(kind, None, Reason::of_class(error.class), error.to_string()),
        Reading::Hidden(why) => finding(kind, None, Reason::SourceUnknown, why.clone()),
    })
}

fn services(inputs: &Inputs<'_>) -> Option<Finding> {
    let kind = Kind::ServicesDeployed;
    let Desired::Present(target) = inputs.desired else { return None };
    for spec in &target.services {
        let name = &spec.name;
        let service = match inputs.observed.services.get(name).unwrap_or(&Reading::Absent) {
            Reading::Present(service) => service,
            Reading::Absent => {
                return Some(finding(
                    kind,
                    Some(false),
                    Reason::ServiceNotFound,
                    format!("service {name} does not exist"),
                ));
            }
            Reading::Unknown(error) => {
                return Some(finding(kind, None, Reason::of_class(error.class), error.to_string()));
            }
            Reading::Hidden(why) => return Some(finding(kind, None, Reason::SourceUnknown, why.clone())),
        };
        let (reason, what) = match &service.status {
            ServiceStatus::Running => continue,
            ServiceStatus::OperationInProgress => (Reason::Progressing, "is being deployed"),
            ServiceStatus::Paused => (Reason::ServicePaused, "is paused"),
            ServiceStatus::CreateFailed => (Reason::ServiceUnusable, "never came up"),
            ServiceStatus::DeleteFailed => (Reason::ServiceUnusable, "could not be deleted"),
            ServiceStatus::Deleted => (Reason::ServiceNotFound, "was deleted"),
            ServiceStatus::Other(status) => (Reason::ServiceBusy, status.as_str()),
        };
        return Some(finding(kind, Some(false), reason, format!("service {name} {what}")));
    }
    Some(finding(kind, Some(true), Reason::AsDesired, ""))
}

fn validated(inputs: &Inputs<'_>, results: &[CheckResult]) -> Finding {
    let baseline = inputs.journal.migration.as_ref().and_then(|migration| migration.baseline.as_deref());
    let told = |results: &[CheckResult]| {
        results.iter().map(|result| format!("{}: {}", result.name, result.message)).collect::<Vec<_>>().join("; ")
    };
    match judge(baseline.unwrap_or_default(), results) {
        Judgement::Passed => finding(Kind::Validated, Some(true), Reason::AsDesired, ""),
        Judgement::Regressed(failed) => finding(Kind::Validated, Some(false), Reason::CheckFailed, told(&failed)),
        Judgement::Undecided(open) => finding(Kind::Validated, None, Reason::CheckInconclusive, told(&open)),
    }
}

fn migrated(inputs: &Inputs<'_>) -> Option<Finding> {
    let migration = inputs.journal.migration.as_ref()?;
    let why = migration.rollback.as_ref().map(|rollback| format!("{}: {}", rollback.reason, rollback.message));
    let (status, reason) = match migration.ended.as_ref().map(|ended| ended.outcome) {
        None => (false, Reason::Migrating),
        Some(Outcome::Completed) => (true, Reason::AsDesired),
        Some(Outcome::RolledBack) => (false, Reason::RolledBack),
        Some(Outcome::Abandoned) => (false, Reason::Aborted),
    };
    Some(finding(Kind::Migrated, Some(status), reason, why.unwrap_or_default()))
}

/// Whether an event is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// A change worth an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Good news or not.
    pub kind: EventKind,
    /// One stable word.
    pub reason: String,
    /// What happened, at most 1,024 bytes.
    pub message: String,
}

/// The events between two statuses, each change once: a new phase says what the conditions that follow from it say too.
#[must_use]
pub fn transitions(before: Option<&SessionBackendStatus>, now: &SessionBackendStatus) -> Vec<Transition> {
    let mut events = Vec::new();
    let new = now.phase.filter(|new| before.and_then(|before| before.phase) != Some(*new));
    if let Some(new) = new {
        events.push(Transition {
            kind: if needs_a_person(new) { EventKind::Warning } else { EventKind::Normal },
            reason: new.to_string(),
            message: presentable(&said(&now.summary.store, &now.summary.message), EVENT),
        });
    }
    let known = before.map(|before| before.notes.as_slice()).unwrap_or_default();
    events.extend(now.notes.iter().filter(|note| !known.contains(note)).map(|note| Transition {
        kind: EventKind::Normal,
        reason: "Note".to_owned(),
        message: presentable(note, EVENT),
    }));
    for condition in &now.conditions {
        let told = match condition.type_.parse::<Kind>() {
            Ok(Kind::Reconciling | Kind::ServicesDeployed) | Err(_) => true,
            Ok(Kind::Ready | Kind::Stalled) => new.is_some(),
            Ok(Kind::Accepted | Kind::StoreAvailable | Kind::Validated | Kind::Migrated) => false,
        };
        let former = before.and_then(|before| before.conditions.iter().find(|former| former.type_ == condition.type_));
        let flipped = former.map_or(is_bad(condition), |former| former.status != condition.status);
        if flipped && !told {
            events.push(Transition {
                kind: if is_bad(condition) { EventKind::Warning } else { EventKind::Normal },
                reason: if condition.status == "True" && condition.reason == Reason::AsDesired.as_str() {
                    condition.type_.clone()
                } else {
                    condition.reason.clone()
                },
                message: presentable(
                    &said(&format!("{}={}", condition.type_, condition.status), &condition.message),
                    EVENT,
                ),
            });
        }
    }
    events
}

/// Whether somebody should look at an object in this phase.
fn needs_a_person(phase: Phase) -> bool {
    match phase {
        Phase::Blocked | Phase::Held | Phase::Failed | Phase::RollingBack | Phase::RolledBack => true,
        Phase::Pending
        | Phase::Planning
        | Phase::Provisioning
        | Phase::Copying
        | Phase::AwaitingApproval
        | Phase::Switching
        | Phase::Draining
        | Phase::Checking
        | Phase::Baking
        | Phase::Retiring
        | Phase::Ready
        | Phase::Paused
        | Phase::Deleting => false,
    }
}

/// Whether a condition is one somebody should look at: only `Stalled`, a spec with mistakes, a check that failed and a
/// migration that went back.
fn is_bad(condition: &Condition) -> bool {
    match condition.type_.parse::<Kind>() {
        Ok(Kind::Stalled) => condition.status == "True",
        Ok(Kind::Accepted | Kind::Validated) => condition.status == "False",
        Ok(Kind::Migrated) => condition.status == "False" && condition.reason == Reason::RolledBack.as_str(),
        Ok(Kind::Ready | Kind::Reconciling | Kind::StoreAvailable | Kind::ServicesDeployed) | Err(_) => false,
    }
}

fn said(what: &str, why: &str) -> String {
    match (what.is_empty(), why.is_empty()) {
        (_, true) => what.to_owned(),
        (true, false) => why.to_owned(),
        (false, false) => format!("{what}: {why}"),
    }
}
