//! One call that changes one service, from the line written before it to its operation's end.
//! Success is *our* operation saying SUCCEEDED: App Runner rolls back silently and then says RUNNING.

use std::time::Duration;

use jiff::Timestamp;

use crate::identity::OperationId;
use crate::journal::{Direction, Entry, Migration, Move, ServiceMove};
use crate::observed::{Operation, OperationKind, OperationStatus, Service, ServiceStatus};
use crate::step::{Expect, ServicePatch, Step};

use super::admission::{Admission, Intention, admission};
use super::{Awaited, Draft, Late, Reason, after};

/// An operation is not always listed the moment the call returns, and a call may have been on its way for as long as
/// its own deadline ([`crate::aws`]: 30 s) before it was executed.
const LISTING: Duration = Duration::from_secs(90);
/// A call whose operation never shows up after this long needs a person.
const LISTING_LIMIT: Duration = Duration::from_mins(4);
/// Terraform's own limit for an update is 20 minutes; full failure and rollback was seen to take 40.
const OPERATION_LIMIT: Duration = Duration::from_hours(1);

/// How a move stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was not made: it may be made, after this operation.
    NotMade,
    /// Whether it was made will be seen soon.
    Unlisted,
    /// It was made; the journal has to learn its operation.
    Recognised(OperationId),
    /// It runs since then.
    Running(Option<Timestamp>),
    /// It succeeded then.
    Succeeded(Timestamp),
    /// It failed, or the platform rolled it back.
    Failed(OperationId),
    /// Nothing came of it, by what is listed and what the service shows: somebody else's call came between, or the
    /// operation that may have been ours failed.
    Overtaken,
    /// It cannot be told which operation is ours.
    Unclear(String),
}

/// How a move stands, from the operations after the one it was written behind and whether the service `carries` it.
pub(crate) fn standing(service: &Service, moved: &Move, carries: bool, now: Timestamp) -> Standing {
    if let Some(id) = &moved.operation {
        return match service.operations.iter().find(|operation| operation.id == *id) {
            Some(operation) => by_status(operation, moved.intended),
            None if now < after(moved.intended, LISTING_LIMIT) => Standing::Unlisted,
            None => as_shown(service, moved, carries, format!("operation {id} is not listed")),
        };
    }
    let newer: Vec<_> =
        service.operations.iter().take_while(|operation| Some(&operation.id) != moved.after.as_ref()).collect();
    let updates: Vec<_> = newer.iter().filter(|operation| operation.kind == OperationKind::Update).collect();
    match updates.as_slice() {
        [] if now < after(moved.intended, LISTING) => Standing::Unlisted,
        [] if carries && now < after(moved.intended, LISTING_LIMIT) => Standing::Unlisted,
        [] if carries => {
            let why = "the service shows the change and no operation is listed for it";
            as_shown(service, moved, carries, why.to_owned())
        }
        [] if service.status == ServiceStatus::OperationInProgress => Standing::Unlisted,
        [] if newer.is_empty() => Standing::NotMade,
        [] => Standing::Overtaken,
        [only] if carries => Standing::Recognised(only.id.clone()),
        // A failed one leaves no trace of whose it was: the call is made again, and then it is known.
        [only] if only.status.has_ended() => Standing::Overtaken,
        [_] => Standing::Unlisted,
        [newest, ..] if !carries && newest.status.has_ended() => Standing::Overtaken,
        _ => {
            let why = format!("{} updates followed the last one known, any could be ours", updates.len());
            as_shown(service, moved, carries, why)
        }
    }
}

/// Where the operations do not tell, a person's `retry` lets what the service shows decide.
fn as_shown(service: &Service, moved: &Move, carries: bool, why: String) -> Standing {
    let is_quiet = service.status != ServiceStatus::OperationInProgress
        && service.operations.iter().all(|operation| operation.status.has_ended());
    match moved.retried.filter(|_| is_quiet) {
        Some(retried) if carries => Standing::Succeeded(retried),
        Some(_) => Standing::Overtaken,
        None => Standing::Unclear(why),
    }
}

/// Somebody else's update that was executed between our last look and our call: ours took back what it changed.
fn slipped<'a>(service: &'a Service, moved: &Move) -> Option<&'a Operation> {
    let ours = service.operations.iter().position(|operation| Some(&operation.id) == moved.operation.as_ref())?;
    let is_listed = |id: &OperationId| service.operations.iter().any(|operation| operation.id == *id);
    if !moved.after.as_ref().is_none_or(is_listed) {
        return None;
    }
    let between = service.operations.iter().skip(ours + 1);
    let mut between = between.take_while(|operation| Some(&operation.id) != moved.after.as_ref());
    let is_update =
        |operation: &&Operation| operation.kind == OperationKind::Update && operation.status != OperationStatus::Failed;
    between.find(is_update).filter(|_| moved.retried.is_none())
}

fn by_status(operation: &Operation, intended: Timestamp) -> Standing {
    match operation.status {
        OperationStatus::Running | OperationStatus::RollingBack => Standing::Running(operation.started),
        OperationStatus::Succeeded => Standing::Succeeded(operation.ended.unwrap_or(intended)),
        OperationStatus::Failed => Standing::Failed(operation.id.clone()),
    }
}

/// What the caller learns of a move it drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Driven {
    /// It succeeded then.
    Done(Timestamp),
    /// The draft says what happens next.
    Busy,
    /// It failed; why.
    Failed(Reason, String),
}

/// One move to drive.
pub(crate) struct Drive<'a> {
    pub(crate) migration: &'a Migration,
    pub(crate) moved: &'a ServiceMove,
    pub(crate) service: &'a Service,
    pub(crate) direction: Direction,
    pub(crate) intention: Intention,
    /// Whether the live configuration is what the patch would make it.
    pub(crate) carries: bool,
}

impl Draft<'_> {
    /// Drives one move; `patch` makes the patch once the line before it has been read back.
    pub(crate) fn drive(&mut self, drive: &Drive<'_>, patch: impl FnOnce(Expect) -> ServicePatch) -> Driven {
        let (name, now) = (&drive.moved.service, self.inputs.now);
        let newest = drive.service.operations.first().map(|operation| operation.id.clone());
        let Some(moved) = drive.moved.moved(drive.direction) else {
            if let Some(why) = &drive.moved.refused {
                return Driven::Failed(Reason::Rejected, format!("{name}: {why}"));
            }
            if self.admitted(name, drive.service, drive.intention) {
                self.journal(Entry::Moving(drive.direction, name.clone(), newest));
            }
            return Driven::Busy;
        };
        let announced = moved.operation.is_none() && self.inputs.announced == Some(self.inputs.journal.sequence);
        let standing = match announced {
            // It was not called yet. Whoever came in the meantime is looked at first.
            true if newest != moved.after => {
                self.journal(Entry::NotMoved(drive.direction, name.clone(), None));
                return Driven::Busy;
            }
            true => Standing::NotMade,
            false => standing(drive.service, moved, drive.carries, now),
        };
        if let Some(theirs) = slipped(drive.service, moved) {
            self.journal(Entry::Hold {
                reason: Reason::Contested.as_str().to_owned(),
                message: format!(
                    "operation {} on {name}, which is not ours, was executed between our last look and our call, and our call (operation {}) sent the configuration as it was before: what {} had changed is undone; look at what it was to set, and set it again after the migration",
                    theirs.id,
                    shown(moved.operation.as_ref()),
                    theirs.id
                ),
            });
            return Driven::Busy;
        }
        match standing {
            Standing::NotMade => {
                if self.admitted(name, drive.service, drive.intention) {
                    let expect = Expect {
                        foreign: drive.service.foreign.clone(),
                        newest_operation: newest,
                        journal: self.inputs.journal.sequence,
                    };
                    self.step(Step::PatchService(patch(expect)));
                }
                Driven::Busy
            }
            Standing::Overtaken => {
                self.journal(Entry::Dropped(drive.direction, name.clone()));
                Driven::Busy
            }
            Standing::Recognised(id) => {
                self.journal(Entry::Moved(drive.direction, name.clone(), id));
                Driven::Busy
            }
            Standing::Unlisted | Standing::Running(_) | Standing::Unclear(_) => {
                self.await_move(drive);
                Driven::Busy
            }
            Standing::Succeeded(ended) => Driven::Done(ended),
            Standing::Failed(id) => {
                let why = format!(
                    "App Runner's operation {id} on {name} failed and the platform went back to the former configuration"
                );
                match drive.direction {
                    Direction::Forward | Direction::Egress => Driven::Failed(Reason::DeploymentFailed, why),
                    // There is no way back from these: a person mends the cause and says `retry`.
                    Direction::Back | Direction::Restore => {
                        self.journal(Entry::NotMoved(drive.direction, name.clone(), Some(why)));
                        Driven::Busy
                    }
                }
            }
        }
    }

    /// Says what is awaited of a call that was made, or may have been.
    pub(crate) fn await_move(&mut self, drive: &Drive<'_>) {
        let (name, now) = (&drive.moved.service, self.inputs.now);
        let Some(moved) = drive.moved.moved(drive.direction) else { return };
        if drive.direction != Direction::Restore {
            self.kept_in_step(drive.migration);
        }
        match standing(drive.service, moved, drive.carries, now) {
            Standing::Unlisted => {
                let running = drive.service.operations.first().filter(|operation| !operation.status.has_ended());
                match running.filter(|_| now >= after(moved.intended, LISTING)) {
                    Some(running) => self.wait_until(
                        Awaited::ForeignOperation(name.clone()),
                        running.started.unwrap_or(moved.intended),
                        OPERATION_LIMIT,
                        format!("{name}: operation {} is under way; whether it is ours shows when it ends", running.id),
                        Late { reason: Reason::ServiceStuck, subject: name, remedy: Reason::ServiceStuck.remedy() },
                    ),
                    None => self.await_listing(drive.direction, name, moved.intended),
                }
            }
            Standing::Running(started) => self.wait_until(
                Awaited::Operation(drive.direction, name.clone()),
                started.unwrap_or(moved.intended),
                OPERATION_LIMIT,
                format!("{name}: App Runner is deploying (operation {})", shown(moved.operation.as_ref())),
                Late { reason: Reason::ServiceStuck, subject: name, remedy: Reason::ServiceStuck.remedy() },
            ),
            Standing::Unclear(why) => {
                self.block(Reason::Unclear, format!("service {name}"), why, Reason::Unclear.remedy());
            }
            Standing::NotMade
            | Standing::Recognised(_)
            | Standing::Succeeded(_)
            | Standing::Failed(_)
            | Standing::Overtaken => {}
        }
    }

    /// Whether the service's status allows the call; says what is awaited or wrong if not.
    pub(crate) fn admitted(&mut self, name: &str, service: &Service, intention: Intention) -> bool {
        let subject = format!("service {name}");
        match admission(&service.status, intention) {
            Admission::Go => true,
            Admission::Wait => {
                self.await_foreign(name, service);
                false
            }
            Admission::Paused => {
                let waits = match intention {
                    Intention::ChangeBack => "; the way back waits for it, and both stores are kept in step",
                    Intention::Begin | Intention::Change | Intention::Look => "",
                };
                let message = format!("it is paused, and a paused service cannot be updated{waits}");
                self.block(Reason::ServicePaused, subject, message, "resume it");
                false
            }
            Admission::Failed => {
                let status =
                    if service.status == ServiceStatus::CreateFailed { "CREATE_FAILED" } else { "DELETE_FAILED" };
                let message = format!("its status is {status}");
                self.block(Reason::ServiceUnusable, subject, message, Reason::ServiceUnusable.remedy());
                false
            }
            Admission::Gone => {
                self.block(Reason::ServiceNotFound, subject, "it was deleted", Reason::ServiceNotFound.remedy());
                false
            }
        }
    }

    /// Waits until the operation of a call of ours made after `since` is listed.
    pub(crate) fn await_listing(&mut self, direction: Direction, name: &str, since: Timestamp) {
        self.wait_until(
            Awaited::Listing(direction, name.to_owned()),
            since,
            OPERATION_LIMIT,
            format!("{name}: waiting for App Runner to list the operation of our call"),
            Late { reason: Reason::ServiceStuck, subject: name, remedy: Reason::ServiceStuck.remedy() },
        );
    }

    /// Waits for the end of an operation that is not ours.
    pub(crate) fn await_foreign(&mut self, name: &str, service: &Service) {
        let running = service.operations.first().filter(|operation| !operation.status.has_ended());
        let since = running.and_then(|operation| operation.started).unwrap_or(self.inputs.now);
        let what = match &service.status {
            ServiceStatus::Other(status) => {
                format!("{name} is in status {status}, which this version does not know")
            }
            ServiceStatus::Running
            | ServiceStatus::OperationInProgress
            | ServiceStatus::Paused
            | ServiceStatus::CreateFailed
            | ServiceStatus::DeleteFailed
            | ServiceStatus::Deleted => format!("{name}: an operation that is not ours is under way"),
        };
        self.wait_until(
            Awaited::ForeignOperation(name.to_owned()),
            since,
            OPERATION_LIMIT,
            what,
            Late {
                reason: Reason::ServiceStuck,
                subject: &format!("service {name}"),
                remedy: Reason::ServiceStuck.remedy(),
            },
        );
    }
}

/// Whether a call to any service of the migration stands or is announced.
pub(crate) fn any_moved(migration: &Migration) -> bool {
    migration.services.iter().any(|moved| moved.forward.is_some() || moved.egress_moved.is_some())
}

fn shown(operation: Option<&OperationId>) -> &str {
    operation.map_or("not known yet", |id| id.0.as_str())
}
