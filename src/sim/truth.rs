//! What is really so in the simulated world, whatever is seen of it: what it refuses, and what happens by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{Faults, OF_ANOTHER_HAND, OtherHand};
use crate::checks::{CheckResult, Severity, Verdict};
use crate::desired::Desired;
use crate::effect::Picture;
use crate::error::{Class, CloudError};
use crate::identity::{OperationId, StoreId};
use crate::journal::{Direction, Journal, Migration};
use crate::observed::{
    CopyState, Delivery, Operation, OperationKind, OperationStatus, Reach, Reading, Service, ServiceStatus,
    StoreStatus, Variable,
};
use crate::plan::after;
use crate::step::{CopyMode, ServicePatch, Side, Step};

const UPDATE: Duration = Duration::from_secs(150);
const CREATE: Duration = Duration::from_mins(7);
const COPY: Duration = Duration::from_secs(4);
const QUIET: Duration = Duration::from_secs(2);
const CHECKS: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Truth {
    pub(super) picture: Picture,
    pub(super) before_last_call: Picture,
    pub(super) former: BTreeMap<String, (Direction, Service)>,
    pub(super) failed: BTreeMap<String, usize>,
    pub(super) now: Timestamp,
    pub(super) calls: usize,
    pub(super) observations: usize,
    pub(super) seen_sequence: u64,
    pub(super) copy_started: Option<Timestamp>,
    pub(super) creations: BTreeMap<String, usize>,
    pub(super) updates: BTreeMap<String, usize>,
    pub(super) subnet_groups: BTreeSet<String>,
    /// When each service last had instances that use a store.
    pub(super) used: BTreeMap<(String, StoreId), Timestamp>,
    pub(super) longest_request: Duration,
    pub(super) broken: Vec<String>,
}

/// What a step makes, if it makes something that could be made twice.
pub(super) fn creation(step: &Step) -> Option<String> {
    match step {
        Step::CreateUpstashDatabase { name, .. } => Some(format!("database {name}")),
        Step::CreateReplicationGroup { id, .. } => Some(format!("replication group {id}")),
        Step::CreateSubnetGroup { name, .. } => Some(format!("subnet group {name}")),
        Step::CreateConnector { name, .. } => Some(format!("connector {name}")),
        Step::CreateEpochSecret { name, .. } => Some(format!("secret {name}")),
        Step::AuthorizeIngress { group, source, port } => Some(format!("rule {group} {source} {port}")),
        Step::Journal { .. }
        | Step::Claim { .. }
        | Step::Release { .. }
        | Step::DeleteUpstashDatabase { .. }
        | Step::DeleteSubnetGroup { .. }
        | Step::DeleteReplicationGroup { .. }
        | Step::RevokeIngress { .. }
        | Step::DeleteConnector { .. }
        | Step::DeleteSecret { .. }
        | Step::PatchService(_)
        | Step::Copy { .. }
        | Step::CountQuiet { .. }
        | Step::RunChecks { .. } => None,
    }
}

impl Truth {
    /// What the real world refuses.
    pub(super) fn refuse(&self, step: &Step) -> Result<(), CloudError> {
        let conflict = |what: &str| Err(error(Class::Conflict, "call", what));
        match step {
            Step::Journal { expect, .. } if *expect != self.picture.journal.sequence => {
                conflict("the journal has moved on")
            }
            Step::Claim { service, expect, .. } => {
                let sequence =
                    self.picture.observed.claims.get(service).and_then(Reading::present).map(|claims| claims.sequence);
                if sequence == *expect { Ok(()) } else { conflict("the claims have moved on") }
            }
            Step::PatchService(patch) => {
                let Some(service) = self.picture.observed.services.get(&patch.service).and_then(Reading::present)
                else {
                    return conflict("the service is gone");
                };
                let newest = service.operations.first().map(|operation| operation.id.clone());
                if service.status != ServiceStatus::Running {
                    return conflict("the service is busy");
                }
                if newest != patch.expect.newest_operation {
                    return conflict("another operation came first");
                }
                if service.foreign != patch.expect.foreign {
                    return conflict("what is foreign has moved");
                }
                if self.picture.journal.sequence != patch.expect.journal {
                    return conflict("the journal has moved on");
                }
                Ok(())
            }
            Step::CreateEpochSecret { name, .. }
                if self.picture.observed.secrets.get(name).is_some_and(|secret| secret.present().is_some()) =>
            {
                Err(error(Class::Exists, "CreateSecret", "it exists already"))
            }
            Step::CreateReplicationGroup { id, .. }
                if self.picture.observed.target.present().is_some_and(|store| store.name == *id) =>
            {
                Err(error(Class::Exists, "CreateReplicationGroup", "it exists already"))
            }
            Step::CreateUpstashDatabase { .. } if self.picture.observed.target.present().is_some() => {
                Err(error(Class::Exists, "create", "found by name"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn remember(&mut self, patch: &ServicePatch) {
        *self.updates.entry(patch.service.clone()).or_default() += 1;
        if let Some(service) = self.picture.observed.services.get(&patch.service).and_then(Reading::present) {
            self.former.insert(patch.service.clone(), (patch.direction, service.clone()));
        }
    }

    pub(super) fn other_hand(&mut self, service: &str, hand: OtherHand, number: usize) {
        let now = self.now;
        let Some(service) = self.picture.observed.services.get_mut(service).and_then(Reading::present_mut) else {
            return;
        };
        // App Runner refuses an update while another operation runs.
        if service.status != ServiceStatus::Running {
            return;
        }
        let (status, ended) = match hand {
            OtherHand::Updated => {
                let digest = crate::identity::Fingerprint(format!("by-another-hand-{number}"));
                let variable = Variable {
                    delivery: Delivery::Plain,
                    digest: digest.clone(),
                    address: None,
                    password: None,
                    names: Vec::new(),
                    reach: Reach::None,
                };
                service.variables.insert(OF_ANOTHER_HAND.to_owned(), variable);
                service.foreign = digest;
                (OperationStatus::Succeeded, Some(now))
            }
            // Ours, right after it, sends the configuration as it was before.
            OtherHand::Slips => (OperationStatus::Succeeded, Some(now)),
            OtherHand::Fails => (OperationStatus::Failed, Some(now)),
            OtherHand::Deploys => {
                service.status = ServiceStatus::OperationInProgress;
                (OperationStatus::Running, None)
            }
        };
        let kind = match hand {
            OtherHand::Updated | OtherHand::Slips | OtherHand::Fails => OperationKind::Update,
            OtherHand::Deploys => OperationKind::Deployment,
        };
        let id = OperationId(format!("op-another-hand-{number}"));
        service.operations.insert(0, Operation { id, kind, status, started: Some(now), ended });
    }

    /// Which stores have users now: while a service is being updated its old instances serve beside the new ones.
    pub(super) fn mark(&mut self) {
        let Some(migration) = &self.picture.journal.migration else { return };
        let records: Vec<_> = migration.sides().collect();
        for (name, service) in &self.picture.observed.services {
            let Some(service) = service.present() else { continue };
            let running = service.operations.first().filter(|operation| !operation.status.has_ended());
            // A deployment of another hand has the same configuration before and after.
            let is_updated = running.is_some_and(|operation| operation.kind == OperationKind::Update);
            let former = self.former.get(name).map(|(_, former)| former).filter(|_| is_updated);
            for serving in former.into_iter().chain([service]) {
                let mut told = serving.variables.values().filter_map(|variable| variable.address.as_ref());
                let told = told.find_map(|told| records.iter().find(|record| record.address.as_ref() == Some(told)));
                if let Some(store) = told {
                    self.used.insert((name.clone(), store.id.clone()), self.now);
                }
            }
        }
    }

    /// The copier ends: nobody may have written to the store that is left within the longest request.
    pub(super) fn parts(&mut self, mode: CopyMode) -> Result<(), CloudError> {
        let Some(migration) = &self.picture.journal.migration else { return Ok(()) };
        let from = migration.from.as_ref().map(|from| &from.id);
        let (left, gone) = match mode {
            CopyMode::Follow | CopyMode::BothWays => return Ok(()),
            CopyMode::Withdraw => (Some(&migration.to.id), None),
            CopyMode::Clear { gone } => {
                let is_back = migration.rollback.is_some() && migration.baked.is_none();
                (if is_back { Some(&migration.to.id) } else { from }, gone)
            }
        };
        for (side, store) in [(Side::From, from), (Side::To, Some(&migration.to.id))] {
            if gone != Some(side) && store.is_some_and(|store| self.is_gone(store)) {
                return Err(error(Class::Transient, "clear the copier's traces", "the store does not answer"));
            }
        }
        let since = self.now.checked_sub(self.longest_request).unwrap_or(Timestamp::MIN);
        for ((service, store), last) in self.used.iter().filter(|((_, store), _)| Some(store) == left) {
            if gone.is_none() && *last > since {
                self.broken.push(format!("the copier ended at {}, {service} used {store} at {last}", self.now));
            }
        }
        Ok(())
    }

    pub(super) fn is_gone(&self, store: &StoreId) -> bool {
        let found = [&self.picture.observed.target, &self.picture.observed.source].into_iter();
        let is_known = found.filter_map(Reading::present).any(|found| found.id == *store);
        let is_listed = self.picture.observed.catalog.iter().any(|entry| entry.id == *store);
        !is_known && !is_listed && !matches!(store, StoreId::External(..))
    }

    /// Whether what `step` makes is there already: the vendor, or the client that looks first, makes no second one.
    pub(super) fn is_there(&self, step: &Step) -> bool {
        let observed = &self.picture.observed;
        match step {
            Step::CreateConnector { name, .. } => observed
                .connectors
                .values()
                .filter_map(Reading::present)
                .any(|connector| connector.ours == Some(true) && connector.name == *name),
            Step::AuthorizeIngress { group, source, port } => observed
                .rules
                .values()
                .filter_map(Reading::present)
                .any(|rule| rule.group == *group && rule.admits(source, *port)),
            Step::CreateSubnetGroup { name, .. } => self.subnet_groups.contains(name),
            _ => false,
        }
    }

    /// What is due by now happens.
    pub(super) fn happen(&mut self, faults: &Faults) {
        let now = self.now;
        let observed = &mut self.picture.observed;
        for (name, service) in &mut observed.services {
            let Some(service) = service.present_mut() else { continue };
            let Some(operation) = service.operations.first_mut() else { continue };
            let due = operation.started.is_some_and(|started| now >= after(started, UPDATE));
            if operation.status != OperationStatus::Running || !due {
                continue;
            }
            operation.ended = Some(now);
            operation.status = OperationStatus::Succeeded;
            service.status = ServiceStatus::Running;
            let Some((direction, former)) = self.former.get(name) else { continue };
            let is_told_to_fail = faults.failing_updates.iter().any(|(service, which, times)| {
                service == name && which == direction && self.failed.get(name).is_none_or(|failed| failed < times)
            });
            if is_told_to_fail && !operation.id.0.contains("another-hand") {
                *self.failed.entry(name.clone()).or_default() += 1;
                operation.status = OperationStatus::Failed;
                let operations = service.operations.clone();
                *service = Service { operations, ..former.clone() };
                service.status = ServiceStatus::Running;
            }
        }
        if let Some(store) = observed.target.present_mut()
            && store.status == StoreStatus::Creating
        {
            let created = self.picture.journal.made.values().map(|made| made.intended).max();
            if created.is_some_and(|created| now >= after(created, CREATE)) {
                let mut whole = Picture { observed: observed.clone(), journal: Journal::default() };
                whole.elapse(&Desired::absent(crate::desired::DeletionPolicy::Retain), now);
                observed.target = whole.observed.target;
                observed.catalog = whole.observed.catalog;
            }
        }
        let migration = self.picture.journal.open_migration();
        let ends = migration.into_iter().flat_map(Migration::sides);
        let cut_off = ends.clone().any(|record| self.is_gone(&record.id));
        let observed = &mut self.picture.observed;
        if cut_off && let Some(copy) = observed.copy.present_mut() {
            let (reason, message) = ("Unreachable".to_owned(), "a store does not answer".to_owned());
            copy.state = CopyState::Failed { reason, message, temporary: true };
            copy.heartbeat = now;
        } else if let Some(copy) = observed.copy.present_mut().filter(|copy| copy.here) {
            copy.heartbeat = now;
            let quiet_due = copy.quiet_since.is_none_or(|since| now >= after(since, QUIET));
            let copied = self.copy_started.is_some_and(|started| now >= after(started, COPY));
            if copied && (quiet_due || matches!(copy.state, CopyState::Starting)) {
                copy.elapse(now);
            }
        }
        for (stage, run) in &mut observed.checks {
            if run.finished.is_none() && now >= after(run.started, CHECKS) {
                run.finished = Some(now);
                let verdict = if faults.failing_stages.contains(stage) { Verdict::Fail } else { Verdict::Pass };
                run.results = vec![CheckResult {
                    name: "redis".to_owned(),
                    service: None,
                    severity: Severity::Gate,
                    required: false,
                    verdict,
                    message: "simulated".to_owned(),
                }];
            }
        }
    }
}

pub(super) fn error(class: Class, operation: &str, message: &str) -> CloudError {
    CloudError::new(class, "simulation", operation, "", message)
}
